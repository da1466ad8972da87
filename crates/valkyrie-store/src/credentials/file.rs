//! Files with secrets.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::error::CredentialError;

/// Longest secret in bytes.
pub(super) const SECRET_BYTES_MAX: usize = 64 << 10;

/// Who watches over a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Its own mode: nobody but the owner may read it.
    Mode,
    /// The directory that it lies in, as with credentials of systemd, whose modes show the mask of an
    /// access list.
    Directory,
}

/// The text of a file without the line ends behind it, if nobody else can read it.
pub(super) fn read(path: &Path, guard: Guard) -> Result<SecretString, CredentialError> {
    let unreadable = |error: io::Error| CredentialError::Unreadable {
        path: path.to_owned(),
        cause: error.to_string(),
    };
    // Opening a pipe would wait for somebody who writes.
    ensure_file(path, &std::fs::metadata(path).map_err(unreadable)?)?;
    let file = File::open(path).map_err(unreadable)?;
    // What was opened, which may be another file by now.
    let metadata = file.metadata().map_err(unreadable)?;
    ensure_file(path, &metadata)?;
    let mode = metadata.permissions().mode() & 0o777;
    if guard == Guard::Mode && mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(CredentialError::Open { path, mode });
    }
    let name = path.display().to_string();
    // Enough for all of it: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    let most = SECRET_BYTES_MAX as u64 + 1;
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    text(&name, &bytes)
}

/// These bytes as a secret, without the line ends behind them.
pub(super) fn text(name: &str, bytes: &[u8]) -> Result<SecretString, CredentialError> {
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(CredentialError::TooLong(name.to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| CredentialError::NoText(name.to_owned()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(CredentialError::Empty(name.to_owned())),
        text => Ok(text.into()),
    }
}

fn ensure_file(path: &Path, metadata: &std::fs::Metadata) -> Result<(), CredentialError> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(CredentialError::NoFile(path.to_owned())),
    }
}
