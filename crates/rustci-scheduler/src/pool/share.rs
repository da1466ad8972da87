//! Whose a job is and how urgent: what decides about its place in the queue.

use valkyrie_frame::WallTime;

use crate::{JobId, Run, record::Priority};

const HOUR_MS: u64 = 3_600_000;

/// The longest head start, so that no place is negative.
const HEAD_START_MAX_MS: u64 = 25 * HOUR_MS;

/// Whose a job is and how urgent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share<'a> {
    /// The project of its run.
    pub(crate) project: &'a str,
    /// How urgent its run is.
    pub(crate) priority: Priority,
    /// When its run was submitted. A job that comes back keeps its place with it.
    pub(crate) since: WallTime,
    /// When it was put into the queue last.
    pub(crate) queued: WallTime,
}

impl Share<'_> {
    /// The job's place among the jobs of its project: earlier is smaller.
    pub(super) fn place(self, job: JobId) -> Place {
        let late = HEAD_START_MAX_MS - head_start_ms(self.priority);
        Place(self.since.as_millis().saturating_add(late), job)
    }
}

/// A place in a queue. Never changes while a job waits: all jobs age at the same pace, so their
/// order stays what it was when they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub(super) u64, pub(super) JobId);

/// How much later a run may come and still go before one without a head start.
///
/// This is the whole of the ageing: a low job waits for the normal ones of the next hour, and then
/// goes before everything that is not at least as old as its head start allows.
fn head_start_ms(priority: Priority) -> u64 {
    match priority {
        Priority::Low => 0,
        Priority::Unspecified | Priority::Normal => HOUR_MS,
        Priority::High => 2 * HOUR_MS,
        Priority::Critical => HEAD_START_MAX_MS,
    }
}

impl Run {
    /// Whose the job at `place` is and how urgent.
    pub(crate) fn share(&self, place: usize) -> Share<'_> {
        let queued = self.jobs.get(place).and_then(|job| job.queued);
        Share {
            project: &self.meta.project,
            priority: self.meta.priority(),
            since: self.submitted,
            queued: queued.unwrap_or(self.submitted),
        }
    }
}
