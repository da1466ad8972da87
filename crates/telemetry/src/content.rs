//! The families of artifacts and caches.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::metrics::Label;

/// How a cache was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheAnswer {
    /// The entry with the very key.
    Hit,
    /// An entry with another key.
    Partial,
    /// Nothing.
    Miss,
}

/// Families `rustci_content_*` and `rustci_cache_*`. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ContentMetrics {
    stored: Gauge,
    blobs: Gauge,
    received: Counter,
    lookups: Family<Label, Counter>,
    removed: Family<Label, Counter>,
    freed: Counter,
}

impl ContentMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_with_unit(
            "rustci_content_stored",
            "Bytes of artifacts, caches, summaries and reports in the store at the last sweep",
            Unit::Bytes,
            metrics.stored.clone(),
        );
        registry.register(
            "rustci_content_blobs",
            "Blobs in the store at the last sweep",
            metrics.blobs.clone(),
        );
        registry.register_with_unit(
            "rustci_content_received",
            "Bytes that runners brought and the store did not have",
            Unit::Bytes,
            metrics.received.clone(),
        );
        registry.register(
            "rustci_cache_lookups",
            "Caches that jobs asked for, by what they got",
            metrics.lookups.clone(),
        );
        registry.register(
            "rustci_content_removed",
            "Artifacts and cache entries that were removed, by the reason",
            metrics.removed.clone(),
        );
        registry.register_with_unit(
            "rustci_content_freed",
            "Bytes of blobs that were removed",
            Unit::Bytes,
            metrics.freed.clone(),
        );
        metrics
    }

    /// Sets what a sweep found.
    pub fn stored(&self, bytes: u64, blobs: u64) {
        self.stored.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.blobs.set(i64::try_from(blobs).unwrap_or(i64::MAX));
    }

    /// Counts bytes that came in and were new.
    pub fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// Counts a cache that was asked for.
    pub fn looked_up(&self, answer: CacheAnswer) {
        let result = match answer {
            CacheAnswer::Hit => "hit",
            CacheAnswer::Partial => "partial",
            CacheAnswer::Miss => "miss",
        };
        self.lookups.get_or_create(&[("result", result)]).inc();
    }

    /// Counts artifacts and entries that went: `expired`, `evicted` or `deleted`.
    pub fn removed(&self, reason: &'static str, count: u64) {
        self.removed
            .get_or_create(&[("reason", reason)])
            .inc_by(count);
    }

    /// Counts bytes of blobs that went.
    pub fn freed(&self, bytes: u64) {
        self.freed.inc_by(bytes);
    }
}
