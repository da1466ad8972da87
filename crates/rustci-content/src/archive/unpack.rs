//! Unpacks a tar archive, trusting nothing in it.

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::fd::AsFd;

use tar::{Archive, Entry, EntryType};

use crate::beneath::{Root, create_file_at, split};
use crate::manifest::{TreeKind, TreeLimits};
use crate::name::{self, NameError};

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The archive breaks off, or is none.
    #[error("the archive cannot be read: {0}")]
    Read(#[source] io::Error),
    /// A path that could lead out or mislead.
    #[error("the archive holds {path:?}, which {source}")]
    Name {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// A link, a device, a pipe.
    #[error("the archive holds {path:?}, which is no file; links and devices are not unpacked")]
    Kind {
        /// The entry.
        path: String,
    },
    /// Two files with one path.
    #[error("the archive holds {path:?} twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// More than was announced.
    #[error("the archive unpacks to more than {bytes} bytes or {entries} files")]
    TooLarge {
        /// The limit.
        bytes: u64,
        /// The limit.
        entries: usize,
    },
    /// A file that could not be made or written.
    #[error("{path:?} cannot be written: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Unpacks the files and directories of a tar archive into `root`. A file that is in the way is
/// replaced; nothing is written through a link.
///
/// # Errors
/// [`UnpackError`]; what was written stays.
pub fn unpack_tar(
    archive: impl Read,
    root: &Root,
    limits: TreeLimits,
) -> Result<Unpacked, UnpackError> {
    let mut archive = Archive::new(archive);
    let mut unpacker = Unpacker {
        root,
        limits,
        seen: HashSet::new(),
        unpacked: Unpacked::default(),
    };
    for entry in archive.entries().map_err(UnpackError::Read)? {
        unpacker.entry(entry.map_err(UnpackError::Read)?)?;
    }
    Ok(unpacker.unpacked)
}

struct Unpacker<'r> {
    root: &'r Root,
    limits: TreeLimits,
    seen: HashSet<String>,
    unpacked: Unpacked,
}

impl Unpacker<'_> {
    fn entry(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let raw = entry.path_bytes();
        let path = String::from_utf8_lossy(raw.strip_suffix(b"/").unwrap_or(&raw)).into_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        name::check(TreeKind::Artifact, &path).map_err(|source| UnpackError::Name {
            path: path.clone(),
            source,
        })?;
        match kind {
            EntryType::Directory => {
                let made = self.root.make_directory(&path);
                made.map(drop).map_err(unwritable(&path))
            }
            EntryType::Regular | EntryType::Continuous => self.file(path, &mut entry),
            _ => Err(UnpackError::Kind { path }),
        }
    }

    fn file(&mut self, path: String, entry: &mut Entry<'_, impl Read>) -> Result<(), UnpackError> {
        self.count(entry.size())?;
        if !self.seen.insert(path.clone()) {
            return Err(UnpackError::Twice { path });
        }
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
        let mode = if executable { 0o755 } else { 0o644 };
        let (parent, name) = split(&path);
        let file = self.root.make_directory(parent);
        let file = file.and_then(|parent| create_file_at(parent.as_fd(), name, mode));
        let mut file = file.map_err(unwritable(&path))?;
        let copied = io::copy(entry, &mut file).map_err(unwritable(&path))?;
        self.unpacked.bytes += copied;
        self.unpacked.files += 1;
        Ok(())
    }

    fn count(&self, size: u64) -> Result<(), UnpackError> {
        let TreeLimits { bytes, entries } = self.limits;
        let fits = self.unpacked.bytes.saturating_add(size) <= bytes && self.seen.len() < entries;
        if fits {
            Ok(())
        } else {
            Err(UnpackError::TooLarge { bytes, entries })
        }
    }
}

fn unwritable(path: &str) -> impl FnOnce(io::Error) -> UnpackError + use<> {
    let path = path.to_owned();
    move |source| UnpackError::Write { path, source }
}
