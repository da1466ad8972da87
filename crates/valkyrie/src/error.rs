//! What can go wrong with a connection, and whose fault it is.

use std::time::Duration;

use valkyrie_frame::ErrorCode;
use valkyrie_session::{Retry, SendError, SessionError};

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No bytes could be exchanged.
    #[error(transparent)]
    Transport(#[from] valkyrie_transport::ConnectError),
    /// The peer was reached, the handshake did not succeed.
    #[error("handshake failed: {0}")]
    Handshake(CloseReason),
    /// The system gave no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
}

/// Why a listener stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The listener is broken.
    #[error(transparent)]
    Accept(#[from] valkyrie_transport::AcceptError),
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The peer refused it, or its deadline passed (105).
    #[error("call refused: {code}: {text}")]
    Refused {
        /// Why.
        code: ErrorCode,
        /// Whether to try again.
        retry: Retry,
        /// The peer's words.
        text: String,
    },
    /// The connection ended first; whether the call was carried out is unknown.
    #[error("connection ended before the answer: {0}")]
    Closed(CloseReason),
}

/// Why a connection is over.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// One side closed and what was running ended.
    #[error("closed in order")]
    Done,
    /// A rule was broken, by the peer or in the peer's opinion.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The peer's bytes ended without CLOSE.
    #[error("peer went away without closing")]
    Lost,
    /// The transport failed.
    #[error("transport failed: {0}")]
    Io(String),
    /// Sent bytes were not taken for a long time.
    #[error("peer took nothing for {} s", .0.as_secs())]
    Stalled(Duration),
}

impl CloseReason {
    /// A fixed word for metric labels.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Done => "closed",
            Self::Session(SessionError::Peer { .. }) => "peer_error",
            Self::Session(error) => match error.code() {
                ErrorCode::TIMEOUT => "timeout",
                _ => "violation",
            },
            Self::Lost => "lost",
            Self::Io(_) => "io",
            Self::Stalled(_) => "stalled",
        }
    }
}
