//! The CI's families.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use valkyrie_frame::ErrorCode;

use crate::metrics::{Label, short_times};

/// Where a job that has not finished is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Waits for other jobs.
    Blocked,
    /// Waits for a runner.
    Queued,
    /// A runner has it.
    Running,
}

impl JobState {
    const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Running => "running",
        }
    }
}

/// Families `rustci_*`. Clones share them.
#[derive(Clone, Debug)]
pub struct RustciMetrics {
    runs_active: Gauge,
    runs: Family<Label, Counter>,
    jobs: Family<Label, Gauge>,
    jobs_finished: Family<Label, Counter>,
    queue_depth: Gauge,
    queue_oldest: Gauge<f64, AtomicU64>,
    jobs_waiting: Family<Label, Gauge>,
    runners_connected: Gauge,
    dispatch: Histogram,
    journal_sync: Histogram,
    log_bytes: Counter,
    log_lines: Counter,
    connection_rejects: Family<Label, Counter>,
    traces: Family<Label, Counter>,
}

impl RustciMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            runs_active: Gauge::default(),
            runs: Family::default(),
            jobs: Family::default(),
            jobs_finished: Family::default(),
            queue_depth: Gauge::default(),
            queue_oldest: Gauge::default(),
            jobs_waiting: Family::default(),
            runners_connected: Gauge::default(),
            dispatch: short_times(),
            journal_sync: short_times(),
            log_bytes: Counter::default(),
            log_lines: Counter::default(),
            connection_rejects: Family::default(),
            traces: Family::default(),
        };
        metrics.register_work(registry);
        metrics.register_services(registry);
        metrics
    }

    fn register_work(&self, registry: &mut Registry) {
        registry.register(
            "rustci_runs_active",
            "Runs not finished",
            self.runs_active.clone(),
        );
        registry.register("rustci_runs", "Runs finished", self.runs.clone());
        registry.register("rustci_jobs", "Jobs not finished", self.jobs.clone());
        registry.register(
            "rustci_jobs_finished",
            "Jobs finished",
            self.jobs_finished.clone(),
        );
        registry.register(
            "rustci_queue_depth",
            "Jobs that are ready and wait for a runner",
            self.queue_depth.clone(),
        );
        registry.register_with_unit(
            "rustci_queue_oldest",
            "How long the job has waited for a runner that does so longest",
            Unit::Seconds,
            self.queue_oldest.clone(),
        );
        registry.register(
            "rustci_jobs_waiting",
            "Jobs that wait, by what they wait for",
            self.jobs_waiting.clone(),
        );
        registry.register_with_unit(
            "rustci_dispatch",
            "Time from a ready job to its durable lease",
            Unit::Seconds,
            self.dispatch.clone(),
        );
    }

    fn register_services(&self, registry: &mut Registry) {
        registry.register(
            "rustci_runners_connected",
            "Runners with an open connection",
            self.runners_connected.clone(),
        );
        registry.register_with_unit(
            "rustci_journal_sync",
            "Time of one sync of the journal",
            Unit::Seconds,
            self.journal_sync.clone(),
        );
        registry.register_with_unit(
            "rustci_log",
            "Log bytes made durable, record headers included",
            Unit::Bytes,
            self.log_bytes.clone(),
        );
        registry.register(
            "rustci_log_lines",
            "Log lines made durable",
            self.log_lines.clone(),
        );
        registry.register(
            "rustci_connection_rejects",
            "Connections closed because of what the peer sent",
            self.connection_rejects.clone(),
        );
        registry.register(
            "rustci_traces",
            "Traces of finished runs, by what became of them",
            self.traces.clone(),
        );
    }

    /// Sets how many runs are not finished.
    pub fn runs_active(&self, count: u64) {
        set(&self.runs_active, count);
    }

    /// Counts a finished run under its conclusion, such as `success`.
    pub fn run_finished(&self, conclusion: &'static str) {
        self.runs.get_or_create(&[("conclusion", conclusion)]).inc();
    }

    /// Sets how many jobs are in a state.
    pub fn jobs(&self, state: JobState, count: u64) {
        set(&self.jobs.get_or_create(&[("state", state.name())]), count);
    }

    /// Counts a finished job under its conclusion, such as `success`.
    pub fn job_finished(&self, conclusion: &'static str) {
        self.jobs_finished
            .get_or_create(&[("conclusion", conclusion)])
            .inc();
    }

    /// Sets how many jobs are ready and wait for a runner.
    pub fn queue_depth(&self, count: u64) {
        set(&self.queue_depth, count);
    }

    /// Sets how long the job has waited for a runner that does so longest.
    pub fn queue_oldest(&self, waited: Duration) {
        self.queue_oldest.set(waited.as_secs_f64());
    }

    /// Sets how many jobs wait for something, such as `capacity`.
    pub fn jobs_waiting(&self, reason: &'static str, count: u64) {
        set(
            &self.jobs_waiting.get_or_create(&[("reason", reason)]),
            count,
        );
    }

    /// Sets how many runners have an open connection.
    pub fn runners_connected(&self, count: u64) {
        set(&self.runners_connected, count);
    }

    /// Counts the time from a ready job to its durable lease.
    pub fn dispatched(&self, elapsed: Duration) {
        self.dispatch.observe(elapsed.as_secs_f64());
    }

    /// Counts the time of one sync of the journal.
    pub fn journal_synced(&self, elapsed: Duration) {
        self.journal_sync.observe(elapsed.as_secs_f64());
    }

    /// Counts log records that became durable.
    pub fn log_stored(&self, bytes: u64, lines: u64) {
        self.log_bytes.inc_by(bytes);
        self.log_lines.inc_by(lines);
    }

    /// Counts traces that a collector took.
    pub fn traces_sent(&self, count: u64) {
        self.traces
            .get_or_create(&[("result", "sent")])
            .inc_by(count);
    }

    /// Counts traces that did not arrive.
    pub fn traces_lost(&self, count: u64) {
        self.traces
            .get_or_create(&[("result", "lost")])
            .inc_by(count);
    }

    /// Counts a connection that was closed with an error because of what the peer sent.
    pub fn connection_rejected(&self, code: ErrorCode) {
        self.connection_rejects
            .get_or_create(&[("code", code.name())])
            .inc();
    }
}

fn set(gauge: &Gauge, count: u64) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}
