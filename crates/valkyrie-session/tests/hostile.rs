//! Peers that stay just inside the rules, or break them where it could hurt somebody else.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod pair;

use std::time::Duration;

use valkyrie_frame::{
    Correlation, ErrorCode, ErrorFlags, ErrorPayload, FileStart, Flags, Header, MessageType,
    StreamAck, StreamClass, StreamId, v2,
};
use valkyrie_session::{End, Event, Limits, SendError, Session, SessionConfig};

use pair::*;

/// An extension block with one critical extension that nobody knows.
const CRITICAL: [u8; 5] = [0, 3, 0xC0, 0, 0];

/// A frame of the system channel.
fn on_channel(kind: MessageType, call: Correlation, flags: Flags, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header::new(kind, StreamId(1), body.len() as u32)
        .with_flags(flags)
        .with_correlation(call)
        .append(&mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

fn call(client: &mut Session) -> Correlation {
    client.call(StreamClass::System, "a/B", b"", None).unwrap()
}

fn with_limits(wire: &v2::Limits) -> SessionConfig {
    SessionConfig {
        limits: Limits::from_wire(wire).unwrap(),
        ..SessionConfig::default()
    }
}

#[test]
fn a_close_that_cannot_be_written_sets_no_timer_that_has_passed() {
    let mut pair = Pair::new();
    pair.open(StreamClass::Data);
    pair.client.close(ErrorCode::NONE, Duration::ZERO);
    pair.reach_server();
    // The server's transport takes nothing, so nothing is transmitted.
    for second in 1..4 {
        let now = seconds(second);
        pair.server.handle_timeout(now);
        let next = pair.server.poll_timeout();
        assert!(next.is_none_or(|at| at > now), "{next:?} is due at {now:?}");
    }
    take(&mut pair.server, seconds(4));
    assert!(pair.server.is_finished());
}

#[test]
fn a_refused_message_does_not_fail_a_call_of_the_same_number() {
    let mut pair = Pair::new();
    let call = call(&mut pair.client);
    pair.reach_server();
    let nameless = on_channel(MessageType::MESSAGE, call, Flags::NONE, b"x");
    assert_eq!(give(&mut pair.server, NOW, leak(nameless)), []);
    assert!(matches!(
        pair.reach_client()[..],
        [Event::PeerError {
            code: ErrorCode::MALFORMED,
            correlation: Correlation::NONE,
            ..
        }]
    ));
    pair.server.reply(call, b"fine").unwrap();
    assert!(matches!(pair.reach_client()[..], [Event::Reply { .. }]));
}

#[test]
fn an_answer_that_cannot_be_taken_fails_its_call_and_none_of_the_other_side() {
    let mut pair = Pair::new();
    let ours = call(&mut pair.client);
    let theirs = call(&mut pair.server);
    assert_eq!(ours, theirs, "each side numbers its own calls");
    pair.reach_server();
    pair.reach_client();
    let reply = on_channel(MessageType::REPLY, ours, Flags::COMPRESSED, b"x");
    let events = give(&mut pair.client, NOW, leak(reply));
    assert!(
        matches!(events[..], [Event::CallFailed { call, code: ErrorCode::UNEXPECTED, .. }] if call == ours),
        "{events:?}"
    );
    let events = pair.reach_server();
    assert!(
        matches!(events[..], [Event::PeerError { .. }]),
        "{events:?}"
    );
    pair.client.reply(theirs, b"fine").unwrap();
    assert!(matches!(pair.reach_server()[..], [Event::Reply { .. }]));
}

#[test]
fn a_late_failure_of_a_call_is_not_reported() {
    let mut pair = Pair::new();
    let call = call(&mut pair.client);
    pair.reach_server();
    pair.server
        .reply_error(call, ErrorCode::OVERLOADED, "busy")
        .unwrap();
    pair.client.cancel(call);
    assert_eq!(pair.reach_client(), []);
    assert_eq!(pair.client.counters().skipped, 1);
}

#[test]
fn an_answer_that_waits_for_credit_is_dropped_with_its_call() {
    let mut pair = Pair::small_windows();
    let call = call(&mut pair.client);
    pair.reach_server();
    pair.server.reply(call, &[0; 60_000]).unwrap();
    take(&mut pair.server, NOW);
    assert!(!pair.server.is_idle());
    pair.client.cancel(call);
    pair.reach_server();
    assert!(pair.server.is_idle());
}

#[test]
fn a_refused_message_gives_its_credit_back() {
    let mut pair = Pair::small_windows();
    let flags = Flags::EXTENSIONS;
    let body = [&CRITICAL[..], &[0; 1000]].concat();
    let wrong = on_channel(MessageType::MESSAGE, Correlation(4096), flags, &body);
    for _ in 0..3 {
        give(&mut pair.server, NOW, leak(wrong.clone()));
    }
    let said = take(&mut pair.server, NOW);
    let acks: Vec<_> = frames(said)
        .iter()
        .filter(|frame| frame.header.kind == MessageType::STREAM_ACK)
        .map(|frame| (frame.header.stream.0, StreamAck::parse(frame.body).unwrap()))
        .collect();
    let (consumed, limit) = (3000, 7096);
    assert_eq!(acks, [(1, StreamAck { consumed, limit })]);
}

#[test]
fn an_error_is_never_answered_with_one_about_a_stream() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    let mut body = CRITICAL.to_vec();
    ErrorPayload::new(ErrorCode::INTERNAL, "").append(&mut body);
    let wrong = frame(MessageType::ERROR, stream.0, Flags::EXTENSIONS, &body);
    let error = read_to_error(&mut pair.server, leak(wrong));
    assert_eq!(error.code(), ErrorCode::CRITICAL_EXTENSION);
    let said = frames(take(&mut pair.server, NOW));
    let payload = ErrorPayload::parse(said[0].body).unwrap();
    assert!(payload.flags.contains(ErrorFlags::CONNECTION_ENDS));
}

#[test]
fn control_types_belong_on_stream_0() {
    for kind in [MessageType::PING, MessageType::PONG, MessageType::CLOSE] {
        let mut pair = Pair::new();
        let wrong = frame(kind, 1, Flags::NONE, &[0; 8]);
        let error = read_to_error(&mut pair.server, leak(wrong));
        assert_eq!(error.code(), ErrorCode::WRONG_RANGE, "{kind}");
    }
}

#[test]
fn nothing_more_is_heard_of_a_stream_that_was_reset() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    pair.server.reset(stream, ErrorCode::NONE);
    take(&mut pair.server, NOW);
    for (kind, flags, body) in [
        (MessageType::STREAM_OPEN, Flags::NONE, &b""[..]),
        (MessageType::STREAM_DATA, Flags::COMPRESSED, b"x"),
        (MessageType::STREAM_RESET, Flags::NONE, b"short"),
    ] {
        let late = frame(kind, stream.0, flags, body);
        assert_eq!(give(&mut pair.server, NOW, leak(late)), []);
        assert_eq!(take(&mut pair.server, NOW), [], "{kind}");
    }
}

#[test]
fn small_frames_that_cross_a_reset_are_not_held_against_their_sender() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Logs);
    for _ in 0..30_000 {
        pair.client.data(stream, b"x", End::No).unwrap();
    }
    pair.server.reset(stream, ErrorCode::OVERLOADED);
    assert_eq!(pair.reach_server(), []);
    assert_eq!(pair.reach_client().len(), 1);
    pair.reach_server();
    assert!(pair.server.is_ready());
    assert_eq!(pair.server.streams_open(), 0);
}

#[test]
fn a_peer_that_never_answers_resets_does_not_fill_the_table() {
    let config = with_limits(&v2::Limits {
        streams_max: 1,
        ..Default::default()
    });
    let mut pair = Pair::with(SessionConfig::default(), config);
    for number in 0..3000 {
        let open = frame(
            MessageType::STREAM_OPEN,
            10_001 + 2 * number,
            Flags::NONE,
            b"",
        );
        // Slow enough for the budget of resets.
        let now = NOW + Duration::from_millis(40 * u64::from(number));
        if pair.server.read(now, &mut open.as_slice()).is_err() {
            break;
        }
    }
    assert!(pair.server.streams_open() <= 1 + 1024);
    let failure = pair.server.failure().unwrap();
    assert_eq!(failure.code(), ErrorCode::LIMIT);
}

#[test]
fn an_id_that_is_opened_again_is_not_accepted_by_old_credit() {
    let mut pair = Pair::small_windows();
    let stream = pair.open(StreamClass::Data);
    let data = frame(MessageType::STREAM_DATA, stream.0, Flags::NONE, &[0; 2000]);
    give(&mut pair.server, NOW, leak(data));
    pair.server.consume(stream, 2000);
    let mut again = frame(MessageType::STREAM_RESET, stream.0, Flags::NONE, &[0; 10]);
    again.extend(frame(MessageType::STREAM_OPEN, stream.0, Flags::NONE, b""));
    give(&mut pair.server, NOW, leak(again));
    let said = frames(take(&mut pair.server, NOW));
    let kinds: Vec<_> = said.iter().map(|frame| frame.header.kind).collect();
    assert_eq!(kinds, [MessageType::STREAM_RESET]);
}

#[test]
fn offsets_at_the_end_of_all_numbers_overflow_nothing() {
    let mut pair = Pair::new();
    let open = v2::StreamOpen::default();
    let stream = pair.client.open(StreamClass::Logs, &open).unwrap();
    let (consumed, limit) = (u64::MAX - 1, u64::MAX);
    let mut body = Vec::new();
    StreamAck { consumed, limit }.append(&mut body);
    let ack = frame(MessageType::STREAM_ACK, stream.0, Flags::NONE, &body);
    let accepted = Event::Accepted { stream, consumed };
    assert_eq!(give(&mut pair.client, NOW, leak(ack)), [accepted]);
    assert_eq!(pair.client.log_credit(stream), u64::MAX);
    assert!(pair.client.data(stream, b"abc", End::No).is_ok());
}

#[test]
fn a_window_over_the_own_limit_is_offered_as_it_is_held() {
    let mut pair = Pair::small_windows();
    let open = v2::StreamOpen {
        window: u32::MAX,
        ..Default::default()
    };
    let stream = pair.client.open(StreamClass::Data, &open).unwrap();
    pair.reach_server();
    let sent = pair.server.data(stream, &[0; 60_000], End::No).unwrap();
    assert_eq!(sent, 4096);
    pair.reach_client();
    assert!(pair.client.is_ready() && pair.client.streams_open() == 1);
}

#[test]
fn a_message_in_one_frame_has_the_same_limit_as_one_in_many() {
    let config = with_limits(&v2::Limits {
        message_max: 65_536,
        class_window: vec![131_072],
        ..Default::default()
    });
    let mut pair = Pair::with(SessionConfig::default(), config);
    let long = on_channel(
        MessageType::CALL,
        Correlation(4096),
        Flags::NONE,
        &[0; 65_537],
    );
    assert_eq!(give(&mut pair.server, NOW, leak(long)), []);
    let said = frames(take(&mut pair.server, NOW));
    let error = said.iter().find(|f| f.header.kind == MessageType::ERROR);
    let payload = ErrorPayload::parse(error.unwrap().body).unwrap();
    assert_eq!(payload.code, ErrorCode::TOO_LARGE);
}

#[test]
fn files_travel_on_accepted_data_streams_only() {
    let start = FileStart {
        id: [1; 16],
        size: 5,
        digest: [2; 32],
        name: "f",
    };
    let mut pair = Pair::new();
    let jobs = pair.open(StreamClass::Jobs);
    assert!(matches!(
        pair.client.file_start(jobs, &start),
        Err(SendError::WrongClass { .. })
    ));
    let open = v2::StreamOpen::default();
    let data = pair.client.open(StreamClass::Data, &open).unwrap();
    let early = pair.client.file_start(data, &start);
    assert_eq!(early, Err(SendError::NoCredit { stream: data }));
    pair.reach_server();

    // Its acknowledgements, some of which may be on their way, would be taken for the next one's.
    let (files, bytes) = (pair.open(StreamClass::Data), pair.open(StreamClass::Data));
    assert_eq!(pair.client.file_start(files, &start), Ok(()));
    let again = pair.client.file_start(files, &start);
    assert_eq!(again, Err(SendError::NotFirst { stream: files }));
    assert_eq!(pair.client.data(bytes, b"bytes", End::No), Ok(5));
    let behind = pair.client.file_start(bytes, &start);
    assert_eq!(behind, Err(SendError::NotFirst { stream: bytes }));

    let mut body = Vec::new();
    start.append(&mut body);
    for stream in [jobs, data] {
        let kind = MessageType::FILE_TRANSFER_START;
        let wrong = frame(kind, stream.0, Flags::NONE, &body);
        let code = ErrorCode::UNEXPECTED;
        let events = give(&mut pair.server, NOW, leak(wrong));
        assert_eq!(events, [Event::Reset { stream, code }]);
    }
}

#[test]
fn a_close_waits_for_messages_that_wait_for_credit() {
    let mut pair = Pair::small_windows();
    pair.client
        .message(StreamClass::System, "a/B", &[7; 20_000])
        .unwrap();
    pair.client.close(ErrorCode::NONE, Duration::from_secs(5));
    let mut events = Vec::new();
    for _ in 0..20 {
        events.extend(pair.reach_server());
        pair.reach_client();
    }
    assert!(
        matches!(events[..], [Event::Message { .. }, Event::Closing { .. }]),
        "{events:?}"
    );
}

#[test]
fn an_abandoned_session_takes_nothing_more() {
    let mut pair = Pair::small_windows();
    let stream = pair.open(StreamClass::Data);
    pair.client
        .message(StreamClass::System, "a/B", &[7; 20_000])
        .unwrap();
    pair.client.abandon();
    assert_eq!(take(&mut pair.client, NOW), []);
    assert_eq!(pair.client.poll_timeout(), None);
    let refused = pair.client.message(StreamClass::System, "a/B", b"");
    assert_eq!(refused, Err(SendError::Closed));
    assert_eq!(
        pair.client.data(stream, b"x", End::No),
        Err(SendError::Closed)
    );
}
