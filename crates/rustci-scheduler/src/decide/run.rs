//! Runs: submitting, canceling, ending, forgetting.

use std::sync::Arc;

use rustci_pipeline::condition::Outcome;

use super::Turn;
use crate::{
    Effect, JobId, Refused, Reply, Run, RunId, StoredPlan,
    limits::RUN_JOBS_MAX,
    record::{
        Conclusion, JobEnded, JobStopping, RunCanceled, RunEnded, RunForgotten, RunMeta,
        RunSubmitted, StopReason, record::Kind,
    },
    state::{Change, Job, Phase},
};

impl Turn<'_> {
    pub(super) fn submit(
        &mut self,
        plan: &Arc<StoredPlan>,
        meta: RunMeta,
    ) -> Result<Reply, Refused> {
        let expanded = plan.with_matrices(&meta.expanded);
        let jobs = expanded.map_err(|_| Refused::Matrices)?.plan().jobs.len();
        if jobs > RUN_JOBS_MAX {
            return Err(Refused::TooManyJobs {
                jobs,
                max: RUN_JOBS_MAX,
            });
        }
        let open = jobs.saturating_sub(meta.carried.len());
        self.check_quota(&meta.project, open)?;
        let (run, first_job) = self.scheduler.state.next_run();
        let known = self.scheduler.state.knows_plan(plan);
        self.scheduler.state.offer_plan(plan);
        self.record(Kind::RunSubmitted(RunSubmitted {
            run: run.0,
            first_job: first_job.0,
            plan_digest: plan.digest().0.to_vec(),
            plan_json: if known {
                String::new()
            } else {
                plan.json().to_owned()
            },
            meta: Some(meta),
        }));
        if let Some(run) = self.scheduler.state.run(run) {
            self.scheduler.pool.opened(&run.meta.project, run.open);
        }
        self.effect(Effect::RunChanged { run });
        self.want_run_slot(run);
        self.end_run_if_done(run);
        Ok(Reply::Run(run))
    }

    pub(super) fn cancel_run(&mut self, id: RunId, reason: String) -> Result<Reply, Refused> {
        let run = self
            .scheduler
            .state
            .run(id)
            .ok_or(Refused::UnknownRun(id))?;
        if run.cancel_reason.is_some() || run.conclusion.is_some() {
            return Ok(Reply::Done);
        }
        let jobs: Vec<_> = (0..run.jobs.len()).map(|place| run.job_id(place)).collect();
        let text = cancel_text(&reason);
        self.record(Kind::RunCanceled(RunCanceled { run: id.0, reason }));
        for job in jobs {
            self.stop(job, StopReason::Canceled, &text);
        }
        self.effect(Effect::RunChanged { run: id });
        Ok(Reply::Done)
    }

    pub(super) fn forget_run(&mut self, id: RunId) -> Result<Reply, Refused> {
        let run = self
            .scheduler
            .state
            .run(id)
            .ok_or(Refused::UnknownRun(id))?;
        if run.conclusion.is_none() {
            return Err(Refused::NotEnded(id));
        }
        self.record(Kind::RunForgotten(RunForgotten { run: id.0 }));
        Ok(Reply::Done)
    }

    /// Ends a job that does not run, and tells the runner of one that does.
    pub(super) fn stop(&mut self, id: JobId, reason: StopReason, text: &str) {
        let Some((run, place, job)) = self.scheduler.state.job(id) else {
            return;
        };
        match job.phase {
            Phase::Ended => {}
            Phase::Blocked => self.end_job(id, Conclusion::Canceled, text.to_owned()),
            Phase::Queued => {
                if let Some(requirement) = run.requirement(place) {
                    let share = run.share(place);
                    self.scheduler.pool.dequeue(id, &requirement, share);
                }
                self.end_job(id, Conclusion::Canceled, text.to_owned());
            }
            Phase::Active if job.stopping.is_some() => {}
            Phase::Active => self.stop_active(id, reason),
        }
    }

    pub(super) fn stop_active(&mut self, id: JobId, reason: StopReason) {
        let Some((token, runner)) = self.scheduler.state.active(id) else {
            return;
        };
        self.record(Kind::JobStopping(JobStopping {
            job: id.0,
            reason: reason.into(),
        }));
        let patience = self.now.time + self.scheduler.config.stop_patience;
        self.scheduler.leases.set_stop(id, patience);
        self.effect(Effect::Cancel {
            runner,
            token,
            reason,
        });
        self.job_changed(id);
    }

    pub(super) fn end_job(&mut self, id: JobId, conclusion: Conclusion, reason: String) {
        let conclusion = conclusion.into();
        self.record(Kind::JobEnded(JobEnded {
            job: id.0,
            conclusion,
            reason,
        }));
    }

    /// Follows up on a job that is over.
    pub(super) fn ended(&mut self, id: JobId) {
        let Some((run, place, job)) = self.scheduler.state.job(id) else {
            return;
        };
        self.scheduler.pool.closed(&run.meta.project);
        let (run_id, failed) = (run.id, job.outcome() == Some(Outcome::Failure));
        let group = run.group(place);
        let limited = run.parallel_limit(place);
        self.scheduler.leases.answered(id);
        self.job_changed(id);
        if let Some((group, _)) = limited
            && let Some(next) = self.scheduler.limits.leave(run_id, group, id)
        {
            self.scheduler.changes.push(Change::Queued(next));
        }
        if failed && let Some(group) = group {
            self.fail_fast(id, group);
        }
        self.end_run_if_done(run_id);
    }

    /// Stops the other instances of a matrix that wants it.
    fn fail_fast(&mut self, failed: JobId, group: usize) {
        let Some((run, place, _)) = self.scheduler.state.job(failed) else {
            return;
        };
        let Some(job) = run.plan.job(place) else {
            return;
        };
        if !job.group.as_ref().is_some_and(|group| group.fail_fast) {
            return;
        }
        let text = format!("`{}` of the same matrix failed", job.key);
        let others = run.plan.group(group).iter().map(|place| run.job_id(*place));
        for other in others.collect::<Vec<_>>() {
            self.stop(other, StopReason::FailFast, &text);
        }
    }

    fn end_run_if_done(&mut self, id: RunId) {
        let done = self.scheduler.state.run(id);
        let Some(run) = done.filter(|run| run.open == 0 && run.conclusion.is_none()) else {
            return;
        };
        let conclusion = conclusion(run).into();
        self.record(Kind::RunEnded(RunEnded {
            run: id.0,
            conclusion,
        }));
        self.effect(Effect::RunChanged { run: id });
    }

    /// Takes up one run after a restart.
    pub(super) fn resume_run(&mut self, id: RunId) {
        let Some(run) = self.scheduler.state.run(id) else {
            return;
        };
        self.scheduler.pool.opened(&run.meta.project, run.open);
        let open = |job: &Job| job.phase != Phase::Ended;
        let places = run.jobs.iter().enumerate().filter(|(_, job)| open(job));
        let jobs: Vec<_> = places
            .map(|(place, job)| (run.job_id(place), job.phase))
            .collect();
        // Instances that already run keep their places in front of those that wait.
        for (job, _) in jobs.iter().filter(|(_, phase)| *phase == Phase::Active) {
            self.resume_active(*job);
        }
        for (job, phase) in jobs {
            match phase {
                Phase::Queued => self.scheduler.changes.push(Change::Queued(job)),
                Phase::Blocked => {
                    self.arm_answer(job);
                    self.scheduler.changes.push(Change::Undecided(job));
                }
                Phase::Active | Phase::Ended => {}
            }
        }
        self.resume_cancel(id);
        self.want_run_slot(id);
        self.end_run_if_done(id);
    }

    /// Goes on with a cancellation that a crash cut in two.
    fn resume_cancel(&mut self, id: RunId) {
        let run = self
            .scheduler
            .state
            .run(id)
            .filter(|run| run.conclusion.is_none());
        let Some((run, reason)) = run.and_then(|run| Some((run, run.cancel_reason.as_ref()?)))
        else {
            return;
        };
        let text = cancel_text(reason);
        let jobs: Vec<_> = (0..run.jobs.len()).map(|place| run.job_id(place)).collect();
        for job in jobs {
            self.stop(job, StopReason::Canceled, &text);
        }
    }
}

/// What a job says that ended with its run; `reason` may be empty.
pub(super) fn cancel_text(reason: &str) -> String {
    match reason {
        "" => "the run was canceled".to_owned(),
        reason => format!("the run was canceled: {reason}"),
    }
}

/// How a run ended: canceled when somebody did so, else as its worst job.
fn conclusion(run: &Run) -> Conclusion {
    if run.cancel_reason.is_some() {
        return Conclusion::Canceled;
    }
    let weighed = run
        .jobs
        .iter()
        .filter(|job| !job.tolerated)
        .filter_map(|job| job.conclusion);
    let worst = weighed.max_by_key(|conclusion| severity(*conclusion));
    match worst {
        // A run in which every job was skipped has nothing to show; one with a success has.
        Some(Conclusion::Skipped) | None if !run.jobs.is_empty() => all_skipped(run),
        Some(worst) => worst,
        None => Conclusion::Success,
    }
}

fn all_skipped(run: &Run) -> Conclusion {
    let skipped = run
        .jobs
        .iter()
        .all(|job| job.conclusion == Some(Conclusion::Skipped));
    if skipped {
        Conclusion::Skipped
    } else {
        Conclusion::Success
    }
}

fn severity(conclusion: Conclusion) -> u8 {
    match conclusion {
        Conclusion::Unspecified | Conclusion::Skipped => 0,
        Conclusion::Success => 1,
        Conclusion::Declined => 2,
        Conclusion::Blocked => 3,
        Conclusion::Canceled => 4,
        Conclusion::TimedOut => 5,
        Conclusion::Killed => 6,
        Conclusion::Failure => 7,
        Conclusion::Error => 8,
    }
}
