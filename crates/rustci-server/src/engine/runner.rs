//! What runners say: the handler of their connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use prost::Message;
use rustci_pipeline::v1;
use rustci_scheduler::record::NamedText;
use rustci_scheduler::{
    AttemptResult, AttemptToken, Command, Fence, JobId, RunnerId, cause_from_wire,
};
use valkyrie::{
    CloseReason, Correlation, ErrorCode, Event, Handler, Link, MessageType, SessionError, StreamId,
    v2,
};

use crate::engine::attempts::{LogStream, Report};
use crate::engine::content::{self, Transfers};
use crate::engine::core::Core;
use crate::engine::source::Sending;
use crate::engine::states;
use crate::limits::SOURCE_STREAMS_MAX;
use crate::logs::LogKey;

/// The first call of every connection.
const REGISTER: &str = "rustci.v1.Runner/Register";
const DRAIN: &str = "rustci.v1.Runner/Drain";
const LOG_APPEND: &str = "rustci.v1.Log/Append";
const JOB_RESUME: &str = "rustci.v1.Job/Resume";
const SOURCE_GET: &str = "rustci.v1.Source/Get";

/// The engine's side of one runner connection.
pub struct RunnerHandler {
    core: Rc<RefCell<Core>>,
    /// Set by registration; nothing else is heard before.
    runner: Option<RunnerId>,
    logs: HashMap<StreamId, (AttemptToken, LogKey)>,
    sources: HashMap<StreamId, Sending>,
    transfers: Transfers,
}

impl std::fmt::Debug for RunnerHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnerHandler")
            .field("runner", &self.runner)
            .finish_non_exhaustive()
    }
}

/// Why a message is refused.
enum Refusal {
    /// Its fencing number is not that of the current lease.
    Stale(AttemptToken),
    /// It is not what the protocol says.
    Wrong(&'static str),
}

/// A job message with where it came from.
struct JobMessage<'m> {
    stream: StreamId,
    kind: MessageType,
    body: &'m [u8],
    correlation: Correlation,
}

impl Handler for RunnerHandler {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        if self.core.borrow().failed.is_some() {
            return Self::while_failed(link, &event);
        }
        match event {
            Event::Call {
                call, method, body, ..
            } => self.call(link, call, &method, &body),
            Event::Opened { stream, open, .. } => self.opened(link, stream, &open),
            Event::Job {
                stream,
                kind,
                body,
                correlation,
                ..
            } => {
                self.job(
                    link,
                    &JobMessage {
                        stream,
                        kind,
                        body: &body,
                        correlation,
                    },
                );
            }
            Event::Log {
                stream,
                offset,
                records,
            } => self.log(link, stream, offset, records),
            Event::FileVerified { stream, offset } => self.source_from(link, stream, offset),
            Event::Writable { stream } => {
                self.transfers.writable(stream);
                self.source_more(link, stream);
            }
            Event::Rtt { rtt } => {
                let core = self.core.borrow();
                core.config
                    .metrics
                    .valkyrie
                    .answered(MessageType::PING, rtt);
            }
            Event::FileAcked { stream } => drop(self.sources.remove(&stream)),
            Event::Finished { stream, .. } => self.finished(link, stream),
            Event::Reset { stream, .. } => self.gone(link, stream),
            Event::Data { stream, bytes, .. } if !self.transfers.data(link, stream, &bytes) => {
                link.session().consume(stream, bytes.len());
            }
            _ => {}
        }
    }

    fn closed(&mut self, link: &Link, reason: &CloseReason) {
        self.transfers.all_gone();
        let blames_us = |error: &SessionError| matches!(error, SessionError::Peer { .. });
        if let CloseReason::Session(error) = reason
            && !blames_us(error)
        {
            let core = self.core.borrow();
            core.config
                .metrics
                .rustci
                .connection_rejected(reason.code());
        }
        let Some(runner) = self.runner else { return };
        tracing::info!(%runner, conn = link.id(), %reason, "runner disconnected");
        self.core.borrow_mut().disconnected(runner, link);
    }
}

impl RunnerHandler {
    pub(super) fn new(core: Rc<RefCell<Core>>) -> Self {
        Self {
            core,
            runner: None,
            logs: HashMap::new(),
            sources: HashMap::new(),
            transfers: Transfers::default(),
        }
    }

    /// Nothing is taken any more; a call at least hears why.
    fn while_failed(link: &Link, event: &Event<'_>) {
        if let Event::Call { call, .. } = event {
            let text = "the server's storage failed; it takes no work until it is restarted";
            // The connection is about to end anyway.
            let _ = link.session().reply_error(*call, ErrorCode::STORAGE, text);
        }
    }

    fn call(&mut self, link: &Link, call: Correlation, method: &str, body: &[u8]) {
        let refuse = |code, text: &str| {
            if let Err(error) = link.session().reply_error(call, code, text) {
                tracing::debug!(%error, method, "a call was not answered");
            }
        };
        match method {
            REGISTER => {}
            DRAIN => return self.drain(link, call),
            content::MISSING | content::FIND_CACHE | content::FIND_ARTIFACT => {
                return self.content_call(link, call, method, body);
            }
            _ => return refuse(ErrorCode::UNEXPECTED, "there is no such method"),
        }
        let Ok(request) = v1::RegisterRequest::decode(body) else {
            return refuse(ErrorCode::MALFORMED, "the body is not a RegisterRequest");
        };
        match self.core.borrow_mut().register(link, call, request) {
            Ok(runner) => self.runner = Some(runner),
            Err(text) => refuse(ErrorCode::REJECTED, &text),
        }
    }

    fn content_call(&mut self, link: &Link, call: Correlation, method: &str, body: &[u8]) {
        let done = match self.runner {
            Some(runner) => {
                let mut core = self.core.borrow_mut();
                core.content_call(link, runner, call, method, body)
            }
            None => Err((ErrorCode::REJECTED, "register first".to_owned())),
        };
        if let Err((code, text)) = done
            && let Err(error) = link.session().reply_error(call, code, &text)
        {
            tracing::debug!(%error, method, "a call was not answered");
        }
    }

    /// The runner is about to leave: it keeps what it has and gets nothing new.
    fn drain(&mut self, link: &Link, call: Correlation) {
        let done = match self.runner {
            Some(runner) => self.core.borrow_mut().runner_leaves(runner),
            None => Err("register first"),
        };
        let mut session = link.session();
        let answered = match done {
            Ok(()) => session.reply(call, &[]),
            Err(text) => session.reply_error(call, ErrorCode::REJECTED, text),
        };
        if let Err(error) = answered {
            tracing::debug!(%error, "a runner that leaves was not answered");
        }
    }

    fn opened(&mut self, link: &Link, stream: StreamId, open: &v2::StreamOpen) {
        let done = match (self.runner, open.method.as_str()) {
            (None, _) => Err(Refusal::Wrong("register first")),
            (Some(runner), LOG_APPEND) => self.open_log(runner, stream, open),
            (Some(runner), JOB_RESUME) => self.resume_job(link, runner, stream, open),
            (Some(_), SOURCE_GET) => return self.open_source(link, stream, open),
            (Some(runner), content::PUT | content::GET) => {
                return self.open_blobs(link, runner, stream, open);
            }
            _ => Err(Refusal::Wrong("there is no such method")),
        };
        self.answer(link, stream, Correlation::NONE, done);
    }

    fn open_log(
        &mut self,
        runner: RunnerId,
        stream: StreamId,
        open: &v2::StreamOpen,
    ) -> Result<(), Refusal> {
        let token = token_of(open)?;
        let mut core = self.core.borrow_mut();
        core.renew(runner, token).map_err(Refusal::Stale)?;
        let active = core.active(runner, token).ok_or(Refusal::Stale(token))?;
        active.log = Some(LogStream {
            stream,
            accepted: false,
        });
        let key = active.log_key();
        self.logs.insert(stream, (token, key));
        // Answered with the durable offset when the log store has it.
        let logs = core
            .config
            .logs
            .as_ref()
            .ok_or(Refusal::Wrong("this server keeps no logs"))?;
        logs.open(key);
        Ok(())
    }

    fn resume_job(
        &mut self,
        link: &Link,
        runner: RunnerId,
        stream: StreamId,
        open: &v2::StreamOpen,
    ) -> Result<(), Refusal> {
        let token = token_of(open)?;
        let mut core = self.core.borrow_mut();
        core.renew(runner, token).map_err(Refusal::Stale)?;
        core.active(runner, token)
            .ok_or(Refusal::Stale(token))?
            .stream = Some(stream);
        core.job_streams.insert((link.id(), stream), token);
        link.session().accept(stream, 0);
        core.send_cancel(token);
        Ok(())
    }

    fn job(&mut self, link: &Link, message: &JobMessage<'_>) {
        let done = match self.runner {
            Some(runner) => self.job_message(link, runner, message),
            None => Err(Refusal::Wrong("register first")),
        };
        self.answer(link, message.stream, message.correlation, done);
    }

    fn job_message(
        &mut self,
        link: &Link,
        runner: RunnerId,
        message: &JobMessage<'_>,
    ) -> Result<(), Refusal> {
        let mut core = self.core.borrow_mut();
        let expected = core.job_streams.get(&(link.id(), message.stream)).copied();
        let (attempt, word) = Word::decode(message)?;
        let token = token(&attempt);
        // A message about another attempt than the stream's own is as late as a late one.
        if expected != Some(token) {
            return Err(Refusal::Stale(token));
        }
        let waiting = match word {
            Word::Accept => {
                core.measure_answer(token);
                return said(&mut core, Command::Accepted { runner, token });
            }
            Word::Start => return said(&mut core, Command::Started { runner, token }),
            Word::Progress(progress) => {
                core.renew(runner, token).map_err(Refusal::Stale)?;
                core.progress(token, &progress);
                return Ok(());
            }
            Word::Reject(reason) => (
                Command::Rejected {
                    runner,
                    token,
                    reason,
                },
                0,
            ),
            Word::Failed(failed) => (
                Command::Failed {
                    runner,
                    token,
                    cause: cause_from_wire(&failed.cause),
                    message: failed.message,
                    log_bytes: failed.log_bytes,
                },
                failed.log_bytes,
            ),
            Word::Complete(complete) => {
                let log_bytes = complete.log_bytes;
                let result = core.result(token, complete);
                (
                    Command::Finished {
                        runner,
                        token,
                        result,
                    },
                    log_bytes,
                )
            }
        };
        let (command, log_bytes) = waiting;
        let report = Report {
            link: link.id(),
            stream: message.stream,
            kind: message.kind,
            correlation: message.correlation,
            waiting: Some(command),
            log_bytes,
        };
        core.report(runner, token, report).map_err(Refusal::Stale)
    }

    fn log(&mut self, link: &Link, stream: StreamId, offset: u64, records: &[u8]) {
        let Some((token, key)) = self.logs.get(&stream) else {
            return;
        };
        let core = self.core.borrow();
        let current = core.attempts.get(&token.job).map(|active| active.token);
        if current == Some(*token) {
            if let Some(logs) = &core.config.logs {
                logs.append(*key, offset, records);
            }
            return;
        }
        let stale = Refusal::Stale(*token);
        drop(core);
        self.logs.remove(&stream);
        self.answer(link, stream, Correlation::NONE, Err(stale));
    }

    fn open_source(&mut self, link: &Link, stream: StreamId, open: &v2::StreamOpen) {
        let blobs = self.core.borrow().config.blobs.clone();
        let room = self.sources.len() < SOURCE_STREAMS_MAX;
        let sending = blobs
            .filter(|_| room)
            .ok_or("too many transfers at once".to_owned());
        match sending.and_then(|blobs| Sending::open(&blobs, open)) {
            Ok(sending) => {
                let mut session = link.session();
                session.accept(stream, 0);
                match session.file_start(stream, &sending.start()) {
                    Ok(()) => drop(self.sources.insert(stream, sending)),
                    Err(error) => tracing::debug!(%stream, %error, "a file was not offered"),
                }
            }
            Err(text) => {
                let mut session = link.session();
                session.error(stream, Correlation::NONE, ErrorCode::REJECTED, &text);
                session.reset(stream, ErrorCode::REJECTED);
            }
        }
    }

    fn open_blobs(
        &mut self,
        link: &Link,
        runner: RunnerId,
        stream: StreamId,
        open: &v2::StreamOpen,
    ) {
        let token = match token_of(open) {
            Ok(token) => token,
            Err(refusal) => return self.answer(link, stream, Correlation::NONE, Err(refusal)),
        };
        let transfers = &self.transfers;
        let mut core = self.core.borrow_mut();
        let opened = core.open_blobs(transfers, link, runner, stream, open, token);
        if let Err((code, text)) = opened {
            tracing::warn!(conn = link.id(), %stream, code = code.name(), text, "refused a stream");
            let mut session = link.session();
            session.error(stream, Correlation::NONE, code, &text);
            session.reset(stream, code);
        }
    }

    fn source_from(&mut self, link: &Link, stream: StreamId, offset: u64) {
        if let Some(sending) = self.sources.get_mut(&stream)
            && sending.begin(offset)
        {
            self.source_more(link, stream);
        }
    }

    fn source_more(&mut self, link: &Link, stream: StreamId) {
        let Some(sending) = self.sources.get_mut(&stream) else {
            return;
        };
        if let Err(error) = sending.send(&mut link.session(), stream) {
            tracing::warn!(%stream, %error, "a source transfer failed");
            self.sources.remove(&stream);
            link.session().reset(stream, ErrorCode::STORAGE);
        }
    }

    /// The runner sends nothing more on a stream.
    fn finished(&mut self, link: &Link, stream: StreamId) {
        if self.transfers.finished(link, stream) {
            return;
        }
        let is_log = self.logs.remove(&stream).is_some();
        if is_log || self.sources.remove(&stream).is_some() {
            link.session().finish(stream);
        }
    }

    /// A stream ended in both directions.
    fn gone(&mut self, link: &Link, stream: StreamId) {
        self.transfers.gone(stream);
        self.sources.remove(&stream);
        let mut core = self.core.borrow_mut();
        let token = core.job_streams.remove(&(link.id(), stream));
        let log = self.logs.remove(&stream).map(|(token, _)| token);
        let Some(token) = token.or(log) else { return };
        if let Some(active) = core.attempts.get_mut(&token.job)
            && active.token == token
        {
            active.stream = active.stream.filter(|own| *own != stream);
            active.log = active.log.filter(|own| own.stream != stream);
        }
    }

    /// Refuses a message: an error about it, then the end of its stream.
    fn answer(
        &mut self,
        link: &Link,
        stream: StreamId,
        about: Correlation,
        done: Result<(), Refusal>,
    ) {
        let (code, text) = match done {
            Ok(()) => return,
            Err(Refusal::Stale(token)) => (
                ErrorCode::STALE_FENCE,
                format!("{token} is not the current lease"),
            ),
            Err(Refusal::Wrong(text)) => (ErrorCode::UNEXPECTED, text.to_owned()),
        };
        tracing::warn!(conn = link.id(), %stream, code = code.name(), text, "refused a message");
        let mut core = self.core.borrow_mut();
        core.config.metrics.valkyrie.error(code);
        core.job_streams.remove(&(link.id(), stream));
        drop(core);
        let mut session = link.session();
        session.error(stream, about, code, &text);
        session.reset(stream, code);
    }
}

/// A job message, decoded.
enum Word {
    Accept,
    Reject(String),
    Start,
    Progress(v2::JobProgress),
    Complete(v2::JobComplete),
    Failed(v2::JobFailed),
}

impl Word {
    fn decode(message: &JobMessage<'_>) -> Result<(v2::Attempt, Self), Refusal> {
        let decoded = match message.kind {
            MessageType::JOB_ACCEPT => {
                v2::JobAccept::decode(message.body).map(|word| (word.attempt, Self::Accept))
            }
            MessageType::JOB_REJECT => v2::JobReject::decode(message.body)
                .map(|word| (word.attempt, Self::Reject(word.reason))),
            MessageType::JOB_START => {
                v2::JobStart::decode(message.body).map(|word| (word.attempt, Self::Start))
            }
            MessageType::JOB_PROGRESS => v2::JobProgress::decode(message.body)
                .map(|word| (word.attempt, Self::Progress(word))),
            MessageType::JOB_COMPLETE => v2::JobComplete::decode(message.body)
                .map(|word| (word.attempt, Self::Complete(word))),
            MessageType::JOB_FAILED => {
                v2::JobFailed::decode(message.body).map(|word| (word.attempt, Self::Failed(word)))
            }
            _ => return Err(Refusal::Wrong("a runner does not send this message")),
        };
        match decoded {
            Ok((Some(attempt), word)) => Ok((attempt, word)),
            Ok((None, _)) => Err(Refusal::Wrong("the message names no attempt")),
            Err(_) => Err(Refusal::Wrong("the message is not readable")),
        }
    }
}

/// Passes a word on that needs no acknowledgement.
fn said(core: &mut Core, command: Command) -> Result<(), Refusal> {
    match core.command(command) {
        Ok(_) => Ok(()),
        Err(rustci_scheduler::Refused::Stale(token)) => Err(Refusal::Stale(token)),
        Err(_) => Err(Refusal::Wrong("the message does not fit the job's state")),
    }
}

fn token(attempt: &v2::Attempt) -> AttemptToken {
    AttemptToken {
        job: JobId(attempt.job),
        attempt: attempt.number,
        fence: Fence(attempt.fence),
    }
}

/// The token in a stream's metadata: `job`, `attempt` and `fence`, 8 bytes each.
fn token_of(open: &v2::StreamOpen) -> Result<AttemptToken, Refusal> {
    let number = |name: &str| {
        let bytes = open
            .metadata
            .get(name)
            .and_then(|bytes| <[u8; 8]>::try_from(&bytes[..]).ok());
        bytes
            .map(u64::from_be_bytes)
            .ok_or(Refusal::Wrong("job, attempt and fence are 8 bytes each"))
    };
    let attempt = u32::try_from(number("attempt")?);
    Ok(AttemptToken {
        job: JobId(number("job")?),
        attempt: attempt.map_err(|_| Refusal::Wrong("there is no such attempt"))?,
        fence: Fence(number("fence")?),
    })
}

impl Core {
    /// What a completed attempt came to, in the scheduler's words; its steps go to the catalogue
    /// with the records.
    fn result(&mut self, token: AttemptToken, complete: v2::JobComplete) -> AttemptResult {
        let Some(mut result) = states::result(&complete.result) else {
            let message = "the runner sent a result that cannot be read".to_owned();
            let outcome = states::recorded(v1::Outcome::Error);
            return AttemptResult {
                outcome,
                message,
                log_bytes: complete.log_bytes,
                ..AttemptResult::default()
            };
        };
        let detail = self.sound_detail(&mut result, complete.result);
        let failed = |step: &&v1::StepFinished| step.conclusion() == v1::Outcome::Failure;
        let exit_code = result
            .steps
            .iter()
            .find(failed)
            .and_then(|step| step.exit_code);
        let steps = self.finished_steps(token, &result);
        self.projection.extend(steps);
        let text = |output: &v1::Binding| NamedText {
            name: output.name.clone(),
            value: output.value.clone(),
        };
        AttemptResult {
            outcome: states::recorded(result.outcome()),
            outputs: result.outputs.iter().map(text).collect(),
            exit_code,
            message: result.message,
            log_bytes: complete.log_bytes,
            detail,
        }
    }
}
