//! Why things end.

use std::io;
use std::sync::Arc;

use valkyrie_frame::ErrorCode;
use valkyrie_session::SessionError;
use valkyrie_transport::AcceptError;

/// Why a connection ended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// In order: the peer said CLOSE, or this side did and its drain is over.
    #[error("closed in order")]
    Closed,
    /// It brought another transport to a link of this shard, which goes on with it.
    #[error("became the transport of another link")]
    Moved,
    /// This side ended it at once.
    #[error("aborted by this side")]
    Aborted,
    /// The peer broke a rule or ended the connection with an ERROR.
    #[error("{0}")]
    Session(#[from] SessionError),
    /// The bytes ended without a CLOSE.
    #[error("connection lost: the peer is gone")]
    Lost,
    /// The transport failed.
    #[error("connection lost: {0}")]
    Io(Arc<io::Error>),
    /// The peer took no byte for too long.
    #[error("connection lost: the peer takes no bytes")]
    WriteStalled,
}

impl CloseReason {
    /// The label `reason` of `valkyrie_disconnections_total`.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Moved => "moved",
            Self::Aborted => "aborted",
            Self::Session(SessionError::Peer { .. }) => "peer_error",
            Self::Session(error) if matches!(error.code(), ErrorCode::TIMEOUT) => "timeout",
            Self::Session(_) => "protocol",
            Self::Lost => "lost",
            Self::Io(_) => "io",
            Self::WriteStalled => "write_stalled",
        }
    }

    /// The wire code that stands for the reason.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Closed | Self::Moved | Self::Aborted => ErrorCode::NONE,
            Self::Session(error) => error.code(),
            Self::Lost | Self::Io(_) | Self::WriteStalled => ErrorCode::LOST,
        }
    }
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The transport could not connect.
    #[error("{0}")]
    Transport(#[from] valkyrie_transport::ConnectError),
    /// The connection ended before it was ready.
    #[error("handshake failed: {0}")]
    Handshake(CloseReason),
    /// The system has no randomness to give.
    #[error("no randomness: {0}")]
    Random(String),
    /// The system has no timer to give, which is a descriptor.
    #[error("no timer for the connections of this thread: {0}")]
    Timer(io::Error),
    /// There is no thread for the connection.
    #[error("no thread for the connection: {0}")]
    Thread(io::Error),
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The listener broke.
    #[error("{0}")]
    Accept(#[from] AcceptError),
    /// The system has no randomness to give.
    #[error("no randomness: {0}")]
    Random(String),
    /// The system has no timer to give, which is a descriptor.
    #[error("no timer for the connections of this thread: {0}")]
    Timer(io::Error),
}
