//! Runs, jobs and attempts.

use std::sync::Arc;

use rustci_pipeline::condition::Outcome;
use valkyrie_frame::WallTime;

use crate::{
    AttemptToken, Fence, JobId, RunId, RunnerId, StoredPlan,
    plan::Requirement,
    record::{Cause, Conclusion, MatrixExpanded, NamedText, RunMeta, StopReason},
};

/// A run of a pipeline.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Id of the plan's first job; the others follow in the plan's order.
    pub first_job: JobId,
    /// What runs: what was submitted, with the instances of dynamic matrices as far as they are
    /// known.
    pub plan: Arc<StoredPlan>,
    /// What was submitted; its digest is that of the run.
    pub submitted_plan: Arc<StoredPlan>,
    /// Matrices that were expanded while it ran, in their order.
    pub expansions: Vec<MatrixExpanded>,
    /// The slot of its concurrency group.
    pub slot: SlotUse,
    /// What it was started with.
    pub meta: RunMeta,
    /// When it was submitted.
    pub submitted: WallTime,
    /// When its first job was leased.
    pub started: Option<WallTime>,
    /// When it ended.
    pub finished: Option<WallTime>,
    /// Set once somebody has canceled it.
    pub cancel_reason: Option<String>,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// In the plan's order.
    pub jobs: Vec<Job>,
    /// Jobs that have not ended.
    pub(crate) open: usize,
    /// Where the ids of its jobs follow each other: the first place and its id.
    pub(crate) blocks: Vec<(usize, JobId)>,
}

impl Run {
    /// The id of the job at a place of the plan.
    #[must_use]
    pub fn job_id(&self, place: usize) -> JobId {
        let behind = self.blocks.partition_point(|(first, _)| *first <= place);
        let block = self.blocks.get(behind.wrapping_sub(1));
        let (first, id) = block.copied().unwrap_or((0, self.first_job));
        JobId(id.0 + (place - first) as u64)
    }

    /// Whether its jobs may begin: it has the slot of its concurrency group, or needs none.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.plan.plan().concurrency.is_none() || matches!(self.slot, SlotUse::Held { .. })
    }
}

/// A job of a run.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Job {
    /// How far it is.
    pub phase: Phase,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// Why it ended without an attempt, or the last attempt's message; for people.
    pub reason: String,
    /// A failure of it does not fail the run.
    pub tolerated: bool,
    /// Attempts repeated because of something that was not the job's fault.
    pub requeues: u32,
    /// Attempts repeated because the job's `retry` says so.
    pub retries: u32,
    /// Set while its attempt has been told to stop.
    pub stopping: Option<Stopping>,
    /// When it was last put into the queue.
    pub queued: Option<WallTime>,
    /// When it ended.
    pub finished: Option<WallTime>,
    /// What the jobs that need it see.
    pub outputs: Vec<NamedText>,
    /// All leases, the newest last.
    pub attempts: Vec<Attempt>,
    /// The agreement that it waits for, or waited for.
    pub approval: Option<Approval>,
    /// The slot of its concurrency group.
    pub slot: SlotUse,
    /// The run in which it really ran, where a rerun took it over.
    pub carried_from: Option<RunId>,
    /// What its runner must have, where that is not in the plan.
    pub(crate) labels: Option<Arc<Requirement>>,
    /// Needs that have not ended.
    pub(crate) needs_left: usize,
    /// One of its needs failed, or one of theirs, and so on. Known once its needs have ended.
    pub(crate) failed_before: bool,
}

/// A slot of a concurrency group, as a run or a job sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SlotUse {
    /// It has not asked, needs none, or has given it back.
    #[default]
    None,
    /// It waits for its turn.
    Waiting {
        /// The group.
        group: String,
    },
    /// It has it.
    Held {
        /// The group; empty when its expression came out as that, and it goes on without a slot.
        group: String,
    },
}

/// An agreement that a job waits for, or waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Approval {
    /// Where the job acts.
    pub environment: String,
    /// Since when it waits.
    pub asked: WallTime,
    /// When it ends as blocked.
    pub until: WallTime,
    /// What was answered.
    pub answer: Option<Answer>,
}

/// The answer to a question for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// What it says.
    pub verdict: Verdict,
    /// Who gave it, as they called themselves.
    pub by: String,
    /// What they said.
    pub comment: String,
    /// When.
    pub at: WallTime,
}

/// Whether a job may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Approved,
    /// It may not, and ends as declined.
    Declined,
}

/// How far a job is.
///
/// ```text
/// Blocked --> Queued <--> Active --> Ended
///    |           |                     ^
///    +-----------+---------------------+   skipped, canceled, not approved
/// ```
///
/// Between its needs and the queue a job passes, in this order: its condition, its matrix when that
/// is dynamic, its approval, its slot. All that time it is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// It waits for its needs, an approval or a slot.
    #[default]
    Blocked,
    /// It waits for a runner.
    Queued,
    /// A runner has it.
    Active,
    /// It is over.
    Ended,
}

/// An attempt told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    /// Why.
    pub reason: StopReason,
    /// Since when.
    pub at: WallTime,
}

/// One lease of a job.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// Its fencing number.
    pub fence: Fence,
    /// Who has it.
    pub runner: RunnerId,
    /// When it was given out.
    pub leased: WallTime,
    /// When its first step began.
    pub started: Option<WallTime>,
    /// How it ended.
    pub end: Option<AttemptEnd>,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttemptEnd {
    /// When.
    pub at: WallTime,
    /// Why.
    pub cause: Cause,
    /// How.
    pub conclusion: Conclusion,
    /// One line for people.
    pub message: String,
    /// Length of its log.
    pub log_bytes: u64,
    /// The runner said so itself.
    pub reported: bool,
}

/// A runner that has registered once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KnownRunner {
    /// Its id.
    pub id: RunnerId,
    /// Its unique name.
    pub name: String,
    /// It gets no new jobs.
    pub draining: bool,
}

impl Job {
    /// The attempt that a runner has now.
    #[must_use]
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|_| self.phase == Phase::Active)
    }

    /// The token of the newest attempt, given the job's id.
    #[must_use]
    pub fn token(&self, job: JobId) -> Option<AttemptToken> {
        let attempt = u32::try_from(self.attempts.len()).ok()?;
        let fence = self.attempts.last()?.fence;
        Some(AttemptToken {
            job,
            attempt,
            fence,
        })
    }

    /// How it ended, as conditions and the run see it: a tolerated failure is a success.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        Some(match self.conclusion? {
            Conclusion::Success => Outcome::Success,
            Conclusion::Canceled => Outcome::Cancelled,
            Conclusion::Skipped => Outcome::Skipped,
            _ if self.tolerated => Outcome::Success,
            _ => Outcome::Failure,
        })
    }

    /// Whether it is not over.
    pub(crate) fn is_open(&self) -> bool {
        self.phase != Phase::Ended
    }

    /// Whether it waits for somebody's answer.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        let open = self.approval.as_ref().is_some_and(|it| it.answer.is_none());
        open && self.phase == Phase::Blocked
    }

    /// Whether its needs have ended and it is not in the queue yet.
    pub(crate) fn is_undecided(&self) -> bool {
        self.phase == Phase::Blocked && self.needs_left == 0
    }
}
