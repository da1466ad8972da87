//! UPGRADE: a session goes on over another transport.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod pair;

use std::time::Duration;

use prost::Message;
use valkyrie_frame::{
    ErrorCode, Flags, Header, MessageType, StreamClass, StreamId, Time, features, v2,
};
use valkyrie_session::{End, Event, SendError, Session, SessionConfig, Side};

use pair::*;

const TOKEN: [u8; 32] = [0x5A; 32];
const VALID: Duration = Duration::from_secs(10);

fn config() -> SessionConfig {
    SessionConfig {
        features: features::OBSERVE | features::UPGRADE,
        ..SessionConfig::default()
    }
}

/// The server has offered and the client knows.
fn offered() -> Pair {
    let mut pair = Pair::with(config(), config());
    let endpoint = "valkyrie+unix:///v.sock";
    pair.server.offer_upgrade(endpoint, TOKEN, VALID).unwrap();
    let expected = Event::UpgradeOffered {
        endpoint: endpoint.to_owned(),
        token: TOKEN,
        valid: VALID,
    };
    assert_eq!(pair.reach_client(), [expected]);
    pair
}

/// The first words on the new transport, from HELLO to HELLO_ACK.
fn join(pair: &mut Pair) {
    let joining = pair.client.joining(&TOKEN, [3; 32]);
    let mut fresh = Session::new(Side::Acceptor, config(), [4; 32]);
    let hello = leak(joining.hello().to_vec());
    let events = give(&mut fresh, NOW, hello);
    let [Event::Resume(resume)] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(pair.server.redeem(&resume.token));
    let answer = pair.server.welcome(resume, [5; 32]);
    for cut in 0..answer.len() {
        assert_eq!(joining.check(answer.get(..cut).unwrap()), Ok(false));
    }
    assert_eq!(joining.check(&answer), Ok(true));
}

/// Transmits until nothing comes and, when the mark is out, what follows it: the bytes for the
/// old transport and those for the new.
fn take_both(from: &mut Session) -> (&'static [u8], &'static [u8]) {
    let old = take(from, NOW);
    if !from.has_left() {
        return (old, &[]);
    }
    assert_eq!(
        from.transmit(NOW, &mut Vec::new()),
        0,
        "nothing before the owner is ready"
    );
    from.sends_on_new();
    (old, take(from, NOW))
}

fn data(events: &[Event<'static>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        if let Event::Data { bytes: part, .. } = event {
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

#[test]
fn a_stream_and_a_call_go_on_over_the_new_transport_without_a_byte_lost() {
    let mut pair = offered();
    let stream = pair.open(StreamClass::Data);
    let call = pair
        .client
        .call(StreamClass::System, "a/B", b"?", None)
        .unwrap();
    let [Event::Call { call: asked, .. }] = pair.reach_server()[..] else {
        panic!();
    };
    join(&mut pair);
    pair.client.data(stream, b"one ", End::No).unwrap();
    assert!(pair.client.leave());
    pair.client.data(stream, b"two ", End::No).unwrap();
    let (old, new) = take_both(&mut pair.client);
    let kinds: Vec<_> = frames(old).iter().map(|frame| frame.header.kind).collect();
    assert_eq!(kinds, [MessageType::STREAM_DATA, MessageType::UPGRADE]);

    pair.server.data(stream, b"early", End::No).unwrap();
    let mut events = give(&mut pair.server, NOW, old);
    assert_eq!(events.pop(), Some(Event::PeerLeft));
    pair.server.reads_on_new();
    events.extend(give(&mut pair.server, NOW, new));
    assert_eq!(data(&events), b"one two ");
    pair.server.data(stream, b" late", End::Yes).unwrap();
    pair.server.reply(asked, b"!").unwrap();

    let (old, new) = take_both(&mut pair.server);
    assert_eq!(pair.server.poll_event(), Some(Event::Moved));
    let mut events = give(&mut pair.client, NOW, old);
    assert_eq!(events.pop(), Some(Event::PeerLeft));
    pair.client.reads_on_new();
    events.extend(give(&mut pair.client, NOW, new));
    assert_eq!(data(&events), b"early late");
    assert!(events.contains(&Event::Moved));
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Reply { call: of, .. } if *of == call))
    );
    assert!(!pair.client.is_moving() && !pair.server.is_moving());

    // And again, the other way round.
    pair.client.data(stream, b"", End::Yes).unwrap();
    pair.reach_server();
    pair.client
        .offer_upgrade("valkyrie+mem://x", [6; 32], VALID)
        .unwrap();
    assert!(matches!(
        pair.reach_server()[..],
        [Event::UpgradeOffered { .. }]
    ));
}

#[test]
fn a_sender_that_never_rests_does_not_put_the_move_off() {
    let mut pair = offered();
    let stream = pair.open(StreamClass::Data);
    join(&mut pair);
    pair.client.data(stream, &[1; 200_000], End::No).unwrap();
    assert!(pair.client.leave());
    let (mut out, mut old) = (Vec::new(), 0);
    while !pair.client.has_left() {
        // A frame more than leaves.
        pair.client.data(stream, &[2; 10], End::No).unwrap();
        old += pair.client.transmit(NOW, &mut out);
    }
    assert!(old < 201_000, "{old} bytes before the mark");
}

#[test]
fn a_token_is_good_for_one_connection_and_for_its_time() {
    let mut pair = offered();
    assert!(!pair.server.redeem(&[0; 32]));
    pair.server.tick(NOW + VALID);
    assert!(!pair.server.redeem(&TOKEN), "its time is over");
    let mut pair = offered();
    assert!(pair.server.redeem(&TOKEN));
    assert!(!pair.server.redeem(&TOKEN), "it was used");

    let mut fresh = Session::new(Side::Acceptor, config(), [4; 32]);
    let hello = leak(pair.client.joining(&TOKEN, [3; 32]).hello().to_vec());
    give(&mut fresh, NOW, hello);
    fresh.refuse_resume();
    let error = fresh.failure().unwrap();
    assert_eq!(error.code(), ErrorCode::DENIED);
    assert!(error.to_string().contains("R-20.4"), "{error}");
    assert_eq!(
        frames(take(&mut fresh, NOW))[0].header.kind,
        MessageType::ERROR
    );
}

#[test]
fn an_offer_that_comes_to_nothing_leaves_the_session_where_it_is() {
    let mut pair = offered();
    let stream = pair.open(StreamClass::Data);
    pair.client
        .decline_upgrade(ErrorCode::UNREACHABLE, "no such socket");
    let declined = Event::UpgradeDeclined {
        code: ErrorCode::UNREACHABLE,
        text: "no such socket".to_owned(),
    };
    assert_eq!(pair.reach_server(), [declined]);
    assert!(!pair.client.leave(), "the offer is gone");
    assert!(!pair.server.redeem(&TOKEN));
    // A connection that came and broke again.
    pair.server.offer_upgrade("x", TOKEN, VALID).unwrap();
    pair.reach_client();
    join(&mut pair);
    pair.server.forget_move();
    pair.client.decline_upgrade(ErrorCode::LOST, "");
    assert_eq!(pair.reach_server(), []);
    pair.client.data(stream, b"on", End::Yes).unwrap();
    assert_eq!(data(&pair.reach_server()), b"on");
    assert!(pair.server.offer_upgrade("x", TOKEN, VALID).is_ok());
}

#[test]
fn an_answer_on_the_new_transport_that_is_not_ours_is_refused() {
    let pair = offered();
    let joining = pair.client.joining(&TOKEN, [3; 32]);
    let other = pair.client.joining(&TOKEN, [9; 32]);
    let answer = |joining: &valkyrie_session::Joining| {
        let mut fresh = Session::new(Side::Acceptor, config(), [4; 32]);
        let events = give(&mut fresh, NOW, leak(joining.hello().to_vec()));
        let [Event::Resume(resume)] = &events[..] else {
            panic!("{events:?}");
        };
        pair.server.welcome(resume, [5; 32])
    };
    let error = joining.check(&answer(&other)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DOWNGRADE);
    let mut more = answer(&joining);
    more.push(0);
    assert_eq!(joining.check(&more).unwrap_err().rule().as_str(), "R-20.5");
    let ping = frame(MessageType::PING, 0, Flags::NONE, &[0; 8]);
    assert_eq!(
        joining.check(&ping).unwrap_err().code(),
        ErrorCode::UNEXPECTED
    );
    assert_eq!(
        joining.check(b"GET /").unwrap_err().code(),
        ErrorCode::MAGIC
    );
}

#[test]
fn of_two_offers_that_cross_the_acceptors_holds() {
    let mut pair = Pair::with(config(), config());
    pair.client.offer_upgrade("c", [1; 32], VALID).unwrap();
    pair.server.offer_upgrade("s", TOKEN, VALID).unwrap();
    let to_server = take(&mut pair.client, NOW);
    assert!(matches!(
        pair.reach_client()[..],
        [Event::UpgradeOffered { .. }]
    ));
    assert_eq!(give(&mut pair.server, NOW, to_server), []);
    assert!(!pair.client.redeem(&[1; 32]), "void");
    join(&mut pair);
    assert!(pair.client.leave());
}

#[test]
fn without_the_feature_no_offer_is_made_and_one_that_comes_is_skipped() {
    let mut pair = Pair::with(config(), SessionConfig::default());
    let kind = MessageType::UPGRADE;
    let offer = pair.client.offer_upgrade("x", TOKEN, VALID);
    assert_eq!(offer, Err(SendError::NotAgreed { kind }));
    let bytes = frame(kind, 0, Flags::ACK, b"");
    assert_eq!(give(&mut pair.server, NOW, leak(bytes)), []);
    assert_eq!(pair.server.counters().skipped, 1);
}

fn upgrade(wire: &v2::Upgrade) -> &'static [u8] {
    let body = wire.encode_to_vec();
    leak(frame(MessageType::UPGRADE, 0, Flags::NONE, &body))
}

#[test]
fn offers_and_marks_that_break_a_rule_end_the_connection() {
    let wire = |endpoint: &str, token: &[u8]| v2::Upgrade {
        endpoint: endpoint.to_owned(),
        token: token.to_vec(),
        valid_ms: 1000,
        ..Default::default()
    };
    let mark = leak(frame(MessageType::UPGRADE, 0, Flags::ACK, b""));
    for (bytes, rule) in [
        (upgrade(&wire("x", &[1; 31])), "R-20.2"),
        (upgrade(&wire("x", &[])), "R-20.2"),
        (upgrade(&wire(&"x".repeat(1025), &TOKEN)), "R-20.2"),
        (
            leak(frame(MessageType::UPGRADE, 0, Flags::NONE, b"\xFF")),
            "R-4.5",
        ),
        (
            leak(frame(MessageType::UPGRADE, 1, Flags::NONE, b"")),
            "R-4.2",
        ),
        (mark, "R-20.6"),
    ] {
        let mut pair = Pair::with(config(), config());
        let error = read_to_error(&mut pair.server, bytes);
        assert!(error.to_string().contains(rule), "{error}");
    }
    // Offered, but nobody has come: the mark moves nothing.
    let error = read_to_error(&mut offered().server, mark);
    assert!(error.to_string().contains("R-20.6"), "{error}");
    // A frame behind the mark, on the old transport.
    let mut pair = offered();
    join(&mut pair);
    let mut bytes = mark.to_vec();
    Header::new(MessageType::PING, StreamId::CONTROL, 8).append(&mut bytes);
    bytes.extend_from_slice(&[0; 8]);
    let error = read_to_error(&mut pair.server, leak(bytes));
    assert!(error.to_string().contains("R-20.6"), "{error}");
    // An offer while the session moves.
    let mut pair = offered();
    join(&mut pair);
    let error = read_to_error(&mut pair.server, upgrade(&wire("x", &TOKEN)));
    assert!(error.to_string().contains("R-20.2"), "{error}");
}

#[test]
fn somebody_with_a_token_says_nothing_more_before_the_answer() {
    let pair = offered();
    let joining = pair.client.joining(&TOKEN, [3; 32]);
    let mut fresh = Session::new(Side::Acceptor, config(), [4; 32]);
    let mut twice = joining.hello().to_vec();
    twice.extend_from_slice(joining.hello());
    let error = read_to_error(&mut fresh, leak(twice));
    assert_eq!(error.code(), ErrorCode::UNEXPECTED);
    // And is not waited for longer than anybody else.
    let mut fresh = Session::new(Side::Acceptor, config(), [4; 32]);
    give(&mut fresh, NOW, leak(joining.hello().to_vec()));
    assert_eq!(fresh.poll_timeout(), Some(seconds(10)));
    fresh.handle_timeout(seconds(10));
    assert_eq!(fresh.failure().unwrap().code(), ErrorCode::TIMEOUT);
    assert!(fresh.poll_timeout().is_none_or(|at| at > Time::ZERO));
}
