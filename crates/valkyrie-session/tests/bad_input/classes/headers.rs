//! Bytes of the header that decide nothing, whatever they say.

use valkyrie_frame::MessageType;

use crate::case::{Case, ready};
use crate::wire::{call, data, f, open, ping};

/// Offsets of the header, values, and the rule that makes them harmless.
const HARMLESS: [(&str, usize, &[u8], &str); 6] = [
    ("a reserved byte", 7, &[0xff], "R-1.3"),
    ("the last moment there is", 20, &[0xff; 4], "R-3.6"),
    ("no priority", 5, &[0], "R-17.3"),
    ("the highest priority", 5, &[0xff], "R-17.3"),
    ("a trace mode without a meaning", 6, &[0xff], "R-18.3"),
    ("a trace context that is not there", 6, &[0x20], "R-18.3"),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, at, value, rule) in HARMLESS {
        for (kind, frame) in [
            ("a PING", ping()),
            ("a CALL", call(1, 0x1005)),
            ("data", data(1001, 10)),
            ("a job", f(MessageType::JOB_REQUEST, 101)),
        ] {
            let mut bytes = frame.bytes();
            bytes[at..at + value.len()].copy_from_slice(value);
            let case = ready(format!("headers/{what} in {kind}")).send(open(1001));
            cases.push(case.bytes(bytes).keeps(rule));
        }
    }
    cases
}
