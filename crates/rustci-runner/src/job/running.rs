//! A command that is running, and how it comes to its end.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitStatus, kill_process_group};

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

/// A command that is running. It leads a process group of its own, so that it can be ended with
/// what it started and without what runs beside it.
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) step: u16,
    limit: Option<Instant>,
    cut: Option<Cut>,
    phase: Phase,
    /// How it ended, from the moment it was reaped.
    pub(super) status: Option<ExitStatus>,
}

/// How far the end of a running command has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Free,
    /// Asked to end; killed at that time.
    Asked(Instant),
    Killed,
}

impl Running {
    /// A command that was started just now. What begins after the stop is there to clean up: it may
    /// use the rest of the grace.
    pub(super) fn new(pid: Pid, step: u16, limit: Option<Instant>, stop: Option<Stop>) -> Self {
        Self {
            pid,
            step,
            limit,
            cut: None,
            phase: stop.map_or(Phase::Free, |stop| Phase::Asked(stop.hard_at)),
            status: None,
        }
    }

    /// When something about it is due.
    pub(super) fn next_deadline(&self, stop: Option<Stop>) -> Option<Instant> {
        match self.phase {
            Phase::Free => self.limit,
            Phase::Asked(kill_at) => Some(stop.map_or(kill_at, |stop| kill_at.min(stop.hard_at))),
            Phase::Killed => None,
        }
    }

    /// Moves its end on when a deadline has passed. `grace` is what a command over its own limit gets.
    pub(super) fn enforce(&mut self, now: Instant, stop: Option<Stop>, grace: Duration) {
        if self.phase == Phase::Free
            && let Some((cut, kill_at)) = self.cut(now, stop, grace)
        {
            // An error means that it ended just now.
            let _ = kill_process_group(self.pid, Signal::TERM);
            self.cut = Some(cut);
            self.phase = Phase::Asked(kill_at);
        }
        let out_of_grace = stop.is_some_and(|stop| stop.hard_at <= now);
        if let Phase::Asked(kill_at) = self.phase
            && (kill_at <= now || out_of_grace)
        {
            let _ = kill_process_group(self.pid, Signal::KILL);
            self.cut.get_or_insert(Cut::JobStopped);
            self.phase = Phase::Killed;
        }
    }

    /// Whether it has to end now, and when it is killed.
    fn cut(&self, now: Instant, stop: Option<Stop>, grace: Duration) -> Option<(Cut, Instant)> {
        if let Some(stop) = stop {
            return Some((Cut::JobStopped, stop.hard_at));
        }
        let over = self.limit.is_some_and(|limit| limit <= now);
        over.then(|| (Cut::OwnLimit, now + grace))
    }

    /// How it ended; the rest of its process group is ended with it if it was asked to end.
    pub(super) fn end(&self, status: ExitStatus) -> Ended {
        if self.phase != Phase::Free {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        Ended {
            status,
            cut: self.cut,
        }
    }
}

/// How the kernel says that a process ended.
pub(super) fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let code = status.exit_status().map(ExitStatus::Code);
    code.or_else(|| status.terminating_signal().map(ExitStatus::Signal))
}
