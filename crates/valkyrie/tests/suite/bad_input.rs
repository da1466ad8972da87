//! Bytes that are not Valkyrie: the connection ends with the right ERROR, a metric is counted, and
//! nobody else notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use valkyrie::frame::{
    Correlation, ErrorPayload, Flags, Frame, FrameLimits, Header, StreamAck, v2,
};
use valkyrie::{
    CloseReason, End, Endpoint, ErrorCode, Event, Handler, Limits, Link, LinkConfig, MessageType,
    Meter, SessionConfig, StreamClass, StreamId, connect,
};

use crate::service::{Recorder, Service};
use crate::{on_every_transport, start};

/// Sends `bytes` and returns the code of the ERROR that comes back before the end. Its text names
/// the rule.
async fn provoke(at: &Endpoint, bytes: &[u8]) -> Option<ErrorCode> {
    let mut connection = valkyrie_transport::connect(at).await.unwrap();
    // The other side may close while this is still being written.
    drop(connection.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(connection.read_to_end(&mut answer).await);
    let mut rest = answer.as_slice();
    let mut code = None;
    while let Some(frame) = Frame::parse(&mut rest, FrameLimits::DEFAULT).unwrap() {
        if frame.header.kind == MessageType::ERROR {
            let error = ErrorPayload::parse(frame.body).unwrap();
            assert!(error.text.contains(" (R-"), "{}", error.text);
            code = Some(error.code);
        }
    }
    code
}

/// Asks whether a connection still works.
async fn echo(link: &Link) {
    let wait = Duration::from_secs(5);
    let answer = link
        .call(StreamClass::System, "test.Echo/Say", b"ok", wait)
        .await;
    assert_eq!(answer.unwrap(), b"ok".as_slice());
}

fn header(kind: MessageType, length: u32) -> Vec<u8> {
    Header::new(kind, StreamId(0), length).to_bytes().to_vec()
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    // Never the magic, or the noise might be the beginning of a frame.
    std::iter::once(0)
        .chain(std::iter::repeat_with(&mut next))
        .take(bytes)
        .collect()
}

#[test]
fn each_kind_of_garbage_is_told_apart_and_leaves_others_alone() {
    on_every_transport("garbage", |endpoint| async move {
        let metrics = telemetry::Metrics::new();
        let meter = Some(Meter::new(&metrics.valkyrie));
        let config = LinkConfig {
            meter,
            ..LinkConfig::default()
        };
        let at = start(&endpoint, config, |_| Service::default()).await;
        let (handler, _events) = Recorder::new();
        let link = connect(&at, LinkConfig::default(), handler).await.unwrap();

        let mut other_version = header(MessageType::HELLO, 0);
        if let Some(version) = other_version.get_mut(2) {
            *version = 9;
        }
        let mut truncated = header(MessageType::HELLO, 3);
        truncated.extend_from_slice(&[0xff, 0xff, 0xff]);
        let early = header(MessageType::PING, 0);
        for (bytes, code) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), ErrorCode::MAGIC),
            (noise(3, 1_000_000), ErrorCode::MAGIC),
            (other_version, ErrorCode::VERSION_MISMATCH),
            (header(MessageType::HELLO, 20_000), ErrorCode::TOO_LARGE),
            (header(MessageType::HELLO, u32::MAX), ErrorCode::TOO_LARGE),
            (truncated, ErrorCode::MALFORMED),
            (early, ErrorCode::UNEXPECTED),
        ] {
            assert_eq!(provoke(&at, &bytes).await, Some(code));
            let text = metrics.encode();
            assert!(
                text.contains(&format!("code=\"{}\"", code.name())),
                "{code} is not counted"
            );
            echo(&link).await;
        }
        let text = metrics.encode();
        assert!(
            text.contains("valkyrie_disconnections_total{reason=\"protocol\"} 7"),
            "{text}"
        );
        assert!(text.contains("valkyrie_connections_active{"), "{text}");
        assert!(text.contains("valkyrie_messages_received_total"), "{text}");
        assert!(!link.is_closed());
    });
}

#[test]
fn a_peer_that_stops_in_the_middle_of_a_frame_is_only_lost() {
    on_every_transport("half", |endpoint| async move {
        let metrics = telemetry::Metrics::new();
        let config = LinkConfig {
            meter: Some(Meter::new(&metrics.valkyrie)),
            ..LinkConfig::default()
        };
        let at = start(&endpoint, config, |_| Service::default()).await;
        let (handler, _events) = Recorder::new();
        let other = connect(&at, LinkConfig::default(), handler).await.unwrap();
        let mut connection = valkyrie_transport::connect(&at).await.unwrap();
        connection
            .write_all(&header(MessageType::HELLO, 100))
            .await
            .unwrap();
        connection.shutdown().await.unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty());
        let text = metrics.encode();
        assert!(
            text.contains("valkyrie_disconnections_total{reason=\"lost\"} 1"),
            "{text}"
        );
        assert!(text.contains("code=\"lost\""), "{text}");
        echo(&other).await;
    });
}

#[test]
fn noise_behind_a_true_beginning_ends_only_its_own_connection() {
    on_every_transport("noise", |endpoint| async move {
        let at = start(&endpoint, LinkConfig::default(), |_| Service::default()).await;
        let (handler, _events) = Recorder::new();
        let link = connect(&at, LinkConfig::default(), handler).await.unwrap();
        let hello = hello(SessionConfig::default());
        for seed in 1..40 {
            let mut early = b"RC\x02".to_vec();
            early.extend(noise(seed, 400).iter().skip(1));
            let length = u32::from_be_bytes(*early.get(12..).unwrap().first_chunk().unwrap());
            assert!(length > 16_384, "a seed whose header asks for more");
            assert_eq!(provoke(&at, &early).await, Some(ErrorCode::TOO_LARGE));
            let late = [&hello[..], &noise(seed, 4000)].concat();
            assert_eq!(provoke(&at, &late).await, Some(ErrorCode::MAGIC));
        }
        echo(&link).await;
    });
}

#[test]
fn a_violation_after_the_handshake_is_told_with_what_was_said_before() {
    on_every_transport("late", |endpoint| async move {
        let config = LinkConfig::default();
        let at = start(&endpoint, config, |_| Service::default()).await;
        let mut bytes = hello(SessionConfig::default());
        let wrong = Header::new(MessageType::STREAM_OPEN, StreamId(1002), 0);
        wrong.with_flags(Flags::NONE).append(&mut bytes);
        assert_eq!(provoke(&at, &bytes).await, Some(ErrorCode::WRONG_RANGE));
    });
}

/// HELLO of a peer with these wishes.
fn hello(session: SessionConfig) -> Vec<u8> {
    let mut hello = Vec::new();
    valkyrie::Session::new(valkyrie_session::Side::Initiator, session, [5; 32])
        .transmit(valkyrie::Time::ZERO, &mut hello);
    hello
}

/// A frame of a peer that is let in.
fn late(kind: MessageType, stream: u32, flags: Flags, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    let header = Header::new(kind, StreamId(stream), length).with_flags(flags);
    let mut bytes = header
        .with_correlation(Correlation(0x1005))
        .to_bytes()
        .to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Ways to break a rule, each with what it is counted as.
fn violations() -> Vec<(Vec<u8>, &'static str, ErrorCode)> {
    let plain = Flags::NONE;
    let open = late(MessageType::STREAM_OPEN, 1001, plain, b"");
    let opened = |then: Vec<u8>| [&open[..], &then].concat();
    let mut endless = Vec::new();
    StreamAck {
        consumed: 0,
        limit: u64::MAX,
    }
    .append(&mut endless);
    let nameless = late(MessageType::CALL, 1, plain, b"x");
    vec![
        (
            late(MessageType::PING, 0, plain, b"short"),
            "protocol",
            ErrorCode::MALFORMED,
        ),
        (
            late(MessageType::HELLO, 0, plain, b""),
            "protocol",
            ErrorCode::UNEXPECTED,
        ),
        (
            late(MessageType::PING, 1, plain, &[0; 8]),
            "stream",
            ErrorCode::WRONG_RANGE,
        ),
        (
            late(MessageType::STREAM_DATA, 1001, plain, b"x"),
            "stream",
            ErrorCode::UNKNOWN_STREAM,
        ),
        (
            late(MessageType::STREAM_ACK, 0, plain, &endless),
            "stream",
            ErrorCode::WINDOW,
        ),
        (opened(open.clone()), "protocol", ErrorCode::UNEXPECTED),
        (
            opened(late(
                MessageType::STREAM_DATA,
                1001,
                Flags::EXTENSIONS,
                &[0, 3, 0xC0, 0, 0],
            )),
            "protocol",
            ErrorCode::CRITICAL_EXTENSION,
        ),
        (nameless, "protocol", ErrorCode::MALFORMED),
        (
            late(MessageType::PING, 0, plain, &[0; 8]).repeat(61),
            "stream",
            ErrorCode::LIMIT,
        ),
    ]
}

/// What `valkyrie_errors_total` says: of one type and code, and of all.
fn errors(metrics: &telemetry::Metrics, class: &str, code: ErrorCode) -> (u64, u64) {
    let (class, code) = (
        format!("type=\"{class}\""),
        format!("code=\"{}\"", code.name()),
    );
    let text = metrics.encode();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("valkyrie_errors_total{"));
    lines.fold((0, 0), |(of_these, all), line| {
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        let these = line.contains(&class) && line.contains(&code);
        (of_these + if these { count } else { 0 }, all + count)
    })
}

#[test]
fn each_violation_is_counted_once_by_type_and_code() {
    on_every_transport("counted", |endpoint| async move {
        let metrics = telemetry::Metrics::new();
        let config = LinkConfig {
            meter: Some(Meter::new(&metrics.valkyrie)),
            ..LinkConfig::default()
        };
        let at = start(&endpoint, config, |_| Service::default()).await;
        let (handler, _events) = Recorder::new();
        let link = connect(&at, LinkConfig::default(), handler).await.unwrap();
        // Where only a stream or a message ends, the peer takes its leave itself.
        let close = late(MessageType::CLOSE, 0, Flags::NONE, &[0; 6]);
        for (wrong, class, code) in violations() {
            let before = errors(&metrics, class, code);
            let bytes = [hello(SessionConfig::default()), wrong, close.clone()].concat();
            assert_eq!(provoke(&at, &bytes).await, Some(code), "{class}");
            let after = errors(&metrics, class, code);
            assert_eq!(after, (before.0 + 1, before.1 + 1), "{class} {code}");
            echo(&link).await;
        }
    });
}

/// Fills every stream as far as its peer allows, and says when a connection has ended.
struct Generous(mpsc::UnboundedSender<&'static str>);

impl Handler for Generous {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        if let Event::Opened { stream, .. } = event {
            let sent = link.session().data(stream, &vec![0; 16 << 20], End::No);
            assert_eq!(sent, Ok(16 << 20));
        }
    }

    fn closed(&mut self, _: &Link, reason: &CloseReason) {
        let _ = self.0.send(reason.label());
    }
}

#[test]
fn a_peer_that_takes_nothing_of_what_it_asked_for_is_dropped() {
    on_every_transport("unread", |endpoint| async move {
        let metrics = telemetry::Metrics::new();
        let config = LinkConfig {
            meter: Some(Meter::new(&metrics.valkyrie)),
            write_stall: Duration::from_millis(100),
            ..LinkConfig::default()
        };
        let (ends, mut ended) = mpsc::unbounded_channel();
        let at = start(&endpoint, config, move |_| Generous(ends.clone())).await;
        let wide = v2::Limits {
            connection_window: u32::MAX,
            class_window: vec![u32::MAX; 4],
            ..Default::default()
        };
        let session = SessionConfig {
            limits: Limits::from_wire(&wide).unwrap(),
            ..SessionConfig::default()
        };
        let mut connection = valkyrie_transport::connect(&at).await.unwrap();
        let open = late(MessageType::STREAM_OPEN, 1001, Flags::NONE, b"");
        let bytes = [hello(session), open].concat();
        connection.write_all(&bytes).await.unwrap();
        assert_eq!(ended.recv().await, Some("write_stalled"));
        let text = metrics.encode();
        let counted = "valkyrie_disconnections_total{reason=\"write_stalled\"} 1";
        assert!(text.contains(counted), "{text}");
    });
}
