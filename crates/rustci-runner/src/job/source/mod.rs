//! Puts the source of a run into the workspace.

mod git;
mod snapshot;

use std::io;
use std::path::Path;
use std::time::Instant;

use rustci_pipeline::v1;
use rustci_pipeline::v1::source::Kind;
use valkyrie_frame::LogChannel;

use super::directory::JobDirectory;
use super::environment::{self, Environment};
use super::message::Begin;
use super::supervisor::{JOB_STEP, RunError, Supervisor};
use snapshot::SnapshotError;

/// The workspace does not have its source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The archive is not one that a workspace may be made from.
    #[error("source archive: {0}")]
    Snapshot(#[from] SnapshotError),
    /// git said no; its own words are in the log.
    #[error("git: {0}")]
    Git(String),
    /// The job was stopped meanwhile.
    #[error("stopped while the source was being fetched")]
    Stopped,
    /// The runner's disk.
    #[error("workspace: {0}")]
    Io(#[from] io::Error),
}

impl From<RunError> for SourceError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Spawn(error) => Self::Git(format!("cannot be started: {error}")),
            RunError::Fatal(error) => Self::Io(error),
        }
    }
}

/// Fills the empty workspace. A job without a source, or that wants none, keeps it empty.
pub(crate) fn provide(
    dir: &JobDirectory,
    begin: &Begin,
    spec: &v1::JobSpec,
    env: &Environment,
    supervisor: &mut Supervisor,
) -> Result<(), SourceError> {
    let begun = Instant::now();
    let wanted = spec.source.as_ref().filter(|_| !spec.no_checkout);
    let text = match wanted.and_then(|source| source.kind.as_ref()) {
        None => return Ok(()),
        Some(Kind::Snapshot(_)) => {
            let archive = Path::new(&begin.archive);
            let unpacked = snapshot::unpack(archive, &dir.workspace(), || supervisor.goes_on())?;
            format!("source: {} files, {} bytes", unpacked.files, unpacked.bytes)
        }
        Some(Kind::Git(git)) => {
            let mut env = env.clone();
            environment::seal(&mut env, &begin.mark);
            git::fetch(git, &dir.workspace(), &env, supervisor)?;
            format!("source: commit {}", git.commit)
        }
    };
    let text = format!("{text}, in {} ms", begun.elapsed().as_millis());
    supervisor.log.say(JOB_STEP, LogChannel::SYSTEM, &text);
    Ok(())
}
