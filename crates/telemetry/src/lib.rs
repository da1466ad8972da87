//! What a running program tells its operator: metric families for `/metrics`, log events, and
//! traces for a collector.
//!
//! [`Metrics`] owns every family under its final name; the rest of the code moves them through
//! typed functions, so labels stay few and known. [`logging::init`] sends `tracing` events to
//! standard error, [`otlp`] sends spans to a collector. Fields of events have the same names everywhere: `conn`, `stream`, `run`, `job`,
//! `peer`, `bytes`, `elapsed`.
//!
//! ```
//! let metrics = telemetry::Metrics::new();
//! metrics.rustci.queue_depth(3);
//! assert!(metrics.encode().contains("rustci_queue_depth 3"));
//! ```

mod content;
mod http;
pub mod logging;
mod metrics;
pub mod notify;
pub mod openmetrics;
pub mod otlp;
mod outbound;
mod peers;
pub mod probes;
mod process;
mod report;
mod rustci;
mod size;
mod span_ids;
mod stores;
mod tally;
mod valkyrie;

pub use content::{CacheAnswer, ContentMetrics};
pub use http::{HttpMetrics, OpenStream};
pub use metrics::{CONTENT_TYPE, Metrics};
pub use outbound::{Trust, TrustError};
pub use peers::{Instance, PeerReports, Taken};
pub use rustci::{JobState, RustciMetrics};
pub use span_ids::{Work, span_id};
pub use stores::StoreMetrics;
pub use tally::{FrameCounts, FrameTally};
pub use valkyrie::{Direction, OpenConnection, ValkyrieMetrics};
