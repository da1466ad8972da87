//! What can go wrong with secrets.

use std::io;
use std::path::{Path, PathBuf};

use crate::limits::{SECRET_BYTES_MAX, SECRETS_MAX};

/// Why secrets could not be read or changed. No message has a value in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// A line of the file is not `NAME=value`. The line's text is not repeated: it may be a secret.
    #[error("{}:{line} is not NAME=value with a name of letters, digits and _", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The file system refused.
    #[error("{} cannot be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The caller's name for a secret or a project.
    #[error("{0}")]
    Name(String),
    /// The caller's value.
    #[error("{0}")]
    Value(&'static str),
    /// The caller's value is too large.
    #[error("a secret has at most {SECRET_BYTES_MAX} bytes, not {0}")]
    TooLarge(usize),
    /// The store holds all it may.
    #[error("the store holds {SECRETS_MAX} secrets already; remove some that nobody uses")]
    Full,
    /// There is no such secret.
    #[error("there is no secret {0}")]
    Unknown(String),
    /// Somebody else changed the secret first.
    #[error("secret {0} is not as the request expects it; look at it again")]
    Changed(String),
    /// A stored file is not what this program writes.
    #[error("{} is damaged: {what}; restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The key is gone, or another one is there.
    #[error(
        "the secrets in {} are sealed with key {wanted}, and {} has {found}; put the right key there, or delete {} to begin without secrets",
        store.display(), key.display(), store.display()
    )]
    WrongKey {
        /// The store's file.
        store: PathBuf,
        /// Where the key was looked for.
        key: PathBuf,
        /// What it was sealed with.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// The key lies where the server may not replace it.
    #[error("the key is in {}, which the server does not own", .0.display())]
    KeyElsewhere(PathBuf),
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
}

impl SecretsError {
    /// Wraps an error of the file system.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
