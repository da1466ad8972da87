//! What a seed stands for.

use std::{fmt, time::Duration};

use crate::rng::Rng;

/// The set-up of one simulation. Each seed switches a random subset of the faults on, so that some
/// runs look at one fault alone and others at what faults do to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The seed all of it follows from.
    pub seed: u64,
    /// Runners, at least one.
    pub runners: usize,
    /// Jobs that each runs at once.
    pub capacity: u32,
    /// Runs that are submitted while faults happen.
    pub runs: usize,
    /// How long faults happen.
    pub faulty: Duration,
    /// A lease of the scheduler.
    pub lease: Duration,
    /// The faults that happen.
    pub faults: Vec<Fault>,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The control plane is killed; its disk keeps what was written.
    KillServer,
    /// The control plane's machine loses power: any part of what was not synced is lost or torn.
    PowerLoss,
    /// A sync fails; the control plane stops, and what was not synced may be lost.
    FailSync,
    /// The disk is full; the control plane stops.
    FullDisk,
    /// Some syncs take very long.
    SlowSync,
    /// A runner is killed with its jobs; its spool stays.
    KillRunner,
    /// A process stands still for up to a minute.
    Pause,
    /// A second process of a runner starts beside the first.
    DoubleStart,
    /// A connection is lost, and both sides are told.
    CutConnection,
    /// A connection is lost, and at least one side is not told.
    HalfOpen,
    /// Some bytes take long, so that connections overtake each other.
    Delay,
    /// Bytes come in small pieces.
    SplitReads,
    /// Runners refuse some jobs.
    Reject,
    /// Runners cannot run some jobs to their end.
    FailAttempts,
    /// Jobs do not stop when they are told to.
    Stubborn,
    /// Somebody cancels runs.
    Cancel,
    /// Runners are drained, the queue is paused, and projects get quotas.
    Drain,
    /// Quotas of projects change, and runners that are away are forgotten.
    Operate,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::KillServer,
        Self::PowerLoss,
        Self::FailSync,
        Self::FullDisk,
        Self::SlowSync,
        Self::KillRunner,
        Self::Pause,
        Self::DoubleStart,
        Self::CutConnection,
        Self::HalfOpen,
        Self::Delay,
        Self::SplitReads,
        Self::Reject,
        Self::FailAttempts,
        Self::Stubborn,
        Self::Cancel,
        Self::Drain,
        Self::Operate,
    ];

    /// Whether it is an event of its own, and not a property of others.
    pub(crate) fn is_event(self) -> bool {
        !matches!(
            self,
            Self::SlowSync
                | Self::Delay
                | Self::SplitReads
                | Self::Reject
                | Self::FailAttempts
                | Self::Stubborn
        )
    }
}

impl Options {
    /// The options that belong to a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0b71_0e55);
        // Some seeds have no faults at all, and some have each with the same probability.
        let percent = rng.pick(&[0, 15, 40, 75, 100]).unwrap_or(0);
        let faults = Fault::ALL
            .into_iter()
            .filter(|_| rng.chance(percent))
            .collect();
        Self {
            seed,
            runners: 1 + rng.place(4),
            capacity: u32::try_from(rng.between(1, 4)).unwrap_or(1),
            runs: 2 + rng.place(12),
            faulty: Duration::from_secs(rng.between(30, 180)),
            lease: Duration::from_secs(rng.between(5, 15)),
            faults,
        }
    }

    /// Whether a fault happens.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} runners of {} jobs, {} runs, lease {:?}, faults for {:?}: {:?}",
            self.seed, self.runners, self.capacity, self.runs, self.lease, self.faulty, self.faults
        )
    }
}
