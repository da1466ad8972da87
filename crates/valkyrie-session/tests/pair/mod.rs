//! Two sessions in one thread, and a scripted peer that says frame by frame what it wants.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of this"
)]
#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::time::Duration;

use valkyrie_frame::{
    Flags, Frame, FrameLimits, Header, MessageType, StreamClass, StreamId, Time, v2,
};
use valkyrie_session::{Event, Limits, Session, SessionConfig, SessionError, Side};

pub const NOW: Time = Time::from_nanos(1_000_000_000);

pub fn seconds(count: u64) -> Time {
    NOW + Duration::from_secs(count)
}

/// What `from` has to say, as bytes that outlive every event.
pub fn take(from: &mut Session, now: Time) -> &'static [u8] {
    let (mut all, mut part) = (Vec::new(), Vec::new());
    while from.transmit(now, &mut part) > 0 {
        all.append(&mut part);
    }
    Box::leak(all.into_boxed_slice())
}

pub fn give(to: &mut Session, now: Time, mut bytes: &'static [u8]) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    while let Some(event) = to.read(now, &mut bytes).unwrap() {
        events.push(event);
    }
    assert!(bytes.is_empty(), "whole frames leave nothing behind");
    events
}

pub struct Pair {
    pub client: Session,
    pub server: Session,
    pub now: Time,
}

impl Pair {
    pub fn with(client: SessionConfig, server: SessionConfig) -> Self {
        let client = Session::new(Side::Initiator, client, [1; 32]);
        let server = Session::new(Side::Acceptor, server, [2; 32]);
        let mut pair = Self {
            client,
            server,
            now: NOW,
        };
        assert!(matches!(pair.reach_server()[..], [Event::Ready(_)]));
        assert!(matches!(pair.reach_client()[..], [Event::Ready(_)]));
        pair
    }

    pub fn new() -> Self {
        Self::with(SessionConfig::default(), SessionConfig::default())
    }

    pub fn small_windows() -> Self {
        let wire = v2::Limits {
            connection_window: 64 * 1024,
            class_window: vec![4096, 4096, 4096, 65536],
            ..Default::default()
        };
        let limits = Limits::from_wire(&wire).unwrap();
        let config = SessionConfig {
            limits,
            ..SessionConfig::default()
        };
        Self::with(config.clone(), config)
    }

    pub fn reach_server(&mut self) -> Vec<Event<'static>> {
        let bytes = take(&mut self.client, self.now);
        give(&mut self.server, self.now, bytes)
    }

    pub fn reach_client(&mut self) -> Vec<Event<'static>> {
        let bytes = take(&mut self.server, self.now);
        give(&mut self.client, self.now, bytes)
    }

    /// A stream of the client that the server has accepted.
    pub fn open(&mut self, class: StreamClass) -> StreamId {
        let stream = self.client.open(class, &v2::StreamOpen::default()).unwrap();
        assert!(matches!(self.reach_server()[..], [Event::Opened { .. }]));
        self.server.accept(stream, 0);
        assert!(matches!(self.reach_client()[..], [Event::Accepted { .. }]));
        stream
    }
}

/// One frame as a scripted peer writes it.
pub fn frame(kind: MessageType, stream: u32, flags: Flags, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = u32::try_from(body.len()).unwrap();
    Header::new(kind, StreamId(stream), length)
        .with_flags(flags)
        .append(&mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

pub fn leak(bytes: Vec<u8>) -> &'static [u8] {
    Box::leak(bytes.into_boxed_slice())
}

/// The frames in what a session says.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while let Some(frame) = Frame::parse(&mut bytes, FrameLimits::DEFAULT).unwrap() {
        frames.push(frame);
    }
    frames
}

pub fn read_to_error(session: &mut Session, mut bytes: &'static [u8]) -> SessionError {
    loop {
        match session.read(NOW, &mut bytes) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("no error"),
            Err(error) => return error,
        }
    }
}
