//! Byte transports for Valkyrie behind one trait: mem, Unix socket, TCP.
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

mod connection;
mod endpoint;
mod error;
mod limits;
mod listener;
mod low_water;
mod mem;
mod tcp;
mod unix;

use std::future::Future;

pub use connection::{Connection, Credentials, PeerAddress};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{AcceptError, ConnectError, ListenError};
pub use limits::{ACCEPT_PAUSE, MEM_BACKLOG_MAX, MEM_BUFFER_BYTES};
pub use listener::Listener;
pub use mem::Mem;
pub use tcp::Tcp;
pub use unix::Unix;

/// Which transport carries a connection; the label `transport` of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// Two ends in one process.
    Mem,
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
    ) -> impl Future<Output = Result<Connection, ConnectError>>;

    /// Starts to listen on `endpoint`.
    ///
    /// # Errors
    /// See [`ListenError`].
    fn listen(&self, endpoint: &Endpoint) -> impl Future<Output = Result<Listener, ListenError>>;
}

/// Opens a connection over the transport that `endpoint` names.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(endpoint: &Endpoint) -> Result<Connection, ConnectError> {
    match endpoint {
        Endpoint::Mem { .. } => Mem.connect(endpoint).await,
        Endpoint::Unix { .. } => Unix.connect(endpoint).await,
        Endpoint::Tcp { .. } => Tcp.connect(endpoint).await,
    }
}

/// Listens on the transport that `endpoint` names.
///
/// # Errors
/// See [`ListenError`].
pub async fn listen(endpoint: &Endpoint) -> Result<Listener, ListenError> {
    match endpoint {
        Endpoint::Mem { .. } => Mem.listen(endpoint).await,
        Endpoint::Unix { .. } => Unix.listen(endpoint).await,
        Endpoint::Tcp { .. } => Tcp.listen(endpoint).await,
    }
}
