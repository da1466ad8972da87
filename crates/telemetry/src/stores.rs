//! Families of the stores behind limits and caches.

use std::sync::atomic::Ordering;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::process::Process;

type StoreLabel = [(&'static str, String); 1];

/// Families `rustci_store_*`, set from the stores' own counts when somebody looks. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct StoreMetrics {
    up: Family<StoreLabel, Gauge>,
    answered: Family<StoreLabel, Counter>,
    failed: Family<StoreLabel, Counter>,
    fell_back: Counter,
}

impl StoreMetrics {
    /// These families for a program that has no others, with those of the process, and what gives them
    /// as text.
    pub fn alone() -> (Self, impl Fn() -> String + Send + Sync + 'static) {
        let mut registry = Registry::default();
        let metrics = Self::register(&mut registry);
        registry.register_collector(Box::new(Process::new()));
        let text = move || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("writing to a String cannot fail");
            text
        };
        (metrics, text)
    }

    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "rustci_store_up",
            "Whether a store is asked: 1, or 0 while it is left alone",
            metrics.up.clone(),
        );
        registry.register(
            "rustci_store_operations",
            "Operations that a store answered",
            metrics.answered.clone(),
        );
        registry.register(
            "rustci_store_failures",
            "Operations for which a store could not be reached or gave no answer",
            metrics.failed.clone(),
        );
        registry.register(
            "rustci_store_fallbacks",
            "Operations that another store than the first did",
            metrics.fell_back.clone(),
        );
        metrics
    }

    /// What a store's own counts say.
    #[expect(
        clippy::fn_params_excessive_bools,
        reason = "a gauge of Prometheus that is 1 or 0"
    )]
    pub fn set(&self, store: &str, up: bool, answered: u64, failed: u64) {
        let label = [("store", store.to_owned())];
        self.up.get_or_create(&label).set(i64::from(up));
        let counter = |family: &Family<StoreLabel, Counter>, value| {
            family
                .get_or_create(&label)
                .inner()
                .store(value, Ordering::Relaxed);
        };
        counter(&self.answered, answered);
        counter(&self.failed, failed);
    }

    /// Operations that another store than the first did, since the start.
    pub fn set_fell_back(&self, count: u64) {
        self.fell_back.inner().store(count, Ordering::Relaxed);
    }
}
