//! Sending spans and metrics.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use tokio::time;

use super::client::{self, Reply, Signal};
use super::message::{ExportRequest, ExportResponse};
use super::metrics_message::{MetricsRequest, Period};
use super::{OtlpConfig, Span};
use crate::openmetrics::{self, Family};

/// Tries of one batch, the first one included.
const TRIES: u32 = 4;
/// The pause after the first try; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// What the collector may ask for with `Retry-After`.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Spans of one request.
const BATCH: usize = 512;

/// Sends spans and metrics to one collector. Needs a tokio runtime with time and I/O.
#[derive(Clone, Debug)]
pub struct Exporter {
    config: OtlpConfig,
}

/// Why spans or metrics did not arrive. They are gone then.
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
        /// The status of HTTP, or of gRPC.
        status: u16,
        /// The beginning of its answer.
        text: String,
    },
    /// It took some.
    #[error("the collector refused {rejected} spans or series: {text}")]
    Partly {
        /// How many it did not take.
        rejected: u64,
        /// Its reason.
        text: String,
    },
    /// The text to send is not what the registry writes.
    #[error("the metrics cannot be sent: {problem}")]
    Format {
        /// Where it is wrong.
        problem: String,
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
            let body = Bytes::from(request.encode_to_vec());
            self.deliver(Signal::Traces, body).await?;
            spans = rest;
        }
        Ok(())
    }

    /// Sends the families of a text that [`Metrics::encode`](crate::Metrics::encode) wrote, in one or
    /// more requests, each tried as in [`export`](Self::export). Totals count since
    /// `process_start_time_seconds`, where the text has it.
    ///
    /// # Errors
    /// [`ExportError`] of the first request that failed; later ones are not tried.
    pub async fn export_metrics(&self, text: &str) -> Result<(), ExportError> {
        let families = openmetrics::parse(text).map_err(|error| ExportError::Format {
            problem: error.to_string(),
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let time_ns = nanoseconds(now.unwrap_or_default());
        let period = Period {
            start_ns: started(&families).unwrap_or(time_ns),
            time_ns,
        };
        for request in MetricsRequest::all(&self.config.resource, &families, period) {
            let body = Bytes::from(request.encode_to_vec());
            self.deliver(Signal::Metrics, body).await?;
        }
        Ok(())
    }

    async fn deliver(&self, signal: Signal, body: Bytes) -> Result<(), ExportError> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.attempt(signal, body.clone()).await {
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

    async fn attempt(&self, signal: Signal, body: Bytes) -> Outcome {
        let endpoint = || self.config.shown(signal);
        let sending = client::send(&self.config, signal, body);
        let cause = match time::timeout(self.config.timeout, sending).await {
            Ok(Ok(Reply::Taken(answer))) => return taken(&answer),
            Ok(Ok(Reply::Refused {
                status,
                text,
                later,
            })) => {
                let error = ExportError::Refused {
                    endpoint: endpoint(),
                    status,
                    text,
                };
                return match later {
                    Some(after) => Outcome::Again { error, after },
                    None => Outcome::Failed(error),
                };
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {:?}", self.config.timeout),
        };
        Outcome::Again {
            error: ExportError::Unreachable {
                endpoint: endpoint(),
                cause,
            },
            after: None,
        }
    }
}

/// When the program started, as the families say it.
fn started(families: &[Family]) -> Option<u64> {
    let family = families
        .iter()
        .find(|family| family.name == "process_start_time_seconds")?;
    let seconds = family.samples.first()?.value;
    Duration::try_from_secs_f64(seconds).ok().map(nanoseconds)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A success may still say how much was refused.
fn taken(answer: &[u8]) -> Outcome {
    let partial = ExportResponse::decode(answer)
        .ok()
        .and_then(|answer| answer.partial_success);
    match partial {
        Some(partial) if partial.rejected > 0 => Outcome::Failed(ExportError::Partly {
            rejected: partial.rejected.unsigned_abs(),
            text: partial.error_message,
        }),
        _ => Outcome::Done,
    }
}
