//! One strategy over one link.

use std::{collections::VecDeque, io::IoSlice, time::Duration};

use bytes::Bytes;
use valkyrie_frame::{StreamClass, StreamId, Time, v2};
use valkyrie_session::{End, Event, FlowControl, Session, SessionConfig, SessionError, Side};

use super::scenario::{Reader, Scenario};
use crate::{
    pairs::{Arrival, Pipe},
    rng::Rng,
};

/// Time between two urgent messages.
const URGENT_EVERY: Duration = Duration::from_millis(20);
/// Time between two readings of a slow reader.
const READ_EVERY: Duration = Duration::from_millis(1);

/// What a strategy did with a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured {
    /// Bytes a second that the application read.
    pub rate: u64,
    /// 99 of 100 urgent messages arrived within this time.
    pub urgent_p99: Duration,
    /// The largest window of the stream, in bytes.
    pub window_max: u32,
    /// The most bytes that waited for the application.
    pub unread_max: u64,
}

/// Plays one strategy over one link.
///
/// # Errors
/// A session found fault with the other.
pub fn measure(scenario: &Scenario, flow: FlowControl) -> Result<Measured, SessionError> {
    Run::new(scenario, flow).play()
}

struct Run {
    scenario: Scenario,
    now: Time,
    client: Session,
    server: Session,
    there: Pipe,
    back: Pipe,
    rng: Rng,
    stream: Option<StreamId>,
    block: Bytes,
    /// When the urgent messages under way were sent; they arrive in order.
    urgent: VecDeque<Time>,
    urgent_at: Time,
    read_at: Time,
    /// When the last bytes of the measured time count.
    from: Time,
    unread: u64,
    read: u64,
    waits: Vec<Duration>,
    measured: Measured,
    /// The parts of frames that have come.
    inputs: [Vec<u8>; 2],
}

impl Run {
    fn new(scenario: &Scenario, flow: FlowControl) -> Self {
        let start = Time::ZERO + Duration::from_secs(1);
        let config = SessionConfig {
            flow,
            ..SessionConfig::default()
        };
        let client = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
        let server = Session::new(Side::Acceptor, config, [2; 32]);
        let (warm, _) = scenario.times();
        Self {
            scenario: *scenario,
            now: start,
            client,
            server,
            there: Pipe::new(scenario.road()),
            back: Pipe::new(scenario.road()),
            rng: Rng::new(1),
            stream: None,
            block: Bytes::from(vec![7; 64 * 1024]),
            urgent: VecDeque::new(),
            urgent_at: start,
            read_at: start,
            from: start + warm,
            unread: 0,
            read: 0,
            waits: Vec::new(),
            measured: Measured::default(),
            inputs: [Vec::new(), Vec::new()],
        }
    }

    fn play(mut self) -> Result<Measured, SessionError> {
        let (_, time) = self.scenario.times();
        let end = self.from + time;
        while self.now < end {
            self.send();
            flush(&mut self.client, &mut self.there, self.now, &mut self.rng);
            flush(&mut self.server, &mut self.back, self.now, &mut self.rng);
            self.now = self.next();
            self.arrivals()?;
            self.slow_reader();
        }
        self.waits.sort_unstable();
        let place = self.waits.len() * 99 / 100;
        let nanos = time.as_nanos();
        let rate = u128::from(self.read) * 1_000_000_000 / nanos.max(1);
        Ok(Measured {
            rate: u64::try_from(rate).unwrap_or(u64::MAX),
            urgent_p99: self.waits.get(place).copied().unwrap_or_default(),
            ..self.measured
        })
    }

    /// When something happens next.
    fn next(&self) -> Time {
        let room = (self.client.queued_bytes() > 0).then(|| self.there.roomy_at(self.now));
        let timers = [self.client.poll_timeout(), self.server.poll_timeout()];
        let slow = self.scenario.reader == Reader::Slow && self.unread > 0;
        let times = [
            self.there.next_at(),
            self.back.next_at(),
            room,
            self.client.is_ready().then_some(self.urgent_at),
            slow.then_some(self.read_at),
        ];
        let next = times.into_iter().chain(timers).flatten().min();
        let soon = self.now + Duration::from_nanos(1);
        next.unwrap_or(soon).max(soon)
    }

    /// What the sending application does.
    fn send(&mut self) {
        for session in [&mut self.client, &mut self.server] {
            session.handle_timeout(self.now);
        }
        if !self.client.is_ready() {
            return;
        }
        if self.stream.is_none() {
            let open = v2::StreamOpen::default();
            self.stream = self.client.open(StreamClass::Data, &open).ok();
        }
        if self.now >= self.urgent_at {
            self.urgent_at = self.now + URGENT_EVERY;
            let sent = self
                .client
                .urgent_message(StreamClass::System, "a/Urgent", &[1; 64]);
            if sent.is_ok() {
                self.urgent.push_back(self.now);
            }
        }
        let Some(stream) = self.stream else { return };
        loop {
            let mut block = self.block.clone();
            let sent = self.client.data_shared(stream, &mut block, End::No);
            if sent != Ok(self.block.len()) {
                return;
            }
        }
    }

    fn arrivals(&mut self) -> Result<(), SessionError> {
        while let Arrival::Bytes(bytes) = self.there.take(self.now, usize::MAX) {
            self.server_reads(&bytes)?;
        }
        while let Arrival::Bytes(bytes) = self.back.take(self.now, usize::MAX) {
            let [_, input] = &mut self.inputs;
            input.extend_from_slice(&bytes);
            let all = std::mem::take(input);
            let mut rest = all.as_slice();
            while self.client.read(self.now, &mut rest)?.is_some() {}
            *input = rest.to_vec();
        }
        Ok(())
    }

    fn server_reads(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let [input, _] = &mut self.inputs;
        input.extend_from_slice(bytes);
        let all = std::mem::take(input);
        let mut rest = all.as_slice();
        while let Some(event) = self.server.read(self.now, &mut rest)? {
            match event {
                Event::Opened { stream, .. } => self.server.accept(stream, 0),
                Event::Data { bytes, .. } => self.unread += bytes.len() as u64,
                Event::Message { .. } => {
                    let sent = self.urgent.pop_front();
                    if let Some(sent) = sent.filter(|_| self.now >= self.from) {
                        self.waits.push(self.now.saturating_since(sent));
                    }
                }
                _ => {}
            }
        }
        let [input, _] = &mut self.inputs;
        *input = rest.to_vec();
        self.measured.unread_max = self.measured.unread_max.max(self.unread);
        if self.scenario.reader == Reader::Prompt {
            self.take(self.unread);
        }
        Ok(())
    }

    fn slow_reader(&mut self) {
        if self.scenario.reader == Reader::Slow && self.now >= self.read_at {
            self.read_at = self.now + READ_EVERY;
            self.take((self.scenario.most() / 1000).min(self.unread));
        }
    }

    /// The application takes some bytes.
    fn take(&mut self, bytes: u64) {
        let Some(stream) = self.stream else { return };
        self.unread -= bytes;
        if self.now >= self.from {
            self.read += bytes;
        }
        self.server
            .consume(stream, usize::try_from(bytes).unwrap_or(usize::MAX));
        let window = self.server.flow_window(stream);
        let size = window.map_or(0, |window| window.size);
        self.measured.window_max = self.measured.window_max.max(size);
    }
}

/// Writes what a session has to say, as far as there is room.
fn flush(session: &mut Session, pipe: &mut Pipe, now: Time, rng: &mut Rng) {
    loop {
        let room = pipe.room(now);
        let count = session.prepare(now).min(room);
        if count == 0 {
            return;
        }
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let mut slices = [IoSlice::new(&[]); 8];
            let used = session.slices(&mut slices);
            let before = bytes.len();
            for slice in slices.iter().take(used) {
                let most = (count - bytes.len()).min(slice.len());
                bytes.extend_from_slice(slice.get(..most).unwrap_or_default());
            }
            session.written(bytes.len() - before);
        }
        pipe.send(now, bytes, rng);
    }
}
