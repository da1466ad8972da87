//! A chain of stores.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use telemetry::StoreMetrics;
use telemetry::notify::Notifier;
use telemetry::otlp::{Spans, TelemetryRuntimeApi};
use tokio::sync::broadcast;
use yggdrasil::{Decision, Limit, Outcome, Together, Transacted};

use crate::adapter::{
    Acquired, Caps, Condition, Increment, Leased, Lifetime, OpClass, Page, StoreAdapter,
    TokenRequest, USUAL_LIMIT, Value, Written,
};
use crate::attempt::Attempt;
use crate::breaker::{Breaker, BreakerConfig, BreakerState};
use crate::config::StoreConfig;
use crate::error::{Applied, StoreError};
use crate::events::{Events, StoreEvent, notify_of};
use crate::spans::{Recorder, Recording};
use crate::stale::Stale;
use crate::store::Store;
use crate::transaction::Transaction;
use crate::usage::{HotKey, Usage, Use};
use crate::watch::{Watch, Watchers};

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

/// Whether an operation that may have been done may be done once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It comes to the same.
    Harmless,
    /// It would count twice.
    Counts,
}

/// What an operation is to a chain of stores.
#[derive(Debug, Clone, Copy)]
struct Job<'a> {
    /// In spans.
    name: &'static str,
    class: OpClass,
    repeat: Repeat,
    /// Keys whose values it reads.
    reads: &'a [&'a [u8]],
    /// Keys whose values it changes.
    changes: &'a [&'a [u8]],
}

impl<'a> Job<'a> {
    /// One that may be repeated and looks at nothing.
    const fn new(name: &'static str, class: OpClass) -> Self {
        Self {
            name,
            class,
            repeat: Repeat::Harmless,
            reads: &[],
            changes: &[],
        }
    }

    const fn repeat(self, repeat: Repeat) -> Self {
        Self { repeat, ..self }
    }

    const fn reads(self, reads: &'a [&'a [u8]]) -> Self {
        Self { reads, ..self }
    }

    const fn changes(self, changes: &'a [&'a [u8]]) -> Self {
        Self { changes, ..self }
    }
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

    /// Writes down that a key is used; tells of what is worth it.
    fn saw(&self, what: Use, key: &[u8]) {
        let Some(told) = self.0.usage.saw(what, key, Instant::now()) else {
            return;
        };
        let unusual = told.unusual.map(StoreEvent::Unusual);
        let hot = told.hot.into_iter().map(StoreEvent::HotKey);
        unusual.into_iter().chain(hot).for_each(|event| {
            tracing::info!(?event, "keys are used much");
            self.0.events.say(event);
        });
    }

    /// Operations that another store than the first did.
    #[must_use]
    pub fn fell_back(&self) -> u64 {
        self.0.fell_back.load(Ordering::Relaxed)
    }

    /// Does several operations on one store. They are done again, from the beginning, on the next one
    /// only where the one that failed was certainly not applied and none before it wrote anything.
    ///
    /// # Errors
    /// That of the operations.
    pub async fn execute_with_fallback<T>(
        &self,
        mut work: impl FnMut(Attempt) -> Pin<Box<dyn Future<Output = Result<T>> + Send>>,
    ) -> Result<T> {
        let mut recording = self.0.recorder.begin("execute");
        let mut last = None;
        for (place, backend) in self.0.chain.iter().enumerate() {
            if !backend.breaker.allows(Instant::now()) {
                let error = last.get_or_insert_with(|| backend.left_alone());
                if let Some(recording) = recording.as_mut() {
                    recording.failed(backend.store.name(), error);
                }
                continue;
            }
            let attempt = Attempt::new(self.clone(), place, backend.store.clone());
            let wrote = attempt.writes();
            match work(attempt).await {
                Ok(value) => {
                    self.answered(place, backend, recording.as_mut());
                    return Ok(value);
                }
                Err(error) => {
                    self.failed(backend, &error, recording.as_mut());
                    if !error.is_not_applied() || wrote.load(Ordering::Acquire) {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| StoreError::Config("a chain of stores has none".to_owned())))
    }

    /// Does an operation on the first store that may and can.
    async fn run<T, F: Future<Output = Result<T>>>(
        &self,
        job: Job<'_>,
        operation: impl Fn(usize, Store) -> F,
    ) -> Result<T> {
        let mut recording = self.0.recorder.begin(job.name);
        let may_fall_back = job.class != OpClass::Coordination;
        let stores = if may_fall_back { usize::MAX } else { 1 };
        let mut last = None;
        for (place, backend) in self.0.chain.iter().enumerate().take(stores) {
            if !backend.breaker.allows(Instant::now()) {
                let error = last.get_or_insert_with(|| backend.left_alone());
                if let Some(recording) = recording.as_mut() {
                    recording.failed(backend.store.name(), error);
                }
                continue;
            }
            let done = match self.forget(place, &[job.reads, job.changes]).await {
                Ok(()) => operation(place, backend.store.clone()).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(value) => {
                    self.answered(place, backend, recording.as_mut());
                    self.changed(place, job.changes);
                    return Ok(value);
                }
                Err(error) => {
                    self.failed(backend, &error, recording.as_mut());
                    let elsewhere = match error.applied() {
                        Some(Applied::No) => true,
                        Some(Applied::Unknown) => job.repeat == Repeat::Harmless,
                        None => false,
                    };
                    if !elsewhere {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| StoreError::Config("a chain of stores has none".to_owned())))
    }

    fn answered(&self, place: usize, backend: &Backend, recording: Option<&mut Recording>) {
        self.trusted(backend);
        if backend.stale.len() > 0 {
            self.clean(place);
        }
        backend.answered.fetch_add(1, Ordering::Relaxed);
        let store = backend.store.name();
        if let Some(recording) = recording {
            recording.answered(store, place);
        }
        if place > 0 {
            self.0.fell_back.fetch_add(1, Ordering::Relaxed);
        }
        if self.0.place.load(Ordering::Relaxed) == place
            || self.0.place.swap(place, Ordering::AcqRel) == place
        {
            return;
        }
        self.tell_watchers();
        if place > 0 {
            let first = self.0.chain.first().map(|first| first.store.name());
            self.0.events.say(StoreEvent::FellBack {
                from: first.unwrap_or_default().to_owned(),
                to: store.to_owned(),
            });
        }
    }

    /// Has a store that is back forget everything that others have changed in its place, while
    /// operations go on.
    fn clean(&self, place: usize) {
        let (Some(backend), Ok(runtime)) = (
            self.0.chain.get(place),
            tokio::runtime::Handle::try_current(),
        ) else {
            return;
        };
        if backend.breaker.state() != BreakerState::Closed
            || backend.is_cleaned.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let this = self.clone();
        runtime.spawn(async move {
            let Some(backend) = this.0.chain.get(place) else {
                return;
            };
            while let Some(key) = backend.stale.any() {
                if this.forget(place, &[&[&key]]).await.is_err() {
                    break;
                }
            }
            backend.is_cleaned.store(false, Ordering::Release);
        });
    }

    /// Has a store forget what others have changed of these keys in its place. That is no part of an
    /// operation yet.
    pub(crate) async fn forget(&self, place: usize, keys: &[&[&[u8]]]) -> Result<()> {
        let mut chain = self.0.chain.iter().skip(place);
        let Some(backend) = chain.next().filter(|backend| backend.stale.len() > 0) else {
            return Ok(());
        };
        let others = chain.filter(|other| other.breaker.state() == BreakerState::Closed);
        let others: Vec<&Store> = others.map(|other| &other.store).collect();
        for keys in keys {
            for key in *keys {
                let removed = backend.stale.remove(key, &backend.store, &others).await;
                removed.map_err(StoreError::but_not_applied)?;
            }
        }
        Ok(())
    }

    /// A store has changed these keys; those before it do not know.
    pub(crate) fn changed(&self, place: usize, keys: &[&[u8]]) {
        for before in self.0.chain.iter().take(place) {
            keys.iter().for_each(|key| before.stale.add(key));
        }
    }

    /// Tells those who watch the first store whether it is asked.
    fn tell_watchers(&self) {
        let place = &self.0.place;
        self.0
            .watchers
            .each(|queue| match place.load(Ordering::Acquire) {
                0 => queue.came_back(),
                _ => queue.fell_back(),
            });
    }

    /// Writes down what an error says of a store. One that it answered says that it is there.
    fn failed(&self, backend: &Backend, error: &StoreError, recording: Option<&mut Recording>) {
        let store = backend.store.name();
        if let Some(recording) = recording {
            recording.failed(store, error);
        }
        if error.applied().is_none() {
            self.trusted(backend);
            return;
        }
        backend.failed.fetch_add(1, Ordering::Relaxed);
        *backend.last_error() = Some(error.to_string());
        if backend.breaker.failed(Instant::now()) {
            tracing::warn!(store, %error, "store is left alone");
            self.0.events.say(StoreEvent::BreakerOpened {
                store: store.to_owned(),
                cause: error.to_string(),
            });
        }
    }

    fn trusted(&self, backend: &Backend) {
        if backend.breaker.succeeded() {
            let store = backend.store.name().to_owned();
            tracing::info!(store, "store is trusted again");
            self.0.events.say(StoreEvent::BreakerClosed { store });
        }
    }

    /// Whether nobody is held up because no store can be asked.
    fn lets_in(&self, error: &StoreError) -> bool {
        error.applied().is_some() && self.0.config.limits_open
    }

    /// The limit that a store of the chain holds: all of it, or this process' share.
    fn share(&self, place: usize, store: &Store, limit: &Limit) -> Limit {
        let nodes = self.0.config.expected_nodes.max(1);
        if place == 0 || store.caps().shared || nodes == 1 {
            return *limit;
        }
        let emission_ns = limit.emission_ns().saturating_mul(u64::from(nodes));
        let burst = (limit.burst() / nodes).max(1);
        Limit::new(emission_ns, burst).unwrap_or(*limit)
    }
}

impl Backend {
    fn last_error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn left_alone(&self) -> StoreError {
        let cause = match &*self.last_error() {
            Some(error) => format!("it is left alone for a while after: {error}"),
            None => "it is left alone for a while".to_owned(),
        };
        StoreError::Unavailable {
            store: self.store.name().to_owned(),
            cause,
            applied: Applied::No,
        }
    }
}

/// What is decided without any store.
fn unasked(limit: &Limit) -> Decision {
    Decision {
        outcome: Outcome::Allowed,
        remaining: 0,
        retry_after_ns: 0,
        reset_after_ns: limit.room_ns(),
    }
}

impl StoreAdapter for HybridStore {
    fn name(&self) -> &str {
        "hybrid"
    }

    fn caps(&self) -> Caps {
        self.0
            .chain
            .first()
            .map(|backend| backend.store.caps())
            .unwrap_or_default()
    }

    async fn read(&self, key: &[u8]) -> Result<Option<Value>> {
        self.saw(Use::Read, key);
        let read = |_, store: Store| async move { store.read(key).await };
        let job = Job::new("read", OpClass::Cache);
        self.run(job.reads(&[key]), read).await
    }

    async fn read_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        keys.iter().for_each(|key| self.saw(Use::Read, key));
        let read = |_, store: Store| async move { store.read_many(keys).await };
        let job = Job::new("read_many", OpClass::Cache);
        self.run(job.reads(keys), read).await
    }

    async fn write(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
    ) -> Result<Written> {
        self.saw(Use::Write, key);
        let write =
            |_, store: Store| async move { store.write(key, value, lifetime, condition).await };
        let job = Job::new("write", condition.class());
        self.run(job.changes(&[key]), write).await
    }

    async fn remove(&self, key: &[u8], condition: Condition<'_>) -> Result<bool> {
        self.saw(Use::Write, key);
        let remove = |_, store: Store| async move { store.remove(key, condition).await };
        let job = Job::new("remove", condition.class());
        self.run(job.changes(&[key]), remove).await
    }

    async fn set_lifetime(&self, key: &[u8], lifetime: Lifetime) -> Result<bool> {
        let set = |_, store: Store| async move { store.set_lifetime(key, lifetime).await };
        let job = Job::new("set_lifetime", OpClass::Cache);
        self.run(job.changes(&[key]), set).await
    }

    async fn lifetime(&self, key: &[u8]) -> Result<Option<Option<Duration>>> {
        let ask = |_, store: Store| async move { store.lifetime(key).await };
        let job = Job::new("lifetime", OpClass::Cache);
        self.run(job.reads(&[key]), ask).await
    }

    /// Pages of different stores do not fit together, so a scan that has begun stays with the first
    /// store.
    async fn scan(&self, prefix: &[u8], from: Option<u64>) -> Result<Page> {
        let scan = |_, store: Store| async move { store.scan(prefix, from).await };
        self.run(Job::new("scan", OpClass::Coordination), scan)
            .await
    }

    async fn add(&self, key: &[u8], increment: &Increment) -> Result<(i64, i64)> {
        self.saw(Use::Count, key);
        let add = |_, store: Store| async move { store.add(key, increment).await };
        let job = Job::new("add", OpClass::RateLimit);
        self.run(job.repeat(Repeat::Counts), add).await
    }

    async fn consume(&self, key: &[u8], limit: &Limit, cost: u32) -> Result<Decision> {
        self.saw(Use::Consume, key);
        let consume = |place, store: Store| {
            let share = self.share(place, &store, limit);
            async move { store.consume(key, &share, cost).await }
        };
        let repeat = match cost {
            0 => Repeat::Harmless,
            _ => Repeat::Counts,
        };
        let job = Job::new("consume", OpClass::RateLimit).repeat(repeat);
        match self.run(job, consume).await {
            Err(error) if self.lets_in(&error) => Ok(unasked(limit)),
            decided => decided,
        }
    }

    async fn consume_many(
        &self,
        requests: &[TokenRequest<'_>],
        together: Together,
    ) -> Result<Vec<Decision>> {
        requests
            .iter()
            .for_each(|it| self.saw(Use::Consume, it.key));
        let consume = |place, store: Store| {
            let shares = requests.iter().map(|it| TokenRequest {
                limit: self.share(place, &store, &it.limit),
                ..*it
            });
            let shares: Vec<_> = shares.collect();
            async move { store.consume_many(&shares, together).await }
        };
        let repeat = match requests.iter().all(|it| it.cost == 0) {
            true => Repeat::Harmless,
            false => Repeat::Counts,
        };
        let job = Job::new("consume_many", OpClass::RateLimit).repeat(repeat);
        match self.run(job, consume).await {
            Err(error) if self.lets_in(&error) => {
                Ok(requests.iter().map(|it| unasked(&it.limit)).collect())
            }
            decided => decided,
        }
    }

    async fn transact(&self, transaction: &Transaction<'_>) -> Result<Transacted> {
        transaction
            .changed()
            .for_each(|key| self.saw(Use::Write, key));
        let class = transaction.class();
        let repeat = match class {
            OpClass::RateLimit => Repeat::Counts,
            OpClass::Cache | OpClass::Coordination => Repeat::Harmless,
        };
        let transact = |_, store: Store| async move { store.transact(transaction).await };
        let job = Job::new("transact", class).repeat(repeat);
        let keys: Vec<_> = transaction.keys().collect();
        let written: Vec<_> = transaction.written().collect();
        self.run(job.reads(&keys).changes(&written), transact).await
    }

    async fn lease(&self, key: &[u8], holder: &[u8], ttl: Duration) -> Result<Leased> {
        self.saw(Use::Lease, key);
        let lease = |_, store: Store| async move { store.lease(key, holder, ttl).await };
        self.run(Job::new("lease", OpClass::Coordination), lease)
            .await
    }

    async fn renew(&self, key: &[u8], fence: u64, ttl: Duration) -> Result<bool> {
        let renew = |_, store: Store| async move { store.renew(key, fence, ttl).await };
        self.run(Job::new("renew", OpClass::Coordination), renew)
            .await
    }

    async fn release(&self, key: &[u8], fence: u64) -> Result<bool> {
        let release = |_, store: Store| async move { store.release(key, fence).await };
        self.run(Job::new("release", OpClass::Coordination), release)
            .await
    }

    async fn acquire(
        &self,
        key: &[u8],
        holder: &[u8],
        places: u32,
        ttl: Duration,
    ) -> Result<Acquired> {
        self.saw(Use::Lease, key);
        let acquire =
            |_, store: Store| async move { store.acquire(key, holder, places, ttl).await };
        self.run(Job::new("acquire", OpClass::Coordination), acquire)
            .await
    }

    async fn give_back(&self, key: &[u8], holder: &[u8]) -> Result<bool> {
        let give_back = |_, store: Store| async move { store.give_back(key, holder).await };
        self.run(Job::new("give_back", OpClass::Coordination), give_back)
            .await
    }

    async fn ping(&self) -> Result<()> {
        let ping = |_, store: Store| async move { store.ping().await };
        self.run(Job::new("ping", OpClass::Cache), ping).await
    }

    /// That of the first store. Values may be other ones whenever another store is asked, so `Lost` comes
    /// then, and once more when the first is asked again.
    async fn watch(&self, prefix: &[u8]) -> Result<Watch> {
        let watch = |_, store: Store| async move { store.watch(prefix).await };
        let watch = self
            .run(Job::new("watch", OpClass::Coordination), watch)
            .await?;
        self.0.watchers.add(&watch);
        // It may have changed before the watch was among those that are told.
        if self.0.place.load(Ordering::Acquire) != 0 {
            self.tell_watchers();
        }
        Ok(watch)
    }

    fn usual_limit(&self) -> Limit {
        let first = self.0.chain.first();
        first.map_or(USUAL_LIMIT, |backend| backend.store.usual_limit())
    }
}
