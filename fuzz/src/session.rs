//! A session that accepts a connection from a peer that may send anything.

#![expect(clippy::indexing_slicing, reason = "a target fails by panicking")]

use std::time::Duration;

use valkyrie_frame::{
    Correlation, ErrorFlags, ErrorPayload, Flags, Frame, FrameLimits, Header, MessageType,
    StreamId, Time, limits::HEADER_BYTES, v2,
};
use valkyrie_session::{End, Event, Session, SessionConfig, SessionError, Side};

/// Streams that a byte of a short frame can name: every class, both sides, channels and limits.
const STREAMS: [u32; 16] = [
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
    let session = Session::new(Side::Acceptor, SessionConfig::default(), [2; 32]);
    Peer {
        session,
        now: Time::ZERO,
        read: 0,
        failed: None,
    }
    .take(&wire, piece);
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
struct Peer {
    session: Session,
    now: Time,
    read: usize,
    failed: Option<SessionError>,
}

impl Peer {
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

/// Does what an application would do, so that later states are reached.
fn react(session: &mut Session, event: Event<'_>) {
    match event {
        Event::Call { call, body, .. } => {
            // The first byte chooses between an answer, a failure and silence.
            let _ = match body.first() {
                Some(0) => Ok(()),
                Some(1) => session.reply_error(call, valkyrie_frame::ErrorCode::REJECTED, "no"),
                _ => session.reply(call, &body),
            };
        }
        Event::CallCanceled { call } => drop(session.reply(call, b"late")),
        Event::Opened { stream, open } => {
            session.accept(stream, u64::from(open.window));
            let _ = session.data(stream, open.method.as_bytes(), End::No);
        }
        Event::Data { stream, bytes } => {
            session.consume(stream, bytes.len());
            let _ = session.data(stream, &bytes, End::No);
        }
        Event::Log {
            stream,
            offset,
            records,
        } => {
            session.log_durable(stream, offset + records.len() as u64);
        }
        Event::FileStart { stream, size, .. } => session.file_verified(stream, size / 2),
        Event::FileChunk {
            stream,
            offset,
            bytes,
        } => {
            session.file_verified(stream, offset + bytes.len() as u64);
        }
        Event::FileComplete { stream, .. } => {
            let kind = MessageType::FILE_TRANSFER_COMPLETE;
            let _ = session.ack(stream, kind, Correlation::NONE, End::Yes);
        }
        Event::Job {
            stream,
            kind: MessageType::JOB_REQUEST,
            ..
        } => {
            let accept = v2::JobAccept::default();
            let _ = session.job(stream, MessageType::JOB_ACCEPT, &accept, End::No);
        }
        Event::Job {
            stream,
            kind,
            correlation,
            end: End::Yes,
            ..
        } => {
            let _ = session.ack(stream, kind, correlation, End::Yes);
        }
        Event::Finished { stream, .. } => session.finish(stream),
        _ => {}
    }
}
