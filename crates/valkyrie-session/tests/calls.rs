//! Calls, answers, messages, and their fragments.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod pair;

use std::time::Duration;

use valkyrie_frame::{
    Correlation, ErrorCode, ErrorPayload, Flags, Header, MessageType, StreamClass, StreamId, v2,
};
use valkyrie_session::{End, Event, Limits, Retry, SendError, SessionConfig};

use pair::*;

#[test]
fn a_call_is_answered_on_its_channel_in_either_direction() {
    for class in StreamClass::WITH_STREAMS {
        let mut pair = Pair::new();
        let wait = Some(Duration::from_millis(1500));
        let call = pair
            .client
            .call(class, "demo.Echo/Say", b"hello", wait)
            .unwrap();
        let events = pair.reach_server();
        let [
            Event::Call {
                call: theirs,
                class: on,
                method,
                body,
                deadline,
                ..
            },
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!(
            (*on, method.as_ref(), &body[..]),
            (class, "demo.Echo/Say", &b"hello"[..])
        );
        assert_eq!(*deadline, wait);
        pair.server.reply(*theirs, b"world").unwrap();
        let events = pair.reach_client();
        assert!(
            matches!(&events[..], [Event::Reply { call: c, body, .. }] if *c == call && body[..] == *b"world")
        );

        let back = pair.server.call(class, "demo.Echo/Say", b"", None).unwrap();
        let Event::Call { call: theirs, .. } = pair.reach_client()[0] else {
            panic!()
        };
        pair.client
            .reply_error(theirs, ErrorCode::OVERLOADED, "busy")
            .unwrap();
        let events = pair.reach_server();
        assert!(
            matches!(&events[..], [Event::CallFailed { call: c, code: ErrorCode::OVERLOADED, retry: Retry::No, text, .. }] if *c == back && text == "busy")
        );
        assert!(pair.client.is_idle() && pair.server.is_idle());
    }
}

#[test]
fn a_call_that_runs_out_of_time_is_canceled_at_the_peer_and_a_late_answer_skipped() {
    let mut pair = Pair::new();
    let wait = Some(Duration::from_secs(2));
    let call = pair
        .client
        .call(StreamClass::System, "a/B", b"", wait)
        .unwrap();
    let Event::Call { call: theirs, .. } = pair.reach_server()[0] else {
        panic!()
    };
    pair.now = seconds(2);
    pair.client.handle_timeout(pair.now);
    let failed = pair.client.poll_event().unwrap();
    assert!(
        matches!(failed, Event::CallFailed { call: c, code: ErrorCode::TIMEOUT, .. } if c == call)
    );
    let late = {
        pair.server.reply(theirs, b"late").unwrap();
        take(&mut pair.server, pair.now)
    };
    assert_eq!(give(&mut pair.client, pair.now, late), []);
    assert_eq!(pair.client.counters().skipped, 1);
    assert_eq!(pair.reach_server(), []);

    pair.client
        .call(StreamClass::System, "a/B", b"", None)
        .unwrap();
    let Event::Call { call: theirs, .. } = pair.reach_server()[0] else {
        panic!()
    };
    pair.client.cancel(theirs);
    assert_eq!(pair.reach_server(), [Event::CallCanceled { call: theirs }]);
    pair.server.reply(theirs, b"unwanted").unwrap();
    assert_eq!(take(&mut pair.server, pair.now), b"");
    assert!(pair.server.is_idle());
}

#[test]
fn calls_beyond_the_limit_are_refused_on_both_sides() {
    let wire = v2::Limits {
        calls_max: 2,
        ..Default::default()
    };
    let limits = Limits::from_wire(&wire).unwrap();
    let strict = SessionConfig {
        limits,
        ..SessionConfig::default()
    };
    let mut pair = Pair::with(SessionConfig::default(), strict);
    for _ in 0..2 {
        pair.client
            .call(StreamClass::System, "a/B", b"", None)
            .unwrap();
    }
    let third = pair.client.call(StreamClass::System, "a/B", b"", None);
    assert_eq!(third, Err(SendError::CallsExhausted));

    let mut extension = Vec::new();
    extension.extend_from_slice(&[0, 6, 9, 0, 3]);
    extension.extend_from_slice(b"a/B");
    let mut wrong = Vec::new();
    for slot in 10..13 {
        let mut header = Header::new(MessageType::CALL, StreamId(1), 8);
        header.flags = Flags::EXTENSIONS;
        header.correlation = Correlation::first(slot).unwrap();
        header.append(&mut wrong);
        wrong.extend_from_slice(&extension);
    }
    let events = give(&mut pair.server, NOW, leak(wrong));
    assert_eq!(events.len(), 2);
    let said = take(&mut pair.server, NOW);
    let refusal = frames(said)[0];
    assert_eq!(refusal.header.correlation, Correlation::first(12).unwrap());
    assert_eq!(
        ErrorPayload::parse(refusal.body).unwrap().code,
        ErrorCode::LIMIT
    );
}

#[test]
fn long_messages_travel_in_fragments_that_interleave() {
    let mut pair = Pair::new();
    let long: Vec<u8> = (0..300_000u32).map(|i| (i % 253) as u8).collect();
    pair.client
        .call(StreamClass::Data, "a/Long", &long, None)
        .unwrap();
    pair.client
        .call(StreamClass::Data, "a/Also", &long[..100_000], None)
        .unwrap();
    pair.client
        .call(StreamClass::Data, "a/Short", &long[..1], None)
        .unwrap();
    let mut seen = Vec::new();
    for _ in 0..20 {
        for event in pair.reach_server() {
            if let Event::Call { method, body, .. } = event {
                assert_eq!(body[..], long[..body.len()]);
                seen.push((method.into_owned(), body.len()));
            }
        }
        pair.reach_client();
    }
    let names: Vec<_> = seen
        .iter()
        .map(|(name, len)| (name.as_str(), *len))
        .collect();
    assert_eq!(
        names,
        [("a/Short", 1), ("a/Also", 100_000), ("a/Long", 300_000)]
    );
}

#[test]
fn a_message_over_the_limit_is_refused_before_and_after_the_wire() {
    let wire = v2::Limits {
        message_max: 70_000,
        ..Default::default()
    };
    let limits = Limits::from_wire(&wire).unwrap();
    let strict = SessionConfig {
        limits,
        ..SessionConfig::default()
    };
    let mut pair = Pair::with(SessionConfig::default(), strict);
    let sent = pair
        .client
        .message(StreamClass::System, "a/B", &[0; 70_001]);
    assert_eq!(
        sent,
        Err(SendError::TooLarge {
            bytes: 70_001,
            max: 70_000
        })
    );

    let mut wrong = Vec::new();
    for _ in 0..3 {
        let mut header = Header::new(MessageType::CALL, StreamId(1000), 30_000);
        header.flags = Flags::MORE_FRAGMENTS;
        header.correlation = Correlation::first(1).unwrap();
        header.append(&mut wrong);
        wrong.resize(wrong.len() + 30_000, 0);
    }
    assert_eq!(give(&mut pair.server, NOW, leak(wrong)), []);
    let said = take(&mut pair.server, NOW);
    let refusal = frames(said)
        .into_iter()
        .find(|f| f.header.kind == MessageType::ERROR)
        .unwrap();
    assert_eq!(
        ErrorPayload::parse(refusal.body).unwrap().code,
        ErrorCode::TOO_LARGE
    );
    assert!(pair.server.is_ready(), "only the message suffers");
}

#[test]
fn a_message_that_is_never_finished_is_dropped_and_the_call_refused() {
    let mut pair = Pair::new();
    let mut header = Header::new(MessageType::CALL, StreamId(1000), 4);
    header.flags = Flags::MORE_FRAGMENTS;
    header.correlation = Correlation::first(1).unwrap();
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(b"half");
    give(&mut pair.server, NOW, leak(bytes));
    give(
        &mut pair.server,
        seconds(25),
        leak(frame(MessageType::PONG, 0, Flags::NONE, &[0; 8])),
    );
    pair.server.handle_timeout(seconds(30));
    let said = take(&mut pair.server, seconds(30));
    let refusal = frames(said)
        .into_iter()
        .find(|f| f.header.kind == MessageType::ERROR)
        .unwrap();
    assert_eq!(
        ErrorPayload::parse(refusal.body).unwrap().code,
        ErrorCode::TIMEOUT
    );
    assert!(pair.server.is_ready());
}

#[test]
fn an_urgent_message_overtakes_what_waits() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    pair.client.data(stream, &[0; 100_000], End::No).unwrap();
    pair.client
        .message(StreamClass::Jobs, "a/Later", b"")
        .unwrap();
    pair.client
        .urgent_message(StreamClass::Logs, "a/Now", &[1; 40_000])
        .unwrap();
    let events = pair.reach_server();
    let place = |name: &str| {
        events
            .iter()
            .position(|event| matches!(event, Event::Message { method, .. } if method == name))
    };
    let data = events
        .iter()
        .rposition(|event| matches!(event, Event::Data { .. }));
    assert!(place("a/Now") < data && place("a/Later") < data);
    assert_eq!(place("a/Now").map(|at| at < 3), Some(true), "{events:?}");
}
