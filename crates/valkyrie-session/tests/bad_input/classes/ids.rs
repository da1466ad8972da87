//! Ids of streams: whose they are, how many, and whether they are taken.

use std::time::Duration;

use valkyrie_frame::{ErrorCode, MessageType, StreamClass, StreamId, v2};
use valkyrie_session::{Session, Side};

use crate::case::{Case, Given, given, ready};
use crate::wire::{data, f, join, open, reset};

const RANGE: ErrorCode = ErrorCode::WRONG_RANGE;
const LIMIT: ErrorCode = ErrorCode::LIMIT;

pub fn cases() -> Vec<Case> {
    let mut cases = parity();
    cases.extend(taken());
    cases.extend(too_many());
    cases
}

/// The first, the last and one of the middle of each class, as the other side opens them.
const ODD: [u32; 12] = [
    3,
    51,
    99,
    101,
    555,
    999,
    1001,
    5555,
    9999,
    10_001,
    1_000_001,
    u32::MAX,
];
const EVEN: [u32; 12] = [
    2,
    50,
    98,
    102,
    554,
    998,
    1002,
    5554,
    9996,
    10_002,
    1_000_000,
    u32::MAX - 1,
];

fn parity() -> Vec<Case> {
    let mut cases = Vec::new();
    for (side, own, other) in [(Side::Acceptor, EVEN, ODD), (Side::Initiator, ODD, EVEN)] {
        for stream in own {
            let name = format!("ids/STREAM_OPEN of {stream}, which is the {side:?}'s");
            let case = given(Given::Ready(side), name).send(open(stream));
            cases.push(case.ends_connection("R-8.1", RANGE));
        }
        for stream in other {
            let name = format!("ids/STREAM_OPEN of {stream} to the {side:?}");
            let case = given(Given::Ready(side), name).send(open(stream));
            cases.push(case.keeps("R-8.1"));
        }
        for stream in [0, 1, 100, 1000, 10_000] {
            let name = format!("ids/STREAM_OPEN of {stream}, which is always open, to {side:?}");
            let case = given(Given::Ready(side), name).send(open(stream));
            cases.push(case.ends_connection("R-8.1", RANGE));
        }
        let own_jobs = own.into_iter().filter(|id| (100..1000).contains(id));
        for stream in own_jobs {
            let name = format!("ids/JOB_REQUEST on {stream}, which is the {side:?}'s");
            let case = given(Given::Ready(side), name);
            let case = case.send(f(MessageType::JOB_REQUEST, stream));
            cases.push(case.ends_connection("R-8.1", RANGE));
        }
    }
    cases
}

fn taken() -> Vec<Case> {
    let unexpected = ErrorCode::UNEXPECTED;
    let mut cases = Vec::new();
    for stream in [3, 101, 1001, 10_001] {
        let name = |what: &str| format!("ids/opening {stream} again while {what}");
        let accepted = ready(name("it is open")).send(open(stream));
        let offered = ready(name("it waits")).accepts_nothing().send(open(stream));
        let half = ready(name("its opener has ended")).send(open(stream).end());
        for case in [accepted, offered, half] {
            let case = case.send(open(stream));
            cases.push(case.ends_stream(stream, "R-8.2", unexpected));
        }
        let free = ready(name("it is free again"));
        let free = free.send(open(stream)).send(reset(stream));
        cases.push(free.send(open(stream)).keeps("R-8.8"));
    }
    let finished = |session: &mut Session| session.finish(StreamId(101));
    let kinds = [
        ("by JOB_REQUEST what STREAM_OPEN opened", open(101), MessageType::JOB_REQUEST),
        (
            "by STREAM_OPEN what JOB_REQUEST opened",
            f(MessageType::JOB_REQUEST, 101),
            MessageType::STREAM_OPEN,
        ),
        (
            "by JOB_REQUEST twice",
            f(MessageType::JOB_REQUEST, 101),
            MessageType::JOB_REQUEST,
        ),
    ];
    for (what, first, second) in kinds {
        let case = ready(format!("ids/opening {what}")).send(first.clone());
        let case = case.send(f(second, 101));
        cases.push(case.ends_stream(101, "R-8.2", unexpected));
        let case = ready(format!("ids/opening {what}, half ended")).send(first);
        let case = case.app(finished).send(f(second, 101));
        cases.push(case.ends_stream(101, "R-8.2", unexpected));
    }
    cases
}

fn too_many() -> Vec<Case> {
    let few = |streams_max| v2::Limits {
        streams_max,
        ..Default::default()
    };
    let opens = |count: u32| join((0..count).map(|n| open(1001 + 2 * n)));
    let mut cases = Vec::new();
    // The witness is one of them.
    for max in [2, 10, 100] {
        let case = ready(format!("ids/a stream over streams_max {max}"));
        let case = case.limits(few(max)).bytes(opens(max));
        cases.push(case.ends_stream(1001 + 2 * (max - 1), "R-8.4", LIMIT));
        let case = ready(format!("ids/as many streams as streams_max {max}"));
        let case = case.limits(few(max)).bytes(opens(max - 1));
        cases.push(case.keeps("R-8.4"));
    }
    let case = ready("ids/a job over streams_max");
    let case = case.limits(few(1)).send(f(MessageType::JOB_REQUEST, 101));
    cases.push(case.ends_stream(101, "R-8.4", LIMIT));
    let case = ready("ids/an ended stream over streams_max");
    let case = case.limits(few(1)).send(open(1001).end());
    cases.push(case.ends_stream(1001, "R-8.4", LIMIT));
    let case = ready("ids/data behind a stream over streams_max");
    let case = case.limits(few(1));
    let case = case.bytes(join([open(1001), data(1001, 100)]));
    cases.push(case.ends_stream(1001, "R-8.4", LIMIT));
    let case = ready("ids/a hundred streams that nobody accepts").accepts_nothing();
    cases.push(case.bytes(opens(100)).keeps("R-8.4"));
    let case = ready("ids/a hundred and one streams that nobody accepts").accepts_nothing();
    cases.push(case.bytes(opens(101)).ends_stream(1201, "R-8.4", LIMIT));
    let jobs = join((0..200).map(|n| f(MessageType::JOB_REQUEST, 101 + 2 * n)));
    let case = ready("ids/two hundred jobs that nobody accepts").accepts_nothing();
    cases.push(case.bytes(jobs).keeps("R-8.4"));
    cases.push(
        ready("ids/streams whose resets are never answered")
            .limits(few(1))
            .flood(1100, Duration::from_millis(40), |n| open(1001 + 2 * n).bytes())
            .ends_connection("R-8.4", LIMIT),
    );
    cases.push(
        given(Given::Ready(Side::Acceptor), "ids/the whole class of system streams")
            .bytes(join((1..50).map(|n| open(1 + 2 * n))))
            .app(|session| {
                let open = v2::StreamOpen::default();
                session.open(StreamClass::System, &open).unwrap();
            })
            .keeps("R-8.1"),
    );
    cases
}
