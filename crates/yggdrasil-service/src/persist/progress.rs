//! How far the disk is, and who waits for it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "valkyrie")]
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use journal::{Index, JournalError};

use super::Sync;
use crate::clock::Moment;

/// When answers begin to wait. The rest of [`GROUP_WINDOW`](super::GROUP_WINDOW) is for sending those
/// that did not have to.
const LATE: Duration = Duration::from_millis(75);
const _: () = assert!(LATE.as_millis() < super::GROUP_WINDOW.as_millis());

/// How far the disk is.
#[derive(Debug)]
pub(super) struct Progress {
    sync: Sync,
    state: Mutex<State>,
    moved: Condvar,
    synced: AtomicU64,
    /// Whether changes are refused.
    refuses: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    trouble: Option<Trouble>,
    behind: Behind,
    snapshots: Snapshots,
    /// Who waits until a record is on the disk.
    #[cfg(feature = "valkyrie")]
    waiting: Vec<(u64, Waker)>,
}

/// Why changes are refused.
#[derive(Debug)]
struct Trouble {
    text: String,
    /// Whether it ends by itself, when there is room on the disk.
    passes: bool,
}

/// Records that are not on the disk, by when they were first waited for. No answer to one of them left
/// before that.
#[derive(Debug, Default)]
struct Behind(VecDeque<(u64, Instant)>);

impl Behind {
    /// How much later records are told apart, so that there are few entries.
    const STEP: Duration = Duration::from_millis(1);

    /// Records up to this one are waited for.
    fn note(&mut self, target: u64, now: Instant) {
        match self.0.back_mut() {
            Some((last, _)) if *last >= target => {}
            Some((last, at)) if now.saturating_duration_since(*at) < Self::STEP => *last = target,
            _ => self.0.push_back((target, now)),
        }
    }

    /// Records up to this one are on the disk.
    fn reached(&mut self, index: u64) {
        while self.0.pop_front_if(|(last, _)| *last <= index).is_some() {}
    }

    /// Whether the oldest of them is as old as answers may go on without it.
    fn is_late(&self, now: Instant) -> bool {
        let oldest = self.0.front();
        oldest.is_some_and(|(_, at)| now.saturating_duration_since(*at) >= LATE)
    }
}

/// What became of snapshots.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshots {
    /// When the newest one that is stored was begun.
    pub(crate) last: Option<Moment>,
    /// How many were stored.
    pub(crate) count: u64,
    /// When the one was begun that is being made.
    pub(crate) begun: Option<Moment>,
    /// When the last one failed, if none was stored since.
    pub(crate) failed: Option<Instant>,
}

/// Changes are not as safe as was asked for, and may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsettled;

impl Progress {
    pub(super) fn new(sync: Sync, last: u64) -> Self {
        Self {
            sync,
            state: Mutex::default(),
            moved: Condvar::new(),
            synced: AtomicU64::new(last),
            refuses: AtomicBool::new(false),
        }
    }

    /// Waits as long as answers must that know of this record. Fails where the disk refused it.
    pub(super) fn settle(&self, target: u64) -> Result<(), Unsettled> {
        let mut state = self.lock();
        if self.is_synced(target) {
            return Ok(());
        }
        let mut now = Instant::now();
        state.behind.note(target, now);
        while self.must_wait(&state, target, now) {
            let waited = self.moved.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            now = Instant::now();
        }
        drop(state);
        self.result(target)
    }

    /// The same without blocking the thread.
    #[cfg(feature = "valkyrie")]
    pub(super) fn poll_settled(
        &self,
        target: u64,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Unsettled>> {
        let mut state = self.lock();
        // Whoever moves on from here on wakes who waits.
        if self.is_synced(target) {
            return Poll::Ready(Ok(()));
        }
        let now = Instant::now();
        state.behind.note(target, now);
        if self.must_wait(&state, target, now) {
            state.waiting.push((target, cx.waker().clone()));
            return Poll::Pending;
        }
        drop(state);
        Poll::Ready(self.result(target))
    }

    /// Why changes are refused, where they are.
    pub(super) fn failure(&self) -> Option<String> {
        match self.refuses() {
            true => {
                let state = self.lock();
                state.trouble.as_ref().map(|trouble| trouble.text.clone())
            }
            false => None,
        }
    }

    /// What became of snapshots.
    pub(super) fn snapshots(&self) -> Snapshots {
        self.lock().snapshots
    }

    /// Begins a snapshot; `false` where one is being made.
    pub(super) fn begin_snapshot(&self, now: Moment) -> bool {
        let mut state = self.lock();
        let is_free = state.snapshots.begun.is_none();
        state.snapshots.begun.get_or_insert(now);
        is_free
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_synced(&self, target: u64) -> bool {
        self.synced.load(Ordering::Acquire) >= target
    }

    pub(super) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
    }

    /// Whether answers that know of this record have to wait.
    fn must_wait(&self, state: &State, target: u64, now: Instant) -> bool {
        let is_open = || !self.is_synced(target) && !self.refuses();
        is_open()
            && match self.sync {
                Sync::Always => true,
                Sync::Group | Sync::Os => state.behind.is_late(now),
            }
    }

    pub(super) fn moved_to(&self, synced: Result<Index, JournalError>) {
        match synced {
            Ok(index) => {
                let mut state = self.lock();
                self.synced.fetch_max(index.get(), Ordering::AcqRel);
                state.behind.reached(index.get());
                if state.trouble.take_if(|trouble| trouble.passes).is_some() {
                    tracing::info!("there is room on the disk; changes are taken again");
                    self.refuses.store(false, Ordering::Release);
                }
                #[cfg(feature = "valkyrie")]
                self.wake(&mut state);
            }
            Err(error) => self.refuse(&error),
        }
        self.moved.notify_all();
    }

    /// Wakes those who need not wait any longer.
    #[cfg(feature = "valkyrie")]
    fn wake(&self, state: &mut State) {
        let (waiting, now) = (std::mem::take(&mut state.waiting), Instant::now());
        for (target, waker) in waiting {
            match self.must_wait(state, target, now) {
                true => state.waiting.push((target, waker)),
                false => waker.wake(),
            }
        }
    }

    pub(super) fn refuse(&self, error: &JournalError) {
        let mut state = self.lock();
        let passes = error.is_passing();
        // What passes does not hide what stays.
        if state.trouble.as_ref().is_none_or(|known| known.passes) {
            let then = match passes {
                true => "changes are taken again when there is room",
                false => {
                    "changes are refused until the server is started again; see to the disk first"
                }
            };
            let text = format!("{error}; {then}");
            tracing::error!(error = text, "changes are refused from here on");
            state.trouble = Some(Trouble { text, passes });
        }
        if !passes && state.snapshots.begun.take().is_some() {
            state.snapshots.failed = Some(Instant::now());
        }
        self.refuses.store(true, Ordering::Release);
        #[cfg(feature = "valkyrie")]
        self.wake(&mut state);
    }

    pub(super) fn stored(&self, stored: Result<(), &dyn fmt::Display>) {
        let mut state = self.lock();
        let begun = state.snapshots.begun.take();
        match stored {
            Ok(()) => {
                state.snapshots = Snapshots {
                    last: begun.or(state.snapshots.last),
                    count: state.snapshots.count + 1,
                    begun: None,
                    failed: None,
                };
            }
            Err(error) => {
                tracing::error!(%error, "no snapshot; the one before stays in force");
                state.snapshots.failed = Some(Instant::now());
            }
        }
    }

    fn result(&self, target: u64) -> Result<(), Unsettled> {
        match self.refuses() && !self.is_synced(target) {
            true => Err(Unsettled),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_change_is_what_counts_whatever_was_synced_since() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut behind = Behind::default();
        assert!(!behind.is_late(at(1000)));
        for ms in 0..74 {
            // Every change is noted by several who know of it.
            behind.note(ms + 1, at(ms));
            behind.note(ms + 1, at(ms + 1));
        }
        assert!(!behind.is_late(at(74)));
        assert!(behind.is_late(at(75)));
        // The first sync had only the first change: the second one is a millisecond younger.
        behind.reached(1);
        assert!(!behind.is_late(at(75)));
        assert!(behind.is_late(at(76)));
        behind.reached(60);
        assert!(!behind.is_late(at(134)));
        assert!(behind.is_late(at(135)));
        behind.reached(74);
        assert!(!behind.is_late(at(1000)));
    }

    #[test]
    fn changes_of_a_millisecond_are_as_old_as_the_first_of_them() {
        let start = Instant::now();
        let mut behind = Behind::default();
        for change in 0..1000 {
            behind.note(change, start + Duration::from_micros(change));
        }
        assert_eq!(behind.0, [(999, start)]);
        behind.reached(998);
        assert!(behind.is_late(start + LATE));
    }
}
