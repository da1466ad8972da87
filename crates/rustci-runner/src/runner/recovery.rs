//! What a runner finds of its earlier life.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tracing::{error, info, warn};

use super::attempt::{Attempt, Ended};
use super::error::RunnerError;
use super::log_source::LogSource;
use super::token::Token;
use crate::job::directory::JobDirectory;
use crate::log::SpoolReader;
use crate::process;

/// The state directory of a runner.
pub(crate) struct StateDir {
    root: PathBuf,
    /// Tells it from every other.
    pub(crate) id: [u8; 16],
}

/// Keeps other runners off a state directory while it lives; ends with this process at the latest.
pub(crate) struct Held {
    _lock: File,
}

/// Attempts of an earlier process.
#[derive(Default)]
pub(crate) struct Found {
    /// They have results that the server may not have.
    pub(crate) held: Vec<(Token, Attempt)>,
    /// They ended with that process. Their directories go once the server knows.
    pub(crate) lost: Vec<(Token, JobDirectory)>,
}

/// The id in a file, which gets one when it has none.
fn id(path: &Path) -> io::Result<[u8; 16]> {
    match fs::read(path) {
        Ok(bytes) => {
            if let Ok(id) = bytes.try_into() {
                return Ok(id);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    fs::write(path, id)?;
    Ok(id)
}

impl StateDir {
    /// Makes the directory if it is missing, and takes it.
    pub(crate) fn open(root: &Path) -> Result<(Self, Held), RunnerError> {
        let failed = |path: PathBuf| move |source| RunnerError::StateDir { path, source };
        for part in ["chunks", "jobs", "sources"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(failed(path))?;
        }
        let path = root.join("lock");
        let lock = File::create(&path).map_err(failed(path.clone()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            // Job processes get other paths from here; theirs are in the environment of steps.
            Ok(()) => {
                let root = fs::canonicalize(root).map_err(failed(root.to_owned()))?;
                let id = id(&root.join("id")).map_err(failed(root.join("id")))?;
                Ok((Self { root, id }, Held { _lock: lock }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(RunnerError::InUse {
                path: root.to_owned(),
            }),
            Err(error) => Err(failed(path)(error.into())),
        }
    }

    pub(crate) fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    pub(crate) fn chunks(&self) -> PathBuf {
        self.root.join("chunks")
    }

    pub(crate) fn sources(&self) -> PathBuf {
        self.root.join("sources")
    }

    /// Ends every process of earlier jobs and sorts what those jobs have left. Blocks meanwhile.
    pub(crate) fn recover(&self) -> Result<Found, RunnerError> {
        let jobs = self.jobs();
        let failed = |source| RunnerError::StateDir {
            path: jobs.clone(),
            source,
        };
        let mut found = Found::default();
        for entry in fs::read_dir(&jobs).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // One attempt that cannot be read keeps nobody from running others.
            if let Err(error) = sort(JobDirectory::new(path.clone()), &mut found) {
                error!(path = %path.display(), %error, "what is left of a job cannot be read");
            }
        }
        Ok(found)
    }
}

fn sort(dir: JobDirectory, found: &mut Found) -> io::Result<()> {
    let Some(identity) = dir.identity() else {
        // It died between making the directory and naming it: nothing had begun.
        return dir.remove();
    };
    let token = Token::from(identity.attempt.unwrap_or_default());
    match process::end_leftovers(&identity.mark, &dir.listed_processes()?) {
        Ok(0) => {}
        Ok(ended) => info!(attempt = %token, ended, "ended processes of an earlier runner"),
        Err(left) => error!(attempt = %token, ?left, "processes of a job cannot be ended"),
    }
    match dir.ending() {
        Ok(Some(ending)) => {
            let log = SpoolReader::open(&dir.log())?;
            let ended = Ended {
                ending,
                log_bytes: log.len()?,
            };
            let log = LogSource::Spool(log);
            found
                .held
                .push((token, Attempt::found(token, dir, ended, log)));
        }
        Ok(None) => lose(token, dir, found),
        Err(error) => {
            warn!(attempt = %token, %error, "its result cannot be read; it counts as lost");
            lose(token, dir, found);
        }
    }
    Ok(())
}

/// What a lost attempt worked with takes room that others may need at once.
fn lose(token: Token, dir: JobDirectory, found: &mut Found) {
    if let Err(error) = dir.remove_files() {
        warn!(attempt = %token, %error, "the files of a lost job cannot be removed");
    }
    found.lost.push((token, dir));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::message::{Ending, Identity};
    use std::process::Command;
    use valkyrie::v2;

    fn job(state: &StateDir, number: u32) -> JobDirectory {
        let dir = JobDirectory::new(state.jobs().join(number.to_string()));
        let attempt = Some(v2::Attempt {
            job: 1,
            number,
            fence: 1,
        });
        let mark = format!("recovery-{number}-{}", std::process::id());
        dir.create(&Identity { attempt, mark }).unwrap();
        fs::write(dir.log(), "").unwrap();
        dir
    }

    #[test]
    fn a_directory_has_one_runner() {
        let root = tempfile::tempdir().unwrap();
        let first = StateDir::open(root.path()).unwrap();
        assert!(matches!(
            StateDir::open(root.path()),
            Err(RunnerError::InUse { .. })
        ));
        drop(first);
        StateDir::open(root.path()).unwrap();
    }

    #[test]
    fn a_removal_that_was_cut_short_is_finished() {
        let root = tempfile::tempdir().unwrap();
        let (state, _held) = StateDir::open(root.path()).unwrap();
        let dir = job(&state, 1);
        dir.write_ending(&Ending::failed("source", String::new()))
            .unwrap();
        fs::remove_file(dir.path().join("attempt")).unwrap();
        let found = state.recover().unwrap();
        assert!(found.held.is_empty() && found.lost.is_empty());
        assert!(!dir.path().exists());
    }

    #[test]
    fn an_attempt_that_cannot_be_read_does_not_keep_the_runner_from_starting() {
        let root = tempfile::tempdir().unwrap();
        let (state, _held) = StateDir::open(root.path()).unwrap();
        let dir = job(&state, 1);
        dir.write_ending(&Ending::failed("source", String::new()))
            .unwrap();
        fs::remove_file(dir.log()).unwrap();
        assert!(state.recover().unwrap().held.is_empty());
    }

    #[test]
    fn results_are_kept_and_the_rest_is_ended_and_lost() {
        let root = tempfile::tempdir().unwrap();
        let (state, _held) = StateDir::open(root.path()).unwrap();
        let finished = job(&state, 1);
        finished
            .write_ending(&Ending::failed("source", String::new()))
            .unwrap();
        let unfinished = job(&state, 2);
        fs::create_dir(state.jobs().join("unnamed")).unwrap();
        let mark = unfinished.identity().unwrap().mark;
        let mut orphan = Command::new("sleep")
            .arg("60")
            .env(process::MARK, &mark)
            .spawn()
            .unwrap();
        let found = state.recover().unwrap();
        assert!(!orphan.wait().unwrap().success());
        assert_eq!(found.held.len(), 1);
        assert_eq!(found.lost.len(), 1);
        assert!(!state.jobs().join("unnamed").exists());
        assert!(finished.path().exists() && unfinished.path().exists());
    }
}
