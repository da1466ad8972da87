//! Zip archives.

use std::io::{self, Write};

use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

use crate::archive::FileReader;
use crate::extract::ChunkSource;
use crate::manifest::{Entry, EntryKind, Manifest};

/// Fast: who downloads waits for it.
const LEVEL: i64 = 1;

/// Writes a tree as a zip archive, deflated, without ever going back in `out`.
///
/// Links are left out: what unpacks a zip archive does not agree on what they are.
///
/// # Errors
/// Those of `out` and of `source`; what was written is no whole archive then.
pub fn write_zip(manifest: &Manifest, source: &dyn ChunkSource, out: impl Write) -> io::Result<()> {
    let mut zip = ZipWriter::new_stream(out);
    for entry in manifest.entries() {
        write_entry(entry, source, &mut zip)?;
    }
    zip.finish()?.flush()
}

fn write_entry<W: Write>(
    entry: &Entry,
    source: &dyn ChunkSource,
    zip: &mut ZipWriter<zip::write::StreamWriter<W>>,
) -> io::Result<()> {
    let options = SimpleFileOptions::default().last_modified_time(DateTime::DEFAULT);
    match &entry.kind {
        EntryKind::File { size, .. } => {
            let options = options
                .unix_permissions(entry.kind.unix_mode())
                .compression_method(CompressionMethod::Deflated)
                .compression_level(Some(LEVEL))
                // Deflate may make noise a little longer.
                .large_file(*size >= u64::from(u32::MAX) - (16 << 20));
            zip.start_file(entry.path.as_str(), options)?;
            io::copy(&mut FileReader::new(entry, source), zip).map(drop)
        }
        EntryKind::Directory => Ok(zip.add_directory(entry.path.as_str(), options)?),
        EntryKind::Link { .. } => Ok(()),
    }
}
