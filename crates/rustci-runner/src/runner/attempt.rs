//! One attempt as the server sees it: what it was told, what it still has to hear.
//!
//! An attempt outlives connections. Everything the server has to know is kept until the attempt is
//! settled, so after a reconnect it is told again from the start; the log goes on where the server
//! has it durable. What can be sent now is decided in one place, [`Attempt::pump`].

use prost::Message;
use rustci_pipeline::v1;
use tokio::sync::mpsc;
use valkyrie::{End, MessageType, SendError, Session, StreamClass, StreamId, v2};

use super::log_source::LogSource;
use super::token::Token;
use crate::job::directory::JobDirectory;
use crate::job::message::{Cancel, Ending, EndingKind};
use crate::limits::LOG_BATCH_BYTES;

const STEP: &str = "application/vnd.rustci.step.v1";
const RESULT: &str = "application/vnd.rustci.result.v1";

/// An attempt this runner has.
pub(crate) struct Attempt {
    token: Token,
    started_ms: Option<u64>,
    events: Vec<v1::StepEvent>,
    ended: Option<Ended>,
    job: JobStream,
    log: LogStream,
    /// To the task that works on it. Dropping it abandons the work.
    worker: Option<mpsc::Sender<Cancel>>,
    /// To be deleted once the attempt is settled.
    dir: Option<JobDirectory>,
}

/// How an attempt ended, and how much log it has.
pub(crate) struct Ended {
    pub(crate) ending: Ending,
    pub(crate) log_bytes: u64,
}

/// The job stream of this connection, and what was said on it.
#[derive(Default)]
struct JobStream {
    stream: Option<StreamId>,
    ready: bool,
    said_start: bool,
    said_events: usize,
    said_end: bool,
}

/// The log stream of this connection.
struct LogStream {
    source: LogSource,
    stream: Option<StreamId>,
    ready: bool,
    sent: u64,
    finished: bool,
}

impl Attempt {
    /// An attempt that is being worked on.
    pub(crate) fn working(token: Token, worker: mpsc::Sender<Cancel>) -> Self {
        Self {
            worker: Some(worker),
            ..Self::new(token)
        }
    }

    /// An attempt that has ended without ever being worked on by a task.
    pub(crate) fn done(token: Token, ending: Ending) -> Self {
        Self {
            ended: Some(Ended {
                ending,
                log_bytes: 0,
            }),
            ..Self::new(token)
        }
    }

    /// An attempt that an earlier process of this runner has ended.
    pub(crate) fn found(token: Token, dir: JobDirectory, ended: Ended, log: LogSource) -> Self {
        let mut attempt = Self {
            ended: Some(ended),
            dir: Some(dir),
            ..Self::new(token)
        };
        attempt.log.source = log;
        attempt
    }

    fn new(token: Token) -> Self {
        Self {
            token,
            started_ms: None,
            events: Vec::new(),
            ended: None,
            job: JobStream::default(),
            log: LogStream::new(LogSource::Empty),
            worker: None,
            dir: None,
        }
    }

    /// Whether it takes one of the runner's slots.
    pub(crate) fn is_running(&self) -> bool {
        self.ended.is_none()
    }

    /// The streams it has on this connection.
    pub(crate) fn streams(&self) -> impl Iterator<Item = StreamId> {
        [self.job.stream, self.log.stream].into_iter().flatten()
    }

    /// What has to be deleted with it.
    pub(crate) fn into_directory(self) -> Option<JobDirectory> {
        self.dir
    }

    /// The first step is about to run.
    pub(crate) fn start(&mut self, unix_ms: u64) {
        self.started_ms = Some(unix_ms);
    }

    /// A step began or ended.
    pub(crate) fn step(&mut self, event: v1::StepEvent) {
        self.events.push(event);
    }

    /// Where its log is; known once there is one.
    pub(crate) fn set_log(&mut self, source: LogSource) {
        self.log.source = source;
    }

    /// Whether [`set_log`](Self::set_log) is still to come.
    pub(crate) fn lacks_log(&self) -> bool {
        matches!(self.log.source, LogSource::Empty)
    }

    /// The work is over.
    pub(crate) fn end(&mut self, ended: Ended, dir: Option<JobDirectory>) {
        self.ended = Some(ended);
        self.dir = dir;
        self.worker = None;
    }

    /// Passes a wish of the server on to the work.
    pub(crate) fn cancel(&self, cancel: Cancel) {
        if let Some(worker) = &self.worker {
            // Full means that it has several such wishes before it.
            let _ = worker.try_send(cancel);
        }
    }

    /// The server opened this job stream for it.
    pub(crate) fn attach(&mut self, stream: StreamId) {
        self.job = JobStream {
            stream: Some(stream),
            ready: true,
            ..JobStream::default()
        };
    }

    /// The connection is gone, and with it everything that was said on it.
    pub(crate) fn detach(&mut self) {
        self.job = JobStream::default();
        self.log_reset();
    }

    /// The log stream is gone; the next one goes on where the server has the log.
    pub(crate) fn log_reset(&mut self) {
        let source = std::mem::replace(&mut self.log.source, LogSource::Empty);
        self.log = LogStream::new(source);
    }

    /// Opens a job stream on a new connection.
    pub(crate) fn resume(&mut self, session: &mut Session) -> Result<StreamId, SendError> {
        let stream = session.open(StreamClass::Jobs, &self.open("rustci.v1.Job/Resume"))?;
        self.job = JobStream {
            stream: Some(stream),
            ..JobStream::default()
        };
        Ok(stream)
    }

    /// Opens a log stream where one is needed and missing.
    pub(crate) fn open_log(
        &mut self,
        session: &mut Session,
    ) -> Result<Option<StreamId>, SendError> {
        if self.lacks_log() || self.log.stream.is_some() || !self.job.ready {
            return Ok(None);
        }
        let stream = session.open(StreamClass::Logs, &self.open("rustci.v1.Log/Append"))?;
        self.log.stream = Some(stream);
        Ok(Some(stream))
    }

    /// The server took one of the streams.
    pub(crate) fn accepted(&mut self, stream: StreamId, consumed: u64) {
        if self.job.stream == Some(stream) {
            self.job.ready = true;
        }
        if self.log.stream == Some(stream) {
            self.log.ready = true;
            self.log.sent = consumed;
        }
    }

    /// Sends everything that can be sent now.
    ///
    /// # Errors
    /// [`SendError`]; the rest goes out with a later call. [`io::Error`](std::io::Error) of the spool
    /// is handed on as `Ok(Err(..))`.
    pub(crate) fn pump(
        &mut self,
        session: &mut Session,
        buffer: &mut Vec<u8>,
    ) -> Result<std::io::Result<()>, SendError> {
        self.pump_events(session)?;
        if let Err(error) = self.pump_log(session, buffer) {
            return Ok(Err(error));
        }
        self.pump_end(session)?;
        Ok(Ok(()))
    }

    /// Tells the server that the attempt lives.
    pub(crate) fn renew(&self, session: &mut Session) -> Result<(), SendError> {
        match self.speaking() {
            Some(stream) => {
                let progress = v2::JobProgress {
                    attempt: self.named(),
                    ..Default::default()
                };
                session.job(stream, MessageType::JOB_PROGRESS, &progress, End::No)
            }
            None => Ok(()),
        }
    }

    fn pump_events(&mut self, session: &mut Session) -> Result<(), SendError> {
        let Some(stream) = self.speaking() else {
            return Ok(());
        };
        let attempt = self.named();
        if let Some(unix_ms) = self.started_ms.filter(|_| !self.job.said_start) {
            let start = v2::JobStart { attempt, unix_ms };
            session.job(stream, MessageType::JOB_START, &start, End::No)?;
            self.job.said_start = true;
        }
        while let Some(event) = self.events.get(self.job.said_events) {
            let content_type = STEP.to_owned();
            let progress = v2::JobProgress {
                attempt,
                content_type,
                detail: event.encode_to_vec(),
            };
            session.job(stream, MessageType::JOB_PROGRESS, &progress, End::No)?;
            self.job.said_events += 1;
        }
        Ok(())
    }

    fn pump_log(&mut self, session: &mut Session, buffer: &mut Vec<u8>) -> std::io::Result<()> {
        let log = &mut self.log;
        let Some(stream) = log.stream.filter(|_| log.ready && !log.finished) else {
            return Ok(());
        };
        loop {
            let room = session.log_credit(stream).saturating_sub(log.sent);
            let room = usize::try_from(room)
                .unwrap_or(usize::MAX)
                .min(LOG_BATCH_BYTES);
            log.source.read(log.sent, room, buffer)?;
            if buffer.is_empty() || session.log(stream, log.sent, buffer).is_err() {
                // Credit or more lines will come as an event; a dead stream as one, too.
                break;
            }
            log.sent += buffer.len() as u64;
        }
        if self
            .ended
            .as_ref()
            .is_some_and(|ended| ended.log_bytes <= log.sent)
        {
            session.finish(stream);
            log.finished = true;
        }
        Ok(())
    }

    /// The end is said last: after all of the log was sent.
    fn pump_end(&mut self, session: &mut Session) -> Result<(), SendError> {
        let Some(stream) = self.speaking() else {
            return Ok(());
        };
        let Some(ended) = self
            .ended
            .as_ref()
            .filter(|ended| ended.log_bytes <= self.log.sent)
        else {
            return Ok(());
        };
        say_end(session, stream, self.token, ended)?;
        self.job.said_end = true;
        Ok(())
    }

    fn speaking(&self) -> Option<StreamId> {
        self.job
            .stream
            .filter(|_| self.job.ready && !self.job.said_end)
    }

    fn named(&self) -> Option<v2::Attempt> {
        Some(self.token.into())
    }

    fn open(&self, method: &str) -> v2::StreamOpen {
        let metadata = self.token.metadata();
        v2::StreamOpen {
            method: method.to_owned(),
            metadata,
            window: 0,
        }
    }
}

impl LogStream {
    /// Not opened yet: where to begin is the server's word.
    fn new(source: LogSource) -> Self {
        Self {
            source,
            stream: None,
            ready: false,
            sent: 0,
            finished: false,
        }
    }
}

fn say_end(
    session: &mut Session,
    stream: StreamId,
    token: Token,
    ended: &Ended,
) -> Result<(), SendError> {
    let (attempt, log_bytes) = (Some(token.into()), ended.log_bytes);
    match ended.ending.kind.as_ref() {
        Some(EndingKind::Completed(result)) => {
            let (content_type, result) = (RESULT.to_owned(), result.encode_to_vec());
            let complete = v2::JobComplete {
                attempt,
                content_type,
                result,
                log_bytes,
            };
            session.job(stream, MessageType::JOB_COMPLETE, &complete, End::Yes)
        }
        other => {
            let failed = match other {
                Some(EndingKind::Failed(failed)) => failed.clone(),
                _ => Default::default(),
            };
            let (cause, message) = (failed.cause, failed.message);
            let failed = v2::JobFailed {
                attempt,
                cause,
                message,
                log_bytes,
            };
            session.job(stream, MessageType::JOB_FAILED, &failed, End::Yes)
        }
    }
}
