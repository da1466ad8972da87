//! The directory of one attempt, and which file in it means what.
//!
//! ```text
//! attempt     whose directory it is: attempt, fencing number, mark
//! log         the spool
//! result      how it ended; there only when it ended, and only whole
//! errors      what the job process itself had to say, normally nothing
//! processes   the processes of the job, for whoever cleans up after a kill -9
//! workspace/  where the steps run        scripts/  the steps as files, and their outputs
//! home/ tmp/  HOME and TMPDIR of the steps       blobs/    what leaves the job, by digest
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use prost::Message;

use super::message::{Ending, Identity};
use crate::process::{self, Process};

/// One attempt's directory.
#[derive(Clone, Debug)]
pub(crate) struct JobDirectory {
    root: PathBuf,
}

impl JobDirectory {
    /// Names a directory, which need not exist.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes it, for its owner alone, and notes whose it is.
    pub(crate) fn create(&self, identity: &Identity) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.root)?;
        fs::write(self.root.join("attempt"), identity.encode_to_vec())
    }

    /// Makes what the steps need. The workspace is always fresh: it must not exist.
    pub(crate) fn create_workspace(&self) -> io::Result<()> {
        for part in [
            self.workspace(),
            self.home(),
            self.temporary(),
            self.scripts(),
            self.blobs(),
        ] {
            DirBuilder::new().mode(0o700).create(part)?;
        }
        Ok(())
    }

    /// Whose directory it is; `None` when that was never written or makes no sense.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let bytes = fs::read(self.root.join("attempt")).ok()?;
        Identity::decode(bytes.as_slice())
            .ok()
            .filter(|identity| identity.attempt.is_some())
    }

    /// How the attempt ended, if it did.
    pub(crate) fn ending(&self) -> io::Result<Option<Ending>> {
        match fs::read(self.root.join("result")) {
            Ok(bytes) => Ok(Some(
                Ending::decode(bytes.as_slice()).map_err(io::Error::other)?,
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores how the attempt ended. The log has to be on disk already: whoever finds a result takes
    /// the log for complete.
    ///
    /// The directory itself is not synced: when power fails now, the result is there whole or the
    /// attempt counts as lost and runs again, which is right both times.
    pub(crate) fn write_ending(&self, ending: &Ending) -> io::Result<()> {
        let new = self.root.join("result.new");
        let mut file = File::create(&new)?;
        file.write_all(&ending.encode_to_vec())?;
        file.sync_all()?;
        fs::rename(new, self.root.join("result"))
    }

    /// The processes the job had when it was last looked at.
    pub(crate) fn listed_processes(&self) -> io::Result<Vec<Process>> {
        process::read_list(&self.processes())
    }

    /// Moves the workspace into `kept`, under `<job>.<attempt>`. One that was never made is no
    /// error.
    pub(crate) fn move_workspace(&self, kept: &Path) -> io::Result<()> {
        let Some(attempt) = self.identity().and_then(|identity| identity.attempt) else {
            return Ok(());
        };
        let name = format!("{}.{}", attempt.job, attempt.number);
        DirBuilder::new().recursive(true).mode(0o700).create(kept)?;
        match fs::rename(self.workspace(), kept.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Deletes everything, also directories that the job made read-only. Its identity goes first:
    /// what is left when this is cut short is rubbish, never an attempt without its log.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(self.root.join("attempt")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => remove_tree(&self.root),
        }
    }

    /// Deletes what only steps need, and keeps what says whose it is and what it came to.
    pub(crate) fn remove_files(&self) -> io::Result<()> {
        let parts = [
            self.workspace(),
            self.home(),
            self.temporary(),
            self.blobs(),
        ];
        parts.iter().try_for_each(|part| match remove_tree(part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn errors(&self) -> PathBuf {
        self.root.join("errors")
    }

    pub(crate) fn processes(&self) -> PathBuf {
        self.root.join("processes")
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.root.join("workspace")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Values that steps want masked.
    pub(crate) fn mask(&self) -> PathBuf {
        self.scripts().join("mask")
    }

    pub(crate) fn scripts(&self) -> PathBuf {
        self.root.join("scripts")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }
}

fn remove_tree(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_removable(root)?;
            fs::remove_dir_all(root)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_removable(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // The type of the entry itself: a link to a directory is not followed.
        if entry.file_type()?.is_dir() {
            make_removable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use valkyrie_frame::v2;

    fn identity() -> Identity {
        let attempt = v2::Attempt {
            job: 1,
            number: 2,
            fence: 3,
        };
        Identity {
            attempt: Some(attempt),
            mark: "m".to_owned(),
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let parent = tempfile::tempdir().unwrap();
        let dir = JobDirectory::new(parent.path().join("1.2"));
        assert!(dir.identity().is_none());
        dir.create(&identity()).unwrap();
        assert_eq!(dir.identity(), Some(identity()));
        assert_eq!(dir.ending().unwrap(), None);
        let ending = Ending::failed("source", "no such commit".to_owned());
        dir.write_ending(&ending).unwrap();
        assert_eq!(dir.ending().unwrap(), Some(ending));
        assert!(
            dir.create(&identity()).is_err(),
            "a directory is never used twice"
        );
    }

    #[test]
    fn a_workspace_is_kept_under_the_name_of_its_attempt() {
        let parent = tempfile::tempdir().unwrap();
        let dir = JobDirectory::new(parent.path().join("random"));
        let kept = parent.path().join("kept");
        dir.create(&identity()).unwrap();
        dir.move_workspace(&kept).unwrap();
        dir.create_workspace().unwrap();
        fs::write(dir.workspace().join("made"), "x").unwrap();
        dir.move_workspace(&kept).unwrap();
        dir.remove().unwrap();
        assert_eq!(fs::read_to_string(kept.join("1.2/made")).unwrap(), "x");
    }

    #[test]
    fn read_only_directories_are_removed_and_links_are_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let outside = parent.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let dir = JobDirectory::new(parent.path().join("1.1"));
        dir.create(&identity()).unwrap();
        dir.create_workspace().unwrap();
        fs::create_dir(dir.workspace().join("locked")).unwrap();
        fs::write(dir.workspace().join("locked/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, dir.workspace().join("link")).unwrap();
        fs::set_permissions(
            dir.workspace().join("locked"),
            fs::Permissions::from_mode(0o555),
        )
        .unwrap();
        dir.remove().unwrap();
        assert!(!dir.path().exists() && outside.exists());
        dir.remove().unwrap();
    }
}
