//! Streams of messages.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use valkyrie::{Bytes, ErrorCode, Request, Response, Status, Streaming, channel};

use crate::{on_every_transport, start};

async fn all(mut messages: Streaming<Bytes>) -> Result<Vec<Bytes>, Status> {
    let mut got = Vec::new();
    while let Some(message) = messages.message().await? {
        got.push(message);
    }
    Ok(got)
}

#[test]
fn many_requests_have_one_answer() {
    on_every_transport("client-stream", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        for (count, size) in [(0u64, 0usize), (1, 0), (1000, 0), (1000, 10), (20, 300_000)] {
            let messages = (0..count).map(move |_| Bytes::from(vec![1; size]));
            let request = Request::new(valkyrie::iter(messages));
            let total: Response<Bytes> = stub
                .client_stream("test.Probe/Total", request)
                .await
                .unwrap();
            assert_eq!(total.get_ref(), &format!("{count} {}", count * size as u64));
            let counted = total.metadata().get_str("count").map(str::to_owned);
            assert_eq!(counted, Some(count.to_string()));
        }
        assert_eq!(stub.service().link().session().streams_open(), 0);
    });
}

#[test]
fn one_request_has_many_answers_longer_than_all_windows() {
    on_every_transport("server-stream", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        for (count, size) in [(0, 0), (1, 0), (2000, 0), (5000, 100), (3, 3_000_000)] {
            let request = Request::new(Bytes::from(format!("{count} {size}")));
            let answers = stub
                .server_stream("test.Probe/Repeat", request)
                .await
                .unwrap();
            let mut answers: Streaming<Bytes> = answers.into_inner();
            let mut got = 0;
            while let Some(message) = answers.message().await.unwrap() {
                assert_eq!(message.len(), size);
                assert!(message.iter().all(|byte| *byte == got as u8));
                got += 1;
            }
            assert_eq!(got, count);
            let planned = answers.metadata().unwrap();
            assert_eq!(planned.get_str("planned"), Some(count.to_string().as_str()));
        }
    });
}

#[test]
fn both_sides_talk_at_once() {
    on_every_transport("bidi", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        let (sender, receiver) = channel(1);
        let answers = stub.bidirectional("test.Probe/EchoStream", Request::new(receiver));
        let mut answers: Streaming<Bytes> = answers.await.unwrap().into_inner();
        for number in 0..100 {
            let message = Bytes::from(format!("message {number}"));
            sender.send(message.clone()).await.unwrap();
            assert_eq!(answers.message().await.unwrap(), Some(message));
        }
        drop(sender);
        assert_eq!(answers.message().await.unwrap(), None);
    });
}

#[test]
fn hundreds_of_streams_run_side_by_side() {
    on_every_transport("side-by-side", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        let streams = (0..90).map(|number: usize| {
            let stub = stub.clone();
            async move {
                let sizes = [0, 1, number * 100, 70_000];
                let sent: Vec<_> = sizes
                    .map(|size| Bytes::from(vec![number as u8; size]))
                    .into();
                let request = Request::new(valkyrie::iter(sent.clone()));
                let answers = stub
                    .bidirectional("test.Probe/EchoStream", request)
                    .await
                    .unwrap();
                assert_eq!(all(answers.into_inner()).await.unwrap(), sent);
            }
        });
        futures_util::future::join_all(streams).await;
        assert_eq!(stub.service().link().session().streams_open(), 0);
    });
}

#[test]
fn a_failure_comes_behind_the_answers_before_it() {
    on_every_transport("break", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        // More often than a peer may reset streams.
        for _ in 0..300 {
            let request = Request::new(Bytes::from("good"));
            let answers = stub
                .server_stream("test.Probe/Break", request)
                .await
                .unwrap();
            let mut answers: Streaming<Bytes> = answers.into_inner();
            assert_eq!(answers.message().await.unwrap(), Some(Bytes::from("good")));
            let status = answers.message().await.unwrap_err();
            assert_eq!((status.code(), status.text()), (ErrorCode(452), "broken"));
            assert_eq!(answers.message().await.unwrap(), None);
        }
    });
}

#[test]
fn a_service_that_has_heard_enough_stops_the_sender() {
    on_every_transport("enough", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        let (sender, receiver) = channel(1);
        let sending = tokio::task::spawn_local(async move {
            let mut sent = 0u64;
            while sender.send(Bytes::from(vec![3; 1000])).await.is_ok() {
                sent += 1;
            }
            sent
        });
        let request = Request::new(receiver);
        let first: Response<Bytes> = stub
            .client_stream("test.Probe/First", request)
            .await
            .unwrap();
        assert_eq!(first.get_ref().len(), 1000);
        sending.await.unwrap();
        assert_eq!(stub.service().link().session().streams_open(), 0);
    });
}

#[test]
fn a_reader_that_goes_away_ends_the_service() {
    on_every_transport("leave", |endpoint| async move {
        let (_server, stub, probe) = start(&endpoint).await;
        // Also more often than a peer may reset streams.
        for number in 1..=150 {
            let request = Request::new(Bytes::new());
            let answers = stub
                .server_stream("test.Probe/Ticks", request)
                .await
                .unwrap();
            let mut answers: Streaming<Bytes> = answers.into_inner();
            assert_eq!(answers.message().await.unwrap(), Some(Bytes::from("tick")));
            drop(answers);
            if number <= 50 {
                probe.dropped(number).await;
            }
        }
        probe.dropped(150).await;
        assert!(!stub.service().link().is_closed());
    });
}

#[test]
fn a_slow_reader_holds_back_its_own_sender_only() {
    on_every_transport("slow", |endpoint| async move {
        let (_server, stub, probe) = start(&endpoint).await;
        let sent = Rc::new(Cell::new(0));
        let counted = Rc::clone(&sent);
        let (sender, receiver) = channel(1);
        tokio::task::spawn_local(async move {
            while sender.send(Bytes::from(vec![0; 10_000])).await.is_ok() {
                counted.set(counted.get() + 10_000);
            }
        });
        let request = Request::new(receiver);
        let deaf = stub.client_stream::<_, Bytes, _>("test.Probe/Deaf", request);
        let others = async {
            probe.running(1).await;
            // Far more than the window of the stream goes by beside it.
            for _ in 0..1000 {
                let request = Request::new(Bytes::from(vec![1; 1000]));
                let answer = stub.unary::<_, Bytes>("test.Probe/Echo", request).await;
                answer.unwrap();
            }
        };
        let (deaf, others) = (Box::pin(deaf), Box::pin(others));
        let futures_util::future::Either::Right(((), deaf)) =
            futures_util::future::select(deaf, others).await
        else {
            panic!("nobody answers the first");
        };
        // The window, and what waits at both ends of it.
        let most = 256 * 1024 + 4 * 10_000;
        assert!((100_000..=most).contains(&sent.get()), "{}", sent.get());
        drop(deaf);
        probe.dropped(1).await;
    });
}

#[test]
fn the_deadline_of_a_stream_holds_at_both_ends() {
    on_every_transport("stream-deadline", |endpoint| async move {
        let (_server, stub, probe) = start(&endpoint).await;
        let soon = Duration::from_millis(30);
        let request = Request::new(Bytes::new()).with_timeout(soon);
        let answers = stub
            .server_stream("test.Probe/Ticks", request)
            .await
            .unwrap();
        let answers: Streaming<Bytes> = answers.into_inner();
        let ended: Result<Vec<_>, _> = answers.try_collect().await;
        assert_eq!(ended.unwrap_err().code(), ErrorCode::TIMEOUT);
        probe.dropped(1).await;

        let (_sender, receiver) = channel::<Bytes>(1);
        let request = Request::new(receiver).with_timeout(soon);
        let status = stub
            .client_stream::<_, Bytes, _>("test.Probe/Deaf", request)
            .await;
        assert_eq!(status.unwrap_err().code(), ErrorCode::TIMEOUT);
        probe.dropped(2).await;
    });
}

#[test]
fn a_message_over_the_limit_fails_its_stream_alone() {
    on_every_transport("long", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        let long = Bytes::from(vec![0; valkyrie::limits::MESSAGE_BYTES_MAX + 1]);
        let request = Request::new(valkyrie::iter([long]));
        let total = stub
            .client_stream::<_, Bytes, _>("test.Probe/Total", request)
            .await;
        assert_eq!(total.unwrap_err().code(), ErrorCode::TOO_LARGE);
        let request = Request::new(Bytes::from("1 5000000"));
        let answers = stub
            .server_stream("test.Probe/Repeat", request)
            .await
            .unwrap();
        let answers: Streaming<Bytes> = answers.into_inner();
        let ended: Vec<_> = answers.collect().await;
        assert_eq!(ended[0].as_ref().unwrap_err().code(), ErrorCode::TOO_LARGE);
        stub.unary::<_, Bytes>("test.Probe/Echo", Request::new(Bytes::new()))
            .await
            .unwrap();
    });
}

#[test]
fn a_source_that_fails_gives_the_call_up() {
    on_every_transport("source", |endpoint| async move {
        let (_server, stub, probe) = start(&endpoint).await;
        let (sender, receiver) = channel::<Bytes>(1);
        let request = Request::new(receiver);
        let call = stub.client_stream::<_, Bytes, _>("test.Probe/Deaf", request);
        let (answer, ()) = futures_util::future::join(call, async {
            probe.running(1).await;
            sender.fail(Status::internal("no more")).await.unwrap();
        })
        .await;
        assert_eq!(answer.unwrap_err().text(), "no more");
        probe.dropped(1).await;
    });
}
