//! Jobs with the same requirement.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustci_pipeline::RunsOn;

use super::{
    project::{MeanTime, ProjectId, Turns},
    queue::JobQueue,
    runner::Load,
    share::Place,
};
use crate::{RunnerId, plan::Requirement};

/// Empty lines that are kept for the next job of their project.
const IDLE_LINES_MAX: usize = 256;

/// Names a class inside its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClassId(pub(super) u64);

/// All queued jobs with one requirement, and the runners that suit it.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) requirement: Arc<Requirement>,
    /// The requirement in the words of a plan.
    pub(super) runs_on: RunsOn,
    /// The jobs, by project.
    pub(super) lines: BTreeMap<ProjectId, Line>,
    /// The projects with jobs, who goes first in front; without those that are held.
    pub(super) order: BTreeSet<(Turns, ProjectId)>,
    /// What the project that was served last had before: where newcomers begin.
    pub(super) clock: Turns,
    pub(super) queued: usize,
    /// How long jobs of this class take.
    pub(super) mean: MeanTime,
    /// Connected runners that suit.
    pub(super) members: BTreeSet<RunnerId>,
    /// Those of them that have room, the least loaded first.
    pub(super) free: BTreeSet<(Load, RunnerId)>,
    /// The head under which the class is in the pool's list of ready ones.
    pub(super) ready: Option<(Turns, Place)>,
}

/// The jobs of one project in one class.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) queue: JobQueue,
    /// What the project has been given in this class.
    pub(super) turns: Turns,
    pub(super) mean: MeanTime,
    /// The project has as much as it may have, so the line is not in the class's order.
    pub(super) held: bool,
}

impl Class {
    pub(super) fn new(requirement: &Arc<Requirement>) -> Self {
        Self {
            requirement: Arc::clone(requirement),
            runs_on: requirement.runs_on(),
            lines: BTreeMap::new(),
            order: BTreeSet::new(),
            clock: Turns::default(),
            queued: 0,
            mean: MeanTime::default(),
            members: BTreeSet::new(),
            free: BTreeSet::new(),
            ready: None,
        }
    }

    /// Adds a job; says whether it was not there.
    pub(super) fn insert(&mut self, project: ProjectId, place: Place) -> bool {
        let clock = self.clock;
        let line = self.lines.entry(project).or_insert_with(|| Line {
            turns: clock,
            ..Line::default()
        });
        if !line.queue.insert(place) {
            return false;
        }
        if line.queue.len() == 1 && !line.held {
            self.order.insert((line.turns, project));
        }
        self.queued += 1;
        true
    }

    /// Takes a job out; says whether it was there.
    pub(super) fn remove(&mut self, project: ProjectId, place: Place) -> bool {
        let Some(line) = self.lines.get_mut(&project) else {
            return false;
        };
        if !line.queue.remove(place) {
            return false;
        }
        self.queued -= 1;
        if line.queue.is_empty() {
            self.order.remove(&(line.turns, project));
            if self.lines.len() > IDLE_LINES_MAX {
                self.lines.remove(&project);
            }
        }
        true
    }

    /// The project that goes next, and its first job.
    pub(super) fn head(&self) -> Option<(ProjectId, Place)> {
        let (_, project) = self.order.first()?;
        Some((*project, self.lines.get(project)?.queue.first()?))
    }

    /// Passes a project over until [`let_in`](Self::let_in).
    pub(super) fn hold(&mut self, project: ProjectId) {
        if let Some(line) = self.lines.get_mut(&project) {
            line.held = true;
            self.order.remove(&(line.turns, project));
        }
    }

    /// Regards a project again.
    pub(super) fn let_in(&mut self, project: ProjectId) {
        if let Some(line) = self.lines.get_mut(&project) {
            line.held = false;
            if !line.queue.is_empty() {
                self.order.insert((line.turns, project));
            }
        }
    }

    /// How long a job of a project will take here, as far as that is known.
    pub(super) fn expected_ms(&self, project: ProjectId) -> Option<u64> {
        let own = self.lines.get(&project).and_then(|line| line.mean.millis());
        own.or(self.mean.millis())
    }

    /// Moves a project on; one that was away begins where the others are.
    pub(super) fn charge(&mut self, project: ProjectId, step: Turns) {
        let Some(line) = self.lines.get_mut(&project) else {
            return;
        };
        let waits = self.order.remove(&(line.turns, project));
        self.clock = line.turns.max(self.clock);
        line.turns = self.clock.after(step);
        if waits {
            self.order.insert((line.turns, project));
        }
    }

    /// Learns how long a job took.
    pub(super) fn took(&mut self, project: ProjectId, millis: u64) {
        self.mean.add(millis);
        if let Some(line) = self.lines.get_mut(&project) {
            line.mean.add(millis);
        }
    }
}
