//! Protocol Buffers that are none, or are built to hurt their reader.

use valkyrie_frame::{ErrorCode, MessageType};

use crate::case::{Case, Given, given, ready};
use crate::wire::{f, open};

const RULE: &str = "R-4.5";
const MALFORMED: ErrorCode = ErrorCode::MALFORMED;

/// Bodies that no reader of any message may take.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let nested = |depth: usize| [vec![0x7b; depth], vec![0x7c; depth]].concat();
    vec![
        ("a byte that begins nothing", vec![0xff]),
        ("field number 0", vec![0x00, 0x01]),
        ("wire type 6", vec![0x7e]),
        ("wire type 7", vec![0x7f, 0x01]),
        ("a text of 4 GiB", vec![0x7a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("a text of 2^63 bytes", {
            vec![0x7a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]
        }),
        ("a text one byte short", vec![0x7a, 2, b'x']),
        ("a number of eleven bytes", [vec![0x78], vec![0x80; 10], vec![1]].concat()),
        ("a number that does not end", vec![0x78, 0x80]),
        ("a fixed number that is cut", vec![0x79, 1, 2, 3]),
        ("a group that does not end", vec![0x7b]),
        ("a group that never began", vec![0x7c]),
        ("a group that ends as another", vec![0x7b, 0x74]),
        ("a thousand groups in each other", nested(1000)),
        ("eight thousand groups in each other", nested(8000)),
    ]
}

/// Fields of each message with a type that is not theirs, or text that is none.
fn misread(kind: MessageType) -> Vec<(&'static str, Vec<u8>)> {
    match kind {
        MessageType::HELLO => vec![
            ("a version that is text", vec![0x0a, 1, b'x']),
            ("random that is a number", vec![0x28, 1]),
            ("a node that is not UTF-8", vec![0x42, 1, 0xff]),
            ("limits that are cut", vec![0x32, 5, 0x08]),
        ],
        MessageType::HELLO_ACK => vec![
            ("a mode that is text", vec![0x12, 1, b'x']),
            ("a hash that is a number", vec![0x20, 1]),
            ("a node that is not UTF-8", vec![0x4a, 1, 0xff]),
        ],
        MessageType::AUTH_SUCCESS => vec![("an identity that is not UTF-8", vec![0x0a, 1, 0xff])],
        _ => vec![
            ("a method that is not UTF-8", vec![0x0a, 1, 0xff]),
            ("a method that is a number", vec![0x08, 1]),
            ("a name that is not UTF-8", vec![0x12, 3, 0x0a, 1, 0xff]),
            ("an entry that is cut", vec![0x12, 9, 0x0a, 1, b'k']),
            ("a window that is text", vec![0x1a, 1, b'x']),
        ],
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (state, kind) in [
        (Given::Accepted, MessageType::HELLO),
        (Given::Offered, MessageType::HELLO_ACK),
        (Given::Chosen, MessageType::AUTH_SUCCESS),
    ] {
        for (what, body) in broken().into_iter().chain(misread(kind)) {
            let case = given(state, format!("structured/{what} in {kind}"));
            let case = case.send(f(kind, 0).body(body));
            cases.push(case.ends_connection(RULE, MALFORMED));
        }
    }
    let kind = MessageType::STREAM_OPEN;
    for (what, body) in broken().into_iter().chain(misread(kind)) {
        let case = ready(format!("structured/{what} in {kind}"));
        let case = case.send(open(1001).body(body));
        cases.push(case.ends_stream(1001, RULE, MALFORMED));
    }
    let unknown = [&[0x7a, 3][..], b"new", &[0x78, 1]].concat();
    let case = ready("structured/fields of a later version");
    cases.push(case.send(open(1001).body(unknown)).keeps(RULE));
    cases
}
