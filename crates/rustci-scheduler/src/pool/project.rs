//! Projects as placement sees them: their turn, what they have, what they may have.

use std::collections::{BTreeMap, BTreeSet};

use super::class::ClassId;
use crate::Quota;

/// Projects without jobs that are kept for the next one.
const IDLE_PROJECTS_MAX: usize = 1_024;

/// What any job costs a runner, however short.
const COST_MIN_MS: u64 = 100;

/// Names a project inside its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProjectId(pub(super) u64);

/// Runner time that a project has been given, divided by its weight: who has the least goes next.
/// In thousandths of a millisecond, so that the largest weight still divides the smallest cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Turns(u64);

impl Turns {
    /// After a job that is expected to take so long.
    pub(super) fn after(self, step: Self) -> Self {
        Self(self.0.saturating_add(step.0))
    }

    /// How often `step` fits between this and a later one.
    pub(super) fn steps_to(self, later: Self, step: Self) -> u64 {
        later.0.saturating_sub(self.0) / step.0.max(1)
    }

    /// What a job of this length moves a project with this weight by.
    pub(super) fn step(cost_ms: Option<u64>, weight: u32) -> Self {
        let cost_ms = cost_ms.unwrap_or(0).max(COST_MIN_MS);
        Self(cost_ms.saturating_mul(1_000) / u64::from(weight.max(1)))
    }

    /// Later by a number of steps.
    pub(super) fn after_many(self, step: Self, count: usize) -> Self {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(step.0.saturating_mul(count)))
    }
}

/// How long jobs took of late: each newer one counts an eighth.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MeanTime(Option<u64>);

impl MeanTime {
    pub(super) fn add(&mut self, took_ms: u64) {
        let mean = self.0.map_or(took_ms, |mean| {
            mean.saturating_mul(7).saturating_add(took_ms) / 8
        });
        self.0 = Some(mean);
    }

    pub(super) fn millis(self) -> Option<u64> {
        self.0
    }
}

/// A project with jobs, or that had some.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) name: Box<str>,
    /// What it has been given over all classes.
    pub(super) turns: Turns,
    /// Jobs that have not ended.
    pub(super) open: usize,
    /// Jobs in the queue.
    pub(super) queued: usize,
    /// Jobs that runners have.
    pub(super) running: usize,
    /// Its own, with the default where that is silent.
    pub(super) quota: Quota,
    /// Classes in which it is passed over because it has as much as it may have.
    pub(super) held: BTreeSet<ClassId>,
}

impl Project {
    /// Whether it has as many running jobs as it may have.
    pub(super) fn is_full(&self) -> bool {
        let max = usize::try_from(self.quota.running).unwrap_or(usize::MAX);
        max > 0 && self.running >= max
    }

    /// Jobs that have not ended and do not run.
    pub(super) fn waiting(&self) -> usize {
        self.open.saturating_sub(self.running)
    }

    fn is_idle(&self) -> bool {
        self.open == 0 && self.queued == 0 && self.running == 0
    }
}

/// All projects that the pool knows.
#[derive(Debug, Default)]
pub(super) struct Projects {
    all: BTreeMap<ProjectId, Project>,
    ids: BTreeMap<Box<str>, ProjectId>,
    next: u64,
    /// What has been set, the default under the empty name.
    quotas: BTreeMap<Box<str>, Quota>,
    /// What the project that was served last had before: where newcomers begin.
    pub(super) clock: Turns,
}

impl Projects {
    pub(super) fn find(&self, name: &str) -> Option<ProjectId> {
        self.ids.get(name).copied()
    }

    /// The id of a project, which is made when it is new.
    pub(super) fn id(&mut self, name: &str) -> ProjectId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let id = ProjectId(self.next);
        self.next += 1;
        let project = Project {
            name: name.into(),
            turns: self.clock,
            open: 0,
            queued: 0,
            running: 0,
            quota: self.quota(name),
            held: BTreeSet::new(),
        };
        self.all.insert(id, project);
        self.ids.insert(name.into(), id);
        id
    }

    pub(super) fn get(&self, id: ProjectId) -> Option<&Project> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ProjectId) -> Option<&mut Project> {
        self.all.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Project> {
        self.all.values()
    }

    /// Whether any project has a bound on its running jobs.
    pub(super) fn any_bound(&self) -> bool {
        self.quotas.values().any(|quota| quota.running > 0)
    }

    /// What holds for a project.
    pub(super) fn quota(&self, name: &str) -> Quota {
        let set = |name: &str| self.quotas.get(name).copied().unwrap_or_default();
        set(name).or(set(""))
    }

    /// Sets what a project may have, and says whose bounds that changes.
    pub(super) fn set_quota(&mut self, name: &str, quota: Quota) -> Vec<ProjectId> {
        if quota == Quota::default() {
            self.quotas.remove(name);
        } else {
            self.quotas.insert(name.into(), quota);
        }
        let concerned: Vec<_> = match name {
            "" => self.all.keys().copied().collect(),
            name => self.find(name).into_iter().collect(),
        };
        for id in &concerned {
            let quota = self.all.get(id).map(|project| self.quota(&project.name));
            if let (Some(project), Some(quota)) = (self.all.get_mut(id), quota) {
                project.quota = quota;
            }
        }
        concerned
    }

    /// Moves a project on by what it was given; one that was away begins where the others are.
    pub(super) fn charge(&mut self, id: ProjectId, step: Turns) {
        if let Some(project) = self.all.get_mut(&id) {
            self.clock = project.turns.max(self.clock);
            project.turns = self.clock.after(step);
        }
    }

    /// Forgets a project that has nothing, when there are many.
    pub(super) fn drop_idle(&mut self, id: ProjectId) {
        if self.all.len() <= IDLE_PROJECTS_MAX || !self.all.get(&id).is_some_and(Project::is_idle) {
            return;
        }
        if let Some(project) = self.all.remove(&id) {
            self.ids.remove(&project.name);
        }
    }
}
