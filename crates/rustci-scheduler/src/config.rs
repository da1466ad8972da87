//! Settings.

use std::time::Duration;

/// How patient the scheduler is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// A runner is lost when an attempt brings no message for this long. Default 15 s; a longer
    /// lease bears longer interruptions and delays the next attempt by as much.
    pub lease: Duration,
    /// How often a job is queued again because of something that was not its fault, beside its
    /// own `retry`. Default 3: a job that kills its runners must not do so for ever.
    pub requeues_max: u32,
    /// How long an attempt that was told to stop may take to end before it is fenced off.
    /// Default 60 s.
    pub stop_patience: Duration,
    /// How long a runner that refused a job gets none. Default 1 s.
    pub reject_rest: Duration,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            requeues_max: 3,
            stop_patience: Duration::from_secs(60),
            reject_rest: Duration::from_secs(1),
        }
    }
}
