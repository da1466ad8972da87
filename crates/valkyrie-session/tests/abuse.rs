//! Peers that break rules: what ends, and what does not.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod pair;

use std::time::Duration;

use valkyrie_frame::{ErrorCode, ErrorPayload, Flags, MessageType, StreamClass, StreamId, v2};
use valkyrie_session::{Event, SessionError, Violation};

use pair::*;

#[test]
fn a_sender_past_its_credit_loses_the_stream_and_past_the_connections_credit_the_connection() {
    let mut pair = Pair::small_windows();
    let stream = pair.open(StreamClass::Data);
    let wrong = frame(MessageType::STREAM_DATA, stream.0, Flags::NONE, &[0; 4097]);
    let events = give(&mut pair.server, NOW, leak(wrong));
    assert_eq!(
        events,
        [Event::Reset {
            stream,
            code: ErrorCode::WINDOW
        }]
    );
    let said = take(&mut pair.server, NOW);
    let kinds: Vec<_> = frames(said)
        .iter()
        .map(|f| (f.header.kind, f.header.stream))
        .collect();
    assert_eq!(
        kinds,
        [
            (MessageType::ERROR, stream),
            (MessageType::STREAM_RESET, stream)
        ]
    );

    let mut wrong = Vec::new();
    for number in 0..20 {
        wrong.extend(frame(
            MessageType::STREAM_OPEN,
            1001 + 2 * number,
            Flags::NONE,
            b"",
        ));
        wrong.extend(frame(
            MessageType::STREAM_DATA,
            1001 + 2 * number,
            Flags::NONE,
            &[0; 250_000],
        ));
    }
    let error = expect_connection_error(wrong, ErrorCode::WINDOW);
    assert!(matches!(
        error,
        SessionError::Violation(Violation::Window {
            stream: StreamId(0),
            ..
        })
    ));
}

#[test]
fn ids_of_the_wrong_side_or_range_end_the_connection() {
    for (kind, stream, rule) in [
        (MessageType::STREAM_OPEN, 0, "R-8.1"),
        (MessageType::STREAM_OPEN, 1, "R-8.1"),
        (MessageType::STREAM_OPEN, 1002, "R-8.1"),
        (MessageType::JOB_REQUEST, 1001, "R-4.2"),
        (MessageType::JOB_REQUEST, 100, "R-4.2"),
        (MessageType::CALL, 1001, "R-4.2"),
        (MessageType::STREAM_DATA, 1000, "R-4.2"),
        (MessageType::STREAM_RESET, 0, "R-8.7"),
        (MessageType::LOG_ENTRY, 0, "R-4.2"),
    ] {
        let error = expect_connection_error(
            frame(kind, stream, Flags::NONE, b""),
            ErrorCode::WRONG_RANGE,
        );
        let SessionError::Violation(violation) = error else {
            panic!("{error}");
        };
        assert_eq!(violation.rule().as_str(), rule, "{kind} on {stream}");
    }
}

#[test]
fn frames_for_a_stream_that_is_not_open_are_refused_without_harm() {
    let mut pair = Pair::new();
    let wrong = frame(MessageType::STREAM_DATA, 1001, Flags::NONE, b"x");
    assert_eq!(give(&mut pair.server, NOW, leak(wrong)), []);
    let said = take(&mut pair.server, NOW);
    let payload = ErrorPayload::parse(frames(said)[0].body).unwrap();
    assert_eq!(payload.code, ErrorCode::UNKNOWN_STREAM);
    assert!(payload.text.ends_with("(R-8.9)"), "{}", payload.text);
    let events = give(&mut pair.client, NOW, said);
    assert!(matches!(
        &events[..],
        [Event::PeerError {
            code: ErrorCode::UNKNOWN_STREAM,
            ..
        }]
    ));
    assert!(pair.server.is_ready());
}

#[test]
fn an_opening_that_is_refused_leaves_the_stream_open_on_neither_side() {
    let crowded = v2::StreamOpen {
        metadata: (0..65).map(|n: u8| (n.to_string(), vec![n])).collect(),
        ..Default::default()
    };
    let crowded = prost::Message::encode_to_vec(&crowded);
    let open = MessageType::STREAM_OPEN;
    for (kind, flags, body, code, rule) in [
        (
            open,
            Flags::NONE,
            &[0xff][..],
            ErrorCode::MALFORMED,
            "(R-4.5)",
        ),
        (
            open,
            Flags::END_OF_STREAM,
            &crowded,
            ErrorCode::MALFORMED,
            "(R-8.3)",
        ),
        (
            open,
            Flags::COMPRESSED,
            b"",
            ErrorCode::UNEXPECTED,
            "(R-6.7)",
        ),
        (
            open,
            Flags::EXTENSIONS,
            &[0, 3, 0xC0, 0, 0],
            ErrorCode::CRITICAL_EXTENSION,
            "(R-5.5)",
        ),
        (
            MessageType::JOB_REQUEST,
            Flags::COMPRESSED,
            b"",
            ErrorCode::UNEXPECTED,
            "(R-6.7)",
        ),
    ] {
        let mut pair = Pair::new();
        // The client believes that this is the opening that arrives.
        let stream = pair
            .client
            .open(StreamClass::Jobs, &v2::StreamOpen::default())
            .unwrap();
        if flags.contains(Flags::END_OF_STREAM) {
            pair.client.finish(stream);
        }
        take(&mut pair.client, NOW);
        let wrong = frame(kind, stream.0, flags, body);
        assert_eq!(give(&mut pair.server, NOW, leak(wrong)), [], "never shown");
        let said = take(&mut pair.server, NOW);
        let text = ErrorPayload::parse(frames(said)[0].body).unwrap().text;
        assert!(text.ends_with(rule), "{text}");
        let events = give(&mut pair.client, NOW, said);
        assert_eq!(events.last(), Some(&Event::Reset { stream, code }));
        assert_eq!(pair.client.streams_open(), 0);
        pair.reach_server();
        assert_eq!(pair.server.streams_open(), 0, "{rule}");
    }
}

#[test]
fn unknown_types_are_skipped_and_counted_and_unknown_critical_extensions_refused() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    let unknown = frame(MessageType(0x4f), stream.0, Flags::NONE, b"future");
    assert_eq!(give(&mut pair.server, NOW, leak(unknown)), []);
    assert_eq!(pair.server.counters().skipped, 1);
    let critical = frame(
        MessageType::STREAM_DATA,
        stream.0,
        Flags::EXTENSIONS,
        &[0, 3, 0xC0, 0, 0],
    );
    let events = give(&mut pair.server, NOW, leak(critical));
    assert_eq!(
        events,
        [Event::Reset {
            stream,
            code: ErrorCode::CRITICAL_EXTENSION
        }]
    );
}

#[test]
fn floods_end_the_connection() {
    let resets = (0..150).flat_map(|number| {
        let id = 1001 + 2 * number;
        let mut both = frame(MessageType::STREAM_OPEN, id, Flags::NONE, b"");
        both.extend(frame(MessageType::STREAM_RESET, id, Flags::NONE, &[0; 10]));
        both
    });
    expect_connection_error(resets.collect(), ErrorCode::LIMIT);
    let pings = (0..100).flat_map(|_| frame(MessageType::PING, 0, Flags::NONE, &[0; 8]));
    expect_connection_error(pings.collect(), ErrorCode::LIMIT);
    let junk = (0..11_000).flat_map(|_| frame(MessageType(0x4f), 0, Flags::NONE, b""));
    expect_connection_error(junk.collect(), ErrorCode::LIMIT);
}

#[test]
fn empty_frames_and_unaccepted_streams_cost_the_stream() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    let empty: Vec<u8> = (0..101)
        .flat_map(|_| frame(MessageType::STREAM_DATA, stream.0, Flags::NONE, b""))
        .collect();
    let events = give(&mut pair.server, NOW, leak(empty));
    assert_eq!(
        events,
        [Event::Reset {
            stream,
            code: ErrorCode::LIMIT
        }]
    );

    let opens: Vec<u8> = (0..101)
        .flat_map(|number| {
            frame(
                MessageType::STREAM_OPEN,
                1101 + 2 * number,
                Flags::NONE,
                b"",
            )
        })
        .collect();
    let events = give(&mut pair.server, NOW, leak(opens));
    assert_eq!(events.len(), 100, "the last one is reset and never shown");
    assert!(pair.server.is_ready());
}

#[test]
fn a_frame_that_never_becomes_whole_ends_the_connection() {
    let mut pair = Pair::new();
    let whole = frame(MessageType::MESSAGE, 1, Flags::NONE, &[0; 64 * 1024]);
    let mut part = leak(whole[..100].to_vec());
    assert!(pair.server.read(NOW, &mut part).unwrap().is_none());
    assert_eq!(part.len(), 100, "the rest stays with the caller");
    let due = NOW + Duration::from_secs(34);
    pair.server.handle_timeout(due + Duration::ZERO);
    let error = pair.server.failure().unwrap();
    assert_eq!(error.code(), ErrorCode::TIMEOUT);
}

/// Feeds `bytes` to a ready server; the connection must end with `code`, told to the peer.
fn expect_connection_error(bytes: Vec<u8>, code: ErrorCode) -> SessionError {
    let mut pair = Pair::new();
    let error = read_to_error(&mut pair.server, leak(bytes));
    assert_eq!(error.code(), code, "{error}");
    let said = take(&mut pair.server, NOW);
    let last = *frames(said).last().expect("an ERROR is sent");
    assert_eq!(last.header.kind, MessageType::ERROR);
    let payload = ErrorPayload::parse(last.body).unwrap();
    assert_eq!(payload.code, code);
    assert_eq!(payload.flags.0 & 2, 2, "the connection ends");
    let SessionError::Violation(violation) = &error else {
        panic!("{error}");
    };
    let rule = format!("({})", violation.rule());
    assert!(payload.text.ends_with(&rule), "{}", payload.text);
    assert!(pair.server.is_finished());
    error
}
