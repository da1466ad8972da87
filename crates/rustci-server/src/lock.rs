//! The lock that gives a data directory to one process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why a data directory could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error("data directory {} is in use by process {holder}; stop it, or use another --data-dir", dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Process id of the holder, `unknown` in the moment before it wrote it down.
        holder: String,
    },
    /// The file system refused.
    #[error("data directory {} cannot be locked: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An exclusive lock on a data directory, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the lock and writes this process's id into it. The directory has to exist.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            dir: dir.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(dir.join("lock")).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(dir, &mut file)),
            Err(error) => return Err(io(error.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

fn held(dir: &Path, file: &mut File) -> LockError {
    let mut holder = String::new();
    // Not being able to name the holder must not hide that there is one.
    let _ = file.take(20).read_to_string(&mut holder);
    let holder = match holder.trim() {
        "" => "unknown".to_owned(),
        id => id.to_owned(),
    };
    LockError::Held {
        dir: dir.to_owned(),
        holder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DataLock::take(dir.path()).unwrap();
        let error = DataLock::take(dir.path()).unwrap_err();
        let id = std::process::id().to_string();
        assert!(matches!(&error, LockError::Held { holder, .. } if *holder == id));
        drop(lock);
        DataLock::take(dir.path()).unwrap();
    }
}
