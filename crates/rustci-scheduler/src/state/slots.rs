//! Concurrency groups: who holds the slot of each, and who waits for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{JobId, RunId};

/// Names one slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SlotKey {
    pub(crate) project: String,
    pub(crate) group: String,
    /// Set for jobs that name the group which their own run holds: among themselves they still go
    /// one after the other, but do not wait for their run.
    pub(crate) within: Option<RunId>,
}

/// A run or a job that takes slots. Their order is that in which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Taker {
    pub(crate) run: RunId,
    /// None for the run as a whole.
    pub(crate) job: Option<JobId>,
}

/// All slots that somebody holds or waits for. Follows from the runs.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: BTreeMap<SlotKey, Slot>,
    /// Slots that nobody holds and somebody waits for.
    free: BTreeSet<SlotKey>,
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) holder: Option<Taker>,
    pub(crate) waiting: BTreeSet<Taker>,
}

impl Slots {
    pub(crate) fn get(&self, key: &SlotKey) -> Option<&Slot> {
        self.slots.get(key)
    }

    /// Everybody who waits for a slot.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Taker> {
        self.slots.values().flat_map(|slot| &slot.waiting)
    }

    /// Who gets a slot next, of all that are free.
    pub(crate) fn next(&self) -> Option<Taker> {
        let slot = self.slots.get(self.free.first()?)?;
        slot.waiting.first().copied()
    }

    pub(super) fn wait(&mut self, key: SlotKey, taker: Taker) {
        let slot = self.slots.entry(key.clone()).or_default();
        slot.waiting.insert(taker);
        self.touch(key);
    }

    /// Gives a slot to somebody; false when another one has it.
    #[must_use]
    pub(super) fn hold(&mut self, key: SlotKey, taker: Taker) -> bool {
        let slot = self.slots.entry(key.clone()).or_default();
        if slot.holder.is_some() {
            return false;
        }
        slot.waiting.remove(&taker);
        slot.holder = Some(taker);
        self.touch(key);
        true
    }

    /// Somebody neither holds nor waits any more.
    pub(super) fn leave(&mut self, key: SlotKey, taker: Taker) {
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.waiting.remove(&taker);
            slot.holder.take_if(|holder| *holder == taker);
        }
        self.touch(key);
    }

    fn touch(&mut self, key: SlotKey) {
        let Some(slot) = self.slots.get(&key) else {
            return;
        };
        match (&slot.holder, slot.waiting.is_empty()) {
            (None, false) => drop(self.free.insert(key)),
            (None, true) => {
                self.free.remove(&key);
                self.slots.remove(&key);
            }
            (Some(_), _) => drop(self.free.remove(&key)),
        }
    }
}
