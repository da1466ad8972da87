//! From files to a manifest: cutting and hashing, on a few threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::beneath::Root;
use crate::chunk::Cutter;
use crate::collect::{Found, FoundKind};
use crate::digest::Digest;
use crate::limits::{CHUNK_BYTES_MAX, READ_BYTES, THREADS_MAX, WHOLE_FILE_BYTES_MAX};
use crate::manifest::{Chunk, Entry, EntryKind, Manifest, ManifestError, TreeKind, TreeLimits};

/// What packing has to know beside the files.
pub struct Work<'a> {
    /// The directory that paths are relative to.
    pub root: &'a Root,
    /// What stands in front of each path in the root: `workspace/` or nothing.
    pub prefix: &'a str,
    /// What may be in the tree.
    pub kind: TreeKind,
    /// How large it may be.
    pub limits: TreeLimits,
    /// Set by somebody who does not want the result any more.
    pub stop: &'a AtomicBool,
    /// Hears of every chunk as soon as it has a digest, on any thread and in any order.
    pub on_piece: &'a (dyn Fn(Piece<'_>) + Sync),
}

/// A chunk and where its bytes are.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// The file, with the prefix.
    pub path: &'a str,
    /// Where in the file it begins.
    pub offset: u64,
    /// Digest and length.
    pub chunk: Chunk,
}

/// A packed tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// What is in it.
    pub manifest: Manifest,
    /// The manifest's bytes.
    pub bytes: Vec<u8>,
    /// The tree's digest: that of the manifest's bytes.
    pub digest: Digest,
}

/// Why files were not packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A file that cannot be read.
    #[error("{path:?} cannot be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody wrote to it meanwhile.
    #[error("{path:?} changed while it was read; end what writes to it before")]
    Changed {
        /// The file.
        path: String,
    },
    /// The files are no tree, or too large a one.
    #[error(transparent)]
    Tree(#[from] ManifestError),
    /// The result is not wanted any more.
    #[error("it was stopped")]
    Stopped,
}

/// Packs what [`collect`](crate::collect) found. The tree's size is checked before any file is read.
///
/// # Errors
/// [`PackError`], at the first file that fails.
pub fn pack(work: &Work<'_>, found: Vec<Found>) -> Result<Packed, PackError> {
    check_size(work, &found)?;
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Vec<Chunk>)>> = Mutex::default();
    let failed: Mutex<Option<PackError>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads(found.len()) {
            scope.spawn(|| {
                if let Err(error) = pack_some(work, &found, &next, &results) {
                    next.store(usize::MAX / 2, Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                }
            });
        }
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let mut chunks = std::mem::take(&mut *lock(&results));
    chunks.sort_by_key(|(place, _)| *place);
    let entries = found
        .into_iter()
        .zip(chunks)
        .map(|(found, (_, chunks))| entry(found, chunks));
    let manifest = Manifest::new(work.kind, entries.collect())?;
    manifest.check_limits(work.limits)?;
    let bytes = manifest.encode();
    if bytes.len() > crate::limits::MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooMany.into());
    }
    let digest = Digest::of(&bytes);
    Ok(Packed {
        manifest,
        bytes,
        digest,
    })
}

fn check_size(work: &Work<'_>, found: &[Found]) -> Result<(), ManifestError> {
    if found.len() > work.limits.entries {
        return Err(ManifestError::TooMany);
    }
    let sizes = found.iter().map(|found| match found.kind {
        FoundKind::File { size, .. } => size,
        _ => 0,
    });
    let bytes = sizes.fold(0, u64::saturating_add);
    let max = work.limits.bytes;
    if bytes > max {
        return Err(ManifestError::TooLarge { found: bytes, max });
    }
    Ok(())
}

pub(crate) fn threads(tasks: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(THREADS_MAX).min(tasks)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn pack_some(
    work: &Work<'_>,
    found: &[Found],
    next: &AtomicUsize,
    results: &Mutex<Vec<(usize, Vec<Chunk>)>>,
) -> Result<(), PackError> {
    let mut buffer = Vec::new();
    loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        let Some(found) = found.get(place) else {
            return Ok(());
        };
        let chunks = match found.kind {
            FoundKind::File { size, .. } => pack_file(work, &found.path, size, &mut buffer)?,
            _ => Vec::new(),
        };
        lock(results).push((place, chunks));
    }
}

fn pack_file(
    work: &Work<'_>,
    name: &str,
    size: u64,
    buffer: &mut Vec<u8>,
) -> Result<Vec<Chunk>, PackError> {
    let path = format!("{}{name}", work.prefix);
    let unreadable = |source| PackError::Read {
        path: name.to_owned(),
        source,
    };
    let changed = || PackError::Changed {
        path: name.to_owned(),
    };
    let file = work.root.open_file(&path).map_err(unreadable)?;
    let (cutter, mut chunks) = (Cutter::new(size), Vec::new());
    let mut window = Window::new(file, size, buffer);
    loop {
        if work.stop.load(Ordering::Relaxed) {
            return Err(PackError::Stopped);
        }
        let (offset, ahead) = window.ahead().map_err(unreadable)?;
        if ahead.is_empty() {
            break;
        }
        let cut = cutter.cut(ahead);
        let bytes = ahead.get(..cut).unwrap_or(ahead);
        let length = u32::try_from(bytes.len()).map_err(|_| changed())?;
        let digest = Digest::of(bytes);
        let chunk = Chunk { digest, length };
        let path = path.as_str();
        (work.on_piece)(Piece {
            path,
            offset,
            chunk,
        });
        chunks.push(chunk);
        window.advance(cut);
    }
    if window.has_other_size(size).map_err(unreadable)? {
        return Err(changed());
    }
    Ok(chunks)
}

/// A file read through one buffer.
struct Window<'b> {
    file: File,
    buffer: &'b mut Vec<u8>,
    /// Where in the file the buffer begins.
    begin: u64,
    /// What of the buffer is done.
    at: usize,
    /// What of the buffer is read.
    filled: usize,
    ended: bool,
}

impl<'b> Window<'b> {
    fn new(file: File, size: u64, buffer: &'b mut Vec<u8>) -> Self {
        let wanted = if size <= WHOLE_FILE_BYTES_MAX {
            // One byte more tells whether the file has grown.
            usize::try_from(size).unwrap_or_default() + 1
        } else {
            READ_BYTES
        };
        if buffer.len() < wanted {
            buffer.resize(wanted, 0);
        }
        Self {
            file,
            buffer,
            begin: 0,
            at: 0,
            filled: 0,
            ended: false,
        }
    }

    /// Where in the file it stands, and at least [`CHUNK_BYTES_MAX`] bytes from there, or the rest.
    fn ahead(&mut self) -> io::Result<(u64, &[u8])> {
        if !self.ended && self.filled - self.at < CHUNK_BYTES_MAX {
            self.fill()?;
        }
        let ahead = self.buffer.get(self.at..self.filled).unwrap_or_default();
        Ok((self.begin + self.at as u64, ahead))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.at..self.filled, 0);
        self.begin += self.at as u64;
        self.filled -= self.at;
        self.at = 0;
        while let Some(room) = self.buffer.get_mut(self.filled..).filter(|r| !r.is_empty()) {
            let offset = self.begin + self.filled as u64;
            match self.file.read_at(room, offset) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn has_other_size(&self, size: u64) -> io::Result<bool> {
        let read = self.begin + self.filled as u64;
        Ok(read != size || self.file.metadata()?.len() != size)
    }
}

fn entry(found: Found, chunks: Vec<Chunk>) -> Entry {
    let kind = match found.kind {
        FoundKind::File { executable, size } => EntryKind::File {
            executable,
            size,
            chunks,
        },
        FoundKind::Directory => EntryKind::Directory,
        FoundKind::Link { target } => EntryKind::Link { target },
    };
    Entry {
        path: found.path,
        kind,
        modified_ns: found.modified_ns,
    }
}
