//! Traces of finished runs for an OpenTelemetry collector.
//!
//! A run is one trace: a span for it, one below it for each attempt of a job, one below that for
//! each step. They are made from the catalogue when the run has ended and sent by a thread of
//! their own, so that a slow or absent collector holds up nothing. Names follow OpenTelemetry's
//! semantic conventions for CI/CD and version control.

mod context;
mod spans;

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prost::Message;
use rustci_scheduler::record::RunMeta;
use telemetry::RustciMetrics;
use telemetry::otlp::{Exporter, OtlpConfig, Span};
use tokio::sync::{mpsc, oneshot};
use tokio::time;

use crate::catalogue::{Catalogue, CatalogueError, Queries};
use crate::limits::{THREAD_STACK_BYTES, TRACES_QUEUE};

pub(crate) use context::RunTrace;

/// How long the end of the server waits for the last traces.
const FAREWELL: Duration = Duration::from_secs(5);

/// Numbers of runs that have ended, as the catalogue's thread sees them.
#[derive(Debug, Clone)]
pub(crate) struct EndedRuns {
    sender: mpsc::Sender<u64>,
    metrics: RustciMetrics,
}

impl EndedRuns {
    /// Hands a run over; one too many is counted and left out.
    pub(crate) fn push(&self, run: u64) {
        if self.sender.try_send(run).is_err() {
            self.metrics.traces_lost(1);
        }
    }
}

/// The way from the catalogue to the tracer, to be made before both.
pub(crate) fn channel(metrics: RustciMetrics) -> (EndedRuns, mpsc::Receiver<u64>) {
    let (sender, receiver) = mpsc::channel(TRACES_QUEUE);
    (EndedRuns { sender, metrics }, receiver)
}

/// The thread that sends traces. Dropping it sends what is left, for at most five seconds.
#[derive(Debug)]
pub(crate) struct Tracer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tracer {
    /// Starts sending the runs that come out of `ended`.
    pub(crate) fn start(
        config: OtlpConfig,
        ended: mpsc::Receiver<u64>,
        queries: Queries,
        metrics: RustciMetrics,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let worker = Worker {
            exporter: Exporter::new(config),
            ended,
            queries,
            metrics,
        };
        let thread = thread::Builder::new()
            .name("traces".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || runtime.block_on(worker.run(stopped)))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by its hook; there is nobody to pass it to here.
            let _ = thread.join();
        }
    }
}

struct Worker {
    exporter: Exporter,
    ended: mpsc::Receiver<u64>,
    queries: Queries,
    metrics: RustciMetrics,
}

impl Worker {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let run = tokio::select! {
                run = self.ended.recv() => run,
                _ = &mut stopped => break,
            };
            let Some(run) = run else { return };
            tokio::select! {
                () = self.send(run) => {}
                _ = &mut stopped => {
                    // The one that was cut off goes again, with the rest.
                    let _ = time::timeout(FAREWELL, self.send_rest(Some(run))).await;
                    return;
                }
            }
        }
        let _ = time::timeout(FAREWELL, self.send_rest(None)).await;
    }

    async fn send_rest(&mut self, first: Option<u64>) {
        if let Some(run) = first {
            self.send(run).await;
        }
        // A question that goes behind all changes: after it every ended run is in the queue.
        let _ = self.queries.ask(|_| Ok(())).await;
        while let Ok(run) = self.ended.try_recv() {
            self.send(run).await;
        }
    }

    async fn send(&self, run: u64) {
        let spans = match self.spans(run).await {
            Ok(spans) if spans.is_empty() => return,
            Ok(spans) => spans,
            Err(error) => {
                tracing::warn!(run, %error, "the trace of a run cannot be made");
                return self.metrics.traces_lost(1);
            }
        };
        match self.exporter.export(spans).await {
            Ok(()) => self.metrics.traces_sent(1),
            Err(error) => {
                tracing::warn!(run, %error, "the trace of a run did not arrive");
                self.metrics.traces_lost(1);
            }
        }
    }

    async fn spans(&self, run: u64) -> Result<Vec<Span>, CatalogueError> {
        let ask = move |catalogue: &Catalogue| Ok((catalogue.run(run)?, catalogue.origin(run)?));
        let (run, origin) = self.queries.ask(ask).await?;
        let trace = origin
            .and_then(|origin| RunMeta::decode(origin.meta.as_slice()).ok())
            .and_then(|meta| RunTrace::from_bytes(&meta.trace));
        let spans = run.zip(trace).map(|(run, trace)| spans::of(&run, &trace));
        Ok(spans.unwrap_or_default())
    }
}
