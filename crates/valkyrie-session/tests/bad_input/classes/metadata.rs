//! What STREAM_OPEN may carry.

use prost::Message;
use valkyrie_frame::{ErrorCode, v2};

use crate::case::{Case, ready};
use crate::wire::open;

const RULE: &str = "R-8.3";
const MALFORMED: ErrorCode = ErrorCode::MALFORMED;
const TOO_LARGE: ErrorCode = ErrorCode::TOO_LARGE;

fn body(change: impl FnOnce(&mut v2::StreamOpen)) -> Vec<u8> {
    let mut open = v2::StreamOpen::default();
    change(&mut open);
    open.encode_to_vec()
}

fn entries(count: usize, bytes: usize) -> Vec<u8> {
    body(|open| {
        open.metadata = (0..count)
            .map(|n| (n.to_string(), vec![0; bytes]))
            .collect();
    })
}

/// A body of exactly so many bytes, most of them one value.
fn sized(bytes: usize) -> Vec<u8> {
    let with = |value| {
        body(|open| {
            open.metadata.insert("k".into(), vec![0; value]);
        })
    };
    (0..bytes).rev().map(with).find(|body| body.len() == bytes).unwrap()
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for stream in [3, 101, 1001, 10_001] {
        let opening = |what: &str, body: Vec<u8>| {
            let case = ready(format!("metadata/{what} on {stream}"));
            case.send(open(stream).body(body))
        };
        let case = opening("65 entries", entries(65, 0));
        cases.push(case.ends_stream(stream, RULE, MALFORMED));
        let case = opening("1000 entries", entries(1000, 0));
        cases.push(case.ends_stream(stream, RULE, MALFORMED));
        cases.push(opening("64 entries", entries(64, 100)).keeps(RULE));
        let case = opening("16385 bytes", sized(16_385));
        cases.push(case.ends_stream(stream, RULE, TOO_LARGE));
        let case = opening("262144 bytes", sized(262_144));
        cases.push(case.ends_stream(stream, RULE, TOO_LARGE));
        cases.push(opening("16384 bytes", sized(16_384)).keeps(RULE));
        let method = |bytes| body(|open| open.method = "m".repeat(bytes));
        let case = opening("a method of 256 bytes", method(256));
        cases.push(case.ends_stream(stream, RULE, TOO_LARGE));
        cases.push(opening("a method of 255 bytes", method(255)).keeps(RULE));
        let window = body(|open| open.window = u32::MAX);
        cases.push(opening("the widest window", window).keeps("R-9.3"));
    }
    cases
}
