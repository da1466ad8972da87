//! The durable state: what a replay of the journal gives.

mod apply;
mod document;
mod gate;
mod model;
mod slots;
mod snapshot;

use std::{collections::BTreeMap, sync::Arc};

pub(crate) use apply::Change;
pub use apply::ReplayError;
use document::Documents;
pub use model::{
    Answer, Approval, Attempt, AttemptEnd, Job, KnownRunner, Phase, Run, SlotUse, Stopping, Verdict,
};
pub(crate) use slots::{SlotKey, Slots, Taker};

use crate::{AttemptToken, JobId, Quota, RunId, RunnerId, StoredPlan};

/// Everything that outlives the process. Changed by [`State::apply`] and nothing else.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The ids given out last.
    last: LastIds,
    pub(crate) paused: bool,
    /// Plans by digest, with the number of runs that use them.
    plans: BTreeMap<[u8; 32], (Arc<StoredPlan>, usize)>,
    runs: BTreeMap<RunId, Run>,
    /// The first of each row of job ids with its run and its place there, to find a job's run.
    first_jobs: BTreeMap<JobId, (RunId, usize)>,
    runners: BTreeMap<RunnerId, KnownRunner>,
    names: BTreeMap<String, RunnerId>,
    pub(crate) documents: Documents,
    /// By project; the default under the empty name.
    pub(crate) quotas: BTreeMap<String, Quota>,
    pub(crate) slots: Slots,
}

#[derive(Debug, Default, Clone, Copy)]
struct LastIds {
    run: u64,
    job: u64,
    runner: u64,
    fence: u64,
}

impl State {
    /// The ids of the next run and of its first job.
    pub(crate) fn next_run(&self) -> (RunId, JobId) {
        (RunId(self.last.run + 1), JobId(self.last.job + 1))
    }

    pub(crate) fn next_runner(&self) -> RunnerId {
        RunnerId(self.last.runner + 1)
    }

    pub(crate) fn next_fence(&self) -> u64 {
        self.last.fence + 1
    }

    pub(crate) fn run(&self, run: RunId) -> Option<&Run> {
        self.runs.get(&run)
    }

    pub(crate) fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.runs.values()
    }

    pub(crate) fn runner(&self, runner: RunnerId) -> Option<&KnownRunner> {
        self.runners.get(&runner)
    }

    pub(crate) fn runners(&self) -> impl Iterator<Item = &KnownRunner> {
        self.runners.values()
    }

    pub(crate) fn runner_named(&self, name: &str) -> Option<RunnerId> {
        self.names.get(name).copied()
    }

    /// A job with its run and its place in the plan.
    pub(crate) fn job(&self, job: JobId) -> Option<(&Run, usize, &Job)> {
        let (run, place) = self.find(job)?;
        let run = self.runs.get(&run)?;
        Some((run, place, run.jobs.get(place)?))
    }

    fn job_mut(&mut self, job: JobId) -> Option<(&mut Run, usize)> {
        let (run, place) = self.find(job)?;
        Some((self.runs.get_mut(&run)?, place))
    }

    fn find(&self, job: JobId) -> Option<(RunId, usize)> {
        let (first, (id, place)) = self.first_jobs.range(..=job).next_back()?;
        let place = place.checked_add(usize::try_from(job.0 - first.0).ok()?)?;
        let run = self.runs.get(id)?;
        // The ids in between may have been those of a run that was forgotten.
        (place < run.jobs.len() && run.job_id(place) == job).then_some((*id, place))
    }

    /// The id of the next job.
    pub(crate) fn next_job(&self) -> JobId {
        JobId(self.last.job + 1)
    }

    /// The job's current attempt, if it has one.
    pub(crate) fn active(&self, job: JobId) -> Option<(AttemptToken, RunnerId)> {
        let (_, _, state) = self.job(job)?;
        let attempt = state.current()?;
        Some((state.token(job)?, attempt.runner))
    }

    /// A plan that some run uses.
    fn plan(&self, digest: &[u8]) -> Option<Arc<StoredPlan>> {
        let digest: [u8; 32] = digest.try_into().ok()?;
        self.plans.get(&digest).map(|(plan, _)| Arc::clone(plan))
    }

    /// Whether a record of a run with this plan has to hold the plan's text.
    pub(crate) fn knows_plan(&self, plan: &StoredPlan) -> bool {
        self.plans
            .get(&plan.digest().0)
            .is_some_and(|(_, runs)| *runs > 0)
    }

    /// Makes a plan known, so that applying its first record does not parse its text.
    pub(crate) fn offer_plan(&mut self, plan: &Arc<StoredPlan>) {
        self.plans
            .entry(plan.digest().0)
            .or_insert_with(|| (Arc::clone(plan), 0));
    }
}
