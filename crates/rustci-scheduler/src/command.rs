//! What goes into the scheduler and what comes out.

use std::sync::Arc;

use crate::{
    AttemptToken, JobId, Quota, RunId, RunnerId, StoredPlan, Verdict,
    record::{Cause, Conclusion, NamedText, Record, RunMeta, StopReason},
};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Command {
    /// Somebody wants a run. Answered with [`Reply::Run`].
    Submit {
        /// What to run.
        plan: Arc<StoredPlan>,
        /// What it was started with.
        meta: RunMeta,
    },
    /// Somebody wants a run to stop. Queued jobs end at once, running ones are told to.
    CancelRun {
        /// The run.
        run: RunId,
        /// Why, for people.
        reason: String,
    },
    /// The catalogue holds a finished run for good; the scheduler drops it.
    ForgetRun {
        /// The run.
        run: RunId,
    },
    /// Somebody answers the question whether a job may run. Refused when it does not ask (any
    /// more): the first answer holds.
    Answer {
        /// The job's run.
        run: RunId,
        /// The job.
        job: JobId,
        /// The answer.
        verdict: Verdict,
        /// Who gives it, as they call themselves.
        by: String,
        /// What they say.
        comment: String,
    },
    /// A runner is connected; a connection it had before is void. Answered with
    /// [`Reply::Runner`].
    RunnerUp(RunnerUp),
    /// A runner's connection is gone. Its leases run on: it may come back in time.
    RunnerDown {
        /// The runner.
        runner: RunnerId,
    },
    /// A runner takes no new jobs on this connection; its next [`RunnerUp`] changes that.
    RunnerLeaving {
        /// The runner.
        runner: RunnerId,
    },
    /// Whether a runner gets new jobs. Lasts over restarts.
    RunnerDrain {
        /// The runner.
        runner: RunnerId,
        /// The new setting.
        drain: Drain,
    },
    /// A runner is gone for good; its name is free. Refused while it is connected or has jobs.
    ForgetRunner {
        /// The runner.
        runner: RunnerId,
    },
    /// Whether any job is handed out. Lasts over restarts.
    Pause(Pause),
    /// What a project may have. Lasts over restarts.
    SetQuota {
        /// The project; empty for the default of all others.
        project: String,
        /// The new quota in place of the old one; without any figure it is removed.
        quota: Quota,
    },
    /// `JOB_ACCEPT`: the runner prepares the attempt.
    Accepted {
        /// Who says so.
        runner: RunnerId,
        /// About which lease.
        token: AttemptToken,
    },
    /// `JOB_REJECT`: the runner does not take the attempt.
    Rejected {
        /// Who says so.
        runner: RunnerId,
        /// About which lease.
        token: AttemptToken,
        /// Why, for people.
        reason: String,
    },
    /// `JOB_START`: the first step is about to run.
    Started {
        /// Who says so.
        runner: RunnerId,
        /// About which lease.
        token: AttemptToken,
    },
    /// Any other message of the attempt: the lease is renewed.
    Renew {
        /// Who says so.
        runner: RunnerId,
        /// About which lease.
        token: AttemptToken,
    },
    /// `JOB_COMPLETE`: the attempt ran to its end, well or badly.
    Finished {
        /// Who says so.
        runner: RunnerId,
        /// About which lease.
        token: AttemptToken,
        /// How it ended.
        result: AttemptResult,
    },
    /// `JOB_FAILED`: the attempt could not be run to its end.
    Failed {
        /// Who says so.
        runner: RunnerId,
        /// About which lease.
        token: AttemptToken,
        /// Why; see [`cause_from_wire`].
        cause: Cause,
        /// One line for people.
        message: String,
        /// Length of the attempt's log.
        log_bytes: u64,
    },
    /// The control plane keeps something that the scheduler does not look into. Replaces what had
    /// the same kind and key. Lasts over restarts.
    SetDocument {
        /// What sort of thing; [`Scheduler::documents`](crate::Scheduler::documents) lists by it.
        kind: String,
        /// Its name among those of its kind.
        key: String,
        /// The new value; `None` removes it.
        value: Option<Vec<u8>>,
    },
    /// Time has passed; see [`Scheduler::next_deadline`](crate::Scheduler::next_deadline).
    Tick,
}

/// A runner's registration.
#[derive(Debug, Clone)]
pub struct RunnerUp {
    /// Its unique name.
    pub name: String,
    /// What it offers: `os=linux`, plain words.
    pub labels: Vec<String>,
    /// Jobs it runs at once; 0 counts as 1.
    pub capacity: u32,
    /// `native`, `dummy`.
    pub executors: Vec<String>,
    /// Attempts it still runs or has results of: all of them, so what it does not name is lost.
    pub held: Vec<AttemptToken>,
    /// Attempts that an earlier process of it lost.
    pub lost: Vec<AttemptToken>,
}

/// Whether a runner gets new jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// It ends what it has and gets nothing new.
    On,
    /// It gets jobs.
    Off,
}

/// Whether any job is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// No job is handed out; running ones go on.
    On,
    /// Jobs are handed out.
    Off,
}

/// How an attempt that ran to its end did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttemptResult {
    /// [`Conclusion::Success`], `Failure`, `Error`, `Killed`, `Canceled` or `TimedOut`.
    pub outcome: Conclusion,
    /// Outputs for the jobs that need this one.
    pub outputs: Vec<NamedText>,
    /// Code of the step that decided, where one did; for `retry` on exit codes.
    pub exit_code: Option<i32>,
    /// One line for people.
    pub message: String,
    /// Length of the attempt's log.
    pub log_bytes: u64,
    /// Kept in the record, opaque to the scheduler.
    pub detail: Vec<u8>,
}

/// The cause a `JOB_FAILED` names. Names that are not known are [`Cause::RunnerError`].
#[must_use]
pub fn cause_from_wire(name: &str) -> Cause {
    match name {
        "runner_lost" => Cause::RunnerLost,
        "runner_restarted" => Cause::RunnerRestarted,
        "rejected" => Cause::Rejected,
        "workspace" => Cause::Workspace,
        "source" => Cause::Source,
        "image_pull" => Cause::ImagePull,
        "timeout" => Cause::Timeout,
        "canceled" => Cause::Canceled,
        _ => Cause::RunnerError,
    }
}

/// What a command caused.
///
/// The caller journals `records` in their order and releases `effects` once they are durable.
/// Both only grow: a caller clears them when it has taken them over.
#[derive(Debug, Default)]
pub struct Output {
    /// Changes of the durable state; already applied to the scheduler.
    pub records: Vec<Record>,
    /// What others have to be told.
    pub effects: Vec<Effect>,
}

impl Output {
    /// Forgets everything and keeps the allocations.
    pub fn clear(&mut self) {
        self.records.clear();
        self.effects.clear();
    }
}

/// Something others have to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send the runner a `JOB_REQUEST`.
    Assign {
        /// To whom.
        runner: RunnerId,
        /// The new lease.
        token: AttemptToken,
        /// The job's run.
        run: RunId,
        /// The job's place in the plan.
        index: usize,
    },
    /// Send the runner a `JOB_CANCEL`.
    Cancel {
        /// To whom.
        runner: RunnerId,
        /// The lease.
        token: AttemptToken,
        /// Why.
        reason: StopReason,
    },
    /// Acknowledge the runner's `JOB_COMPLETE`, `JOB_FAILED` or `JOB_REJECT`.
    Settled {
        /// To whom.
        runner: RunnerId,
        /// The lease, which is over.
        token: AttemptToken,
    },
    /// A lease is over without the runner's word; messages about it are refused from now on.
    Fenced {
        /// Who had it.
        runner: RunnerId,
        /// The lease, which is over.
        token: AttemptToken,
    },
    /// A job's state is another one: look at it with [`Scheduler::job`](crate::Scheduler::job).
    JobChanged {
        /// Its run.
        run: RunId,
        /// The job.
        job: JobId,
    },
    /// A run has more jobs than before, and other names for some: a dynamic matrix was expanded.
    JobsAdded {
        /// The run.
        run: RunId,
    },
    /// A run began or ended, or was canceled.
    RunChanged {
        /// The run.
        run: RunId,
    },
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// The submitted run.
    Run(RunId),
    /// The registered runner.
    Runner {
        /// Its id.
        runner: RunnerId,
        /// Held attempts that are still its own.
        keep: Vec<AttemptToken>,
    },
}

/// Why a command changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The peer is late: the lease it speaks of is not its own any more. Error 401 on the wire.
    #[error("stale fencing number: {0} is not the current lease of this runner")]
    Stale(AttemptToken),
    /// The caller names a run that is not in the scheduler.
    #[error("no run {0} in the scheduler; finished runs are in the catalogue")]
    UnknownRun(RunId),
    /// The caller names a runner that never registered.
    #[error("no runner {0}")]
    UnknownRunner(RunnerId),
    /// The caller wants to drop a run that has not ended.
    #[error("run {0} has not ended")]
    NotEnded(RunId),
    /// The caller wants to forget a runner that is there.
    #[error("runner {0} is connected or has jobs")]
    RunnerInUse(RunnerId),
    /// The project has as many waiting jobs as it may have.
    #[error("{waiting} jobs of the project wait and this run has {jobs}; at most {max} may wait")]
    QuotaExceeded {
        /// Jobs of it that have not ended and do not run.
        waiting: usize,
        /// Jobs of the run.
        jobs: usize,
        /// The bound.
        max: u32,
    },
    /// A quota's weight is out of range.
    #[error("weight {weight} is too large; at most {max}")]
    WeightTooLarge {
        /// What was wanted.
        weight: u32,
        /// The limit.
        max: u32,
    },
    /// Too many projects have quotas of their own.
    #[error("{max} projects have quotas; remove one first")]
    TooManyQuotas {
        /// The limit.
        max: usize,
    },
    /// The plan has more jobs than one run may have.
    #[error("the plan has {jobs} jobs; at most {max} fit into one run")]
    TooManyJobs {
        /// Jobs of the plan.
        jobs: usize,
        /// The limit.
        max: usize,
    },
    /// The caller names a job that the run does not have.
    #[error("run {run} has no job {job}")]
    UnknownJob {
        /// The run.
        run: RunId,
        /// The job.
        job: JobId,
    },
    /// The caller answers what nobody asked, or what was answered already.
    #[error("job {0} does not wait for an approval")]
    NotAsking(JobId),
    /// A rerun brings matrices that do not fit its plan.
    #[error("the matrices of the run before do not fit the plan")]
    Matrices,
    /// A document's value, kind or key is too long.
    #[error("a document's {what} has {bytes} bytes; at most {max} are kept")]
    DocumentTooLong {
        /// `value`, `kind` or `key`.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// There are too many documents for another one.
    #[error("{max} documents are kept already; remove one first")]
    TooManyDocuments {
        /// The limit.
        max: usize,
    },
}
