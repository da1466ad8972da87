//! Trees of files for artifacts and caches: what is in them, in pieces that have their digest for a
//! name.
//!
//! - A [`Manifest`] lists a tree: paths, kinds, sizes, and the [`Chunk`]s of each file. Its bytes are
//!   canonical, so equal trees have equal digests.
//! - [`collect`] finds files by patterns, [`pack`] cuts and hashes them, [`extract`] puts them back.
//! - [`archive`] writes a tree as zip or tar while it is read, and unpacks a tar archive.
//!
//! Nothing here trusts what it reads: a directory in which a job worked, a manifest from a peer, an
//! archive. A path is walked without following links ([`Root`]), every chunk is compared with its
//! digest, and everything has a limit ([`limits`]).
//!
//! ```
//! use rustci_content::{Entry, Manifest, TreeKind};
//!
//! let entries = vec![Entry::directory("dist"), Entry::empty_file("b"), Entry::empty_file("a")];
//! let manifest = Manifest::new(TreeKind::Artifact, entries)?;
//! let bytes = manifest.encode();
//! assert_eq!(Manifest::decode(&bytes)?, manifest);
//! assert_eq!(manifest.entries()[0].path, "a");
//! # Ok::<(), rustci_content::ManifestError>(())
//! ```

pub mod archive;
mod beneath;
mod chunk;
mod collect;
mod digest;
mod extract;
pub mod limits;
mod manifest;
mod name;
mod pack;

pub use beneath::Root;
pub use chunk::Cutter;
pub use collect::{CollectError, Found, FoundKind, Patterns, collect};
pub use digest::{Digest, DigestError};
pub use extract::{ChunkSource, ExtractError, Extracted, extract};
pub use manifest::{Chunk, Entry, EntryKind, Manifest, ManifestError, TreeKind, TreeLimits};
pub use name::NameError;
pub use pack::{PackError, Packed, Piece, Work, pack};
