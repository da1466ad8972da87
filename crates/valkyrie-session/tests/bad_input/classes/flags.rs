//! Flags that nothing was agreed for.

use valkyrie_frame::{ErrorCode, Flags, MessageType};

use crate::case::{Case, Given, given, ready};
use crate::wire::{call, f, hello, message, open, ping, reply};

const UNEXPECTED: ErrorCode = ErrorCode::UNEXPECTED;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, flag, rule) in [
        ("compressed", Flags::COMPRESSED, "R-6.7"),
        ("sealed", Flags::END_TO_END_SEALED, "R-3.9"),
    ] {
        cases.push(
            ready(format!("flags/a {what} CALL"))
                .send(call(1, 0x1005).flags(flag))
                .refuses(1, 0x1005, rule, UNEXPECTED),
        );
        for (kind, frame) in [
            ("MESSAGE", message(100, 0x1005)),
            ("REPLY", reply(100, 0x1005)),
            ("CANCEL", f(MessageType::CANCEL, 100).call(0x1005)),
        ] {
            let case = ready(format!("flags/a {what} {kind}")).send(frame.flags(flag));
            cases.push(case.refuses(100, 0, rule, UNEXPECTED));
        }
        for kind in [MessageType::STREAM_OPEN, MessageType::JOB_REQUEST] {
            let case = ready(format!("flags/a {what} {kind}"));
            let case = case.send(f(kind, 101).flags(flag));
            cases.push(case.ends_stream(101, rule, UNEXPECTED));
        }
        for (kind, stream) in on_streams() {
            let case = ready(format!("flags/a {what} {kind}")).send(open(stream));
            let case = case.send(f(kind, stream).flags(flag));
            cases.push(case.ends_stream(stream, rule, UNEXPECTED));
        }
        for frame in [ping(), f(MessageType::CLOSE, 0), f(MessageType::ERROR, 0)] {
            let kind = MessageType(frame.bytes()[3]);
            let case = ready(format!("flags/a {what} {kind} on stream 0"));
            let case = case.send(frame.flags(flag));
            cases.push(case.ends_connection(rule, UNEXPECTED));
        }
        let case = given(Given::Accepted, format!("flags/a {what} HELLO"));
        let case = case.send(hello(|_| {}).flags(flag));
        cases.push(case.ends_connection(rule, UNEXPECTED));
    }
    cases
}

fn on_streams() -> Vec<(MessageType, u32)> {
    let mut all = vec![
        (MessageType::STREAM_DATA, 1001),
        (MessageType::STREAM_CLOSE, 1001),
        (MessageType::STREAM_RESET, 1001),
        (MessageType::STREAM_ACK, 1001),
        (MessageType::FILE_TRANSFER_START, 1001),
        (MessageType::FILE_TRANSFER_CHUNK, 1001),
        (MessageType::FILE_TRANSFER_COMPLETE, 1001),
        (MessageType::LOG_ENTRY, 10_001),
    ];
    all.extend((0x21..=0x27).map(|kind| (MessageType(kind), 101)));
    all
}
