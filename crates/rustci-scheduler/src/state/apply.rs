//! The effect of each record. The same code runs live and in a replay.

use std::sync::Arc;

use rustci_pipeline::condition::Outcome;
use valkyrie_frame::WallTime;

use super::{
    Attempt, AttemptEnd, Job, KnownRunner, Phase, Run, SlotUse, State, Stopping, Taker,
    gate::plan_of,
};
use crate::{
    Fence, JobId, Quota, RunId, RunnerId, StoredPlan,
    plan::Requirement,
    record::{
        AttemptEnded, Conclusion, JobEnded, JobQueued, JobStopping, Leased, Next, QuotaSet, Record,
        RunEnded, RunSubmitted, RunnerDrain, RunnerKnown, record::Kind,
    },
};

/// A record that does not fit the state before it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The journal is not this program's, or lacks records.
    #[error("journal record does not fit the state before it: {what} {id}")]
    Misfit {
        /// What does not fit.
        what: &'static str,
        /// The id it names.
        id: u64,
    },
    /// The plan in a record or snapshot cannot be read.
    #[error("plan in the journal: {0}")]
    Plan(#[from] rustci_pipeline::PlanError),
    /// The bytes are not a record or snapshot.
    #[error("journal content cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A record of a kind that this program does not know.
    #[error("journal record of an unknown kind; it was written by a newer program")]
    UnknownKind,
}

pub(super) fn misfit(what: &'static str, id: u64) -> ReplayError {
    ReplayError::Misfit { what, id }
}

/// What a record did, for those who keep an index of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The job waits for a runner.
    Queued(JobId),
    /// The job's needs have ended, and whether it runs has to be decided.
    Undecided(JobId),
    /// The job is over.
    Ended(JobId),
    /// The run has more jobs than before, and other names for some.
    Expanded(RunId),
}

impl State {
    /// Applies one record.
    ///
    /// # Errors
    /// [`ReplayError`]; the state must not be used any more then.
    pub(crate) fn apply(
        &mut self,
        record: &Record,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReplayError> {
        let at = WallTime::from_millis(record.at_ms);
        match record.kind.as_ref().ok_or(ReplayError::UnknownKind)? {
            Kind::RunSubmitted(record) => self.submitted(at, record, changes),
            Kind::JobQueued(record) => self.queued(at, record, changes),
            Kind::Leased(record) => self.leased(at, record),
            Kind::Started(record) => self.started(at, JobId(record.job)),
            Kind::AttemptEnded(record) => self.attempt_ended(at, record, changes),
            Kind::JobEnded(record) => self.job_ended(at, record, changes),
            Kind::JobStopping(record) => self.stopping(at, *record),
            Kind::RunCanceled(record) => {
                let run = self.run_mut(RunId(record.run))?;
                run.cancel_reason = Some(record.reason.clone());
                Ok(())
            }
            Kind::RunEnded(record) => self.run_ended(at, *record),
            Kind::RunForgotten(record) => self.forgotten(RunId(record.run)),
            Kind::RunnerKnown(record) => self.runner_known(record),
            Kind::RunnerDrain(record) => self.runner_drain(*record),
            Kind::QueuePause(record) => {
                self.paused = record.paused;
                Ok(())
            }
            Kind::DocumentSet(record) => {
                self.documents.apply(record);
                Ok(())
            }
            Kind::RunnerForgotten(record) => self.runner_forgotten(RunnerId(record.runner)),
            Kind::QuotaSet(record) => {
                self.set_quota(record);
                Ok(())
            }
            Kind::MatrixExpanded(record) => self.matrix_expanded(at, record, changes),
            Kind::ApprovalAsked(record) => self.approval_asked(at, record),
            Kind::ApprovalGiven(record) => self.approval_given(at, record, changes),
            Kind::SlotWanted(record) => self.slot_wanted(record),
            Kind::SlotGranted(record) => self.slot_granted(at, *record, changes),
        }
    }

    pub(super) fn run_mut(&mut self, run: RunId) -> Result<&mut Run, ReplayError> {
        self.runs.get_mut(&run).ok_or(misfit("no run", run.0))
    }

    pub(super) fn job_in(
        &mut self,
        job: JobId,
        phase: Phase,
    ) -> Result<(&mut Run, usize), ReplayError> {
        let (run, place) = self.job_mut(job).ok_or(misfit("no job", job.0))?;
        match run.jobs.get(place) {
            Some(found) if found.phase == phase => Ok((run, place)),
            _ => Err(misfit("another phase of job", job.0)),
        }
    }

    fn submitted(
        &mut self,
        at: WallTime,
        record: &RunSubmitted,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReplayError> {
        let (id, first_job) = self.next_run();
        if (record.run, record.first_job) != (id.0, first_job.0) {
            return Err(misfit("another number than the next for run", record.run));
        }
        let submitted_plan = self.use_plan(record)?;
        let plan = plan_of(&submitted_plan, record.meta.as_ref(), record.run)?;
        let jobs = jobs_of(&plan);
        self.last.run = id.0;
        self.last.job += jobs.len() as u64;
        self.first_jobs.insert(first_job, (id, 0));
        let mut run = Run {
            id,
            first_job,
            meta: record.meta.clone().unwrap_or_default(),
            submitted: at,
            started: None,
            finished: None,
            cancel_reason: None,
            conclusion: None,
            open: jobs.len(),
            jobs,
            plan,
            submitted_plan,
            expansions: Vec::new(),
            slot: SlotUse::None,
            blocks: vec![(0, first_job)],
        };
        run.carry(at);
        for place in 0..run.jobs.len() {
            run.advance(at, place, changes);
        }
        self.runs.insert(id, run);
        Ok(())
    }

    fn use_plan(&mut self, record: &RunSubmitted) -> Result<Arc<StoredPlan>, ReplayError> {
        let plan = match self.plan(&record.plan_digest) {
            Some(plan) => plan,
            None => Arc::new(StoredPlan::from_json(&record.plan_json)?),
        };
        let entry = self.plans.entry(plan.digest().0);
        entry.or_insert_with(|| (Arc::clone(&plan), 0)).1 += 1;
        Ok(plan)
    }

    fn queued(
        &mut self,
        at: WallTime,
        record: &JobQueued,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReplayError> {
        let id = JobId(record.job);
        let (run, place) = self.job_in(id, Phase::Blocked)?;
        let requirement = Requirement {
            all: record.all_labels.clone(),
            any: record.any_labels.clone(),
        };
        if let Some(job) = run.jobs.get_mut(place) {
            job.labels = Some(Arc::new(requirement));
            job.tolerated = record.tolerated;
            job.enqueue(at);
            changes.push(Change::Queued(id));
        }
        Ok(())
    }

    fn leased(&mut self, at: WallTime, record: &Leased) -> Result<(), ReplayError> {
        if record.fence <= self.last.fence {
            return Err(misfit("fencing number not above the last:", record.fence));
        }
        let (run, place) = self.job_in(JobId(record.job), Phase::Queued)?;
        run.started.get_or_insert(at);
        if let Some(job) = run.jobs.get_mut(place) {
            job.phase = Phase::Active;
            job.attempts.push(Attempt {
                fence: Fence(record.fence),
                runner: RunnerId(record.runner),
                leased: at,
                started: None,
                end: None,
            });
        }
        self.last.fence = record.fence;
        Ok(())
    }

    fn started(&mut self, at: WallTime, job: JobId) -> Result<(), ReplayError> {
        let (run, place) = self.job_in(job, Phase::Active)?;
        if let Some(attempt) = run.current_mut(place) {
            attempt.started.get_or_insert(at);
        }
        Ok(())
    }

    fn attempt_ended(
        &mut self,
        at: WallTime,
        record: &AttemptEnded,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReplayError> {
        let id = JobId(record.job);
        let (run, place) = self.job_in(id, Phase::Active)?;
        if let Some(attempt) = run.current_mut(place) {
            attempt.end = Some(AttemptEnd {
                at,
                cause: record.cause(),
                conclusion: record.conclusion(),
                message: record.message.clone(),
                log_bytes: record.log_bytes,
                reported: record.reported,
            });
        }
        if let Some(job) = run.jobs.get_mut(place) {
            job.stopping = None;
            match record.next() {
                Next::Requeue => job.requeues += 1,
                Next::Retry => job.retries += 1,
                Next::End | Next::Unspecified => {
                    job.outputs.clone_from(&record.outputs);
                    run.end(at, place, record.conclusion(), &record.message, changes);
                    self.leave_job_slot(id);
                    return Ok(());
                }
            }
            job.enqueue(at);
            changes.push(Change::Queued(id));
        }
        Ok(())
    }

    fn job_ended(
        &mut self,
        at: WallTime,
        record: &JobEnded,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReplayError> {
        let id = JobId(record.job);
        let (run, place) = self.job_mut(id).ok_or(misfit("no job", id.0))?;
        match run.jobs.get(place).map(|job| job.phase) {
            Some(Phase::Blocked | Phase::Queued) => {}
            _ => return Err(misfit("another phase of job", id.0)),
        }
        run.end(at, place, record.conclusion(), &record.reason, changes);
        self.leave_job_slot(id);
        Ok(())
    }

    fn leave_job_slot(&mut self, job: JobId) {
        if let Some((run, _, _)) = self.job(job) {
            let run = run.id;
            self.leave_slot(Taker {
                run,
                job: Some(job),
            });
        }
    }

    fn run_ended(&mut self, at: WallTime, record: RunEnded) -> Result<(), ReplayError> {
        let id = RunId(record.run);
        let run = self.run_mut(id)?;
        run.conclusion = Some(record.conclusion());
        run.finished = Some(at);
        self.leave_slot(Taker { run: id, job: None });
        Ok(())
    }

    fn stopping(&mut self, at: WallTime, record: JobStopping) -> Result<(), ReplayError> {
        let (run, place) = self.job_in(JobId(record.job), Phase::Active)?;
        if let Some(job) = run.jobs.get_mut(place) {
            job.stopping = Some(Stopping {
                reason: record.reason(),
                at,
            });
        }
        Ok(())
    }

    fn forgotten(&mut self, run: RunId) -> Result<(), ReplayError> {
        let run = self.runs.remove(&run).ok_or(misfit("no run", run.0))?;
        for (_, first) in &run.blocks {
            self.first_jobs.remove(first);
        }
        let digest = run.submitted_plan.digest().0;
        if let Some((_, runs)) = self.plans.get_mut(&digest) {
            *runs -= 1;
            if *runs == 0 {
                self.plans.remove(&digest);
            }
        }
        Ok(())
    }

    fn runner_known(&mut self, record: &RunnerKnown) -> Result<(), ReplayError> {
        let id = self.next_runner();
        if record.runner != id.0 {
            return Err(misfit(
                "another number than the next for runner",
                record.runner,
            ));
        }
        self.last.runner = id.0;
        self.names.insert(record.name.clone(), id);
        let runner = KnownRunner {
            id,
            name: record.name.clone(),
            draining: false,
        };
        self.runners.insert(id, runner);
        Ok(())
    }

    fn runner_forgotten(&mut self, id: RunnerId) -> Result<(), ReplayError> {
        let runner = self.runners.remove(&id).ok_or(misfit("no runner", id.0))?;
        self.names.remove(&runner.name);
        Ok(())
    }

    pub(super) fn set_quota(&mut self, record: &QuotaSet) {
        let quota = Quota {
            running: record.running,
            queued: record.queued,
            weight: record.weight,
        };
        if quota == Quota::default() {
            self.quotas.remove(&record.project);
        } else {
            self.quotas.insert(record.project.clone(), quota);
        }
    }

    fn runner_drain(&mut self, record: RunnerDrain) -> Result<(), ReplayError> {
        let runner = self.runners.get_mut(&RunnerId(record.runner));
        runner.ok_or(misfit("no runner", record.runner))?.draining = record.draining;
        Ok(())
    }
}

impl Run {
    fn current_mut(&mut self, place: usize) -> Option<&mut Attempt> {
        self.jobs.get_mut(place)?.attempts.last_mut()
    }

    /// Queues a job whose needs have ended, or leaves it to be decided.
    pub(super) fn advance(&mut self, at: WallTime, place: usize, changes: &mut Vec<Change>) {
        let id = self.job_id(place);
        if !self.jobs.get(place).is_some_and(Job::is_undecided) {
            return;
        }
        let failed_before = self.failed_before(place);
        let plain = self.plan.edges(place).is_some_and(|edges| edges.plain);
        let queue = plain
            && self.cancel_reason.is_none()
            && self.is_released()
            && self.needs_succeeded(place);
        let Some(job) = self.jobs.get_mut(place) else {
            return;
        };
        job.failed_before = failed_before;
        if queue {
            job.enqueue(at);
            changes.push(Change::Queued(id));
        } else {
            changes.push(Change::Undecided(id));
        }
    }

    /// Whether a job that ended before this one failed, however far away.
    pub(super) fn failed_before(&self, place: usize) -> bool {
        let mut needs = self
            .plan
            .needs(place)
            .iter()
            .filter_map(|need| self.jobs.get(*need));
        needs.any(|need| need.failed_before || need.outcome() == Some(Outcome::Failure))
    }

    fn needs_succeeded(&self, place: usize) -> bool {
        let outcome = |need: &usize| self.jobs.get(*need).and_then(Job::outcome);
        self.plan
            .needs(place)
            .iter()
            .all(|need| outcome(need) == Some(Outcome::Success))
    }

    /// Ends a job and lets those that wait for it go on.
    fn end(
        &mut self,
        at: WallTime,
        place: usize,
        conclusion: Conclusion,
        reason: &str,
        changes: &mut Vec<Change>,
    ) {
        if let Some(job) = self.jobs.get_mut(place) {
            job.phase = Phase::Ended;
            job.conclusion = Some(conclusion);
            job.finished = Some(at);
            reason.clone_into(&mut job.reason);
        }
        self.open -= 1;
        changes.push(Change::Ended(self.job_id(place)));
        let plan = Arc::clone(&self.plan);
        let dependents = plan.edges(place).map_or(&[][..], |edges| &edges.dependents);
        for dependent in dependents {
            if let Some(job) = self.jobs.get_mut(*dependent) {
                job.needs_left = job.needs_left.saturating_sub(1);
            }
            self.advance(at, *dependent, changes);
        }
    }
}

impl Job {
    fn enqueue(&mut self, at: WallTime) {
        self.phase = Phase::Queued;
        self.queued = Some(at);
    }
}

pub(super) fn jobs_of(plan: &StoredPlan) -> Vec<Job> {
    let jobs = plan.plan().jobs.iter().enumerate();
    let jobs = jobs.map(|(place, job)| Job {
        needs_left: plan.needs(place).len(),
        tolerated: job.continue_on_error == "true",
        ..Job::default()
    });
    jobs.collect()
}
