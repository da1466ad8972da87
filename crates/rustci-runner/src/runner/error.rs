//! Why a runner stops.

use std::io;
use std::path::PathBuf;

/// Why a runner could not start. Once it runs it goes on until it is told to stop: a server that is
/// away is waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The state directory cannot be used: a matter of the machine.
    #[error("state directory {path}: {source}; choose one this user can write to", path = .path.display())]
    StateDir {
        /// The directory, or what is in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The caller starts two runners on one directory.
    #[error("state directory {path} is in use by another runner; give this one its own", path = .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}
