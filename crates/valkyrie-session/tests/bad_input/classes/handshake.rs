//! The table of states before `Ready` and types: what is not the next step ends the connection.

use std::time::Duration;

use valkyrie_frame::{ErrorCode, MessageType};
use valkyrie_session::Side;

use crate::case::{Case, Given, given};
use crate::wire::{close, f, hello};

const UNEXPECTED: ErrorCode = ErrorCode::UNEXPECTED;
const EARLY: [Given; 3] = [Given::Accepted, Given::Offered, Given::Chosen];

pub fn cases() -> Vec<Case> {
    let mut cases = table();
    cases.extend(off_stream_0());
    cases.extend(too_late());
    cases.extend(limits());
    cases
}

/// Every known type, two unknown ones and one of the application in every early state.
fn table() -> Vec<Case> {
    let mut cases = Vec::new();
    let others = [MessageType(0x1f), MessageType(0x50), MessageType(0x80)];
    for state in EARLY {
        for &kind in MessageType::ALL.iter().chain(&others) {
            if let Some(rule) = broken(state, kind) {
                let case = given(state, format!("handshake/{kind} in {state:?}"));
                cases.push(case.send(f(kind, 0)).ends_connection(rule, UNEXPECTED));
            }
        }
    }
    cases
}

/// The rule that a type breaks in a state; `None` for what belongs there, or has a case of its own
/// because its body decides.
fn broken(state: Given, kind: MessageType) -> Option<&'static str> {
    match (state, kind) {
        (Given::Accepted, MessageType::HELLO)
        | (Given::Offered, MessageType::HELLO_ACK)
        | (Given::Chosen, MessageType::AUTH_SUCCESS)
        | (_, MessageType::ERROR | MessageType::CLOSE) => None,
        (_, MessageType::AUTH_SUCCESS) => Some("R-4.4"),
        (_, kind) if kind.is_pre_auth() => Some("R-7.1"),
        _ => Some("R-4.3"),
    }
}

fn off_stream_0() -> Vec<Case> {
    let mut cases = Vec::new();
    for state in EARLY {
        for stream in [1, 3, 1000, 1001, u32::MAX] {
            for kind in [MessageType::HELLO, MessageType::ERROR, MessageType::CLOSE] {
                let case = given(state, format!("handshake/{kind} on {stream} in {state:?}"));
                let case = case.send(f(kind, stream));
                cases.push(case.ends_connection("R-4.3", UNEXPECTED));
            }
        }
    }
    cases
}

fn too_late() -> Vec<Case> {
    let mut cases = Vec::new();
    for side in [Side::Acceptor, Side::Initiator] {
        for kind in [
            MessageType::HELLO,
            MessageType::HELLO_ACK,
            MessageType::AUTH_CHALLENGE,
            MessageType::AUTH_RESPONSE,
            MessageType::AUTH_SUCCESS,
            MessageType::AUTH_FAILURE,
            MessageType::KEY_EXCHANGE,
        ] {
            let case = given(Given::Ready(side), format!("handshake/{kind} to a ready {side:?}"));
            cases.push(case.send(f(kind, 0)).ends_connection("R-4.4", UNEXPECTED));
        }
    }
    let twice = given(Given::Accepted, "handshake/HELLO twice in one read");
    let both = [hello(|_| {}).bytes(), hello(|_| {}).bytes()].concat();
    cases.push(twice.bytes(both).ends_connection("R-4.4", UNEXPECTED));
    cases
}

fn limits() -> Vec<Case> {
    let rule = "R-14.4";
    let mut cases = Vec::new();
    for state in EARLY {
        let case = given(state, format!("handshake/silence for 10 s in {state:?}"));
        let case = case.wait(Duration::from_secs(10));
        cases.push(case.ends_connection(rule, ErrorCode::TIMEOUT));
        let case = given(state, format!("handshake/silence for 9.999 s in {state:?}"));
        cases.push(case.wait(Duration::from_millis(9_999)).keeps(rule));
        let case = given(state, format!("handshake/a byte a second in {state:?}"));
        let slow = f(MessageType::ERROR, 0).zeros(64).bytes();
        let case = case.flood(11, Duration::from_secs(1), move |n| {
            vec![slow[n as usize]]
        });
        cases.push(case.ends_connection(rule, ErrorCode::TIMEOUT));
        let case = given(state, format!("handshake/33 frames in {state:?}"));
        let case = case.flood(33, Duration::ZERO, |_| close(1).bytes());
        cases.push(case.ends_connection(rule, ErrorCode::LIMIT));
    }
    cases
}
