//! Types where they do not belong.

use valkyrie_frame::{ErrorCode, MessageType};

use crate::case::{Case, ready};
use crate::wire::{CHANNELS, f, open};

const RANGE: ErrorCode = ErrorCode::WRONG_RANGE;
const UNEXPECTED: ErrorCode = ErrorCode::UNEXPECTED;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for stream in CHANNELS.into_iter().chain([0]) {
        for kind in [
            MessageType::STREAM_DATA,
            MessageType::STREAM_CLOSE,
            MessageType::LOG_ENTRY,
            MessageType::FILE_TRANSFER_START,
            MessageType::FILE_TRANSFER_CHUNK,
            MessageType::FILE_TRANSFER_COMPLETE,
            MessageType::JOB_REQUEST,
            MessageType::JOB_COMPLETE,
            MessageType(0x2f),
        ] {
            let case = ready(format!("places/{kind:?} on {stream}"));
            let case = case.send(f(kind, stream));
            cases.push(case.ends_connection("R-4.2", RANGE));
        }
        let case = ready(format!("places/STREAM_RESET of {stream}"));
        let case = case.send(f(MessageType::STREAM_RESET, stream).zeros(10));
        cases.push(case.ends_connection("R-8.7", RANGE));
    }
    for kind in 0x20..=0x2f {
        for stream in [3, 1001, 10_001] {
            let kind = MessageType(kind);
            let case = ready(format!("places/{kind:?} on {stream}, which is open"));
            let case = case.send(open(stream)).send(f(kind, stream));
            cases.push(case.ends_connection("R-4.2", RANGE));
        }
    }
    for kind in [
        MessageType::CALL,
        MessageType::REPLY,
        MessageType::CANCEL,
        MessageType::MESSAGE,
    ] {
        for stream in [0, 2, 3, 101, 1001, 10_001, u32::MAX] {
            let case = ready(format!("places/{kind} on {stream}"));
            let case = case.send(f(kind, stream).call(0x1005).method());
            cases.push(case.ends_connection("R-4.2", RANGE));
        }
    }
    for kind in [MessageType::PING, MessageType::PONG, MessageType::CLOSE] {
        for stream in CHANNELS.into_iter().chain([3, 1001]) {
            let case = ready(format!("places/{kind} on {stream}"));
            let case = case.send(f(kind, stream).zeros(8));
            cases.push(case.ends_connection("R-4.2", RANGE));
        }
    }
    for (kind, streams) in [
        (MessageType::LOG_ENTRY, [3, 101, 1001]),
        (MessageType::FILE_TRANSFER_START, [3, 101, 10_001]),
        (MessageType::FILE_TRANSFER_CHUNK, [3, 101, 10_001]),
        (MessageType::FILE_TRANSFER_COMPLETE, [3, 101, 10_001]),
    ] {
        for stream in streams {
            let case = ready(format!("places/{kind} on {stream}, which is of another class"));
            let case = case.send(open(stream)).send(f(kind, stream));
            cases.push(case.ends_stream(stream, "R-4.2", UNEXPECTED));
        }
    }
    cases
}
