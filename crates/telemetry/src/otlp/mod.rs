//! Traces and metrics for a collector, over OTLP with Protocol Buffers, by HTTP or gRPC.
//!
//! [`OtlpConfig::from_env`] reads the variables that OpenTelemetry defines, [`Exporter`] sends
//! [`Span`]s and metrics there. What a span means is the caller's business. [`TelemetryRuntimeApi`]
//! switches both on and off while a program runs.
//!
//! Format: the OTLP specification 1.x and its messages; field numbers are those of
//! `opentelemetry/proto/trace/v1` and `opentelemetry/proto/metrics/v1`.

mod client;
mod config;
mod exporter;
mod message;
mod metrics_message;
mod queue;
mod runtime;
mod settings;
mod span;

pub use config::{Headers, OtlpConfig, OtlpConfigError};
pub use exporter::{ExportError, Exporter};
pub use queue::{SpanQueue, SpanReceiver};
pub use runtime::{Spans, TelemetryRuntimeApi};
pub use settings::{OpenTelemetryConfig, OtlpProtocol};
pub use span::{Span, SpanKind, SpanStatus, Value, random_ids};
