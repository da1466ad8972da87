//! The runner's own cache of chunks, so that a cache that many jobs restore comes over the network
//! once.
//!
//! A chunk gets its name after its digest was compared. Jobs run as the same user and could change
//! it later, so whoever uses one compares again.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustci_content::Digest;

use super::source::blocking;

/// The cache of one runner.
pub(crate) struct ChunkCache {
    dir: PathBuf,
    bytes_max: u64,
    /// Jobs that are about to read from it.
    users: Rc<Cell<usize>>,
}

/// Keeps everything in the cache while a job reads from it.
pub(crate) struct InUse(Rc<Cell<usize>>);

impl ChunkCache {
    /// A cache in a directory that exists.
    pub(crate) fn new(dir: PathBuf, bytes_max: u64) -> Self {
        Self {
            dir,
            bytes_max,
            users: Rc::default(),
        }
    }

    /// The directory, for [`path`] and for job processes.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Nothing is thrown out until the guard is dropped.
    pub(crate) fn hold(&self) -> InUse {
        self.users.set(self.users.get() + 1);
        InUse(Rc::clone(&self.users))
    }

    /// Throws out what was not used for the longest time, unless a job reads from the cache.
    pub(crate) async fn make_room(&self) -> io::Result<()> {
        if self.users.get() > 0 {
            return Ok(());
        }
        let (dir, bytes_max) = (self.dir.clone(), self.bytes_max);
        blocking(move || make_room(&dir, bytes_max)).await
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Where a chunk lies in the directory of a cache.
pub(crate) fn path(dir: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_string();
    dir.join(hex.get(..2).unwrap_or_default()).join(hex)
}

/// Those of the chunks that are not there; the others count as used now.
pub(crate) fn missing(dir: &Path, digests: Vec<Digest>) -> io::Result<Vec<Digest>> {
    let mut missing = Vec::new();
    for digest in digests {
        match File::options().append(true).open(path(dir, &digest)) {
            Ok(file) => file.set_modified(SystemTime::now())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(digest),
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

/// Stores a chunk whose digest was compared.
pub(crate) fn store(dir: &Path, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
    /// Keeps chunks apart that are being written.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let place = path(dir, digest);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let new = place.with_extension(format!("{}.new", number));
    if let Some(group) = place.parent() {
        fs::create_dir_all(group)?;
    }
    // Not synced: a cache that power took away is filled again, and what is torn is noticed.
    let written = File::create(&new).and_then(|mut file| file.write_all(bytes));
    let stored = written.and_then(|()| fs::rename(&new, &place));
    if stored.is_err() {
        let _ = fs::remove_file(&new);
    }
    stored
}

/// Forgets a chunk, because it is damaged.
pub(crate) fn forget(dir: &Path, digest: &Digest) -> io::Result<()> {
    match fs::remove_file(path(dir, digest)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn make_room(dir: &Path, bytes_max: u64) -> io::Result<()> {
    let mut chunks = Vec::new();
    for group in fs::read_dir(dir)? {
        for entry in fs::read_dir(group?.path())? {
            let entry = entry?;
            let meta = entry.metadata()?;
            chunks.push((meta.modified()?, meta.len(), entry.path()));
        }
    }
    chunks.sort();
    let mut total: u64 = chunks.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in chunks {
        if total <= bytes_max {
            break;
        }
        fs::remove_file(path)?;
        total -= bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_chunks_used_longest_ago_make_room_and_those_in_use_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let digests: Vec<Digest> = (0..3_u8).map(|byte| Digest::of(&[byte; 100])).collect();
        for (byte, digest) in (0..3_u8).zip(&digests) {
            store(dir.path(), digest, &[byte; 100]).unwrap();
            let file = File::open(path(dir.path(), digest)).unwrap();
            let age = Duration::from_secs(100 - u64::from(byte));
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        let first = digests[..1].to_vec();
        assert_eq!(missing(dir.path(), first).unwrap(), []);
        let cache = ChunkCache::new(dir.path().to_owned(), 250);
        let guard = cache.hold();
        valkyrie::block_on(async move {
            cache.make_room().await.unwrap();
            // Looked at without `missing`, which would count as a use.
            let mut all = (0..3_u8).map(|byte| Digest::of(&[byte; 100]));
            assert!(all.all(|digest| path(cache.dir(), &digest).exists()));
            drop(guard);
        })
        .unwrap();
        make_room(dir.path(), 250).unwrap();
        let gone = missing(dir.path(), digests.clone()).unwrap();
        assert_eq!(gone, [digests[1]]);
        forget(dir.path(), &digests[0]).unwrap();
        forget(dir.path(), &digests[0]).unwrap();
    }
}
