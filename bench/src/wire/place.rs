//! Where ends run: on which core, in which thread, in which process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Resource, getpid, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};

/// The cores of both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Both ends share one: no wake-up crosses cores, so what is left is the protocol's own work.
    OneCore,
    /// Each end has its own.
    TwoCores,
}

impl Place {
    /// Keeps this thread, and the threads and processes it starts, on the client's core.
    pub(crate) fn pin_client(self) -> Result<()> {
        pin(0)
    }

    /// Keeps this thread, and the threads and processes it starts, on the server's core.
    pub(crate) fn pin_server(self) -> Result<()> {
        pin(match self {
            Self::OneCore => 0,
            Self::TwoCores => 1,
        })
    }
}

/// Keeps this thread on the `nth` core that the process may use, counted round.
pub(crate) fn pin(nth: usize) -> Result<()> {
    let cores = CORES.get_or_init(|| {
        // Those of the main thread, before it is pinned itself.
        sched_getaffinity(Some(getpid())).map_or_else(
            |_| Vec::new(),
            |set| {
                let all = 0..CpuSet::MAX_CPU;
                all.filter(|&core| set.is_set(core)).collect()
            },
        )
    });
    let core = cores
        .get(nth % cores.len().max(1))
        .context("cannot find out which cores the process may use")?;
    let mut only = CpuSet::new();
    only.set(*core);
    sched_setaffinity(None, &only).with_context(|| format!("cannot pin a thread to core {core}"))
}

static CORES: OnceLock<Vec<usize>> = OnceLock::new();

/// The runtime of one end: everything on the thread that runs it.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// A thread whose result is fetched with [`join`].
pub(crate) fn thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> JoinHandle<Result<T>> {
    std::thread::spawn(work)
}

/// What the thread came to.
pub(crate) fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

/// A server on a thread and runtime of its own; it ends with the process.
pub(crate) fn serve<Serving: Future<Output = Result<()>>>(
    place: Option<Place>,
    work: impl FnOnce(tokio::net::TcpListener) -> Serving + Send + 'static,
) -> Result<SocketAddr> {
    let listener = listen()?;
    let at = listener.local_addr()?;
    std::thread::spawn(move || {
        let served = place
            .map_or(Ok(()), Place::pin_server)
            .and_then(|()| serve_on(listener, work));
        if let Err(error) = served {
            crate::report::note(&format!("a server ended: {error:#}"));
        }
    });
    Ok(at)
}

/// Serves on this thread.
pub(crate) fn serve_on<Serving: Future<Output = Result<()>>>(
    listener: TcpListener,
    work: impl FnOnce(tokio::net::TcpListener) -> Serving,
) -> Result<()> {
    listener.set_nonblocking(true)?;
    runtime()?.block_on(async { work(tokio::net::TcpListener::from_std(listener)?).await })
}

/// A listener on a free port of the loopback interface.
pub(crate) fn listen() -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
}

/// Both ends of a connection that sends at once.
pub(crate) fn connected() -> Result<(TcpStream, TcpStream)> {
    let listener = listen()?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

/// A socket of the standard library for the runtime of this thread.
pub(crate) fn into_tokio(socket: TcpStream) -> Result<tokio::net::TcpStream> {
    socket.set_nonblocking(true)?;
    Ok(tokio::net::TcpStream::from_std(socket)?)
}

/// Lets the process open as many descriptors as it may.
pub(crate) fn raise_descriptors() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open descriptors")
}
