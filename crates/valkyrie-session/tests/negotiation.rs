//! From HELLO to CLOSE: versions, modes, keepalive, drain.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod pair;

use std::time::Duration;

use valkyrie_frame::{ErrorCode, ErrorPayload, Flags, MessageType, SecurityMode, StreamClass, v2};
use valkyrie_session::{End, Event, Retry, SendError, Session, SessionConfig, SessionError, Side};

use pair::*;

#[test]
fn both_sides_agree_and_derive_the_same_transcript_hash() {
    let pair = Pair::with(
        SessionConfig {
            node: "runner-1".into(),
            features: 3,
            ..SessionConfig::default()
        },
        SessionConfig {
            node: "server".into(),
            features: 6,
            ..SessionConfig::default()
        },
    );
    let (client, server) = (
        pair.client.agreement().unwrap(),
        pair.server.agreement().unwrap(),
    );
    assert_eq!(
        (client.version, client.mode),
        (0x0200, SecurityMode::PLAINTEXT)
    );
    assert_eq!(client.th0, server.th0);
    assert_ne!(client.th0, [0; 32]);
    assert_eq!((client.features, server.features), (2, 2));
    assert_eq!(
        (client.node.as_str(), server.node.as_str()),
        ("server", "runner-1")
    );
}

#[test]
fn plaintext_lets_the_peer_in_with_the_same_write_as_the_answer() {
    let mut client = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
    let mut server = Session::new(Side::Acceptor, SessionConfig::default(), [2; 32]);
    give(&mut server, NOW, take(&mut client, NOW));
    let said = take(&mut server, NOW);
    let kinds: Vec<_> = frames(said).iter().map(|frame| frame.header.kind).collect();
    assert_eq!(kinds, [MessageType::HELLO_ACK, MessageType::AUTH_SUCCESS]);
}

#[test]
fn an_older_minor_version_is_spoken_and_another_major_refused_with_both_named() {
    let newer = SessionConfig {
        version_max: 0x0207,
        ..SessionConfig::default()
    };
    let pair = Pair::with(newer, SessionConfig::default());
    assert_eq!(pair.client.agreement().unwrap().version, 0x0200);

    let other = SessionConfig {
        version_min: 0x0300,
        version_max: 0x0301,
        ..Default::default()
    };
    let mut client = Session::new(Side::Initiator, other, [1; 32]);
    let mut server = Session::new(Side::Acceptor, SessionConfig::default(), [2; 32]);
    let error = read_to_error(&mut server, take(&mut client, NOW));
    assert_eq!(error.code(), ErrorCode::VERSION_MISMATCH);
    let said = take(&mut server, NOW);
    let text = ErrorPayload::parse(frames(said)[0].body).unwrap().text;
    assert_eq!(
        text,
        "peer speaks versions 3.0 to 3.1, this side 2.0 to 2.0 (R-7.2)"
    );
    let told = read_to_error(&mut client, said);
    assert!(matches!(
        told,
        SessionError::Peer {
            code: ErrorCode::VERSION_MISMATCH,
            ..
        }
    ));
}

#[test]
fn a_mode_outside_the_allowed_ones_is_neither_accepted_nor_believed() {
    let strict = SessionConfig {
        allowed_modes: vec![SecurityMode::MTLS],
        ..Default::default()
    };
    let mut client = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
    let mut server = Session::new(Side::Acceptor, strict, [2; 32]);
    let error = read_to_error(&mut server, take(&mut client, NOW));
    assert_eq!(error.code(), ErrorCode::MODE_REFUSED);

    // An acceptor that chooses what was not offered.
    let only_plain = |mode: u32, client: &mut Session| {
        let hello = take(client, NOW);
        let ack = v2::HelloAck {
            version: 0x0200,
            mode,
            hello_sha256: valkyrie_hash(hello),
            random: vec![7; 32],
            ..Default::default()
        };
        leak(frame(
            MessageType::HELLO_ACK,
            0,
            Flags::NONE,
            &prost::Message::encode_to_vec(&ack),
        ))
    };
    let mut client = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
    let ack = only_plain(4, &mut client);
    assert_eq!(read_to_error(&mut client, ack).code(), ErrorCode::DOWNGRADE);
    let mut client = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
    let ack = only_plain(1, &mut client);
    assert_eq!(give(&mut client, NOW, ack), []);
}

#[test]
fn an_answer_with_a_version_that_was_not_offered_or_half_a_session_is_refused() {
    for (version, session, code) in [
        (0x0201, 0, ErrorCode::DOWNGRADE),
        (0x0100, 16, ErrorCode::DOWNGRADE),
        (0x0200, 5, ErrorCode::MALFORMED),
    ] {
        let mut client = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
        let ack = v2::HelloAck {
            version,
            mode: 1,
            hello_sha256: valkyrie_hash(take(&mut client, NOW)),
            random: vec![7; 32],
            session: vec![1; session],
            ..Default::default()
        };
        let body = prost::Message::encode_to_vec(&ack);
        let ack = leak(frame(MessageType::HELLO_ACK, 0, Flags::NONE, &body));
        assert_eq!(read_to_error(&mut client, ack).code(), code);
    }
}

#[test]
fn a_changed_hello_is_noticed() {
    let mut client = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
    let mut server = Session::new(Side::Acceptor, SessionConfig::default(), [2; 32]);
    let mut hello = take(&mut client, NOW).to_vec();
    let at = hello
        .windows(32)
        .position(|bytes| bytes == [1; 32])
        .unwrap();
    hello[at] = 9;
    give(&mut server, NOW, leak(hello));
    let error = read_to_error(&mut client, take(&mut server, NOW));
    assert_eq!(error.code(), ErrorCode::DOWNGRADE);
}

#[test]
fn before_authentication_only_a_few_types_are_legal_and_time_is_short() {
    for kind in MessageType::ALL.iter().filter(|kind| !kind.is_pre_auth()) {
        let mut server = Session::new(Side::Acceptor, SessionConfig::default(), [2; 32]);
        let error = read_to_error(&mut server, leak(frame(*kind, 0, Flags::NONE, b"")));
        assert_eq!(error.code(), ErrorCode::UNEXPECTED, "{kind}");
    }
    let mut server = Session::new(Side::Acceptor, SessionConfig::default(), [2; 32]);
    let large = frame(MessageType::HELLO, 0, Flags::NONE, &vec![0; 16 * 1024 + 1]);
    assert_eq!(
        read_to_error(&mut server, leak(large)).code(),
        ErrorCode::TOO_LARGE
    );

    let mut server = Session::new(Side::Acceptor, SessionConfig::default(), [2; 32]);
    server.read(NOW, &mut &b"RC"[..]).unwrap();
    assert_eq!(server.poll_timeout(), Some(seconds(10)));
    server.handle_timeout(seconds(10));
    assert_eq!(server.failure().unwrap().code(), ErrorCode::TIMEOUT);
}

#[test]
fn wrong_magic_version_and_length_are_told_apart_at_once() {
    for (bytes, code) in [
        (&b"GET / HTTP/1.1\r\n"[..], ErrorCode::MAGIC),
        (b"\x00", ErrorCode::MAGIC),
        (b"RC\x03", ErrorCode::VERSION_MISMATCH),
        (b"RC\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", ErrorCode::TOO_LARGE),
        (b"RC\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff", ErrorCode::MALFORMED),
    ] {
        let mut server = Session::new(Side::Acceptor, SessionConfig::default(), [2; 32]);
        let error = read_to_error(&mut server, bytes);
        assert_eq!(error.code(), code, "{error}");
        let said = take(&mut server, NOW);
        assert_eq!(ErrorPayload::parse(frames(said)[0].body).unwrap().code, code);
    }
}

#[test]
fn silence_is_asked_about_and_then_ends_the_connection() {
    let mut pair = Pair::new();
    assert_eq!(pair.client.poll_timeout(), Some(seconds(10)));
    pair.now = seconds(10);
    pair.client.handle_timeout(pair.now);
    assert_eq!(pair.reach_server(), []);
    pair.now = pair.now + Duration::from_millis(30);
    let rtt = Duration::from_millis(30);
    assert_eq!(pair.reach_client(), [Event::Rtt { rtt }]);
    assert_eq!(pair.client.rtt(), Some(rtt));
    let asked = pair.client.poll_timeout().unwrap();
    assert_eq!(asked, pair.now + Duration::from_secs(10));
    pair.client.handle_timeout(asked);
    let dead = pair.client.poll_timeout().unwrap();
    assert_eq!(dead, asked + Duration::from_secs(10));
    pair.client.handle_timeout(dead);
    assert_eq!(pair.client.failure().unwrap().code(), ErrorCode::TIMEOUT);
}

#[test]
fn the_acceptor_asks_as_often_as_the_initiator_wants_to_hear() {
    let often = SessionConfig {
        keepalive: Some(Duration::from_secs(2)),
        ..SessionConfig::default()
    };
    let pair = Pair::with(often, SessionConfig::default());
    assert_eq!(pair.server.poll_timeout(), Some(seconds(2)));
}

#[test]
fn closing_lets_what_runs_end_and_refuses_what_is_new() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    pair.client
        .call(StreamClass::System, "a/B", b"", None)
        .unwrap();
    let Event::Call { call, .. } = pair.reach_server()[0] else {
        panic!()
    };
    pair.server.close(ErrorCode::NONE, Duration::from_secs(5));
    // These cross the CLOSE.
    let late = pair
        .client
        .open(StreamClass::Data, &v2::StreamOpen::default())
        .unwrap();
    let late_call = pair
        .client
        .call(StreamClass::System, "a/B", b"", None)
        .unwrap();
    assert_eq!(pair.reach_server(), []);
    let events = pair.reach_client();
    assert!(events.contains(&Event::Closing {
        code: ErrorCode::NONE,
        drain: Duration::from_secs(5)
    }));
    assert!(events.contains(&Event::Reset {
        stream: late,
        code: ErrorCode::DRAINING
    }));
    assert!(events.iter().any(|event| matches!(event, Event::CallFailed { call, code: ErrorCode::DRAINING, retry: Retry::After(_), .. } if *call == late_call)));
    let open = pair
        .client
        .open(StreamClass::Data, &v2::StreamOpen::default());
    assert_eq!(open, Err(SendError::Draining));

    pair.server.reply(call, b"done").unwrap();
    assert_eq!(pair.client.data(stream, b"rest", End::Yes), Ok(4));
    assert!(matches!(pair.reach_client()[..], [Event::Reply { .. }]));
    assert_eq!(pair.reach_server().len(), 2);
    assert!(!pair.server.is_finished());
    pair.server.finish(stream);
    pair.reach_client();
    pair.reach_server();
    assert!(pair.server.is_finished() && pair.client.is_finished());
}

#[test]
fn a_close_says_which_streams_are_served_and_the_others_can_go_elsewhere_at_once() {
    let mut pair = Pair::new();
    let open = v2::StreamOpen::default();
    let kept = pair.open(StreamClass::Data);
    let gone = pair.open(StreamClass::Data);
    pair.client.reset(gone, ErrorCode::NONE);
    pair.reach_server();
    pair.reach_client();
    let other = pair.open(StreamClass::System);
    pair.server.close(ErrorCode::NONE, Duration::from_secs(5));
    let close = take(&mut pair.server, NOW);
    // Both are on their way, and the transport ends before the server sees them.
    let late = pair.client.open(StreamClass::Data, &open).unwrap();
    let late_job = pair.client.job_request(&v2::JobRequest::default()).unwrap();
    let events = give(&mut pair.client, NOW, close);
    let reset = |stream| Event::Reset {
        stream,
        code: ErrorCode::DRAINING,
    };
    assert!(matches!(events[0], Event::Closing { .. }));
    assert_eq!(events.len(), 3);
    assert!(events.contains(&reset(late)) && events.contains(&reset(late_job)));
    for stream in [kept, other] {
        assert_eq!(pair.client.data(stream, b"on", End::Yes), Ok(2));
    }
}

#[test]
fn a_drain_ends_after_its_time() {
    let mut pair = Pair::new();
    pair.open(StreamClass::Data);
    pair.server.close(ErrorCode::NONE, Duration::from_secs(5));
    pair.reach_client();
    assert!(!pair.server.is_finished());
    assert_eq!(pair.server.poll_timeout(), Some(seconds(5)));
    pair.now = seconds(5);
    pair.server.handle_timeout(pair.now);
    assert!(pair.server.is_finished());
}

#[test]
fn nothing_is_sent_before_the_connection_is_ready_or_after_its_end() {
    let mut client = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
    let call = client.call(StreamClass::System, "a/B", b"", None);
    assert_eq!(call, Err(SendError::NotReady));
    let mut pair = Pair::new();
    read_to_error(&mut pair.client, b"junk");
    let call = pair.client.call(StreamClass::System, "a/B", b"", None);
    assert_eq!(call, Err(SendError::Closed));
}

fn valkyrie_hash(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).to_vec()
}
