//! Names of things. All are given out by the state machine, in sequence from 1.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A run of a pipeline.
    RunId
}
id! {
    /// A job of a run. Ids grow with submission and, inside a run, in the plan's order, so their
    /// order is the order of the queue.
    JobId
}
id! {
    /// A runner, by its name: it keeps the id when it comes back.
    RunnerId
}
id! {
    /// A fencing number. Strictly grows over all leases.
    Fence
}

/// Names one lease of one job; every message about the attempt carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptToken {
    /// The job.
    pub job: JobId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The lease's fencing number.
    pub fence: Fence,
}

impl fmt::Display for AttemptToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "job {} attempt {} fence {}",
            self.job, self.attempt, self.fence
        )
    }
}

/// A reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: what deadlines are measured with.
    pub time: valkyrie_frame::Time,
    /// Civil: what is recorded.
    pub wall: valkyrie_frame::WallTime,
}
