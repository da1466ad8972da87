//! What a job leaves behind for the server's blob store.
//!
//! Everything is named by its BLAKE3 digest. Small things that exist only in this process are
//! written to `DIR/blobs`; pieces of files stay where they are and are only pointed at. The runner
//! uploads what the server lacks when the steps have ended.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io;

use rustci_content::Chunk;

use super::directory::JobDirectory;
use super::message::Piece;
use crate::limits::{OUTGOING_BLOB_BYTES_MAX, UPLOAD_REPORT_PIECES};

/// The pieces of one job that are to be uploaded, each once.
pub(crate) struct Outgoing {
    dir: JobDirectory,
    /// By digest: where the bytes lie.
    pieces: HashMap<[u8; 32], Piece>,
    /// What the runner has not heard of.
    unsaid: Vec<[u8; 32]>,
}

impl Outgoing {
    /// Nothing yet, for the job in `dir`.
    pub(crate) fn new(dir: &JobDirectory) -> Self {
        Self {
            dir: dir.clone(),
            pieces: HashMap::new(),
            unsaid: Vec::new(),
        }
    }

    /// Keeps `bytes` for the upload and returns their BLAKE3 digest, under which the server will
    /// have them before it hears how the job ended. The same bytes twice are kept once.
    ///
    /// What is in here leaves the runner: mask it before.
    ///
    /// # Errors
    /// When there are more than [`OUTGOING_BLOB_BYTES_MAX`] bytes, or the directory of the attempt
    /// cannot be written.
    pub(crate) fn add_blob(&mut self, bytes: &[u8]) -> io::Result<[u8; 32]> {
        let length = u32::try_from(bytes.len()).ok();
        let length = length.filter(|length| *length <= OUTGOING_BLOB_BYTES_MAX);
        let length = length.ok_or_else(|| {
            let (has, max) = (bytes.len(), OUTGOING_BLOB_BYTES_MAX);
            io::Error::other(format!(
                "{has} bytes are over the limit of {max} for one blob"
            ))
        })?;
        let digest = blake3::hash(bytes);
        let key = *digest.as_bytes();
        if !self.pieces.contains_key(&key) {
            let path = self.dir.blobs().join(digest.to_hex().as_str());
            fs::write(&path, bytes)?;
            let piece = Piece {
                digest: key.to_vec(),
                path: format!("blobs/{}", digest.to_hex()),
                offset: 0,
                length,
            };
            self.pieces.insert(key, piece);
            self.unsaid.push(key);
        }
        Ok(key)
    }

    /// Keeps a piece of a file for the upload.
    pub(crate) fn add_piece(&mut self, path: &str, offset: u64, chunk: Chunk) {
        let key = *chunk.digest.as_bytes();
        if let Entry::Vacant(place) = self.pieces.entry(key) {
            place.insert(Piece {
                digest: key.to_vec(),
                path: path.to_owned(),
                offset,
                length: chunk.length,
            });
            self.unsaid.push(key);
        }
    }

    /// Whether anything is to be uploaded.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether the runner has a whole part to hear of.
    pub(crate) fn has_full_part(&self) -> bool {
        self.unsaid.len() >= UPLOAD_REPORT_PIECES
    }

    /// The next part for the runner; `None` when it has heard of everything.
    pub(crate) fn next_part(&mut self) -> Option<Vec<Piece>> {
        let count = self.unsaid.len().min(UPLOAD_REPORT_PIECES);
        let part = self.unsaid.drain(..count);
        let part: Vec<Piece> = part
            .filter_map(|key| self.pieces.get(&key).cloned())
            .collect();
        (!part.is_empty()).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::message::Identity;

    #[test]
    fn a_blob_lies_under_its_digest_once() {
        let parent = tempfile::tempdir().unwrap();
        let dir = JobDirectory::new(parent.path().join("1.1"));
        dir.create(&Identity::default()).unwrap();
        dir.create_workspace().unwrap();
        let mut outgoing = Outgoing::new(&dir);
        let digest = outgoing.add_blob(b"# Summary").unwrap();
        assert_eq!(outgoing.add_blob(b"# Summary").unwrap(), digest);
        let path = dir
            .blobs()
            .join(blake3::hash(b"# Summary").to_hex().as_str());
        assert_eq!(fs::read(path).unwrap(), b"# Summary");
        assert_eq!(outgoing.pieces.len(), 1);
    }

    #[test]
    fn a_blob_over_the_limit_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let dir = JobDirectory::new(parent.path().join("1.1"));
        let bytes = vec![0; OUTGOING_BLOB_BYTES_MAX as usize + 1];
        let refused = Outgoing::new(&dir).add_blob(&bytes).unwrap_err();
        assert!(refused.to_string().contains("over the limit"), "{refused}");
    }
}
