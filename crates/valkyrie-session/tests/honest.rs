//! Two honest sides under heavy load: no guard against floods may mistake them for an attack.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use valkyrie_frame::{
    Correlation, ErrorCode, LogChannel, LogRecord, MessageType, StreamClass, StreamId, Time, v2,
};
use valkyrie_session::{End, Event, Limits, Session, SessionConfig, Side};

const TICK: Duration = Duration::from_millis(100);
/// Two minutes.
const TICKS: u64 = 1200;

/// Streams of each side, by class; 1,000 together.
const STREAMS: [(StreamClass, usize); 4] = [
    (StreamClass::System, 20),
    (StreamClass::Jobs, 80),
    (StreamClass::Data, 300),
    (StreamClass::Logs, 100),
];

/// Calls that each side has outstanding all the time: as many as the other allows.
const CALLS: u32 = 256;
/// Of them so many are answered in a tick.
const ANSWERS: usize = 64;
/// Frames of a few bytes that each side sends in a tick.
const SMALL_FRAMES: usize = 150;
/// Streams that each side resets in a tick, and opens anew: 30 a second.
const RESETS: usize = 3;
/// Messages in fragments that each side begins in a tick, and bytes of each.
const MESSAGES: usize = 2;
const MESSAGE_BYTES: usize = 40_000;
/// What may wait on either side at the end of a tick.
const QUEUED_BYTES_MAX: usize = 2 * 1024 * 1024;

/// One side with its application.
struct Node {
    session: Session,
    /// Its own streams that the other side has accepted, oldest first.
    own: VecDeque<StreamId>,
    offsets: HashMap<StreamId, u64>,
    asked: VecDeque<Correlation>,
    next: usize,
    calls_sent: u64,
    replies: u64,
    messages: u64,
    jobs: u64,
    records: u64,
    bytes_sent: u64,
    bytes: u64,
}

impl Node {
    fn new(side: Side) -> Self {
        let wire = v2::Limits {
            calls_max: CALLS,
            ..Default::default()
        };
        let config = SessionConfig {
            limits: Limits::from_wire(&wire).unwrap(),
            ..SessionConfig::default()
        };
        Self {
            session: Session::new(side, config, [7; 32]),
            own: VecDeque::new(),
            offsets: HashMap::new(),
            asked: VecDeque::new(),
            next: 0,
            calls_sent: 0,
            replies: 0,
            messages: 0,
            jobs: 0,
            records: 0,
            bytes_sent: 0,
            bytes: 0,
        }
    }

    fn see(&mut self, event: Event<'_>) {
        match event {
            Event::Opened { stream, .. } => self.session.accept(stream, 0),
            Event::Accepted { stream, .. } => self.own.push_back(stream),
            Event::Call { call, .. } => self.asked.push_back(call),
            Event::Reply { .. } => self.replies += 1,
            Event::Message { body, .. } => {
                assert_eq!(body.len(), MESSAGE_BYTES);
                self.messages += 1;
            }
            Event::Data { stream, bytes, .. } => {
                self.bytes += bytes.len() as u64;
                self.session.consume(stream, bytes.len());
            }
            Event::Job { .. } => self.jobs += 1,
            Event::Log {
                stream,
                offset,
                records,
            } => {
                self.records += 1;
                self.session
                    .log_durable(stream, offset + records.len() as u64);
            }
            Event::Ready(_)
            | Event::Writable { .. }
            | Event::LogDurable { .. }
            | Event::Rtt { .. }
            | Event::Reset { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    /// What its application does in a tick.
    fn work(&mut self, tick: u64) {
        for _ in 0..SMALL_FRAMES {
            self.send_little();
        }
        for number in 0..RESETS {
            self.replace_a_stream(number);
        }
        while self
            .session
            .call(StreamClass::System, "a.B/C", b"?", None)
            .is_ok()
        {
            self.calls_sent += 1;
        }
        for call in self.asked.drain(..ANSWERS.min(self.asked.len())) {
            self.session.reply(call, b"!").unwrap();
        }
        for _ in 0..MESSAGES {
            let body = [1; MESSAGE_BYTES];
            let sent = self.session.message(StreamClass::Data, "a.B/C", &body);
            sent.unwrap();
        }
        if tick.is_multiple_of(10) {
            self.session.ping();
        }
    }

    /// A few bytes on the stream whose turn it is, as its class has them.
    fn send_little(&mut self) {
        self.next = (self.next + 1) % self.own.len();
        let Some(stream) = self.own.get(self.next).copied() else {
            return;
        };
        match stream.class() {
            StreamClass::Logs => {
                let record = record();
                let offset = self.offsets.entry(stream).or_default();
                self.session.log(stream, *offset, &record).unwrap();
                *offset += record.len() as u64;
            }
            StreamClass::Jobs => {
                let progress = v2::JobProgress::default();
                let kind = MessageType::JOB_PROGRESS;
                self.session.job(stream, kind, &progress, End::No).unwrap();
            }
            _ => {
                let bytes = [3; 5];
                let sent = self.session.data(stream, &bytes, End::No).unwrap();
                assert_eq!(sent, bytes.len());
                self.bytes_sent += sent as u64;
            }
        }
    }

    /// Resets one of its oldest streams and opens another of the class.
    fn replace_a_stream(&mut self, number: usize) {
        let Some(stream) = self.own.remove(number) else {
            return;
        };
        self.offsets.remove(&stream);
        self.session.reset(stream, ErrorCode::NONE);
        let open = v2::StreamOpen::default();
        self.session.open(stream.class(), &open).unwrap();
    }
}

fn record() -> Vec<u8> {
    let mut record = Vec::new();
    LogRecord {
        unix_ns: 1,
        step: 0,
        channel: LogChannel::STDOUT,
        bytes: b"line",
    }
    .append(&mut record)
    .unwrap();
    record
}

/// Moves what `from` has to say, in pieces that end inside frames.
fn carry(from: &mut Node, to: &mut Node, now: Time) {
    let mut wire = Vec::new();
    while from.session.transmit(now, &mut wire) > 0 {}
    let mut held = Vec::new();
    for piece in wire.chunks(10_007) {
        held.extend_from_slice(piece);
        let bytes = std::mem::take(&mut held);
        let mut rest = bytes.as_slice();
        while let Some(event) = to.session.read(now, &mut rest).unwrap() {
            to.see(event);
        }
        held = rest.to_vec();
    }
    assert!(held.is_empty());
    while let Some(event) = from.session.poll_event() {
        from.see(event);
    }
}

/// Both ways, until what was answered has come back too.
fn exchange(client: &mut Node, server: &mut Node, now: Time) {
    for _ in 0..3 {
        carry(client, server, now);
        carry(server, client, now);
    }
}

#[test]
fn a_thousand_streams_small_frames_resets_fragments_and_all_calls_trip_no_guard() {
    let (mut client, mut server) = (Node::new(Side::Initiator), Node::new(Side::Acceptor));
    let mut now = Time::from_nanos(1_000_000_000);
    exchange(&mut client, &mut server, now);
    for (class, count) in STREAMS {
        for number in 0..count {
            let open = v2::StreamOpen::default();
            client.session.open(class, &open).unwrap();
            server.session.open(class, &open).unwrap();
            // A hundred may wait to be accepted.
            if number % 50 == 49 {
                exchange(&mut client, &mut server, now);
            }
        }
    }
    exchange(&mut client, &mut server, now);
    assert_eq!(client.session.streams_open(), 1000);
    for tick in 0..TICKS {
        now = now + TICK;
        client.session.handle_timeout(now);
        server.session.handle_timeout(now);
        client.work(tick);
        server.work(tick);
        exchange(&mut client, &mut server, now);
        let waits = client.session.queued_bytes() + server.session.queued_bytes();
        assert!(waits <= QUEUED_BYTES_MAX, "{waits} bytes wait");
    }
    for _ in 0..20 {
        exchange(&mut client, &mut server, now);
    }
    check(&mut client, &server);
    check(&mut server, &client);
}

/// Nothing was refused, and what `other` has sent came to `one`.
fn check(one: &mut Node, other: &Node) {
    assert!(one.session.is_ready());
    assert_eq!(one.session.counters().errors_total, 0);
    assert_eq!(one.session.streams_open(), 1000);
    assert_eq!(one.messages, TICKS * MESSAGES as u64);
    assert_eq!(one.bytes, other.bytes_sent);
    // As many as the other side allows, but for those answered last.
    let outstanding = u64::from(CALLS) - ANSWERS as u64;
    assert_eq!(one.calls_sent - one.replies, outstanding);
    assert!(one.replies >= (TICKS - 1) * ANSWERS as u64);
    let small = one.jobs + one.records + one.bytes / 5;
    assert_eq!(small, TICKS * SMALL_FRAMES as u64);
}
