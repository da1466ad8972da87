//! How connections with calls on them end.

use std::time::Duration;

use valkyrie::{Bytes, ErrorCode, Request, Response, Retry, Streaming, channel};

use crate::{on_every_transport, start};

const DRAIN: Duration = Duration::from_secs(10);

#[test]
fn a_server_that_shuts_down_serves_the_last_stream() {
    on_every_transport("shutdown", |endpoint| async move {
        let (server, stub, _probe) = start(&endpoint).await;
        let (sender, receiver) = channel(1);
        let answers = stub.bidirectional("test.Probe/EchoStream", Request::new(receiver));
        let mut answers: Streaming<Bytes> = answers.await.unwrap().into_inner();
        let later = stub
            .service()
            .call("test.Probe/Later", Request::new(Bytes::from("late")));
        sender.send(Bytes::from("before")).await.unwrap();
        assert_eq!(
            answers.message().await.unwrap(),
            Some(Bytes::from("before"))
        );

        let down = tokio::task::spawn_local(server.shutdown(DRAIN));
        assert_eq!(later.await.unwrap().into_inner(), "late");
        while !stub.service().link().session().is_closing() {
            tokio::task::yield_now().await;
        }
        sender.send(Bytes::from("during")).await.unwrap();
        assert_eq!(
            answers.message().await.unwrap(),
            Some(Bytes::from("during"))
        );
        let refused = stub
            .unary::<_, Bytes>("test.Probe/Echo", Request::new(Bytes::new()))
            .await;
        let status = refused.unwrap_err();
        assert_eq!(status.code(), ErrorCode::DRAINING);
        assert!(matches!(status.retry(), Retry::After(_)));

        drop(sender);
        assert_eq!(answers.message().await.unwrap(), None);
        down.await.unwrap();
        stub.service().link().closed().await;
    });
}

#[test]
fn what_takes_longer_than_the_drain_is_cut() {
    on_every_transport("cut", |endpoint| async move {
        let (server, stub, probe) = start(&endpoint).await;
        let never = stub
            .service()
            .call("test.Probe/Never", Request::new(Bytes::new()));
        probe.running(1).await;
        server.shutdown(Duration::from_millis(30)).await;
        assert_eq!(never.await.unwrap_err().code(), ErrorCode::LOST);
        probe.dropped(1).await;
    });
}

#[test]
fn a_peer_that_dies_fails_everything_on_its_connection() {
    on_every_transport("death", |endpoint| async move {
        let (_server, stub, probe) = start(&endpoint).await;
        let client = stub.service().clone();
        let unanswered = client.call("test.Probe/Never", Request::new(Bytes::new()));
        let (sender, receiver) = channel(1);
        let talking = stub.bidirectional("test.Probe/EchoStream", Request::new(receiver));
        let mut talking: Streaming<Bytes> = talking.await.unwrap().into_inner();
        sender.send(Bytes::from("half")).await.unwrap();
        assert_eq!(talking.message().await.unwrap(), Some(Bytes::from("half")));
        let ticks = stub
            .server_stream("test.Probe/Ticks", Request::new(Bytes::new()))
            .await;
        let mut ticks: Streaming<Bytes> = ticks.unwrap().into_inner();
        ticks.message().await.unwrap();
        probe.running(2).await;

        client.link().abort();
        client.link().closed().await;
        // It may have been handled, unlike what comes after the end.
        let unanswered = unanswered.await.unwrap_err();
        assert_eq!(unanswered.code(), ErrorCode::LOST);
        assert_eq!(unanswered.retry(), Retry::No);
        assert_eq!(talking.message().await.unwrap_err().code(), ErrorCode::LOST);
        loop {
            match ticks.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the end of a stream that was cut"),
                Err(status) => break assert_eq!(status.code(), ErrorCode::LOST),
            }
        }
        // The other side hears of it, too, and drops what ran for this one.
        probe.dropped(2).await;
        let after = stub
            .unary::<_, Bytes>("test.Probe/Echo", Request::new(Bytes::new()))
            .await;
        let after = after.unwrap_err();
        assert_eq!(after.code(), ErrorCode::LOST);
        assert!(matches!(after.retry(), Retry::After(_)));
        let opened = stub.server_stream::<_, Bytes>("test.Probe/Ticks", Request::new(Bytes::new()));
        assert_eq!(opened.await.unwrap_err().code(), ErrorCode::LOST);
        assert!(sender.send(Bytes::new()).await.is_err());
    });
}

#[test]
fn the_last_handle_closes_the_connection_when_its_streams_have_ended() {
    on_every_transport("last", |endpoint| async move {
        let (server, stub, _probe) = start(&endpoint).await;
        let request = Request::new(Bytes::from("100 5000"));
        let answers = stub
            .server_stream("test.Probe/Repeat", request)
            .await
            .unwrap();
        let mut answers: Streaming<Bytes> = answers.into_inner();
        let link = stub.service().link().clone();
        drop(stub);
        let mut got = 0;
        while answers.message().await.unwrap().is_some() {
            got += 1;
        }
        assert_eq!(got, 100);
        link.closed().await;
        while server.connections() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn answers_that_wait_are_read_after_the_connection_has_gone() {
    on_every_transport("after", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        let calls: Vec<_> = (0..3)
            .map(|_| {
                stub.service()
                    .call("test.Probe/Echo", Request::new(Bytes::from("kept")))
            })
            .collect();
        stub.service().close(DRAIN).await;
        for call in calls {
            let answer: Response<Bytes> = call.await.unwrap();
            assert_eq!(answer.into_inner(), "kept");
        }
    });
}
