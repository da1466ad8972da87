//! Attempts: messages about them, their deadlines, their ends.

use valkyrie_frame::{Time, WallTime};

use super::{Turn, retry};
use crate::{
    AttemptResult, AttemptToken, Effect, JobId, Refused, Reply, RunnerId,
    pool::Due,
    record::{AttemptEnded, Cause, Conclusion, NamedText, Next, Started, StopReason, record::Kind},
    state::{Job, Stopping},
};

/// How an attempt ended, before the scheduler has weighed it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) cause: Cause,
    pub(super) conclusion: Conclusion,
    pub(super) exit_code: Option<i32>,
    outputs: Vec<NamedText>,
    message: String,
    log_bytes: u64,
    detail: Vec<u8>,
    source: Source,
}

/// Who says that an attempt has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Runner,
    Scheduler,
}

impl End {
    /// The runner could not run it to its end.
    pub(super) fn failed(cause: Cause, message: String, log_bytes: u64) -> Self {
        let conclusion = match cause {
            Cause::Timeout => Conclusion::TimedOut,
            Cause::Canceled => Conclusion::Canceled,
            _ => Conclusion::Error,
        };
        Self {
            log_bytes,
            source: Source::Runner,
            ..Self::decided(cause, conclusion, message)
        }
    }

    fn completed(result: AttemptResult) -> Self {
        Self {
            cause: Cause::Completed,
            conclusion: result.outcome,
            exit_code: result.exit_code,
            outputs: result.outputs,
            message: result.message,
            log_bytes: result.log_bytes,
            detail: result.detail,
            source: Source::Runner,
        }
    }

    /// The scheduler ends it without the runner's word.
    fn decided(cause: Cause, conclusion: Conclusion, message: String) -> Self {
        Self {
            cause,
            conclusion,
            exit_code: None,
            outputs: Vec::new(),
            message,
            log_bytes: 0,
            detail: Vec::new(),
            source: Source::Scheduler,
        }
    }

    pub(super) fn lost(cause: Cause, message: &str) -> Self {
        Self::decided(cause, Conclusion::Error, message.to_owned())
    }
}

/// What a token is to the job it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The current lease.
    Current,
    /// A lease whose end the runner has already reported.
    Reported,
}

impl Turn<'_> {
    /// The gate of every message about an attempt.
    fn check(&self, runner: RunnerId, token: AttemptToken) -> Result<Standing, Refused> {
        let stale = Refused::Stale(token);
        let (_, _, job) = self.scheduler.state.job(token.job).ok_or(stale)?;
        let number = usize::try_from(token.attempt)
            .ok()
            .and_then(|number| number.checked_sub(1));
        let attempt = number
            .and_then(|number| job.attempts.get(number))
            .ok_or(stale)?;
        if attempt.fence != token.fence || attempt.runner != runner {
            return Err(stale);
        }
        match &attempt.end {
            None => Ok(Standing::Current),
            Some(end) if end.reported => Ok(Standing::Reported),
            Some(_) => Err(stale),
        }
    }

    fn check_current(&self, runner: RunnerId, token: AttemptToken) -> Result<(), Refused> {
        match self.check(runner, token)? {
            Standing::Current => Ok(()),
            Standing::Reported => Err(Refused::Stale(token)),
        }
    }

    pub(super) fn renew(
        &mut self,
        runner: RunnerId,
        token: AttemptToken,
    ) -> Result<Reply, Refused> {
        self.check_current(runner, token)?;
        self.renew_lease(token.job);
        Ok(Reply::Done)
    }

    pub(super) fn renew_lease(&mut self, job: JobId) {
        let until = self.now.time + self.scheduler.config.lease;
        self.scheduler.leases.renew(job, until);
    }

    pub(super) fn started(
        &mut self,
        runner: RunnerId,
        token: AttemptToken,
    ) -> Result<Reply, Refused> {
        self.check_current(runner, token)?;
        self.renew_lease(token.job);
        let job = self.scheduler.state.job(token.job).map(|(_, _, job)| job);
        let begun = job
            .and_then(Job::current)
            .is_some_and(|attempt| attempt.started.is_some());
        if !begun {
            self.record(Kind::Started(Started { job: token.job.0 }));
            self.arm_timeout(token.job);
            self.job_changed(token.job);
        }
        Ok(Reply::Done)
    }

    pub(super) fn rejected(
        &mut self,
        runner: RunnerId,
        token: AttemptToken,
        reason: String,
    ) -> Result<Reply, Refused> {
        let reply = self.reported(runner, token, End::failed(Cause::Rejected, reason, 0))?;
        let rested = self.now.time + self.scheduler.config.reject_rest;
        self.scheduler
            .pool
            .update(runner, |runner| runner.resting = true);
        self.scheduler.leases.rest(runner, rested);
        Ok(reply)
    }

    pub(super) fn finished(
        &mut self,
        runner: RunnerId,
        token: AttemptToken,
        result: AttemptResult,
    ) -> Result<Reply, Refused> {
        self.reported(runner, token, End::completed(result))
    }

    /// The runner says that an attempt has ended; saying it again changes nothing.
    pub(super) fn reported(
        &mut self,
        runner: RunnerId,
        token: AttemptToken,
        end: End,
    ) -> Result<Reply, Refused> {
        if self.check(runner, token)? == Standing::Current {
            self.end_attempt(token.job, end);
        } else {
            self.effect(Effect::Settled { runner, token });
        }
        Ok(Reply::Done)
    }

    /// Ends the job's current attempt and says what happens to the job.
    pub(super) fn end_attempt(&mut self, id: JobId, end: End) {
        let Some((run, place, job)) = self.scheduler.state.job(id) else {
            return;
        };
        let Some((token, runner)) = self.scheduler.state.active(id) else {
            return;
        };
        let end = End {
            conclusion: weigh(end.conclusion, job.stopping),
            ..end
        };
        let next = retry::next(run, place, job, &end, self.scheduler.config.requeues_max);
        let reported = end.source == Source::Runner;
        self.record(Kind::AttemptEnded(AttemptEnded {
            job: id.0,
            cause: end.cause.into(),
            conclusion: end.conclusion.into(),
            next: next.into(),
            outputs: end.outputs,
            message: end.message,
            log_bytes: end.log_bytes,
            detail: end.detail,
            reported,
        }));
        self.scheduler.leases.end(id);
        self.scheduler.pool.release(runner, id, self.now.wall);
        self.effect(if reported {
            Effect::Settled { runner, token }
        } else {
            Effect::Fenced { runner, token }
        });
        if next != Next::End {
            self.job_changed(id);
        }
    }

    /// Acts on something whose time has come.
    pub(super) fn due(&mut self, due: Due) {
        match due {
            Due::Lost(job) => {
                let lost = End::lost(Cause::RunnerLost, "no message from the runner for a lease");
                self.end_attempt(job, lost);
            }
            Due::Timeout(job) => self.stop_active(job, StopReason::TimedOut),
            Due::Stop(job) => self.give_up(job),
            Due::Unanswered(job) => self.unanswered(job),
            Due::Rested(runner) => {
                self.scheduler
                    .pool
                    .update(runner, |runner| runner.resting = false);
            }
        }
    }

    /// Ends an attempt that was told to stop and did not.
    fn give_up(&mut self, id: JobId) {
        let job = self.scheduler.state.job(id).map(|(_, _, job)| job);
        let timed_out = job
            .and_then(|job| job.stopping)
            .is_some_and(|stopping| stopping.reason == StopReason::TimedOut);
        let (cause, conclusion) = if timed_out {
            (Cause::Timeout, Conclusion::TimedOut)
        } else {
            (Cause::Canceled, Conclusion::Canceled)
        };
        let message = "the runner did not stop it in time".to_owned();
        self.end_attempt(id, End::decided(cause, conclusion, message));
    }

    /// Takes up an attempt after a restart: its runner has a whole lease to come back.
    pub(super) fn resume_active(&mut self, id: JobId) {
        let Some((run, place, job)) = self.scheduler.state.job(id) else {
            return;
        };
        if let (Some(attempt), Some(requirement)) = (job.current(), run.requirement(place)) {
            let (share, since) = (run.share(place), attempt.leased);
            self.scheduler
                .pool
                .resume(attempt.runner, id, &requirement, share, since);
        }
        self.scheduler
            .leases
            .begin(id, self.now.time + self.scheduler.config.lease);
        self.arm_timeout(id);
        let Some((run, place, job)) = self.scheduler.state.job(id) else {
            return;
        };
        if let Some((group, max)) = run.parallel_limit(place) {
            self.scheduler.limits.admit(run.id, group, id, max);
        }
        if let Some(stopping) = job.stopping {
            let left = self.left(stopping.at, self.scheduler.config.stop_patience);
            self.scheduler.leases.set_stop(id, left);
        }
    }

    /// Sets the job's timeout, counted from the start of its first step.
    fn arm_timeout(&mut self, id: JobId) {
        let Some((run, place, job)) = self.scheduler.state.job(id) else {
            return;
        };
        let started = job.current().and_then(|attempt| attempt.started);
        if let (Some(started), Some(planned)) = (started, run.plan.job(place)) {
            let limit = std::time::Duration::from_millis(planned.timeout_ms);
            let at = self.left(started, limit);
            self.scheduler.leases.set_timeout(id, at);
        }
    }

    /// When something ends that began at `since` and takes `limit`, on the monotonic clock.
    pub(super) fn left(&self, since: WallTime, limit: std::time::Duration) -> Time {
        let gone = self.now.wall.saturating_since(since);
        self.now.time + limit.saturating_sub(gone)
    }
}

/// An attempt that was told to stop ended because of that, unless it had succeeded before.
fn weigh(conclusion: Conclusion, stopping: Option<Stopping>) -> Conclusion {
    match stopping.map(|stopping| stopping.reason) {
        _ if conclusion == Conclusion::Success => conclusion,
        Some(StopReason::TimedOut) => Conclusion::TimedOut,
        Some(StopReason::Canceled | StopReason::FailFast) => Conclusion::Canceled,
        Some(StopReason::Unspecified) | None => conclusion,
    }
}
