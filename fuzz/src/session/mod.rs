//! Sessions whose peer may send anything.

#![expect(clippy::indexing_slicing, reason = "a target fails by panicking")]

mod conversation;
mod react;

use std::time::Duration;

use valkyrie_frame::{
    Correlation, ErrorFlags, ErrorPayload, Flags, Frame, FrameLimits, Header, MessageType,
    StreamId, Time, limits::HEADER_BYTES,
};
use valkyrie_session::{Event, Session, SessionConfig, SessionError, Side, Violation};

pub(crate) use conversation::conversation;
use react::react;

/// Streams that a byte of a short frame can name: every class, both sides, channels and limits.
const STREAMS: [u32; 20] = [
    0,
    1,
    100,
    1000,
    10000,
    3,
    101,
    103,
    1001,
    1003,
    10001,
    10003,
    2,
    102,
    99,
    u32::MAX,
    1002,
    10002,
    104,
    98,
];

/// What a session may hold ready to be sent for each byte that came in, and at least.
const AMPLIFICATION_MAX: usize = 64;
const QUEUED_BYTES_MIN: usize = 64 * 1024;

/// The first byte says how the others are read: bit 0 a HELLO comes first, bit 1 they are short
/// frames (see [`expand`]), the rest how many bytes come at once.
pub(crate) fn acceptor(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else {
        return;
    };
    let mut wire = Vec::new();
    if mode & 1 == 1 {
        let mut client = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
        client.transmit(Time::ZERO, &mut wire);
    }
    if mode & 2 == 2 {
        expand(rest, &mut wire);
    } else {
        wire.extend_from_slice(rest);
    }
    let piece = match mode >> 2 {
        0 => wire.len().max(1),
        small => usize::from(small) * 5,
    };
    Victim::new(Session::new(
        Side::Acceptor,
        SessionConfig::default(),
        [2; 32],
    ))
    .take(&wire, piece);
}

/// The first byte says how the others are read: bits 0 and 1 how many frames of an honest answer
/// to HELLO come first, bit 2 they are short frames, the rest how many bytes come at once.
pub(crate) fn initiator(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else {
        return;
    };
    let mut session = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
    let mut wire = answer(&mut session, usize::from(mode & 3));
    if mode & 4 == 4 {
        expand(rest, &mut wire);
    } else {
        wire.extend_from_slice(rest);
    }
    let piece = match mode >> 3 {
        0 => wire.len().max(1),
        small => usize::from(small) * 5,
    };
    Victim::new(session).take(&wire, piece);
}

/// The first frames of what an honest acceptor answers.
fn answer(initiator: &mut Session, frames: usize) -> Vec<u8> {
    let (mut hello, mut answer) = (Vec::new(), Vec::new());
    initiator.transmit(Time::ZERO, &mut hello);
    let mut acceptor = Session::new(Side::Acceptor, SessionConfig::default(), [2; 32]);
    let ready = acceptor.read(Time::ZERO, &mut hello.as_slice());
    assert!(matches!(ready, Ok(Some(Event::Ready(_)))));
    acceptor.transmit(Time::ZERO, &mut answer);
    let mut rest = answer.as_slice();
    for _ in 0..frames {
        Frame::parse(&mut rest, FrameLimits::DEFAULT).expect("frames");
    }
    let left = rest.len();
    answer.truncate(answer.len() - left);
    answer
}

/// Whatever a session refuses, it names the rule.
fn check_rule(violation: &Violation) {
    let line = format!("- **{}** ", violation.rule());
    let text = include_str!("../../../spec/protocol.md");
    let found = text.lines().any(|text| text.starts_with(&line));
    assert!(found, "{violation}: there is no rule {}", violation.rule());
}

/// Makes frames of short ones: type, flags, stream (index into [`STREAMS`]), correlation, length,
/// body. A fuzzer finds these sooner than whole headers.
fn expand(mut short: &[u8], wire: &mut Vec<u8>) {
    while let Some((&[kind, flags, stream, correlation, length], rest)) = short.split_first_chunk()
    {
        let body = &rest[..rest.len().min(usize::from(length))];
        short = &rest[body.len()..];
        let stream = StreamId(STREAMS[usize::from(stream) % STREAMS.len()]);
        let correlation = match correlation {
            0 => Correlation::NONE,
            slot => Correlation(0x1000 | u32::from(slot)),
        };
        let length = u32::try_from(body.len()).expect("a byte");
        Header::new(MessageType(kind), stream, length)
            .with_flags(Flags(flags))
            .with_correlation(correlation)
            .append(wire);
        wire.extend_from_slice(body);
    }
}

/// The session, and what was seen of it.
struct Victim {
    session: Session,
    now: Time,
    read: usize,
    failed: Option<SessionError>,
}

impl Victim {
    fn new(session: Session) -> Self {
        Self {
            session,
            now: Time::ZERO,
            read: 0,
            failed: None,
        }
    }

    /// Gives `wire` to the session in pieces, and then lets time pass until it wants nothing more.
    fn take(mut self, wire: &[u8], piece: usize) {
        let mut held = Vec::new();
        for piece in wire.chunks(piece) {
            self.now = self.now + Duration::from_millis(1);
            held.extend_from_slice(piece);
            self.read += piece.len();
            let left = self.read_events(&held);
            held.drain(..held.len() - left);
            self.send();
        }
        for _ in 0..50 {
            let Some(at) = self.session.poll_timeout() else {
                break;
            };
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            while let Some(event) = self.session.poll_event() {
                react(&mut self.session, event);
            }
            self.send();
        }
    }

    /// Handles every event of the input; returns how many of its bytes are left.
    fn read_events(&mut self, input: &[u8]) -> usize {
        let mut rest = input;
        loop {
            match self.session.read(self.now, &mut rest) {
                Ok(Some(event)) => {
                    assert!(self.failed.is_none(), "an event after the end");
                    assert!(self.session.is_ready() || matches!(event, Event::Closing { .. }));
                    react(&mut self.session, event);
                }
                Ok(None) => {
                    let frame = Frame::parse(&mut &*rest, FrameLimits::DEFAULT);
                    assert!(!matches!(frame, Ok(Some(_))), "a whole frame was left");
                    return rest.len();
                }
                Err(error) => {
                    let first = self.failed.get_or_insert_with(|| error.clone());
                    assert_eq!(*first, error, "the reason changed");
                    let _ = error.to_string();
                    if let SessionError::Violation(violation) = &error {
                        check_rule(violation);
                    }
                    return 0;
                }
            }
        }
    }

    /// Takes what the session sends: whole frames, and an ERROR as the last one after a violation.
    fn send(&mut self) {
        let most = self.read * AMPLIFICATION_MAX + QUEUED_BYTES_MIN;
        assert!(
            self.session.queued_bytes() <= most,
            "{} bytes wait",
            self.session.queued_bytes()
        );
        let mut out = Vec::new();
        while self.session.transmit(self.now, &mut out) > 0 {}
        let mut rest = out.as_slice();
        let mut last = None;
        while let Some(frame) = Frame::parse(&mut rest, FrameLimits::DEFAULT).expect("frames") {
            last = Some((frame.header.kind, frame.body));
        }
        assert!(rest.is_empty() && (out.is_empty() || out.len() >= HEADER_BYTES));
        if let (Some(SessionError::Violation(violation)), Some((kind, body))) = (&self.failed, last)
        {
            assert_eq!(kind, MessageType::ERROR);
            let error = ErrorPayload::parse(body).expect("our own error");
            assert_eq!(error.code, violation.code());
            assert!(error.flags.contains(ErrorFlags::CONNECTION_ENDS));
        }
    }
}
