//! The state of a running runner: its attempts, its streams, its link.
//!
//! Everything lives on one shard. The handler of the link changes the state inline; tasks of
//! attempts come in between. No borrow is ever held over an `.await`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use prost::Message;
use rustci_pipeline::v1;
use tokio::sync::{Notify, mpsc};
use tracing::{debug, info, warn};
use valkyrie::{End, ErrorCode, Link, MessageType, SendError, StreamClass, StreamId, v2};

use super::attempt::{Attempt, Ended};
use super::chunks::ChunkCache;
use super::config::RunnerConfig;
use super::log_source::LogSource;
use super::recovery::{Found, StateDir};
use super::source::{Download, SourceCache, blocking};
use super::token::Token;
use super::transfer::{Incoming, Transfer};
use crate::job::directory::JobDirectory;
use crate::job::message::{Cancel, Ending, ReportKind};

/// Lease before the server has named one.
const LEASE_DEFAULT: Duration = Duration::from_secs(15);

/// How long a link may take to end in order.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// What the handler and all tasks of a runner share.
pub(crate) struct Shared {
    pub(crate) config: RunnerConfig,
    pub(crate) dirs: StateDir,
    pub(crate) sources: SourceCache,
    pub(crate) chunks: ChunkCache,
    state: RefCell<State>,
    /// Tasks that work on attempts or delete their directories.
    tasks: Cell<usize>,
    /// The link, or the number of attempts or tasks, is another one.
    changed: Notify,
    /// The lease may be another one.
    leased: Notify,
}

struct State {
    attempts: BTreeMap<Token, Attempt>,
    /// Those of them that take a slot.
    running: usize,
    lost: Vec<(Token, JobDirectory)>,
    streams: HashMap<StreamId, Use>,
    link: Option<Link>,
    lease: Duration,
    mode: Mode,
    /// Log bytes on their way from a spool to the link.
    buffer: Vec<u8>,
}

/// What a stream is for.
enum Use {
    Job(Token),
    Log(Token),
    Source(Box<Download>),
    Blobs(Rc<Transfer>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Taking,
    Draining,
}

impl Shared {
    pub(crate) fn new(config: RunnerConfig, dirs: StateDir, found: Found) -> Self {
        let chunks = ChunkCache::new(dirs.chunks(), config.chunk_cache_bytes);
        let sources = SourceCache::new(dirs.sources(), config.source_cache_bytes);
        let state = State {
            attempts: found.held.into_iter().collect(),
            running: 0,
            lost: found.lost,
            streams: HashMap::new(),
            link: None,
            lease: LEASE_DEFAULT,
            mode: Mode::Taking,
            buffer: Vec::new(),
        };
        Self {
            config,
            dirs,
            sources,
            chunks,
            state: RefCell::new(state),
            tasks: Cell::new(0),
            changed: Notify::new(),
            leased: Notify::new(),
        }
    }

    /// Whether nothing is left to do: no attempt, not even one whose result is not acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        self.state.borrow().attempts.is_empty() && self.tasks.get() == 0
    }

    /// Resolves with the next change that somebody may wait for.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How often attempts are renewed.
    pub(crate) fn renewal(&self) -> Duration {
        (self.state.borrow().lease / 3).max(Duration::from_millis(10))
    }

    /// Resolves when the server names another lease.
    pub(crate) async fn lease_changed(&self) {
        self.leased.notified().await;
    }

    /// The link, as soon as there is one that the server knows this runner on.
    pub(crate) async fn registered_link(&self) -> Link {
        loop {
            let changed = self.changed.notified();
            if let Some(link) = self.state.borrow().link.clone() {
                return link;
            }
            changed.await;
        }
    }

    /// What the server has to know of this runner.
    pub(crate) fn registration(&self) -> v1::RegisterRequest {
        let state = self.state.borrow();
        let config = &self.config;
        v1::RegisterRequest {
            name: config.name.clone(),
            labels: config.labels.clone(),
            capacity: config.capacity.max(1),
            executors: config
                .executors
                .iter()
                .map(|e| e.as_str().to_owned())
                .collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            held: state.attempts.keys().map(|token| (*token).into()).collect(),
            lost: state
                .lost
                .iter()
                .map(|(token, _)| (*token).into())
                .collect(),
            place: self.dirs.id.to_vec(),
        }
    }

    /// The server knows this runner now: goes on with the attempts it may keep.
    pub(crate) fn registered(self: &Rc<Self>, link: &Link, reply: &v1::RegisterReply) {
        info!(runner = reply.runner, kept = reply.keep.len(), "registered");
        let keep: Vec<Token> = reply.keep.iter().map(Token::from).collect();
        let (dropped, lost) = {
            let mut state = self.state.borrow_mut();
            state.link = Some(link.clone());
            if reply.lease_ms > 0 {
                state.lease = Duration::from_millis(reply.lease_ms.into());
            }
            let dropped: Vec<Token> = state
                .attempts
                .keys()
                .filter(|token| !keep.contains(token))
                .copied()
                .collect();
            (dropped, std::mem::take(&mut state.lost))
        };
        for token in dropped {
            self.abandon(token, "the server gave it to another");
        }
        for (_, dir) in lost {
            self.remove(dir);
        }
        self.leased.notify_waiters();
        self.state.borrow_mut().resume_all();
        if self.state.borrow().mode == Mode::Draining {
            self.say_draining();
        }
        self.changed.notify_waiters();
    }

    /// A link has ended.
    pub(crate) fn disconnected(&self, link: &Link) {
        let mut state = self.state.borrow_mut();
        if state
            .link
            .as_ref()
            .is_some_and(|current| current.id() == link.id())
        {
            state.link = None;
            for attempt in state.attempts.values_mut() {
                attempt.detach();
            }
            for (_, usage) in state.streams.drain() {
                match usage {
                    Use::Source(download) => download.lost(),
                    Use::Blobs(transfer) => transfer.came(Incoming::Lost),
                    Use::Job(_) | Use::Log(_) => {}
                }
            }
        }
    }

    /// Takes nothing new from here on.
    pub(crate) fn drain(&self) {
        self.state.borrow_mut().mode = Mode::Draining;
        self.say_draining();
        self.changed.notify_waiters();
    }

    /// Ends all work at once. Results that wait for their acknowledgement stay for the next start.
    pub(crate) fn abandon_all(&self) {
        // Dropping an attempt closes the channel to its worker.
        let mut state = self.state.borrow_mut();
        state.attempts.clear();
        state.running = 0;
        drop(state);
        self.changed.notify_waiters();
    }

    /// How busy the runner is, in the words of the protocol.
    pub(crate) fn status(&self) -> v2::StatusUpdate {
        let state = self.state.borrow();
        let capacity = self.config.capacity.max(1);
        let active = u32::try_from(state.running).unwrap_or(u32::MAX);
        let (state, text) = match state.mode {
            Mode::Taking => (2, String::new()),
            Mode::Draining => (4, "the runner is draining".to_owned()),
        };
        let load = u64::from(active) * 1000 / u64::from(capacity);
        v2::StatusUpdate {
            state,
            text,
            load_permille: u32::try_from(load).unwrap_or(1000).min(1000),
            active,
            capacity,
        }
    }

    /// Why a new attempt cannot be taken now, if it cannot.
    pub(crate) fn refusal(&self) -> Option<String> {
        let state = self.state.borrow();
        let capacity = usize::try_from(self.config.capacity.max(1)).unwrap_or(usize::MAX);
        match state.mode {
            Mode::Draining => Some("the runner is draining".to_owned()),
            Mode::Taking if state.running >= capacity => {
                Some(format!("all {capacity} slots are in use"))
            }
            Mode::Taking => None,
        }
    }

    /// Takes an attempt that the server opened `stream` for; the other end of the channel is its
    /// worker's.
    pub(crate) fn take(
        &self,
        link: &Link,
        stream: StreamId,
        token: Token,
        worker: mpsc::Sender<Cancel>,
    ) {
        self.add(link, stream, token, Attempt::working(token, worker));
    }

    /// Takes an attempt and reports its end in one go.
    pub(crate) fn take_done(&self, link: &Link, stream: StreamId, token: Token, ending: Ending) {
        self.add(link, stream, token, Attempt::done(token, ending));
    }

    fn add(&self, link: &Link, stream: StreamId, token: Token, mut attempt: Attempt) {
        let accept = v2::JobAccept {
            attempt: Some(token.into()),
        };
        let accepted = link
            .session()
            .job(stream, MessageType::JOB_ACCEPT, &accept, End::No);
        if let Err(error) = accepted {
            debug!(attempt = %token, %error, "could not be accepted");
            return;
        }
        attempt.attach(stream);
        let mut state = self.state.borrow_mut();
        state.streams.insert(stream, Use::Job(token));
        state.running += usize::from(attempt.is_running());
        state.attempts.insert(token, attempt);
        state.pump(token);
    }

    /// What a job process reports.
    pub(crate) fn report(&self, token: Token, report: ReportKind, log: impl FnOnce() -> LogSource) {
        let mut state = self.state.borrow_mut();
        let Some(attempt) = state.attempts.get_mut(&token) else {
            return;
        };
        match report {
            ReportKind::Started(unix_ms) => attempt.start(unix_ms),
            ReportKind::Step(event) => attempt.step(event),
            ReportKind::Log(_) if attempt.lacks_log() => attempt.set_log(log()),
            ReportKind::Log(_) | ReportKind::Upload(_) | ReportKind::Need(_) => {}
        }
    }

    /// Sends what an attempt has to say.
    pub(crate) fn pump(&self, token: Token) {
        self.state.borrow_mut().pump(token);
    }

    /// The work on an attempt is over.
    pub(crate) fn ended(
        self: &Rc<Self>,
        token: Token,
        ended: Ended,
        log: Option<LogSource>,
        dir: Option<JobDirectory>,
    ) {
        let unwanted = {
            let mut state = self.state.borrow_mut();
            match state.attempts.get_mut(&token) {
                Some(attempt) => {
                    if let Some(log) = log.filter(|_| attempt.lacks_log()) {
                        attempt.set_log(log);
                    }
                    attempt.end(ended, dir);
                    state.running -= 1;
                    state.pump(token);
                    None
                }
                // Abandoned in this very moment.
                None => dir,
            }
        };
        if let Some(dir) = unwanted {
            self.remove(dir);
        }
    }

    /// The server acknowledged the last message of a job stream.
    pub(crate) fn acknowledged(self: &Rc<Self>, stream: StreamId) {
        let settled = {
            let mut state = self.state.borrow_mut();
            match state.streams.remove(&stream) {
                Some(Use::Job(token)) => state.forget(token),
                Some(other) => {
                    state.streams.insert(stream, other);
                    None
                }
                None => None,
            }
        };
        if let Some(attempt) = settled {
            debug!(?stream, "settled");
            self.settle(attempt);
        }
    }

    /// The server wants an attempt to end.
    pub(crate) fn cancel(self: &Rc<Self>, stream: StreamId, cancel: &v2::JobCancel) {
        let Some(token) = self.state.borrow().job_on(stream) else {
            return;
        };
        if cancel.reason == "stale" {
            return self.abandon(token, "the server gave it to another");
        }
        info!(attempt = %token, reason = cancel.reason, "cancel");
        if let Some(attempt) = self.state.borrow().attempts.get(&token) {
            let timed_out = cancel.reason == "timed_out";
            attempt.cancel(Cancel {
                timed_out,
                grace_ms: cancel.grace_ms.into(),
            });
        }
    }

    /// The server took a stream of this runner.
    pub(crate) fn accepted(&self, stream: StreamId, consumed: u64) {
        if let Some(transfer) = self.transfer(stream) {
            return transfer.writable();
        }
        let mut state = self.state.borrow_mut();
        if let Some(token) = state.attempt_on(stream) {
            if let Some(attempt) = state.attempts.get_mut(&token) {
                attempt.accepted(stream, consumed);
            }
            state.pump(token);
        }
    }

    /// Something came on a stream of blobs.
    pub(crate) fn blobs_came(&self, stream: StreamId, incoming: Incoming) {
        if let Some(transfer) = self.transfer(stream) {
            transfer.came(incoming);
        }
    }

    /// The server explains itself about a stream.
    pub(crate) fn said(&self, stream: StreamId, text: &str) {
        if let Some(transfer) = self.transfer(stream) {
            transfer.said(text);
        }
    }

    fn transfer(&self, stream: StreamId) -> Option<Rc<Transfer>> {
        match self.state.borrow().streams.get(&stream) {
            Some(Use::Blobs(transfer)) => Some(Rc::clone(transfer)),
            _ => None,
        }
    }

    /// A task opened a stream of blobs.
    pub(crate) fn add_transfer(&self, stream: StreamId, transfer: Rc<Transfer>) {
        let mut state = self.state.borrow_mut();
        state.streams.insert(stream, Use::Blobs(transfer));
    }

    /// A task is done with a stream of blobs, whose number may have another use by now.
    pub(crate) fn remove_transfer(&self, stream: StreamId, transfer: &Rc<Transfer>) {
        let is_own = self
            .transfer(stream)
            .is_some_and(|current| Rc::ptr_eq(&current, transfer));
        if is_own {
            self.state.borrow_mut().streams.remove(&stream);
        }
    }

    /// A stream may go on.
    pub(crate) fn writable(&self, stream: StreamId) {
        if let Some(transfer) = self.transfer(stream) {
            return transfer.writable();
        }
        let mut state = self.state.borrow_mut();
        if let Some(token) = state.attempt_on(stream) {
            state.pump(token);
        }
    }

    /// The server reset a stream, or refused what was said on it.
    pub(crate) fn refused(self: &Rc<Self>, link: &Link, stream: StreamId, code: ErrorCode) {
        let usage = self.state.borrow_mut().streams.remove(&stream);
        let stale = matches!(code, ErrorCode::STALE_FENCE | ErrorCode::LEASE_LOST);
        match usage {
            Some(Use::Job(token) | Use::Log(token)) if stale => {
                self.abandon(token, "the server gave it to another");
            }
            Some(Use::Job(token)) => {
                warn!(attempt = %token, %code, "job stream was reset; connecting anew");
                link.close(ErrorCode::NONE, Duration::ZERO);
            }
            Some(Use::Log(token)) => {
                warn!(attempt = %token, %code, "log stream was reset; it is opened again");
                if let Some(attempt) = self.state.borrow_mut().attempts.get_mut(&token) {
                    attempt.log_reset();
                }
            }
            Some(Use::Source(download)) => download.refused(code),
            Some(Use::Blobs(transfer)) => transfer.refused(code),
            None => {}
        }
    }

    /// Renews every lease, and tries again what could not be sent.
    pub(crate) fn renew(&self) {
        let mut state = self.state.borrow_mut();
        let Some(link) = state.link.clone() else {
            return;
        };
        let tokens: Vec<Token> = state.attempts.keys().copied().collect();
        for token in tokens {
            state.pump(token);
            if let Some(attempt) = state.attempts.get(&token) {
                note(token, attempt.renew(&mut link.session()));
            }
        }
    }

    /// Asks for a source archive on its own stream.
    pub(crate) fn start_download(&self, link: &Link, download: Download) -> Result<(), SendError> {
        let stream = download.request(&mut link.session())?;
        self.state
            .borrow_mut()
            .streams
            .insert(stream, Use::Source(Box::new(download)));
        Ok(())
    }

    /// Gives the download on a stream to `work`.
    pub(crate) fn with_download(&self, stream: StreamId, work: impl FnOnce(&mut Download)) {
        if let Some(Use::Source(download)) = self.state.borrow_mut().streams.get_mut(&stream) {
            work(download);
        }
    }

    /// All of a download has arrived.
    pub(crate) fn complete_download(&self, link: &Link, stream: StreamId) {
        let usage = self.state.borrow_mut().streams.remove(&stream);
        if let Some(Use::Source(download)) = usage {
            download.complete(link, stream);
        }
    }

    /// Ends an attempt without reporting it.
    fn abandon(self: &Rc<Self>, token: Token, why: &str) {
        let attempt = self.state.borrow_mut().forget(token);
        if let Some(attempt) = attempt {
            warn!(attempt = %token, why, "attempt abandoned");
            self.settle(attempt);
        }
    }

    fn settle(self: &Rc<Self>, attempt: Attempt) {
        match attempt.into_directory() {
            Some(dir) => self.remove(dir),
            None => self.changed.notify_waiters(),
        }
    }

    /// Deletes a directory beside the shard.
    pub(crate) fn remove(self: &Rc<Self>, dir: JobDirectory) {
        let kept = self.config.keep_workspaces.clone();
        self.spawn(async move {
            let path = dir.path().display().to_string();
            let removed = blocking(move || {
                kept.map_or(Ok(()), |kept| dir.move_workspace(&kept))?;
                dir.remove()
            });
            if let Err(error) = removed.await {
                warn!(%path, %error, "directory of an attempt cannot be deleted");
            }
        });
    }

    /// Ends the link in order.
    pub(crate) async fn close(&self) {
        let link = self.state.borrow().link.clone();
        if let Some(link) = link {
            link.close(ErrorCode::NONE, Duration::ZERO);
            // The peer's word is waited for, but not for long.
            let _ = tokio::time::timeout(CLOSE_WAIT, link.closed()).await;
        }
    }

    /// Runs a task that counts as work of this runner.
    pub(crate) fn spawn(self: &Rc<Self>, work: impl Future<Output = ()> + 'static) {
        let task = Task::new(self);
        tokio::task::spawn_local(async move {
            work.await;
            drop(task);
        });
    }

    fn say_draining(&self) {
        let Some(link) = self.state.borrow().link.clone() else {
            return;
        };
        let limit = Some(Duration::from_secs(5));
        let call = link
            .session()
            .call(StreamClass::System, "rustci.v1.Runner/Drain", &[], limit);
        if let Err(error) = call {
            debug!(%error, "the server was not told that this runner drains");
        }
    }
}

impl State {
    fn resume_all(&mut self) {
        let Some(link) = self.link.clone() else {
            return;
        };
        for (token, attempt) in &mut self.attempts {
            match attempt.resume(&mut link.session()) {
                Ok(stream) => drop(self.streams.insert(stream, Use::Job(*token))),
                Err(error) => warn!(attempt = %token, %error, "cannot be resumed"),
            }
        }
    }

    fn pump(&mut self, token: Token) {
        let (Some(link), Some(attempt)) = (self.link.as_ref(), self.attempts.get_mut(&token))
        else {
            return;
        };
        let mut session = link.session();
        match attempt.open_log(&mut session) {
            Ok(Some(stream)) => drop(self.streams.insert(stream, Use::Log(token))),
            Ok(None) => {}
            Err(error) => debug!(attempt = %token, %error, "no log stream yet"),
        }
        match attempt.pump(&mut session, &mut self.buffer) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(attempt = %token, %error, "the spool cannot be read"),
            Err(error) => note(token, Err(error)),
        }
    }

    fn forget(&mut self, token: Token) -> Option<Attempt> {
        let attempt = self.attempts.remove(&token)?;
        self.running -= usize::from(attempt.is_running());
        for stream in attempt.streams() {
            // The id of an ended log stream may be in use for another one already.
            if self.attempt_on(stream) == Some(token) {
                self.streams.remove(&stream);
            }
        }
        Some(attempt)
    }

    fn job_on(&self, stream: StreamId) -> Option<Token> {
        match self.streams.get(&stream) {
            Some(Use::Job(token)) => Some(*token),
            _ => None,
        }
    }

    fn attempt_on(&self, stream: StreamId) -> Option<Token> {
        match self.streams.get(&stream) {
            Some(Use::Job(token) | Use::Log(token)) => Some(*token),
            _ => None,
        }
    }
}

/// Counts a task while it lives.
struct Task(Rc<Shared>);

impl Task {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.tasks.set(shared.tasks.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
        self.0.changed.notify_waiters();
    }
}

/// What is not sent now goes out with the next renewal or the next connection.
fn note(token: Token, result: Result<(), SendError>) {
    if let Err(error) = result {
        debug!(attempt = %token, %error, "not sent now");
    }
}

/// Decodes a message of the server; nonsense resets its stream.
pub(crate) fn decode<M: Message + Default>(
    link: &Link,
    stream: StreamId,
    body: &[u8],
) -> Option<M> {
    match M::decode(body) {
        Ok(message) => Some(message),
        Err(error) => {
            warn!(?stream, %error, "the server's message cannot be read");
            link.session().reset(stream, ErrorCode::MALFORMED);
            None
        }
    }
}
