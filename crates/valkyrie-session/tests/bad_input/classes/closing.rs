//! What a peer begins although the connection closes.

use std::time::Duration;

use valkyrie_frame::{ErrorCode, MessageType, StreamId};
use valkyrie_session::{Session, Side};

use crate::case::{Case, Given, given, ready};
use crate::wire::{CHANNELS, call, close, data, f, join, open};

const RULE: &str = "R-16.2";
const DRAINING: ErrorCode = ErrorCode::DRAINING;
const MINUTE: u32 = 60_000;

fn closes(session: &mut Session) {
    session.close(ErrorCode::NONE, Duration::from_secs(60));
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for who in ["this side", "the peer"] {
        let closing = |what: String| {
            let case = ready(format!("closing/{what} after {who} said CLOSE"));
            match who {
                "this side" => case.app(closes),
                _ => case.send(close(MINUTE)),
            }
        };
        for stream in [3, 101, 1001, 10_001] {
            let case = closing(format!("STREAM_OPEN of {stream}")).send(open(stream));
            cases.push(case.ends_stream(stream, RULE, DRAINING));
            let case = closing(format!("STREAM_OPEN of {stream} with its end"));
            let case = case.send(open(stream).end());
            cases.push(case.ends_stream(stream, RULE, DRAINING));
            let case = closing(format!("STREAM_OPEN of {stream} and data behind it"));
            let case = case.bytes(join([open(stream), data(stream, 10)]));
            cases.push(case.ends_stream(stream, RULE, DRAINING));
        }
        let case = closing("JOB_REQUEST".into()).send(f(MessageType::JOB_REQUEST, 101));
        cases.push(case.ends_stream(101, RULE, DRAINING));
        for channel in CHANNELS {
            let case = closing(format!("a CALL on {channel}")).send(call(channel, 0x1005));
            cases.push(case.refuses(channel, 0x1005, RULE, DRAINING));
            let case = closing(format!("a CALL in fragments on {channel}"));
            let case = case.send(call(channel, 0x1005).more().zeros(1));
            let case = case.send(f(MessageType::CALL, channel).call(0x1005));
            cases.push(case.refuses(channel, 0x1005, RULE, DRAINING));
        }
    }
    cases.extend(close_itself());
    cases
}

fn close_itself() -> Vec<Case> {
    let mut cases = vec![
        ready("closing/CLOSE twice")
            .send(close(MINUTE))
            .send(close(MINUTE))
            .skips("R-16.3"),
        ready("closing/CLOSE that drains for ever")
            .send(close(u32::MAX))
            .keeps("R-16.4"),
        ready("closing/10,002 CLOSEs")
            .flood(10_002, Duration::ZERO, |_| close(MINUTE).bytes())
            .ends_connection("R-4.1", ErrorCode::LIMIT),
        ready("closing/a wrong frame while it closes")
            .send(close(MINUTE))
            .send(open(1002))
            .ends_connection("R-8.1", ErrorCode::WRONG_RANGE),
        ready("closing/a window passed while it closes")
            .small_windows()
            .send(open(1001))
            .send(close(MINUTE))
            .send(data(1001, 4097))
            .ends_stream(1001, "R-9.4", ErrorCode::WINDOW),
        ready("closing/a stream that ends while it closes")
            .send(open(1001))
            .send(close(MINUTE))
            .send(data(1001, 1).end())
            .app(|session| session.finish(StreamId(1001)))
            .keeps("R-16.1"),
    ];
    let case = given(Given::Ready(Side::Initiator), "closing/CLOSE of another size");
    let case = case.send(f(MessageType::CLOSE, 0).zeros(8));
    cases.push(case.ends_connection("R-16.6", ErrorCode::MALFORMED));
    cases
}
