//! Everything that can keep a command from its work, and what to do about it.

use std::io;
use std::time::Duration;

use valkyrie::{EndpointError, ErrorCode, ListenError};

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Arguments that do not fit together.
    #[error("{message}")]
    Usage { message: String, hint: String },
    /// A text that is not an endpoint.
    #[error("{0}")]
    Endpoint(#[from] EndpointError),
    /// The input is not what the command reads.
    #[error("{what}: {cause}")]
    Input {
        what: String,
        cause: String,
        hint: Option<String>,
    },
    /// Nobody answers there, or not in Valkyrie.
    #[error("{cause}")]
    Connect { cause: String, hint: Option<String> },
    /// Nobody can connect there.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// The connection ended before the command was done.
    #[error("{endpoint}: {cause}")]
    Lost { endpoint: String, cause: String },
    /// The other side understood the request and refused it.
    #[error("{code}: {text}")]
    Refused {
        code: ErrorCode,
        text: String,
        hint: Option<String>,
    },
    /// The other side took too long.
    #[error("{what} took longer than {}", humantime::format_duration(*limit))]
    TimedOut { what: String, limit: Duration },
    /// The file system, or the system.
    #[error("cannot {doing}: {cause}")]
    Io { doing: String, cause: io::Error },
    /// Nobody reads standard output any more, as in `valkyrie decode FILE | head`.
    #[error("standard output was closed")]
    OutputClosed,
}

impl Failure {
    /// Wraps an input or output error; `doing` continues "cannot ...".
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |cause| Self::Io { doing, cause }
    }

    /// The next thing to try, where there is one.
    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Self::Usage { hint, .. } => Some(hint),
            Self::Endpoint(_) => {
                Some("such as valkyrie+tcp://127.0.0.1:7443 or valkyrie+unix:///run/app.sock")
            }
            Self::TimedOut { .. } => Some("--deadline gives it more time"),
            Self::Input { hint, .. } | Self::Connect { hint, .. } | Self::Refused { hint, .. } => {
                hint.as_deref()
            }
            Self::Listen(_) | Self::Lost { .. } | Self::Io { .. } | Self::OutputClosed => None,
        }
    }
}
