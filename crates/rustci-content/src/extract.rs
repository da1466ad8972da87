//! From a manifest back to files.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::beneath::{Root, create_file_at, link_at, set_modified, split};
use crate::digest::Digest;
use crate::manifest::{Chunk, Entry, EntryKind, Manifest};
use crate::pack::{lock, threads};

/// Where the bytes of chunks come from.
pub trait ChunkSource: Sync {
    /// Puts the bytes of a chunk into `buffer`, in place of what is there. The reader compares them
    /// with the digest.
    ///
    /// # Errors
    /// What kept it from reading.
    fn read(&self, chunk: &Chunk, buffer: &mut Vec<u8>) -> io::Result<()>;
}

/// Why a tree was not put in place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// A file that could not be made or written.
    #[error("{path:?} cannot be written: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A chunk that is not there.
    #[error("a part of {path:?} cannot be read: {source}")]
    Read {
        /// The file it belongs to.
        path: String,
        /// What its source said.
        source: io::Error,
    },
    /// A chunk that is not what its name says.
    #[error("a part of {path:?} is damaged: its digest is not {digest}")]
    Damaged {
        /// The file it belongs to.
        path: String,
        /// What was expected.
        digest: Digest,
    },
    /// The result is not wanted any more.
    #[error("it was stopped")]
    Stopped,
}

/// What was put in place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Files and links.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Puts the tree below the directory `to` of `root`, where files and links of the same names are
/// replaced. Check the tree's size before, with [`Manifest::check_limits`].
///
/// Links come last, so nothing of the tree is written through one of its own.
///
/// # Errors
/// [`ExtractError`]; what was written stays.
pub fn extract(
    manifest: &Manifest,
    source: &dyn ChunkSource,
    root: &Root,
    to: &str,
    stop: &AtomicBool,
) -> Result<Extracted, ExtractError> {
    let entries = manifest.entries();
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<ExtractError>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads(entries.len()) {
            scope.spawn(|| {
                let writer = Writer::new(root, to, source, stop);
                if let Err(error) = writer.some(entries, &next) {
                    next.store(usize::MAX / 2, Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                }
            });
        }
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let mut writer = Writer::new(root, to, source, stop);
    for entry in entries {
        if let EntryKind::Link { target } = &entry.kind {
            writer.link(&entry.path, target)?;
        }
    }
    let files = entries
        .iter()
        .filter(|entry| entry.kind != EntryKind::Directory);
    Ok(Extracted {
        files: files.count() as u64,
        bytes: manifest.bytes(),
    })
}

struct Writer<'a> {
    root: &'a Root,
    to: &'a str,
    source: &'a dyn ChunkSource,
    stop: &'a AtomicBool,
    /// The directory that was used last: entries of one follow each other.
    open: Option<(String, OwnedFd)>,
    buffer: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(root: &'a Root, to: &'a str, source: &'a dyn ChunkSource, stop: &'a AtomicBool) -> Self {
        Self {
            root,
            to,
            source,
            stop,
            open: None,
            buffer: Vec::new(),
        }
    }

    fn some(mut self, entries: &[Entry], next: &AtomicUsize) -> Result<(), ExtractError> {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(place) else {
                return Ok(());
            };
            match &entry.kind {
                EntryKind::File { chunks, .. } => self.file(entry, chunks)?,
                EntryKind::Directory => self.empty_directory(entry)?,
                EntryKind::Link { .. } => {}
            }
        }
    }

    fn file(&mut self, entry: &Entry, chunks: &[Chunk]) -> Result<(), ExtractError> {
        let (parent, name) = split(&entry.path);
        let failed = unwritable(&entry.path);
        let mode = entry.kind.unix_mode();
        let file = self.directory(parent);
        let file = file.and_then(|parent| create_file_at(parent.as_fd(), name, mode));
        let mut file = file.map_err(failed)?;
        for chunk in chunks {
            if self.stop.load(Ordering::Relaxed) {
                return Err(ExtractError::Stopped);
            }
            self.chunk(&entry.path, chunk, &mut file)?;
        }
        if entry.modified_ns != 0 {
            set_modified(&file, entry.modified_ns).map_err(unwritable(&entry.path))?;
        }
        Ok(())
    }

    fn chunk(&mut self, path: &str, chunk: &Chunk, file: &mut File) -> Result<(), ExtractError> {
        read_verified(self.source, path, chunk, &mut self.buffer)?;
        file.write_all(&self.buffer).map_err(unwritable(path))
    }

    fn empty_directory(&mut self, entry: &Entry) -> Result<(), ExtractError> {
        let fd = self.root.make_directory(&self.place(&entry.path));
        let fd = fd.map_err(unwritable(&entry.path))?;
        if entry.modified_ns != 0 {
            set_modified(&fd, entry.modified_ns).map_err(unwritable(&entry.path))?;
        }
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), ExtractError> {
        let (parent, name) = split(path);
        let parent = self.directory(parent).map_err(unwritable(path))?;
        link_at(parent.as_fd(), name, target).map_err(unwritable(path))
    }

    fn directory(&mut self, path: &str) -> io::Result<&OwnedFd> {
        if self.open.as_ref().is_none_or(|(open, _)| open != path) {
            let fd = self.root.make_directory(&self.place(path))?;
            self.open = Some((path.to_owned(), fd));
        }
        match &self.open {
            Some((_, fd)) => Ok(fd),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn place(&self, path: &str) -> String {
        format!("{}/{path}", self.to)
    }
}

/// Reads a chunk of the file at `path` and compares it with its digest.
pub(crate) fn read_verified(
    source: &dyn ChunkSource,
    path: &str,
    chunk: &Chunk,
    buffer: &mut Vec<u8>,
) -> Result<(), ExtractError> {
    source
        .read(chunk, buffer)
        .map_err(|source| ExtractError::Read {
            path: path.to_owned(),
            source,
        })?;
    let has_length = u32::try_from(buffer.len()).is_ok_and(|length| length == chunk.length);
    if !has_length || Digest::of(buffer) != chunk.digest {
        let (path, digest) = (path.to_owned(), chunk.digest);
        return Err(ExtractError::Damaged { path, digest });
    }
    Ok(())
}

fn unwritable(path: &str) -> impl FnOnce(io::Error) -> ExtractError + use<> {
    let path = path.to_owned();
    move |source| ExtractError::Write { path, source }
}
