//! A chain of stores.

mod adapter;
mod chain;
mod stale;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use telemetry::StoreMetrics;
use telemetry::notify::Notifier;
use telemetry::otlp::{Spans, TelemetryRuntimeApi};
use tokio::sync::broadcast;

#[cfg(doc)]
use crate::adapter::OpClass;
use crate::adapter::StoreAdapter;
use crate::breaker::{Breaker, BreakerConfig, BreakerState};
use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::events::{Events, StoreEvent, notify_of};
use crate::spans::Recorder;
use crate::store::Store;
use crate::usage::{HotKey, Usage};
use crate::watch::Watchers;
use stale::Stale;

/// How a chain behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HybridConfig {
    /// When a store is left alone.
    pub breaker: BreakerConfig,
    /// Processes that would each count for themselves where a limit falls back to memory: each lets
    /// through its share. Default: 1.
    pub expected_nodes: u32,
    /// Whether tokens are given when no store answers. Default: no.
    pub limits_open: bool,
}

impl Default for HybridConfig {
    fn default() -> Self {
        Self {
            breaker: BreakerConfig::default(),
            expected_nodes: 1,
            limits_open: false,
        }
    }
}

/// A store of a chain, with what is known of it.
#[derive(Debug)]
pub struct Backend {
    store: Store,
    breaker: Breaker,
    answered: AtomicU64,
    failed: AtomicU64,
    last_error: Mutex<Option<String>>,
    /// What stores behind it have changed in its place.
    stale: Stale,
    /// Whether somebody removes that.
    is_cleaned: AtomicBool,
}

/// How a store of a chain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Whether it is asked.
    pub state: BreakerState,
    /// Operations that it answered.
    pub answered: u64,
    /// Operations for which it could not be reached or gave no answer.
    pub failed: u64,
    /// The last such failure.
    pub last_error: Option<String>,
    /// Keys that stores behind it have changed and that it has yet to forget.
    pub stale: usize,
    /// Keys of which that is not known any more, because there were too many. Their old values may be
    /// read.
    pub stale_lost: u64,
}

/// A chain of stores: the first is asked while it answers, the others in its place when it does not.
///
/// | class | operations | when the first store fails |
/// |---|---|---|
/// | [`Cache`](OpClass::Cache) | read, unconditional write and removal, lifetimes | the next one is asked; values may be missing or old, then and after the change back |
/// | [`RateLimit`](OpClass::RateLimit) | buckets, counters | the next one is asked if the first was certainly not reached; stores do not share counts, so up to a burst more is let through at each change |
/// | [`Coordination`](OpClass::Coordination) | leases, places, conditional writes, scan, watch | an error, always: two stores would have two holders |
///
/// Clones share it.
#[derive(Debug, Clone)]
pub struct HybridStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    chain: Vec<Backend>,
    config: HybridConfig,
    fell_back: AtomicU64,
    /// The place of the store that answered last.
    place: AtomicUsize,
    events: Events,
    watchers: Watchers,
    usage: Usage,
    recorder: Recorder,
    telemetry: OnceLock<TelemetryRuntimeApi>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl HybridStore {
    /// A chain of these stores, at least one, the first being the one that decides.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where there is none.
    pub fn of(stores: impl IntoIterator<Item = Store>, config: HybridConfig) -> Result<Self> {
        let backend = |store| Backend {
            store,
            breaker: Breaker::new(config.breaker),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_error: Mutex::new(None),
            stale: Stale::default(),
            is_cleaned: AtomicBool::new(false),
        };
        let chain: Vec<_> = stores.into_iter().map(backend).collect();
        if chain.is_empty() {
            return Err(StoreError::Config("a chain of stores has none".to_owned()));
        }
        Ok(Self(Arc::new(Inner {
            chain,
            config,
            fell_back: AtomicU64::new(0),
            place: AtomicUsize::new(0),
            events: Events::default(),
            watchers: Watchers::default(),
            usage: Usage::default(),
            recorder: Recorder::default(),
            telemetry: OnceLock::new(),
        })))
    }

    /// The chain that a file describes. Stores are connected to when they are first asked. Whom the file
    /// names is notified, and its collector gets traces and metrics, as long as the chain is there.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where a URL is none, an adapter cannot be used, or the collector
    /// has no address.
    pub async fn new(config: StoreConfig) -> Result<Self> {
        let store = config.build()?;
        let notifications = config.notifications();
        if !notifications.is_empty() {
            let manager = notifications.manager(|name| std::env::var(name).ok())?;
            store.notify(&manager.notifier());
        }
        let otel = config.opentelemetry();
        if otel.enabled {
            let enabling = store.telemetry().enable_opentelemetry(otel.clone());
            enabling
                .await
                .map_err(|error| StoreError::Config(format!("telemetry.opentelemetry: {error}")))?;
        }
        Ok(store)
    }

    /// What happens to the stores from now on. Who is slow loses the oldest of 256 events.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.0.events.listen()
    }

    /// Has people told of what happens to the stores from now on, and to those of its chain that are being
    /// migrated, as long as they are there.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn notify(&self, notifier: &Notifier) {
        tokio::spawn(notify_of(self.events(), notifier.clone()));
        for store in self.stores() {
            if let Store::Migrating(store) = store {
                tokio::spawn(notify_of(store.events(), notifier.clone()));
            }
        }
    }

    /// Puts a span there for each operation, while anybody wants spans there. The first call is heard.
    pub fn record(&self, spans: Spans) {
        self.0.recorder.set(spans);
    }

    /// Switches the export of this chain's metrics, `rustci_store_*`, and of its spans unless
    /// [`record`](Self::record) has sent them elsewhere. Off at first.
    pub fn telemetry(&self) -> &TelemetryRuntimeApi {
        self.0.telemetry.get_or_init(|| {
            let (metrics, text) = StoreMetrics::alone();
            let inner = Arc::downgrade(&self.0);
            let api = TelemetryRuntimeApi::with_source(move || {
                if let Some(inner) = inner.upgrade() {
                    Self(inner).count(&metrics);
                }
                text()
            });
            self.record(api.spans());
            api
        })
    }

    /// Sets families of metrics to what is counted here.
    pub fn count(&self, metrics: &StoreMetrics) {
        for backend in self.status() {
            let up = backend.state != BreakerState::Open;
            metrics.set(&backend.name, up, backend.answered, backend.failed);
        }
        metrics.set_fell_back(self.fell_back());
    }

    /// How each store is, in the order of the chain.
    #[must_use]
    pub fn status(&self) -> Vec<BackendStatus> {
        let status = |backend: &Backend| BackendStatus {
            name: backend.store.name().to_owned(),
            state: backend.breaker.state(),
            answered: backend.answered.load(Ordering::Relaxed),
            failed: backend.failed.load(Ordering::Relaxed),
            last_error: backend.last_error().clone(),
            stale: backend.stale.len(),
            stale_lost: backend.stale.lost(),
        };
        self.0.chain.iter().map(status).collect()
    }

    /// The stores, in the order of the chain.
    pub(crate) fn stores(&self) -> impl Iterator<Item = &Store> {
        self.0.chain.iter().map(|backend| &backend.store)
    }

    /// The keys that are asked for most, the first first, with what may be done about each.
    #[must_use]
    pub fn hot_keys(&self) -> Vec<HotKey> {
        self.0.usage.hot_keys()
    }

    /// Operations that another store than the first did.
    #[must_use]
    pub fn fell_back(&self) -> u64 {
        self.0.fell_back.load(Ordering::Relaxed)
    }
}
