//! Traces for a collector, over OTLP/HTTP with Protocol Buffers.
//!
//! [`OtlpConfig::from_env`] reads the variables that OpenTelemetry defines, [`Exporter`] sends
//! [`Span`]s there. What a span means is the caller's business.
//!
//! Format: the OTLP specification 1.x and its trace messages; field numbers are those of
//! `opentelemetry/proto/trace/v1`.

mod config;
mod exporter;
mod message;
mod queue;
mod span;

pub use config::{Headers, OtlpConfig, OtlpConfigError};
pub use exporter::{ExportError, Exporter};
pub use queue::{SpanQueue, SpanReceiver};
pub use span::{Span, SpanKind, SpanStatus, Value};
