//! Reading a backup: every entry is checked against the manifest, whoever made the file.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use crate::backup::manifest::MANIFEST_BYTES_MAX;
use crate::backup::{BackupError, END, FileEntry, MANIFEST, Manifest};

/// Bytes read from the archive at once.
const READ_BYTES: usize = 256 << 10;

/// Reads a backup to its end and checks every digest in it.
///
/// # Errors
/// [`BackupError`] that says what is wrong.
pub fn verify(path: &Path) -> Result<Manifest, BackupError> {
    read(path, |_| Ok(Box::new(io::sink())))
}

/// Reads a backup to its end, and writes each file to where `open` says.
pub(super) fn read(
    path: &Path,
    open: impl FnMut(&FileEntry) -> Result<Box<dyn Sink>, BackupError>,
) -> Result<Manifest, BackupError> {
    let file = File::open(path).map_err(BackupError::io("open", path))?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(READ_BYTES, file));
    let mut entries = archive.entries().map_err(BackupError::io("read", path))?;
    let foreign = || BackupError::NotABackup {
        path: path.to_owned(),
    };
    let mut first = match entries.next() {
        Some(Ok(entry)) => entry,
        _ => return Err(foreign()),
    };
    if name_of(&first).is_none_or(|name| name != MANIFEST) || first.size() > MANIFEST_BYTES_MAX {
        return Err(foreign());
    }
    let mut text = Vec::new();
    first.read_to_end(&mut text).map_err(cut)?;
    let manifest = Manifest::parse(&text)?;
    let mut entries = entries.map(|entry| entry.map_err(cut));
    let mut open = open;
    for expected in &manifest.files {
        let mut entry = entries.next().unwrap_or_else(|| Err(ends_early()))?;
        check_is(&entry, &expected.path, expected.bytes)?;
        let mut sink = open(expected)?;
        copy(&mut entry, &mut *sink, expected)?;
        sink.close()
            .map_err(BackupError::io("write", Path::new(&expected.path)))?;
    }
    let digest = blake3::hash(&text).to_hex().to_string();
    let mut entry = entries.next().unwrap_or_else(|| Err(ends_early()))?;
    check_is(&entry, END, digest.len() as u64)?;
    let mut end = String::new();
    entry.read_to_string(&mut end).map_err(cut)?;
    if end != digest {
        return Err(BackupError::Damaged("its manifest was changed".to_owned()));
    }
    match entries.next() {
        None => Ok(manifest),
        Some(_) => Err(BackupError::Foreign("something behind its end".to_owned())),
    }
}

/// Where a file of a backup goes.
pub(super) trait Sink: Write {
    /// Says that the file is complete.
    fn close(&mut self) -> io::Result<()>;
}

impl Sink for io::Sink {
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for File {
    fn close(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

fn copy(
    entry: &mut impl Read,
    sink: &mut dyn Sink,
    expected: &FileEntry,
) -> Result<(), BackupError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut left = expected.bytes;
    while left > 0 {
        let read = entry.read(&mut buffer).map_err(cut)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            return Err(ends_early());
        };
        hasher.update(part);
        sink.write_all(part)
            .map_err(BackupError::io("write", Path::new(&expected.path)))?;
        left = left.saturating_sub(part.len() as u64);
    }
    if hasher.finalize().to_hex().as_str() == expected.blake3 {
        Ok(())
    } else {
        let what = format!("{} does not match its checksum", expected.path);
        Err(BackupError::Damaged(what))
    }
}

/// Checks that an entry is the regular file that has to come now. Links, devices, other names and
/// other sizes never reach the disk.
fn check_is(entry: &tar::Entry<'_, impl Read>, path: &str, bytes: u64) -> Result<(), BackupError> {
    let kind = entry.header().entry_type();
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    if !kind.is_file() {
        return Err(BackupError::Foreign(format!(
            "an entry {name:?} that is no regular file"
        )));
    }
    if name != path {
        return Err(BackupError::Foreign(format!(
            "an entry {name:?} in the place of {path:?}"
        )));
    }
    if entry.size() != bytes {
        let what = format!("{path} has {} bytes instead of {bytes}", entry.size());
        return Err(BackupError::Damaged(what));
    }
    Ok(())
}

fn name_of(entry: &tar::Entry<'_, impl Read>) -> Option<String> {
    let file = entry.header().entry_type().is_file();
    let name = String::from_utf8(entry.path_bytes().into_owned()).ok();
    name.filter(|_| file)
}

fn ends_early() -> BackupError {
    BackupError::Damaged("it ends early".to_owned())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn cut(error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ends_early(),
        _ => BackupError::Damaged(error.to_string()),
    }
}
