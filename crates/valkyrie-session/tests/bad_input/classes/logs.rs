//! Logs that skip, repeat, or begin too early.

use valkyrie_frame::{ErrorCode, StreamId};

use crate::case::{Case, ready};
use crate::wire::{data, join, log, open};

const RULE: &str = "R-12.3";
/// Bytes of a record of four.
const RECORD: u64 = 19;

pub fn cases() -> Vec<Case> {
    let malformed = ErrorCode::MALFORMED;
    let mut cases = Vec::new();
    for stream in [10_001, 10_003, u32::MAX] {
        let begun = |what: &str| ready(format!("logs/{what} on {stream}")).send(open(stream));
        for offset in [1, RECORD, u64::MAX - RECORD] {
            let case = begun(&format!("a log that begins at {offset}"));
            let case = case.send(log(stream, offset, 4));
            cases.push(case.ends_stream(stream, RULE, malformed));
        }
        for offset in [0, RECORD - 1, RECORD + 1, 2 * RECORD] {
            let case = begun(&format!("a second entry at {offset}"));
            let case = case.bytes(join([log(stream, 0, 4), log(stream, offset, 4)]));
            cases.push(case.ends_stream(stream, RULE, malformed));
        }
        let case = begun("entries that follow each other");
        let entries = join([log(stream, 0, 4), log(stream, RECORD, 4).end()]);
        cases.push(case.bytes(entries).keeps(RULE));
        let case = ready(format!("logs/an entry before the answer on {stream}"));
        let case = case.accepts_nothing().send(open(stream));
        let case = case.send(log(stream, 0, 4));
        cases.push(case.ends_stream(stream, RULE, ErrorCode::UNEXPECTED));
    }
    let resumed = |what: &str| {
        let case = ready(format!("logs/{what}")).accepts_nothing();
        let case = case.send(open(10_001));
        case.app(|session| session.accept(StreamId(10_001), 1000))
    };
    for offset in [0, 999, 1001] {
        let case = resumed(&format!("a log resumed at 1000 that begins at {offset}"));
        let case = case.send(log(10_001, offset, 4));
        cases.push(case.ends_stream(10_001, RULE, malformed));
    }
    let case = resumed("a log resumed at 1000");
    cases.push(case.send(log(10_001, 1000, 4)).keeps(RULE));
    let case = ready("logs/an entry behind bytes that are none");
    let case = case.send(open(10_001)).send(data(10_001, 5));
    let case = case.send(log(10_001, 0, 4));
    cases.push(case.ends_stream(10_001, RULE, malformed));
    cases
}
