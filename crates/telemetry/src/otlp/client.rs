//! One request to a collector.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, TE, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{OtlpConfig, OtlpProtocol};
use crate::outbound::Stream;

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Before a message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

/// What a collector answered.
pub(super) enum Reply {
    /// It has it; the message that says so.
    Taken(Bytes),
    /// It has not.
    Refused {
        /// The status of HTTP, or of gRPC.
        status: u16,
        /// Its reason.
        text: String,
        /// Whether it may take it later, and when.
        later: Option<Option<Duration>>,
    },
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Sends one message.
pub(super) async fn send(
    config: &OtlpConfig,
    signal: Signal,
    message: Bytes,
) -> Result<Reply, Error> {
    match config.protocol {
        OtlpProtocol::Http => over_http(config, signal, message).await,
        OtlpProtocol::Grpc => over_grpc(config, signal, message).await,
    }
}

async fn connect(config: &OtlpConfig, uri: &Uri, protocol: &[u8]) -> Result<Stream, Error> {
    let host = uri.host().unwrap_or_default();
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let stream = Stream::connect(host, port).await?;
    match tls {
        true => Ok(stream.encrypt(host, &config.trust, Some(protocol)).await?),
        false => Ok(stream),
    }
}

async fn over_http(config: &OtlpConfig, signal: Signal, message: Bytes) -> Result<Reply, Error> {
    let uri = config.url(signal);
    let stream = connect(config, uri, b"http/1.1").await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await?;
    // Ends with the response; what goes wrong on it is seen there.
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::post(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/x-protobuf")
        .header(USER_AGENT, concat!("rustci/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &config.headers.0 {
        request = request.header(name, value);
    }
    let response = sender
        .send_request(request.body(Full::new(message))?)
        .await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = collect(response).await;
    let bytes = body.map(Collected::to_bytes).unwrap_or_default();
    if status.is_success() {
        return Ok(Reply::Taken(bytes));
    }
    let passing = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    let after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    Ok(Reply::Refused {
        status: status.as_u16(),
        text: short(&String::from_utf8_lossy(&bytes)),
        later: passing.contains(&status).then_some(after),
    })
}

async fn over_grpc(config: &OtlpConfig, signal: Signal, message: Bytes) -> Result<Reply, Error> {
    let base = config.url(signal);
    let stream = connect(config, base, b"h2").await?;
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await?;
    // Ends when `sender` does.
    tokio::spawn(connection);
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len())?);
    framed.put(message);
    let mut request = Request::post(base)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, concat!("rustci/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &config.headers.0 {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(framed.freeze()))?;
    let response = sender.send_request(request).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    if status != StatusCode::OK {
        return Ok(Reply::Refused {
            status: status.as_u16(),
            text: "not a gRPC server".to_owned(),
            later: status.is_server_error().then_some(None),
        });
    }
    let body = collect(response).await;
    let body = body.ok_or("the answer broke off or is too long")?;
    // An answer without a message has its status in the headers.
    let trailers = body.trailers().cloned().unwrap_or(headers);
    let code = field(&trailers, "grpc-status").and_then(|code| code.parse::<u16>().ok());
    match code {
        Some(0) => {
            let bytes = body.to_bytes();
            Ok(Reply::Taken(bytes.slice(PREFIX.min(bytes.len())..)))
        }
        Some(code) => Ok(Reply::Refused {
            status: code,
            text: short(field(&trailers, "grpc-message").unwrap_or_default()),
            // Those that the specification of OTLP calls retryable.
            later: [1, 4, 8, 10, 11, 14, 15].contains(&code).then_some(None),
        }),
        None => Err("an answer without a grpc-status".into()),
    }
}

async fn collect(response: Response<Incoming>) -> Option<Collected<Bytes>> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    body.collect().await.ok()
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The beginning of an answer, in one line.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
