//! Credit that lies: below what was consumed, for what was never sent, or without measure.

use valkyrie_frame::{ErrorCode, FileStart, Flags, MessageType, StreamClass, StreamId, v2};
use valkyrie_session::{End, Session};

use crate::case::{Case, ready};
use crate::wire::{CHANNELS, ack, f, open};

const WINDOW_MAX: u64 = 16_777_216;
const WINDOW: ErrorCode = ErrorCode::WINDOW;

pub fn cases() -> Vec<Case> {
    let mut cases = turned_round();
    cases.extend(without_measure());
    cases.extend(never_sent());
    cases.extend(acknowledgements());
    cases
}

fn turned_round() -> Vec<Case> {
    let mut cases = Vec::new();
    for stream in CHANNELS.into_iter().chain([0, 3, 101, 1001, 10_001]) {
        for (consumed, limit) in [(1, 0), (5000, 4999), (u64::MAX, 0)] {
            let name = format!("acks/limit {limit} below consumed {consumed} on {stream}");
            let mut case = ready(name);
            if stream != 0 && !CHANNELS.contains(&stream) {
                case = case.send(open(stream));
            }
            let case = case.send(ack(stream, consumed, limit));
            cases.push(case.ends_connection("R-9.5", ErrorCode::MALFORMED));
        }
    }
    cases
}

/// A receiver that lets a sender send without measure would fill the sender's memory.
fn without_measure() -> Vec<Case> {
    let rule = "R-9.10";
    let mut cases = Vec::new();
    for stream in CHANNELS.into_iter().chain([0]) {
        for limit in [WINDOW_MAX + 1, u64::MAX] {
            let case = ready(format!("acks/a limit of {limit} on {stream}"));
            let case = case.send(ack(stream, 0, limit));
            cases.push(case.ends_connection(rule, WINDOW));
        }
        let case = ready(format!("acks/a limit of {WINDOW_MAX} on {stream}"));
        cases.push(case.send(ack(stream, 0, WINDOW_MAX)).keeps(rule));
    }
    for stream in [3, 101, 1001, 10_001] {
        for limit in [WINDOW_MAX + 1, u64::MAX] {
            let case = ready(format!("acks/a limit of {limit} on {stream}"));
            let case = case.send(open(stream)).send(ack(stream, 0, limit));
            cases.push(case.ends_stream(stream, rule, WINDOW));
        }
        let case = ready(format!("acks/a limit of {WINDOW_MAX} on {stream}"));
        let case = case.send(open(stream)).send(ack(stream, 0, WINDOW_MAX));
        cases.push(case.keeps(rule));
    }
    for (stream, class) in [(1002, "data"), (10_002, "log")] {
        let case = ready(format!("acks/an acceptance of a {class} stream without measure"));
        let case = case.app(opens).send(ack(stream, 0, WINDOW_MAX + 1));
        cases.push(case.ends_stream(stream, rule, WINDOW));
    }
    cases
}

/// Opens a stream of each class and sends ten bytes on the first of data.
fn opens(session: &mut Session) {
    for class in StreamClass::WITH_STREAMS {
        session.open(class, &v2::StreamOpen::default()).unwrap();
    }
    session.data(StreamId(1002), &[0; 10], End::No).unwrap();
}

/// Opens a stream for a file, which is the first that is sent on it.
fn opens_for_a_file(session: &mut Session) {
    let open = v2::StreamOpen::default();
    session.open(StreamClass::Data, &open).unwrap();
}

fn offers_a_file(session: &mut Session) {
    let start = FileStart {
        id: [1; 16],
        size: 100,
        digest: [2; 32],
        name: "f",
    };
    session.file_start(StreamId(1002), &start).unwrap();
}

fn never_sent() -> Vec<Case> {
    let rule = "R-9.10";
    let mut cases = Vec::new();
    for stream in CHANNELS.into_iter().chain([0]) {
        let case = ready(format!("acks/a byte consumed that was never sent on {stream}"));
        let case = case.send(ack(stream, 1, 300_000));
        cases.push(case.ends_connection(rule, WINDOW));
    }
    for (stream, sent) in [(2, 0), (102, 0), (1002, 10)] {
        let opened = |what: &str| ready(format!("acks/{what} on {stream}")).app(opens);
        let case = opened("a byte more consumed than was sent");
        let case = case.send(ack(stream, sent + 1, 300_000));
        cases.push(case.ends_stream(stream, rule, WINDOW));
        let case = opened("a byte more consumed later than was sent");
        let case = case.send(ack(stream, 0, 300_000));
        let case = case.send(ack(stream, sent + 1, 300_000));
        cases.push(case.ends_stream(stream, rule, WINDOW));
        let case = opened("as much consumed as was sent");
        cases.push(case.send(ack(stream, sent, 300_000)).keeps(rule));
    }
    let log = |what: &str| {
        let case = ready(format!("acks/{what}")).app(opens);
        case.send(ack(10_002, 1000, 100_000))
    };
    cases.push(log("a log that is taken from 1000").keeps("R-12.2"));
    let case = log("a log that is durable past its end");
    let case = case.send(ack(10_002, 1001, 100_001));
    cases.push(case.ends_stream(10_002, rule, WINDOW));
    let file = |what: &str| {
        let case = ready(format!("acks/{what}")).app(opens_for_a_file);
        case.send(ack(1002, 0, 300_000)).app(offers_a_file)
    };
    let case = file("a file that is wanted from its end");
    cases.push(case.send(ack(1002, 100, 300_000)).keeps("R-13.1"));
    let case = file("a file that is wanted from behind its end");
    let case = case.send(ack(1002, 101, 300_000));
    cases.push(case.ends_stream(1002, rule, WINDOW));
    let case = file("a file that is verified past what was sent");
    let case = case.send(ack(1002, 50, 300_000)).send(ack(1002, 51, 300_000));
    cases.push(case.ends_stream(1002, rule, WINDOW));
    cases
}

/// Frames with ACK carry nothing.
fn acknowledgements() -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds = (0x21..=0x2f).map(|kind| (MessageType(kind), 101));
    let file = (MessageType::FILE_TRANSFER_COMPLETE, 1001);
    for (kind, stream) in kinds.chain([file]) {
        let case = ready(format!("acks/an ACK of {kind:?} with a body"));
        let case = case.send(open(stream));
        let case = case.send(f(kind, stream).flags(Flags::ACK).zeros(1));
        cases.push(case.ends_stream(stream, "R-3.7", ErrorCode::MALFORMED));
    }
    cases
}
