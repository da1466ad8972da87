//! Why there is no secret.

use std::path::PathBuf;

use super::sealed::IDENTITY_FILE;

/// Why there is no secret. No variant holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The variable is not there.
    #[error("the environment variable {0} is not set, or is not text")]
    NotSet(String),
    /// The file cannot be read.
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The words of the system.
        cause: String,
    },
    /// Others than the owner may read or write the file.
    #[error("others can read {} (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is a directory, a pipe or a device.
    #[error("{} is no file", .0.display())]
    NoFile(PathBuf),
    /// There is nothing in it.
    #[error("{0} is empty")]
    Empty(String),
    /// It is longer than 64 KiB.
    #[error("{0} is longer than 64 KiB, so it is no secret")]
    TooLong(String),
    /// It is not UTF-8.
    #[error("{0} is not text in UTF-8")]
    NoText(String),
    /// A credential of systemd cannot be called this.
    #[error("'{0}' is no name of a systemd credential; it is a file name without a path")]
    BadName(String),
    /// The program was not started by systemd with credentials.
    #[error(
        "the systemd credential {0} is not there: CREDENTIALS_DIRECTORY is not set; the unit needs LoadCredential={0}:PATH"
    )]
    NoDirectory(String),
    /// Nothing opens encrypted text.
    #[error(
        "there is no age identity to open it with; set {IDENTITY_FILE}, VALKYRIE_AGE_IDENTITY, or the systemd credential valkyrie-age-identity"
    )]
    NoIdentity,
    /// What should be identities is something else.
    #[error("{0} holds no age identity in line {1}; such lines begin with AGE-SECRET-KEY-1")]
    BadIdentity(String, usize),
    /// It is no recipient of age.
    #[error("that is no recipient of age for X25519; such begin with age1")]
    BadRecipient,
    /// It is something else than encrypted text.
    #[error("it is no age text; that begins with -----BEGIN AGE ENCRYPTED FILE-----")]
    NotSealed,
    /// It was encrypted for somebody else.
    #[error("it is encrypted for another identity than the one that was found")]
    OtherIdentity,
    /// It is cut off or was changed.
    #[error("it is cut off or was changed since it was encrypted; encrypt the secret again")]
    Damaged,
    /// It was encrypted for another place.
    #[error("it was encrypted for another field; it has to begin with the line '{0}'")]
    OtherField(String),
    /// It could not be encrypted.
    #[error("it could not be encrypted: {0}")]
    Seal(String),
}
