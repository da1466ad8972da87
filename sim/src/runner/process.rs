//! One process of a runner.

use std::{collections::BTreeMap, mem};

use prost::Message;
use rustci_pipeline::v1::{RegisterReply, RegisterRequest};
use rustci_scheduler::AttemptToken;
use valkyrie_frame::{ErrorCode, LogRecords, MessageType, StreamClass, StreamId, v2};
use valkyrie_session::{End as Last, Event as Said, Session};

use super::attempts::{Held, Spool, Stage};
use crate::{
    link::Link,
    net::{Arrival, ConnId, End},
    wire,
    world::{Event, World},
};

/// Everything a kill takes away.
#[derive(Debug)]
pub(crate) struct Process {
    number: usize,
    name: String,
    life: u64,
    link: Option<Link>,
    /// Attempts named in the registration that waits for its answer.
    named: Vec<AttemptToken>,
    streams: BTreeMap<AttemptToken, Streams>,
}

/// The streams of an attempt on the current connection.
#[derive(Debug, Default)]
struct Streams {
    job: Option<StreamId>,
    log: Option<StreamId>,
    /// Bytes of the log that were sent; known once the log stream is accepted.
    sent: Option<u64>,
}

impl Process {
    pub(super) fn new(number: usize, name: String, life: u64) -> Self {
        Self {
            number,
            name,
            life,
            link: None,
            named: Vec::new(),
            streams: BTreeMap::new(),
        }
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        self.link.as_ref().map(|link| link.conn)
    }

    /// Begins a connection; what comes of it shows later.
    pub(super) fn connect(&mut self, spool: &Spool, world: &mut World) {
        if self.link.is_some() {
            return;
        }
        let conn = world.net.connect();
        let mut link = Link::new(conn, End::Runner, world);
        link.flush(world);
        self.link = Some(link);
        self.streams.clear();
        self.named = spool.keys().copied().collect();
    }

    fn lost(&mut self, world: &mut World) {
        self.link = None;
        let delay = world.millis(50, 2_000);
        world.after(
            delay,
            Event::Connect {
                runner: self.number,
                life: self.life,
            },
        );
    }

    pub(super) fn arrival(&mut self, arrival: Arrival, spool: &mut Spool, world: &mut World) {
        match arrival {
            Arrival::Hangup => self.lost(world),
            Arrival::Bytes(bytes) => self.bytes(&bytes, spool, world),
        }
    }

    fn bytes(&mut self, bytes: &[u8], spool: &mut Spool, world: &mut World) {
        let Some(link) = &mut self.link else {
            return;
        };
        let mut buffer = mem::take(&mut link.input);
        buffer.extend_from_slice(bytes);
        let mut input = buffer.as_slice();
        while let Some(link) = &mut self.link {
            match link.session.read(world.now, &mut input) {
                Ok(Some(said)) => self.said(said, spool, world),
                Ok(None) => break,
                Err(error) => {
                    world.oracle.session_error(&error);
                    self.hang_up(world);
                }
            }
        }
        if let Some(link) = &mut self.link {
            link.input = input.to_vec();
            link.flush(world);
        }
    }

    pub(super) fn session_timer(&mut self, spool: &mut Spool, world: &mut World) {
        let Some(link) = &mut self.link else {
            return;
        };
        link.timer(world);
        if link.session.failure().is_some() || link.session.is_finished() {
            self.hang_up(world);
            return;
        }
        while let Some(link) = &mut self.link
            && let Some(said) = link.session.poll_event()
        {
            self.said(said, spool, world);
        }
        if let Some(link) = &mut self.link {
            link.flush(world);
        }
    }

    fn hang_up(&mut self, world: &mut World) {
        if let Some(mut link) = self.link.take() {
            link.flush(world);
            world.close(link.conn, End::Runner);
        }
        self.lost(world);
    }

    fn session(&mut self) -> Option<&mut Session> {
        self.link.as_mut().map(|link| &mut link.session)
    }

    fn said(&mut self, said: Said<'_>, spool: &mut Spool, world: &mut World) {
        match said {
            Said::Ready(_) => self.register(spool, world),
            Said::Reply { body, .. } => self.registered(&body, spool),
            Said::CallFailed { code, .. } => {
                world
                    .oracle
                    .fail("I12", format!("the registration failed: {code}"));
            }
            Said::Job {
                stream, kind, body, ..
            } => {
                self.job_message(stream, kind, &body, spool, world);
            }
            Said::Accepted { stream, consumed } => self.accepted(stream, consumed, spool),
            Said::LogDurable { stream, offset, .. } => self.log_durable(stream, offset, spool),
            Said::Writable { stream } => {
                if let Some(token) = self.token_of(stream) {
                    self.send_log(token, spool);
                }
            }
            Said::JobAcked { stream, .. } => {
                if let Some(token) = self.token_of(stream) {
                    self.forget(token, spool);
                }
            }
            Said::Reset { stream, code } => self.reset(stream, code, spool),
            _ => {}
        }
    }

    fn register(&mut self, spool: &Spool, world: &World) {
        let names = |lost: bool| {
            let of_kind = spool
                .iter()
                .filter(move |(_, held)| (held.stage == Stage::Lost) == lost);
            of_kind.map(|(token, _)| wire::held(*token)).collect()
        };
        let request = RegisterRequest {
            name: self.name.clone(),
            labels: vec!["os=linux".to_owned()],
            capacity: world.options.capacity,
            executors: vec!["native".to_owned()],
            version: String::new(),
            held: names(false),
            lost: names(true),
            place: Vec::new(),
        };
        self.named = spool.keys().copied().collect();
        if let Some(session) = self.session() {
            let body = request.encode_to_vec();
            // A connection that is closing again is tried anew.
            let _ = session.call(StreamClass::System, wire::REGISTER, &body, None);
        }
    }

    /// Keeps what the control plane still wants, and resumes it; everything else ends here.
    fn registered(&mut self, body: &[u8], spool: &mut Spool) {
        let reply = RegisterReply::decode(body).unwrap_or_default();
        let keep: Vec<_> = reply.keep.iter().map(wire::token_of_held).collect();
        for token in mem::take(&mut self.named) {
            if keep.contains(&token) {
                let open = wire::open(wire::RESUME, token);
                let stream = self
                    .session()
                    .and_then(|s| s.open(StreamClass::Jobs, &open).ok());
                self.streams.entry(token).or_default().job = stream;
                self.open_log(token);
            } else {
                self.forget(token, spool);
            }
        }
    }

    fn open_log(&mut self, token: AttemptToken) {
        let open = wire::open(wire::APPEND, token);
        let stream = self
            .session()
            .and_then(|s| s.open(StreamClass::Logs, &open).ok());
        let streams = self.streams.entry(token).or_default();
        (streams.log, streams.sent) = (stream, None);
    }

    fn forget(&mut self, token: AttemptToken, spool: &mut Spool) {
        spool.remove(&token);
        if let Some(log) = self.streams.remove(&token).and_then(|streams| streams.log)
            && let Some(session) = self.session()
        {
            session.finish(log);
        }
    }

    fn token_of(&self, stream: StreamId) -> Option<AttemptToken> {
        let has = |streams: &Streams| streams.job == Some(stream) || streams.log == Some(stream);
        self.streams
            .iter()
            .find(|(_, streams)| has(streams))
            .map(|(token, _)| *token)
    }

    fn job_message(
        &mut self,
        stream: StreamId,
        kind: MessageType,
        body: &[u8],
        spool: &mut Spool,
        world: &mut World,
    ) {
        match kind {
            MessageType::JOB_REQUEST => {
                let request = v2::JobRequest::decode(body).unwrap_or_default();
                if let Some(token) = wire::token(request.attempt) {
                    self.take_on(token, stream, spool, world);
                }
            }
            MessageType::JOB_CANCEL => {
                if let Some(held) = self
                    .token_of(stream)
                    .and_then(|token| spool.get_mut(&token))
                {
                    held.stop(world);
                }
            }
            _ => world
                .oracle
                .fail("wire", format!("the control plane sends {kind}")),
        }
    }

    fn take_on(
        &mut self,
        token: AttemptToken,
        stream: StreamId,
        spool: &mut Spool,
        world: &mut World,
    ) {
        if spool.contains_key(&token) {
            world
                .oracle
                .fail("I2", format!("{token} is assigned twice"));
        }
        let held = Held::new(world);
        spool.insert(token, held);
        self.streams.entry(token).or_default().job = Some(stream);
        self.tell(token, spool);
        self.open_log(token);
        let delay = world.millis(1, 500);
        world.after(
            delay,
            Event::Work {
                runner: self.number,
                life: self.life,
                token,
            },
        );
    }

    /// The next piece of work of an attempt.
    pub(super) fn work(&mut self, token: AttemptToken, spool: &mut Spool, world: &mut World) {
        let Some(held) = spool.get_mut(&token) else {
            return;
        };
        let before = held.stage;
        if let Some(delay) = held.work(token, world) {
            world.after(
                delay,
                Event::Work {
                    runner: self.number,
                    life: self.life,
                    token,
                },
            );
        }
        let changed = held.stage != before;
        self.send_log(token, spool);
        if changed {
            self.tell(token, spool);
        } else {
            self.progress(token);
        }
        if let Some(link) = &mut self.link {
            link.flush(world);
        }
    }

    /// Tells the control plane how far an attempt is, over the stream there is.
    fn tell(&mut self, token: AttemptToken, spool: &Spool) {
        let Some((held, stream)) = spool.get(&token).zip(self.job_stream(token)) else {
            return;
        };
        if let Some(session) = self.session() {
            // A stream that has ended meanwhile belongs to a lease that is over.
            let _ = held.tell(token, session, stream);
        }
    }

    fn progress(&mut self, token: AttemptToken) {
        let body = v2::JobProgress {
            attempt: Some(wire::attempt(token)),
            ..Default::default()
        };
        if let Some(stream) = self.job_stream(token)
            && let Some(session) = self.session()
        {
            let _ = session.job(stream, MessageType::JOB_PROGRESS, &body, Last::No);
        }
    }

    fn job_stream(&self, token: AttemptToken) -> Option<StreamId> {
        self.streams.get(&token)?.job
    }

    fn accepted(&mut self, stream: StreamId, consumed: u64, spool: &Spool) {
        let Some(token) = self.token_of(stream) else {
            return;
        };
        if let Some(streams) = self.streams.get_mut(&token)
            && streams.log == Some(stream)
        {
            streams.sent = Some(consumed);
            self.send_log(token, spool);
        } else {
            self.tell(token, spool);
        }
    }

    /// Sends as much of a log as credit allows.
    fn send_log(&mut self, token: AttemptToken, spool: &Spool) {
        let (Some(held), Some(streams), Some(link)) = (
            spool.get(&token),
            self.streams.get_mut(&token),
            &mut self.link,
        ) else {
            return;
        };
        let (Some(stream), Some(sent)) = (streams.log, streams.sent) else {
            return;
        };
        let room = link.session.log_credit(stream).saturating_sub(sent);
        let unsent = usize::try_from(sent)
            .ok()
            .and_then(|sent| held.log.get(sent..));
        let whole = whole_records(unsent.unwrap_or_default(), room);
        if !whole.is_empty() && link.session.log(stream, sent, whole).is_ok() {
            streams.sent = Some(sent + whole.len() as u64);
        }
    }

    fn log_durable(&mut self, stream: StreamId, _offset: u64, spool: &Spool) {
        if let Some(token) = self.token_of(stream) {
            self.send_log(token, spool);
        }
    }

    /// A stream ended at once: with a stale lease, so does the attempt.
    fn reset(&mut self, stream: StreamId, code: ErrorCode, spool: &mut Spool) {
        let Some(token) = self.token_of(stream) else {
            return;
        };
        if code == ErrorCode::STALE_FENCE {
            self.forget(token, spool);
        }
    }
}

/// The longest row of whole records within `room` bytes.
fn whole_records(bytes: &[u8], room: u64) -> &[u8] {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
    let within = bytes.get(..room).unwrap_or_default();
    let mut records = LogRecords::new(within);
    while records.next().is_some_and(|record| record.is_ok()) {}
    within.get(..records.taken()).unwrap_or_default()
}
