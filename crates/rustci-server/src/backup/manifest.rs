//! What a backup has, as its first entry says.

use serde::{Deserialize, Serialize};

use crate::backup::{BackupError, CATALOGUE, STATE};
use crate::secrets::{KEY_FILE, SECRETS_DIR, STORE_FILE};

/// The format written here.
pub(super) const FORMAT: u32 = 1;
/// A manifest of more bytes is none: that is room for millions of files.
pub(super) const MANIFEST_BYTES_MAX: u64 = 512 << 20;

/// The first entry of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub format: u32,
    /// Version of the program that made it.
    pub rustci: String,
    /// The journal index it stands at.
    pub index: u64,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// BLAKE3 of the scheduler's state: what the restored server has to have.
    pub state_digest: String,
    /// BLAKE3 over the rows of the catalogue.
    pub catalogue_digest: String,
    /// Whether the key of the secrets is in it.
    pub with_keys: bool,
    /// What the one who restores it should know: what is left out on purpose.
    pub note: String,
    /// All other entries, in their order.
    pub files: Vec<FileEntry>,
}

/// An entry of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it belongs in the data directory, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its content, 64 hex digits.
    pub blake3: String,
}

impl Manifest {
    /// How many bytes the files have together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, BackupError> {
        serde_json::to_vec(self).map_err(|error| BackupError::Damaged(error.to_string()))
    }

    /// Reads a manifest and checks that it names only what a backup has.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BackupError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            rustci: String,
        }
        let damaged = |error: serde_json::Error| {
            BackupError::Damaged(format!("its manifest cannot be read: {error}"))
        };
        let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
        if head.format != FORMAT {
            return Err(BackupError::Format {
                found: head.format,
                rustci: head.rustci,
            });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        let foreign = manifest.files.iter().find(|file| !is_known(&file.path));
        match foreign {
            Some(file) => Err(BackupError::Foreign(format!("an entry {:?}", file.path))),
            None => Ok(manifest),
        }
    }
}

/// Whether a path is one that a backup writes. Everything else is refused before it is looked at:
/// absolute paths, `..`, names with separators, files that belong to nobody.
fn is_known(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let digits = |text: &str| {
        (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    match parts.as_slice() {
        [name] => [STATE, CATALOGUE, KEY_FILE].contains(name),
        [SECRETS_DIR, name] => *name == STORE_FILE,
        ["logs", run, log] => {
            let name = log.strip_suffix(".chain").unwrap_or(log);
            let attempt = name
                .strip_suffix(".log")
                .and_then(|name| name.split_once('.'));
            digits(run) && attempt.is_some_and(|(job, number)| digits(job) && digits(number))
        }
        ["blobs" | "content", rest @ ..] => {
            (1..=4).contains(&rest.len()) && rest.iter().all(|part| is_blob_name(part))
        }
        _ => false,
    }
}

fn is_blob_name(part: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=128).contains(&part.len()) && !part.starts_with('.') && part.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_a_data_directory_are_known() {
        for good in [
            "state",
            "catalogue.sqlite",
            "secrets.key",
            "secrets/store.json",
            "logs/7/12.1.log",
            "logs/7/12.1.log.chain",
            "blobs/ab/abcd",
            "content/ab/abcd",
        ] {
            assert!(is_known(good), "{good}");
        }
        for bad in [
            "",
            "/state",
            "../state",
            "token",
            "logs/7/../../x.1.log",
            "logs/x/12.1.log",
            "logs/7/12.log",
            "blobs",
            "blobs/",
            "blobs/../x",
            "blobs/.hidden",
            "blobs/a b",
            "secrets/lock",
            "journal/segment-1",
        ] {
            assert!(!is_known(bad), "{bad}");
        }
    }
}
