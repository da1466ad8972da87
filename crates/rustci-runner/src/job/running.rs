//! A command that is running, and how it comes to its end.

use std::time::Instant;

use rustix::process::{Pid, WaitStatus};

/// Why the job ends before its steps do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// Somebody cancelled it.
    Canceled,
    /// Its time is up.
    TimedOut,
    /// The runner is gone; there is nobody to report to.
    RunnerGone,
}

/// That the job has to end.
#[derive(Clone, Copy)]
pub(super) struct Stop {
    pub(super) cause: StopCause,
    /// From here on nobody is asked politely.
    pub(super) hard_at: Instant,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Why it was told to end, if it was.
    pub(crate) cut: Option<Cut>,
}

/// Why a command was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Its own time limit.
    OwnLimit,
    /// The job has to end.
    JobStopped,
}

/// What the kernel said about a process that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    Code(i32),
    Signal(i32),
}

/// The command that is running now.
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) limit: Option<Instant>,
    pub(super) cut: Option<Cut>,
    pub(super) phase: Phase,
}

/// How far the end of a running command has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    /// Asked to end; killed at that time.
    Asked(Instant),
    Killed,
}

impl Running {
    /// When something about it is due.
    pub(super) fn next_deadline(&self, stop: Option<Stop>) -> Option<Instant> {
        match self.phase {
            Phase::Free => self.limit,
            Phase::Asked(kill_at) => Some(stop.map_or(kill_at, |stop| kill_at.min(stop.hard_at))),
            Phase::Killed => None,
        }
    }
}

/// How the kernel says that a process ended.
pub(super) fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let code = status.exit_status().map(ExitStatus::Code);
    code.or_else(|| status.terminating_signal().map(ExitStatus::Signal))
}
