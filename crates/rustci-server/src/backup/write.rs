//! Streaming a backup.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::backup::{BackupError, END, FileEntry, MANIFEST, Manifest, Stage};

/// Writes the archive to `out`.
///
/// # Errors
/// [`BackupError`]; what was written then has no last entry, so nobody takes it for a backup.
pub(crate) fn write(
    stage: &Stage,
    manifest: &Manifest,
    out: impl Write,
) -> Result<(), BackupError> {
    let mut archive = tar::Builder::new(out);
    let text = manifest.to_bytes()?;
    let seconds = manifest.created_ms / 1_000;
    append(
        &mut archive,
        MANIFEST,
        (text.as_slice(), text.len() as u64),
        seconds,
    )?;
    for entry in &manifest.files {
        append_file(&mut archive, stage, entry, seconds)?;
    }
    let end = blake3::hash(&text).to_hex().to_string();
    append(
        &mut archive,
        END,
        (end.as_bytes(), end.len() as u64),
        seconds,
    )?;
    let mut out = archive.into_inner().map_err(BackupError::Sink)?;
    out.flush().map_err(BackupError::Sink)
}

fn append_file(
    archive: &mut tar::Builder<impl Write>,
    stage: &Stage,
    entry: &FileEntry,
    seconds: u64,
) -> Result<(), BackupError> {
    let path = stage.place(&entry.path);
    let file = File::open(&path).map_err(BackupError::io("open", &path))?;
    let mut checked = Checked {
        file: file.take(entry.bytes),
        hasher: blake3::Hasher::new(),
    };
    append(archive, &entry.path, (&mut checked, entry.bytes), seconds)?;
    // What was read now has to be what the manifest says, or the archive must not end well.
    if checked.hasher.finalize().to_hex().as_str() != entry.blake3 {
        return Err(BackupError::Damaged(format!(
            "{} changed while it was read",
            entry.path
        )));
    }
    Ok(())
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    (data, bytes): (impl Read, u64),
    seconds: u64,
) -> Result<(), BackupError> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(seconds);
    header.set_entry_type(tar::EntryType::Regular);
    let mut data = data.take(bytes);
    archive
        .append_data(&mut header, name, &mut data)
        .map_err(BackupError::Sink)?;
    if data.limit() > 0 {
        return Err(BackupError::Damaged(format!(
            "{name} became shorter while it was read"
        )));
    }
    Ok(())
}

/// A file whose bytes are hashed as they pass.
struct Checked {
    file: io::Take<File>,
    hasher: blake3::Hasher,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}
