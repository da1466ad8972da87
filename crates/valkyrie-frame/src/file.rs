//! File transfer messages.

use crate::{limits::FILE_NAME_BYTES_MAX, payload::PayloadError, read::Reader};

/// Body of FILE_TRANSFER_START (0x35).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStart<'b> {
    /// Names the transfer, over reconnects too.
    pub id: [u8; 16],
    /// Length of the file.
    pub size: u64,
    /// BLAKE3 of the whole file.
    pub digest: [u8; 32],
    /// What the sender calls it; at most 1 KiB, never a path to write to unchecked.
    pub name: &'b str,
}

impl<'b> FileStart<'b> {
    /// Reads the body.
    ///
    /// # Errors
    /// It is shorter than 56 bytes, or the name is not UTF-8 or over 1 KiB.
    pub fn parse(body: &'b [u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        let id = reader.array("file id")?;
        let size = reader.u64("file size")?;
        let digest = reader.array("file digest")?;
        let name = reader.text("file name", FILE_NAME_BYTES_MAX)?;
        Ok(Self {
            id,
            size,
            digest,
            name,
        })
    }

    /// Writes the body; a longer name is cut at the last character that fits.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.digest);
        let end = self.name.floor_char_boundary(FILE_NAME_BYTES_MAX);
        out.extend_from_slice(self.name.get(..end).unwrap_or_default().as_bytes());
    }
}

/// Body of FILE_TRANSFER_CHUNK (0x36).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileChunk<'b> {
    /// Where the bytes belong.
    pub offset: u64,
    /// The bytes.
    pub bytes: &'b [u8],
}

impl<'b> FileChunk<'b> {
    /// Reads the body.
    ///
    /// # Errors
    /// It is shorter than 8 bytes, or reaches past the last offset there is.
    pub fn parse(body: &'b [u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        let offset = reader.u64("chunk offset")?;
        let bytes = reader.rest();
        if offset.checked_add(bytes.len() as u64).is_none() {
            return Err(PayloadError::Value {
                what: "chunk offset",
                value: offset,
            });
        }
        Ok(Self { offset, bytes })
    }

    /// The position after this chunk.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.len() as u64)
    }

    /// Writes the body.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(self.bytes);
    }
}

/// Body of FILE_TRANSFER_COMPLETE (0x37).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileComplete {
    /// BLAKE3 of the whole file.
    pub digest: [u8; 32],
}

impl FileComplete {
    /// Reads the body.
    ///
    /// # Errors
    /// It is not 32 bytes long.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        let digest = reader.array("file digest")?;
        reader.end("file digest")?;
        Ok(Self { digest })
    }

    /// Writes the body.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.digest);
    }
}
