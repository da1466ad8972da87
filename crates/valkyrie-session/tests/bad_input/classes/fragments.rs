//! Messages in fragments: too long, too many, never finished, mixed up.

use std::time::Duration;

use valkyrie_frame::{ErrorCode, MessageType, StreamClass, StreamId, v2};
use valkyrie_session::Session;

use crate::case::{Case, ready};
use crate::wire::{CHANNELS, F, call, close_stream, f, join, message, open, reply};

const TOO_LARGE: ErrorCode = ErrorCode::TOO_LARGE;
const MESSAGE_MAX: usize = 65_536;
const STALL: Duration = Duration::from_secs(30);
const JUST_BEFORE: Duration = Duration::from_millis(29_999);

pub fn cases() -> Vec<Case> {
    let mut cases = too_long();
    cases.extend(too_many());
    cases.extend(never_finished());
    cases.extend(mixed_up());
    cases
}

fn short_messages(name: String) -> Case {
    ready(name).limits(v2::Limits {
        message_max: u32::try_from(MESSAGE_MAX).unwrap(),
        class_window: vec![1_000_000; 4],
        ..Default::default()
    })
}

/// A frame that goes on a message, without what only the first one has.
fn next(kind: MessageType, stream: u32) -> F {
    f(kind, stream).call(0x1005)
}

fn asks(session: &mut Session) {
    for class in StreamClass::WITH_STREAMS {
        session.call(class, "a.B/C", b"", None).unwrap();
    }
}

/// Correlation of the call that [`asks`] makes on a channel; the witness has the first slot.
fn asked(channel: u32) -> u32 {
    let place = CHANNELS.iter().position(|known| *known == channel).unwrap();
    0x1001 + u32::try_from(place).unwrap()
}

fn too_long() -> Vec<Case> {
    let rule = "R-6.3";
    let mut cases = Vec::new();
    for channel in CHANNELS {
        let kinds = [
            ("CALL", MessageType::CALL, call(channel, 0x1005), 0x1005),
            ("MESSAGE", MessageType::MESSAGE, message(channel, 0x1005), 0),
        ];
        for (what, kind, first, about) in kinds {
            let case = short_messages(format!("fragments/a {what} of 65537 bytes on {channel}"));
            let whole = first.clone().zeros(MESSAGE_MAX + 1);
            cases.push(case.send(whole).refuses(channel, about, rule, TOO_LARGE));
            let case = short_messages(format!("fragments/a {what} that grows to 65537 on {channel}"));
            let case = case.send(first.clone().more().zeros(MESSAGE_MAX));
            let case = case.send(next(kind, channel).zeros(1));
            cases.push(case.refuses(channel, about, rule, TOO_LARGE));
            let case = short_messages(format!("fragments/a {what} of 65536 in two on {channel}"));
            let case = case.send(first.more().zeros(MESSAGE_MAX - 1));
            cases.push(case.send(next(kind, channel).zeros(1)).keeps(rule));
        }
        let case = short_messages(format!("fragments/an answer of 65537 bytes on {channel}"));
        let case = case.app(asks);
        let case = case.send(reply(channel, asked(channel)).zeros(MESSAGE_MAX + 1));
        cases.push(case.refuses(channel, 0, rule, TOO_LARGE));
    }
    for kind in 0x20..=0x2f {
        let kind = MessageType(kind);
        let case = short_messages(format!("fragments/{kind:?} that grows to 65537 bytes"));
        let case = if kind == MessageType::JOB_REQUEST {
            case
        } else {
            case.send(open(101))
        };
        let case = case.send(f(kind, 101).more().zeros(MESSAGE_MAX));
        let case = case.send(f(kind, 101).more().zeros(1));
        cases.push(case.ends_stream(101, rule, TOO_LARGE));
    }
    cases
}

fn too_many() -> Vec<Case> {
    let limit = ErrorCode::LIMIT;
    let calls = |count: u32| join((0..count).map(|n| call(1, 0x1005 + n).more().zeros(1)));
    let messages = |count: u32| join((0..count).map(|n| message(1000, 0x1005 + n).more().zeros(1)));
    let longest = 64 * 1024 * 1024 / 262_144;
    vec![
        ready("fragments/256 CALLs at once").bytes(calls(256)).keeps("R-6.2"),
        ready("fragments/257 CALLs at once")
            .bytes(calls(257))
            .refuses(1, 0x1005 + 256, "R-6.2", limit),
        ready("fragments/257 MESSAGEs at once")
            .bytes(messages(257))
            .refuses(1000, 0, "R-6.2", limit),
        ready("fragments/128 CALLs, 128 MESSAGEs and a job")
            .bytes([calls(128), messages(128)].concat())
            .send(f(MessageType::JOB_REQUEST, 101).more().zeros(1))
            .ends_stream(101, "R-6.2", limit),
        ready("fragments/half messages of over 75,497,472 bytes")
            .limits(v2::Limits {
                class_window: vec![1_000_000; 4],
                ..Default::default()
            })
            .flood(longest, Duration::ZERO, |n| {
                let frame = if n == 0 { call(1, 0x1005) } else { next(MessageType::CALL, 1) };
                // The first one has its extensions in the frame too.
                frame.more().zeros(if n == 0 { 262_000 } else { 262_144 }).bytes()
            })
            .flood(34, Duration::ZERO, |n| {
                let first = f(MessageType::MESSAGE, 1000).call(0x1006).method();
                let frame = if n == 0 {
                    first.zeros(1)
                } else {
                    f(MessageType::MESSAGE, 1000).call(0x1006).zeros(262_144)
                };
                frame.more().bytes()
            })
            .refuses(1000, 0, "R-6.2", TOO_LARGE),
    ]
}

fn never_finished() -> Vec<Case> {
    let (rule, timeout) = ("R-14.6", ErrorCode::TIMEOUT);
    let mut cases = Vec::new();
    for channel in CHANNELS {
        let begun = call(channel, 0x1005).more().zeros(1);
        let case = ready(format!("fragments/a CALL on {channel} that stops"));
        let case = case.send(begun.clone()).wait(STALL);
        cases.push(case.refuses(channel, 0x1005, rule, timeout));
        let case = ready(format!("fragments/a CALL on {channel} that goes on in time"));
        let case = case.send(begun).wait(JUST_BEFORE);
        cases.push(case.send(next(MessageType::CALL, channel)).keeps(rule));
        let case = ready(format!("fragments/a MESSAGE on {channel} that stops"));
        let case = case.send(message(channel, 0x1005).more().zeros(1)).wait(STALL);
        cases.push(case.refuses(channel, 0, rule, timeout));
        let case = ready(format!("fragments/an answer on {channel} that stops")).app(asks);
        let case = case.send(reply(channel, asked(channel)).more().zeros(1));
        cases.push(case.wait(STALL).refuses(channel, 0, rule, timeout));
    }
    for kind in 0x20..=0x2f {
        let kind = MessageType(kind);
        let case = ready(format!("fragments/{kind:?} that stops"));
        let case = if kind == MessageType::JOB_REQUEST {
            case
        } else {
            case.send(open(101))
        };
        let case = case.send(f(kind, 101).more().zeros(1)).wait(STALL);
        cases.push(case.ends_stream(101, rule, timeout));
    }
    cases
}

fn mixed_up() -> Vec<Case> {
    let (rule, unexpected) = ("R-6.2", ErrorCode::UNEXPECTED);
    let begun = |name: &str| {
        let case = ready(format!("fragments/{name}")).send(open(101));
        case.send(f(MessageType::JOB_PROGRESS, 101).call(7).more().zeros(9))
    };
    let whole = |kind, call| f(kind, 101).call(call).zeros(1);
    vec![
        begun("another type between two fragments of a job's message")
            .send(whole(MessageType::JOB_COMPLETE, 7))
            .ends_stream(101, rule, unexpected),
        begun("another correlation between two fragments of a job's message")
            .send(whole(MessageType::JOB_PROGRESS, 8))
            .ends_stream(101, rule, unexpected),
        begun("a second message begun inside a job's message")
            .send(whole(MessageType::JOB_START, 9).more())
            .ends_stream(101, rule, unexpected),
        begun("a job stream closed inside a message")
            .send(close_stream(101, 9))
            .ends_stream(101, "R-6.13", unexpected),
        begun("an acknowledgement between two fragments of a job's message")
            .send(f(MessageType::JOB_COMPLETE, 101).flags(valkyrie_frame::Flags::ACK))
            .send(whole(MessageType::JOB_PROGRESS, 7))
            .keeps(rule),
        begun("a job stream reset inside a message")
            .app(|session| session.reset(StreamId(101), ErrorCode::NONE))
            .send(whole(MessageType::JOB_PROGRESS, 7))
            .wait(STALL)
            .keeps("R-6.6"),
        ready("fragments/a CANCEL between two fragments of its CALL")
            .send(call(1, 0x1005).more().zeros(9))
            .send(f(MessageType::CANCEL, 1).call(0x1005))
            .wait(STALL)
            .skips("R-6.6"),
        ready("fragments/CALL and MESSAGE with one correlation, in turns")
            .send(call(1, 0x1005).more().zeros(1))
            .send(message(1, 0x1005).more().zeros(1))
            .send(next(MessageType::CALL, 1))
            .send(next(MessageType::MESSAGE, 1))
            .keeps(rule),
        ready("fragments/a CALL that goes on without its beginning")
            .send(next(MessageType::CALL, 1).zeros(9))
            .refuses(1, 0x1005, "R-10.1", ErrorCode::MALFORMED),
    ]
}
