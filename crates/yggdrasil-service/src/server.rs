//! Starting and stopping.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use crate::acl::{Acl, UsersError};
use crate::cluster::{Cluster, ClusterConfig, Peers};
use crate::command::Lookup;
use crate::config::{Placement, ServerConfig};
use crate::feed::Post;
use crate::persist::PersistError;
use crate::shared::Shared;
use crate::tls::{Tls, TlsError};
use crate::topology;
use crate::worker::{Mailbox, Worker};

/// Clients that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Longest value of a server that keeps keys: a record has to have room for it and its key.
const PERSISTED_BYTES_MAX: usize =
    journal::RECORD_BYTES_MAX - yggdrasil::KEY_BYTES_MAX - yggdrasil::RECORD_OVERHEAD_BYTES;
const KEEPALIVE: Duration = Duration::from_secs(300);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address or path.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// Everyone who reaches the address could read and change everything.
    #[error(
        "{address} can be reached from other machines and there is no password; set one, listen on \
         127.0.0.1, or allow it with `unprotected`"
    )]
    Unprotected {
        /// The address.
        address: SocketAddr,
    },
    /// There is nowhere to listen.
    #[error("there is no address and no Unix socket to listen on; name one")]
    Nowhere,
    /// The number of threads is out of range.
    #[error("threads is {0}; set it to 1 to 1024")]
    Threads(usize),
    /// Keys cannot be kept or had back.
    #[error("keys cannot be kept: {0}")]
    Persist(#[from] PersistError),
    /// Users cannot be read.
    #[error("users: {0}")]
    Users(#[from] UsersError),
    /// There is no TLS with the files that are named.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// An endpoint of Valkyrie cannot be listened on.
    #[cfg(feature = "valkyrie")]
    #[error("{0}")]
    Valkyrie(#[from] valkyrie::ListenError),
    /// There are too many policies, or one with a pattern that no key has.
    #[error("a policy cannot be set: {0}")]
    Policy(#[from] yggdrasil::PolicyError),
    /// Values may be longer than a journal takes.
    #[error("values may be {0} bytes long; where keys are kept the most is {max}", max = PERSISTED_BYTES_MAX)]
    ValuesTooLong(usize),
    /// The membership of the cluster cannot be kept or had back.
    #[error("the cluster: {0}")]
    Cluster(String),
    /// The system has no descriptors or threads left.
    #[error("the system gives no descriptor or thread: {0}")]
    System(io::Error),
}

impl StartError {
    pub(crate) fn kernel(error: Errno) -> Self {
        Self::System(error.into())
    }

    fn listen(address: &impl ToString, error: io::Error) -> Self {
        Self::Listen {
            address: address.to_string(),
            error,
        }
    }
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Everyone, so only from this machine.
    Open,
    Guarded,
}

/// Where clients come in.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Both ends of a client's socket.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) peer: String,
    pub(crate) local: String,
    /// Which address is limited, where there is one. An address of IPv4 is one of IPv4, however the
    /// listener writes it.
    pub(crate) source: Option<IpAddr>,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Listener {
    /// Sets up a client's socket and says where it comes from.
    pub(crate) fn prepare(&self, socket: &SockRef<'_>) -> Ends {
        match self {
            Self::Tcp(_) | Self::Tls(_) => {
                // Without them the client is served all the same, only worse.
                let _ = socket.set_tcp_nodelay(true);
                let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
                let known = |address: io::Result<socket2::SockAddr>| {
                    address.ok().and_then(|address| address.as_socket())
                };
                let show = |address: Option<SocketAddr>| {
                    address.map_or_else(|| "?:0".to_owned(), |address| address.to_string())
                };
                let peer = known(socket.peer_addr());
                Ends {
                    peer: show(peer),
                    local: show(known(socket.local_addr())),
                    source: peer.map(|peer| peer.ip().to_canonical()),
                }
            }
            Self::Unix(_, path) => {
                let path = format!("{}:0", path.display());
                Ends {
                    peer: path.clone(),
                    local: path,
                    source: None,
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Somebody may have cleaned up before.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A server that runs until it is [stopped](Self::stop) or dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    mailboxes: Arc<[Mailbox]>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    /// What speaks to the other nodes of a cluster.
    peers: Option<Peers>,
    #[cfg(feature = "valkyrie")]
    calls: Vec<crate::calls::Thread>,
}

impl Server {
    /// Starts serving.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(mut config: ServerConfig) -> Result<Self, StartError> {
        ensure_possible(&config)?;
        let lookup = Lookup::default();
        let acl = Acl::open(&config, &lookup)?;
        let entry = match acl.default_user().is_open() && !config.unprotected {
            true => Entry::Open,
            false => Entry::Guarded,
        };
        let mut listeners = Vec::new();
        let addresses = listen(&config.listen, entry, Listener::Tcp, &mut listeners)?;
        let (mut tls, mut tls_addresses) = (None, Vec::new());
        if let Some(files) = &config.tls {
            // Whoever has to have a certificate needs no password.
            let entry = match files.clients {
                Some(_) => Entry::Guarded,
                None => entry,
            };
            tls = Some(Tls::new(files.clone())?);
            tls_addresses = listen(&files.listen, entry, Listener::Tls, &mut listeners)?;
        }
        if let Some(path) = &config.unix {
            let listener =
                unix(path).map_err(|error| StartError::listen(&path.display(), error))?;
            listeners.push(Listener::Unix(listener, path.clone()));
        }
        #[cfg(feature = "valkyrie")]
        let is_nowhere = listeners.is_empty() && config.valkyrie.is_empty();
        #[cfg(not(feature = "valkyrie"))]
        let is_nowhere = listeners.is_empty();
        if is_nowhere {
            return Err(StartError::Nowhere);
        }
        config.listen.clone_from(&addresses);
        let threads = config.threads;
        // A thread is behind for many clients before each of them is.
        let room = config.pushed_bytes_max.saturating_mul(4);
        let posts: Result<Vec<_>, _> = (0..threads).map(|_| Post::new(room)).collect();
        let cluster = config.cluster.clone().map(open_cluster).transpose()?;
        let shared = Shared::new(
            config,
            (lookup, acl, tls),
            posts.map_err(StartError::kernel)?.into(),
            cluster,
        )?;
        let mailboxes: Arc<[Mailbox]> = (0..threads).map(|_| Mailbox::default()).collect();
        let mut server = Self {
            shared,
            mailboxes,
            threads: Vec::with_capacity(threads),
            addresses,
            tls_addresses,
            peers: None,
            #[cfg(feature = "valkyrie")]
            calls: Vec::new(),
        };
        #[cfg(feature = "valkyrie")]
        {
            server.calls = crate::calls::start(&server.shared)?;
        }
        let places = server.places(threads)?;
        for number in 0..threads {
            let listeners = std::mem::take(&mut listeners);
            server.spawn(number, listeners, places.get(number).copied())?;
        }
        if server.shared.cluster.is_some() {
            server.peers = Some(Peers::start(&server.shared).map_err(StartError::System)?);
        }
        Ok(server)
    }

    /// The processors of threads, where each has one.
    fn places(&self, threads: usize) -> Result<Vec<usize>, StartError> {
        match self.shared.config.placement {
            Placement::Anywhere => Ok(Vec::new()),
            Placement::Pinned => {
                topology::places(&self.shared.topology, threads).map_err(StartError::System)
            }
        }
    }

    fn spawn(
        &mut self,
        number: usize,
        listeners: Vec<Listener>,
        place: Option<usize>,
    ) -> Result<(), StartError> {
        let (shared, mailboxes) = (Arc::clone(&self.shared), Arc::clone(&self.mailboxes));
        let worker = Worker::new(number, shared, mailboxes, listeners)?;
        let thread = thread::Builder::new()
            .name(format!("ygg-{number}"))
            .spawn(move || {
                if let Some(cpu) = place
                    && let Err(error) = topology::pin(cpu)
                {
                    tracing::warn!(%error, cpu, "a thread cannot be pinned and runs anywhere");
                }
                worker.run();
            })
            .map_err(StartError::System)?;
        self.threads.push(thread);
        Ok(())
    }

    /// The TCP addresses that are listened on, with the ports that port 0 became.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The same of those for clients with TLS.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Reads certificates and key again, for clients that come from here on; does nothing where there
    /// is no TLS.
    ///
    /// # Errors
    /// See [`TlsError`]; then those that were read before stay.
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        self.shared.tls.as_ref().map_or(Ok(()), Tls::reload)
    }

    /// The endpoints of Valkyrie that are listened on, with the ports that port 0 became.
    #[cfg(feature = "valkyrie")]
    pub fn endpoints(&self) -> impl Iterator<Item = &valkyrie::Endpoint> {
        self.calls.iter().map(crate::calls::Thread::endpoint)
    }

    /// Ends all connections and threads.
    pub fn stop(mut self) {
        self.end();
    }

    /// Waits until something else stops the process.
    pub fn wait(mut self) {
        for thread in std::mem::take(&mut self.threads) {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }

    fn end(&mut self) {
        self.shared.stops.store(true, Ordering::Release);
        drop(self.peers.take());
        for post in &*self.shared.posts {
            post.ring();
        }
        #[cfg(feature = "valkyrie")]
        self.calls.drain(..).for_each(crate::calls::Thread::stop);
        let threads = std::mem::take(&mut self.threads);
        if threads.is_empty() {
            return;
        }
        for thread in threads {
            let _ = thread.join();
        }
        self.shared.keep_buckets();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the settings fit together.
fn ensure_possible(config: &ServerConfig) -> Result<(), StartError> {
    if !(1..=1024).contains(&config.threads) {
        return Err(StartError::Threads(config.threads));
    }
    if config.persist.is_some() && config.value_bytes_max > PERSISTED_BYTES_MAX {
        return Err(StartError::ValuesTooLong(config.value_bytes_max));
    }
    Ok(())
}

fn open_cluster(config: ClusterConfig) -> Result<Cluster, StartError> {
    if config.timeout < Duration::from_millis(100) {
        return Err(StartError::Cluster(format!(
            "the node timeout is {:?}; set it to 100 ms or more",
            config.timeout
        )));
    }
    Cluster::open(config).map_err(|error| StartError::Cluster(error.to_string()))
}

/// Listens on addresses, those of this machine only where everyone may do everything; the same with the
/// ports that port 0 became.
fn listen(
    addresses: &[SocketAddr],
    entry: Entry,
    kind: fn(TcpListener) -> Listener,
    listeners: &mut Vec<Listener>,
) -> Result<Vec<SocketAddr>, StartError> {
    let mut found = Vec::new();
    for address in addresses {
        if entry == Entry::Open && !address.ip().is_loopback() {
            return Err(StartError::Unprotected { address: *address });
        }
        let failed = |error| StartError::listen(address, error);
        let listener = tcp(*address).map_err(failed)?;
        found.push(listener.local_addr().map_err(failed)?);
        listeners.push(kind(listener));
    }
    Ok(found)
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn unix(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        // Where nobody answers, the socket was left behind.
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse && UnixStream::connect(path).is_err() =>
        {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}
