//! A small HTTP server for operators of a program that has no other: metrics and probes.
//!
//! `GET /metrics` answers in the text format, `GET /livez` with 200 as long as the program runs,
//! `GET /readyz` with 200 while it takes work and 503 while it does not. Nothing is protected:
//! listen on loopback, or where only operators reach.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE as CONTENT_TYPE_HEADER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::{CONTENT_TYPE, Metrics};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long the head of a request may take, and a connection may be idle between two.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long accepting rests after an error, such as no descriptor being left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Answer = Response<Full<Bytes>>;

/// Answers on `listener` until the future is dropped; `ready` says whether the program takes work.
/// Needs a tokio runtime with time and I/O.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let metrics = telemetry::Metrics::new();
/// tokio::spawn(telemetry::probes::serve(listener, metrics, || true));
/// # Ok(()) }
/// ```
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    ready: impl Fn() -> bool + Send + Sync + 'static,
) -> Infallible {
    let probes = Arc::new((metrics, ready));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&room).acquire_owned().await.ok();
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                rest_after(&error).await;
                continue;
            }
        };
        let probes = Arc::clone(&probes);
        let answer = service_fn(move |request: Request<Incoming>| {
            let (metrics, ready) = &*probes;
            let answer = answer(request.method(), request.uri().path(), metrics, ready);
            async move { Ok::<_, Infallible>(answer) }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT)
            .max_buf_size(HEAD_BYTES_MAX);
        let connection = builder.serve_connection(TokioIo::new(stream), answer);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection of a probe ended");
            }
            drop(permit);
        });
    }
}

async fn rest_after(error: &io::Error) {
    tracing::warn!(%error, "a probe could not connect");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn answer(method: &Method, path: &str, metrics: &Metrics, ready: impl Fn() -> bool) -> Answer {
    let text = "text/plain; charset=utf-8";
    let (status, kind, body) = match path {
        "/metrics" => (StatusCode::OK, CONTENT_TYPE, metrics.encode()),
        "/livez" => (StatusCode::OK, text, "alive\n".to_owned()),
        "/readyz" if ready() => (StatusCode::OK, text, "ready\n".to_owned()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            text,
            "takes no work now\n".to_owned(),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            text,
            "there are /metrics, /livez and /readyz\n".to_owned(),
        ),
    };
    let builder = match *method {
        Method::GET | Method::HEAD => Response::builder().status(status),
        _ => Response::builder()
            .status(StatusCode::METHOD_NOT_ALLOWED)
            .header(ALLOW, "GET, HEAD"),
    };
    // hyper leaves the body of an answer to HEAD away by itself.
    let response = builder
        .header(CONTENT_TYPE_HEADER, kind)
        .body(Full::new(Bytes::from(body)));
    response.expect("status and headers are constants")
}
