//! Correlations that are none, taken, unknown or on the wrong channel.

use valkyrie_frame::{Correlation, ErrorCode, MessageType, StreamClass, v2};
use valkyrie_session::Session;

use crate::case::{Case, ready};
use crate::wire::{CHANNELS, call, error, f, join, message, reply};

const MALFORMED: ErrorCode = ErrorCode::MALFORMED;

pub fn cases() -> Vec<Case> {
    let mut cases = requests();
    cases.extend(answers());
    cases.extend(too_many());
    cases
}

fn requests() -> Vec<Case> {
    let unexpected = ErrorCode::UNEXPECTED;
    let mut cases = Vec::new();
    for channel in CHANNELS {
        let on = |what: &str| ready(format!("calls/{what} on {channel}"));
        cases.extend([
            on("a CALL without a correlation")
                .send(call(channel, 0))
                .refuses(channel, 0, "R-10.2", MALFORMED),
            on("a MESSAGE without a correlation")
                .send(message(channel, 0))
                .refuses(channel, 0, "R-6.10", MALFORMED),
            on("a CALL with the correlation of one that runs")
                .send(call(channel, 0x1005))
                .send(call(channel, 0x1005))
                .refuses(channel, 0x1005, "R-10.2", unexpected),
            on("a CALL in fragments with the correlation of one that runs")
                .send(call(channel, 0x1005))
                .send(call(channel, 0x1005).more().zeros(1))
                .send(f(MessageType::CALL, channel).call(0x1005))
                .refuses(channel, 0x1005, "R-10.2", unexpected),
            on("a CALL with the correlation of one on another channel")
                .send(call(if channel == 1 { 100 } else { 1 }, 0x1005))
                .send(call(channel, 0x1005))
                .refuses(channel, 0x1005, "R-10.2", unexpected),
            on("a CALL with the correlation of one that was canceled")
                .send(call(channel, 0x1005))
                .send(f(MessageType::CANCEL, channel).call(0x1005))
                .send(call(channel, 0x1005))
                .refuses(channel, 0x1005, "R-10.2", unexpected),
            on("the next CALL in the slot of one that was canceled")
                .send(call(channel, 0x1005))
                .send(f(MessageType::CANCEL, channel).call(0x1005))
                .send(call(channel, 0x2005))
                .keeps("R-10.5"),
            on("a CALL without a method")
                .send(f(MessageType::CALL, channel).call(0x1005))
                .refuses(channel, 0x1005, "R-10.1", MALFORMED),
            on("a CALL with an empty method")
                .send(f(MessageType::CALL, channel).call(0x1005).ext(9, b""))
                .refuses(channel, 0x1005, "R-10.1", MALFORMED),
            on("a MESSAGE without a method")
                .send(f(MessageType::MESSAGE, channel).call(0x1005))
                .refuses(channel, 0, "R-10.1", MALFORMED),
            on("a CANCEL with a body")
                .send(call(channel, 0x1005))
                .send(f(MessageType::CANCEL, channel).call(0x1005).zeros(1))
                .refuses(channel, 0, "R-10.5", MALFORMED),
            on("a CANCEL of no call")
                .send(f(MessageType::CANCEL, channel).call(0x1005))
                .skips("R-10.5"),
            on("a CANCEL on another channel than its CALL")
                .send(call(if channel == 1 { 100 } else { 1 }, 0x1005))
                .send(f(MessageType::CANCEL, channel).call(0x1005))
                .skips("R-10.5"),
            on("a CANCEL twice")
                .send(call(channel, 0x1005))
                .send(f(MessageType::CANCEL, channel).call(0x1005))
                .send(f(MessageType::CANCEL, channel).call(0x1005))
                .skips("R-10.5"),
        ]);
    }
    cases
}

/// A call of this side on the system channel; the witness has the first slot.
fn asks(session: &mut Session) {
    let call = session.call(StreamClass::System, "a.B/C", b"", None);
    assert_eq!(call, Ok(Correlation(0x1001)));
}

fn answers() -> Vec<Case> {
    let rule = "R-10.7";
    let mut cases = Vec::new();
    let failed = |channel, call| error(channel, ErrorCode::REJECTED).call(call);
    for channel in CHANNELS {
        for number in [0, 1, 0x1001, 0x2000, 0xFFF, u32::MAX] {
            let case = ready(format!("calls/an answer to {number:#x} on {channel}"));
            cases.push(case.send(reply(channel, number)).skips(rule));
        }
        let case = ready(format!("calls/a failure of no call on {channel}"));
        cases.push(case.send(failed(channel, 0x1001)).skips(rule));
    }
    for channel in [100, 1000, 10_000] {
        let case = ready(format!("calls/an answer on {channel} to a call on 1")).app(asks);
        cases.push(case.send(reply(channel, 0x1001)).skips(rule));
        let case = ready(format!("calls/a failure on {channel} of a call on 1")).app(asks);
        cases.push(case.send(failed(channel, 0x1001)).skips(rule));
    }
    cases.extend([
        ready("calls/an answer twice")
            .app(asks)
            .bytes(join([reply(1, 0x1001), reply(1, 0x1001)]))
            .skips(rule),
        ready("calls/an answer and a failure")
            .app(asks)
            .bytes(join([reply(1, 0x1001), failed(1, 0x1001)]))
            .skips(rule),
        ready("calls/an answer after the call was canceled")
            .app(asks)
            .app(|session| session.cancel(Correlation(0x1001)))
            .send(reply(1, 0x1001))
            .skips(rule),
        ready("calls/half an answer and then a failure")
            .app(asks)
            .send(reply(1, 0x1001).more().zeros(9))
            .send(failed(1, 0x1001))
            .send(reply(1, 0x1001))
            .skips(rule),
        ready("calls/an answer with a method")
            .app(asks)
            .send(reply(1, 0x1001).method())
            .keeps("R-10.3"),
    ]);
    cases
}

fn too_many() -> Vec<Case> {
    let limit = ErrorCode::LIMIT;
    let few = |calls_max| v2::Limits {
        calls_max,
        ..Default::default()
    };
    let calls = |count: u32| join((0..count).map(|n| call(1, 0x1000 + n)));
    let mut cases = Vec::new();
    for max in [1, 16, 1000, 4096] {
        let case = ready(format!("calls/one over calls_max {max}")).limits(few(max));
        let case = case.bytes(calls(max)).send(call(100, 0x2000));
        cases.push(case.refuses(100, 0x2000, "R-10.4", limit));
        let case = ready(format!("calls/as many as calls_max {max}")).limits(few(max));
        cases.push(case.bytes(calls(max)).keeps("R-10.4"));
    }
    let case = ready("calls/one over calls_max beside one that was canceled").limits(few(1));
    let case = case.send(call(1, 0x1005));
    let case = case.send(f(MessageType::CANCEL, 1).call(0x1005));
    let case = case.send(call(1, 0x2005));
    cases.push(case.refuses(1, 0x2005, "R-10.4", limit));
    cases
}
