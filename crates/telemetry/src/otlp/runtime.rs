//! Traces and metrics that are switched on and off while a program runs.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{self, MissedTickBehavior};

use super::{Exporter, OpenTelemetryConfig, OtlpConfig, OtlpConfigError, Span, SpanQueue};
use crate::{Metrics, StoreMetrics};

/// Metrics are not sent more often.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Switches the export of traces and metrics. Off at first.
///
/// ```
/// use telemetry::otlp::{OpenTelemetryConfig, TelemetryRuntimeApi};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let telemetry_api = TelemetryRuntimeApi::new();
/// let otlp_config = OpenTelemetryConfig {
///     enabled: true,
///     endpoint: "http://localhost:4317".to_string(),
///     service_name: "valkyrie-storage".to_string(),
///     ..Default::default()
/// };
/// telemetry_api.enable_opentelemetry(otlp_config).await?;
/// assert!(telemetry_api.is_enabled());
/// telemetry_api.disable_opentelemetry().await;
/// # Ok::<(), telemetry::otlp::OtlpConfigError>(()) }).unwrap();
/// ```
pub struct TelemetryRuntimeApi {
    metrics: Source,
    spans: Spans,
    running: Mutex<Option<Running>>,
}

/// Gives the metrics as text.
type Source = Arc<dyn Fn() -> String + Send + Sync>;

impl fmt::Debug for TelemetryRuntimeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryRuntimeApi")
            .field("enabled", &self.is_enabled())
            .finish_non_exhaustive()
    }
}

impl Default for TelemetryRuntimeApi {
    fn default() -> Self {
        Self::new()
    }
}

/// Where spans are put that a collector is to have, if there is one now. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Spans(Arc<Switch>);

#[derive(Debug, Default)]
struct Switch {
    on: AtomicBool,
    queue: Mutex<Option<SpanQueue>>,
}

#[derive(Debug)]
struct Running {
    traces: JoinHandle<()>,
    metrics: JoinHandle<()>,
}

impl TelemetryRuntimeApi {
    /// A switch for the spans of [`spans`](Self::spans) and the metrics of this process that the
    /// system knows.
    #[must_use]
    pub fn new() -> Self {
        let (_, text) = StoreMetrics::alone();
        Self::with_source(text)
    }

    /// A switch for spans and these metrics.
    #[must_use]
    pub fn with_metrics(metrics: Metrics) -> Self {
        Self::with_source(move || metrics.encode())
    }

    /// A switch for spans and the metrics that `source` gives when it is asked, in the format of
    /// [`Metrics::encode`].
    #[must_use]
    pub fn with_source(source: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self {
            metrics: Arc::new(source),
            spans: Spans::default(),
            running: Mutex::default(),
        }
    }

    /// Where to put spans.
    #[must_use]
    pub fn spans(&self) -> Spans {
        self.spans.clone()
    }

    /// Sends traces and metrics from now on, within a tokio runtime: metrics at once and then at each
    /// interval, spans as they come. What went to another collector before does no longer. With
    /// `enabled: false` nothing is sent, as after
    /// [`disable_opentelemetry`](Self::disable_opentelemetry). A collector that does not answer is no
    /// error: what it misses is said in the log.
    ///
    /// # Errors
    /// [`OtlpConfigError::Collector`]; then everything is as it was.
    pub async fn enable_opentelemetry(
        &self,
        config: OpenTelemetryConfig,
    ) -> Result<(), OtlpConfigError> {
        let exporter = Exporter::new(OtlpConfig::new(&config)?);
        self.disable_opentelemetry().await;
        if !config.enabled {
            return Ok(());
        }
        let (queue, receiver) = SpanQueue::new();
        let interval = config.interval.max(INTERVAL_MIN);
        let running = Running {
            traces: tokio::spawn(receiver.export(exporter.clone())),
            metrics: tokio::spawn(export_metrics(
                exporter,
                Arc::clone(&self.metrics),
                interval,
            )),
        };
        let before = lock(&self.running).replace(running);
        *lock(&self.spans.0.queue) = Some(queue);
        self.spans.0.on.store(true, Ordering::Release);
        // Somebody else may have switched it on meanwhile.
        if let Some(before) = before {
            before.end().await;
        }
        Ok(())
    }

    /// Sends nothing any more; spans that wait are gone. When this returns, no request is under way.
    pub async fn disable_opentelemetry(&self) {
        self.spans.0.on.store(false, Ordering::Release);
        lock(&self.spans.0.queue).take();
        let running = lock(&self.running).take();
        if let Some(running) = running {
            running.end().await;
        }
    }

    /// Whether traces and metrics are sent.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.spans.is_enabled()
    }
}

impl Drop for TelemetryRuntimeApi {
    fn drop(&mut self) {
        self.spans.0.on.store(false, Ordering::Release);
        lock(&self.spans.0.queue).take();
        if let Some(running) = lock(&self.running).take() {
            running.traces.abort();
            running.metrics.abort();
        }
    }
}

impl Running {
    async fn end(self) {
        for task in [self.traces, self.metrics] {
            task.abort();
            // It was told to end.
            let _ = task.await;
        }
    }
}

impl Spans {
    /// Whether anybody wants spans; ask before making them. One load.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.on.load(Ordering::Acquire)
    }

    /// Hands spans over, if anybody wants them. Never waits.
    pub fn put(&self, spans: Vec<Span>) {
        if !self.is_enabled() {
            return;
        }
        if let Some(queue) = &*lock(&self.0.queue) {
            queue.put(spans);
        }
    }
}

async fn export_metrics(exporter: Exporter, metrics: Source, interval: Duration) {
    let mut ticks = time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = exporter.export_metrics(&metrics()).await {
            tracing::warn!(%error, "metrics lost");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
