//! Reading chunks out of the store.

use std::io::{self, Read};
use std::sync::Arc;

use rustci_content::{Chunk, ChunkSource};

use crate::blobs::{BlobDigest, Blobs};

/// The chunks of the store.
#[derive(Debug, Clone)]
pub struct StoredChunks(Arc<Blobs>);

impl StoredChunks {
    pub(crate) fn new(blobs: Arc<Blobs>) -> Self {
        Self(blobs)
    }

    /// Reads a whole blob of at most `max` bytes.
    pub(crate) fn blob(&self, digest: BlobDigest, max: u32, to: &mut Vec<u8>) -> io::Result<()> {
        let file = self.0.read(digest).map_err(io::Error::other)?;
        let gone = || io::Error::new(io::ErrorKind::NotFound, "it is not stored any more");
        let file = file.ok_or_else(gone)?;
        to.clear();
        file.take(u64::from(max) + 1).read_to_end(to)?;
        Ok(())
    }
}

impl ChunkSource for StoredChunks {
    fn read(&self, chunk: &Chunk, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.blob(chunk.digest, chunk.length, buffer)
    }
}
