//! ERRORs that are wrong themselves, or come by the thousand.

use std::time::Duration;

use valkyrie_frame::{ErrorCode, Flags, MessageType};

use crate::case::{Case, Given, given, ready};
use crate::wire::{CHANNELS, error, f, open};

const MALFORMED: ErrorCode = ErrorCode::MALFORMED;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for stream in CHANNELS.into_iter().chain([3, 1001, 5001, u32::MAX]) {
        let on = |what: &str| ready(format!("errors/{what} on {stream}")).send(open(1001));
        let wrong = f(MessageType::ERROR, stream);
        let case = on("no body").send(wrong.clone());
        cases.push(case.ends_connection("R-15.8", MALFORMED));
        let case = on("a body of 7 bytes").send(wrong.zeros(7));
        cases.push(case.ends_connection("R-15.8", MALFORMED));
        let sealed = error(stream, ErrorCode::INTERNAL).flags(Flags::END_TO_END_SEALED);
        let case = on("a sealed one").send(sealed);
        cases.push(case.ends_connection("R-3.9", ErrorCode::UNEXPECTED));
        let compressed = error(stream, ErrorCode::INTERNAL).flags(Flags::COMPRESSED);
        let case = on("a compressed one").send(compressed);
        cases.push(case.ends_connection("R-6.7", ErrorCode::UNEXPECTED));
        let flood = error(stream, ErrorCode::INTERNAL).bytes();
        let case = on("10,001").flood(10_001, Duration::ZERO, move |_| flood.clone());
        cases.push(case.ends_connection("R-15.11", ErrorCode::LIMIT));
        for code in [0, 99, 399, 800, u16::MAX] {
            let case = on(&format!("code {code}")).send(error(stream, ErrorCode(code)));
            cases.push(case.keeps("R-15.5"));
        }
    }
    for state in [Given::Accepted, Given::Offered, Given::Chosen] {
        let case = given(state, format!("errors/a short one in {state:?}"));
        let case = case.send(f(MessageType::ERROR, 0).zeros(7));
        cases.push(case.ends_connection("R-15.8", MALFORMED));
    }
    cases
}
