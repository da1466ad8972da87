//! Random operations over a byte pipe that slices as it likes: nothing is delivered twice or out
//! of order, credit is never overdrawn, nothing stalls.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use valkyrie_frame::{Correlation, LogChannel, LogRecord, StreamClass, StreamId, Time, v2};
use valkyrie_session::{End, Event, Limits, SendError, Session, SessionConfig, Side};

/// What one of the two sides does next. Numbers choose among what is open, modulo their count.
#[derive(Debug, Clone)]
enum Step {
    Open(Who, StreamClass),
    Data(Who, usize, usize),
    Log(usize, usize),
    Call(Who, StreamClass, usize),
    Message(Who, StreamClass, usize),
    Consume(Who, usize),
    Finish(Who, usize),
    Reset(Who, usize),
    /// Moves this many bytes from one side to the other.
    Move(Who, usize),
    Wait(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Client,
    Server,
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![Just(Who::Client), Just(Who::Server)]
}

fn class() -> impl Strategy<Value = StreamClass> {
    prop::sample::select(StreamClass::WITH_STREAMS.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![3 => 0usize..200, 2 => 0usize..20_000, 1 => 60_000usize..90_000];
    prop_oneof![
        2 => (who(), class()).prop_map(|(who, class)| Step::Open(who, class)),
        6 => (who(), any::<usize>(), bytes.clone()).prop_map(|(w, i, n)| Step::Data(w, i, n)),
        3 => (any::<usize>(), 1usize..300).prop_map(|(i, n)| Step::Log(i, n)),
        4 => (who(), class(), bytes.clone()).prop_map(|(w, c, n)| Step::Call(w, c, n)),
        3 => (who(), class(), bytes).prop_map(|(w, c, n)| Step::Message(w, c, n)),
        4 => (who(), any::<usize>()).prop_map(|(w, i)| Step::Consume(w, i)),
        1 => (who(), any::<usize>()).prop_map(|(w, i)| Step::Finish(w, i)),
        1 => (who(), any::<usize>()).prop_map(|(w, i)| Step::Reset(w, i)),
        12 => (who(), 1usize..40_000).prop_map(|(w, n)| Step::Move(w, n)),
        1 => (1u64..200).prop_map(Step::Wait),
    ]
}

/// One side with everything that it has been told.
struct Peer {
    session: Session,
    /// Bytes on their way to this side, and the rest of a frame.
    pipe: VecDeque<u8>,
    rest: Vec<u8>,
    streams: Vec<StreamId>,
    sent: BTreeMap<StreamId, u64>,
    received: BTreeMap<StreamId, u64>,
    unread: BTreeMap<StreamId, usize>,
    /// Calls of this side that wait, with the length asked for.
    calls: BTreeMap<Correlation, usize>,
    answered: usize,
    /// Lengths of messages sent to, and received from, the other side.
    messages_sent: Vec<usize>,
    messages_received: Vec<usize>,
}

struct World {
    client: Peer,
    server: Peer,
    now: Time,
}

/// The byte at a position of a stream, so that order and repetition show.
fn byte_at(position: u64) -> u8 {
    (position % 251) as u8
}

fn pattern(position: u64, count: usize) -> Vec<u8> {
    (0..count as u64).map(|i| byte_at(position + i)).collect()
}

fn records(from: u64, count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0..count {
        let record = LogRecord {
            unix_ns: from + number as u64,
            step: 1,
            channel: LogChannel::STDOUT,
            bytes: &[b'x'; 40],
        };
        record.append(&mut out).unwrap();
    }
    out
}

impl Peer {
    fn new(side: Side) -> Self {
        let wire = v2::Limits {
            connection_window: 70_000,
            class_window: vec![4096, 6000, 9000, 65_536],
            ..Default::default()
        };
        let limits = Limits::from_wire(&wire).unwrap();
        let config = SessionConfig {
            limits,
            ..SessionConfig::default()
        };
        Self {
            session: Session::new(side, config, [3; 32]),
            pipe: VecDeque::new(),
            rest: Vec::new(),
            streams: Vec::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            unread: BTreeMap::new(),
            calls: BTreeMap::new(),
            answered: 0,
            messages_sent: Vec::new(),
            messages_received: Vec::new(),
        }
    }

    fn pick(&self, index: usize) -> Option<StreamId> {
        let index = index.checked_rem(self.streams.len())?;
        self.streams.get(index).copied()
    }

    fn forget(&mut self, stream: StreamId) {
        self.streams.retain(|id| *id != stream);
        self.unread.remove(&stream);
    }

    fn take_stream(&mut self, stream: StreamId) {
        self.streams.push(stream);
        self.sent.insert(stream, 0);
        self.received.insert(stream, 0);
    }

    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Opened { stream, .. } => {
                self.session.accept(stream, 0);
                self.take_stream(stream);
            }
            Event::Data { stream, bytes, .. } => {
                let at = self.received.get_mut(&stream).unwrap();
                assert_eq!(bytes[..], pattern(*at, bytes.len()), "order of {stream}");
                *at += bytes.len() as u64;
                *self.unread.entry(stream).or_default() += bytes.len();
            }
            Event::Log {
                stream,
                offset,
                records,
            } => {
                let at = self.received.get_mut(&stream).unwrap();
                assert_eq!(offset, *at);
                *at += records.len() as u64;
                self.session.log_durable(stream, *at);
            }
            Event::Call { call, body, .. } => {
                assert_eq!(body[..], pattern(0, body.len()));
                self.session.reply(call, &body).unwrap();
            }
            Event::Reply { call, body, .. } => {
                let asked = self
                    .calls
                    .remove(&call)
                    .expect("each call is answered once");
                assert_eq!(body[..], pattern(0, asked));
                self.answered += 1;
            }
            Event::CallFailed { code, text, .. } => panic!("call failed: {code} {text}"),
            Event::Message { body, .. } => self.messages_received.push(body.len()),
            Event::Reset { stream, .. } => self.forget(stream),
            Event::PeerError { code, text, .. } => panic!("{code}: {text}"),
            _ => {}
        }
    }

    fn read(&mut self, now: Time, count: usize) {
        let count = count.min(self.pipe.len());
        self.rest.extend(self.pipe.drain(..count));
        let bytes = std::mem::take(&mut self.rest);
        let mut input = bytes.as_slice();
        while let Some(event) = self.session.read(now, &mut input).unwrap() {
            self.on_event(event);
        }
        self.rest = input.to_vec();
    }
}

impl World {
    fn new() -> Self {
        let (client, server) = (Peer::new(Side::Initiator), Peer::new(Side::Acceptor));
        let mut world = Self {
            client,
            server,
            now: Time::ZERO + Duration::from_secs(1),
        };
        world.settle();
        assert!(world.client.session.is_ready() && world.server.session.is_ready());
        world
    }

    fn side(&mut self, who: Who) -> &mut Peer {
        match who {
            Who::Client => &mut self.client,
            Who::Server => &mut self.server,
        }
    }

    /// Moves bytes that `to` has waiting, after what the other side has to say went in.
    fn carry(&mut self, to: Who, count: usize) -> usize {
        let (from, to) = match to {
            Who::Client => (&mut self.server, &mut self.client),
            Who::Server => (&mut self.client, &mut self.server),
        };
        let mut out = Vec::new();
        if to.pipe.len() < 200_000 {
            from.session.transmit(self.now, &mut out);
        }
        to.pipe.extend(out);
        let before = to.pipe.len();
        to.read(self.now, count);
        before
    }

    /// Lets everything arrive, with the applications taking all they get.
    fn settle(&mut self) {
        for _ in 0..2000 {
            for side in [&mut self.client, &mut self.server] {
                for (stream, bytes) in std::mem::take(&mut side.unread) {
                    side.session.consume(stream, bytes);
                }
            }
            let moved = self.carry(Who::Server, usize::MAX) + self.carry(Who::Client, usize::MAX);
            if moved == 0 {
                return;
            }
        }
        panic!("the two sides never fall silent");
    }

    fn apply(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Move(to, count) => {
                self.carry(to, count);
            }
            Step::Wait(ms) => {
                self.now = now + Duration::from_millis(ms);
                let now = self.now;
                self.client.session.handle_timeout(now);
                self.server.session.handle_timeout(now);
            }
            Step::Log(index, count) => self.log(index, count),
            Step::Open(who, class) => open(self.side(who), class),
            Step::Data(who, index, count) => data(self.side(who), index, count),
            Step::Call(who, class, count) => {
                let side = self.side(who);
                let sent = side.session.call(class, "a/B", &pattern(0, count), None);
                side.calls.insert(sent.unwrap(), count);
            }
            Step::Message(who, class, count) => {
                let side = self.side(who);
                side.session
                    .message(class, "a/M", &pattern(0, count))
                    .unwrap();
                side.messages_sent.push(count);
            }
            Step::Consume(who, index) => consume(self.side(who), index),
            Step::Finish(who, index) => {
                let side = self.side(who);
                if let Some(stream) = side.pick(index) {
                    side.session.finish(stream);
                }
            }
            Step::Reset(who, index) => {
                let side = self.side(who);
                if let Some(stream) = side.pick(index) {
                    side.session.reset(stream, valkyrie_frame::ErrorCode::NONE);
                    side.forget(stream);
                }
            }
        }
    }

    /// Logs go from the client to the server on streams that the client opened.
    fn log(&mut self, index: usize, count: usize) {
        let side = &mut self.client;
        let Some(stream) = side
            .pick(index)
            .filter(|id| id.class() == StreamClass::Logs)
        else {
            return;
        };
        let Some(at) = side.sent.get(&stream).copied() else {
            return;
        };
        let batch = records(at, count);
        match side.session.log(stream, at, &batch) {
            Ok(()) => {
                assert!(
                    at + batch.len() as u64 <= at.max(side.session.log_credit(stream)) + 70_000
                );
                *side.sent.get_mut(&stream).unwrap() += batch.len() as u64;
            }
            Err(
                SendError::NoCredit { .. }
                | SendError::AfterEnd { .. }
                | SendError::UnknownStream { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn open(side: &mut Peer, class: StreamClass) {
    match side.session.open(class, &v2::StreamOpen::default()) {
        Ok(stream) => side.take_stream(stream),
        Err(SendError::StreamsExhausted { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn data(side: &mut Peer, index: usize, count: usize) {
    let picked = side
        .pick(index)
        .filter(|id| id.class() != StreamClass::Logs);
    let Some(stream) = picked else { return };
    let at = side.sent.get(&stream).copied().unwrap();
    match side.session.data(stream, &pattern(at, count), End::No) {
        Ok(sent) => *side.sent.get_mut(&stream).unwrap() += sent as u64,
        Err(SendError::AfterEnd { .. } | SendError::UnknownStream { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn consume(side: &mut Peer, index: usize) {
    let Some(stream) = side.pick(index) else {
        return;
    };
    if let Some(bytes) = side.unread.remove(&stream) {
        side.session.consume(stream, bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_stuck(steps in prop::collection::vec(step(), 1..160)) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
        }
        world.settle();
        let (client, server) = (&mut world.client, &mut world.server);
        prop_assert!(client.calls.is_empty(), "calls without answer: {:?}", client.calls);
        prop_assert!(server.calls.is_empty(), "calls without answer: {:?}", server.calls);
        for (from, to) in [(&*client, &*server), (&*server, &*client)] {
            let (mut sent, mut got) = (from.messages_sent.clone(), to.messages_received.clone());
            sent.sort_unstable();
            got.sort_unstable();
            prop_assert_eq!(sent, got);
            for stream in &from.streams {
                if to.streams.contains(stream) {
                    prop_assert_eq!(from.sent.get(stream), to.received.get(stream));
                }
            }
        }
        // Credit has come back: everything that is open can be written to again.
        for stream in client.streams.clone() {
            if stream.class() != StreamClass::Logs {
                match client.session.data(stream, &[0; 100], End::No) {
                    Ok(sent) => prop_assert_eq!(sent, 100, "{} is stuck", stream),
                    Err(SendError::AfterEnd { .. } | SendError::UnknownStream { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        prop_assert_eq!(client.session.counters().errors_total, 0);
        prop_assert_eq!(server.session.counters().errors_total, 0);
    }

    #[test]
    fn no_bytes_make_a_session_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut world = World::new();
        let mut input = bytes.as_slice();
        while let Ok(Some(_)) = world.server.session.read(world.now, &mut input) {}
        // The same behind a header, so that the bodies are reached too.
        for kind in 0..=255u8 {
            let mut world = World::new();
            let mut frame = vec![0x52, 0x43, 2, kind, bytes.first().copied().unwrap_or(0), 0, 0, 0];
            let stream = u32::from(bytes.get(1).copied().unwrap_or(0)) * 50;
            frame.extend_from_slice(&stream.to_be_bytes());
            frame.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            frame.extend_from_slice(&[0; 8]);
            frame.extend_from_slice(&bytes);
            let mut input = frame.as_slice();
            while let Ok(Some(_)) = world.server.session.read(world.now, &mut input) {}
            world.server.session.handle_timeout(world.now + Duration::from_secs(60));
            let mut out = Vec::new();
            world.server.session.transmit(world.now, &mut out);
        }
    }
}
