//! Taking the phases one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::task::AbortHandle;

use super::behind::Work;
use super::compare::{Mismatch, compare, show};
use super::member::new_id;
use super::phase::{MigrationState, Mirror, Phase, Side};
use super::tally::MemberReport;
use super::{Inner, MigratingStore};
use crate::adapter::{Leased, Page, StoreAdapter};
use crate::error::StoreError;

/// How fast a migration goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationPace {
    /// Keys that are copied or compared at the same time, at least 1. Default: 128.
    pub concurrency: usize,
    /// Keys that are copied or compared in a second at most. Default: as many as can be.
    pub keys_per_second: Option<u32>,
    /// How long the new store is read before it is written. Default: a minute.
    pub hold: Duration,
}

impl Default for MigrationPace {
    fn default() -> Self {
        Self {
            concurrency: 128,
            keys_per_second: None,
            hold: Duration::from_secs(60),
        }
    }
}

/// What a migration is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationProgress {
    /// A phase has begun for everyone.
    Entered(Phase),
    /// So many keys were copied in this phase.
    Copied(u64),
    /// So many keys were compared in this phase, and so many of them differed.
    Compared(u64, u64),
    /// A key differed and was copied again.
    Repaired(String, Mismatch),
    /// Waits for all processes.
    Waiting(Phase),
}

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationReport {
    /// Where it is now.
    pub state: MigrationState,
    /// Keys that were copied in the phase `backfill`.
    pub copied: u64,
    /// Keys that were compared in the last comparison.
    pub compared: u64,
    /// Keys that differed in it.
    pub mismatched: u64,
    /// Keys that differed in earlier comparisons and were copied again.
    pub repaired: u64,
}

type Result<T> = std::result::Result<T, StoreError>;

/// How long somebody who takes the steps may be silent until another may.
const LEAD: Duration = Duration::from_secs(15);
/// Comparisons until one has to find no difference.
const PASSES: usize = 3;
/// Tries to read a page of keys.
const TRIES: u32 = 6;
/// Keys between two words of progress.
const WORD: u64 = 20_000;

impl MigratingStore {
    /// Goes on up to a phase: `shadow`, `backfill`, `verify`, `read_new`, `write_new` or `done`. What is
    /// behind the goal already stays there. `progress` hears what happens.
    ///
    /// Each step waits until every process that takes part has seen the one before and has ended what it
    /// had begun. `verify` and what comes after it need a whole comparison of both stores without a
    /// difference; where the third finds one all the same, or a read of the new store differs, the old
    /// store alone is used again.
    ///
    /// # Errors
    /// [`Rejected`](StoreError::Rejected) where another process takes the steps, where it went back, and
    /// for a goal that is none. Else that of a store which does not answer: the same call goes on from
    /// there.
    pub async fn migrate(
        &self,
        goal: Phase,
        pace: &MigrationPace,
        progress: impl FnMut(MigrationProgress) + Send,
    ) -> Result<MigrationReport> {
        let Some(last) = WAY.iter().position(|phase| *phase == goal) else {
            let goal = goal.name();
            return Err(self.inner.refuses(format!("'{goal}' is no goal")));
        };
        let mut steps = Steps::begin(&self.inner, *pace, progress).await?;
        let done = steps.forward(last).await;
        steps.end(done).await
    }

    /// Goes back to the old store alone, from wherever it is but `done`.
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate).
    pub async fn roll_back(
        &self,
        cause: &str,
        pace: &MigrationPace,
        progress: impl FnMut(MigrationProgress) + Send,
    ) -> Result<MigrationReport> {
        let mut steps = Steps::begin(&self.inner, *pace, progress).await?;
        cause.clone_into(&mut steps.cause);
        let done = steps.back().await;
        steps.end(done).await
    }
}

/// The way of a migration that goes well.
const WAY: [Phase; 8] = [
    Phase::Shadow,
    Phase::Backfill,
    Phase::Verify,
    Phase::ReadNew,
    Phase::Drain,
    Phase::Switch,
    Phase::WriteNew,
    Phase::Done,
];

struct Steps<'a, P> {
    inner: &'a Inner,
    pace: MigrationPace,
    progress: P,
    state: MigrationState,
    cause: String,
    report: MigrationReport,
    /// Keeps this one the only one who takes steps.
    lead: Lead,
    fence: u64,
}

struct Lead(AbortHandle);

impl Drop for Lead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<'a, P: FnMut(MigrationProgress) + Send> Steps<'a, P> {
    async fn begin(inner: &'a Arc<Inner>, pace: MigrationPace, progress: P) -> Result<Self> {
        let id = new_id();
        let fence = match inner.lead(&id, LEAD).await? {
            Leased::Held { fence } => fence,
            Leased::Taken { for_at_most } => {
                return Err(inner.refuses(format!(
                    "another process takes its steps; if that is gone, try again in {for_at_most:?}"
                )));
            }
        };
        let keeper = Arc::clone(inner);
        let lead = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEAD / 3).await;
                // Where it is lost, going from state to state as one step still keeps order.
                let _ = keeper.lead(&id, LEAD).await;
            }
        });
        let state = inner.look().await?;
        let report = MigrationReport {
            state: state.clone(),
            copied: 0,
            compared: 0,
            mismatched: 0,
            repaired: 0,
        };
        let lead = Lead(lead.abort_handle());
        Ok(Self {
            inner,
            pace,
            progress,
            state,
            cause: String::new(),
            report,
            lead,
            fence,
        })
    }

    /// Lets others take steps.
    async fn end(self, done: Result<()>) -> Result<MigrationReport> {
        drop(self.lead);
        self.inner.stop_leading(self.fence).await;
        done?;
        Ok(MigrationReport {
            state: self.state,
            ..self.report
        })
    }

    /// Takes the steps of the way up to that with this number.
    async fn forward(&mut self, last: usize) -> Result<()> {
        if self.state.phase == Phase::StepBack {
            self.wait().await?;
            self.enter(Phase::RolledBack).await?;
        }
        let now = WAY.iter().position(|phase| *phase == self.state.phase);
        if now.is_none() && !matches!(self.state.phase, Phase::Off | Phase::RolledBack) {
            let phase = self.state.phase.name();
            let text = format!("it is on its way back ({phase}); roll it back first");
            return Err(self.inner.refuses(text));
        }
        // What a phase has to do may not be finished: it is done again.
        let first = now.unwrap_or(0);
        for (index, phase) in WAY.iter().enumerate().take(last + 1).skip(first) {
            if now != Some(index) {
                self.enter(*phase).await?;
            }
            self.within(*phase).await?;
        }
        Ok(())
    }

    /// Goes to a phase and waits until everyone is there.
    async fn enter(&mut self, phase: Phase) -> Result<()> {
        let next = self.state.to(phase, self.cause.clone());
        if !self.inner.go(&self.state, &next).await? {
            return Err(self.interrupted().await);
        }
        self.state = next;
        self.wait().await?;
        (self.progress)(MigrationProgress::Entered(phase));
        Ok(())
    }

    /// Waits until all processes have seen the state, have ended what they had begun before it and have
    /// nothing behind.
    async fn wait(&mut self) -> Result<()> {
        let mut waited = Instant::now();
        loop {
            self.ensure_undisturbed().await?;
            let members = self.inner.members(self.state.phase.primary()).await?;
            let revision = self.state.revision;
            // Where changes are copied after their answers, some are always behind.
            let needs_all = self.state.phase.mirror() == Mirror::Along;
            let is_there = |(_, member): &(String, MemberReport)| {
                member.revision >= revision && (member.behind == 0 || !needs_all)
            };
            if members.iter().all(is_there) {
                return Ok(());
            }
            if waited.elapsed() > Duration::from_secs(5) {
                waited = Instant::now();
                (self.progress)(MigrationProgress::Waiting(self.state.phase));
            }
            tokio::time::sleep(self.inner.config.refresh).await;
        }
    }

    async fn ensure_undisturbed(&mut self) -> Result<()> {
        match self.inner.look().await? == self.state {
            true => Ok(()),
            false => Err(self.interrupted().await),
        }
    }

    async fn interrupted(&mut self) -> StoreError {
        match self.inner.look().await {
            Err(error) => error,
            Ok(state) => {
                let (phase, cause) = (state.phase.name(), state.cause.clone());
                self.state = state;
                self.inner
                    .refuses(format!("it went to {phase} meanwhile: {cause}"))
            }
        }
    }

    /// What a phase is for.
    async fn within(&mut self, phase: Phase) -> Result<()> {
        match phase {
            Phase::Backfill => self.copy_all().await,
            Phase::Verify => self.verify(PASSES).await,
            Phase::ReadNew => {
                let until = Instant::now() + self.pace.hold;
                while Instant::now() < until {
                    let left = until.saturating_duration_since(Instant::now());
                    tokio::time::sleep(left.min(Duration::from_secs(1))).await;
                    self.ensure_undisturbed().await?;
                }
                self.verify(1).await
            }
            Phase::Drain => {
                let span = self.inner.config.lease_max + self.inner.config.refresh;
                let until = Instant::now() + span;
                while Instant::now() < until {
                    let left = until.saturating_duration_since(Instant::now());
                    tokio::time::sleep(left.min(Duration::from_secs(1))).await;
                    self.ensure_undisturbed().await?;
                }
                Ok(())
            }
            Phase::WriteNew => self.verify(PASSES).await,
            _ => Ok(()),
        }
    }

    async fn back(&mut self) -> Result<()> {
        loop {
            let next = match self.state.phase {
                Phase::Off | Phase::RolledBack => return Ok(()),
                Phase::Done => {
                    return Err(self.inner.refuses(
                        "it is done: the old store was not kept up since; migrate the other way instead",
                    ));
                }
                Phase::Shadow | Phase::Backfill | Phase::Verify | Phase::StepBack => {
                    Phase::RolledBack
                }
                Phase::ReadNew | Phase::Drain | Phase::Switch | Phase::SwitchBack => {
                    Phase::StepBack
                }
                Phase::WriteNew => Phase::DrainBack,
                Phase::DrainBack => Phase::SwitchBack,
            };
            self.enter(next).await?;
            if next == Phase::DrainBack {
                tokio::time::sleep(self.inner.config.lease_max + self.inner.config.refresh).await;
            }
        }
    }

    async fn copy_all(&mut self) -> Result<()> {
        let inner = self.inner;
        let from = self.state.phase.primary();
        let mut copied = 0;
        for side in [from, from.other()] {
            let mut pages = Pages::new(inner, side, self.pace);
            while let Some(keys) = pages.next().await? {
                let copies = stream::iter(keys).map(|key| async move {
                    let done = match side == from || inner.is_extra(from, &key).await {
                        true => inner.pair(from).copy(&key).await.map(|()| 1),
                        false => Ok(0),
                    };
                    done.unwrap_or_else(|_| {
                        inner.behind.push(Work::Key(key));
                        1
                    })
                });
                let mut copies = copies.buffer_unordered(self.pace.concurrency.max(1));
                while let Some(count) = copies.next().await {
                    copied += count;
                    if count > 0 && copied % WORD == 0 {
                        (self.progress)(MigrationProgress::Copied(copied));
                    }
                }
                if pages.is_time_to_look() {
                    self.ensure_undisturbed().await?;
                }
            }
        }
        self.report.copied = copied;
        (self.progress)(MigrationProgress::Copied(copied));
        self.wait().await
    }

    /// Compares everything, copies what differs again, and needs a comparison without a difference.
    async fn verify(&mut self, passes: usize) -> Result<()> {
        for pass in 1..=passes {
            let differing = self.compare_all().await?;
            self.report.mismatched = differing.len() as u64;
            let Some((key, mismatch)) = differing.first() else {
                return Ok(());
            };
            let first = format!("'{}' differs ({})", show(key), mismatch.name());
            if pass == passes {
                let count = differing.len();
                self.cause = format!("{count} keys differ: {first}");
                if self.state.phase.primary() == Side::Old {
                    let cause = self.cause.clone();
                    self.back().await?;
                    return Err(self
                        .inner
                        .refuses(format!("the old store is used alone: {cause}")));
                }
                return Err(self.inner.refuses(std::mem::take(&mut self.cause)));
            }
            let from = self.state.phase.primary();
            for (key, mismatch) in &differing {
                self.inner.pair(from).copy(key).await?;
                self.report.repaired += 1;
                (self.progress)(MigrationProgress::Repaired(show(key), *mismatch));
            }
        }
        Ok(())
    }

    async fn compare_all(&mut self) -> Result<Vec<(Bytes, Mismatch)>> {
        let inner = self.inner;
        let from = self.state.phase.primary();
        let (mut compared, mut differing) = (0, Vec::new());
        for side in [from, from.other()] {
            let mut pages = Pages::new(inner, side, self.pace);
            while let Some(keys) = pages.next().await? {
                let found = stream::iter(keys).map(|key| async move {
                    let found = match side == from || inner.is_extra(from, &key).await {
                        true => Some(compare(inner.pair(from), &key).await),
                        false => None,
                    };
                    (key, found)
                });
                let mut found = found.buffer_unordered(self.pace.concurrency.max(1));
                while let Some((key, found)) = found.next().await {
                    let Some(found) = found else { continue };
                    if let Some(mismatch) = found? {
                        differing.push((key, mismatch));
                    }
                    compared += 1;
                    if compared % WORD == 0 {
                        let word = MigrationProgress::Compared(compared, differing.len() as u64);
                        (self.progress)(word);
                    }
                }
                if pages.is_time_to_look() {
                    self.ensure_undisturbed().await?;
                }
            }
        }
        (self.progress)(MigrationProgress::Compared(
            compared,
            differing.len() as u64,
        ));
        self.report.compared = compared;
        Ok(differing)
    }
}

/// All keys of a store, a page after the other, no faster than allowed.
struct Pages<'a> {
    inner: &'a Inner,
    side: Side,
    from: Option<u64>,
    is_over: bool,
    pace: MigrationPace,
    began: Instant,
    keys: u64,
    looked: Instant,
}

impl<'a> Pages<'a> {
    fn new(inner: &'a Inner, side: Side, pace: MigrationPace) -> Self {
        Self {
            inner,
            side,
            from: None,
            is_over: false,
            pace,
            began: Instant::now(),
            keys: 0,
            looked: Instant::now(),
        }
    }

    async fn next(&mut self) -> Result<Option<Vec<Bytes>>> {
        if self.is_over {
            return Ok(None);
        }
        if let Some(rate) = self.pace.keys_per_second {
            let due = Duration::from_secs_f64(self.keys as f64 / f64::from(rate.max(1)));
            tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
        }
        let Page { mut keys, next } = self.page().await?;
        keys.retain(|key| !self.inner.registry.owns(key));
        self.keys += keys.len() as u64;
        self.from = next;
        self.is_over = next.is_none();
        Ok(Some(keys))
    }

    async fn page(&self) -> Result<Page> {
        let mut tries = 0;
        loop {
            match self.inner.side(self.side).scan(b"", self.from).await {
                Err(error) if error.applied().is_some() && tries < TRIES => {
                    tokio::time::sleep(Duration::from_millis(50) * 2_u32.pow(tries)).await;
                    tries += 1;
                }
                page => return page,
            }
        }
    }

    /// Now and then the state is looked at.
    fn is_time_to_look(&mut self) -> bool {
        let is_time = self.looked.elapsed() >= Duration::from_secs(1);
        if is_time {
            self.looked = Instant::now();
        }
        is_time
    }
}

impl Inner {
    /// Whether a key of the store that is kept up may be one that the other lacks. Where that cannot be
    /// said, it may.
    async fn is_extra(&self, from: Side, key: &[u8]) -> bool {
        !matches!(self.side(from).exists(key).await, Ok(true))
    }

    fn refuses(&self, cause: impl Into<String>) -> StoreError {
        StoreError::Rejected {
            store: self.name.clone(),
            cause: cause.into(),
        }
    }
}
