//! The figures of the five benches: units, targets, medians.

use anyhow::{Context, Result};

use crate::report::{Report, percentile};

/// A figure that a bench reports.
pub(crate) struct Metric {
    bench: &'static str,
    name: &'static str,
    unit: &'static str,
    /// What ours is held against.
    target: &'static str,
}

impl Metric {
    /// Those of `bench`, in the order of its table.
    pub(crate) fn of(bench: &str) -> impl Iterator<Item = &'static Self> {
        METRICS.iter().filter(move |metric| metric.bench == bench)
    }
}

const fn metric(
    bench: &'static str,
    name: &'static str,
    unit: &'static str,
    target: &'static str,
) -> Metric {
    Metric {
        bench,
        name,
        unit,
        target,
    }
}

const METRICS: &[Metric] = &[
    metric(
        "messages",
        "tcp_batch_msgs_per_s",
        "1/s",
        ">= 30,000,000; limit x 0.5; tonic x 4; zenoh x 10",
    ),
    metric("messages", "tcp_stream_msgs_per_s", "1/s", ">= 15,000,000"),
    metric("messages", "tcp_1024_msgs_per_s", "1/s", ">= 15,000,000"),
    metric("messages", "shm_msgs_per_s", "1/s", ">= 60,000,000"),
    metric("messages", "steady_allocations_per_message", "", "< 0.001"),
    metric("messages", "steady_allocations_per_call", "", ""),
    metric(
        "calls",
        "calls_256_per_s",
        "1/s",
        ">= 1,500,000; tonic x 10",
    ),
    metric("latency", "tcp_pinned_p50_us", "us", "<= raw x 1.4"),
    metric("latency", "tcp_pinned_p99_us", "us", "<= raw x 1.4"),
    metric("latency", "tcp_parked_p50_us", "us", ""),
    metric("latency", "tcp_parked_p99_us", "us", ""),
    metric("latency", "wakeups_per_round_trip", "", "as raw"),
    metric("latency", "syscalls_per_round_trip", "", "as raw"),
    metric("latency", "tcp_spin_p50_us", "us", ""),
    metric("latency", "tcp_spin_p99_us", "us", "<= 30"),
    metric(
        "latency",
        "tcp_spin_shared_p50_us",
        "us",
        "<= tcp_pinned_p50_us x 1.3",
    ),
    metric("latency", "ack_pinned_p99_us", "us", "< 100"),
    metric("latency", "ack_spin_p99_us", "us", "< 100"),
    metric("latency", "shm_spin_p50_us", "us", "<= 3"),
    metric("bulk", "tcp_256k_gb_per_s", "GB/s", ">= 2.5; raw x 0.85"),
    metric("bulk", "tcp_bulk_gb_per_s", "GB/s", ">= 5; raw x 0.85"),
    metric("bulk", "shm_gb_per_s", "GB/s", ""),
    metric("bulk", "file_1mb_ms", "ms", "< 5"),
    metric("bulk", "stream_open_p99_us", "us", "< 500"),
    metric("bulk", "urgent_p99_us", "us", "<= 100"),
    metric("bulk", "bulk_kept_ratio", "", ">= 0.75"),
    metric("connections", "connect_p50_us", "us", "< raw x 1.5"),
    metric("connections", "tcp_kib_per_connection", "KiB", "<= 2"),
    metric("connections", "inprocess_connections", "", "1,000,000"),
    metric("connections", "inprocess_kib_per_connection", "KiB", ""),
    metric("growth", "connect_cpu_us_at_1", "us", ""),
    metric("growth", "connect_cpu_us_at_10", "us", ""),
    metric("growth", "connect_cpu_us_at_100", "us", ""),
    metric("growth", "connect_cpu_us_at_1000", "us", ""),
    metric("growth", "connect_cpu_us_at_10000", "us", ""),
    metric("growth", "connect_cpu_us_at_19000", "us", ""),
    metric("growth", "call_cpu_us_at_1", "us", ""),
    metric("growth", "call_cpu_us_at_10", "us", ""),
    metric("growth", "call_cpu_us_at_100", "us", ""),
    metric("growth", "call_cpu_us_at_1000", "us", ""),
    metric("growth", "call_cpu_us_at_10000", "us", ""),
    metric("growth", "call_cpu_us_at_19000", "us", ""),
    metric("growth", "kib_at_1000", "KiB", ""),
    metric("growth", "kib_at_10000", "KiB", ""),
    metric("growth", "kib_at_19000", "KiB", ""),
    metric("growth", "job_cpu_us_at_1", "us", ""),
    metric("growth", "job_cpu_us_at_10", "us", ""),
    metric("growth", "job_cpu_us_at_100", "us", ""),
    metric("growth", "job_cpu_us_at_450", "us", ""),
];

/// What the slices of every entrant gave.
#[derive(Default)]
pub(crate) struct Medians {
    series: Vec<Series>,
}

struct Series {
    entrant: &'static str,
    metric: &'static str,
    values: Vec<f64>,
}

impl Medians {
    /// Takes over what one slice gave.
    pub(crate) fn add(&mut self, entrant: &'static str, figures: Vec<(String, f64)>) -> Result<()> {
        for (name, value) in figures {
            let known = METRICS.iter().find(|metric| metric.name == name);
            let metric = known
                .with_context(|| format!("{name} is not in the table of metrics"))?
                .name;
            let mut series = self.series.iter_mut();
            match series.find(|series| series.entrant == entrant && series.metric == metric) {
                Some(series) => series.values.push(value),
                None => self.series.push(Series {
                    entrant,
                    metric,
                    values: vec![value],
                }),
            }
        }
        Ok(())
    }

    /// Reports the medians of `metric`, ours first and beside it all others.
    pub(crate) fn report(&mut self, metric: &Metric, report: &mut Report) {
        let of_metric = self.series.iter_mut();
        let (mut own, others): (Vec<_>, Vec<_>) = of_metric
            .filter(|series| series.metric == metric.name)
            .partition(|series| series.entrant == "ours");
        let ours = own.first_mut().map(|series| series.median());
        if let Some(ours) = ours {
            report.ours(metric.name, ours, metric.unit, metric.target);
        }
        for series in others {
            let value = series.median();
            match ours {
                Some(ours) => report.beside(series.entrant, metric.name, value, metric.unit, ours),
                None => report.peer(series.entrant, metric.name, value, metric.unit),
            }
        }
    }
}

impl Series {
    fn median(&mut self) -> f64 {
        percentile(&mut self.values, 0.5)
    }
}
