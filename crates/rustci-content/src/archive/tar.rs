//! Tar archives.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use crate::archive::{FileReader, MODIFIED_S};
use crate::extract::ChunkSource;
use crate::manifest::{Entry, EntryKind, Manifest};

/// Writes a tree as a tar archive, not compressed.
///
/// # Errors
/// Those of `out` and of `source`; what was written is no whole archive then.
pub fn write_tar(manifest: &Manifest, source: &dyn ChunkSource, out: impl Write) -> io::Result<()> {
    let mut tar = Builder::new(out);
    for entry in manifest.entries() {
        write_entry(entry, source, &mut tar)?;
    }
    tar.into_inner()?.flush()
}

fn write_entry<W: Write>(
    entry: &Entry,
    source: &dyn ChunkSource,
    tar: &mut Builder<W>,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(modified(entry.modified_ns));
    header.set_mode(entry.kind.unix_mode());
    header.set_uid(0);
    header.set_gid(0);
    match &entry.kind {
        EntryKind::File { size, .. } => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(*size);
            let file = FileReader::new(entry, source);
            tar.append_data(&mut header, &entry.path, file)
        }
        EntryKind::Directory => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            tar.append_data(&mut header, format!("{}/", entry.path), io::empty())
        }
        EntryKind::Link { target } => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, &entry.path, target)
        }
    }
}

fn modified(modified_ns: i64) -> u64 {
    match u64::try_from(modified_ns / 1_000_000_000) {
        Ok(seconds) if seconds > 0 => seconds,
        _ => MODIFIED_S,
    }
}
