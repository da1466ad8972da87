//! What keeps a command from its work, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use telemetry::logging::LoggingError;
use yggdrasil_service::StartError;
use yggdrasil_xdp::XdpError;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server does not start.
    #[error("{0}")]
    Start(#[from] StartError),
    /// Log events cannot be written.
    #[error("{0}")]
    Logging(#[from] LoggingError),
    /// Nothing can be limited as the arguments say.
    #[error("{0}")]
    Xdp(#[from] XdpError),
    /// A file with a password cannot be used.
    #[error("{}: {cause}", path.display())]
    Password { path: PathBuf, cause: String },
    /// A file with the members of a cluster cannot be used.
    #[error("{}: {cause}", path.display())]
    Members { path: PathBuf, cause: String },
    /// A file with policies cannot be used.
    #[error("{}: {cause}", path.display())]
    Policies { path: PathBuf, cause: String },
    /// Nobody answers there.
    #[error("cannot reach {address}: {error}")]
    Connect { address: String, error: io::Error },
    /// The server answers something that it should not.
    #[error("{address}: {cause}")]
    Answer { address: String, cause: String },
    /// The system does not do its part.
    #[error("cannot {what}: {error}")]
    System {
        what: &'static str,
        error: io::Error,
    },
    /// Nobody reads the output any more.
    #[error("nobody reads the output")]
    Unread,
}

impl Failure {
    pub(crate) fn password(path: &Path, cause: impl ToString) -> Self {
        Self::Password {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }

    pub(crate) fn members(path: &Path, cause: impl ToString) -> Self {
        Self::Members {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }

    /// The number the shell sees; the same numbers mean the same in `rustci` and `valkyrie`.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Start(
                StartError::Unprotected { .. }
                | StartError::Threads(_)
                | StartError::Nowhere
                | StartError::Users(_)
                | StartError::Tls(_)
                | StartError::Policy(_),
            )
            | Self::Members { .. }
            | Self::Xdp(_)
            | Self::Password { .. }
            | Self::Policies { .. } => 2,
            Self::Answer { .. } => 1,
            Self::Logging(_) | Self::Start(_) | Self::Connect { .. } | Self::System { .. } => 5,
            Self::Unread => 141,
        }
    }

    /// What to do.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Start(StartError::Listen { error, .. })
                if error.kind() == io::ErrorKind::AddrInUse =>
            {
                Some("another server listens there; stop it, or choose another with --listen".to_owned())
            }
            Self::Start(StartError::Unprotected { .. }) => Some(
                "write a password into a file that only you can read and name it with --password-file"
                    .to_owned(),
            ),
            Self::Connect { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused => {
                Some("start a server with `yggdrasil serve`".to_owned())
            }
            Self::Answer { cause, .. } if cause.starts_with("NOAUTH") => {
                Some("name the file with the password with --password-file".to_owned())
            }
            _ => None,
        }
    }
}
