//! What lies where in a data directory.

use std::path::{Path, PathBuf};

/// The layout of a data directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout<'d>(pub(crate) &'d Path);

impl Layout<'_> {
    pub(crate) fn journal(self) -> PathBuf {
        self.0.join("journal")
    }

    pub(crate) fn logs(self) -> PathBuf {
        self.0.join("logs")
    }

    pub(crate) fn blobs(self) -> PathBuf {
        self.0.join("blobs")
    }

    pub(crate) fn content(self) -> PathBuf {
        self.0.join("content")
    }

    pub(crate) fn secrets(self) -> PathBuf {
        self.0.join(crate::secrets::SECRETS_DIR)
    }

    pub(crate) fn secrets_key(self) -> PathBuf {
        self.0.join(crate::secrets::KEY_FILE)
    }

    pub(crate) fn catalogue(self) -> PathBuf {
        self.0.join("catalogue.sqlite")
    }
}
