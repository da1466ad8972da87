//! What is in a tree: the manifest.

mod codec;

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::digest::Digest;
use crate::limits::{
    CHUNK_BYTES_MAX, ENTRIES_MAX, MANIFEST_BYTES_MAX, RATIO_BYTES_MIN, RATIO_MAX,
    WHOLE_FILE_BYTES_MAX,
};
use crate::name::{self, NameError};

/// What a tree is for, which decides what may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TreeKind {
    /// Files for people and other jobs: no links, no times, printable names.
    Artifact,
    /// Directories for a later run of the same project: with times, and links inside the tree. The
    /// first part of a path is `workspace` or `home`.
    Cache,
}

/// A part of a file that is one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// Its length in bytes; never 0.
    pub length: u32,
}

/// One line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, with `/` between its parts.
    pub path: String,
    /// What lies there.
    pub kind: EntryKind,
    /// When it was changed, in Unix nanoseconds; 0 in artifacts and for links.
    pub modified_ns: i64,
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File {
        /// Whether its owner may execute it; no other permission is kept.
        executable: bool,
        /// Its length in bytes.
        size: u64,
        /// What it is made of, in order.
        chunks: Vec<Chunk>,
    },
    /// A directory without entries of its own. Others follow from the paths.
    Directory,
    /// A symbolic link that stays in its tree; only in caches.
    Link {
        /// Where it points.
        target: String,
    },
}

/// A tree: entries in the order of their paths. Made only of what [`Manifest::new`] accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    kind: TreeKind,
    entries: Vec<Entry>,
    bytes: u64,
}

/// How large a tree may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files, links and empty directories.
    pub entries: usize,
}

/// Why something is no manifest. Always its writer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Bytes that were never a manifest, or are cut off.
    #[error("the manifest is damaged at byte {at}")]
    Damaged {
        /// Where reading stopped.
        at: usize,
    },
    /// Written by a newer program.
    #[error("the manifest has version {found}, this program knows version 1; update it")]
    Version {
        /// The version found.
        found: u8,
    },
    /// The same tree has other bytes.
    #[error("the manifest is not in its canonical form at {path:?}")]
    Order {
        /// The entry that is wrong.
        path: String,
    },
    /// A path that no tree holds.
    #[error("{path:?} {source}")]
    Name {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// Two entries with one path, or a file where others have a directory.
    #[error("{path:?} is in the tree twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// A link in an artifact, or one that leads out of a cache.
    #[error("{path:?} links to {target:?}, which a tree cannot hold")]
    Link {
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// Chunks that do not make up the file.
    #[error("the chunks of {path:?} are not those of a file of {size} bytes")]
    Chunks {
        /// The file.
        path: String,
        /// Its size.
        size: u64,
    },
    /// Over [`ENTRIES_MAX`] entries or [`MANIFEST_BYTES_MAX`] bytes.
    #[error(
        "there are too many files: at most {ENTRIES_MAX} entries and {MANIFEST_BYTES_MAX} bytes of manifest"
    )]
    TooMany,
    /// More than the reader wants.
    #[error("the tree has {found} bytes, the limit is {max}")]
    TooLarge {
        /// Bytes of all files.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// A bomb, or a sparse file.
    #[error(
        "the tree repeats the same bytes more than {RATIO_MAX} times; leave sparse or generated files out"
    )]
    Ratio,
}

impl EntryKind {
    /// The permissions that it is unpacked with.
    #[must_use]
    pub const fn unix_mode(&self) -> u32 {
        match self {
            Self::File {
                executable: false, ..
            } => 0o644,
            Self::File { .. } | Self::Directory => 0o755,
            Self::Link { .. } => 0o777,
        }
    }
}

impl Entry {
    /// A file.
    #[must_use]
    pub fn file(path: impl Into<String>, size: u64, chunks: Vec<Chunk>) -> Self {
        Self {
            path: path.into(),
            kind: EntryKind::File {
                executable: false,
                size,
                chunks,
            },
            modified_ns: 0,
        }
    }

    /// A file without bytes.
    #[must_use]
    pub fn empty_file(path: impl Into<String>) -> Self {
        Self::file(path, 0, Vec::new())
    }

    /// A directory without entries.
    #[must_use]
    pub fn directory(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            kind: EntryKind::Directory,
            modified_ns: 0,
        }
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(path: impl Into<String>, target: impl Into<String>) -> Self {
        let target = target.into();
        Self {
            path: path.into(),
            kind: EntryKind::Link { target },
            modified_ns: 0,
        }
    }

    /// Length of a file, 0 for anything else.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size, .. } => size,
            _ => 0,
        }
    }

    /// The chunks of a file.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        match &self.kind {
            EntryKind::File { chunks, .. } => chunks,
            _ => &[],
        }
    }

    fn check(&self, kind: TreeKind) -> Result<(), ManifestError> {
        let path = || self.path.clone();
        name::check(kind, &self.path).map_err(|source| ManifestError::Name {
            path: path(),
            source,
        })?;
        match &self.kind {
            EntryKind::Link { target }
                if kind == TreeKind::Artifact || !name::target_is_inside(&self.path, target) =>
            {
                let target = target.clone();
                Err(ManifestError::Link {
                    path: path(),
                    target,
                })
            }
            EntryKind::File { size, chunks, .. } if !fit(*size, chunks) => {
                let size = *size;
                Err(ManifestError::Chunks { path: path(), size })
            }
            _ => Ok(()),
        }
    }
}

/// Whether chunks make up a file of this size.
fn fit(size: u64, chunks: &[Chunk]) -> bool {
    let max = u32::try_from(CHUNK_BYTES_MAX).unwrap_or(u32::MAX);
    let legal = chunks.iter().all(|chunk| (1..=max).contains(&chunk.length));
    let sum: u64 = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
    let whole = size > WHOLE_FILE_BYTES_MAX || chunks.len() <= 1;
    legal && whole && sum == size
}

/// The order of paths: whole names are compared, so a directory stands right before what is in it.
fn order(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

impl Manifest {
    /// A tree of these entries, in any order.
    ///
    /// # Errors
    /// [`ManifestError`] when they are not a tree.
    pub fn new(kind: TreeKind, mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        entries.sort_by(|a, b| order(&a.path, &b.path));
        Self::from_sorted(kind, entries)
    }

    fn from_sorted(kind: TreeKind, entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if entries.len() > ENTRIES_MAX {
            return Err(ManifestError::TooMany);
        }
        let mut bytes = 0_u64;
        for entry in &entries {
            entry.check(kind)?;
            bytes = bytes.saturating_add(entry.size());
        }
        for (entry, next) in entries.iter().zip(entries.iter().skip(1)) {
            check_pair(&entry.path, &next.path)?;
        }
        Ok(Self {
            kind,
            entries,
            bytes,
        })
    }

    /// What the tree is for.
    #[must_use]
    pub fn kind(&self) -> TreeKind {
        self.kind
    }

    /// The entries, in the order of their paths.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The entry with this path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Entry> {
        let place = self
            .entries
            .binary_search_by(|entry| order(&entry.path, path));
        place.ok().and_then(|place| self.entries.get(place))
    }

    /// The chunks of the tree with their lengths, each once.
    #[must_use]
    pub fn chunks(&self) -> HashMap<Digest, u32> {
        let chunks = self.entries.iter().flat_map(Entry::chunks);
        chunks.map(|chunk| (chunk.digest, chunk.length)).collect()
    }

    /// Checks the tree against what its reader wants, before anything of it is unpacked.
    ///
    /// # Errors
    /// [`ManifestError::TooLarge`], [`ManifestError::TooMany`] or [`ManifestError::Ratio`].
    pub fn check_limits(&self, limits: TreeLimits) -> Result<(), ManifestError> {
        if self.entries.len() > limits.entries {
            return Err(ManifestError::TooMany);
        }
        if self.bytes > limits.bytes {
            let (found, max) = (self.bytes, limits.bytes);
            return Err(ManifestError::TooLarge { found, max });
        }
        let different: u64 = self
            .chunks()
            .values()
            .map(|length| u64::from(*length))
            .sum();
        if self.bytes > RATIO_BYTES_MIN && self.bytes / RATIO_MAX > different {
            return Err(ManifestError::Ratio);
        }
        Ok(())
    }

    /// The canonical bytes: equal for equal trees.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        codec::decode(bytes)
    }
}

/// Checks two entries that follow each other.
fn check_pair(path: &str, next: &str) -> Result<(), ManifestError> {
    let below = next
        .strip_prefix(path)
        .is_some_and(|rest| rest.starts_with('/'));
    match order(path, next) {
        Ordering::Less if !below => Ok(()),
        Ordering::Greater => Err(ManifestError::Order {
            path: next.to_owned(),
        }),
        _ => Err(ManifestError::Twice {
            path: next.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(byte: u8, length: u32) -> Chunk {
        Chunk {
            digest: Digest::from([byte; 32]),
            length,
        }
    }

    #[test]
    fn a_directory_stands_right_before_what_is_in_it() {
        let paths = ["a-b", "a", "a/b", "a!"];
        let mut sorted = paths.to_vec();
        sorted.sort_by(|a, b| order(a, b));
        assert_eq!(sorted, ["a", "a/b", "a!", "a-b"]);
    }

    #[test]
    fn a_path_has_one_meaning() {
        let twice = |entries| Manifest::new(TreeKind::Artifact, entries).unwrap_err();
        let error = twice(vec![Entry::empty_file("a"), Entry::empty_file("a")]);
        assert_eq!(
            error,
            ManifestError::Twice {
                path: "a".to_owned()
            }
        );
        let error = twice(vec![
            Entry::empty_file("a"),
            Entry::empty_file("a-b"),
            Entry::empty_file("a/b"),
        ]);
        assert_eq!(
            error,
            ManifestError::Twice {
                path: "a/b".to_owned()
            }
        );
    }

    #[test]
    fn chunks_have_to_make_up_the_file() {
        let file = |size, chunks| {
            Manifest::new(TreeKind::Artifact, vec![Entry::file("f", size, chunks)]).is_ok()
        };
        assert!(file(5, vec![chunk(1, 5)]));
        assert!(file(3 << 20, vec![chunk(1, 1 << 20), chunk(2, 2 << 20)]));
        assert!(!file(6, vec![chunk(1, 5)]));
        assert!(!file(5, vec![chunk(1, 2), chunk(2, 3)]));
        assert!(!file(5, vec![chunk(1, 5), chunk(2, 0)]));
        assert!(!file(8 << 20, vec![chunk(1, 8 << 20)]));
    }

    #[test]
    fn links_are_for_caches_and_stay_inside() {
        let tree = |kind, path: &str, target: &str| {
            Manifest::new(kind, vec![Entry::link(path, target)]).is_ok()
        };
        assert!(!tree(TreeKind::Artifact, "a", "b"));
        assert!(tree(TreeKind::Cache, "workspace/a", "b"));
        assert!(!tree(TreeKind::Cache, "workspace/a", "../home/b"));
        assert!(!tree(TreeKind::Cache, "workspace/a", "/etc/passwd"));
    }

    #[test]
    fn a_tree_that_is_much_larger_than_its_chunks_is_a_bomb() {
        let chunks = vec![chunk(0, 4 << 20); 512];
        let entries = vec![Entry::file("zeros", 2 << 30, chunks)];
        let bomb = Manifest::new(TreeKind::Artifact, entries).unwrap();
        let limits = TreeLimits {
            bytes: u64::MAX,
            entries: 10,
        };
        assert_eq!(bomb.check_limits(limits), Ok(()));
        let chunks = vec![chunk(0, 4 << 20); 1_100];
        let entries = vec![Entry::file("zeros", 1_100 << 22, chunks)];
        let bomb = Manifest::new(TreeKind::Artifact, entries).unwrap();
        assert_eq!(bomb.check_limits(limits), Err(ManifestError::Ratio));
        let small = TreeLimits { bytes: 1, ..limits };
        assert!(matches!(
            bomb.check_limits(small),
            Err(ManifestError::TooLarge { .. })
        ));
    }
}
