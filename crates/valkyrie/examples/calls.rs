//! How many calls one connection carries: `cargo run --release -p valkyrie --example calls`.
//!
//! Server and client run on a thread each, over TCP on this machine, with 256 calls of 64 bytes in
//! flight: once with a task for each, once with closures that take the answers where they lie.
//! Then as many messages on one stream.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use valkyrie::{
    Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service, Shard, Status,
    Streaming, Stub, iter,
};

const METHOD: &str = "demo.Echo/Say";
const IN_FLIGHT: u32 = 256;
const CALLS: u32 = 2_000_000;

async fn echo(request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    Ok(Response::new(request.into_inner()))
}

/// One task for each call in flight.
async fn with_tasks(client: &LocalClient) {
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let client = client.clone();
            tokio::task::spawn_local(async move {
                let message = Bytes::from_static(&[7; 64]);
                for _ in 0..CALLS / IN_FLIGHT {
                    let request = Request::new(message.clone());
                    let answer = client.call(METHOD, request).await;
                    assert_eq!(answer.expect("the server answers").get_ref().len(), 64);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task fails");
    }
}

/// What the closures share.
struct Run {
    client: LocalClient,
    left: Cell<u32>,
    done: Cell<u32>,
    finished: Notify,
}

/// Sends the next call; its answer sends the one after it.
fn next(run: &Rc<Run>) {
    let Some(left) = run.left.get().checked_sub(1) else {
        return;
    };
    run.left.set(left);
    let again = Rc::clone(run);
    let sent = run.client.call_then(METHOD, &[7; 64], None, move |answer| {
        assert_eq!(answer.expect("the server answers").body.len(), 64);
        again.done.set(again.done.get() + 1);
        if again.done.get() == CALLS {
            again.finished.notify_one();
        }
        next(&again);
    });
    sent.expect("there is room for the call");
}

async fn with_closures(client: &LocalClient) {
    let run = Rc::new(Run {
        client: client.clone(),
        left: Cell::new(CALLS),
        done: Cell::new(0),
        finished: Notify::new(),
    });
    for _ in 0..IN_FLIGHT {
        next(&run);
    }
    run.finished.notified().await;
}

/// One stream of small messages to the server, which counts them.
async fn with_a_stream(client: &LocalClient) {
    let messages = iter((0..CALLS).map(|_| Bytes::from_static(&[7; 64])));
    let stub = Stub::new(client.clone(), Raw);
    let request = Request::new(messages);
    let counted: Response<Bytes> = stub
        .client_stream("demo.Echo/Count", request)
        .await
        .expect("the server counts");
    assert_eq!(counted.get_ref(), &CALLS.to_string());
}

async fn count(request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
    let (mut messages, mut count) = (request.into_inner(), 0u32);
    while messages.message().await?.is_some() {
        count += 1;
    }
    Ok(Response::new(count.to_string().into()))
}

fn report(what: &str, elapsed: Duration) {
    let per_s = f64::from(CALLS) / elapsed.as_secs_f64();
    println!(
        "{what:<14} {per_s:>12.0} calls/s, {:?} each",
        elapsed / CALLS
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let (tell, told) = oneshot::channel::<Endpoint>();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Shard::spawn("server", move || async move {
        let service = Service::new("demo.Echo", Raw)
            .unary("Say", echo)
            .client_stream("Count", count);
        let router = Router::new().with(service);
        let endpoint = "valkyrie+tcp://127.0.0.1:0"
            .parse()
            .expect("it is an endpoint");
        let server = Server::builder().listen(&endpoint, router).await;
        let server = server.expect("a port is free");
        drop(tell.send(server.endpoint().clone()));
        drop(stopped.await);
        server.shutdown(Duration::from_secs(1)).await;
    })?;
    valkyrie::block_on(async {
        let client = LocalClient::connect(&told.await?).await?;
        for _ in 0..3 {
            let began = Instant::now();
            with_tasks(&client).await;
            report("256 tasks", began.elapsed());
            let began = Instant::now();
            with_closures(&client).await;
            report("256 closures", began.elapsed());
            let began = Instant::now();
            with_a_stream(&client).await;
            report("one stream", began.elapsed());
        }
        let _ = stop.send(());
        client.close(Duration::from_secs(1)).await;
        Ok::<(), Box<dyn Error>>(())
    })??;
    server.join()?;
    Ok(())
}
