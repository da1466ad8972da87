//! Replacing a small file so that a crash leaves the old one or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Gives `path` this content and mode 0600; durable when it returns.
///
/// # Errors
/// The file system's; the old content is untouched then, and nothing is left beside it.
pub(crate) fn replace_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let done = write_private(&part, content).and_then(|()| fs::rename(&part, path));
    if let Err(error) = done {
        // It may never have been made.
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    sync_parent(path)
}

/// Makes the name of `path` durable.
///
/// # Errors
/// The file system's.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
