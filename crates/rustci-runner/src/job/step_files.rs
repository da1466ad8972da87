//! The files through which a step says more than its exit code.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::directory::JobDirectory;

/// The files of one try of a step. A try begins with empty ones.
pub(crate) struct StepFiles {
    /// Outputs: `$CI_OUTPUT`.
    pub(crate) output: PathBuf,
    /// Markdown for people: `$CI_STEP_SUMMARY`.
    pub(crate) summary: PathBuf,
    /// Environment of later steps: `$CI_ENV`.
    pub(crate) env: PathBuf,
    /// Directories for the `PATH` of later steps: `$CI_PATH`.
    pub(crate) path: PathBuf,
    /// Values to be masked, one file for all steps: `$CI_MASK`.
    mask: PathBuf,
}

impl StepFiles {
    /// Names the files of try `number` of the step at `index`.
    pub(crate) fn new(dir: &JobDirectory, index: u16, number: u32) -> Self {
        let named = |ending| dir.scripts().join(format!("{index}.{number}.{ending}"));
        Self {
            output: named("output"),
            summary: named("summary"),
            env: named("env"),
            path: named("path"),
            mask: dir.mask(),
        }
    }

    /// Makes them.
    pub(crate) fn create(&self) -> io::Result<()> {
        [&self.output, &self.summary, &self.env, &self.path]
            .into_iter()
            .try_for_each(|file| fs::write(file, ""))
    }

    /// How the step finds them.
    pub(crate) fn facts(&self) -> [(&'static str, String); 6] {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("CI_OUTPUT", text(&self.output)),
            ("RUSTCI_OUTPUT", text(&self.output)),
            ("CI_STEP_SUMMARY", text(&self.summary)),
            ("CI_ENV", text(&self.env)),
            ("CI_PATH", text(&self.path)),
            ("CI_MASK", text(&self.mask)),
        ]
    }
}

/// Reads a file that belongs to the job, up to one byte over `max`. One that was deleted is empty.
pub(crate) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file of the job. What the job made into something else than a file is refused: reading a
/// pipe or a device may never end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a file any more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_read_and_no_more_than_was_asked_for() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        fs::write(path("file"), "123456").unwrap();
        assert_eq!(read(&path("file"), 10).unwrap(), b"123456");
        assert_eq!(read(&path("file"), 3).unwrap(), b"1234");
        assert_eq!(read(&path("missing"), 3).unwrap(), b"");
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        assert!(read(&path("link"), 3).is_err() && read(parent.path(), 3).is_err());
        let made = std::process::Command::new("mkfifo")
            .arg(path("fifo"))
            .status();
        assert!(made.unwrap().success());
        assert!(read(&path("fifo"), 3).is_err());
    }
}
