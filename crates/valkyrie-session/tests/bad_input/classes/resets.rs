//! Resets in floods: the peer's own, and those that it makes this side do.

use std::time::Duration;

use valkyrie_frame::{ErrorCode, MessageType, v2};
use valkyrie_session::Side;

use crate::case::{Case, Given, given, ready};
use crate::wire::{F, ack, chunk, close_stream, data, f, file_start, join, log, open, reset};

const RULE: &str = "R-8.10";
const LIMIT: ErrorCode = ErrorCode::LIMIT;

/// Resets that are honest at once, and a pause that is honest between later ones.
const BURST: u32 = 100;
const PAUSE: Duration = Duration::from_millis(31);

/// Streams that go round, so that an id comes again when its reset was answered.
fn stream(number: u32) -> u32 {
    2001 + 2 * (number % 3000)
}

/// A name, and the frames of one time.
type Provocation = (&'static str, fn(u32) -> Vec<u8>);

/// What a frame on an open stream has to be for this side to reset it.
fn provocations() -> Vec<Provocation> {
    vec![
        ("opening what is open", |n| join([open(stream(n)), open(stream(n))])),
        ("passing a window", |n| join([open(stream(n)), data(stream(n), 4097)])),
        ("a critical extension", |n| {
            join([open(stream(n)), data(stream(n), 1).critical()])
        }),
        ("a wrong final offset", |n| {
            join([open(stream(n)), close_stream(stream(n), 5)])
        }),
        ("a short STREAM_CLOSE", |n| {
            join([open(stream(n)), f(MessageType::STREAM_CLOSE, stream(n)).zeros(9)])
        }),
        ("data behind the end", |n| {
            join([open(stream(n)), data(stream(n), 1).end(), data(stream(n), 1)])
        }),
        ("a log off its streams", |n| join([open(stream(n)), log(stream(n), 0, 1)])),
        ("a chunk without a file", |n| join([open(stream(n)), chunk(stream(n), 0, 1)])),
        ("a file twice", |n| {
            join([open(stream(n)), file_start(stream(n), 9), file_start(stream(n), 9)])
        }),
        ("an opening that cannot be read", |n| {
            open(stream(n)).body([0xff]).bytes()
        }),
        ("frames for streams that are not open", |n| data(stream(n), 0).bytes()),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let own = |n| join([open(stream(n)), reset(stream(n))]);
    cases.push(
        ready("resets/101 of the peer at once")
            .flood(BURST + 1, Duration::ZERO, own)
            .ends_connection(RULE, LIMIT),
    );
    cases.push(
        ready("resets/100 of the peer at once")
            .flood(BURST, Duration::ZERO, own)
            .keeps(RULE),
    );
    cases.push(
        ready("resets/33 a second for a minute")
            .flood(33 * 60, PAUSE, own)
            .keeps(RULE),
    );
    cases.push(
        ready("resets/50 a second for ten seconds")
            .flood(500, Duration::from_millis(20), own)
            .ends_connection(RULE, LIMIT),
    );
    let jobs = |n| join([f(MessageType::JOB_REQUEST, 101 + 2 * n), reset(101 + 2 * n)]);
    cases.push(
        ready("resets/101 jobs at once")
            .flood(BURST + 1, Duration::ZERO, jobs)
            .ends_connection(RULE, LIMIT),
    );
    for (what, provoke) in provocations() {
        let case = ready(format!("resets/101 provoked by {what}")).small_windows();
        let case = case.flood(BURST + 1, Duration::ZERO, provoke);
        cases.push(case.ends_connection(RULE, LIMIT));
    }
    cases.push(turned_away());
    cases.push(own_streams());
    cases
}

/// Streams over `streams_max`, each answered as an honest peer does.
fn turned_away() -> Case {
    let limits = v2::Limits {
        streams_max: 1,
        ..Default::default()
    };
    let both = |n| join([open(stream(n)), reset(stream(n))]);
    ready("resets/101 provoked by streams over the limit")
        .limits(limits)
        .flood(BURST + 1, Duration::ZERO, both)
        .ends_connection(RULE, LIMIT)
}

/// The peer resets whatever this side opens.
fn own_streams() -> Case {
    let mut case = given(
        Given::Ready(Side::Initiator),
        "resets/101 of streams that this side opened",
    );
    for number in 0..=BURST {
        case = case.app(|session| {
            let open = v2::StreamOpen::default();
            let data = valkyrie_frame::StreamClass::Data;
            session.open(data, &open).unwrap();
        });
        let stream = 1001 + 2 * number;
        let frames: [F; 2] = [ack(stream, 0, 300_000), reset(stream)];
        case = case.bytes(join(frames));
    }
    case.ends_connection(RULE, LIMIT)
}
