//! Concurrency groups: asking for a slot, whom a newcomer puts out, who is next.
//!
//! Slots are given in the order in which runs were made, and only to who has nothing else to wait
//! for than a runner: a job asks when its needs have ended and it is approved, a run before any of
//! its jobs. So who holds a slot always comes to its end, but for one case: a job waits for a slot
//! that another run holds as a whole, and that run, through its own jobs, waits for the first one.
//! [`Turn::would_wait_for_itself`] refuses the wait that would close such a ring. Rings close
//! nowhere else: a run that is given a slot has no waiting job yet, and a job that has one waits
//! for no other.

use std::collections::BTreeSet;

use rustci_pipeline::{
    Concurrency, condition,
    expr::{Contexts, ExprError},
    template,
};

use super::Turn;
use crate::{
    JobId, RunId,
    limits::GROUP_BYTES_MAX,
    record::{Conclusion, SlotGranted, SlotWanted, StopReason, record::Kind},
    state::{SlotKey, SlotUse, Taker},
};

/// A group as its expressions came out.
#[derive(Debug)]
pub(super) struct Wish {
    group: String,
    cancel_in_progress: bool,
    queue: Option<u32>,
}

impl Wish {
    /// Evaluates a group in the contexts of its run or job; `Err` is a sentence for people.
    pub(super) fn new(concurrency: &Concurrency, contexts: &Contexts) -> Result<Self, String> {
        let unreadable = |error: ExprError| format!("`concurrency` cannot be evaluated: {error}");
        let group = template::render(&concurrency.group, contexts).map_err(unreadable)?;
        if group.len() > GROUP_BYTES_MAX {
            return Err(format!(
                "the name of its concurrency group has {} bytes; at most {GROUP_BYTES_MAX} are allowed",
                group.len()
            ));
        }
        let cancel = condition::flag(&concurrency.cancel_in_progress, contexts);
        Ok(Self {
            group,
            cancel_in_progress: cancel.map_err(unreadable)?,
            queue: concurrency.queue,
        })
    }
}

impl Turn<'_> {
    /// Asks for the slot of a run that has just begun, or was about to when the last process ended.
    pub(super) fn want_run_slot(&mut self, id: RunId) {
        let Some(run) = self.scheduler.state.run(id) else {
            return;
        };
        let Some(concurrency) = &run.plan.plan().concurrency else {
            return;
        };
        if run.slot != SlotUse::None || run.open == 0 {
            return;
        }
        let given = serde_json::from_str(&run.meta.contexts_json).unwrap_or_default();
        match Wish::new(concurrency, &Contexts::from_json(&given)) {
            Ok(wish) => self.want(Taker { run: id, job: None }, &wish),
            Err(reason) => {
                let jobs: Vec<_> = (0..run.jobs.len()).map(|place| run.job_id(place)).collect();
                for job in jobs {
                    self.end_blocked(job, Conclusion::Error, &reason);
                }
            }
        }
    }

    /// Asks for a slot; [`grant`](Self::grant) gives it when it is free.
    pub(super) fn want(&mut self, taker: Taker, wish: &Wish) {
        let (run, job) = (taker.run.0, taker.job.map_or(0, |job| job.0));
        if wish.group.is_empty() {
            return self.record(Kind::SlotGranted(SlotGranted { run, job }));
        }
        let Some(key) = self
            .scheduler
            .state
            .run(taker.run)
            .map(|run| run.slot_key(taker, &wish.group))
        else {
            return;
        };
        if let (Some(job), Some(other)) = (taker.job, self.would_wait_for_itself(taker, &key)) {
            let reason = format!(
                "it would wait for ever: the slot of `{}` is held by run {other}, which waits for this run",
                wish.group
            );
            return self.end_blocked(job, Conclusion::Error, &reason);
        }
        self.record(Kind::SlotWanted(SlotWanted {
            run,
            job,
            group: wish.group.clone(),
            cancel_in_progress: wish.cancel_in_progress,
            queue: wish.queue.unwrap_or(0),
        }));
        if wish.cancel_in_progress {
            self.supersede(taker, &key);
        }
        if let Some(most) = wish.queue {
            self.shorten(&key, most);
        }
        match taker.job {
            Some(job) => self.job_changed(job),
            None => self.run_jobs_changed(taker.run),
        }
    }

    /// Gives a slot that is free to who is next.
    pub(super) fn grant(&mut self, taker: Taker) {
        let (run, job) = (taker.run.0, taker.job.map_or(0, |job| job.0));
        self.record(Kind::SlotGranted(SlotGranted { run, job }));
        if taker.job.is_none() {
            self.run_jobs_changed(taker.run);
        }
    }

    /// Cancels who holds or waits for a slot that a newer one wants. Jobs of one run leave each
    /// other alone, and who comes late to a newer one gives way itself.
    fn supersede(&mut self, taker: Taker, key: &SlotKey) {
        let Some(slot) = self.scheduler.state.slots.get(key) else {
            return;
        };
        let all = slot.waiting.iter().chain(&slot.holder).copied();
        let others: Vec<_> = all.filter(|other| other.run != taker.run).collect();
        let newest = others.iter().map(|other| other.run).max();
        let group = &key.group;
        match newest.filter(|newest| *newest > taker.run) {
            Some(newer) => {
                let reason = format!(
                    "run {newer}, which is newer, has the slot of `{group}` or waits for it"
                );
                self.put_out(taker, &reason);
            }
            None => {
                let newer = taker.run;
                let reason = format!("run {newer}, which is newer, wants the slot of `{group}`");
                for other in others {
                    self.put_out(other, &reason);
                }
            }
        }
    }

    /// Cancels the oldest that wait for a slot until no more than `most` do.
    fn shorten(&mut self, key: &SlotKey, most: u32) {
        let Some(slot) = self.scheduler.state.slots.get(key) else {
            return;
        };
        // The first one gets a slot that is free, and does not wait.
        let waiting = slot.waiting.len() - usize::from(slot.holder.is_none());
        let excess = waiting.saturating_sub(usize::try_from(most).unwrap_or(usize::MAX));
        let oldest: Vec<_> = slot.waiting.iter().take(excess).copied().collect();
        let reason = format!("more than {most} waited for the slot of `{}`", key.group);
        for taker in oldest {
            self.put_out(taker, &reason);
        }
    }

    fn put_out(&mut self, taker: Taker, reason: &str) {
        match taker.job {
            Some(job) => self.stop(job, StopReason::Canceled, reason),
            None => {
                if let Err(error) = self.cancel_run(taker.run, reason.to_owned()) {
                    debug_assert!(false, "a run that takes a slot is known: {error}");
                }
            }
        }
    }

    /// The run that holds the slot as a whole and, through its jobs, waits for the run of `taker`.
    fn would_wait_for_itself(&self, taker: Taker, key: &SlotKey) -> Option<RunId> {
        let holder = self.run_holding(key)?;
        let mut open = vec![holder];
        let mut seen = BTreeSet::new();
        while let Some(run) = open.pop() {
            if run == taker.run {
                return Some(holder);
            }
            if seen.insert(run) {
                open.extend(self.runs_before(run));
            }
        }
        None
    }

    /// The runs whose slots jobs of `run` wait for.
    fn runs_before(&self, id: RunId) -> Vec<RunId> {
        let Some(run) = self.scheduler.state.run(id) else {
            return Vec::new();
        };
        let waits = |place: &usize| {
            let job = run.jobs.get(*place);
            job.is_some_and(|job| matches!(job.slot, SlotUse::Waiting { .. }))
        };
        let waiting = (0..run.jobs.len()).filter(waits);
        let holders = waiting.filter_map(|place| {
            let job = Some(run.job_id(place));
            let key = self.scheduler.state.slot_key(Taker { run: id, job })?;
            self.run_holding(&key)
        });
        holders.collect()
    }

    fn run_holding(&self, key: &SlotKey) -> Option<RunId> {
        let holder = self.scheduler.state.slots.get(key)?.holder?;
        holder.job.is_none().then_some(holder.run)
    }

    fn end_blocked(&mut self, id: JobId, conclusion: Conclusion, reason: &str) {
        let job = self.scheduler.state.job(id).map(|(_, _, job)| job);
        if job.is_some_and(|job| job.phase == crate::Phase::Blocked) {
            self.end_job(id, conclusion, reason.to_owned());
        }
    }

    /// Why the jobs of a run wait is another reason now.
    fn run_jobs_changed(&mut self, id: RunId) {
        let Some(run) = self.scheduler.state.run(id) else {
            return;
        };
        let jobs: Vec<_> = (0..run.jobs.len()).map(|place| run.job_id(place)).collect();
        jobs.into_iter().for_each(|job| self.job_changed(job));
    }
}
