//! What calls, answers, messages and streams say beside their bodies, and messages on streams.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod pair;

use std::time::Duration;

use valkyrie_frame::{
    ErrorCode, ErrorPayload, Flags, Header, MessageType, Metadata, StreamClass, StreamId,
    TraceContext, TraceMode, v2,
};
use valkyrie_session::{
    CallOptions, End, Envelope, Event, Failure, More, ReplyOptions, Retry, SendError,
};

use pair::*;

const TRACE: TraceContext = TraceContext {
    trace_id: [1; 16],
    parent_id: [2; 8],
    flags: 1,
};

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    let mut metadata = Metadata::new();
    for (name, value) in pairs {
        metadata.insert(name, value.as_bytes()).unwrap();
    }
    metadata
}

fn options(metadata: &Metadata) -> CallOptions<'_> {
    CallOptions {
        deadline: Some(Duration::from_millis(1500)),
        idempotency_key: Some([7; 16]),
        trace: Some(TRACE),
        content_type: "application/json",
        metadata: metadata.view(),
        ..CallOptions::default()
    }
}

fn check(envelope: &Envelope<'_>) {
    assert_eq!(envelope.deadline(), Some(Duration::from_millis(1500)));
    assert_eq!(envelope.idempotency_key(), Some([7; 16]));
    assert_eq!(envelope.trace(), Some(TRACE));
    assert_eq!(envelope.content_type(), "application/json");
}

#[test]
fn calls_and_messages_of_any_length_say_everything() {
    let tenant = metadata(&[("tenant", "blue")]);
    for bytes in [0, 10, 200_000] {
        let mut pair = Pair::new();
        let (class, body) = (StreamClass::Data, vec![5; bytes]);
        let client = &mut pair.client;
        client
            .call_with(class, "a.B/C", &body, &options(&tenant))
            .unwrap();
        client
            .message_with(class, "a.B/M", &body, &options(&tenant))
            .unwrap();
        let mut seen = 0;
        for _ in 0..20 {
            for event in pair.reach_server() {
                let (Event::Call {
                    envelope,
                    body: got,
                    ..
                }
                | Event::Message {
                    envelope,
                    body: got,
                    ..
                }) = event
                else {
                    panic!("{event:?}");
                };
                check(&envelope);
                check(&envelope.clone().into_owned());
                assert_eq!(envelope.metadata(), tenant.view());
                assert_eq!(got[..], body[..]);
                seen += 1;
            }
            pair.reach_client();
        }
        assert_eq!(seen, 2, "{bytes} bytes");
    }
}

#[test]
fn the_trace_byte_of_a_call_points_into_its_frame() {
    let mut pair = Pair::new();
    let none = Metadata::new();
    let class = StreamClass::System;
    pair.client
        .call_with(class, "a.B/C", b"", &options(&none))
        .unwrap();
    let sent = frames(take(&mut pair.client, NOW));
    assert_eq!(sent[0].header.trace.mode(), TraceMode::InFrame);
    assert!(sent[0].header.trace.is_sampled());
}

#[test]
fn an_answer_and_a_failure_bring_metadata_back() {
    let mut pair = Pair::new();
    let told = metadata(&[("cost", "3")]);
    let class = StreamClass::System;
    for _ in 0..2 {
        pair.client.call(class, "a.B/C", b"", None).unwrap();
    }
    let calls: Vec<_> = pair
        .reach_server()
        .into_iter()
        .map(|event| match event {
            Event::Call { call, .. } => call,
            other => panic!("{other:?}"),
        })
        .collect();
    let reply = ReplyOptions {
        content_type: "text/plain",
        metadata: told.view(),
    };
    pair.server.reply_with(calls[0], b"ok", &reply).unwrap();
    let failure = Failure {
        retry: Retry::After(Duration::from_millis(250)),
        metadata: told.view(),
        ..Failure::new(ErrorCode::OVERLOADED, "busy")
    };
    pair.server.reply_failure(calls[1], &failure).unwrap();
    let events = pair.reach_client();
    let [
        Event::Reply { envelope, .. },
        Event::CallFailed {
            envelope: failed,
            retry,
            text,
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(envelope.content_type(), "text/plain");
    assert_eq!(envelope.metadata(), told.view());
    assert_eq!(failed.metadata(), told.view());
    assert_eq!(*retry, Retry::After(Duration::from_millis(250)));
    assert_eq!(text, "busy");
}

#[test]
fn a_stream_is_opened_with_options_and_its_messages_inherit_the_trace() {
    let mut pair = Pair::new();
    let open = v2::StreamOpen {
        method: "a.B/S".to_owned(),
        ..Default::default()
    };
    let none = Metadata::new();
    let stream = pair
        .client
        .open_with(StreamClass::Data, &open, &options(&none))
        .unwrap();
    let plain = ReplyOptions::default();
    pair.client.send(stream, b"m", &plain, End::No).unwrap();
    pair.client.data(stream, b"bytes", End::No).unwrap();
    pair.client.finish(stream);
    let sent = take(&mut pair.client, NOW);
    let traces: Vec<_> = frames(sent).iter().map(|f| f.header.trace.mode()).collect();
    let inherit = TraceMode::Inherit;
    assert_eq!(traces, [TraceMode::InFrame, inherit, inherit, inherit]);
    let events = give(&mut pair.server, NOW, sent);
    let Event::Opened { envelope, .. } = &events[0] else {
        panic!("{events:?}");
    };
    check(envelope);
}

/// Messages as they come out, with what the first frame of each said.
fn messages(events: Vec<Event<'static>>, at: &mut Vec<(Vec<u8>, bool)>, open: &mut Vec<u8>) {
    for event in events {
        if let Event::Data {
            bytes,
            more,
            envelope,
            ..
        } = event
        {
            open.extend_from_slice(&bytes);
            if more == More::No {
                let named = envelope.is_some_and(|envelope| !envelope.metadata().is_empty());
                at.push((std::mem::take(open), named));
            }
        }
    }
}

#[test]
fn messages_keep_their_bounds_on_a_stream_whatever_their_length() {
    let mut pair = Pair::small_windows();
    let stream = pair.open(StreamClass::Data);
    let sizes = [0, 1, 0, 0, 20_000, 70_000, 0, 5];
    let (mut got, mut open, mut next, mut at) = (Vec::new(), Vec::new(), 0, 0);
    let plain = ReplyOptions::default();
    while got.len() < sizes.len() {
        while let Some(bytes) = sizes.get(next) {
            let body = vec![next as u8; *bytes];
            match pair.client.send(stream, &body[at..], &plain, End::No) {
                Ok(count) => at += count,
                Err(error) => assert_eq!(error, SendError::NoCredit { stream }),
            }
            if at < body.len() {
                break;
            }
            (next, at) = (next + 1, 0);
        }
        let events = pair.reach_server();
        for event in &events {
            if let Event::Data { bytes, .. } = event {
                pair.server.consume(stream, bytes.len().max(1));
            }
        }
        messages(events, &mut got, &mut open);
        pair.reach_client();
    }
    let lengths: Vec<_> = got.iter().map(|(bytes, _)| bytes.len()).collect();
    assert_eq!(lengths, sizes);
}

#[test]
fn messages_without_bytes_are_not_free() {
    let mut pair = Pair::small_windows();
    let stream = pair.open(StreamClass::Data);
    let plain = ReplyOptions::default();
    for _ in 0..4096 {
        assert_eq!(pair.client.send(stream, b"", &plain, End::No), Ok(0));
    }
    let error = pair.client.send(stream, b"", &plain, End::No);
    assert_eq!(error, Err(SendError::NoCredit { stream }));
    assert_eq!(pair.reach_server().len(), 4096);
    pair.server.consume(stream, 4096);
    assert_eq!(pair.reach_client(), [Event::Writable { stream }]);
    pair.client.send(stream, b"", &plain, End::Yes).unwrap();
    let events = pair.reach_server();
    assert!(
        matches!(
            &events[..],
            [
                Event::Data { .. },
                Event::Finished {
                    status: ErrorCode::NONE,
                    ..
                }
            ]
        ),
        "a last message without bytes is a message: {events:?}"
    );
}

#[test]
fn metadata_stands_on_the_first_message_or_on_the_end() {
    let told = metadata(&[("cost", "3")]);
    let reply = ReplyOptions {
        metadata: told.view(),
        ..ReplyOptions::default()
    };
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    pair.server.send(stream, b"x", &reply, End::No).unwrap();
    pair.server.finish_with(stream, told.view());
    let events = pair.reach_client();
    let [
        Event::Data {
            envelope: Some(first),
            ..
        },
        Event::Finished {
            envelope: Some(last),
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(first.metadata(), told.view());
    assert_eq!(last.metadata(), told.view());
}

#[test]
fn a_direction_that_fails_says_why_and_leaves_the_other_one() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    let told = metadata(&[("field", "name")]);
    let failure = Failure {
        metadata: told.view(),
        ..Failure::new(ErrorCode(450), "no such name")
    };
    pair.server.fail_stream(stream, &failure);
    let events = pair.reach_client();
    let [
        Event::PeerError { envelope, code, .. },
        Event::Finished { status, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(envelope.metadata(), told.view());
    assert_eq!((*code, *status), (ErrorCode(450), ErrorCode(450)));
    pair.client.finish(stream);
    pair.reach_server();
    assert_eq!(
        (pair.client.streams_open(), pair.server.streams_open()),
        (0, 0)
    );
}

#[test]
fn bad_metadata_refuses_the_message_and_names_the_rule() {
    let mut pair = Pair::new();
    let mut header = Header::new(MessageType::CALL, StreamId(1), 0).with_flags(Flags::EXTENSIONS);
    header.correlation = valkyrie_frame::Correlation::first(3).unwrap();
    let block = b"\x00\x0f\x09\x00\x05a.B/C\x0a\x00\x04\x01A\x00\x00";
    header.length = block.len() as u32;
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(block);
    assert_eq!(give(&mut pair.server, NOW, leak(bytes)), []);
    let said = frames(take(&mut pair.server, NOW));
    let error = ErrorPayload::parse(said[0].body).unwrap();
    assert_eq!(error.code, ErrorCode::MALFORMED);
    assert!(error.text.ends_with("(R-5.9)"), "{}", error.text);
    assert!(pair.server.is_ready());
}
