//! Decisions: what follows from a command, as records and effects.

mod approval;
mod attempt;
mod document;
mod placement;
mod ready;
mod retry;
mod run;
mod runner;
mod slot;

use crate::{
    Command, Effect, JobId, Now, Output, Refused, Reply, RunId, Scheduler,
    pool::Admission,
    record::{Record, record::Kind},
    state::{Change, Phase},
};

/// One command being handled.
pub(crate) struct Turn<'a> {
    scheduler: &'a mut Scheduler,
    now: Now,
    out: &'a mut Output,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(scheduler: &'a mut Scheduler, now: Now, out: &'a mut Output) -> Self {
        Self {
            scheduler,
            now,
            out,
        }
    }

    pub(crate) fn handle(mut self, command: Command) -> Result<Reply, Refused> {
        let reply = self.decide_on(command)?;
        self.settle();
        Ok(reply)
    }

    fn decide_on(&mut self, command: Command) -> Result<Reply, Refused> {
        match command {
            Command::Submit { plan, meta } => self.submit(&plan, meta),
            Command::CancelRun { run, reason } => self.cancel_run(run, reason),
            Command::ForgetRun { run } => self.forget_run(run),
            Command::Answer {
                run,
                job,
                verdict,
                by,
                comment,
            } => self.answer(run, job, verdict, (by, comment)),
            Command::RunnerUp(up) => Ok(self.runner_up(up)),
            Command::RunnerDown { runner } => Ok(self.runner_down(runner)),
            Command::RunnerLeaving { runner } => Ok(self.runner_leaving(runner)),
            Command::RunnerDrain { runner, drain } => self.runner_drain(runner, drain),
            Command::Pause(pause) => Ok(self.pause(pause)),
            Command::Accepted { runner, token } | Command::Renew { runner, token } => {
                self.renew(runner, token)
            }
            Command::Rejected {
                runner,
                token,
                reason,
            } => self.rejected(runner, token, reason),
            Command::Started { runner, token } => self.started(runner, token),
            Command::Finished {
                runner,
                token,
                result,
            } => self.finished(runner, token, result),
            Command::Failed {
                runner,
                token,
                cause,
                message,
                log_bytes,
            } => {
                let end = attempt::End::failed(cause, message, log_bytes);
                self.reported(runner, token, end)
            }
            Command::SetDocument { kind, key, value } => self.set_document(kind, key, value),
            Command::ForgetRunner { runner } => self.forget_runner(runner),
            Command::SetQuota { project, quota } => self.set_quota(project, quota),
            Command::Tick => Ok(self.tick()),
        }
    }

    /// Builds the soft state from the durable one.
    pub(crate) fn resume(mut self) {
        self.resume_quotas();
        let runs: Vec<RunId> = self.scheduler.state.runs().map(|run| run.id).collect();
        for run in runs {
            self.resume_run(run);
        }
        let drained = self
            .scheduler
            .state
            .runners()
            .filter(|runner| runner.draining);
        for runner in drained.map(|runner| runner.id).collect::<Vec<_>>() {
            self.scheduler
                .pool
                .update(runner, |runner| runner.draining = true);
        }
        self.settle();
    }

    /// Makes a change: applies its record here and leaves it for the journal.
    fn record(&mut self, kind: Kind) {
        let record = Record {
            at_ms: self.now.wall.as_millis(),
            kind: Some(kind),
        };
        self.scheduler
            .state
            .apply(&record, &mut self.scheduler.changes)
            .expect("a record decided from the state fits the state");
        self.out.records.push(record);
    }

    fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    fn job_changed(&mut self, job: JobId) {
        if let Some((run, _, _)) = self.scheduler.state.job(job) {
            let run = run.id;
            self.effect(Effect::JobChanged { run, job });
        }
    }

    /// Follows every change to its end, then hands out jobs.
    fn settle(&mut self) {
        let mut done = 0;
        loop {
            while let Some(change) = self.scheduler.changes.get(done).copied() {
                done += 1;
                match change {
                    Change::Queued(job) => self.enqueue(job),
                    Change::Undecided(job) => self.decide(job),
                    Change::Ended(job) => self.ended(job),
                    Change::Expanded(run) => self.effect(Effect::JobsAdded { run }),
                }
            }
            // Slots last: whoever wants one by now has its place in the line.
            let Some(taker) = self.scheduler.state.slots.next() else {
                break;
            };
            self.grant(taker);
        }
        self.scheduler.changes.clear();
        self.dispatch();
    }

    /// Puts a queued job where a runner finds it.
    fn enqueue(&mut self, job: JobId) {
        let Some((run, place, state)) = self.scheduler.state.job(job) else {
            return;
        };
        // A later change of the same command may have ended it.
        if state.phase != Phase::Queued {
            return;
        }
        let requirement = run.requirement(place);
        if let Some((group, max)) = run.parallel_limit(place)
            && self.scheduler.limits.admit(run.id, group, job, max) == Admission::Later
        {
            self.job_changed(job);
            return;
        }
        if let Some(requirement) = requirement {
            let share = run.share(place);
            self.scheduler.pool.enqueue(job, &requirement, share);
        }
        self.job_changed(job);
    }

    fn tick(&mut self) -> Reply {
        while let Some(due) = self.scheduler.leases.pop(self.now.time) {
            self.due(due);
        }
        Reply::Done
    }
}
