//! What stands between the needs of a job and the queue: expanding, approval, slots.

use std::sync::Arc;

use valkyrie_frame::WallTime;

use super::{
    Answer, Approval, Change, Job, Phase, ReplayError, Run, SlotKey, SlotUse, State, Taker,
    Verdict,
    apply::{jobs_of, misfit},
};
use crate::{
    JobId, RunId, StoredPlan,
    record::{ApprovalAsked, ApprovalGiven, MatrixExpanded, SlotGranted, SlotWanted},
};

impl State {
    pub(super) fn matrix_expanded(
        &mut self,
        at: WallTime,
        record: &MatrixExpanded,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReplayError> {
        let first = self.next_job();
        if record.first_job != first.0 {
            return Err(misfit(
                "another number than the next for job",
                record.first_job,
            ));
        }
        let (run, place) = self.job_in(JobId(record.job), Phase::Blocked)?;
        let id = run.id;
        let begin = run.jobs.len();
        run.expand(place, record)?;
        run.advance(at, place, changes);
        for added in begin..run.jobs.len() {
            run.advance(at, added, changes);
        }
        changes.push(Change::Expanded(id));
        let added = run.jobs.len() - begin;
        self.last.job += added as u64;
        if added > 0 {
            self.first_jobs.insert(first, (id, begin));
        }
        Ok(())
    }

    pub(super) fn approval_asked(
        &mut self,
        at: WallTime,
        record: &ApprovalAsked,
    ) -> Result<(), ReplayError> {
        let (run, place) = self.job_in(JobId(record.job), Phase::Blocked)?;
        if let Some(job) = run.jobs.get_mut(place) {
            job.approval = Some(Approval {
                environment: record.environment.clone(),
                asked: at,
                until: WallTime::from_millis(record.until_ms),
                answer: None,
            });
        }
        Ok(())
    }

    pub(super) fn approval_given(
        &mut self,
        at: WallTime,
        record: &ApprovalGiven,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReplayError> {
        let id = JobId(record.job);
        let (run, place) = self.job_in(id, Phase::Blocked)?;
        let job = run.jobs.get_mut(place);
        let approval = job.and_then(|job| job.approval.as_mut());
        let approval = approval.filter(|approval| approval.answer.is_none());
        approval
            .ok_or(misfit("nobody asked about job", id.0))?
            .answer = Some(answer(at, record));
        changes.push(Change::Undecided(id));
        Ok(())
    }

    pub(super) fn slot_wanted(&mut self, record: &SlotWanted) -> Result<(), ReplayError> {
        let group = record.group.clone();
        let taker = self.set_slot(record.run, record.job, SlotUse::Waiting { group })?;
        if let Some(key) = self.slot_key(taker) {
            self.slots.wait(key, taker);
        }
        Ok(())
    }

    pub(super) fn slot_granted(
        &mut self,
        at: WallTime,
        record: SlotGranted,
        changes: &mut Vec<Change>,
    ) -> Result<(), ReplayError> {
        let taker = taker(record.run, record.job);
        let group = match self.slot_of(taker) {
            Some(SlotUse::Waiting { group }) => group.clone(),
            Some(SlotUse::None) => String::new(),
            Some(SlotUse::Held { .. }) | None => {
                return Err(misfit("no wish for a slot by run", record.run));
            }
        };
        self.set_slot(record.run, record.job, SlotUse::Held { group })?;
        if let Some(key) = self.slot_key(taker)
            && !self.slots.hold(key, taker)
        {
            return Err(misfit("slot has a holder, granted to run", record.run));
        }
        match taker.job {
            Some(job) => changes.push(Change::Undecided(job)),
            None => {
                let run = self.run_mut(taker.run)?;
                (0..run.jobs.len()).for_each(|place| run.advance(at, place, changes));
            }
        }
        Ok(())
    }

    /// Takes back the slot of a run or job that is over.
    pub(super) fn leave_slot(&mut self, taker: Taker) {
        if let Some(key) = self.slot_key(taker) {
            self.slots.leave(key, taker);
        }
        if let Some(slot) = self.slot_mut(taker) {
            *slot = SlotUse::None;
        }
    }

    /// Puts the slots of a run from a snapshot where they belong.
    pub(super) fn take_up_slots(&mut self, run: RunId) {
        let Some(state) = self.runs.get(&run) else {
            return;
        };
        let whole = Taker { run, job: None };
        let jobs = (0..state.jobs.len()).map(|place| Taker {
            run,
            job: Some(state.job_id(place)),
        });
        for taker in std::iter::once(whole).chain(jobs).collect::<Vec<_>>() {
            let Some(key) = self.slot_key(taker) else {
                continue;
            };
            match self.slot_of(taker) {
                Some(SlotUse::Held { .. }) => drop(self.slots.hold(key, taker)),
                Some(SlotUse::Waiting { .. }) => self.slots.wait(key, taker),
                Some(SlotUse::None) | None => {}
            }
        }
    }

    /// The slot that somebody holds or waits for.
    pub(crate) fn slot_key(&self, taker: Taker) -> Option<SlotKey> {
        let run = self.runs.get(&taker.run)?;
        let (SlotUse::Waiting { group } | SlotUse::Held { group }) = self.slot_of(taker)? else {
            return None;
        };
        (!group.is_empty()).then(|| run.slot_key(taker, group))
    }

    fn slot_of(&self, taker: Taker) -> Option<&SlotUse> {
        match taker.job {
            Some(job) => self.job(job).map(|(_, _, job)| &job.slot),
            None => self.runs.get(&taker.run).map(|run| &run.slot),
        }
    }

    fn slot_mut(&mut self, taker: Taker) -> Option<&mut SlotUse> {
        match taker.job {
            Some(job) => {
                let (run, place) = self.job_mut(job)?;
                run.jobs.get_mut(place).map(|job| &mut job.slot)
            }
            None => self.runs.get_mut(&taker.run).map(|run| &mut run.slot),
        }
    }

    fn set_slot(&mut self, run: u64, job: u64, to: SlotUse) -> Result<Taker, ReplayError> {
        let taker = taker(run, job);
        *self.slot_mut(taker).ok_or(misfit("no run", run))? = to;
        Ok(taker)
    }
}

fn taker(run: u64, job: u64) -> Taker {
    Taker {
        run: RunId(run),
        job: (job != 0).then_some(JobId(job)),
    }
}

pub(super) fn answer(at: WallTime, record: &ApprovalGiven) -> Answer {
    Answer {
        verdict: if record.approved {
            Verdict::Approved
        } else {
            Verdict::Declined
        },
        by: record.by.clone(),
        comment: record.comment.clone(),
        at,
    }
}

impl Run {
    /// The slot that `group` means for the run itself or one of its jobs.
    pub(crate) fn slot_key(&self, taker: Taker, group: &str) -> SlotKey {
        let own = matches!(&self.slot, SlotUse::Held { group: held } if held == group);
        SlotKey {
            project: self.meta.project.clone(),
            group: group.to_owned(),
            within: (own && taker.job.is_some()).then_some(self.id),
        }
    }

    /// Puts the instances of a matrix into the plan, and jobs for them behind all others.
    pub(super) fn expand(
        &mut self,
        place: usize,
        record: &MatrixExpanded,
    ) -> Result<(), ReplayError> {
        let plan = self.plan.expand(place, &record.matrix_json);
        let plan = plan.ok().flatten();
        let plan = Arc::new(plan.ok_or(misfit("no matrix for job", record.job))?);
        let begin = self.jobs.len();
        let mut made = jobs_of(&plan);
        let added = made.split_off(begin.min(made.len()));
        if let (Some(job), Some(first)) = (self.jobs.get_mut(place), made.into_iter().nth(place)) {
            job.tolerated = first.tolerated;
        }
        if !added.is_empty() {
            self.blocks.push((begin, JobId(record.first_job)));
        }
        self.open += added.len();
        self.jobs.extend(added);
        self.plan = plan;
        self.expansions.push(record.clone());
        self.count_needs();
        Ok(())
    }

    /// Ends the jobs that a rerun takes over, as they ended before.
    pub(super) fn carry(&mut self, at: WallTime) {
        for carried in self.meta.carried.clone() {
            let place = usize::try_from(carried.place).unwrap_or(usize::MAX);
            let Some(job) = self.jobs.get_mut(place).filter(|job| job.is_open()) else {
                continue;
            };
            *job = Job {
                phase: Phase::Ended,
                conclusion: Some(carried.conclusion()),
                tolerated: carried.tolerated,
                outputs: carried.outputs,
                carried_from: Some(RunId(carried.from_run)),
                finished: Some(at),
                ..Job::default()
            };
            self.open -= 1;
        }
        self.count_needs();
        self.carry_failures();
    }

    /// Says for each carried job whether one before it failed. The plan's order is not that of the
    /// needs, so this goes round until nothing changes.
    fn carry_failures(&mut self) {
        let mut changed = !self.meta.carried.is_empty();
        while changed {
            changed = false;
            for place in 0..self.jobs.len() {
                let failed = self.failed_before(place);
                let job = self.jobs.get_mut(place);
                if let Some(job) = job.filter(|job| !job.is_open() && !job.failed_before && failed)
                {
                    (job.failed_before, changed) = (true, true);
                }
            }
        }
    }
}

/// The plan of a run with the matrices that its predecessor had expanded.
pub(super) fn plan_of(
    submitted: &Arc<StoredPlan>,
    meta: Option<&crate::record::RunMeta>,
    run: u64,
) -> Result<Arc<StoredPlan>, ReplayError> {
    let matrices = meta.map_or(&[][..], |meta| &meta.expanded);
    let plan = submitted.with_matrices(matrices);
    plan.map_err(|_| misfit("no matrix in run", run))
}
