//! What works over every transport.

use std::time::Duration;

use futures_util::future::join_all;
use valkyrie::frame::{LogChannel, LogRecord};
use valkyrie::{CallError, End, ErrorCode, LinkConfig, MessageType, StreamClass, connect, v2};

use crate::service::{CLASS, Recorder, Seen, Service};
use crate::{on_every_transport, start};

const WAIT: Duration = Duration::from_secs(10);

fn open(method: &str) -> v2::StreamOpen {
    v2::StreamOpen {
        method: method.to_owned(),
        ..Default::default()
    }
}

#[test]
fn calls_of_every_class_and_size_are_answered() {
    on_every_transport("calls", |endpoint| async move {
        let config = LinkConfig::default();
        let at = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (handler, _events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        for class in StreamClass::WITH_STREAMS {
            for bytes in [0, 1, 1000, 40_000, 700_000] {
                let body = vec![3; bytes];
                let answer = link
                    .call(class, "test.Echo/Say", &body, WAIT)
                    .await
                    .unwrap();
                assert_eq!(answer, body);
            }
        }
        let error = link
            .call(StreamClass::System, "no/Such", b"", WAIT)
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            CallError::Failed {
                code: ErrorCode::UNREACHABLE,
                ..
            }
        ));
    });
}

#[test]
fn many_calls_at_once_get_their_own_answers() {
    on_every_transport("many", |endpoint| async move {
        let config = LinkConfig::default();
        let at = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (handler, _events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        let calls = (0..2000u32).map(|number| {
            let link = link.clone();
            async move {
                let body = number.to_be_bytes();
                let answer = link
                    .call(StreamClass::Jobs, "test.Echo/Say", &body, WAIT)
                    .await;
                assert_eq!(answer.unwrap(), body.as_slice());
            }
        });
        join_all(calls).await;
        assert!(link.session().is_idle());
    });
}

#[test]
fn a_call_without_answer_fails_at_its_deadline_and_a_dropped_one_is_canceled() {
    on_every_transport("deadline", |endpoint| async move {
        let config = LinkConfig::default();
        let at = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (handler, _events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        let soon = Duration::from_millis(20);
        let error = link
            .call(CLASS, "test.Slow/Never", b"", soon)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                CallError::Failed {
                    code: ErrorCode::TIMEOUT,
                    ..
                }
            ),
            "{error}"
        );
        let slow = link.call(CLASS, "test.Slow/Never", b"", WAIT);
        assert!(tokio::time::timeout(soon, slow).await.is_err());
        assert!(link.session().is_idle());
    });
}

#[test]
fn a_stream_echoes_more_than_all_windows() {
    on_every_transport("stream", |endpoint| async move {
        let config = LinkConfig::default();
        let at = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (handler, mut events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        let sent: Vec<u8> = (0..6_000_000u32).map(|i| (i % 241) as u8).collect();
        let stream = link
            .session()
            .open(CLASS, &open("test.Echo/Stream"))
            .unwrap();
        let (mut at, mut got) = (0, Vec::new());
        while got.len() < sent.len() {
            let rest = sent.get(at..).unwrap();
            if !rest.is_empty() {
                at += link.session().data(stream, rest, End::No).unwrap();
            }
            match events.recv().await.unwrap() {
                Seen::Data(bytes) => got.extend_from_slice(&bytes),
                Seen::Closed(reason) => panic!("{reason}"),
                _ => {}
            }
        }
        assert!(got == sent);
        link.session().finish(stream);
        while events.recv().await.unwrap() != Seen::Finished(stream) {}
        assert_eq!(link.session().streams_open(), 0);
    });
}

#[test]
fn a_short_call_behind_long_frames_is_heard_in_the_bulk_profile() {
    on_every_transport("bulk", |endpoint| async move {
        let config = LinkConfig::bulk();
        let at = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (handler, mut events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        let stream = link
            .session()
            .open(StreamClass::Data, &open("test.Echo/Stream"))
            .unwrap();
        let sent = vec![9; 200_000];
        for _ in 0..20 {
            let (mut at, mut got) = (0, 0);
            while got < sent.len() {
                let rest = sent.get(at..).unwrap();
                if !rest.is_empty() {
                    at += link.session().data(stream, rest, End::No).unwrap();
                }
                match events.recv().await.unwrap() {
                    Seen::Data(bytes) => got += bytes.len(),
                    Seen::Closed(reason) => panic!("{reason}"),
                    _ => {}
                }
            }
            let answer = link.call(CLASS, "test.Echo/Say", b"short", WAIT).await;
            assert_eq!(answer.unwrap(), &b"short"[..]);
        }
    });
}

#[test]
fn a_log_resumes_and_its_durable_offset_comes_back() {
    on_every_transport("log", |endpoint| async move {
        let config = LinkConfig::default();
        let at = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (handler, mut events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        let stream = link
            .session()
            .open(StreamClass::Logs, &open("test.Log/Append"))
            .unwrap();
        while events.recv().await.unwrap() != Seen::Accepted(stream, 500) {}
        let mut batch = Vec::new();
        for _ in 0..1000 {
            let channel = LogChannel::STDOUT;
            LogRecord {
                unix_ns: 1,
                step: 0,
                channel,
                bytes: &[b'l'; 85],
            }
            .append(&mut batch)
            .unwrap();
        }
        let (mut offset, mut durable) = (500u64, 500u64);
        for _ in 0..40 {
            while link.session().log_credit(stream) < offset + batch.len() as u64 {
                if let Seen::Durable(at) = events.recv().await.unwrap() {
                    assert!(at >= durable);
                    durable = at;
                }
            }
            link.session().log(stream, offset, &batch).unwrap();
            offset += batch.len() as u64;
        }
        link.session().finish(stream);
        while durable < offset {
            if let Seen::Durable(at) = events.recv().await.unwrap() {
                durable = at;
            }
        }
        assert_eq!(durable, 500 + 40 * 100_000);
        while events.recv().await.unwrap() != Seen::Finished(stream) {}
    });
}

#[test]
fn a_file_comes_whole_or_from_where_it_was_left() {
    on_every_transport("file", |endpoint| async move {
        let config = LinkConfig::default();
        let at = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (handler, mut events) = Recorder::new();
        let link = connect(&at, config, handler.clone()).await.unwrap();
        for begin in [0, 654_321] {
            *handler.resume_at.borrow_mut() = begin;
            let stream = link.session().open(CLASS, &open("test.File/Get")).unwrap();
            let mut at = begin;
            loop {
                match events.recv().await.unwrap() {
                    Seen::FileChunk(offset, bytes) => {
                        assert_eq!(offset, at);
                        at += bytes as u64;
                    }
                    Seen::FileComplete => break,
                    Seen::FileStart(on, size) => assert_eq!((on, size), (stream, 1_000_000)),
                    _ => {}
                }
            }
            assert_eq!(at, 1_000_000);
        }
    });
}

#[test]
fn a_job_is_pushed_run_and_acknowledged() {
    on_every_transport("job", |endpoint| async move {
        let config = LinkConfig::default();
        let at = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (handler, mut events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        link.call(StreamClass::System, "test.Job/Give", b"", WAIT)
            .await
            .unwrap();
        let stream = loop {
            if let Seen::Job(stream, kind) = events.recv().await.unwrap() {
                assert_eq!(kind, MessageType::JOB_REQUEST);
                break stream;
            }
        };
        let accept = v2::JobAccept::default();
        link.session()
            .job(stream, MessageType::JOB_ACCEPT, &accept, End::No)
            .unwrap();
        let complete = v2::JobComplete::default();
        link.session()
            .job(stream, MessageType::JOB_COMPLETE, &complete, End::Yes)
            .unwrap();
        while events.recv().await.unwrap() != Seen::JobAcked(MessageType::JOB_COMPLETE) {}
        assert_eq!(link.session().streams_open(), 0);
    });
}
