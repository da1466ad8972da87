//! Two sessions that talk as they should, and a hand that changes frames on the way.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use valkyrie_frame::{
    Correlation, ErrorCode, FileStart, Frame, FrameLimits, LogChannel, LogRecord, MessageType,
    StreamClass, StreamId, Time, limits::HEADER_BYTES, v2,
};
use valkyrie_session::{End, Event, Origin, Proposal, Session, SessionConfig, SessionError, Side};

use super::{check_rule, react};

/// Bytes that may wait to be sent: what an input of a few thousand steps can ask for.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What honest sides may still do to each other: too much at once, too slow, too late.
const HONEST: [ErrorCode; 3] = [ErrorCode::LIMIT, ErrorCode::TIMEOUT, ErrorCode::DRAINING];

/// Steps of three bytes: what, on which side and to what, how much. See [`Talk::step`].
pub(crate) fn conversation(data: &[u8]) {
    let mut talk = Talk::new();
    let (steps, _) = data.as_chunks::<3>();
    for [what, to, much] in steps {
        talk.step(*what, *to, *much);
        if talk.ends.iter().all(|end| end.session.failure().is_some()) {
            break;
        }
    }
    talk.check();
}

/// One side, and the frames it has sent that have not come.
struct Peer {
    session: Session,
    wire: VecDeque<Vec<u8>>,
    streams: Vec<StreamId>,
    calls: VecDeque<Correlation>,
    asked: VecDeque<Correlation>,
    /// Where the next log record or chunk goes.
    offsets: HashMap<StreamId, u64>,
    unread: HashMap<StreamId, usize>,
    /// Size and digest of the file that it sends.
    files: HashMap<StreamId, (u64, u8)>,
}

struct Talk {
    ends: [Peer; 2],
    now: Time,
    honest: bool,
}

impl Peer {
    fn new(side: Side, random: u8) -> Self {
        Self {
            session: Session::new(side, SessionConfig::default(), [random; 32]),
            wire: VecDeque::new(),
            streams: Vec::new(),
            calls: VecDeque::new(),
            asked: VecDeque::new(),
            offsets: HashMap::new(),
            unread: HashMap::new(),
            files: HashMap::new(),
        }
    }

    fn stream(&self, number: u8) -> StreamId {
        let count = self.streams.len().max(1);
        let stream = self.streams.get(usize::from(number) % count);
        stream.copied().unwrap_or(StreamId(1001))
    }

    /// Puts whole frames on the wire.
    fn transmit(&mut self, now: Time) {
        let queued = self.session.queued_bytes();
        assert!(queued <= QUEUED_BYTES_MAX, "{queued} bytes wait");
        let mut out = Vec::new();
        while self.session.transmit(now, &mut out) > 0 {}
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            let before = rest;
            let frame = Frame::parse(&mut rest, FrameLimits::DEFAULT).expect("frames");
            assert!(frame.is_some(), "half a frame is sent");
            let (bytes, _) = before.split_at(before.len() - rest.len());
            self.wire.push_back(bytes.to_vec());
        }
    }

    fn see(&mut self, event: Event<'_>) {
        match &event {
            Event::Opened { stream, .. } => self.streams.push(*stream),
            Event::Job {
                stream,
                kind: MessageType::JOB_REQUEST,
                ..
            } => self.streams.push(*stream),
            Event::Call { call, .. } => return self.calls.push_back(*call),
            Event::Data { stream, bytes, .. } => {
                *self.unread.entry(*stream).or_default() += bytes.len();
                return;
            }
            Event::Accepted { stream, consumed } => {
                self.offsets.insert(*stream, *consumed);
            }
            Event::FileVerified { stream, offset } => {
                let next = self.offsets.entry(*stream).or_default();
                *next = (*next).max(*offset);
            }
            Event::Reset { stream, .. } => {
                self.offsets.remove(stream);
                self.files.remove(stream);
                self.streams.retain(|known| known != stream);
            }
            _ => {}
        }
        react(&mut self.session, event);
    }

    fn open(&mut self, much: u8) {
        let class = StreamClass::WITH_STREAMS[usize::from(much % 4)];
        let open = v2::StreamOpen {
            method: "a.B/C".into(),
            metadata: [("k".into(), vec![much; usize::from(much)])].into(),
            window: u32::from(much) * 1024,
        };
        if let Ok(stream) = self.session.open(class, &open) {
            self.streams.push(stream);
        }
    }

    /// On a stream for logs an honest side waits to hear where to begin.
    fn may_send(&self, stream: StreamId) -> bool {
        stream.class() != StreamClass::Logs || self.offsets.contains_key(&stream)
    }

    fn tell(&mut self, what: u8, much: u8) {
        let _ = match what % 3 {
            0 => self.session.update_status(&v2::StatusUpdate {
                load_permille: u32::from(much),
                ..Default::default()
            }),
            1 => self.session.health_check(&v2::HealthCheck {
                id: u32::from(much),
                ..Default::default()
            }),
            _ => self.session.report_metrics(&v2::MetricsReport {
                instance: vec![much; 16],
                ..Default::default()
            }),
        };
    }

    fn negotiate(&mut self, what: u8, much: u8) {
        let _ = self.session.negotiate(Proposal {
            features: (what & 1 == 1).then_some(u64::from(much)),
            keepalive: (what & 2 == 2).then_some(Duration::from_secs(u64::from(much))),
            frame_max: (what & 4 == 4).then_some(65_536 + u32::from(much) * 700),
            calls_max: (what & 8 == 8).then_some(4096),
            ..Proposal::default()
        });
    }

    fn log(&mut self, stream: StreamId, much: u8) {
        let mut records = Vec::new();
        let record = LogRecord {
            unix_ns: 1,
            step: 0,
            channel: LogChannel(0),
            bytes: &vec![b'x'; usize::from(much)],
        };
        record.append(&mut records).expect("a short record");
        let Some(offset) = self.offsets.get_mut(&stream) else {
            return;
        };
        if self.session.log(stream, *offset, &records).is_ok() {
            *offset += records.len() as u64;
        }
    }

    fn file(&mut self, stream: StreamId, much: u8) {
        let size = u64::from(much) * 100;
        let start = FileStart {
            id: [much; 16],
            size,
            digest: [much; 32],
            name: "f",
        };
        if self.session.file_start(stream, &start).is_ok() {
            self.offsets.remove(&stream);
            self.files.insert(stream, (size, much));
        }
    }

    /// A part of the file, and COMPLETE when it was the last one.
    fn chunk(&mut self, stream: StreamId, much: u8) {
        let Some((size, digest)) = self.files.get(&stream).copied() else {
            return;
        };
        let offset = self.offsets.get(&stream).copied().unwrap_or_default();
        let left = usize::try_from(size - offset.min(size)).expect("a short file");
        let bytes = vec![0; left.min(usize::from(much) * 100)];
        let Ok(sent) = self.session.file_chunk(stream, offset, &bytes) else {
            return;
        };
        self.offsets.insert(stream, offset + sent as u64);
        if offset + sent as u64 == size {
            let _ = self.session.file_complete(stream, [digest; 32], End::No);
            self.files.remove(&stream);
        }
    }
}

impl Talk {
    /// Two sides that are ready.
    fn new() -> Self {
        let mut talk = Self {
            ends: [Peer::new(Side::Initiator, 1), Peer::new(Side::Acceptor, 2)],
            now: Time::ZERO,
            honest: true,
        };
        talk.deliver(0);
        talk.deliver(1);
        assert!(talk.ends.iter().all(|end| end.session.is_ready()));
        talk
    }

    fn step(&mut self, what: u8, to: u8, much: u8) {
        let from = usize::from(what >> 7);
        let end = &mut self.ends[from];
        let stream = end.stream(to);
        let bytes = vec![much; usize::from(much) * 64];
        let class = StreamClass::WITH_STREAMS[usize::from(to % 4)];
        let last = if to & 0x40 == 0 { End::No } else { End::Yes };
        match what & 0x7f {
            0 => end.open(much),
            1 if end.may_send(stream) => {
                let _ = end.session.data(stream, &bytes, last);
            }
            2 => end.session.finish(stream),
            3 => end.session.reset(stream, ErrorCode(u16::from(much))),
            4 => {
                let wait = Duration::from_millis(u64::from(much) * 10);
                let call = end.session.call(class, "a.B/C", &bytes, Some(wait));
                end.asked.extend(call);
            }
            5 => {
                let _ = end.session.message(class, "a.B/C", &bytes);
            }
            6 => {
                if let Some(call) = end.calls.pop_front() {
                    let _ = end.session.reply(call, &bytes);
                }
            }
            7 => {
                if let Some(call) = end.asked.pop_front() {
                    end.session.cancel(call);
                }
            }
            8 => end
                .streams
                .extend(end.session.job_request(&v2::JobRequest::default())),
            9 => {
                let kind = MessageType(0x21 + much % 7);
                let progress = v2::JobProgress::default();
                let _ = end.session.job(stream, kind, &progress, last);
            }
            10 => end.log(stream, much),
            11 => end.file(stream, much),
            12 => end.chunk(stream, much),
            13 => {
                let bytes = end.unread.remove(&stream).unwrap_or_default();
                end.session.consume(stream, bytes);
            }
            14 => self.pass(much),
            15 => {
                let drain = Duration::from_secs(u64::from(much));
                end.session.close(ErrorCode::NONE, drain);
            }
            16 => end.session.ping(),
            18 => end.tell(to, much),
            19 => end.negotiate(to, much),
            1 => {}
            17 | 20..64 => self.deliver(from),
            change => self.change(from, change, to, much),
        }
        self.ends[from].transmit(self.now);
    }

    /// Everything that one side has sent comes to the other.
    fn deliver(&mut self, from: usize) {
        self.ends[from].transmit(self.now);
        let bytes: Vec<u8> = self.ends[from].wire.drain(..).flatten().collect();
        let end = &mut self.ends[1 - from];
        let mut rest = bytes.as_slice();
        loop {
            match end.session.read(self.now, &mut rest) {
                Ok(Some(event)) => end.see(event),
                Ok(None) => break,
                Err(SessionError::Violation(violation)) => {
                    check_rule(&violation);
                    let honest = !self.honest || HONEST.contains(&violation.code());
                    assert!(honest, "an honest side is refused: {violation}");
                    break;
                }
                Err(_) => break,
            }
        }
        self.check_errors(1 - from);
        self.ends[1 - from].transmit(self.now);
    }

    fn check_errors(&mut self, at: usize) {
        let honest = self.honest;
        self.ends[at].session.counters().take(
            |_| {},
            |note| {
                let fine = !honest || note.origin == Origin::Peer || HONEST.contains(&note.code);
                assert!(fine, "an honest side is refused with {}", note.code);
            },
        );
    }

    fn pass(&mut self, much: u8) {
        let until = self.now + Duration::from_millis(u64::from(much) * 50);
        for at in 0..2 {
            let end = &mut self.ends[at];
            for _ in 0..100 {
                let due = end.session.poll_timeout();
                let Some(due) = due.filter(|due| *due <= until) else {
                    break;
                };
                end.session.handle_timeout(due);
                while let Some(event) = end.session.poll_event() {
                    end.see(event);
                }
                end.transmit(due);
            }
            self.check_errors(at);
        }
        self.now = until;
    }

    /// Changes a frame on its way; its length stays right.
    fn change(&mut self, from: usize, change: u8, which: u8, value: u8) {
        let wire = &mut self.ends[from].wire;
        let at = usize::from(which % 16);
        let Some(frame) = wire.get_mut(at) else {
            return;
        };
        self.honest = false;
        let place = usize::from(which >> 4);
        match change % 8 {
            0 => frame[3] = value,
            1 => frame[4] ^= value,
            // Stream, correlation, and what is around them.
            2 => {
                frame[4 + place] ^= if (12..16).contains(&(4 + place)) {
                    0
                } else {
                    value
                }
            }
            3 => frame[16 + place % 4] ^= value,
            4 => {
                let bodies = frame.len() - HEADER_BYTES;
                if bodies > 0 {
                    frame[HEADER_BYTES + (place * 7 + usize::from(value >> 4)) % bodies] ^= value;
                }
            }
            5 => frame.truncate((HEADER_BYTES + usize::from(value)).min(frame.len())),
            6 => frame.extend(vec![value; place * 100 + 1]),
            _ => {
                let frame = frame.clone();
                match value % 3 {
                    0 => drop(wire.remove(at)),
                    1 => wire.insert(at, frame),
                    _ => wire.swap(at, 0),
                }
            }
        }
        if let Some(frame) = wire.get_mut(at) {
            let length = u32::try_from(frame.len() - HEADER_BYTES).expect("short frames");
            frame[12..16].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Whatever happened, each side either goes on or has said why not.
    fn check(mut self) {
        for _ in 0..3 {
            self.deliver(0);
            self.deliver(1);
        }
        for end in &self.ends {
            if let Some(SessionError::Violation(violation)) = end.session.failure() {
                check_rule(violation);
            }
        }
    }
}
