//! Families of the HTTP API.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::metrics::{Label, short_times};

/// Labels of a request: few values each, since routes are templates such as `/api/v1/runs/{id}`.
type RequestLabels = [(&'static str, String); 3];
type RouteTimes = Family<[(&'static str, String); 1], Histogram, fn() -> Histogram>;

/// Families `rustci_http_*` and the streams behind them. Clones share them.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: RouteTimes,
    streams: Family<Label, Gauge>,
    limited: Counter,
}

impl HttpMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: RouteTimes::new_with_constructor(short_times),
            streams: Family::default(),
            limited: Counter::default(),
        };
        registry.register(
            "rustci_http_requests",
            "Requests answered, by route and class of the status",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "rustci_http_request_duration",
            "Time until the head of the answer",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "rustci_event_streams_open",
            "Clients that follow a run or a log",
            metrics.streams.clone(),
        );
        registry.register(
            "rustci_http_requests_limited",
            "Requests that were refused because their address asks too often",
            metrics.limited.clone(),
        );
        metrics
    }

    /// Counts a request that was refused because its address asks too often.
    pub fn limited(&self) {
        self.limited.inc();
    }

    /// Counts a request: `route` is the template, and `status` the code of the answer.
    pub fn answered(&self, method: &str, route: &str, status: u16, elapsed: Duration) {
        let class = format!("{}xx", status / 100);
        let labels = [
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", class),
        ];
        self.requests.get_or_create(&labels).inc();
        self.durations
            .get_or_create(&[("route", route.to_owned())])
            .observe(elapsed.as_secs_f64());
    }

    /// Counts a stream of a kind, such as `run`, as open until the answer is dropped.
    #[must_use]
    pub fn stream(&self, kind: &'static str) -> OpenStream {
        let gauge = self.streams.get_or_create(&[("kind", kind)]).clone();
        gauge.inc();
        OpenStream(gauge)
    }
}

/// An open stream.
#[derive(Debug)]
pub struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}
