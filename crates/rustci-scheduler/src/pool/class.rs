//! Jobs with the same requirement.

use std::{collections::BTreeSet, sync::Arc};

use rustci_pipeline::RunsOn;

use super::{runner::Load, share::Place};
use crate::{RunnerId, plan::Requirement};

/// Names a class inside its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClassId(pub(super) u64);

/// All queued jobs with one requirement, and the runners that suit it.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) requirement: Arc<Requirement>,
    /// The requirement in the words of a plan.
    pub(super) runs_on: RunsOn,
    /// In the order in which they go.
    pub(super) queue: BTreeSet<Place>,
    /// Connected runners that suit.
    pub(super) members: BTreeSet<RunnerId>,
    /// Those of them that have room, the least loaded first.
    pub(super) free: BTreeSet<(Load, RunnerId)>,
    /// The head under which the class is in the pool's list of ready ones.
    pub(super) ready: Option<Place>,
}

impl Class {
    pub(super) fn new(requirement: &Arc<Requirement>) -> Self {
        Self {
            requirement: Arc::clone(requirement),
            runs_on: requirement.runs_on(),
            queue: BTreeSet::new(),
            members: BTreeSet::new(),
            free: BTreeSet::new(),
            ready: None,
        }
    }
}
