//! Trees as archives, written while they are read: the same tree gives the same bytes.

mod tar;
mod unpack;
mod zip;

use std::io::{self, Read};

use crate::extract::{ChunkSource, read_verified};
use crate::manifest::{Chunk, Entry};

pub use self::tar::write_tar;
pub use self::unpack::{UnpackError, Unpacked, unpack_tar};
pub use self::zip::write_zip;

/// What every file in an archive has for a time: 1980-01-01, the first one a zip archive can hold.
/// A tree of an artifact has no times, and the same tree is to be the same archive.
pub(crate) const MODIFIED_S: u64 = 315_532_800;

/// Reads a file of a tree chunk by chunk, each compared with its digest.
pub struct FileReader<'a> {
    source: &'a dyn ChunkSource,
    path: &'a str,
    rest: std::slice::Iter<'a, Chunk>,
    buffer: Vec<u8>,
    at: usize,
}

impl<'a> FileReader<'a> {
    /// Reads the file of an entry; anything else has no bytes.
    #[must_use]
    pub fn new(entry: &'a Entry, source: &'a dyn ChunkSource) -> Self {
        Self {
            source,
            path: &entry.path,
            rest: entry.chunks().iter(),
            buffer: Vec::new(),
            at: 0,
        }
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            let Some(chunk) = self.rest.next() else {
                return Ok(0);
            };
            read_verified(self.source, self.path, chunk, &mut self.buffer)
                .map_err(io::Error::other)?;
            self.at = 0;
        }
        let mut rest = self.buffer.get(self.at..).unwrap_or_default();
        let count = rest.read(out)?;
        self.at += count;
        Ok(count)
    }
}
