//! What can end a journal or keep it from opening.

use std::{io, sync::Arc};

/// Why a journal stopped or could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk refused. The journal stops: nothing later is acknowledged.
    #[error("cannot {action} journal file {file}: {source}")]
    Disk {
        /// What was tried: `write`, `sync`, `create`, ...
        action: &'static str,
        /// Name of the file inside the journal's directory.
        file: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// A file holds something that this journal did not write, where acknowledged records were.
    #[error(
        "journal file {file} is damaged at byte {offset}: {what}; restore it from a copy, \
         or move the journal away to start empty"
    )]
    Corrupt {
        /// Name of the file inside the journal's directory.
        file: String,
        /// Where the first wrong byte range begins.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A file was written by another version of the format.
    #[error("journal file {file} has format version {version}; this program reads version {known}")]
    Version {
        /// Name of the file inside the journal's directory.
        file: String,
        /// The version found.
        version: u32,
        /// The version this program knows.
        known: u32,
    },
    /// The caller's record is too long. A bug on this side; nothing was appended.
    #[error("a journal record of {bytes} bytes is over the limit of {max} bytes")]
    TooLarge {
        /// Length of the record.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The writer thread could not be started, or has ended.
    #[error("the journal's writer thread is not running: {reason}")]
    Writer {
        /// Why.
        reason: String,
    },
}

impl JournalError {
    /// Turns an error of a [`Disk`](crate::Disk) into one that names what was done to which file.
    pub(crate) fn disk(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Disk {
            action,
            file,
            source: Arc::new(source),
        }
    }

    /// Whether the disk was full, or what its owner may use of it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Disk { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Whether the same may be tried again once there is room: nothing that was written before is in
    /// doubt. After a sync it is, whatever the reason.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.is_full()
            && matches!(self, Self::Disk { action, .. } if matches!(*action, "create" | "write"))
    }
}
