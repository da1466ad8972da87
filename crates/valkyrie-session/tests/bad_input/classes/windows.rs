//! Senders that pass their credit: of a stream, a channel, the connection.

use valkyrie_frame::{ErrorCode, MessageType, StreamClass, StreamId, v2};
use valkyrie_session::Side;

use crate::case::{Case, Given, given, ready};
use crate::wire::{
    CHANNELS, F, ack, call, chunk, data, f, file_start, join, log, message, open, reply,
};

const RULE: &str = "R-9.4";
const WINDOW: ErrorCode = ErrorCode::WINDOW;

pub fn cases() -> Vec<Case> {
    let mut cases = streams();
    cases.extend(jobs());
    cases.extend(logs_and_files());
    cases.extend(channels());
    cases.extend(connection());
    cases.extend(given_back());
    cases
}

fn small(name: String) -> Case {
    ready(name).small_windows()
}

fn streams() -> Vec<Case> {
    let mut cases = Vec::new();
    for (stream, window) in [(3, 4096), (101, 4096), (1001, 4096)] {
        let case = small(format!("windows/a byte over that of {stream}")).send(open(stream));
        let case = case.send(data(stream, window + 1));
        cases.push(case.ends_stream(stream, RULE, WINDOW));
        let case = small(format!("windows/a byte behind all of that of {stream}"));
        let case = case.send(open(stream)).send(data(stream, window));
        cases.push(case.send(data(stream, 1)).ends_stream(stream, RULE, WINDOW));
        let case = small(format!("windows/the last byte over that of {stream}"));
        let case = case.send(open(stream)).send(data(stream, window));
        let case = case.send(data(stream, 1).end());
        cases.push(case.ends_stream(stream, RULE, WINDOW));
        let case = small(format!("windows/all of that of {stream}")).send(open(stream));
        cases.push(case.send(data(stream, window)).keeps(RULE));
        let case = small(format!("windows/a byte over that of {stream}, not accepted"));
        let case = case.accepts_nothing().send(open(stream));
        let case = case.send(data(stream, window + 1));
        cases.push(case.ends_stream(stream, RULE, WINDOW));
    }
    let case = ready("windows/a byte over that of 10001").limits(v2::Limits {
        class_window: vec![0, 0, 0, 65_536],
        ..Default::default()
    });
    let case = case.send(open(10_001)).send(data(10_001, 65_537));
    cases.push(case.ends_stream(10_001, RULE, WINDOW));
    let opens = |session: &mut valkyrie_session::Session| {
        let open = v2::StreamOpen {
            window: 5000,
            ..Default::default()
        };
        session.open(StreamClass::Data, &open).unwrap();
    };
    for (bytes, what) in [(5001, "a byte over"), (5000, "all of")] {
        let name = format!("windows/{what} what STREAM_OPEN gave");
        let case = given(Given::Ready(Side::Acceptor), name).app(opens);
        let case = case.send(data(1002, bytes));
        cases.push(match bytes {
            5000 => case.keeps("R-9.3"),
            _ => case.ends_stream(1002, RULE, WINDOW),
        });
    }
    cases
}

fn jobs() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in 0x20..=0x2f {
        let kind = MessageType(kind);
        let case = small(format!("windows/{kind:?} a byte over that of its stream"));
        let case = match kind {
            MessageType::JOB_REQUEST => case,
            _ => case.send(open(101)),
        };
        let case = case.send(f(kind, 101).zeros(4097));
        cases.push(case.ends_stream(101, RULE, WINDOW));
    }
    let halves = join([
        f(MessageType::JOB_REQUEST, 101).more().zeros(4096),
        f(MessageType::JOB_REQUEST, 101).zeros(1),
    ]);
    let case = small("windows/a job in fragments without waiting for credit".into());
    cases.push(case.bytes(halves).ends_stream(101, RULE, WINDOW));
    cases
}

fn logs_and_files() -> Vec<Case> {
    let mut cases = Vec::new();
    // Two records of 32,753 bytes and their headers are 65,536.
    let logs = |last: usize| join([log(10_001, 0, 32_753), log(10_001, 32_768, last)]);
    let wide = v2::Limits {
        class_window: vec![0, 0, 0, 65_536],
        ..Default::default()
    };
    let case = ready("windows/records a byte over that of a log").limits(wide.clone());
    let case = case.send(open(10_001)).bytes(logs(32_754));
    cases.push(case.ends_stream(10_001, RULE, WINDOW));
    let case = ready("windows/records that fill that of a log").limits(wide);
    cases.push(case.send(open(10_001)).bytes(logs(32_753)).keeps(RULE));
    for (bytes, what) in [(4097, "a byte over"), (4096, "all of")] {
        let case = small(format!("windows/chunks, {what} that of a file"));
        let case = case.send(open(1001)).send(file_start(1001, 9999));
        let case = case.app(|session| session.file_verified(StreamId(1001), 0));
        let case = case.send(chunk(1001, 0, bytes));
        cases.push(match bytes {
            4096 => case.keeps(RULE),
            _ => case.ends_stream(1001, RULE, WINDOW),
        });
    }
    cases
}

/// The credit of a channel comes back with the next write; in one read there is no more than it.
fn channels() -> Vec<Case> {
    let mut cases = Vec::new();
    for (channel, window) in CHANNELS.into_iter().zip([4096, 4096, 4096, 65_536]) {
        let kinds: [(&str, F); 3] = [
            ("CALL", call(channel, 0x1005)),
            ("MESSAGE", message(channel, 0x1005)),
            ("REPLY", reply(channel, 0x1FFF)),
        ];
        for (kind, frame) in kinds {
            let case = small(format!("windows/a {kind} a byte over that of channel {channel}"));
            let case = case.limits(v2::Limits {
                class_window: vec![4096, 4096, 4096, 65_536],
                ..Default::default()
            });
            let case = case.send(frame.zeros(window + 1));
            cases.push(case.ends_connection(RULE, WINDOW));
        }
        let refused = call(channel, 0x1005).critical().zeros(window + 1);
        let case = ready(format!("windows/a refused CALL over that of channel {channel}"));
        let case = case.limits(v2::Limits {
            class_window: vec![4096, 4096, 4096, 65_536],
            ..Default::default()
        });
        cases.push(case.send(refused).ends_connection(RULE, WINDOW));
        let case = small(format!("windows/a MESSAGE that fills channel {channel}"));
        let case = case.send(message(channel, 0x1005).zeros(window));
        cases.push(case.keeps(RULE));
        let many = join((0..3).map(|n| message(channel, 0x1005 + n).zeros(window / 2)));
        let case = ready(format!("windows/three MESSAGEs that fill channel {channel} and a half"));
        let case = case.limits(v2::Limits {
            class_window: vec![4096, 4096, 4096, 65_536],
            ..Default::default()
        });
        cases.push(case.bytes(many).ends_connection(RULE, WINDOW));
    }
    cases
}

/// In one read, before credit goes back; the windows of the streams are wide.
fn connection() -> Vec<Case> {
    let limits = v2::Limits {
        connection_window: 65_536,
        class_window: vec![131_072, 131_072, 131_072, 131_072],
        ..Default::default()
    };
    let mut cases = Vec::new();
    let two = |first: F, second: F| join([first, second]);
    let over: Vec<(&str, u32, Vec<u8>)> = vec![
        ("data", 1001, data(1001, 65_537).bytes()),
        ("data in two frames", 1001, two(data(1001, 65_536), data(1001, 1))),
        ("a job", 101, f(MessageType::JOB_START, 101).zeros(65_537).bytes()),
        ("calls", 101, two(call(1, 0x1005).zeros(40_000), call(100, 0x1006).zeros(40_000))),
        ("answers", 101, two(reply(1, 0x1FFF).zeros(40_000), reply(1000, 0x1FFF).zeros(40_000))),
        ("messages", 101, message(10_000, 0x1005).zeros(65_537).bytes()),
        ("records and their offsets", 10_001, {
            two(log(10_001, 0, 32_745), log(10_001, 32_760, 32_746))
        }),
        ("data without a stream", 101, data(5001, 65_537).bytes()),
    ];
    for (what, stream, bytes) in over {
        let case = ready(format!("windows/{what} over that of the connection"));
        let case = case.limits(limits.clone()).send(open(stream)).bytes(bytes);
        cases.push(case.ends_connection(RULE, WINDOW));
    }
    let exact: Vec<(&str, u32, Vec<u8>)> = vec![
        ("data", 1001, data(1001, 65_536).bytes()),
        ("records and their offsets", 10_001, {
            two(log(10_001, 0, 32_745), log(10_001, 32_760, 32_745))
        }),
    ];
    for (what, stream, bytes) in exact {
        let case = ready(format!("windows/{what} that fill that of the connection"));
        let case = case.limits(limits.clone()).send(open(stream)).bytes(bytes);
        cases.push(case.keeps(RULE));
    }
    cases
}

/// Credit that the application gave back counts, and not a byte more.
fn given_back() -> Vec<Case> {
    let consume = |session: &mut valkyrie_session::Session| {
        session.consume(StreamId(1001), 1024);
    };
    let again = |name: &str| {
        let case = small(format!("windows/{name}")).send(open(1001));
        case.send(data(1001, 4096)).app(consume)
    };
    vec![
        again("as much as was given back")
            .send(data(1001, 1024))
            .keeps("R-9.6"),
        again("a byte more than was given back")
            .send(data(1001, 1025))
            .ends_stream(1001, RULE, WINDOW),
        small("windows/frames on the way when a stream is reset".into())
            .send(open(1001))
            .app(|session| session.reset(StreamId(1001), ErrorCode::NONE))
            .bytes(join((0..4096).map(|_| data(1001, 1))))
            .keeps("R-8.7"),
        small("windows/more than the window after a reset".into())
            .send(open(1001))
            .app(|session| session.reset(StreamId(1001), ErrorCode::NONE))
            .bytes(join([data(1001, 4096), data(1001, 1)]))
            .skips("R-8.7"),
        small("windows/a STREAM_ACK gives the receiver nothing".into())
            .send(open(1001))
            .send(ack(1001, 0, 500_000))
            .send(data(1001, 4097))
            .ends_stream(1001, RULE, WINDOW),
    ]
}
