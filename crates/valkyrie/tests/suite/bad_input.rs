//! Bytes that are not Valkyrie: the connection ends with the right ERROR, a metric is counted, and
//! nobody else notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use valkyrie::frame::{ErrorPayload, Flags, Frame, FrameLimits, Header};
use valkyrie::{
    Endpoint, ErrorCode, Link, LinkConfig, MessageType, Meter, StreamClass, StreamId, connect,
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
        let session = valkyrie::SessionConfig::default();
        let mut hello = Vec::new();
        valkyrie::Session::new(valkyrie_session::Side::Initiator, session, [5; 32])
            .transmit(valkyrie::Time::ZERO, &mut hello);
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
        let mut bytes = Vec::new();
        let session = valkyrie::SessionConfig::default();
        let side = valkyrie_session::Side::Initiator;
        let mut client = valkyrie::Session::new(side, session, [5; 32]);
        client.transmit(valkyrie::Time::ZERO, &mut bytes);
        let wrong = Header::new(MessageType::STREAM_OPEN, StreamId(1002), 0);
        wrong.with_flags(Flags::NONE).append(&mut bytes);
        assert_eq!(provoke(&at, &bytes).await, Some(ErrorCode::WRONG_RANGE));
    });
}
