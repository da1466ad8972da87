//! NEGOTIATE out of its turn, unasked, and by the dozen.

use std::time::Duration;

use prost::Message;
use valkyrie_frame::{ErrorCode, MessageType, v2};
use valkyrie_session::{Proposal, Session, Side};

use crate::case::{Case, Given, given, ready};
use crate::wire::{F, f};

const RULE: &str = "R-7.14";
const UNEXPECTED: ErrorCode = ErrorCode::UNEXPECTED;
const MALFORMED: ErrorCode = ErrorCode::MALFORMED;

fn negotiate(number: u32, answer: u32) -> F {
    let message = v2::Negotiate {
        number,
        answer,
        ..Default::default()
    };
    f(MessageType::NEGOTIATE, 0).body(message.encode_to_vec())
}

fn proposes(session: &mut Session) {
    session.negotiate(Proposal::default()).unwrap();
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for side in [Side::Acceptor, Side::Initiator] {
        let to = |what: &str| given(Given::Ready(side), format!("proposals/{what} to the {side:?}"));
        for number in [0, 2, u32::MAX] {
            let case = to(&format!("a first one with number {number}"));
            let case = case.send(negotiate(number, 0));
            cases.push(case.ends_connection(RULE, UNEXPECTED));
        }
        let case = to("one twice").send(negotiate(1, 0)).send(negotiate(1, 0));
        cases.push(case.ends_connection(RULE, UNEXPECTED));
        for answer in [1, 2] {
            let case = to(&format!("answer {answer} to none")).send(negotiate(0, answer));
            cases.push(case.ends_connection(RULE, UNEXPECTED));
            let case = to(&format!("answer {answer} to another")).app(proposes);
            let case = case.send(negotiate(2, answer));
            cases.push(case.ends_connection(RULE, UNEXPECTED));
            let case = to(&format!("answer {answer} twice")).app(proposes);
            let case = case.send(negotiate(1, answer)).send(negotiate(1, answer));
            cases.push(case.ends_connection(RULE, UNEXPECTED));
            let case = to(&format!("answer {answer} in its turn")).app(proposes);
            cases.push(case.send(negotiate(1, answer)).keeps(RULE));
        }
        for answer in [3, u32::MAX] {
            let case = to(&format!("answer {answer}")).send(negotiate(1, answer));
            cases.push(case.ends_connection(RULE, MALFORMED));
        }
    }
    for stream in [1, 1001] {
        let case = ready(format!("proposals/one on {stream}"));
        let case = case.send(f(MessageType::NEGOTIATE, stream));
        cases.push(case.ends_connection("R-4.2", ErrorCode::WRONG_RANGE));
    }
    let garbage = ready("proposals/one that cannot be read");
    let garbage = garbage.send(f(MessageType::NEGOTIATE, 0).body([0xff]));
    cases.push(garbage.ends_connection("R-4.5", MALFORMED));
    let all = |count, every| {
        ready(format!("proposals/{count} every {every:?}"))
            .flood(count, every, |n| negotiate(n + 1, 0).bytes())
    };
    let limit = ErrorCode::LIMIT;
    cases.push(all(21, Duration::ZERO).ends_connection("R-7.17", limit));
    cases.push(all(50, Duration::from_millis(500)).ends_connection("R-7.17", limit));
    cases.push(all(20, Duration::ZERO).keeps("R-7.17"));
    cases.push(all(200, Duration::from_secs(1)).keeps("R-7.17"));
    cases
}
