//! A span for each operation of a chain, while somebody wants them.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use telemetry::otlp::{Span, SpanKind, SpanStatus, Spans, Value};

use crate::error::{Applied, StoreError};

tokio::task_local! {
    static PARENT: Parent;
}

/// The span that operations are part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The whole trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
}

impl Parent {
    /// Does work whose operations on stores are part of this span.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        PARENT.scope(self, work).await
    }
}

/// Where a chain puts its spans.
#[derive(Debug, Default)]
pub(crate) struct Recorder(OnceLock<Spans>);

/// An operation that is being done. One that is dropped before its end was canceled.
pub(crate) struct Recording {
    spans: Spans,
    operation: &'static str,
    began: Instant,
    began_at: Duration,
    system: String,
    outcome: &'static str,
    error: Option<(&'static str, String)>,
}

impl Recorder {
    /// Puts spans there from now on; the first one to say so is heard.
    pub(crate) fn set(&self, spans: Spans) {
        // It stays with the first.
        let _ = self.0.set(spans);
    }

    /// Begins a span, if anybody wants it.
    pub(crate) fn begin(&self, operation: &'static str) -> Option<Recording> {
        let spans = self.0.get().filter(|spans| spans.is_enabled())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Some(Recording {
            spans: spans.clone(),
            operation,
            began: Instant::now(),
            began_at: now.unwrap_or_default(),
            system: String::new(),
            outcome: "canceled",
            error: None,
        })
    }
}

impl Recording {
    /// The store that answered, and whether it was the first.
    pub(crate) fn answered(&mut self, store: &str, place: usize) {
        store.clone_into(&mut self.system);
        self.outcome = if place == 0 { "ok" } else { "fell_back" };
    }

    /// The last store that was asked, and what it said.
    pub(crate) fn failed(&mut self, store: &str, error: &StoreError) {
        store.clone_into(&mut self.system);
        self.outcome = "error";
        let kind = match error.applied() {
            None => "refused",
            Some(Applied::No) => "unavailable",
            Some(Applied::Unknown) => "unknown",
        };
        self.error = Some((kind, error.to_string()));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let parent = PARENT.try_with(|parent| *parent).ok();
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut attributes = vec![
            ("db.operation".into(), Value::from(self.operation)),
            ("outcome".into(), Value::from(self.outcome)),
        ];
        if !self.system.is_empty() {
            attributes.push(("db.system".into(), Value::from(self.system.as_str())));
        }
        let status = match self.error.take() {
            Some((kind, text)) => {
                attributes.push(("error.type".into(), Value::from(kind)));
                SpanStatus::Error(text)
            }
            None => SpanStatus::Unset,
        };
        let (trace_id, span_id) = telemetry::otlp::random_ids();
        self.spans.put(vec![Span {
            trace_id: parent.map_or(trace_id, |parent| parent.trace_id),
            span_id,
            parent_id: parent.map(|parent| parent.span_id),
            name: format!("store {}", self.operation),
            kind: SpanKind::Client,
            start_ns: nanoseconds(self.began_at),
            end_ns: nanoseconds(self.began_at + self.began.elapsed()),
            attributes,
            status,
        }]);
    }
}
