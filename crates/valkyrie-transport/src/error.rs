//! What can go wrong, by operation.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use valkyrie_shm::HandshakeError;

use crate::proxy::ProxyError;
use crate::{Endpoint, TransportKind};

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The system refused, or nobody listens there.
    #[error("cannot connect to {endpoint}: {source}")]
    Io {
        /// Where to.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The endpoint belongs to another transport. A mistake of the caller.
    #[error("{endpoint} is not an endpoint of the {} transport", transport.name())]
    WrongTransport {
        /// What was asked for.
        endpoint: Endpoint,
        /// Who was asked.
        transport: TransportKind,
    },
    /// The address is outside loopback and the bytes would travel in the clear.
    #[error(
        "{endpoint} is not on this host; plaintext TCP is only allowed on loopback, use a Unix \
         socket, loopback or a tunnel"
    )]
    PlaintextRemote {
        /// Where to.
        endpoint: Endpoint,
    },
    /// The memory could not be handed over.
    #[error("cannot connect to {endpoint}: {source}")]
    Shm {
        /// Where to.
        endpoint: Endpoint,
        /// Why.
        source: HandshakeError,
    },
    /// No listener of this process has the name.
    #[error("nobody in this process listens on {endpoint}")]
    NoListener {
        /// Where to.
        endpoint: Endpoint,
    },
}

/// Why listening could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The system refused.
    #[error("cannot listen on {endpoint}: {source}")]
    Io {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The endpoint belongs to another transport. A mistake of the caller.
    #[error("{endpoint} is not an endpoint of the {} transport", transport.name())]
    WrongTransport {
        /// What was asked for.
        endpoint: Endpoint,
        /// Who was asked.
        transport: TransportKind,
    },
    /// The address is outside loopback and the bytes would travel in the clear.
    #[error("{address} is not a loopback address; plaintext TCP only listens on loopback")]
    PlaintextRemote {
        /// The address that the endpoint stands for.
        address: SocketAddr,
    },
    /// An option that the transport does not have. A mistake of the caller.
    #[error("{endpoint} cannot have {option}, which is for TCP")]
    Unsupported {
        /// Where.
        endpoint: Endpoint,
        /// The option.
        option: &'static str,
    },
    /// A living process already listens there.
    #[error("{endpoint} is in use by another listener; stop it or choose another endpoint")]
    InUse {
        /// Where.
        endpoint: Endpoint,
    },
    /// The path exists and is no socket, so it is not ours to remove.
    #[error("{} exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
}

/// Why a listener gives no more connections.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The listening socket itself failed.
    #[error("cannot accept on {endpoint}: {source}")]
    Io {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
}

/// Why one peer was refused before it was a connection. The listener goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedError {
    /// The memory that it handed over cannot be used.
    #[error(transparent)]
    Shm(#[from] HandshakeError),
    /// It is no proxy, or does not say properly who is behind it.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// It was gone again.
    #[error("the peer was gone again: {0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("the peer did not say what it has to within {} ms", crate::limits::HANDSHAKE_PATIENCE.as_millis())]
    Timeout,
}
