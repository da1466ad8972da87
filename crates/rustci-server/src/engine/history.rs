//! How long jobs took, to say how long they will. Soft state: seeded from the catalogue at a
//! start, kept up to date by every end.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::limits::HISTORY_JOBS_MAX;

/// How long one job of a finished run took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTook {
    /// The project.
    pub project: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// The job's key.
    pub key: String,
    /// From the start of its first step to its end.
    pub millis: u64,
}

/// What is known of the times of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Typical {
    /// Mean of late; each newer time counts a quarter.
    pub(super) mean_ms: u64,
    /// Mean distance from that.
    pub(super) spread_ms: u64,
    pub(super) samples: u32,
    /// When it was heard of last, counted in times added.
    at: u64,
}

/// The times of jobs that succeeded, by project, pipeline and key.
#[derive(Debug, Default)]
pub(super) struct History {
    /// By a hash of the three: two jobs that share one would share an estimate, no more.
    jobs: HashMap<u64, Typical>,
    hasher: RandomState,
    added: u64,
}

impl History {
    pub(super) fn seeded(past: &[JobTook]) -> Self {
        let mut history = Self::default();
        for took in past {
            history.add(&took.project, &took.pipeline, &took.key, took.millis);
        }
        history
    }

    pub(super) fn add(&mut self, project: &str, pipeline: &str, key: &str, millis: u64) {
        self.added += 1;
        let at = self.added;
        let name = self.hasher.hash_one((project, pipeline, key));
        if self.jobs.len() >= HISTORY_JOBS_MAX && !self.jobs.contains_key(&name) {
            self.forget_oldest();
        }
        let entry = self.jobs.entry(name).or_insert(Typical {
            mean_ms: millis,
            spread_ms: 0,
            samples: 0,
            at,
        });
        let distance = entry.mean_ms.abs_diff(millis);
        entry.mean_ms = (entry.mean_ms.saturating_mul(3)).saturating_add(millis) / 4;
        entry.spread_ms = (entry.spread_ms.saturating_mul(3)).saturating_add(distance) / 4;
        entry.samples = entry.samples.saturating_add(1);
        entry.at = at;
    }

    pub(super) fn of(&self, project: &str, pipeline: &str, key: &str) -> Option<Typical> {
        let name = self.hasher.hash_one((project, pipeline, key));
        self.jobs.get(&name).copied()
    }

    /// Forgets the half that was not heard of for longest: rarely, and then a lot at once.
    fn forget_oldest(&mut self) {
        let mut ages: Vec<u64> = self.jobs.values().map(|typical| typical.at).collect();
        let middle = ages.len() / 2;
        let (_, border, _) = ages.select_nth_unstable(middle);
        let border = *border;
        self.jobs.retain(|_, typical| typical.at >= border);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_always_the_same_has_no_spread() {
        let mut history = History::default();
        for _ in 0..10 {
            history.add("p", "ci", "test", 4_000);
        }
        let typical = history.of("p", "ci", "test").unwrap();
        assert_eq!(
            (typical.mean_ms, typical.spread_ms, typical.samples),
            (4_000, 0, 10)
        );
        assert_eq!(history.of("p", "ci", "build"), None);
    }

    #[test]
    fn what_was_not_heard_of_for_longest_is_forgotten() {
        let mut history = History::default();
        for number in 0..=HISTORY_JOBS_MAX {
            history.add("p", "ci", &number.to_string(), 1);
        }
        assert!(history.jobs.len() <= HISTORY_JOBS_MAX);
        assert_eq!(history.of("p", "ci", "0"), None);
        assert!(
            history
                .of("p", "ci", &HISTORY_JOBS_MAX.to_string())
                .is_some()
        );
    }
}
