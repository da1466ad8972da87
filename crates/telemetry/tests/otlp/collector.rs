//! A collector on this machine.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::proto::{Metric, MetricsRequest, SpanMessage, Text, TracesRequest, text};

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Grpc,
}

type Metrics = (Vec<Text>, Vec<Metric>);
type Spans = (Vec<Text>, Vec<SpanMessage>);

pub(crate) struct Collector {
    pub(crate) port: u16,
    pub(crate) speaks: Speaks,
    metrics: tokio::sync::Mutex<mpsc::UnboundedReceiver<Metrics>>,
    spans: tokio::sync::Mutex<mpsc::UnboundedReceiver<Spans>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    headers: HashMap<String, String>,
    refusals: Vec<u16>,
}

#[derive(Clone)]
struct Desk {
    speaks: Speaks,
    metrics: mpsc::UnboundedSender<Metrics>,
    spans: mpsc::UnboundedSender<Spans>,
    seen: Arc<Mutex<Seen>>,
}

impl Collector {
    /// Refuses the first requests with these statuses, and takes the others.
    pub(crate) async fn start(speaks: Speaks, refusals: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (metrics, metrics_out) = mpsc::unbounded_channel();
        let (spans, spans_out) = mpsc::unbounded_channel();
        let seen = Arc::new(Mutex::new(Seen {
            refusals: refusals.to_vec(),
            ..Seen::default()
        }));
        let desk = Desk {
            speaks,
            metrics,
            spans,
            seen: Arc::clone(&seen),
        };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                desk.seen.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, desk.clone()));
            }
        });
        Self {
            port,
            speaks,
            metrics: tokio::sync::Mutex::new(metrics_out),
            spans: tokio::sync::Mutex::new(spans_out),
            seen,
        }
    }

    /// The next metrics with the resource that they are of.
    pub(crate) async fn metrics(&self) -> Metrics {
        self.metrics.lock().await.recv().await.unwrap()
    }

    /// The next spans with the resource that they are of.
    pub(crate) async fn spans(&self) -> Spans {
        self.spans.lock().await.recv().await.unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// A header of the last request.
    pub(crate) fn header(&self, name: &str) -> String {
        self.seen.lock().unwrap().headers[name].clone()
    }
}

async fn serve(stream: TcpStream, desk: Desk) {
    let io = TokioIo::new(stream);
    let speaks = desk.speaks;
    let service = service_fn(move |request| desk.clone().take(request));
    // A client that goes away is no fault.
    let _ = match speaks {
        Speaks::Http => {
            hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service)
                .await
        }
        Speaks::Grpc => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await
        }
    };
}

type Answer = Result<Response<BoxBody<Bytes, Infallible>>, Infallible>;

impl Desk {
    async fn take(self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let expected = match self.speaks {
            Speaks::Http => "application/x-protobuf",
            Speaks::Grpc => "application/grpc",
        };
        assert_eq!(head.headers["content-type"], expected);
        let mut bytes = body.collect().await.unwrap().to_bytes();
        if self.speaks == Speaks::Grpc {
            assert_eq!(head.headers["te"], "trailers");
            let prefix = bytes.split_to(5);
            assert_eq!(prefix[0], 0);
            let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
            assert_eq!(usize::try_from(length).unwrap(), bytes.len());
        }
        let refusal = {
            let mut seen = self.seen.lock().unwrap();
            seen.headers = head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            match seen.refusals.is_empty() {
                true => None,
                false => Some(seen.refusals.remove(0)),
            }
        };
        if refusal.is_none() {
            self.keep(head.uri.path(), &bytes);
        }
        Ok(match self.speaks {
            Speaks::Http => {
                let answer = Response::builder().status(refusal.unwrap_or(200));
                let text = if refusal.is_some() { "because" } else { "" };
                answer.body(Full::from(text).boxed()).unwrap()
            }
            Speaks::Grpc => grpc(refusal),
        })
    }

    fn keep(&self, path: &str, bytes: &[u8]) {
        match path {
            "/v1/metrics" | "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
                let request = MetricsRequest::decode(bytes).unwrap();
                for resource in request.resources {
                    let about = text(&resource.resource.unwrap().attributes);
                    let metrics = resource.scopes.into_iter().flat_map(|scope| scope.metrics);
                    let _ = self.metrics.send((about, metrics.collect()));
                }
            }
            "/v1/traces" | "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
                let request = TracesRequest::decode(bytes).unwrap();
                for resource in request.resources {
                    let about = text(&resource.resource.unwrap().attributes);
                    let spans = resource.scopes.into_iter().flat_map(|scope| scope.spans);
                    let _ = self.spans.send((about, spans.collect()));
                }
            }
            other => panic!("nothing is at {other}"),
        }
    }
}

/// An empty message and its status behind it; or, as servers do for refusals, the status alone.
fn grpc(refusal: Option<u16>) -> Response<BoxBody<Bytes, Infallible>> {
    let answer = Response::builder().header("content-type", "application/grpc");
    if let Some(code) = refusal {
        return answer
            .header("grpc-status", code)
            .header("grpc-message", "because")
            .body(Full::from("").boxed())
            .unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [
        Ok(Frame::data(BytesMut::zeroed(5).freeze())),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames));
    answer.body(BodyExt::boxed(body)).unwrap()
}
