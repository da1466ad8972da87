//! The service that the tests call.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Notify;
use valkyrie::{
    Bytes, ErrorCode, Json, Metadata, Raw, Request, Response, Router, Service, Status, Streaming,
    channel,
};

/// What the tests see of the service.
#[derive(Clone, Default)]
pub(crate) struct Probe {
    inner: Rc<Seen>,
}

#[derive(Default)]
struct Seen {
    running: Cell<u32>,
    begun: Cell<u32>,
    dropped: Cell<u32>,
    messages: RefCell<Vec<Bytes>>,
    changed: Notify,
}

/// Counts a handler until it ends or is dropped.
pub(crate) struct Running(Rc<Seen>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.dropped.set(self.0.dropped.get() + 1);
        self.0.changed.notify_waiters();
    }
}

impl Probe {
    fn run(&self) -> Running {
        let seen = &self.inner;
        seen.running.set(seen.running.get() + 1);
        seen.begun.set(seen.begun.get() + 1);
        seen.changed.notify_waiters();
        Running(Rc::clone(seen))
    }

    /// Waits until so many handlers run.
    pub(crate) async fn running(&self, count: u32) {
        self.until(|seen| seen.running.get() == count).await;
    }

    /// Waits until so many handlers have ended or were dropped.
    pub(crate) async fn dropped(&self, count: u32) {
        self.until(|seen| seen.dropped.get() == count).await;
    }

    /// Waits for so many messages.
    pub(crate) async fn messages(&self, count: usize) -> Vec<Bytes> {
        self.until(|seen| seen.messages.borrow().len() == count)
            .await;
        self.inner.messages.borrow().clone()
    }

    async fn until(&self, holds: impl Fn(&Seen) -> bool) {
        loop {
            let changed = self.inner.changed.notified();
            if holds(&self.inner) {
                return;
            }
            changed.await;
        }
    }
}

async fn echo(request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let (metadata, content_type) = (
        request.metadata().clone(),
        request.content_type().to_owned(),
    );
    let mut response = Response::new(request.into_inner()).with_content_type(content_type);
    *response.metadata_mut() = metadata;
    Ok(response)
}

async fn fail(request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let mut metadata = Metadata::new();
    metadata.insert("field", b"name").unwrap();
    let text = String::from_utf8_lossy(request.get_ref()).into_owned();
    Err(Status::new(ErrorCode(451), text).with_metadata(metadata))
}

async fn total(request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
    let mut messages = request.into_inner();
    let (mut count, mut bytes) = (0u64, 0u64);
    while let Some(message) = messages.message().await? {
        count += 1;
        bytes += message.len() as u64;
    }
    let mut response = Response::new(Bytes::from(format!("{count} {bytes}")));
    response
        .metadata_mut()
        .insert("count", count.to_string().as_bytes())
        .unwrap();
    Ok(response)
}

/// `count size`: so many messages of so many bytes.
async fn repeat(
    request: Request<Bytes>,
) -> Result<Response<impl futures_util::Stream<Item = Result<Bytes, Status>>>, Status> {
    let text = String::from_utf8_lossy(request.get_ref()).into_owned();
    let mut numbers = text.split(' ').map(|number| number.parse::<usize>());
    let (Some(Ok(count)), Some(Ok(size))) = (numbers.next(), numbers.next()) else {
        return Err(Status::malformed("send two numbers"));
    };
    let messages = (0..count).map(move |number| Bytes::from(vec![number as u8; size]));
    let mut response = Response::new(valkyrie::iter(messages));
    response
        .metadata_mut()
        .insert("planned", count.to_string().as_bytes())
        .unwrap();
    Ok(response)
}

async fn echo_stream(
    request: Request<Streaming<Bytes>>,
) -> Result<Response<Streaming<Bytes>>, Status> {
    Ok(Response::new(request.into_inner()))
}

/// All methods that the tests use.
pub(crate) fn router(probe: &Probe) -> Router {
    let service = with_streams(with_calls(Service::new("test.Probe", Raw), probe), probe);
    let math = Service::new("test.Math", Json).unary("Square", async |request: Request<i64>| {
        Ok(Response::new(request.get_ref() * request.get_ref()))
    });
    Router::new().with(service).with(math)
}

fn with_calls(service: Service, probe: &Probe) -> Service {
    let (never, sink) = (probe.clone(), probe.clone());
    service
        .unary("Echo", echo)
        .unary("Fail", fail)
        .unary("Left", async |request: Request<Bytes>| {
            let left = request.time_left().unwrap_or_default();
            Ok(Response::new(Bytes::from(left.as_millis().to_string())))
        })
        .unary("Later", async |request: Request<Bytes>| {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            echo(request).await
        })
        .unary("Never", move |_: Request<Bytes>| {
            let running = never.run();
            async move {
                std::future::pending::<()>().await;
                drop(running);
                Ok(Response::new(Bytes::new()))
            }
        })
        .unary("Panic", async |request: Request<Bytes>| {
            if request.get_ref().is_empty() {
                tokio::task::yield_now().await;
            }
            assert!(request.get_ref().len() > 100, "a handler with a bug");
            Ok(Response::new(Bytes::new()))
        })
        .one_way("Tell", move |request: Request<Bytes>| {
            let sink = sink.clone();
            async move {
                sink.inner.messages.borrow_mut().push(request.into_inner());
                sink.inner.changed.notify_waiters();
            }
        })
}

fn with_streams(service: Service, probe: &Probe) -> Service {
    let (ticks, deaf) = (probe.clone(), probe.clone());
    service
        .client_stream("Total", total)
        .client_stream("Deaf", move |request: Request<Streaming<Bytes>>| {
            let running = deaf.run();
            async move {
                std::future::pending::<()>().await;
                drop((request, running));
                Ok(Response::new(Bytes::new()))
            }
        })
        .client_stream("First", async |request: Request<Streaming<Bytes>>| {
            let first = request.into_inner().message().await?;
            first
                .map(Response::new)
                .ok_or_else(|| Status::malformed("no message"))
        })
        .server_stream("Repeat", repeat)
        .server_stream("Ticks", move |_: Request<Bytes>| {
            let running = ticks.run();
            async move {
                let (sender, receiver) = channel(4);
                tokio::task::spawn_local(async move {
                    while sender.send(Bytes::from("tick")).await.is_ok() {
                        tokio::task::yield_now().await;
                    }
                    drop(running);
                });
                Ok(Response::new(receiver))
            }
        })
        .server_stream("Break", async |request: Request<Bytes>| {
            let good = valkyrie::iter([request.into_inner()]);
            let bad = futures_util::stream::iter([Err(Status::new(ErrorCode(452), "broken"))]);
            Ok(Response::new(good.chain(bad)))
        })
        .bidirectional("EchoStream", echo_stream)
}
