//! What this process knows of the state, and since when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Inner;
use super::phase::{MigrationState, Phase, Side};
use crate::error::{Applied, StoreError};

/// The state as it was seen last. An operation holds the state that it acts by until it is over.
#[derive(Debug)]
pub(super) struct Views {
    last: watch::Sender<View>,
    fresh: Duration,
    /// Whether this process has begun a way back.
    steps_back: AtomicBool,
}

#[derive(Debug, Clone)]
struct View {
    state: Arc<MigrationState>,
    /// `None` before the first look.
    at: Option<Instant>,
}

impl View {
    fn is_fresh(&self, fresh: Duration) -> bool {
        self.at.is_some_and(|at| at.elapsed() < fresh)
    }
}

/// What somebody wants to do by the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Change,
}

impl Views {
    pub(super) fn new(fresh: Duration) -> Self {
        let none = View {
            state: Arc::new(MigrationState::NONE),
            at: None,
        };
        Self {
            last: watch::Sender::new(none),
            fresh,
            steps_back: AtomicBool::new(false),
        }
    }

    /// The state, however long ago it was seen.
    pub(super) fn last(&self) -> Arc<MigrationState> {
        Arc::clone(&self.last.borrow().state)
    }

    /// Whether the state was seen so lately that it may be acted by.
    pub(super) fn is_fresh(&self) -> bool {
        self.last.borrow().is_fresh(self.fresh)
    }

    /// Waits until another side is read than this.
    pub(super) async fn moved(&self, from: Side) {
        let mut looks = self.last.subscribe();
        while looks.borrow_and_update().state.phase.reads() == from {
            // The sender is in `self`.
            let _ = looks.changed().await;
        }
    }

    fn saw(&self, state: MigrationState, at: Instant) -> Option<Arc<MigrationState>> {
        let mut before = None;
        self.last.send_modify(|view| {
            view.at = Some(at);
            if view.state.revision < state.revision {
                before = Some(std::mem::replace(&mut view.state, Arc::new(state)));
            }
        });
        before
    }

    /// The state if it may be acted by now.
    fn now(&self, view: &View, access: Access) -> Option<Arc<MigrationState>> {
        let is_fresh = view.is_fresh(self.fresh);
        let is_held = access == Access::Change && view.state.phase.holds_writes();
        (is_fresh && !is_held).then(|| Arc::clone(&view.state))
    }
}

impl Inner {
    /// The state to act by, which is waited for where it is not known for sure or changes are held.
    pub(super) async fn view(&self, access: Access) -> Result<Arc<MigrationState>, StoreError> {
        let views = &self.views;
        if let Some(state) = views.now(&views.last.borrow(), access) {
            return Ok(state);
        }
        let patience = match views.last().phase.holds_writes() && access == Access::Change {
            true => self.config.hold_max,
            false => self.config.patience,
        };
        let mut looks = views.last.subscribe();
        let wait = async {
            loop {
                let state = views.now(&looks.borrow_and_update(), access);
                if let Some(state) = state {
                    return state;
                }
                // The sender is in `self`.
                let _ = looks.changed().await;
            }
        };
        tokio::time::timeout(patience, wait).await.map_err(|_| {
            let phase = views.last().phase.name();
            StoreError::Unavailable {
                store: self.name.clone(),
                cause: format!(
                    "the phase of the migration, last seen as {phase}, was not seen again or held changes \
                     for {patience:?}"
                ),
                applied: Applied::No,
            }
        })
    }

    /// Ends the migration because the new store is at fault, if it is being read.
    pub(super) fn step_back(self: &Arc<Self>, cause: String) {
        let state = self.views.last();
        let may = state.phase.rolls_back_by_itself();
        if !may || self.views.steps_back.swap(true, Ordering::AcqRel) {
            return;
        }
        let name = self.name.clone();
        tracing::error!(migration = name, cause, "the old store is read again");
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = inner.roll_back_by_itself(&cause).await {
                let name = &inner.name;
                tracing::error!(migration = name, %error, "the way back is not finished; it is tried again");
            }
            inner.views.steps_back.store(false, Ordering::Release);
        });
    }

    async fn roll_back_by_itself(&self, cause: &str) -> Result<(), StoreError> {
        let mut state = self.look().await?;
        if state.phase.rolls_back_by_itself() {
            let back = state.to(Phase::StepBack, cause);
            if !self.go(&state, &back).await? {
                return Ok(());
            }
            state = back;
        }
        if state.phase == Phase::StepBack {
            // By then everyone has seen it, or has stopped.
            tokio::time::sleep(self.config.member_ttl()).await;
            let done = state.to(Phase::RolledBack, cause);
            self.go(&state, &done).await?;
        }
        Ok(())
    }
}

/// Looks again and again, and says how far this process is.
pub(super) struct Member {
    inner: Arc<Inner>,
    /// States that operations may still act by.
    before: Vec<Weak<MigrationState>>,
    /// The state whose operations are the oldest that are not over.
    settled: u64,
}

impl Member {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            before: Vec::new(),
            settled: 0,
        }
    }

    /// Looks once: first this process says that it is there, so that whoever changes the state from now
    /// on waits for it, and then it sees the state.
    pub(super) async fn look(&mut self) -> Result<(), StoreError> {
        let inner = &self.inner;
        let at = Instant::now();
        inner.meet().await?;
        self.before.retain(|state| state.strong_count() > 0);
        let last = inner.views.last();
        if self.before.is_empty() {
            self.settled = last.revision;
        }
        let report = inner.report(self.settled);
        let told = inner.tell(&inner.id, &report, last.phase).await;
        let state = inner.look().await?;
        // It may be that the other store counts by now.
        match told {
            Ok(()) if last.phase.primary() == state.phase.primary() => {}
            _ => inner.tell(&inner.id, &report, state.phase).await?,
        }
        if let Some(before) = inner.views.saw(state, at) {
            self.before.push(Arc::downgrade(&before));
        }
        Ok(())
    }

    pub(super) async fn run(mut self) {
        let mut was_seen = true;
        loop {
            tokio::time::sleep(self.inner.config.refresh).await;
            let look = tokio::time::timeout(self.inner.config.fresh, self.look()).await;
            let seen = match look {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    if was_seen {
                        let name = &self.inner.name;
                        tracing::warn!(migration = name, %error, "the phase cannot be seen");
                    }
                    false
                }
                Err(_) => false,
            };
            was_seen = seen;
        }
    }
}

/// Tells this process from all others: its number here, and one of chance.
pub(super) fn new_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let chance = RandomState::new().hash_one(0) as u32;
    format!("{}-{chance:08x}", std::process::id())
}
