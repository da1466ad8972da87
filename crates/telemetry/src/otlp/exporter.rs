//! Sending spans.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{net::TcpStream, time};

use super::{
    OtlpConfig, Span,
    message::{ExportRequest, ExportResponse},
};

/// Tries of one batch, the first one included.
const TRIES: u32 = 4;
/// The pause after the first try; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// What the collector may ask for with `Retry-After`.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Spans of one request.
const BATCH: usize = 512;

/// Sends spans to one collector. Needs a tokio runtime with time and I/O.
#[derive(Clone, Debug)]
pub struct Exporter {
    config: OtlpConfig,
}

/// Why spans did not arrive. They are gone then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Nobody answers, or the connection broke.
    #[error("the collector at {endpoint} cannot be reached: {cause}")]
    Unreachable {
        /// Its address.
        endpoint: String,
        /// What happened.
        cause: String,
    },
    /// The collector does not want them.
    #[error("the collector at {endpoint} answered {status}: {text}")]
    Refused {
        /// Its address.
        endpoint: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of its answer.
        text: String,
    },
    /// It took some.
    #[error("the collector refused {rejected} spans: {text}")]
    Partly {
        /// How many it did not take.
        rejected: u64,
        /// Its reason.
        text: String,
    },
}

/// How one try went.
enum Outcome {
    Done,
    Again {
        error: ExportError,
        after: Option<Duration>,
    },
    Failed(ExportError),
}

impl Exporter {
    /// An exporter; nothing is sent yet.
    #[must_use]
    pub fn new(config: OtlpConfig) -> Self {
        Self { config }
    }

    /// Sends spans, in requests of at most 512. Tries four times with growing pauses where that
    /// may help (429, 502, 503, 504, no connection), as the OTLP specification asks.
    ///
    /// # Errors
    /// [`ExportError`] of the first batch that failed; later ones are not tried.
    pub async fn export(&self, mut spans: Vec<Span>) -> Result<(), ExportError> {
        while !spans.is_empty() {
            let rest = spans.split_off(spans.len().min(BATCH));
            let request = ExportRequest::new(&self.config.resource, spans);
            self.deliver(Bytes::from(request.encode_to_vec())).await?;
            spans = rest;
        }
        Ok(())
    }

    async fn deliver(&self, body: Bytes) -> Result<(), ExportError> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.attempt(body.clone()).await {
                Outcome::Done => break,
                Outcome::Again { after, .. } if attempt < TRIES => {
                    time::sleep(after.unwrap_or(pause).min(PAUSE_MAX)).await;
                    pause *= 2;
                }
                Outcome::Again { error, .. } | Outcome::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn attempt(&self, body: Bytes) -> Outcome {
        let answer = time::timeout(self.config.timeout, self.send(body)).await;
        let cause = match answer {
            Ok(Ok(response)) => return self.judge(response).await,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {:?}", self.config.timeout),
        };
        Outcome::Again {
            error: ExportError::Unreachable {
                endpoint: self.config.endpoint.to_string(),
                cause,
            },
            after: None,
        }
    }

    async fn send(
        &self,
        body: Bytes,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let uri = &self.config.endpoint;
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(80);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port)).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await?;
        // Ends with the response; what goes wrong on it is seen there.
        tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::post(path)
            .header(HOST, format!("{host}:{port}"))
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, concat!("rustci/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.config.headers.0 {
            request = request.header(name, value);
        }
        Ok(sender.send_request(request.body(Full::new(body))?).await?)
    }

    async fn judge(&self, response: Response<Incoming>) -> Outcome {
        let status = response.status();
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let bytes = match time::timeout(self.config.timeout, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => Bytes::new(),
        };
        if status.is_success() {
            return taken(&bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        let error = ExportError::Refused {
            endpoint: self.config.endpoint.to_string(),
            status: status.as_u16(),
            text: text.chars().filter(|c| !c.is_control()).take(200).collect(),
        };
        let passing = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        match passing.contains(&status) {
            true => Outcome::Again { error, after },
            false => Outcome::Failed(error),
        }
    }
}

/// A success may still name spans that were refused.
fn taken(answer: &[u8]) -> Outcome {
    let partial = ExportResponse::decode(answer)
        .ok()
        .and_then(|answer| answer.partial_success);
    match partial {
        Some(partial) if partial.rejected_spans > 0 => Outcome::Failed(ExportError::Partly {
            rejected: partial.rejected_spans.unsigned_abs(),
            text: partial.error_message,
        }),
        _ => Outcome::Done,
    }
}
