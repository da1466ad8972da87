//! Runners: coming, going, and how far their logs are.

use prost::Message;
use rustci_pipeline::v1;
use rustci_scheduler::{AttemptToken, Command, Fence, JobId, Reply, RunnerId, RunnerUp};
use valkyrie::{Correlation, ErrorCode, Link};

use crate::engine::core::{Core, Pending};
use crate::limits::{JOB_STREAMS_MAX, LABELS_MAX, NAME_BYTES_MAX, SHUTDOWN_DRAIN};
use crate::logs::{AppendError, LogKey, LogProgress};

impl Core {
    /// Takes a runner's registration; it is answered when that is durable.
    ///
    /// # Errors
    /// A sentence for the runner's operator.
    pub(super) fn register(
        &mut self,
        link: &Link,
        call: Correlation,
        request: v1::RegisterRequest,
    ) -> Result<RunnerId, String> {
        check(&request)?;
        self.check_place(&request, link)?;
        let place = self.held();
        let up = RunnerUp {
            name: request.name.clone(),
            labels: request.labels,
            capacity: request.capacity.clamp(1, JOB_STREAMS_MAX),
            executors: request.executors,
            held: request.held.iter().map(token).collect(),
            lost: request.lost.iter().map(token).collect(),
        };
        let Ok(Reply::Runner { runner, keep }) = self.command(Command::RunnerUp(up)) else {
            return Err("the scheduler did not take the runner".to_owned());
        };
        tracing::info!(%runner, name = request.name, conn = link.id(), kept = keep.len(), "runner registered");
        self.replace_link(runner, link);
        self.versions.insert(runner, request.version);
        self.places.insert(runner, request.place);
        // In front of the jobs it is about to get: it has to know first what it may keep.
        self.hold_at(
            place,
            Pending::Registered {
                link: link.clone(),
                call,
                runner,
                keep,
            },
        );
        Ok(runner)
    }

    /// Two runners under one name would take each other's jobs away for ever.
    fn check_place(&self, request: &v1::RegisterRequest, link: &Link) -> Result<(), String> {
        let name = &request.name;
        let mut runners = self.scheduler.runners();
        let Some(known) = runners.find(|runner| runner.name == *name) else {
            return Ok(());
        };
        let live = self.links.get(&known.id);
        let place = live.filter(|live| live.id() != link.id());
        let place = place.and_then(|_| self.places.get(&known.id));
        let elsewhere = |place: &&Vec<u8>| {
            !place.is_empty() && !request.place.is_empty() && **place != request.place
        };
        if place.filter(elsewhere).is_some() {
            return Err(format!(
                "a runner called `{name}` is connected already, with another state directory; \
                 give one of the two another name with --name"
            ));
        }
        Ok(())
    }

    fn replace_link(&mut self, runner: RunnerId, link: &Link) {
        let old = self.links.insert(runner, link.clone());
        if let Some(old) = old.filter(|old| old.id() != link.id()) {
            self.forget_streams(runner, &old);
            old.close(ErrorCode::DRAINING, SHUTDOWN_DRAIN);
        }
        self.count_runners();
    }

    /// Answers a registration.
    pub(super) fn welcome(
        &self,
        link: &Link,
        call: Correlation,
        runner: RunnerId,
        keep: &[AttemptToken],
    ) {
        let keep = keep.iter().map(|token| v1::HeldAttempt {
            job: token.job.0,
            number: token.attempt,
            fence: token.fence.0,
        });
        let reply = v1::RegisterReply {
            runner: runner.0,
            lease_ms: u32::try_from(self.config.scheduler.lease.as_millis()).unwrap_or(u32::MAX),
            keep: keep.collect(),
        };
        if let Err(error) = link.session().reply(call, &reply.encode_to_vec()) {
            tracing::debug!(%runner, %error, "a registration was not answered");
        }
    }

    /// A runner's connection ended. If it has another one already, nothing changes.
    pub(super) fn disconnected(&mut self, runner: RunnerId, link: &Link) {
        self.job_streams.retain(|(id, _), _| *id != link.id());
        if self
            .links
            .get(&runner)
            .is_none_or(|known| known.id() != link.id())
        {
            return;
        }
        self.links.remove(&runner);
        self.seen.insert(runner, self.clock.now().wall);
        self.forget_streams(runner, link);
        self.count_runners();
        if let Err(error) = self.command(Command::RunnerDown { runner }) {
            tracing::debug!(%runner, %error, "a runner went away twice");
        }
    }

    /// A runner wants no new jobs on this connection.
    ///
    /// # Errors
    /// A sentence for the runner's operator.
    pub(super) fn runner_leaves(&mut self, runner: RunnerId) -> Result<(), &'static str> {
        match self.command(Command::RunnerLeaving { runner }) {
            Ok(_) => Ok(()),
            Err(_) => Err("the scheduler did not take it"),
        }
    }

    fn forget_streams(&mut self, runner: RunnerId, link: &Link) {
        self.job_streams.retain(|(id, _), _| *id != link.id());
        for active in self
            .attempts
            .values_mut()
            .filter(|active| active.runner == runner)
        {
            (active.stream, active.log) = (None, None);
        }
    }

    fn count_runners(&self) {
        let count = u64::try_from(self.links.len()).unwrap_or(u64::MAX);
        self.config.metrics.rustci.runners_connected(count);
    }

    /// Takes the log store's news: acknowledges, resumes, and completes attempts that waited.
    pub(super) fn logs_progressed(&mut self) {
        let Some(logs) = &self.config.logs else {
            return;
        };
        let mut news = Vec::new();
        let failed = logs.events().take(&mut news);
        for (key, progress) in news {
            self.log_progressed(key, progress);
        }
        if let Some(reason) = failed {
            self.fail(&reason);
        }
    }

    fn log_progressed(&mut self, key: LogKey, progress: LogProgress) {
        let job = JobId(key.job);
        let Some(active) = self.attempts.get_mut(&job) else {
            return;
        };
        if active.log_key() != key {
            return;
        }
        active.durable = Some(progress.durable);
        let token = active.token;
        if let (Some(log), Some(link)) = (&mut active.log, self.links.get(&active.runner)) {
            let mut session = link.session();
            if let Some(refused) = progress.refused {
                let (code, text) = (refusal(&refused), refused.to_string());
                session.error(log.stream, Correlation::NONE, code, &text);
                // The runner opens another one and is told where to go on.
                session.reset(log.stream, code);
                active.log = None;
            } else if log.accepted {
                session.log_durable(log.stream, progress.durable);
            } else if progress.opened {
                log.accepted = true;
                session.accept(log.stream, progress.durable);
            }
        }
        self.try_report(token);
    }
}

fn refusal(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Gap { .. } => ErrorCode::UNEXPECTED,
        AppendError::Malformed { .. } => ErrorCode::MALFORMED,
    }
}

fn check(request: &v1::RegisterRequest) -> Result<(), &'static str> {
    let is_word = |word: &String| {
        !word.is_empty() && word.len() <= NAME_BYTES_MAX && !word.chars().any(char::is_control)
    };
    if !is_word(&request.name) {
        return Err("a runner needs a name of at most 255 bytes without control characters");
    }
    let labels = request.labels.iter().chain(&request.executors);
    if request.labels.len() > LABELS_MAX || !labels.into_iter().all(is_word) {
        return Err("a runner has at most 100 labels, each of 1 to 255 bytes");
    }
    Ok(())
}

pub(super) fn token(held: &v1::HeldAttempt) -> AttemptToken {
    AttemptToken {
        job: JobId(held.job),
        attempt: held.number,
        fence: Fence(held.fence),
    }
}
