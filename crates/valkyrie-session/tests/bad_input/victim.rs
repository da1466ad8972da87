//! Runs a case against a session, and checks what came of it.

use std::time::Duration;

use peak_alloc::PeakAlloc;
use valkyrie_frame::{
    Correlation, ErrorCode, ErrorFlags, ErrorPayload, Frame, FrameLimits, MessageType, StreamClass,
    StreamId, StreamReset, Time, features,
};
use valkyrie_session::{
    End, Event, Joining, Limits, Origin, Session, SessionConfig, SessionError, Side, Violation,
};

use crate::case::{Accepts, Case, Ends, Given, Step};
use crate::wire::{DATA, call, data, open, reply};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a session may take at once beside what bytes that really came may cost it: the first
/// entries of its tables and buffers.
const MEMORY_MIN: usize = 64 * 1024;
/// Correlation of the peer's witness call; no case uses its slot.
const WITNESS: u32 = 0x1_F00D;

/// What a session said, as a peer reads it.
struct Said {
    kind: MessageType,
    stream: u32,
    call: u32,
    body: Vec<u8>,
}

/// What the application of the victim saw.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Call(Correlation),
    Reply(Correlation),
    Failed(Correlation, ErrorCode),
    Data(StreamId, usize),
    Reset(StreamId, ErrorCode),
    Other,
}

/// A session under attack.
struct Victim {
    session: Session,
    accepts: Accepts,
    reading: Reading,
    memory_per_byte: usize,
    now: Time,
    held: Vec<u8>,
    came: usize,
    said: Vec<Said>,
    seen: Vec<Seen>,
    last_error: Option<ErrorCode>,
    /// The victim's own call that waits meanwhile.
    waiting: Correlation,
}

/// How the bytes of one read reach the session. None of it may make a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// As they are, frame by frame.
    Whole,
    /// As they are, in batches where there are some.
    Batches,
    /// In pieces that end inside frames.
    Pieces,
}

impl Reading {
    const ALL: [Self; 3] = [Self::Whole, Self::Batches, Self::Pieces];

    /// Bytes that come at once, of so many.
    const fn piece(self, bytes: usize) -> usize {
        match self {
            Self::Whole | Self::Batches => bytes,
            // Small enough to cut a header, but not a thousand times the same long frame.
            Self::Pieces if bytes < 10_000 => 7,
            Self::Pieces => 10_007,
        }
    }
}

/// Runs a case, with its bytes read in every way unless it is long; what is wrong, if anything is.
pub fn run(case: &Case) -> Result<(), String> {
    let ways = if case.is_long() {
        1
    } else {
        Reading::ALL.len()
    };
    for reading in Reading::ALL.into_iter().take(ways) {
        run_as(case, reading).map_err(|problem| format!("{problem}, read as {reading:?}"))?;
    }
    Ok(())
}

/// The token of a victim that wants to move.
pub const TOKEN: [u8; 32] = [6; 32];

fn joining() -> Joining {
    let session = Session::new(Side::Initiator, SessionConfig::default(), [9; 32]);
    session.joining(&TOKEN, [9; 32])
}

/// Its HELLO.
pub fn joining_hello() -> Vec<u8> {
    joining().hello().to_vec()
}

/// A victim that wants to move only looks at one answer.
fn run_joining(case: &Case) -> Result<(), String> {
    let sent = case.steps.iter().filter_map(|step| match step {
        Step::Send(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    let answer: Vec<u8> = sent.flatten().copied().collect();
    match (joining().check(&answer), case.ends) {
        (Err(violation), Ends::Connection) => check_violation(case, &violation),
        (Ok(true), Ends::Nothing) => Ok(()),
        (other, _) => Err(format!("{other:?}")),
    }
}

fn run_as(case: &Case, reading: Reading) -> Result<(), String> {
    if case.given == Given::Joining {
        return run_joining(case);
    }
    let mut victim = Victim::new(case);
    victim.reading = reading;
    let skipped = victim.session.counters().skipped;
    for step in &case.steps {
        victim.step(step)?;
    }
    victim.check(case, skipped)?;
    if matches!(case.given, Given::Ready(_)) && case.ends != Ends::Connection {
        victim.check_witnesses()?;
    }
    Ok(())
}

impl Victim {
    fn new(case: &Case) -> Self {
        let config = SessionConfig {
            limits: Limits::from_wire(&case.limits).expect("limits that work"),
            keepalive: case.keepalive,
            features: features::OBSERVE | case.features,
            ..SessionConfig::default()
        };
        let side = match case.given {
            Given::Accepted => Side::Acceptor,
            Given::Offered | Given::Chosen | Given::Joining => Side::Initiator,
            Given::Ready(side) => side,
        };
        let mut victim = Self {
            session: Session::new(side, config, [9; 32]),
            accepts: Accepts::All,
            reading: Reading::Whole,
            memory_per_byte: case.memory_per_byte,
            now: Time::from_nanos(1_000_000_000),
            held: Vec::new(),
            came: 0,
            said: Vec::new(),
            seen: Vec::new(),
            last_error: None,
            waiting: Correlation::NONE,
        };
        victim.session.tick(victim.now);
        match case.given {
            Given::Accepted | Given::Joining => {}
            Given::Offered => victim.transmit(),
            Given::Chosen => victim.greet(1),
            Given::Ready(_) => victim.make_ready(),
        }
        victim.said.clear();
        victim.seen.clear();
        victim.accepts = case.accepts;
        victim
    }

    /// Takes `frames` of what an honest other side says first: HELLO, or HELLO_ACK and
    /// AUTH_SUCCESS.
    fn greet(&mut self, frames: usize) {
        let side = match self.session.side() {
            Side::Initiator => Side::Acceptor,
            Side::Acceptor => Side::Initiator,
        };
        let config = SessionConfig {
            features: u64::MAX,
            ..SessionConfig::default()
        };
        let mut other = Session::new(side, config, [8; 32]);
        let (mut wire, mut answer) = (Vec::new(), Vec::new());
        self.session.transmit(self.now, &mut wire);
        other
            .read(self.now, &mut wire.as_slice())
            .expect("an honest HELLO");
        other.transmit(self.now, &mut answer);
        let mut rest = answer.as_slice();
        for _ in 0..frames {
            Frame::parse(&mut rest, FrameLimits::DEFAULT).expect("an honest frame");
        }
        let taken = answer.len() - rest.len();
        self.take(answer.get(..taken).unwrap_or_default())
            .expect("a bounded handshake");
    }

    /// Finishes the handshake and starts what has to survive: a stream of the peer and a call of
    /// the victim.
    fn make_ready(&mut self) {
        self.greet(2);
        assert!(self.session.is_ready());
        self.take(&open(self.witness()).bytes()).expect("a stream");
        let asked = self.session.call(StreamClass::Data, "w.W/Wait", b"", None);
        self.waiting = asked.expect("a call");
        self.transmit();
    }

    /// The stream of the peer that has to survive.
    fn witness(&self) -> u32 {
        match self.session.side() {
            Side::Acceptor => 9997,
            Side::Initiator => 9998,
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(bytes) => self.take(bytes),
            Step::Flood(count, every, frame) => {
                for number in 0..*count {
                    if self.session.failure().is_some() {
                        break;
                    }
                    self.pass(*every);
                    self.take(&frame(number))?;
                }
                Ok(())
            }
            Step::Wait(time) => {
                self.pass(*time);
                Ok(())
            }
            Step::App(act) => {
                act(&mut self.session);
                self.transmit();
                Ok(())
            }
        }
    }

    /// Reads bytes, lets the application see their events, and sends what there is to send.
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.came += bytes.len();
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        for piece in bytes.chunks(self.reading.piece(bytes.len()).max(1)) {
            self.held.extend_from_slice(piece);
            let held = std::mem::take(&mut self.held);
            let mut rest = held.as_slice();
            self.read(&mut rest);
            self.held = rest.to_vec();
        }
        self.transmit();
        let taken = MEMORY.peak_usage().saturating_sub(before);
        let most = MEMORY_MIN + self.came * self.memory_per_byte;
        if taken > most {
            return Err(format!(
                "{taken} bytes of memory for {} that came",
                self.came
            ));
        }
        Ok(())
    }

    fn read(&mut self, rest: &mut &[u8]) {
        loop {
            while self.reading == Reading::Batches
                && let Some(batch) = self.session.read_batch(self.now, rest)
            {
                self.seen.push(Seen::Data(batch.stream(), batch.bytes()));
            }
            let Ok(Some(event)) = self.session.read(self.now, rest) else {
                break;
            };
            let seen = self.react(event);
            self.seen.push(seen);
        }
    }

    /// An application that takes what it is offered, consumes nothing and answers nothing.
    fn react(&mut self, event: Event<'_>) -> Seen {
        match event {
            Event::Opened { stream, .. } => {
                if self.accepts == Accepts::All {
                    self.session.accept(stream, 0);
                }
                Seen::Other
            }
            Event::Call { call, .. } => Seen::Call(call),
            Event::Reply { call, .. } => Seen::Reply(call),
            Event::CallFailed { call, code, .. } => Seen::Failed(call, code),
            Event::Data { stream, bytes, .. } => Seen::Data(stream, bytes.len()),
            Event::Reset { stream, code } => Seen::Reset(stream, code),
            _ => Seen::Other,
        }
    }

    fn transmit(&mut self) {
        let mut out = Vec::new();
        while self.session.transmit(self.now, &mut out) > 0 {}
        let mut rest = out.as_slice();
        while let Some(frame) = Frame::parse(&mut rest, FrameLimits::DEFAULT).expect("frames") {
            self.said.push(Said {
                kind: frame.header.kind,
                stream: frame.header.stream.0,
                call: frame.header.correlation.0,
                body: frame.body.to_vec(),
            });
        }
        let last = &mut self.last_error;
        self.session.counters().take(
            |_| {},
            |note| {
                if note.origin == Origin::Local {
                    *last = Some(note.code);
                }
            },
        );
    }

    /// Lets time pass and serves every timer that comes due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            while let Some(event) = self.session.poll_event() {
                let seen = self.react(event);
                self.seen.push(seen);
            }
            self.transmit();
        }
        self.now = until;
    }

    fn check(&mut self, case: &Case, skipped: u64) -> Result<(), String> {
        if case.ends == Ends::Connection {
            return self.check_failed(case);
        }
        if let Some(failure) = self.session.failure() {
            return Err(format!("the connection ended: {failure}"));
        }
        let errors: Vec<_> = self.errors().collect();
        let subject = match case.ends {
            Ends::Stream(stream) | Ends::Frame(stream) => (stream, 0),
            Ends::Message(channel, call) => (channel, call),
            Ends::Skipped | Ends::Nothing | Ends::Connection => {
                let now = self.session.counters().skipped;
                return match (errors.as_slice(), case.ends) {
                    ([], Ends::Skipped) if now == skipped => Err("nothing was skipped".into()),
                    ([], Ends::Nothing) if now > skipped => Err("something was skipped".into()),
                    ([], _) => Ok(()),
                    _ => Err(format!("it was refused: {errors:?}")),
                };
            }
        };
        let [(stream, call, code, text)] = errors.as_slice() else {
            return Err(format!("not one ERROR but {errors:?}"));
        };
        if (*stream, *code) != (subject.0, case.code) || !text.ends_with(&rule_text(case)) {
            return Err(format!("ERROR on {stream}: {code}: {text}"));
        }
        if matches!(case.ends, Ends::Message(..)) && *call != subject.1 {
            return Err(format!("ERROR about {call:#x}"));
        }
        if self.last_error != Some(case.code) {
            return Err(format!("{:?} was counted", self.last_error));
        }
        let resets = self.resets(subject.0);
        match case.ends {
            Ends::Stream(_) if resets == [case.code] => Ok(()),
            Ends::Stream(_) => Err(format!("the stream was not reset but {resets:?}")),
            _ if resets.is_empty() => Ok(()),
            _ => Err("the stream was reset".into()),
        }
    }

    /// The connection ended with the right ERROR as its last word.
    fn check_failed(&self, case: &Case) -> Result<(), String> {
        let failure = self.session.failure();
        let Some(SessionError::Violation(violation)) = failure else {
            let errors: Vec<_> = self.errors().collect();
            return Err(format!("the connection goes on ({failure:?}, {errors:?})"));
        };
        check_violation(case, violation)?;
        let last = self
            .said
            .last()
            .filter(|said| said.kind == MessageType::ERROR);
        let Some(last) = last.filter(|said| said.stream == 0) else {
            return Err("its last word is no ERROR on stream 0".into());
        };
        let error = ErrorPayload::parse(&last.body).expect("our own ERROR");
        let told = error.code == case.code
            && error.flags.contains(ErrorFlags::CONNECTION_ENDS)
            && error.text.ends_with(&rule_text(case));
        if !told || self.last_error != Some(case.code) || !self.session.is_finished() {
            return Err(format!("it says {error:?}, counts {:?}", self.last_error));
        }
        Ok(())
    }

    /// Every ERROR that was said: stream, correlation, code, text.
    fn errors(&self) -> impl Iterator<Item = (u32, u32, ErrorCode, String)> {
        let errors = self
            .said
            .iter()
            .filter(|said| said.kind == MessageType::ERROR);
        errors.map(|said| {
            let error = ErrorPayload::parse(&said.body).expect("our own ERROR");
            (said.stream, said.call, error.code, error.text.to_owned())
        })
    }

    fn resets(&self, stream: u32) -> Vec<ErrorCode> {
        let resets = self.said.iter();
        let resets =
            resets.filter(|said| said.kind == MessageType::STREAM_RESET && said.stream == stream);
        resets
            .map(|said| StreamReset::parse(&said.body).expect("our own").code)
            .collect()
    }

    /// Both witnesses go on, and a new call is answered.
    fn check_witnesses(&mut self) -> Result<(), String> {
        self.said.clear();
        let earlier = self.seen.iter().find_map(|seen| match seen {
            Seen::Call(call) => Some(*call),
            _ => None,
        });
        if let Some(call) = earlier {
            // Room for one more, where the case was about too many.
            let _ = self.session.reply(call, b"");
        }
        self.seen.clear();
        let (stream, waiting) = (self.witness(), self.waiting);
        let closing = self.session.is_closing();
        self.take(&data(stream, 10).bytes())?;
        self.take(&reply(DATA, waiting.0).bytes())?;
        let mut expected = vec![Seen::Data(StreamId(stream), 10), Seen::Reply(waiting)];
        if !closing {
            self.take(&call(DATA, WITNESS).bytes())?;
            expected.push(Seen::Call(Correlation(WITNESS)));
        }
        if self.seen != expected {
            return Err(format!("the witnesses saw {:?}", self.seen));
        }
        if !closing {
            let replied = self.session.reply(Correlation(WITNESS), b"fine");
            replied.map_err(|error| format!("no reply: {error}"))?;
        }
        let sent = self.session.data(StreamId(stream), b"back", End::No);
        self.transmit();
        let said = |kind, on| {
            self.said
                .iter()
                .any(|said| (said.kind, said.stream) == (kind, on))
        };
        let answered = closing || said(MessageType::REPLY, DATA);
        if sent != Ok(4) || !said(MessageType::STREAM_DATA, stream) || !answered {
            return Err(format!("the witnesses cannot send: {sent:?}"));
        }
        Ok(())
    }
}

fn check_violation(case: &Case, violation: &Violation) -> Result<(), String> {
    if violation.rule().as_str() != case.rule || violation.code() != case.code {
        let (rule, code) = (violation.rule(), violation.code());
        return Err(format!("{rule}, {code}: {violation}"));
    }
    Ok(())
}

fn rule_text(case: &Case) -> String {
    format!(" ({})", case.rule)
}
