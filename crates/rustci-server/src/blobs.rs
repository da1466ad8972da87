//! The blob store: files named by the BLAKE3 digest of what is in them.
//!
//! A blob is written beside its place under a temporary name, synced, and renamed only when its
//! digest is the one promised. So a name that exists is always whole, and writing it twice is
//! harmless.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::limits::{BLOB_BYTES_MAX, SYNC_THREADS};

pub use rustci_content::{Digest as BlobDigest, DigestError};

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

    /// Notes that a blob is used now; `false` when it is not stored.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn touch(&self, digest: BlobDigest) -> Result<bool, BlobError> {
        let path = self.path(digest);
        let opened = File::options().append(true).open(&path);
        let touched = opened.and_then(|file| file.set_modified(SystemTime::now()));
        match touched {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(fault("touch", &path)(error)),
        }
    }

    /// Removes a blob; `false` when it was not stored.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn remove(&self, digest: BlobDigest) -> Result<bool, BlobError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(fault("remove", &path)(error)),
        }
    }

    /// Every blob with its size and when it was last written or touched.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn list(&self) -> Result<Vec<Stored>, BlobError> {
        let mut stored = Vec::new();
        for dir in entries(&self.dir)? {
            let is_group = dir.file_name().is_some_and(|name| name.len() == 2);
            if !is_group {
                continue;
            }
            for path in entries(&dir)? {
                stored.extend(Stored::of(&path)?);
            }
        }
        Ok(stored)
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

/// A blob as it lies in the store.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// Its name.
    pub digest: BlobDigest,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was last written or touched.
    pub used: SystemTime,
}

impl Stored {
    /// `None` for what is no blob, or has just gone.
    fn of(path: &Path) -> Result<Option<Self>, BlobError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(digest) = name.and_then(|name| name.parse().ok()) else {
            return Ok(None);
        };
        let meta = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            meta => meta.map_err(fault("look at", path))?,
        };
        let used = meta.modified().map_err(fault("look at", path))?;
        let bytes = meta.len();
        Ok(Some(Self {
            digest,
            bytes,
            used,
        }))
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, BlobError> {
    let entries = fs::read_dir(dir).map_err(fault("list", dir))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    paths.collect::<io::Result<_>>().map_err(fault("list", dir))
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
        let bytes = self.bytes;
        publish(vec![self.seal()?])?;
        Ok(bytes)
    }

    /// Checks the digest; [`publish`] puts the blob in its place.
    ///
    /// # Errors
    /// [`BlobError::Digest`].
    pub fn seal(self) -> Result<Sealed, BlobError> {
        let found = BlobDigest::from(self.hasher.finalize());
        if found != self.digest {
            return Err(BlobError::Digest {
                expected: self.digest,
                found,
            });
        }
        Ok(Sealed(self))
    }
}

/// A blob that was written whole and is what its digest says, not yet in its place.
#[derive(Debug)]
pub struct Sealed(Upload);

/// Puts blobs in their places, durable. All are synced before any is renamed, side by side: the
/// disk then commits them together.
///
/// # Errors
/// [`BlobError::Io`]; those that are in their places by then stay.
pub fn publish(blobs: Vec<Sealed>) -> Result<(), BlobError> {
    let share = blobs.len().div_ceil(SYNC_THREADS).max(1);
    let synced: Result<(), BlobError> = std::thread::scope(|scope| {
        let groups = blobs.chunks(share).skip(1);
        let others: Vec<_> = groups.map(|group| scope.spawn(|| sync(group))).collect();
        let first = blobs.chunks(share).next().map_or(Ok(()), sync);
        others.into_iter().fold(first, |done, other| {
            done.and(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        })
    });
    synced?;
    let mut dirs = BTreeSet::new();
    for Sealed(upload) in &blobs {
        let Some(dir) = upload.place.parent() else {
            continue;
        };
        if !dirs.contains(dir) && !dir.exists() {
            fs::create_dir_all(dir).map_err(fault("create", dir))?;
            dirs.extend(dir.parent().map(Path::to_owned));
        }
        fs::rename(&upload.path, &upload.place).map_err(fault("rename", &upload.path))?;
        dirs.insert(dir.to_owned());
    }
    dirs.iter().try_for_each(|dir| sync_dir(dir))
}

fn sync(blobs: &[Sealed]) -> Result<(), BlobError> {
    let mut uploads = blobs.iter().map(|Sealed(upload)| upload);
    uploads.try_for_each(|upload| {
        let synced = upload.file.sync_data();
        synced.map_err(fault("sync", &upload.path))
    })
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
    fn many_blobs_are_published_together() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let texts: Vec<String> = (0..40).map(|number| format!("blob {number}")).collect();
        let sealed = texts.iter().map(|text| {
            let mut upload = blobs.upload(BlobDigest::of(text.as_bytes())).unwrap();
            upload.write(text.as_bytes()).unwrap();
            upload.seal().unwrap()
        });
        publish(sealed.collect()).unwrap();
        assert_eq!(blobs.list().unwrap().len(), 40);
        let first = BlobDigest::of(b"blob 0");
        assert!(blobs.touch(first).unwrap() && blobs.remove(first).unwrap());
        assert!(!blobs.touch(first).unwrap() && !blobs.remove(first).unwrap());
        assert_eq!(blobs.list().unwrap().len(), 39);
    }
}
