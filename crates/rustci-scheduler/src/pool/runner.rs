//! A runner as placement sees it.

use std::collections::BTreeMap;

use valkyrie_frame::WallTime;

use super::{class::ClassId, project::ProjectId};
use crate::JobId;

/// How full a runner is, in millionths of its capacity.
pub(super) type Load = u32;

/// Whether a runner can be sent anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Presence {
    /// It may come back for its jobs.
    #[default]
    Away,
    /// It has registered over a live connection.
    Connected,
}

/// A runner that is connected or has jobs.
#[derive(Debug, Default)]
pub(crate) struct PoolRunner {
    pub(crate) presence: Presence,
    /// Its labels, one for each executor included.
    pub(crate) labels: Vec<String>,
    pub(crate) capacity: u32,
    /// The jobs it has.
    pub(crate) active: BTreeMap<JobId, Held>,
    /// It gets no new jobs.
    pub(crate) draining: bool,
    /// It has just refused a job and gets none for a moment.
    pub(crate) resting: bool,
    /// It said that it ends when its jobs have.
    pub(crate) leaving: bool,
    /// The classes it suits.
    pub(super) classes: Vec<ClassId>,
    /// The load under which it is in the lists of its classes.
    pub(super) offer: Option<Load>,
}

/// A job that a runner has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(super) project: ProjectId,
    pub(super) class: ClassId,
    pub(super) since: WallTime,
}

impl PoolRunner {
    /// Whether it can be sent anything.
    pub(crate) fn is_connected(&self) -> bool {
        self.presence == Presence::Connected
    }

    /// Whether it gets no new jobs, however many it could run.
    pub(crate) fn is_closed(&self) -> bool {
        self.draining || self.resting || self.leaving
    }

    /// Jobs it has.
    pub(crate) fn used(&self) -> u32 {
        u32::try_from(self.active.len()).unwrap_or(u32::MAX)
    }

    /// Its load, when it can take another job.
    pub(super) fn load(&self) -> Option<Load> {
        let used = self.used();
        let open = self.is_connected() && !self.is_closed() && used < self.capacity;
        open.then(|| {
            let load = u64::from(used) * 1_000_000 / u64::from(self.capacity.max(1));
            Load::try_from(load).unwrap_or(Load::MAX)
        })
    }
}
