//! Windows: what fits through small ones, and how they follow the traffic.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod pair;

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use valkyrie_frame::{LogChannel, LogRecord, StreamClass, StreamId, Time, v2};
use valkyrie_session::{
    CongestionAlgorithm, End, Event, FlowControl, FlowControlStrategy, LearnedModel, SendError,
    Session, SessionConfig,
};

use pair::*;

const MS: Duration = Duration::from_millis(1);

fn config(flow: FlowControl) -> SessionConfig {
    SessionConfig {
        flow,
        ..SessionConfig::default()
    }
}

fn fixed(stream: u32, logs: u32, connection: u32) -> FlowControl {
    FlowControl::default()
        .with_classes(FlowControlStrategy::FixedWindow(logs))
        .and_then(|flow| {
            [StreamClass::System, StreamClass::Jobs, StreamClass::Data]
                .into_iter()
                .try_fold(flow, |flow, class| {
                    flow.with_class(class, FlowControlStrategy::FixedWindow(stream))
                })
        })
        .and_then(|flow| flow.with_connection(FlowControlStrategy::FixedWindow(connection)))
        .unwrap()
}

/// Two sessions over a link that takes time: `delay` each way and `rate` bytes a second.
struct Wire {
    pair: Pair,
    delay: Duration,
    rate: u64,
    there: Way,
    back: Way,
}

/// One direction: what is under way, with the time of its arrival, and until when the last of it
/// is being sent.
struct Way {
    queue: VecDeque<(Time, &'static [u8])>,
    busy: Time,
}

impl Way {
    fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            busy: NOW,
        }
    }

    fn send(&mut self, from: &mut Session, now: Time, delay: Duration, rate: u64) {
        // What is not on the wire yet waits in the session, as behind a full socket.
        while self.busy <= now + delay / 8 {
            let mut bytes = Vec::new();
            if from.transmit(now, &mut bytes) == 0 {
                return;
            }
            let takes = bytes.len() as u64 * 1_000_000_000 / rate;
            self.busy = self.busy.max(now) + Duration::from_nanos(takes);
            self.queue.push_back((self.busy + delay, leak(bytes)));
        }
    }

    fn arrivals(&mut self, now: Time) -> Option<&'static [u8]> {
        let front = self.queue.front()?;
        (front.0 <= now).then(|| self.queue.pop_front().unwrap().1)
    }
}

impl Wire {
    fn new(server: FlowControl, delay: Duration, rate: u64) -> Self {
        let pair = Pair::with(SessionConfig::default(), config(server));
        let (there, back) = (Way::new(), Way::new());
        Self {
            pair,
            delay,
            rate,
            there,
            back,
        }
    }

    /// Sends as much data as is let through for this long, with a reader that takes everything.
    fn saturate(&mut self, stream: StreamId, time: Duration) -> u64 {
        let end = self.pair.now + time;
        let mut received = 0;
        while self.pair.now < end {
            while self.pair.client.data(stream, &[7; 64 * 1024], End::No) == Ok(64 * 1024) {}
            received += self.turn();
            self.check(stream);
        }
        received
    }

    fn turn(&mut self) -> u64 {
        let Pair {
            client,
            server,
            now,
        } = &mut self.pair;
        let mut received = 0;
        self.there.send(client, *now, self.delay, self.rate);
        self.back.send(server, *now, self.delay, self.rate);
        while let Some(bytes) = self.there.arrivals(*now) {
            for event in give(server, *now, bytes) {
                if let Event::Data { stream, bytes, .. } = event {
                    received += bytes.len() as u64;
                    server.consume(stream, bytes.len());
                }
            }
        }
        while let Some(bytes) = self.back.arrivals(*now) {
            give(client, *now, bytes);
        }
        *now = *now + self.delay / 16;
        received
    }

    fn check(&self, stream: StreamId) {
        for id in [stream, StreamId::CONTROL] {
            let window = self.pair.server.flow_window(id).unwrap();
            assert!(window.size >= window.min_size && window.size <= window.max_size);
            assert!(window.consumed <= window.size);
        }
    }

    fn window(&self, stream: StreamId) -> u32 {
        self.pair.server.flow_window(stream).unwrap().size
    }
}

#[test]
fn a_long_fat_link_gets_larger_windows_on_stream_and_connection() {
    let mut wire = Wire::new(FlowControl::default(), 100 * MS, 125_000_000);
    let stream = wire.pair.open(StreamClass::Data);
    wire.saturate(stream, 12_000 * MS);
    assert_eq!(wire.window(stream), 16 << 20);
    assert_eq!(wire.window(StreamId::CONTROL), 16 << 20);
    let received = wire.saturate(stream, 4_000 * MS);
    assert!(
        received > 4 * 55_000_000,
        "{received} bytes in four seconds"
    );
    // What is idle is worth less memory, though nothing that was granted is taken back.
    let before = wire.pair.server.flow_window(stream).unwrap();
    wire.pair.now = wire.pair.now + Duration::from_secs(30);
    wire.saturate(stream, 1_000 * MS);
    let after = wire.pair.server.flow_window(stream).unwrap();
    assert!(after.size < before.size, "{after:?}");
}

#[test]
fn a_fast_short_link_keeps_the_first_window() {
    let mut wire = Wire::new(FlowControl::default(), MS / 66, 3_000_000_000);
    let stream = wire.pair.open(StreamClass::Data);
    wire.saturate(stream, 50 * MS);
    assert_eq!(wire.window(stream), 256 << 10);
    assert_eq!(wire.window(StreamId::CONTROL), 4 << 20);
}

#[test]
fn every_strategy_can_be_chosen_for_class_and_connection() {
    let gradient = FlowControlStrategy::CongestionAware {
        algorithm: CongestionAlgorithm::DelayGradient,
    };
    let learned = FlowControlStrategy::Learned {
        model: LearnedModel::Bandit { seed: 7 },
    };
    let adaptive = FlowControlStrategy::AdaptiveWindow {
        initial: 256 << 10,
        max: 8 << 20,
        min: 64 << 10,
    };
    for (strategy, grows) in [
        (FlowControlStrategy::FixedWindow(256 << 10), false),
        (adaptive, true),
        (gradient, true),
        (learned, true),
    ] {
        let flow = FlowControl::default()
            .with_class(StreamClass::Data, strategy)
            .unwrap()
            .with_connection(strategy)
            .unwrap();
        let mut wire = Wire::new(flow, 50 * MS, 25_000_000);
        let stream = wire.pair.open(StreamClass::Data);
        wire.saturate(stream, 10_000 * MS);
        let window = wire.pair.server.flow_window(stream).unwrap();
        assert_eq!(window.size > 256 << 10, grows, "{strategy:?}: {window:?}");
        assert_eq!(window.growth_factor > 1.0, grows);
    }
}

#[test]
fn counts_of_a_class_name_the_window_that_was_granted_last() {
    let mut wire = Wire::new(FlowControl::default(), 50 * MS, 25_000_000);
    let stream = wire.pair.open(StreamClass::Data);
    let mut windows = Vec::new();
    for _ in 0..20 {
        wire.saturate(stream, 200 * MS);
        wire.pair.server.take_stream_counts(|class, count| {
            if class == StreamClass::Data && count.window > 0 {
                windows.push(count.window);
            }
        });
    }
    assert!(
        windows.iter().any(|window| *window > 256 << 10),
        "{windows:?}"
    );
    assert_eq!(windows.last(), Some(&wire.window(stream)));
}

#[test]
fn a_stream_that_takes_all_credit_does_not_starve_a_message() {
    let flow = fixed(65_536, 65_536, 65_536);
    let mut pair = Pair::with(config(flow.clone()), config(flow));
    let stream = pair.open(StreamClass::Data);
    let fill = |pair: &mut Pair| {
        while pair.client.data(stream, &[1; 4096], End::No).unwrap() > 0 {}
    };
    fill(&mut pair);
    pair.client
        .urgent_message(StreamClass::System, "a/M", &[2; 64])
        .unwrap();
    let mut messages = 0;
    for _ in 0..4 {
        fill(&mut pair);
        for event in pair.reach_server() {
            match event {
                Event::Data { stream, bytes, .. } => pair.server.consume(stream, bytes.len()),
                Event::Message { .. } => messages += 1,
                _ => {}
            }
        }
        pair.reach_client();
    }
    assert_eq!(messages, 1);
}

fn record(bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let record = LogRecord {
        unix_ns: 1,
        step: 1,
        channel: LogChannel::STDOUT,
        bytes: &vec![b'x'; bytes],
    };
    record.append(&mut out).unwrap();
    out
}

/// Sends records one by one, each as soon as there is credit, with everything at once durable.
fn log_all(pair: &mut Pair, stream: StreamId, records: &[usize]) {
    let (mut at, mut durable) = (0, 0);
    for &bytes in records {
        let record = record(bytes);
        for turn in 0.. {
            assert!(turn < 8, "a record of {bytes} bytes waits for ever at {at}");
            let sent = pair.client.log(stream, at, &record);
            for event in pair.reach_server() {
                if let Event::Log {
                    offset, records, ..
                } = event
                {
                    durable = offset + records.len() as u64;
                    pair.server.log_durable(stream, durable);
                }
            }
            pair.reach_client();
            match sent {
                Ok(()) => break,
                Err(SendError::NoCredit { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        at += record.len() as u64;
    }
    assert_eq!(durable, at);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn messages_larger_than_every_window_arrive(
        stream in 4096u32..20_000,
        connection in 65_536u32..90_000,
        sizes in prop::collection::vec(0usize..400_000, 1..6),
        class in prop::sample::select(StreamClass::WITH_STREAMS.to_vec()),
    ) {
        let flow = fixed(stream, 65_536, connection);
        let mut pair = Pair::with(config(flow.clone()), config(flow));
        for &bytes in &sizes {
            pair.client.message(class, "a/M", &vec![1; bytes]).unwrap();
            pair.client.call(class, "a/C", &vec![2; bytes], None).unwrap();
        }
        let (mut messages, mut answers) = (0, 0);
        // Each turn moves at least a quarter of the smallest window.
        for _ in 0..4 * sizes.len() * 400_000 / 1024 {
            for event in pair.reach_server() {
                match event {
                    Event::Message { .. } => messages += 1,
                    Event::Call { call, body, .. } => pair.server.reply(call, &body).unwrap(),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            for event in pair.reach_client() {
                answers += usize::from(matches!(event, Event::Reply { .. }));
            }
            if messages == sizes.len() && answers == sizes.len() {
                break;
            }
        }
        prop_assert_eq!((messages, answers), (sizes.len(), sizes.len()));
    }

    #[test]
    fn the_longest_log_records_never_wait_for_ever(
        logs in 65_536u32..100_000,
        connection in 65_536u32..100_000,
        records in prop::collection::vec(1usize..=32_768, 1..40),
    ) {
        let flow = fixed(4096, logs, connection);
        let mut pair = Pair::with(config(flow.clone()), config(flow));
        let stream = pair.open(StreamClass::Logs);
        log_all(&mut pair, stream, &records);
    }

    #[test]
    fn job_messages_larger_than_the_window_arrive(
        stream in 4096u32..9000,
        bytes in 1usize..300_000,
    ) {
        let flow = fixed(stream, 65_536, 65_536);
        let mut pair = Pair::with(config(flow.clone()), config(flow));
        let request = v2::JobRequest { spec: vec![3; bytes], ..Default::default() };
        pair.client.job_request(&request).unwrap();
        let mut got = None;
        for _ in 0..2 * bytes / 1024 + 8 {
            for event in pair.reach_server() {
                if let Event::Job { body, .. } = event {
                    got = Some(body.len());
                }
            }
            pair.reach_client();
        }
        prop_assert_eq!(got, Some(prost::Message::encoded_len(&request)));
    }
}
