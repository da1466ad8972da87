//! Runners: coming, going, draining.

use super::{Turn, attempt::End};
use crate::{
    AttemptToken, Drain, Effect, JobId, Refused, Reply, RunnerId, RunnerUp,
    record::{Cause, RunnerDrain, RunnerForgotten, RunnerKnown, record::Kind},
};

impl Turn<'_> {
    pub(super) fn runner_up(&mut self, up: RunnerUp) -> Reply {
        let runner = self.runner_named(&up.name);
        let draining = self
            .scheduler
            .state
            .runner(runner)
            .is_some_and(|known| known.draining);
        self.scheduler
            .pool
            .connect(runner, &up.labels, &up.executors, up.capacity);
        self.scheduler.pool.update(runner, |pooled| {
            pooled.draining = draining;
            (pooled.resting, pooled.leaving) = (false, false);
        });
        let keep = self.reconcile(runner, &up);
        Reply::Runner { runner, keep }
    }

    fn runner_named(&mut self, name: &str) -> RunnerId {
        if let Some(runner) = self.scheduler.state.runner_named(name) {
            return runner;
        }
        let runner = self.scheduler.state.next_runner();
        let name = name.to_owned();
        self.record(Kind::RunnerKnown(RunnerKnown {
            runner: runner.0,
            name,
        }));
        runner
    }

    /// Compares what a runner has with what it should have.
    ///
    /// What it does not name it will never report: its connection was lost before the assignment
    /// arrived, or it has forgotten. Waiting for the lease would only lose time.
    fn reconcile(&mut self, runner: RunnerId, up: &RunnerUp) -> Vec<AttemptToken> {
        let active = self
            .scheduler
            .pool
            .runner(runner)
            .map(|pooled| pooled.active.keys().copied().collect::<Vec<_>>());
        let mut keep = Vec::new();
        for job in active.unwrap_or_default() {
            let Some((token, _)) = self.scheduler.state.active(job) else {
                continue;
            };
            if up.held.contains(&token) {
                self.renew_lease(job);
                self.remind(job, runner, token);
                keep.push(token);
            } else if up.lost.contains(&token) {
                let message = "the runner was restarted and has lost it";
                self.end_attempt(job, End::lost(Cause::RunnerRestarted, message));
            } else {
                let message = "the runner came back without it";
                self.end_attempt(job, End::lost(Cause::RunnerLost, message));
            }
        }
        keep
    }

    /// Tells a runner again to stop an attempt: the first word may have been lost on the way.
    fn remind(&mut self, job: JobId, runner: RunnerId, token: AttemptToken) {
        let state = self.scheduler.state.job(job).map(|(_, _, job)| job);
        if let Some(stopping) = state.and_then(|job| job.stopping) {
            self.effect(Effect::Cancel {
                runner,
                token,
                reason: stopping.reason,
            });
        }
    }

    pub(super) fn runner_down(&mut self, runner: RunnerId) -> Reply {
        self.scheduler.pool.disconnect(runner);
        Reply::Done
    }

    /// Lasts as long as the connection, so nothing of it is stored.
    pub(super) fn runner_leaving(&mut self, runner: RunnerId) -> Reply {
        self.scheduler
            .pool
            .update(runner, |pooled| pooled.leaving = true);
        Reply::Done
    }

    pub(super) fn forget_runner(&mut self, runner: RunnerId) -> Result<Reply, Refused> {
        if self.scheduler.state.runner(runner).is_none() {
            return Err(Refused::UnknownRunner(runner));
        }
        let pooled = self.scheduler.pool.runner(runner);
        if pooled.is_some_and(|pooled| pooled.is_connected() || pooled.used() > 0) {
            return Err(Refused::RunnerInUse(runner));
        }
        self.scheduler.pool.forget(runner);
        self.record(Kind::RunnerForgotten(RunnerForgotten { runner: runner.0 }));
        Ok(Reply::Done)
    }

    pub(super) fn runner_drain(
        &mut self,
        runner: RunnerId,
        drain: Drain,
    ) -> Result<Reply, Refused> {
        let known = self
            .scheduler
            .state
            .runner(runner)
            .ok_or(Refused::UnknownRunner(runner))?;
        let draining = drain == Drain::On;
        if known.draining != draining {
            self.record(Kind::RunnerDrain(RunnerDrain {
                runner: runner.0,
                draining,
            }));
            self.scheduler
                .pool
                .update(runner, |pooled| pooled.draining = draining);
        }
        Ok(Reply::Done)
    }
}
