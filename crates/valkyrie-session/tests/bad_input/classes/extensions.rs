//! Extension blocks that lie about themselves, repeat, swell, or must be understood.

use valkyrie_frame::{ErrorCode, MessageType};
use valkyrie_session::Side;

use crate::case::{Case, Given, given, ready};
use crate::wire::{F, call, data, f, hello, message, open, ping, reply};

const MALFORMED: ErrorCode = ErrorCode::MALFORMED;
const TOO_LARGE: ErrorCode = ErrorCode::TOO_LARGE;
const CRITICAL: ErrorCode = ErrorCode::CRITICAL_EXTENSION;

pub fn cases() -> Vec<Case> {
    let mut cases = blocks();
    cases.extend(critical());
    cases.extend(values());
    cases.extend(harmless());
    cases
}

fn entries(list: &[&[u8]]) -> Vec<u8> {
    let entries = list.concat();
    let length = u16::try_from(entries.len()).unwrap();
    [&length.to_be_bytes()[..], &entries].concat()
}

/// Payloads that pretend to begin with a block, and the rule that each breaks.
fn broken() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let many: Vec<u8> = (0..65).flat_map(|kind| [kind, 0, 0]).collect();
    let long = [&8193_u16.to_be_bytes()[..], &[0; 8193]].concat();
    vec![
        ("no block at all", "R-5.1", vec![]),
        ("half a length", "R-5.1", vec![0]),
        ("a block one byte longer than the payload", "R-5.1", vec![0, 1]),
        ("a block of 8192 bytes that are not there", "R-5.1", vec![0x20, 0]),
        ("an entry of one byte", "R-5.1", entries(&[&[64]])),
        ("an entry of two bytes", "R-5.1", entries(&[&[64, 0]])),
        ("a value one byte short", "R-5.1", entries(&[&[64, 0, 2, 9]])),
        ("a value that claims 65535", "R-5.1", entries(&[&[64, 255, 255, 9]])),
        ("a second entry that is cut", "R-5.1", entries(&[&[64, 0, 0], &[65, 0]])),
        ("a block of 8193 bytes", "R-5.2", long),
        ("a block that claims 65535", "R-5.2", vec![255, 255, 0]),
        ("65 entries", "R-5.3", entries(&[&many])),
        ("a number twice", "R-5.4", entries(&[&[64, 0, 0], &[64, 0, 0]])),
        ("a number twice, once critical", "R-5.4", entries(&[&[64, 0, 0], &[192, 0, 0]])),
        ("a known number twice", "R-5.4", entries(&[&[9, 0, 1, b'a'], &[9, 0, 1, b'b']])),
    ]
}

fn blocks() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, rule, payload) in broken() {
        for (kind, stream) in [
            (MessageType::CALL, 1),
            (MessageType::MESSAGE, 1000),
            (MessageType::STREAM_OPEN, 1001),
            (MessageType::STREAM_DATA, 1001),
            (MessageType::JOB_REQUEST, 101),
            (MessageType::LOG_ENTRY, 10_001),
            (MessageType::PING, 0),
            (MessageType::ERROR, 1),
        ] {
            let case = ready(format!("extensions/{what} in {kind}"));
            let case = case.send(f(kind, stream).payload(&payload));
            cases.push(case.ends_connection(rule, MALFORMED));
        }
        let case = given(Given::Accepted, format!("extensions/{what} in hello"));
        let case = case.send(f(MessageType::HELLO, 0).payload(&payload));
        cases.push(case.ends_connection(rule, MALFORMED));
    }
    cases
}

fn critical() -> Vec<Case> {
    let rule = "R-5.5";
    let mut cases = Vec::new();
    for number in [0, 64, 127] {
        let case = ready(format!("extensions/critical number {number} in a CALL"));
        let case = case.send(call(1, 0x1005).ext(0x80 | number, b"?"));
        cases.push(case.refuses(1, 0x1005, rule, CRITICAL));
    }
    for (what, frame) in [
        ("MESSAGE", message(1000, 0x1001)),
        ("CANCEL", f(MessageType::CANCEL, 1).call(0x1001)),
        ("REPLY to nothing", reply(100, 0x1001)),
    ] {
        let channel = match what {
            "MESSAGE" => 1000,
            "CANCEL" => 1,
            _ => 100,
        };
        let case = ready(format!("extensions/a critical one in a {what}"));
        let case = case.send(frame.critical());
        cases.push(case.refuses(channel, 0, rule, CRITICAL));
    }
    for kind in [MessageType::STREAM_OPEN, MessageType::JOB_REQUEST] {
        let case = ready(format!("extensions/a critical one in {kind}"));
        let case = case.send(f(kind, 101).critical());
        cases.push(case.ends_stream(101, rule, CRITICAL));
    }
    for (kind, stream) in on_open_streams() {
        let case = ready(format!("extensions/a critical one in {kind} on {stream}"));
        let case = case.send(open(stream));
        let case = case.send(f(kind, stream).critical());
        cases.push(case.ends_stream(stream, rule, CRITICAL));
    }
    for kind in [
        MessageType::PING,
        MessageType::PONG,
        MessageType::CLOSE,
        MessageType::STREAM_ACK,
        MessageType::ERROR,
        MessageType(0x4f),
        MessageType(0x80),
    ] {
        let case = ready(format!("extensions/a critical one in {kind} on stream 0"));
        let case = case.send(f(kind, 0).critical());
        cases.push(case.ends_connection(rule, CRITICAL));
    }
    for stream in [1, 1001] {
        let case = ready(format!("extensions/a critical one in ERROR on {stream}"));
        let case = case.send(open(1001));
        let case = case.send(f(MessageType::ERROR, stream).zeros(8).critical());
        cases.push(case.ends_connection(rule, CRITICAL));
    }
    let early = given(Given::Accepted, "extensions/a critical one in HELLO");
    let early = early.send(hello(|_| {}).critical());
    cases.push(early.ends_connection(rule, CRITICAL));
    cases
}

/// Types of open streams, each on a stream of its class.
fn on_open_streams() -> Vec<(MessageType, u32)> {
    let mut all = vec![
        (MessageType::STREAM_DATA, 3),
        (MessageType::STREAM_DATA, 1001),
        (MessageType::STREAM_CLOSE, 1001),
        (MessageType::STREAM_RESET, 1001),
        (MessageType::STREAM_ACK, 1001),
        (MessageType::FILE_TRANSFER_START, 1001),
        (MessageType::FILE_TRANSFER_CHUNK, 1001),
        (MessageType::FILE_TRANSFER_COMPLETE, 1001),
        (MessageType::LOG_ENTRY, 10_001),
        (MessageType(0x4f), 10_001),
        (MessageType(0x80), 1001),
    ];
    all.extend((0x21..=0x27).map(|kind| (MessageType(kind), 101)));
    all
}

/// Values that break the layout of their number.
fn values() -> Vec<Case> {
    let bare = |kind, channel, number| f(kind, channel).call(number);
    let mut cases = Vec::new();
    let bad: [(&str, u8, Vec<u8>, ErrorCode); 8] = [
        ("no deadline", 4, vec![], MALFORMED),
        ("a deadline of 3 bytes", 4, vec![0; 3], MALFORMED),
        ("a deadline of 5 bytes", 4, vec![0; 5], MALFORMED),
        ("a method that is not text", 9, b"a.B/\xff".to_vec(), MALFORMED),
        ("a method of 256 bytes", 9, vec![b'a'; 256], TOO_LARGE),
        ("an idempotency key of 15 bytes", 7, vec![0; 15], MALFORMED),
        ("an idempotency key of 17 bytes", 7, vec![0; 17], MALFORMED),
        ("no idempotency key", 7, vec![], MALFORMED),
    ];
    for (what, kind, value, code) in bad {
        let with = |frame: F| {
            let frame = if kind == 9 { frame } else { frame.method() };
            frame.ext(kind, &value)
        };
        for (whole, more) in [("whole", false), ("begun", true)] {
            let cut = |frame: F| if more { frame.more().zeros(1) } else { frame };
            let case = ready(format!("extensions/{what} in a {whole} CALL"));
            let frame = cut(with(bare(MessageType::CALL, 1, 0x1005)));
            cases.push(case.send(frame).refuses(1, 0x1005, "R-5.6", code));
            let case = ready(format!("extensions/{what} in a {whole} MESSAGE"));
            let frame = cut(with(bare(MessageType::MESSAGE, 1000, 0x1005)));
            cases.push(case.send(frame).refuses(1000, 0, "R-5.6", code));
        }
        let case = ready(format!("extensions/{what}, critical, in a CALL"));
        let frame = bare(MessageType::CALL, 1, 0x1005);
        let frame = if kind == 9 { frame } else { frame.method() };
        let frame = frame.ext(kind | 0x80, &value);
        cases.push(case.send(frame).refuses(1, 0x1005, "R-5.6", code));
    }
    cases
}

fn harmless() -> Vec<Case> {
    let block = |kind, value: &[u8]| call(1, 0x1005).ext(kind, value);
    let mut many = f(MessageType::CALL, 1).call(0x1005);
    for kind in (0..=73).filter(|kind| !(1..=10).contains(kind)) {
        many = many.ext(kind, b"");
    }
    // With the method: 9 and its three bytes, and the three in front of the value, make 8192.
    let full = 8192 - (3 + 5) - 3;
    vec![
        ready("extensions/an empty block")
            .send(open(1001))
            .send(data(1001, 0).payload([0, 0, 9]))
            .keeps("R-5.1"),
        ready("extensions/a block of 8192 bytes")
            .send(block(64, &vec![0; full]))
            .keeps("R-5.2"),
        ready("extensions/64 entries")
            .send(open(1001))
            .send(data(1001, 1).payload(&many.bytes()[24..]))
            .keeps("R-5.3"),
        ready("extensions/an unknown one").send(block(64, b"?")).keeps("R-5.5"),
        ready("extensions/a trace context of another length")
            .send(block(1, b"short"))
            .keeps("R-18.3"),
        ready("extensions/a method of 255 bytes")
            .send(f(MessageType::CALL, 1).call(0x1005).ext(9, &[b'm'; 255]))
            .keeps("R-5.6"),
        given(Given::Ready(Side::Initiator), "extensions/8 KiB beside a PING")
            .send(ping().ext(64, &[0; 8189]))
            .keeps("R-5.7"),
    ]
}
