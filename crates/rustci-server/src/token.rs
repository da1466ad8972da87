//! The bearer token of the HTTP API.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

/// Name of the token's file in the data directory.
pub const TOKEN_FILE: &str = "token";
/// Bytes of randomness in a token made here.
const TOKEN_RANDOM_BYTES: usize = 32;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Somebody emptied or damaged the file.
    #[error("{} does not hold a token of 32 or more letters and digits; delete it to get a new one", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("the token file {} cannot be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The secret that opens the API. Never shown: `Debug` is redacted and there is no `Display`.
#[derive(Clone)]
pub struct ApiToken(String);

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(***)")
    }
}

impl ApiToken {
    /// Reads the token in `dir`, making one with mode 0600 at the first start.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn load_or_create(dir: &Path) -> Result<Self, TokenError> {
        let path = dir.join(TOKEN_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Self::stored(text.trim(), &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(&path),
            Err(source) => Err(TokenError::Io { path, source }),
        }
    }

    fn stored(text: &str, path: &Path) -> Result<Self, TokenError> {
        let path = path.to_owned();
        if text.len() < 32 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Malformed { path });
        }
        // A copy or an editor may have widened the mode; the token is worth the server.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(|source| TokenError::Io { path, source })?;
        Ok(Self(text.to_owned()))
    }

    fn create(path: &Path) -> Result<Self, TokenError> {
        let io = |source| TokenError::Io {
            path: path.to_owned(),
            source,
        };
        let mut random = [0; TOKEN_RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|error| io(io::Error::other(error.to_string())))?;
        let text = random.iter().fold(String::from("rustci_"), |text, byte| {
            format!("{text}{byte:02x}")
        });
        // Written beside and renamed, so that no reader sees half a token.
        let part = path.with_extension("part");
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(io)?;
        writeln!(file, "{text}")
            .and_then(|()| file.sync_all())
            .map_err(io)?;
        fs::rename(&part, path).map_err(io)?;
        Ok(Self(text))
    }

    /// Whether `offered` is the token, in time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, offered: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(offered).into()
    }

    /// The text to put behind `Authorization: Bearer `. For programs that call the server in
    /// process; not for logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_made_once_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let token = ApiToken::load_or_create(dir.path()).unwrap();
        let path = dir.path().join(TOKEN_FILE);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let again = ApiToken::load_or_create(dir.path()).unwrap();
        assert!(again.matches(token.expose().as_bytes()));
        assert!(!again.matches(b"rustci_"));
        assert_eq!(format!("{token:?}"), "ApiToken(***)");
    }

    #[test]
    fn an_empty_token_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(TOKEN_FILE), "\n").unwrap();
        assert!(matches!(
            ApiToken::load_or_create(dir.path()),
            Err(TokenError::Malformed { .. })
        ));
    }
}
