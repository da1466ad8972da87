//! Which processes a job has, for whoever cleans up after a kill -9.

use std::io;
use std::time::Instant;

use crate::limits::PROCESS_LIST_INTERVAL;
use crate::process::{self, Process};

/// The processes of the job, in a file for whoever cleans up after a kill -9.
pub(crate) struct ProcessList {
    path: std::path::PathBuf,
    written: Vec<Process>,
    pub(super) due: Instant,
}

impl ProcessList {
    /// A list that is written to `path`.
    pub(crate) fn new(path: std::path::PathBuf) -> Self {
        Self {
            path,
            written: Vec::new(),
            due: Instant::now(),
        }
    }

    pub(super) fn update_if_due(&mut self, now: Instant) -> io::Result<()> {
        if self.due <= now {
            self.update(now)
        } else {
            Ok(())
        }
    }

    pub(super) fn update(&mut self, now: Instant) -> io::Result<()> {
        self.due = now + PROCESS_LIST_INTERVAL;
        let mut processes: Vec<Process> = Process::find(own_pid()).into_iter().collect();
        processes.extend(process::descendants(own_pid()));
        if processes != self.written {
            process::write_list(&self.path, &processes)?;
            self.written = processes;
        }
        Ok(())
    }
}

/// The job process itself.
pub(super) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
