//! Calls and messages.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use valkyrie::{
    Bytes, ErrorCode, Json, Link, LocalClient, Metadata, Raw, Request, Response, Retry, Router,
    Server, Service, Status, StreamClass, Stub,
};

use crate::{on_every_transport, service, start};

#[test]
fn a_router_for_each_connection_remembers_what_its_client_said() {
    on_every_transport("each", |endpoint| async move {
        let make = |_: &Link| {
            let said = Cell::new(0);
            let count = move |_: Request<Bytes>| {
                said.set(said.get() + 1);
                let count = said.get();
                async move { Ok(Response::new(Bytes::from(format!("{count}")))) }
            };
            Router::new().with(Service::new("test.Each", Raw).unary("Count", count))
        };
        let server = Server::builder()
            .listen_each(&endpoint, make)
            .await
            .unwrap();
        for _ in 0..2 {
            let client = LocalClient::connect(server.endpoint()).await.unwrap();
            for expected in ["1", "2", "3"] {
                let request = Request::new(Bytes::new());
                let answer = client.call("test.Each/Count", request).await.unwrap();
                assert_eq!(answer.into_inner(), expected);
            }
        }
    });
}

#[test]
fn calls_of_every_size_are_answered_with_what_stands_beside() {
    on_every_transport("echo", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        for bytes in [0, 1, 70_000, 1_000_000] {
            let mut metadata = Metadata::new();
            metadata.insert("tenant", b"blue").unwrap();
            let mut request = Request::new(Bytes::from(vec![7; bytes]));
            *request.metadata_mut() = metadata.clone();
            let request = request
                .with_class(StreamClass::Data)
                .with_content_type("a/b");
            let answer: Response<Bytes> = stub.unary("test.Probe/Echo", request).await.unwrap();
            assert_eq!(answer.get_ref().len(), bytes);
            assert_eq!(answer.metadata(), &metadata);
            assert_eq!(answer.content_type(), "a/b");
        }
    });
}

#[test]
fn a_failure_comes_back_as_its_status() {
    on_every_transport("fail", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        let request = Request::new(Bytes::from("no such name"));
        let status = stub
            .unary::<_, Bytes>("test.Probe/Fail", request)
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), status.text()),
            (ErrorCode(451), "no such name")
        );
        assert_eq!(status.metadata().get_str("field"), Some("name"));
    });
}

#[test]
fn what_is_not_there_or_called_the_wrong_way_is_104() {
    on_every_transport("missing", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        let one = || Request::new(Bytes::new());
        for method in [
            "test.Probe/Nothing",
            "other.Service/Echo",
            "test.Probe/Total",
        ] {
            let status = stub.unary::<_, Bytes>(method, one()).await.unwrap_err();
            assert_eq!(status.code(), ErrorCode::UNEXPECTED, "{method}");
            assert_eq!(status.retry(), Retry::No);
        }
        for method in ["test.Probe/Nothing", "test.Probe/Echo"] {
            let answers = stub.server_stream::<_, Bytes>(method, one()).await.unwrap();
            let status = answers.into_inner().message().await.unwrap_err();
            assert_eq!(status.code(), ErrorCode::UNEXPECTED, "{method}");
        }
        stub.unary::<_, Bytes>("test.Probe/Echo", one())
            .await
            .unwrap();
    });
}

#[test]
fn many_calls_at_once_and_more_than_the_peer_takes_get_their_own_answers() {
    on_every_transport("many", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        let calls = (0..10_000u32).map(|number| {
            let stub = stub.clone();
            async move {
                let method = match number % 3 {
                    0 => "test.Probe/Later",
                    _ => "test.Probe/Echo",
                };
                let body = Bytes::copy_from_slice(&number.to_be_bytes());
                let answer: Response<Bytes> = stub
                    .unary(method, Request::new(body.clone()))
                    .await
                    .unwrap();
                assert_eq!(answer.into_inner(), body);
            }
        });
        join_all(calls).await;
        assert!(stub.service().link().session().is_idle());
    });
}

#[test]
fn a_deadline_holds_at_both_ends() {
    on_every_transport("deadline", |endpoint| async move {
        let (_server, stub, probe) = start(&endpoint).await;
        let soon = Duration::from_millis(30);
        let request = Request::new(Bytes::new()).with_timeout(soon);
        let status = stub
            .unary::<_, Bytes>("test.Probe/Never", request)
            .await
            .unwrap_err();
        assert_eq!(status.code(), ErrorCode::TIMEOUT);
        probe.dropped(1).await;

        let request = Request::new(Bytes::new()).with_timeout(Duration::from_secs(5));
        let left: Response<Bytes> = stub.unary("test.Probe/Left", request).await.unwrap();
        let left: u64 = std::str::from_utf8(left.get_ref())
            .unwrap()
            .parse()
            .unwrap();
        assert!((3000..=5000).contains(&left), "{left}");
    });
}

#[test]
fn a_call_that_is_dropped_drops_its_handler() {
    on_every_transport("cancel", |endpoint| async move {
        let (_server, stub, probe) = start(&endpoint).await;
        let client = stub.service().clone();
        let calls: Vec<_> = (0..5)
            .map(|_| client.call("test.Probe/Never", Request::new(Bytes::new())))
            .collect();
        probe.running(5).await;
        drop(calls);
        probe.dropped(5).await;
        assert!(client.link().session().is_idle());
    });
}

#[test]
fn a_message_arrives_and_nothing_comes_back() {
    on_every_transport("tell", |endpoint| async move {
        let (_server, stub, probe) = start(&endpoint).await;
        for text in ["one", "two", ""] {
            let request = Request::new(Bytes::from(text));
            stub.one_way("test.Probe/Tell", request).await.unwrap();
        }
        assert_eq!(probe.messages(3).await, ["one", "two", ""]);
    });
}

#[test]
fn a_handler_that_panics_fails_its_call_alone() {
    on_every_transport("panic", |endpoint| async move {
        let (_server, stub, _probe) = start(&endpoint).await;
        for text in ["at once", ""] {
            let request = Request::new(Bytes::from(text));
            let status = stub
                .unary::<_, Bytes>("test.Probe/Panic", request)
                .await
                .unwrap_err();
            assert_eq!(status.code(), ErrorCode::INTERNAL);
        }
        let request = Request::new(Bytes::from("still here"));
        stub.unary::<_, Bytes>("test.Probe/Echo", request)
            .await
            .unwrap();
    });
}

#[test]
fn a_codec_reads_what_it_wrote_and_refuses_the_rest() {
    on_every_transport("json", |endpoint| async move {
        let (_server, raw, _probe) = start(&endpoint).await;
        let json = Stub::new(raw.service().clone(), Json);
        let answer: Response<i64> = json
            .unary("test.Math/Square", Request::new(12))
            .await
            .unwrap();
        assert_eq!(answer.get_ref(), &144);
        assert_eq!(answer.content_type(), "application/json");
        for (body, content_type) in [("twelve", ""), ("12", "application/protobuf")] {
            let request = Request::new(Bytes::from(body)).with_content_type(content_type);
            let status = raw
                .unary::<_, Bytes>("test.Math/Square", request)
                .await
                .unwrap_err();
            assert_eq!(status.code(), ErrorCode::MALFORMED, "{status}");
        }
    });
}

#[test]
fn more_requests_than_a_server_handles_at_once_are_to_be_tried_again() {
    on_every_transport("room", |endpoint| async move {
        let probe = service::Probe::default();
        let server = Server::builder().concurrency(2);
        let server = server
            .listen(&endpoint, service::router(&probe))
            .await
            .unwrap();
        let client = LocalClient::connect(server.endpoint()).await.unwrap();
        let never =
            |client: &LocalClient| client.call("test.Probe/Never", Request::new(Bytes::new()));
        let (first, second) = (never(&client), never(&client));
        probe.running(2).await;
        let status: Status = never(&client).await.unwrap_err();
        assert_eq!(status.code(), ErrorCode::OVERLOADED);
        assert!(matches!(status.retry(), Retry::After(_)));
        drop((first, second));
        probe.dropped(2).await;
        let stub = Stub::new(client, Raw);
        stub.unary::<_, Bytes>("test.Probe/Echo", Request::new(Bytes::new()))
            .await
            .unwrap();
    });
}

#[test]
fn a_server_calls_back_over_the_same_connection() {
    on_every_transport("back", |endpoint| async move {
        let probe = service::Probe::default();
        let told = probe.clone();
        let server = Server::builder().on_connect(|client| {
            let request = Request::new(Bytes::from("hello from the server"));
            client.notify("test.Probe/Tell", request).unwrap();
        });
        let server = server.listen(&endpoint, Router::new()).await.unwrap();
        let client = LocalClient::builder().serve(service::router(&probe));
        let _client = client.connect(server.endpoint()).await.unwrap();
        assert_eq!(told.messages(1).await, ["hello from the server"]);
    });
}
