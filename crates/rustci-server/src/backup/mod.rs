//! Backups: everything durable of a server at one index of the journal, in one file.
//!
//! A backup is a tar archive. Its first entry is the [`Manifest`], which names every other entry
//! with size and digest; its last one has the digest of the manifest, so that a file that ends
//! early is noticed. Between them are the scheduler's state, the catalogue at the same journal
//! index, logs, blobs, and the secrets, sealed as they lie on the disk.
//!
//! `Stage` gathers, [`write`] streams, [`verify`] and [`restore`] read. While a server runs,
//! `Stage` holds the files by links of its own, so nothing that is cleaned up meanwhile is
//! missing.

mod error;
mod manifest;
mod read;
mod restore;
mod stage;
mod write;

pub use error::BackupError;
pub use manifest::{FileEntry, Manifest};
pub use read::verify;
pub use restore::restore;
pub(crate) use stage::{Stage, Wanted, sweep};
pub(crate) use write::write;

/// Name of the first entry.
const MANIFEST: &str = "manifest.json";
/// Name of the last entry.
const END: &str = "end";
/// Name of the entry with the scheduler's snapshot.
const STATE: &str = "state";
/// Name of the entry with the catalogue.
const CATALOGUE: &str = "catalogue.sqlite";

/// The digest of a scheduler's snapshot, which names the state it is of.
#[must_use]
pub fn state_digest(state: &[u8]) -> String {
    blake3::hash(state).to_hex().to_string()
}
