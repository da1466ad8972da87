//! The registry.

use std::{sync::Arc, time::Instant};

use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, histogram::Histogram, histogram::exponential_buckets, info::Info},
    registry::Registry,
};

use crate::process::Process;
use crate::{
    ContentMetrics, HttpMetrics, PeerReports, RustciMetrics, StoreMetrics, ValkyrieMetrics,
};

/// Media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One label whose values are known when the program is built.
pub(crate) type Label = [(&'static str, &'static str); 1];
/// Two such labels.
pub(crate) type Labels = [(&'static str, &'static str); 2];
/// Histograms by one label.
pub(crate) type Timings = Family<Label, Histogram, fn() -> Histogram>;

/// Every metric family of a process. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The protocol's families, `valkyrie_*`.
    pub valkyrie: ValkyrieMetrics,
    /// The CI's families, `rustci_*`.
    pub rustci: RustciMetrics,
    /// The families of artifacts and caches, `rustci_content_*` and `rustci_cache_*`.
    pub content: ContentMetrics,
    /// What peers report, `peer_*`.
    pub peers: PeerReports,
    /// The API's families, `rustci_http_*`.
    pub http: HttpMetrics,
    /// The families of stores, `rustci_store_*`.
    pub stores: StoreMetrics,
    registry: Arc<Registry>,
}

impl Metrics {
    /// Registers all families, each empty.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let valkyrie = ValkyrieMetrics::register(&mut registry);
        let rustci = RustciMetrics::register(&mut registry);
        let content = ContentMetrics::register(&mut registry);
        let http = HttpMetrics::register(&mut registry);
        let stores = StoreMetrics::register(&mut registry);
        let peers = PeerReports::register(&mut registry);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("rustci_build", "The program that answers", build);
        registry.register_collector(Box::new(Process::new()));
        Self {
            valkyrie,
            rustci,
            content,
            peers,
            http,
            stores,
            registry: Arc::new(registry),
        }
    }

    /// The families in the `OpenMetrics` text format, for `/metrics`.
    #[must_use]
    pub fn encode(&self) -> String {
        self.encode_at(Instant::now())
    }

    /// The same for a caller with its own clock; only the throughput gauges depend on it.
    #[must_use]
    pub fn encode_at(&self, now: Instant) -> String {
        self.valkyrie.update_throughput(now);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// 50 us to 13 s, each bucket twice the one before.
pub(crate) fn short_times() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 19))
}

/// 0.1 s to 4.9 days, each bucket four times the one before: connections live long.
pub(crate) fn long_times() -> Histogram {
    Histogram::new(exponential_buckets(0.1, 4.0, 12))
}
