//! The log store: one file per attempt, holding the runner's records byte for byte.
//!
//! A single thread owns all files. It takes what the engine handed over since its last turn, writes
//! it, syncs each file that changed, and only then tells the engine and the readers how far each log
//! is durable. The next turn starts when the last one ends, so the batch grows with the load and no
//! timer is needed.

mod chain;
mod check;
mod file;
mod follow;
mod reader;
mod record;
mod store;

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use check::check_log;
pub use file::AppendError;
pub use follow::LogFollower;
pub use reader::{LogReader, ReadError, ReadLine};
pub use store::{LogEvents, LogProgress, LogStore, LogTail, Logs};

/// Names the log of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogKey {
    /// The run.
    pub run: u64,
    /// The job.
    pub job: u64,
    /// The attempt, from 1.
    pub attempt: u32,
}

impl LogKey {
    /// Where this log lies under the directory of all logs.
    #[must_use]
    pub fn path(&self, logs: &Path) -> PathBuf {
        logs.join(self.run.to_string())
            .join(format!("{}.{}.log", self.job, self.attempt))
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.run, self.job, self.attempt)
    }
}

/// Where the sidecar of the log at `path` lies.
pub(crate) fn chain_path(path: &Path) -> PathBuf {
    path.with_extension("log.chain")
}
