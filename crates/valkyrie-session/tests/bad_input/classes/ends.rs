//! Frames of streams that are not open, and behind the end of a direction.

use valkyrie_frame::{ErrorCode, MessageType, StreamId};

use crate::case::{Case, ready};
use crate::wire::{ack, close_stream, data, error, f, file_start, log, open, reset};

pub fn cases() -> Vec<Case> {
    let mut cases = not_open();
    cases.extend(behind_the_end());
    cases.extend(final_offsets());
    cases
}

/// Types of streams, each on one of its class.
fn kinds() -> Vec<(MessageType, u32)> {
    let mut all = vec![
        (MessageType::STREAM_DATA, 3),
        (MessageType::STREAM_DATA, 101),
        (MessageType::STREAM_DATA, 1001),
        (MessageType::STREAM_DATA, 10_001),
        (MessageType::STREAM_CLOSE, 1001),
        (MessageType::LOG_ENTRY, 10_001),
        (MessageType::FILE_TRANSFER_START, 1001),
        (MessageType::FILE_TRANSFER_CHUNK, 1001),
        (MessageType::FILE_TRANSFER_COMPLETE, 1001),
    ];
    all.extend((0x21..=0x2f).map(|kind| (MessageType(kind), 101)));
    all
}

fn not_open() -> Vec<Case> {
    let unknown = ErrorCode::UNKNOWN_STREAM;
    let mut cases = Vec::new();
    for (kind, stream) in kinds() {
        let case = ready(format!("ends/{kind:?} on {stream}, which is not open"));
        let case = case.send(f(kind, stream));
        cases.push(case.refuses_frame(stream, "R-8.9", unknown));
        let case = ready(format!("ends/{kind:?} on {stream}, which is closed"));
        let case = case.send(open(stream).end());
        let case = case.app(|session| {
            for stream in [3, 101, 1001, 10_001] {
                session.finish(StreamId(stream));
            }
        });
        let case = case.send(f(kind, stream));
        cases.push(case.refuses_frame(stream, "R-8.9", unknown));
    }
    let own = ready("ends/data on a stream that this side would open");
    let own = own.send(data(1002, 1));
    cases.push(own.refuses_frame(1002, "R-8.9", unknown));
    for stream in [3, 101, 1001, 1002, 10_001, u32::MAX] {
        let case = ready(format!("ends/STREAM_RESET of {stream}, which is not open"));
        cases.push(case.send(reset(stream)).skips("R-8.9"));
        let case = ready(format!("ends/STREAM_ACK on {stream}, which is not open"));
        cases.push(case.send(ack(stream, 0, 9)).skips("R-8.9"));
        let case = ready(format!("ends/ERROR about {stream}, which is not open"));
        let case = case.send(error(stream, ErrorCode::INTERNAL));
        cases.push(case.keeps("R-8.9"));
    }
    cases
}

fn behind_the_end() -> Vec<Case> {
    let unexpected = ErrorCode::UNEXPECTED;
    let mut cases = Vec::new();
    for (kind, stream) in kinds() {
        let ended = |how: &str| ready(format!("ends/{kind:?} on {stream} behind {how}"));
        let last = ended("END_OF_STREAM").send(open(stream));
        let opening = ended("an opening that ends").send(open(stream).end());
        let closed = ended("STREAM_CLOSE").send(open(stream));
        for case in [
            last.send(data(stream, 1).end()),
            opening,
            closed.send(close_stream(stream, 0)),
        ] {
            let case = case.send(f(kind, stream));
            cases.push(case.ends_stream(stream, "R-8.6", unexpected));
        }
    }
    let ended = ready("ends/credit, an ERROR and a reset behind the end");
    let ended = ended.send(open(1001).end()).send(ack(1001, 0, 300_000));
    let ended = ended.send(error(1001, ErrorCode::INTERNAL));
    cases.push(ended.send(reset(1001)).keeps("R-8.6"));
    cases
}

fn final_offsets() -> Vec<Case> {
    let mut cases = Vec::new();
    for stream in [3, 101, 1001, 10_001] {
        for offset in [0, 9, 11, u64::MAX] {
            let case = ready(format!("ends/{stream} closed at {offset} after 10 bytes"));
            let case = case.send(open(stream)).send(data(stream, 10));
            let case = case.send(close_stream(stream, offset));
            cases.push(case.ends_stream(stream, "R-8.12", ErrorCode::MALFORMED));
        }
        let case = ready(format!("ends/{stream} closed at 10 after 10 bytes"));
        let case = case.send(open(stream)).send(data(stream, 10));
        cases.push(case.send(close_stream(stream, 10)).keeps("R-8.12"));
    }
    let logs = ready("ends/a log closed at 18 after 19 bytes of records");
    let logs = logs.send(open(10_001)).send(log(10_001, 0, 4));
    let logs = logs.send(close_stream(10_001, 18));
    cases.push(logs.ends_stream(10_001, "R-8.12", ErrorCode::MALFORMED));
    for offset in [0, 1, 999] {
        let case = ready(format!("ends/a log resumed at 1000 closed at {offset}"));
        let case = case.accepts_nothing().send(open(10_001));
        let case = case.app(|session| session.accept(StreamId(10_001), 1000));
        let case = case.send(close_stream(10_001, offset));
        cases.push(case.ends_stream(10_001, "R-8.12", ErrorCode::MALFORMED));
    }
    let log = ready("ends/a resumed log that ends without a close");
    let log = log.accepts_nothing().send(open(10_001));
    let log = log.app(|session| session.accept(StreamId(10_001), 1000));
    cases.push(log.send(data(10_001, 0).end()).keeps("R-8.12"));
    let file = ready("ends/a file that was offered ends without a close");
    let file = file.send(open(1001)).send(file_start(1001, 100));
    let file = file.app(|session| session.file_verified(StreamId(1001), 50));
    cases.push(file.send(data(1001, 0).end()).keeps("R-8.12"));
    cases
}
