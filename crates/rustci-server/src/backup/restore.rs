//! Making a data directory of a backup: all of it or nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use journal::Index;
use rustci_scheduler::{Scheduler, SchedulerConfig};

use crate::backup::read::{Sink, read};
use crate::backup::{BackupError, CATALOGUE, FileEntry, Manifest, STATE, state_digest};
use crate::catalogue::Catalogue;
use crate::durable::sync_parent;
use crate::paths::Layout;

/// Makes the data directory `dir`, which must be missing or empty, of the backup in `path`.
///
/// Everything is written and checked under another name beside it first; it gets its own name when
/// it is whole and durable. After an error nothing is left.
///
/// # Errors
/// [`BackupError`].
pub fn restore(path: &Path, dir: &Path) -> Result<Manifest, BackupError> {
    check_is_free(dir)?;
    let dir = std::path::absolute(dir).map_err(BackupError::io("find", dir))?;
    let building = Building::begin(&dir)?;
    let manifest = read(path, |entry| building.create(entry))?;
    building.check(&manifest)?;
    building.finish(&dir)?;
    Ok(manifest)
}

fn check_is_free(dir: &Path) -> Result<(), BackupError> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(BackupError::io("look into", dir)(error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(BackupError::NotEmpty {
                dir: dir.to_owned(),
            }),
        },
    }
}

/// A data directory that is being made; removed when it is dropped before its end.
struct Building(PathBuf);

impl Building {
    fn begin(dir: &Path) -> Result<Self, BackupError> {
        let parent = dir.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(BackupError::io("create", parent))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let place = parent.join(format!(".{name}.restoring-{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&place);
        made.map_err(BackupError::io("create", &place))?;
        Ok(Self(place))
    }

    /// The file of an entry, whose path was found to be one that backups have.
    fn create(&self, entry: &FileEntry) -> Result<Box<dyn Sink>, BackupError> {
        let path = self.0.join(&entry.path);
        let dir = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(dir).map_err(BackupError::io("create", dir))?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(BackupError::io("create", &path))?;
        Ok(Box::new(file))
    }

    /// Turns the state into a journal, and checks that state and catalogue are those of the
    /// manifest and can be taken up.
    fn check(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let path = self.0.join(STATE);
        let state = fs::read(&path).map_err(BackupError::io("read", &path))?;
        if state_digest(&state) != manifest.state_digest {
            return Err(BackupError::Damaged(
                "its state is another one than it says".to_owned(),
            ));
        }
        Scheduler::restore(SchedulerConfig::default(), &state)
            .map_err(|error| BackupError::State(error.to_string()))?;
        let catalogue = Catalogue::open_copy(&self.0.join(CATALOGUE))?;
        let applied = catalogue.applied()?;
        let digest = blake3::Hash::from_bytes(catalogue.digest()?).to_hex();
        if applied != manifest.index || digest.as_str() != manifest.catalogue_digest {
            return Err(BackupError::Damaged(
                "its catalogue is another one than it says".to_owned(),
            ));
        }
        let journal = Layout(&self.0).journal();
        journal::seed(&journal, Index::new(manifest.index), &state)?;
        fs::remove_file(&path).map_err(BackupError::io("remove", &path))
    }

    /// Gives it its name.
    fn finish(self, dir: &Path) -> Result<(), BackupError> {
        sync_dirs(&self.0)?;
        // Replaces an empty directory, and nothing else.
        fs::rename(&self.0, dir).map_err(BackupError::io("rename", dir))?;
        sync_parent(dir).map_err(BackupError::io("sync", dir))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // After the rename there is nothing left under this name.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes the names of all files below `dir` durable.
fn sync_dirs(dir: &Path) -> Result<(), BackupError> {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let synced = File::open(&dir).and_then(|dir| dir.sync_all());
        synced.map_err(BackupError::io("sync", &dir))?;
        let entries = fs::read_dir(&dir).map_err(BackupError::io("list", &dir))?;
        let dirs = entries.flatten().filter(|entry| entry.path().is_dir());
        open.extend(dirs.map(|entry| entry.path()));
    }
    Ok(())
}
