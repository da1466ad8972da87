//! What can go wrong with a backup.

use std::io;
use std::path::{Path, PathBuf};

use journal::JournalError;

use crate::backup::manifest::FORMAT;
use crate::catalogue::CatalogueError;

/// Why a backup was not made, verified or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The caller's file is something else.
    #[error("{} is not a backup made by RustCI", path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
    },
    /// The caller's file comes from another version.
    #[error(
        "the backup has format {found}, this program knows {FORMAT}; use the version of rustci that made it ({rustci})"
    )]
    Format {
        /// Its format.
        found: u32,
        /// The version that made it.
        rustci: String,
    },
    /// The file is cut off or was changed.
    #[error("the backup is damaged: {0}; nothing of it can be relied on, use another one")]
    Damaged(String),
    /// The archive has something that no backup has. It was not made by RustCI.
    #[error("the archive has {0}, which no backup has; it was not made by RustCI")]
    Foreign(String),
    /// The caller's directory has something in it.
    #[error("{} is not empty; restore into a new directory", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The receiver of the backup went away.
    #[error("the backup was not taken to its end: {0}")]
    Sink(io::Error),
    /// The catalogue could not be copied or read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The journal could not be made.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The restored state is none that this program can go on with.
    #[error("the state in the backup cannot be taken up: {0}")]
    State(String),
}

impl BackupError {
    /// Wraps an error of the file system.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}
