//! The blob store: files named by the BLAKE3 digest of what is in them.
//!
//! A blob is written beside its place under a temporary name, synced, and renamed only when its
//! digest is the one promised. So a name that exists is always whole, and writing it twice is
//! harmless.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::BLOB_BYTES_MAX;

/// BLAKE3 digest of a blob; 64 lower-case hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobDigest([u8; 32]);

/// A text or byte string that is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a blob digest is 64 lower-case hex digits")]
pub struct DigestError;

impl BlobDigest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The raw digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for BlobDigest {
    type Error = DigestError;

    fn try_from(bytes: &[u8]) -> Result<Self, DigestError> {
        bytes.try_into().map(Self).map_err(|_| DigestError)
    }
}

impl FromStr for BlobDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return Err(DigestError);
        }
        blake3::Hash::from_hex(text)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| DigestError)
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        blake3::Hash::from_bytes(self.0).to_hex().fmt(f)
    }
}

impl fmt::Debug for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobDigest({self})")
    }
}

/// Why a blob was not stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The sender's bytes are not what it promised.
    #[error("the body has digest {found}, not {expected}; send the file again unchanged")]
    Digest {
        /// What the caller promised.
        expected: BlobDigest,
        /// What came.
        found: BlobDigest,
    },
    /// The sender's blob is too large.
    #[error("a blob may have at most {BLOB_BYTES_MAX} bytes; leave large files out of the source")]
    TooLarge,
    /// The disk's fault.
    #[error("the blob store could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Blobs under one directory.
#[derive(Debug)]
pub struct Blobs {
    dir: PathBuf,
    /// Keeps the temporary names of concurrent uploads apart.
    uploads: AtomicU64,
}

impl Blobs {
    /// The store in `dir`, which is made when missing. What uploads left behind is removed.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn open(dir: &Path) -> Result<Self, BlobError> {
        let incoming = dir.join("incoming");
        let io = |action| fault(action, &incoming);
        if incoming.exists() {
            fs::remove_dir_all(&incoming).map_err(io("clear"))?;
        }
        fs::create_dir_all(&incoming).map_err(io("create"))?;
        Ok(Self {
            dir: dir.to_owned(),
            uploads: AtomicU64::new(0),
        })
    }

    /// The store in `dir` for reading; nothing is touched.
    #[must_use]
    pub fn read_only(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            uploads: AtomicU64::new(0),
        }
    }

    /// Where the blob lies if it is there.
    #[must_use]
    pub fn path(&self, digest: BlobDigest) -> PathBuf {
        let hex = digest.to_string();
        self.dir.join(hex.get(..2).unwrap_or_default()).join(hex)
    }

    /// The size of a blob, or `None` when it is not stored.
    #[must_use]
    pub fn size(&self, digest: BlobDigest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|file| file.len())
    }

    /// Opens a blob for reading, or gives `None` when it is not stored.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn read(&self, digest: BlobDigest) -> Result<Option<File>, BlobError> {
        let path = self.path(digest);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(fault("open", &path)),
        }
    }

    /// Begins to store the blob with this digest.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn upload(&self, digest: BlobDigest) -> Result<Upload, BlobError> {
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join("incoming").join(number.to_string());
        let file = File::create_new(&path).map_err(fault("create", &path))?;
        let place = self.path(digest);
        Ok(Upload {
            digest,
            path,
            place,
            file,
            hasher: blake3::Hasher::new(),
            bytes: 0,
        })
    }
}

/// A blob being written. Dropping it before [`finish`](Self::finish) leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    digest: BlobDigest,
    path: PathBuf,
    place: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Upload {
    /// Adds the next bytes.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] or [`BlobError::Io`]; drop the upload then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.bytes > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge);
        }
        self.hasher.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(fault("write", &self.path))
    }

    /// Checks the digest and puts the blob in its place, durable. Returns its size.
    ///
    /// # Errors
    /// [`BlobError::Digest`] or [`BlobError::Io`]; nothing is stored then.
    pub fn finish(self) -> Result<u64, BlobError> {
        let found = BlobDigest(*self.hasher.finalize().as_bytes());
        if found != self.digest {
            return Err(BlobError::Digest {
                expected: self.digest,
                found,
            });
        }
        self.file.sync_all().map_err(fault("sync", &self.path))?;
        if let Some(dir) = self.place.parent() {
            let new = !dir.exists();
            fs::create_dir_all(dir).map_err(fault("create", dir))?;
            fs::rename(&self.path, &self.place).map_err(fault("rename", &self.path))?;
            for dir in self.place.ancestors().skip(1).take(1 + usize::from(new)) {
                sync_dir(dir)?;
            }
        }
        Ok(self.bytes)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // After a rename there is nothing left under the temporary name, and that is fine.
        let _ = fs::remove_file(&self.path);
    }
}

fn sync_dir(dir: &Path) -> Result<(), BlobError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(fault("sync", dir))
}

fn fault(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_there_after_finish_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = BlobDigest::of(b"hello world");
        let mut upload = blobs.upload(digest).unwrap();
        upload.write(b"hello ").unwrap();
        upload.write(b"world").unwrap();
        assert_eq!(blobs.size(digest), None);
        assert_eq!(upload.finish().unwrap(), 11);
        assert_eq!(blobs.size(digest), Some(11));
        assert_eq!(fs::read(blobs.path(digest)).unwrap(), b"hello world");
        assert!(blobs.read(BlobDigest::of(b"other")).unwrap().is_none());
    }

    #[test]
    fn a_wrong_digest_stores_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = BlobDigest::of(b"promised");
        let mut upload = blobs.upload(digest).unwrap();
        upload.write(b"delivered").unwrap();
        assert!(matches!(upload.finish(), Err(BlobError::Digest { .. })));
        assert_eq!(blobs.size(digest), None);
        assert_eq!(
            fs::read_dir(dir.path().join("incoming")).unwrap().count(),
            0
        );
    }

    #[test]
    fn an_interrupted_upload_is_swept_at_open() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut upload = blobs.upload(BlobDigest::of(b"x")).unwrap();
        upload.write(b"half").unwrap();
        std::mem::forget(upload);
        Blobs::open(dir.path()).unwrap();
        assert_eq!(
            fs::read_dir(dir.path().join("incoming")).unwrap().count(),
            0
        );
    }

    #[test]
    fn only_64_lower_case_hex_digits_are_a_digest() {
        let hex = BlobDigest::of(b"x").to_string();
        assert_eq!(hex.parse(), Ok(BlobDigest::of(b"x")));
        assert_eq!(hex.to_uppercase().parse::<BlobDigest>(), Err(DigestError));
        assert_eq!("../../etc/passwd".parse::<BlobDigest>(), Err(DigestError));
        assert_eq!(hex[1..].parse::<BlobDigest>(), Err(DigestError));
    }
}
