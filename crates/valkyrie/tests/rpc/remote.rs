//! Clients on other threads than their connection.

use std::time::Duration;

use tokio::sync::oneshot;
use valkyrie::{
    Bytes, Client, Endpoint, ErrorCode, Raw, Request, Response, Server, Shard, Streaming, Stub,
    channel,
};

use crate::service;

/// Runs `test` on a multi-threaded runtime, with the test service on a shard of its own.
fn with_server<F: Future<Output = ()>>(test: impl FnOnce(Endpoint) -> F) {
    let (tell, told) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Shard::spawn("server", move || async move {
        let router = service::router(&service::Probe::default());
        let endpoint = "valkyrie+tcp://127.0.0.1:0".parse().unwrap();
        let server = Server::builder().listen(&endpoint, router).await.unwrap();
        tell.send(server.endpoint().clone()).unwrap();
        let _ = stopped.await;
        server.shutdown(Duration::from_secs(10)).await;
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let run = test(told.await.unwrap());
        tokio::time::timeout(crate::PATIENCE, run).await.unwrap();
    });
    drop(stop);
    server.unwrap().join().unwrap();
}

#[test]
fn many_threads_share_one_connection() {
    with_server(|endpoint| async move {
        let client = Client::connect(&endpoint).await.unwrap();
        let tasks: Vec<_> = (0..8u64)
            .map(|task| {
                let stub = Stub::new(client.clone(), Raw);
                tokio::spawn(async move {
                    for number in 0..200u64 {
                        let body = Bytes::copy_from_slice(&(task << 32 | number).to_be_bytes());
                        let request = Request::new(body.clone());
                        let answer: Response<Bytes> =
                            stub.unary("test.Probe/Echo", request).await.unwrap();
                        assert_eq!(answer.into_inner(), body);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn streams_deadlines_and_cancellation_cross_threads() {
    with_server(|endpoint| async move {
        let client = Client::connect(&endpoint).await.unwrap();
        let stub = Stub::new(client.clone(), Raw);
        let (sender, receiver) = channel(2);
        let answers = stub.bidirectional("test.Probe/EchoStream", Request::new(receiver));
        let mut answers: Streaming<Bytes> = answers.await.unwrap().into_inner();
        let sending = tokio::spawn(async move {
            for number in 0..2000u32 {
                let size = number as usize % 700;
                sender.send(Bytes::from(vec![1; size])).await.unwrap();
            }
        });
        for number in 0..2000usize {
            let message = answers.message().await.unwrap().unwrap();
            assert_eq!(message.len(), number % 700);
        }
        assert_eq!(answers.message().await.unwrap(), None);
        sending.await.unwrap();

        let soon = Duration::from_millis(30);
        let request = Request::new(Bytes::new()).with_timeout(soon);
        let status = client.call("test.Probe/Never", request).await.unwrap_err();
        assert_eq!(status.code(), ErrorCode::TIMEOUT);
        let never = client.call("test.Probe/Never", Request::new(Bytes::new()));
        assert!(tokio::time::timeout(soon, never).await.is_err());
        client.close(Duration::from_secs(10)).await;
        let after = client
            .call("test.Probe/Echo", Request::new(Bytes::new()))
            .await;
        assert_eq!(after.unwrap_err().code(), ErrorCode::LOST);
    });
}

#[test]
fn an_endpoint_where_nobody_listens_is_told() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let error = runtime.unwrap().block_on(async {
        let endpoint = "valkyrie+tcp://127.0.0.1:1".parse().unwrap();
        Client::connect(&endpoint).await.unwrap_err()
    });
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
