//! Frames that cost their sender a header and bring nothing, and frames that bring a byte.

use std::time::Duration;

use valkyrie_frame::{ErrorCode, MessageType};

use crate::case::{Case, ready};
use crate::wire::{F, call, chunk, data, f, file_start, join, log_bytes, message, open};

const LIMIT: ErrorCode = ErrorCode::LIMIT;

pub fn cases() -> Vec<Case> {
    let mut cases = streams();
    cases.extend(logs_and_files());
    cases.extend(fragments());
    cases.extend(tiny());
    cases
}

fn streams() -> Vec<Case> {
    let mut cases = Vec::new();
    for stream in [3, 101, 1001, 10_001] {
        let empty = move |count| join((0..count).map(|_| data(stream, 0)));
        cases.push(
            ready(format!("empty/101 frames of data on {stream}"))
                .send(open(stream))
                .bytes(empty(101))
                .ends_stream(stream, "R-9.8", LIMIT),
        );
        cases.push(
            ready(format!("empty/101 frames of data a second apart on {stream}"))
                .send(open(stream))
                .flood(101, Duration::from_secs(1), move |_| empty(1))
                .ends_stream(stream, "R-9.8", LIMIT),
        );
        cases.push(
            ready(format!("empty/100 frames of data, one with a byte, and 100 on {stream}"))
                .send(open(stream))
                .bytes(empty(100))
                .send(data(stream, 1))
                .bytes(empty(100))
                .keeps("R-9.8"),
        );
        cases.push(
            ready(format!("empty/100 frames of data and an empty end on {stream}"))
                .send(open(stream))
                .bytes(empty(100))
                .send(data(stream, 0).end())
                .keeps("R-9.8"),
        );
    }
    cases
}

fn logs_and_files() -> Vec<Case> {
    let entries = |count| join((0..count).map(|_| log_bytes(10_001, 0, b"")));
    let chunks = |count| join((0..count).map(|_| chunk(1001, 0, 0)));
    let file = |name| {
        let case = ready(name).send(open(1001)).send(file_start(1001, 9));
        case.app(|session| session.file_verified(valkyrie_frame::StreamId(1001), 0))
    };
    vec![
        ready("empty/101 entries of a log")
            .send(open(10_001))
            .bytes(entries(101))
            .ends_stream(10_001, "R-9.8", LIMIT),
        ready("empty/100 entries of a log")
            .send(open(10_001))
            .bytes(entries(100))
            .keeps("R-9.8"),
        file("empty/101 chunks of a file")
            .bytes(chunks(101))
            .ends_stream(1001, "R-9.8", LIMIT),
        file("empty/100 chunks of a file")
            .bytes(chunks(100))
            .keeps("R-9.8"),
    ]
}

/// A fragment without a byte only keeps the others waiting.
fn fragments() -> Vec<Case> {
    let malformed = ErrorCode::MALFORMED;
    let mut cases = Vec::new();
    for channel in crate::wire::CHANNELS {
        let case = ready(format!("empty/a CALL on {channel} that begins with nothing"));
        let case = case.send(call(channel, 0x1005).more());
        cases.push(case.refuses(channel, 0x1005, "R-6.12", malformed));
        let case = ready(format!("empty/a MESSAGE on {channel} that goes on with nothing"));
        let case = case.send(message(channel, 0x1005).more().zeros(1));
        let next = f(MessageType::MESSAGE, channel).call(0x1005).more();
        cases.push(case.send(next).refuses(channel, 0, "R-6.12", malformed));
    }
    for kind in 0x21..=0x2f {
        let kind = MessageType(kind);
        let case = ready(format!("empty/{kind:?} that begins with nothing"));
        let case = case.send(open(101)).send(f(kind, 101).more());
        cases.push(case.ends_stream(101, "R-6.12", malformed));
    }
    cases
}

/// A byte a frame is slow, not wrong: it takes credit like any other.
fn tiny() -> Vec<Case> {
    let bytes = |stream, count| join((0..count).map(|_| data(stream, 1)));
    let mut cases = Vec::new();
    for stream in [3, 101, 1001] {
        let small = |name: String| ready(name).small_windows().send(open(stream));
        let case = small(format!("empty/4096 frames of a byte on {stream}"));
        cases.push(case.bytes(bytes(stream, 4096)).keeps("R-9.4"));
        let case = small(format!("empty/4097 frames of a byte on {stream}"));
        let case = case.bytes(bytes(stream, 4097));
        cases.push(case.ends_stream(stream, "R-9.4", ErrorCode::WINDOW));
    }
    let half: Vec<F> = (0..5000)
        .map(|_| f(MessageType::CALL, 1).call(0x1005).more().zeros(1))
        .collect();
    let case = ready("empty/a CALL in 5000 fragments of a byte");
    let case = case.send(call(1, 0x1005).more().zeros(1));
    cases.push(case.bytes(join(half)).keeps("R-6.12"));
    cases
}
