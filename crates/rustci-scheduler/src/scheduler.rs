//! The state machine as its caller sees it.

use prost::Message;
use valkyrie_frame::Time;

use crate::{
    Command, JobId, KnownRunner, Now, Output, Refused, ReplayError, Reply, Run, RunId, RunnerId,
    SchedulerConfig,
    decide::Turn,
    pool::{Leases, ParallelLimits, Pool},
    record::Record,
    state::{Change, Job, State},
};

/// Queue, leases and placement of all runs.
///
/// A new one, or one made with [`restore`](Self::restore), first gets every record of the journal
/// with [`replay`](Self::replay), then one call of [`resume`](Self::resume), then any number of
/// [`handle`](Self::handle). It never waits, reads no clock, and decides the same for the same
/// calls.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: SchedulerConfig,
    pub(crate) state: State,
    pub(crate) pool: Pool,
    pub(crate) limits: ParallelLimits,
    pub(crate) leases: Leases,
    /// What the records of the current command did and nobody has looked at.
    pub(crate) changes: Vec<Change>,
}

impl Scheduler {
    /// A scheduler without runs.
    #[must_use]
    pub fn new(config: SchedulerConfig) -> Self {
        Self::with_state(config, State::default())
    }

    /// A scheduler in the state that [`snapshot`](Self::snapshot) stored.
    ///
    /// # Errors
    /// [`ReplayError`] when the bytes are no snapshot of this program.
    pub fn restore(config: SchedulerConfig, snapshot: &[u8]) -> Result<Self, ReplayError> {
        Ok(Self::with_state(config, State::from_bytes(snapshot)?))
    }

    fn with_state(config: SchedulerConfig, state: State) -> Self {
        Self {
            config,
            state,
            pool: Pool::default(),
            limits: ParallelLimits::default(),
            leases: Leases::default(),
            changes: Vec::new(),
        }
    }

    /// Applies a record of the journal.
    ///
    /// # Errors
    /// [`ReplayError`] when it does not fit; the scheduler must not be used any more then.
    pub fn replay(&mut self, record: &Record) -> Result<(), ReplayError> {
        self.changes.clear();
        self.state.apply(record, &mut self.changes)
    }

    /// Applies a record of the journal from its bytes.
    ///
    /// # Errors
    /// As [`replay`](Self::replay).
    pub fn replay_bytes(&mut self, record: &[u8]) -> Result<(), ReplayError> {
        self.replay(&Record::decode(record)?)
    }

    /// Takes up work after the last replay: arms every lease anew, fills the queue, and decides
    /// what a crash left undecided. No runner is connected yet.
    pub fn resume(&mut self, now: Now, out: &mut Output) {
        self.changes.clear();
        Turn::new(self, now, out).resume();
    }

    /// Takes one command.
    ///
    /// The state has changed when this returns, but the world must not hear of it before the
    /// records of `out` are durable.
    ///
    /// # Errors
    /// [`Refused`] says why nothing changed. Messages of runners are refused when their token is
    /// not that of the job's current lease.
    pub fn handle(
        &mut self,
        now: Now,
        command: Command,
        out: &mut Output,
    ) -> Result<Reply, Refused> {
        Turn::new(self, now, out).handle(command)
    }

    /// When [`Command::Tick`] is due at the latest; `None` while nothing has a deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.leases.next_deadline()
    }

    /// The durable state as bytes. The same state gives the same bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        self.state.to_bytes()
    }

    /// A number that is equal for equal durable states. For comparing a replay with the original.
    #[must_use]
    pub fn digest(&self) -> u64 {
        // FNV-1a: not against attackers, and cheap enough to compare often.
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.snapshot().iter().fold(0xcbf2_9ce4_8422_2325, fold)
    }

    /// A run that has not been forgotten.
    #[must_use]
    pub fn run(&self, run: RunId) -> Option<&Run> {
        self.state.run(run)
    }

    /// All runs that have not been forgotten, the oldest first.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.state.runs()
    }

    /// A job with its run and its place in the plan.
    #[must_use]
    pub fn job(&self, job: JobId) -> Option<(&Run, usize, &Job)> {
        self.state.job(job)
    }

    /// A runner that has registered once and was not forgotten.
    #[must_use]
    pub fn known_runner(&self, runner: RunnerId) -> Option<&KnownRunner> {
        self.state.runner(runner)
    }

    /// All runners that have ever registered.
    pub fn known_runners(&self) -> impl Iterator<Item = &KnownRunner> {
        self.state.runners()
    }

    /// Jobs that wait for a runner, those behind a `max-parallel` not counted.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.pool.queued()
    }

    /// The documents of one kind, by key; see [`Command::SetDocument`].
    pub fn documents(&self, kind: &str) -> impl Iterator<Item = (&str, &[u8])> {
        self.state.documents.of(kind)
    }

    /// Whether the queue is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state.paused
    }
}
