//! The bytes of a manifest.
//!
//! ```text
//! "RCTM", u8 version = 1, u8 kind (0 artifact, 1 cache), varint number of entries, then entries:
//!   u8 tag (0 file, 1 executable file, 2 directory, 3 link), varint length and bytes of the path,
//!   in caches except for links: i64 big-endian Unix nanoseconds,
//!   file: varint size, varint number of chunks, per chunk 32 bytes BLAKE3 and varint length
//!   link: varint length and bytes of the target
//! ```
//!
//! A varint has seven bits a byte, the lowest first, as few bytes as possible.

use crate::digest::Digest;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::manifest::{Chunk, Entry, EntryKind, Manifest, ManifestError, TreeKind};

const MAGIC: &[u8; 4] = b"RCTM";
const VERSION: u8 = 1;
const FILE: u8 = 0;
const EXECUTABLE: u8 = 1;
const DIRECTORY: u8 = 2;
const LINK: u8 = 3;

pub(super) fn encode(manifest: &Manifest) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let kind = u8::from(manifest.kind == TreeKind::Cache);
    out.extend([VERSION, kind]);
    put_varint(manifest.entries.len() as u64, &mut out);
    for entry in &manifest.entries {
        put_entry(manifest.kind, entry, &mut out);
    }
    out
}

fn put_entry(kind: TreeKind, entry: &Entry, out: &mut Vec<u8>) {
    out.push(match &entry.kind {
        EntryKind::File { executable, .. } => FILE + u8::from(*executable),
        EntryKind::Directory => DIRECTORY,
        EntryKind::Link { .. } => LINK,
    });
    put_text(&entry.path, out);
    if has_time(kind, &entry.kind) {
        out.extend(entry.modified_ns.to_be_bytes());
    }
    match &entry.kind {
        EntryKind::File { size, chunks, .. } => {
            put_varint(*size, out);
            put_varint(chunks.len() as u64, out);
            for chunk in chunks {
                out.extend(chunk.digest.as_bytes());
                put_varint(chunk.length.into(), out);
            }
        }
        EntryKind::Directory => {}
        EntryKind::Link { target } => put_text(target, out),
    }
}

fn has_time(kind: TreeKind, entry: &EntryKind) -> bool {
    kind == TreeKind::Cache && !matches!(entry, EntryKind::Link { .. })
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_varint(text.len() as u64, out);
    out.extend(text.as_bytes());
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooMany);
    }
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(ManifestError::Damaged { at: 0 });
    }
    let found = reader.byte()?;
    if found != VERSION {
        return Err(ManifestError::Version { found });
    }
    let kind = match reader.byte()? {
        0 => TreeKind::Artifact,
        1 => TreeKind::Cache,
        _ => return Err(reader.damaged()),
    };
    let mut entries = Vec::new();
    for _ in 0..reader.varint()? {
        // Grows with what is really there: a number from outside takes no memory.
        entries.push(reader.entry(kind)?);
    }
    if reader.at != bytes.len() {
        return Err(reader.damaged());
    }
    Manifest::from_sorted(kind, entries)
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn damaged(&self) -> ManifestError {
        ManifestError::Damaged { at: self.at }
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], ManifestError> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.damaged())?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, ManifestError> {
        let byte = self.take(1)?;
        byte.first().copied().ok_or_else(|| self.damaged())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ManifestError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| self.damaged())
    }

    /// Refuses a number that could be written shorter.
    fn varint(&mut self) -> Result<u64, ManifestError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 || shift > 0 && byte == 0 {
                return Err(self.damaged());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged())
    }

    fn text(&mut self) -> Result<String, ManifestError> {
        let length = usize::try_from(self.varint()?).map_err(|_| self.damaged())?;
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.damaged())?;
        Ok(text.to_owned())
    }

    fn entry(&mut self, kind: TreeKind) -> Result<Entry, ManifestError> {
        let tag = self.byte()?;
        let path = self.text()?;
        let modified_ns = match kind {
            TreeKind::Cache if tag != LINK => i64::from_be_bytes(self.array()?),
            _ => 0,
        };
        let kind = match tag {
            FILE | EXECUTABLE => EntryKind::File {
                executable: tag == EXECUTABLE,
                size: self.varint()?,
                chunks: self.chunks()?,
            },
            DIRECTORY => EntryKind::Directory,
            LINK => EntryKind::Link {
                target: self.text()?,
            },
            _ => return Err(self.damaged()),
        };
        Ok(Entry {
            path,
            kind,
            modified_ns,
        })
    }

    fn chunks(&mut self) -> Result<Vec<Chunk>, ManifestError> {
        let mut chunks = Vec::new();
        for _ in 0..self.varint()? {
            let digest = Digest::from(self.array::<32>()?);
            let length = u32::try_from(self.varint()?).map_err(|_| self.damaged())?;
            chunks.push(Chunk { digest, length });
        }
        Ok(chunks)
    }
}
