//! Frames without meaning, one and by the thousand.

use std::time::Duration;

use valkyrie_frame::{ErrorCode, MessageType, StreamId};

use crate::case::{Case, ready};
use crate::wire::{F, call, data, f, join, open, reply, reset};

const RULE: &str = "R-4.1";
const LIMIT: ErrorCode = ErrorCode::LIMIT;
const BURST: u32 = 10_000;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [0x08, 0x0f, 0x16, 0x1f, 0x38, 0x3f, 0x46, 0x4f, 0x50, 0x5f, 0x64, 0x7f, 0x80, 0xff] {
        for stream in [0, 1, 1000, 1001, u32::MAX] {
            let case = ready(format!("unknown/type {kind:#04x} on {stream}"));
            let case = case.send(f(MessageType(kind), stream).zeros(100));
            cases.push(case.skips(RULE));
        }
    }
    for (what, frame) in floods() {
        let case = ready(format!("unknown/10,001 {what} at once"));
        let case = case.send(open(1001)).app(|session| {
            session.reset(StreamId(1001), ErrorCode::NONE);
        });
        let burst = frame.clone();
        let case = case.flood(BURST + 1, Duration::ZERO, move |_| burst.bytes());
        cases.push(case.ends_connection(RULE, LIMIT));
        let case = ready(format!("unknown/2,000 {what} a second"));
        let case = case.send(open(1001)).app(|session| {
            session.reset(StreamId(1001), ErrorCode::NONE);
        });
        let two = join([frame.clone(), frame]);
        let case = case.flood(BURST + 1000, Duration::from_millis(1), move |_| two.clone());
        cases.push(case.ends_connection(RULE, LIMIT));
    }
    let honest = f(MessageType(0x4f), 0);
    cases.push(
        ready("unknown/10,000 types at once and 1,000 a second")
            .flood(BURST, Duration::ZERO, {
                let honest = honest.clone();
                move |_| honest.bytes()
            })
            .flood(30_000, Duration::from_millis(1), move |_| honest.bytes())
            .skips(RULE),
    );
    cases
}

/// What is skipped or refused without an end; stream 1001 was reset by this side.
fn floods() -> Vec<(&'static str, F)> {
    vec![
        ("unknown types on stream 0", f(MessageType(0x4f), 0)),
        ("unknown types on a channel", f(MessageType(0x4f), 1)),
        ("unknown types on a stream that is not open", f(MessageType(0x4f), 5001)),
        ("types of the application", f(MessageType(0x80), 0)),
        ("late frames of a reset stream", data(1001, 0)),
        ("resets of a stream that is not open", reset(5001)),
        ("answers to nothing", reply(1, 0x1FFF)),
        ("errors about no call", {
            f(MessageType::ERROR, 1).call(0x1FFF).zeros(8)
        }),
        ("cancels of nothing", f(MessageType::CANCEL, 1).call(0x1FFF)),
        ("calls without a method", f(MessageType::CALL, 1).call(0x1005)),
        ("calls that are compressed", {
            call(1, 0x1005).flags(valkyrie_frame::Flags::COMPRESSED)
        }),
        ("PONGs that answer nothing", f(MessageType::PONG, 0).zeros(8)),
        ("credit for a stream that is not open", {
            f(MessageType::STREAM_ACK, 5001).zeros(16)
        }),
        ("credit that changes nothing", f(MessageType::STREAM_ACK, 0).zeros(16)),
        ("credit that changes nothing on a channel", {
            f(MessageType::STREAM_ACK, 1000).zeros(16)
        }),
    ]
}
