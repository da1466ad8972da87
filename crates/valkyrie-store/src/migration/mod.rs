//! Moving everything from one store to another while both are used.
//!
//! A [`MigratingStore`] stands between a program and two stores. Which of them is asked and which is
//! kept up depends on the [`Phase`], which stands in the stores themselves, so that all processes that
//! use them go together. [`MigratingStore::migrate`] takes the phases one after the other, each only
//! when what it measured allows it.
//!
//! What is copied is never what somebody wrote, but what the source holds when it is copied: a key is
//! read there, written here, and read there once more, until it was the same before and after. The last
//! of several copies of a key therefore leaves what the source holds, whoever makes them and in
//! whichever order.

mod adapter;
mod behind;
mod compare;
mod content;
mod coordinator;
mod member;
mod phase;
mod plain;
mod registry;
mod tally;
mod watch;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use crate::error::StoreError;
use crate::events::{Events, StoreEvent};
use crate::redis::RedisStore;
use crate::store::Store;
use crate::watch::{Queue, Watchers};
use behind::Behind;
use content::Pair;
use member::{Member, Views, new_id};
use plain::Plain;
use registry::Registry;
use tally::Tallies;

pub use compare::Mismatch;
pub use coordinator::{MigrationPace, MigrationProgress, MigrationReport};
pub use phase::{MigrationState, Phase};
pub use tally::{MemberReport, MigrationStatus};

use phase::Side;

/// How a migration behaves. All processes that take part have to have the same `name`, `fresh` and
/// `lease_max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationConfig {
    /// Tells migrations of the same stores apart; letters, digits and `-`. Default: `stores`.
    pub name: String,
    /// How often a process looks whether the phase has changed. Default: 250 ms.
    pub refresh: Duration,
    /// How long a process acts by what it saw last; then it waits until it has seen the phase again.
    /// Default: 2 s.
    pub fresh: Duration,
    /// How long an operation waits for that. Default: 2 s.
    pub patience: Duration,
    /// How long changes wait while the stores change places. Default: 10 s.
    pub hold_max: Duration,
    /// Longest lease or place that is given: longer ones are refused, because the change of stores waits
    /// until all are over. Default: 30 s.
    pub lease_max: Duration,
    /// Changes that may be behind on the other store; further ones are lost there until they are copied
    /// again, and counted. Default: 100,000.
    pub behind_max: usize,
    /// Of so many reads of the new store one is compared with the old one; at least 1. Default: 16.
    pub sample: u32,
}

impl Default for MigrationConfig {
    fn default() -> Self {
        Self {
            name: "stores".to_owned(),
            refresh: Duration::from_millis(250),
            fresh: Duration::from_secs(2),
            patience: Duration::from_secs(2),
            hold_max: Duration::from_secs(10),
            lease_max: Duration::from_secs(30),
            behind_max: 100_000,
            sample: 16,
        }
    }
}

impl MigrationConfig {
    fn check(&self) -> Result<(), StoreError> {
        let wrong = |text: String| Err(StoreError::Config(text));
        let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(is_fine) {
            let name = &self.name;
            return wrong(format!(
                "the migration '{name}' has a name that is none; use letters, digits and '-'"
            ));
        }
        if self.refresh.is_zero() || self.fresh < 2 * self.refresh {
            let (refresh, fresh) = (self.refresh, self.fresh);
            return wrong(format!(
                "a migration looks every {refresh:?} and acts by what it saw for {fresh:?}; the second has \
                 to be at least twice the first"
            ));
        }
        if self.sample == 0 {
            return wrong("a migration compares one of 0 reads; set 1 or more".to_owned());
        }
        Ok(())
    }
}

/// Two stores, from one of which everything moves to the other. Clones share it; when the last one is
/// gone, what was behind is lost on the other store.
#[derive(Clone)]
pub struct MigratingStore {
    inner: Arc<Inner>,
    tasks: Arc<Tasks>,
}

struct Inner {
    name: String,
    /// Tells this process from all others.
    id: String,
    old: Plain,
    new: Plain,
    /// Both without codecs, for what is copied and compared.
    stored: (Plain, Plain),
    config: MigrationConfig,
    registry: Registry,
    views: Views,
    behind: Behind,
    tallies: Tallies,
    events: Events,
    watchers: Watchers,
    /// Whether both stores keep token buckets as keys.
    has_bucket_keys: OnceLock<bool>,
}

struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl fmt::Debug for MigratingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigratingStore")
            .field("name", &self.inner.name)
            .field("state", &*self.inner.views.last())
            .finish_non_exhaustive()
    }
}

/// Copies that are made at the same time.
const WORKERS: usize = 16;

impl MigratingStore {
    /// Takes part in the migration of these stores, however far it is. Where they cannot be reached,
    /// operations fail until they can be.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) for settings that are none and for stores that are migrations
    /// themselves.
    pub fn new(
        old: impl Into<Store>,
        new: impl Into<Store>,
        config: MigrationConfig,
    ) -> Result<Self, StoreError> {
        let inner = Inner::new(old.into(), new.into(), config)?;
        let member = Member::new(Arc::clone(&inner));
        Ok(Self::with(inner, member))
    }

    /// As [`new`](Self::new), but for waiting until it is known how far the migration is.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Errors
    /// As [`new`](Self::new), and that of a store that does not answer.
    pub async fn open(
        old: impl Into<Store>,
        new: impl Into<Store>,
        config: MigrationConfig,
    ) -> Result<Self, StoreError> {
        let inner = Inner::new(old.into(), new.into(), config)?;
        let mut member = Member::new(Arc::clone(&inner));
        member.look().await?;
        Ok(Self::with(inner, member))
    }

    fn with(inner: Arc<Inner>, member: Member) -> Self {
        let mut tasks = vec![tokio::spawn(member.run()).abort_handle()];
        for _ in 0..WORKERS {
            let task = tokio::spawn(behind::work(Arc::clone(&inner)));
            tasks.push(task.abort_handle());
        }
        Self {
            inner,
            tasks: Arc::new(Tasks(tasks)),
        }
    }

    /// What this process finds from now on: [`StoreEvent::MigrationMismatch`] for each compared key that
    /// differs. Who is slow loses the oldest of 256 events.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.inner.events.listen()
    }

    /// How far it is, as this process saw it last.
    #[must_use]
    pub fn state(&self) -> MigrationState {
        (*self.inner.views.last()).clone()
    }

    /// How far it is and what all processes that take part say.
    ///
    /// # Errors
    /// The store that keeps the state does not answer.
    pub async fn status(&self) -> Result<MigrationStatus, StoreError> {
        let inner = &self.inner;
        let state = inner.look().await?;
        let members = inner.members(state.phase.primary()).await?;
        Ok(MigrationStatus { state, members })
    }

    /// Ends taking part, so that nobody waits for this process. Clones do nothing any more, and who
    /// watches changes is told that there are none to come.
    pub async fn leave(self) {
        for task in &self.tasks.0 {
            task.abort();
        }
        self.inner.watchers.each(Queue::close);
        self.inner.leave().await;
    }

    /// The servers behind both stores.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &RedisStore> {
        let Inner { old, new, .. } = &*self.inner;
        [old, new].into_iter().filter_map(Plain::server)
    }

    /// What this process is called among those that take part.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// What this process counted.
    #[must_use]
    pub fn report(&self) -> MemberReport {
        self.inner.report(self.state().revision)
    }
}

impl Inner {
    fn new(old: Store, new: Store, config: MigrationConfig) -> Result<Arc<Self>, StoreError> {
        config.check()?;
        let (old, new) = (Plain::try_from(old)?, Plain::try_from(new)?);
        Ok(Arc::new(Self {
            name: format!("migration of {}", config.name),
            id: new_id(),
            stored: (old.as_stored(), new.as_stored()),
            old,
            new,
            registry: Registry::new(&config.name),
            views: Views::new(config.fresh),
            behind: Behind::new(config.behind_max),
            tallies: Tallies::default(),
            events: Events::default(),
            watchers: Watchers::default(),
            has_bucket_keys: OnceLock::new(),
            config,
        }))
    }

    const fn side(&self, side: Side) -> &Plain {
        match side {
            Side::Old => &self.old,
            Side::New => &self.new,
        }
    }

    /// A side with values as it keeps them.
    const fn stored(&self, side: Side) -> &Plain {
        match side {
            Side::Old => &self.stored.0,
            Side::New => &self.stored.1,
        }
    }

    /// The store that counts, and the one that is kept like it.
    fn pair(&self, from: Side) -> Pair<'_> {
        Pair {
            from: self.stored(from),
            to: self.stored(from.other()),
            has_bucket_keys: self.has_bucket_keys(),
        }
    }

    /// Known since the first look, and nothing is done before it.
    fn has_bucket_keys(&self) -> bool {
        self.has_bucket_keys.get().is_some_and(|has| *has)
    }

    /// Asks both stores what they are, once.
    async fn meet(&self) -> Result<(), StoreError> {
        if self.has_bucket_keys.get().is_none() {
            let has = self.old.has_bucket_keys().await? && self.new.has_bucket_keys().await?;
            // Both looks found the same.
            let _ = self.has_bucket_keys.set(has);
        }
        Ok(())
    }

    fn report(&self, revision: u64) -> MemberReport {
        MemberReport {
            revision,
            behind: self.behind.len(),
            lost: self.behind.lost(),
            ..self.tallies.report()
        }
    }
}
