//! Byte transports for Valkyrie behind one trait: mem, shared memory, Unix socket, TCP.
//!
//! A transport moves bytes and decides nothing about frames. Start with [`Endpoint`], the parsed
//! form of `valkyrie+unix:///run/ci.sock`, and the two functions [`connect`] and [`listen`], which
//! pick the transport by the endpoint's scheme. What they give, [`Connection`] and [`Listener`],
//! are closed enums: no call on the data path goes through a box or a virtual table.
//!
//! Bytes travel in the clear here, so these transports stay on the host: TCP refuses every
//! address outside loopback, see [`ConnectError::PlaintextRemote`].
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use valkyrie_transport::{Endpoint, connect, listen};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint: Endpoint = "valkyrie+mem://doc-example".parse()?;
//! let mut listener = listen(&endpoint).await?;
//! let mut client = connect(&endpoint).await?;
//! let mut server = listener.accept().await?;
//! client.write_all(b"hello").await?;
//! let mut got = [0; 5];
//! server.read_exact(&mut got).await?;
//! assert_eq!(&got, b"hello");
//! # Ok(()) }
//! ```

mod arrivals;
mod connection;
mod endpoint;
mod error;
mod limits;
mod listener;
mod low_water;
mod mem;
mod options;
mod proxy;
mod shm;
mod shm_stream;
mod tcp;
mod unix;

use std::future::Future;

pub use connection::{Connection, Credentials, PeerAddress};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{AcceptError, ConnectError, ListenError, RefusedError};
pub use limits::{
    ACCEPT_PAUSE, HANDSHAKE_PATIENCE, HANDSHAKES_MAX, MEM_BACKLOG_MAX, MEM_BUFFER_BYTES,
};
pub use listener::Listener;
pub use mem::Mem;
pub use options::{Keepalive, ListenOptions, SocketOptions};
pub use proxy::{ClientAddress, ProxyError, ProxyTrust};
pub use shm::Shm;
pub use tcp::Tcp;
pub use unix::Unix;
pub use valkyrie_shm::{HandshakeError, RingBytes, Violation};

/// Which transport carries a connection; the label `transport` of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// Two ends in one process.
    Mem,
    /// Shared memory between two processes of one host.
    Shm,
    /// A Unix stream socket.
    Unix,
    /// TCP with `TCP_NODELAY`.
    Tcp,
}

impl TransportKind {
    /// The name in endpoint schemes and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mem => "mem",
            Self::Shm => "shm",
            Self::Unix => "unix",
            Self::Tcp => "tcp",
        }
    }
}

/// What a transport can do, for selection and for policies above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Which transport this describes.
    pub kind: TransportKind,
    /// How far the bytes can travel.
    pub reach: Reach,
    /// What the transport itself proves about the other end.
    pub identity: Identity,
    /// Whether others on the path can read the bytes.
    pub privacy: Privacy,
    /// How a side that sleeps is found by bytes.
    pub waking: Waking,
    /// Bytes that one direction can hold while nobody reads; `None` where the system decides.
    pub buffer_bytes: Option<u32>,
}

/// How bytes find a side that sleeps, and what one that polls has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waking {
    /// Inside the process. Polling costs no system call.
    Task,
    /// The writer asks the kernel, only if the reader sleeps. Polling costs no system call.
    WhenAsleep,
    /// Every write asks the kernel. So does polling.
    Always,
}

/// How far the bytes of a transport can travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Inside one process.
    Process,
    /// Inside one host.
    Host,
    /// To other hosts.
    Network,
}

/// What a transport itself proves about the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Nothing.
    None,
    /// The user, group and process, told by the kernel.
    Credentials,
    /// The other end is this process.
    SameProcess,
}

/// Whether others on the path can read the bytes of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// Everyone on the path can.
    Plaintext,
    /// Nobody but the two ends and the kernel can.
    Local,
}

/// One way to move bytes.
pub trait Transport {
    /// What this transport can do.
    fn capabilities(&self) -> Capabilities;

    /// Opens a connection to `endpoint`.
    ///
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// See [`ConnectError`].
    fn connect(
        &self,
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> impl Future<Output = Result<Connection, ConnectError>>;

    /// Starts to listen on `endpoint`.
    ///
    /// # Errors
    /// See [`ListenError`].
    fn listen(
        &self,
        endpoint: &Endpoint,
        options: &ListenOptions,
    ) -> impl Future<Output = Result<Listener, ListenError>>;
}

/// Opens a connection over the transport that `endpoint` names.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(endpoint: &Endpoint) -> Result<Connection, ConnectError> {
    connect_with(endpoint, &SocketOptions::default()).await
}

/// As [`connect`], with settings of the socket.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect_with(
    endpoint: &Endpoint,
    options: &SocketOptions,
) -> Result<Connection, ConnectError> {
    match endpoint {
        Endpoint::Mem { .. } => Mem.connect(endpoint, options).await,
        Endpoint::Shm { .. } => Shm.connect(endpoint, options).await,
        Endpoint::Unix { .. } => Unix.connect(endpoint, options).await,
        Endpoint::Tcp { .. } => Tcp.connect(endpoint, options).await,
    }
}

/// Listens on the transport that `endpoint` names.
///
/// # Errors
/// See [`ListenError`].
pub async fn listen(endpoint: &Endpoint) -> Result<Listener, ListenError> {
    listen_with(endpoint, &ListenOptions::default()).await
}

/// As [`listen`], with settings of the listener and of its connections.
///
/// # Errors
/// See [`ListenError`].
pub async fn listen_with(
    endpoint: &Endpoint,
    options: &ListenOptions,
) -> Result<Listener, ListenError> {
    match endpoint {
        Endpoint::Mem { .. } => Mem.listen(endpoint, options).await,
        Endpoint::Shm { .. } => Shm.listen(endpoint, options).await,
        Endpoint::Unix { .. } => Unix.listen(endpoint, options).await,
        Endpoint::Tcp { .. } => Tcp.listen(endpoint, options).await,
    }
}

/// What a transport can do.
#[must_use]
pub fn capabilities(kind: TransportKind) -> Capabilities {
    match kind {
        TransportKind::Mem => Mem.capabilities(),
        TransportKind::Shm => Shm.capabilities(),
        TransportKind::Unix => Unix.capabilities(),
        TransportKind::Tcp => Tcp.capabilities(),
    }
}
