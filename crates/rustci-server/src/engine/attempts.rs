//! Attempts on runners: assigning, stopping and settling them.

use rustci_scheduler::record::{Cause, StopReason};
use rustci_scheduler::{AttemptToken, Command, Effect, Job, Reply, RunId, RunnerId};
use valkyrie::{Correlation, End, ErrorCode, MessageType, SendError, StreamId, Time, v2};

use crate::engine::core::Core;
use crate::engine::spec::{JOB_CONTENT_TYPE, append_token};
use crate::limits::CANCEL_GRACE;
use crate::logs::LogKey;

/// An attempt that a runner has, with its streams on the runner's present connection.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) token: AttemptToken,
    pub(super) run: RunId,
    pub(super) runner: RunnerId,
    /// The stream of its job messages.
    pub(super) stream: Option<StreamId>,
    pub(super) log: Option<LogStream>,
    /// Bytes of its log that are durable; none before the log store said so.
    pub(super) durable: Option<u64>,
    /// It was told to stop, and has to be told again on a new stream.
    pub(super) cancel: Option<StopReason>,
    /// Its last word.
    pub(super) report: Option<Report>,
    /// When its request was sent, until the runner answers it.
    pub(super) asked: Option<Time>,
    /// Names and start times of its steps, for the states that follow.
    pub(super) steps: Vec<(String, Option<u64>)>,
}

/// The stream that brings an attempt's log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogStream {
    pub(super) stream: StreamId,
    /// Whether the runner was told where to begin.
    pub(super) accepted: bool,
}

/// `JOB_COMPLETE`, `JOB_FAILED` or `JOB_REJECT`, to be acknowledged when it is durable.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) link: u64,
    pub(super) stream: StreamId,
    pub(super) kind: MessageType,
    pub(super) correlation: Correlation,
    /// What it says, until the log is durable up to `log_bytes`.
    pub(super) waiting: Option<Command>,
    pub(super) log_bytes: u64,
}

impl Active {
    pub(super) fn new(token: AttemptToken, run: RunId, runner: RunnerId) -> Self {
        Self {
            token,
            run,
            runner,
            stream: None,
            log: None,
            durable: None,
            cancel: None,
            report: None,
            asked: None,
            steps: Vec::new(),
        }
    }

    pub(super) fn log_key(&self) -> LogKey {
        LogKey {
            run: self.run.0,
            job: self.token.job.0,
            attempt: self.token.attempt,
        }
    }

    /// Whether its log may exist.
    fn has_log(&self) -> bool {
        self.log.is_some() || self.durable.is_some()
    }
}

impl Core {
    /// Lets an effect go whose records are durable.
    pub(super) fn act(&mut self, effect: Effect, decided: Time) {
        match effect {
            Effect::Assign {
                runner,
                token,
                run,
                index,
            } => {
                self.measure_dispatch(token, decided);
                if token.attempt > 1 {
                    self.config.metrics.valkyrie.retry("job_dispatch");
                }
                self.assign(runner, token, run, index);
            }
            Effect::Cancel {
                runner,
                token,
                reason,
            } => self.stop(runner, token, reason),
            Effect::Settled { runner, token } => self.settled(runner, token),
            Effect::Fenced { runner, token } => self.fenced(runner, token),
            Effect::JobChanged { .. } | Effect::JobsAdded { .. } | Effect::RunChanged { .. } => {}
        }
    }

    /// Time from a ready job to its durable lease: in the queue by the civil clock, which is what
    /// the records have, and from the decision on by the exact one.
    fn measure_dispatch(&self, token: AttemptToken, decided: Time) {
        let Some((_, _, job)) = self.scheduler.job(token.job) else {
            return;
        };
        let leased = job.attempts.last().map(|attempt| attempt.leased);
        let queued = leased
            .zip(job.queued)
            .map(|(leased, queued)| leased.saturating_since(queued));
        let synced = self.clock.now().time.saturating_since(decided);
        self.config
            .metrics
            .rustci
            .dispatched(queued.unwrap_or_default() + synced);
    }

    /// The runner answered the request of a job.
    pub(super) fn measure_answer(&mut self, token: AttemptToken) {
        let now = self.clock.now().time;
        let active = self.attempts.get_mut(&token.job);
        let asked = active.and_then(|active| active.asked.take());
        if let Some(asked) = asked {
            let metrics = &self.config.metrics.valkyrie;
            metrics.answered(MessageType::JOB_REQUEST, now.saturating_since(asked));
        }
    }

    fn assign(&mut self, runner: RunnerId, token: AttemptToken, run: RunId, place: usize) {
        // Without a connection nothing is sent: when the runner comes back without the attempt,
        // or does not come back, the scheduler gives the job out again.
        let Some(link) = self.links.get(&runner).cloned() else {
            return;
        };
        let request = match self.request(token, run, place) {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(message) => return self.withdraw(runner, token, message),
        };
        let sent = link.session().job_request(&request);
        match sent {
            Ok(stream) => {
                let active = Active {
                    stream: Some(stream),
                    asked: Some(self.clock.now().time),
                    ..Active::new(token, run, runner)
                };
                self.attempts.insert(token.job, active);
                self.job_streams.insert((link.id(), stream), token);
            }
            Err(SendError::Closed | SendError::Draining | SendError::NotReady) => {}
            Err(error) => {
                tracing::warn!(%token, %error, "a job could not be sent to its runner");
                let reason = error.to_string();
                self.told(Command::Rejected {
                    runner,
                    token,
                    reason,
                });
            }
        }
    }

    /// The message that assigns an attempt; `Err` is a sentence for people.
    fn request(
        &mut self,
        token: AttemptToken,
        run: RunId,
        place: usize,
    ) -> Result<Option<v2::JobRequest>, String> {
        let Some(run) = self.scheduler.run(run) else {
            return Ok(None);
        };
        let Some(job) = run.plan.plan().jobs.get(place) else {
            return Ok(None);
        };
        let content = self.config.content.as_ref();
        let limits = content.map(|content| content.config).unwrap_or_default();
        let spec = self.specs.encode(run, place, &self.config.secrets, &limits);
        let mut spec = spec.map_err(|error| error.to_string())?;
        let of = (run.id.0, run.meta.project.as_str());
        let tokens = self.config.job_tokens.as_ref();
        if let Some(issued) = tokens.and_then(|one| one.issue(token, of, &job.permissions)) {
            append_token(&mut spec, issued);
        }
        Ok(Some(v2::JobRequest {
            attempt: Some(wire(token)),
            content_type: JOB_CONTENT_TYPE.to_owned(),
            spec,
            resources: None,
            timeout_ms: job.timeout_ms,
            lease_ms: u32::try_from(self.config.scheduler.lease.as_millis()).unwrap_or(u32::MAX),
        }))
    }

    /// Ends an attempt that was never sent, because of something on this side.
    fn withdraw(&mut self, runner: RunnerId, token: AttemptToken, message: String) {
        tracing::warn!(%token, message, "a job could not be prepared");
        let cause = Cause::RunnerError;
        self.told(Command::Failed {
            runner,
            token,
            cause,
            message,
            log_bytes: 0,
        });
    }

    /// Gives the scheduler a word on behalf of a runner.
    fn told(&mut self, command: Command) {
        if let Err(error) = self.command(command) {
            tracing::debug!(%error, "the scheduler had moved on");
        }
    }

    fn stop(&mut self, runner: RunnerId, token: AttemptToken, reason: StopReason) {
        let run = self.scheduler.job(token.job).map(|(run, _, _)| run.id);
        let Some(run) = run else { return };
        let active = self
            .attempts
            .entry(token.job)
            .or_insert_with(|| Active::new(token, run, runner));
        if active.token == token {
            active.cancel = Some(reason);
            self.send_cancel(token);
        }
    }

    /// Tells the runner to stop, if it was decided and there is a stream to say it on.
    pub(super) fn send_cancel(&self, token: AttemptToken) {
        let Some(active) = self.attempts.get(&token.job) else {
            return;
        };
        let (Some(reason), Some(stream)) = (active.cancel, active.stream) else {
            return;
        };
        let Some(link) = self.links.get(&active.runner) else {
            return;
        };
        let cancel = v2::JobCancel {
            attempt: Some(wire(token)),
            reason: match reason {
                StopReason::TimedOut => "timed_out",
                StopReason::Canceled | StopReason::FailFast | StopReason::Unspecified => "canceled",
            }
            .to_owned(),
            grace_ms: u32::try_from(CANCEL_GRACE.as_millis()).unwrap_or(u32::MAX),
        };
        if let Err(error) = link
            .session()
            .job(stream, MessageType::JOB_CANCEL, &cancel, End::No)
        {
            tracing::debug!(%token, %error, "a cancel was not sent; it is repeated on reconnect");
        }
    }

    /// The runner's last word is durable: acknowledge it.
    fn settled(&mut self, runner: RunnerId, token: AttemptToken) {
        self.let_go_of_content(token);
        let Some(active) = self.attempts.remove(&token.job) else {
            return self.finish_unknown_log(token);
        };
        if active.token != token {
            self.attempts.insert(token.job, active);
            return;
        }
        self.finish_log(&active);
        let Some(report) = &active.report else { return };
        self.job_streams.remove(&(report.link, report.stream));
        let Some(link) = self
            .links
            .get(&runner)
            .filter(|link| link.id() == report.link)
        else {
            return;
        };
        let acked = link
            .session()
            .ack(report.stream, report.kind, report.correlation, End::Yes);
        if let Err(error) = acked {
            tracing::debug!(%token, %error, "a report was not acknowledged; its stream is gone");
        }
    }

    /// A lease ended without the runner's word: whatever it still says is refused.
    fn fenced(&mut self, runner: RunnerId, token: AttemptToken) {
        self.let_go_of_content(token);
        let Some(active) = self.attempts.remove(&token.job) else {
            return self.finish_unknown_log(token);
        };
        if active.token != token {
            self.attempts.insert(token.job, active);
            return;
        }
        self.finish_log(&active);
        let Some(link) = self.links.get(&runner) else {
            return;
        };
        let log = active.log.map(|log| log.stream);
        for stream in active.stream.into_iter().chain(log) {
            self.job_streams.remove(&(link.id(), stream));
            let mut session = link.session();
            let text = format!("{token} has lost its lease");
            session.error(stream, Correlation::NONE, ErrorCode::STALE_FENCE, &text);
            session.reset(stream, ErrorCode::STALE_FENCE);
        }
    }

    /// What the attempt brought is named by its result now, or by nothing.
    fn let_go_of_content(&self, token: AttemptToken) {
        if let Some(content) = &self.config.content {
            content.pins.release(token);
        }
    }

    fn finish_log(&self, active: &Active) {
        if let Some(logs) = self.config.logs.as_ref().filter(|_| active.has_log()) {
            logs.finish(active.log_key());
        }
    }

    /// Ends the log of an attempt that no runner spoke of since this process began.
    fn finish_unknown_log(&self, token: AttemptToken) {
        let run = self.scheduler.job(token.job).map(|(run, _, _)| run.id.0);
        if let (Some(run), Some(logs)) = (run, &self.config.logs) {
            let (job, attempt) = (token.job.0, token.attempt);
            logs.finish(LogKey { run, job, attempt });
        }
    }

    /// Takes a runner's last word about an attempt. It counts once the log is durable up to where
    /// the runner says it ends.
    ///
    /// # Errors
    /// The stale token, when the lease is not the runner's any more.
    pub(super) fn report(
        &mut self,
        runner: RunnerId,
        token: AttemptToken,
        report: Report,
    ) -> Result<(), AttemptToken> {
        self.renew(runner, token)?;
        let known = self
            .attempts
            .get_mut(&token.job)
            .filter(|active| active.token == token);
        let Some(active) = known else {
            return Err(token);
        };
        let log_bytes = report.log_bytes;
        active.report = Some(report);
        let durable = active.durable;
        if durable.is_none()
            && log_bytes > 0
            && let Some(logs) = &self.config.logs
        {
            // Perhaps an earlier process of this server has all of it.
            logs.open(active.log_key());
        }
        self.try_report(token);
        Ok(())
    }

    /// Gives a report to the scheduler when nothing of the log is missing.
    pub(super) fn try_report(&mut self, token: AttemptToken) {
        let stores = self.config.logs.is_some();
        let Some(active) = self.attempts.get_mut(&token.job) else {
            return;
        };
        let Some(report) = &mut active.report else {
            return;
        };
        if stores && active.durable.unwrap_or(0) < report.log_bytes {
            return;
        }
        if let Some(command) = report.waiting.take() {
            self.told(command);
        }
    }

    /// Renews a lease, and with that checks its fencing number.
    ///
    /// # Errors
    /// The token, when it is stale.
    pub(super) fn renew(
        &mut self,
        runner: RunnerId,
        token: AttemptToken,
    ) -> Result<(), AttemptToken> {
        match self.command(Command::Renew { runner, token }) {
            Ok(Reply::Done | Reply::Run(_) | Reply::Runner { .. }) => Ok(()),
            Err(_) => Err(token),
        }
    }

    /// The attempt's record in this process, made when an earlier process assigned it.
    pub(super) fn active(&mut self, runner: RunnerId, token: AttemptToken) -> Option<&mut Active> {
        let (run, job) = self
            .scheduler
            .job(token.job)
            .map(|(run, _, job)| (run.id, job))?;
        let stopping = job.stopping.map(|stopping| stopping.reason);
        let is_current = Job::token(job, token.job) == Some(token);
        let active = self.attempts.entry(token.job).or_insert_with(|| Active {
            cancel: stopping,
            ..Active::new(token, run, runner)
        });
        (is_current && active.token == token).then_some(active)
    }
}

/// A token as it stands in messages.
pub(super) fn wire(token: AttemptToken) -> v2::Attempt {
    v2::Attempt {
        job: token.job.0,
        number: token.attempt,
        fence: token.fence.0,
    }
}
