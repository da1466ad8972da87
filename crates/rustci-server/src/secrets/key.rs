//! The key that seals the store, and the file it lies in.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

use crate::durable::{replace_private, sync_parent};
use crate::hex;
use crate::secrets::SecretsError;

/// Name of the key's file in a data directory.
pub const KEY_FILE: &str = "secrets.key";
const KEY_BYTES: usize = 32;
/// A key's file is read so far; it has 65 bytes.
const KEY_FILE_BYTES_MAX: usize = 4_096;

/// Where the key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file that the store makes and replaces.
    Own(PathBuf),
    /// In a file that somebody else looks after, such as a mounted credential. Only read.
    Given(PathBuf),
}

impl KeyPlace {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Own(path) | Self::Given(path) => path,
        }
    }

    /// Where the next key waits while the store is sealed anew.
    pub(super) fn next(&self) -> PathBuf {
        self.path().with_extension("key.next")
    }
}

/// The key. Wiped when dropped, never shown.
#[derive(Clone)]
pub(crate) struct SecretKey(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", self.id())
    }
}

impl SecretKey {
    /// A new key from the system's randomness.
    pub(super) fn random() -> Result<Self, SecretsError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(|error| SecretsError::Random(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// The key in `path`; `None` when there is no such file.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, SecretsError> {
        let text = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SecretsError::io(path)(error)),
            Ok(file) if file.len() > KEY_FILE_BYTES_MAX as u64 => return Err(malformed(path)),
            Ok(_) => Zeroizing::new(fs::read_to_string(path).map_err(SecretsError::io(path))?),
        };
        let bytes = hex::decode(text.trim()).map(Zeroizing::new);
        let bytes = bytes.ok_or_else(|| malformed(path))?;
        let key = bytes.as_slice().try_into().map_err(|_| malformed(path))?;
        Ok(Some(Self(Zeroizing::new(key))))
    }

    /// Writes the key, readable for its owner only.
    pub(super) fn save(&self, path: &Path) -> Result<(), SecretsError> {
        let mut text = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES + 1));
        let mut digits = hex::encode(&*self.0);
        writeln!(text, "{digits}").map_err(SecretsError::io(path))?;
        digits.zeroize();
        replace_private(path, &text).map_err(SecretsError::io(path))
    }

    /// Tells keys apart without telling the key.
    pub(super) fn id(&self) -> String {
        let digest = blake3::derive_key("rustci secrets: id of a key", &*self.0);
        hex::encode(digest.first_chunk::<8>().unwrap_or(&[0; 8]))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// Puts the key that waits at `place.next()` into its place.
pub(super) fn promote(place: &KeyPlace) -> Result<(), SecretsError> {
    fs::rename(place.next(), place.path()).map_err(SecretsError::io(place.path()))?;
    sync_parent(place.path()).map_err(SecretsError::io(place.path()))
}

/// Takes back a mode that lets others read the key, as after a careless copy.
pub(super) fn narrow(place: &KeyPlace) {
    if let KeyPlace::Own(path) = place {
        // A key that is not there yet has no mode.
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
    }
}

fn malformed(path: &Path) -> SecretsError {
    SecretsError::Damaged {
        path: path.to_owned(),
        what: "a key is 64 hex digits",
    }
}
