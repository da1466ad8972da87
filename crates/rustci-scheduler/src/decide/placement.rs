//! Handing out jobs, and what operators say about it: pause, quotas.

use super::Turn;
use crate::{
    Effect, Pause, Quota, Refused, Reply,
    limits::{QUOTA_WEIGHT_MAX, QUOTAS_MAX},
    pool::Next,
    record::{Leased, QueuePause, QuotaSet, record::Kind},
};

impl Turn<'_> {
    /// Hands out jobs while there is a job and a runner for it.
    pub(super) fn dispatch(&mut self) {
        if self.scheduler.state.paused {
            return;
        }
        while let Some(next) = self.scheduler.pool.next() {
            if !self.lease(next) {
                break;
            }
        }
    }

    /// Gives a job to a runner; says whether there was one to give.
    fn lease(&mut self, next: Next) -> bool {
        let (job, runner) = (next.job, next.runner);
        let Some((run, index, _)) = self.scheduler.state.job(job) else {
            return false;
        };
        let queued = run.share(index).queued;
        let (run, first) = (run.id, run.started.is_none());
        let fence = self.scheduler.state.next_fence();
        self.record(Kind::Leased(Leased {
            job: job.0,
            fence,
            runner: runner.0,
        }));
        self.scheduler.pool.assign(next, queued, self.now.wall);
        self.scheduler
            .leases
            .begin(job, self.now.time + self.scheduler.config.lease);
        if let Some((token, runner)) = self.scheduler.state.active(job) {
            self.effect(Effect::Assign {
                runner,
                token,
                run,
                index,
            });
        }
        self.effect(Effect::JobChanged { run, job });
        if first {
            self.effect(Effect::RunChanged { run });
        }
        true
    }

    pub(super) fn pause(&mut self, pause: Pause) -> Reply {
        let paused = pause == Pause::On;
        if self.scheduler.state.paused != paused {
            self.record(Kind::QueuePause(QueuePause { paused }));
        }
        Reply::Done
    }

    pub(super) fn set_quota(&mut self, project: String, quota: Quota) -> Result<Reply, Refused> {
        if quota.weight > QUOTA_WEIGHT_MAX {
            return Err(Refused::WeightTooLarge {
                weight: quota.weight,
                max: QUOTA_WEIGHT_MAX,
            });
        }
        let quotas = &self.scheduler.state.quotas;
        if !quotas.contains_key(&project) && quotas.len() >= QUOTAS_MAX {
            return Err(Refused::TooManyQuotas { max: QUOTAS_MAX });
        }
        if quotas.get(&project).copied().unwrap_or_default() != quota {
            self.scheduler.pool.set_quota(&project, quota);
            self.record(Kind::QuotaSet(QuotaSet {
                project,
                running: quota.running,
                queued: quota.queued,
                weight: quota.weight,
            }));
        }
        Ok(Reply::Done)
    }

    /// Whether so many more jobs of a project may wait.
    pub(super) fn check_quota(&self, project: &str, jobs: usize) -> Result<(), Refused> {
        let max = self.scheduler.pool.quota(project).queued;
        let waiting = self.scheduler.pool.waiting(project);
        let within = |max| waiting.saturating_add(jobs) <= max;
        if max == 0 || usize::try_from(max).is_ok_and(within) {
            return Ok(());
        }
        Err(Refused::QuotaExceeded { waiting, jobs, max })
    }

    pub(super) fn resume_quotas(&mut self) {
        for (project, quota) in &self.scheduler.state.quotas {
            self.scheduler.pool.set_quota(project, *quota);
        }
    }
}
