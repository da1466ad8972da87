//! `max-parallel` of a matrix: which of its queued instances may be given out.

use std::collections::{BTreeMap, BTreeSet};

use crate::{JobId, RunId};

/// The matrices with a limit that have queued or running instances.
#[derive(Debug, Default)]
pub(crate) struct ParallelLimits {
    groups: BTreeMap<(RunId, usize), Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// In the queue or running; at most the limit.
    admitted: BTreeSet<JobId>,
    waiting: BTreeSet<JobId>,
}

/// Whether an instance may be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Now,
    Later,
}

impl ParallelLimits {
    /// Asks for a place for an instance; one that has a place keeps it.
    pub(crate) fn admit(&mut self, run: RunId, group: usize, job: JobId, max: u32) -> Admission {
        let group = self.groups.entry((run, group)).or_default();
        let max = usize::try_from(max).unwrap_or(usize::MAX).max(1);
        if group.admitted.contains(&job) || group.admitted.len() < max {
            group.admitted.insert(job);
            return Admission::Now;
        }
        group.waiting.insert(job);
        Admission::Later
    }

    /// Takes an instance that is over out, and lets the next waiting one in.
    pub(crate) fn leave(&mut self, run: RunId, group: usize, job: JobId) -> Option<JobId> {
        let entry = self.groups.get_mut(&(run, group))?;
        entry.waiting.remove(&job);
        let next = if entry.admitted.remove(&job) {
            entry.waiting.pop_first()
        } else {
            None
        };
        entry.admitted.extend(next);
        if entry.admitted.is_empty() && entry.waiting.is_empty() {
            self.groups.remove(&(run, group));
        }
        next
    }

    /// Instances that wait for another to end.
    pub(crate) fn waiting(&self) -> usize {
        self.groups.values().map(|group| group.waiting.len()).sum()
    }

    /// Whether an instance waits for another to end.
    pub(crate) fn is_waiting(&self, run: RunId, group: usize, job: JobId) -> bool {
        self.groups
            .get(&(run, group))
            .is_some_and(|group| group.waiting.contains(&job))
    }
}
