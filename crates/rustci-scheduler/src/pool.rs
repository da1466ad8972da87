//! Who can run what, now: connected runners and queued jobs. Soft state, rebuilt at a restart.
//!
//! Queued jobs lie in one class per distinct requirement and there in one line per project, so that
//! a decision looks at the heads of a few queues and never at the jobs behind them.

mod ahead;
mod census;
mod class;
mod dispatch;
mod leases;
mod limits;
mod project;
mod queue;
mod runner;
mod share;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustci_pipeline::labels;

pub use ahead::Ahead;
pub use census::{ClassView, ProjectView};
pub(crate) use dispatch::Next;
pub(crate) use leases::{Due, Leases};
pub(crate) use limits::{Admission, ParallelLimits};
pub(crate) use runner::PoolRunner;
pub(crate) use share::Share;

use valkyrie_frame::WallTime;

use crate::{Quota, RunnerId, plan::Requirement};
use class::{Class, ClassId};
use project::{Projects, Turns};
use runner::Presence;
use share::Place;

/// Classes without jobs that are kept for the next job of their kind.
const IDLE_CLASSES_MAX: usize = 256;

/// Runners, and the queue.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    classes: BTreeMap<ClassId, Class>,
    ids: BTreeMap<Arc<Requirement>, ClassId>,
    next_class: u64,
    runners: BTreeMap<RunnerId, PoolRunner>,
    /// The head of every class that has both a job and a runner with room.
    /// With what its project had been given when the class was looked at last.
    ready: BTreeSet<(Turns, Place, ClassId)>,
    projects: Projects,
    queued: usize,
    running: usize,
    /// How many of the queued jobs were queued when.
    ages: BTreeMap<WallTime, usize>,
}

impl Pool {
    /// A runner is connected, with these labels and this capacity.
    pub(crate) fn connect(
        &mut self,
        id: RunnerId,
        offered: &[String],
        executors: &[String],
        capacity: u32,
    ) {
        self.withdraw(id);
        let runner = self.runners.entry(id).or_default();
        runner.labels = labels::of_runner(offered, executors);
        runner.capacity = capacity.max(1);
        runner.presence = Presence::Connected;
        let (classes, labels) = (&mut self.classes, &runner.labels);
        let suits = |(class_id, class): (&ClassId, &mut Class)| {
            let suits = labels::matches(&class.runs_on, labels);
            if suits {
                class.members.insert(id);
            } else {
                class.members.remove(&id);
            }
            suits.then_some(*class_id)
        };
        runner.classes = classes.iter_mut().filter_map(suits).collect();
        self.refresh(id);
    }

    /// A runner's connection is gone. Its jobs stay with it.
    pub(crate) fn disconnect(&mut self, id: RunnerId) {
        self.withdraw(id);
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.presence = Presence::Away;
            for class in runner.classes.drain(..) {
                if let Some(class) = self.classes.get_mut(&class) {
                    class.members.remove(&id);
                }
            }
        }
    }

    /// Changes how a runner is regarded, and what follows for the queues.
    pub(crate) fn update(&mut self, id: RunnerId, change: impl FnOnce(&mut PoolRunner)) {
        if let Some(runner) = self.runners.get_mut(&id) {
            change(runner);
        }
        self.refresh(id);
    }

    /// Forgets a runner that is away and has no job.
    pub(crate) fn forget(&mut self, id: RunnerId) {
        self.disconnect(id);
        self.runners.remove(&id);
    }

    /// A runner that is connected or has jobs.
    pub(crate) fn runner(&self, id: RunnerId) -> Option<&PoolRunner> {
        self.runners.get(&id)
    }

    /// All runners that are connected or have jobs.
    pub(crate) fn runners(&self) -> impl Iterator<Item = (RunnerId, &PoolRunner)> {
        self.runners.iter().map(|(id, runner)| (*id, runner))
    }

    /// What holds for a project.
    pub(crate) fn quota(&self, project: &str) -> Quota {
        self.projects.quota(project)
    }

    /// Jobs of a project that have not ended and do not run.
    pub(crate) fn waiting(&self, project: &str) -> usize {
        let known = self.projects.find(project);
        let known = known.and_then(|id| self.projects.get(id));
        known.map_or(0, project::Project::waiting)
    }

    /// Connected runners that suit a requirement.
    pub(crate) fn suitable(&self, requirement: &Requirement) -> impl Iterator<Item = &PoolRunner> {
        let class = self
            .ids
            .get(requirement)
            .and_then(|id| self.classes.get(id));
        let members = class.into_iter().flat_map(|class| &class.members);
        members.filter_map(|id| self.runners.get(id))
    }

    /// How many jobs a project may run, when it runs as many.
    pub(crate) fn full(&self, project: &str) -> Option<u32> {
        let project = self.projects.get(self.projects.find(project)?)?;
        project.is_full().then_some(project.quota.running)
    }

    /// The class of a requirement, made when it is new.
    fn class_for(&mut self, requirement: &Arc<Requirement>) -> ClassId {
        if let Some(id) = self.ids.get(requirement) {
            return *id;
        }
        let id = ClassId(self.next_class);
        self.next_class += 1;
        let mut class = Class::new(requirement);
        for (runner_id, runner) in &mut self.runners {
            if runner.presence == Presence::Connected
                && labels::matches(&class.runs_on, &runner.labels)
            {
                runner.classes.push(id);
                class.members.insert(*runner_id);
                class
                    .free
                    .extend(runner.offer.map(|load| (load, *runner_id)));
            }
        }
        self.classes.insert(id, class);
        self.ids.insert(Arc::clone(requirement), id);
        id
    }

    /// Drops the class when it is empty and there are many.
    fn drop_idle_class(&mut self, id: ClassId) {
        let Some(class) = self.classes.get(&id) else {
            return;
        };
        if self.classes.len() <= IDLE_CLASSES_MAX || class.queued > 0 {
            return;
        }
        for member in &class.members {
            if let Some(runner) = self.runners.get_mut(member) {
                runner.classes.retain(|other| *other != id);
            }
        }
        self.ids.remove(&class.requirement);
        self.classes.remove(&id);
    }

    /// Takes a runner out of all lists of runners with room.
    fn withdraw(&mut self, id: RunnerId) {
        let Some(runner) = self.runners.get_mut(&id) else {
            return;
        };
        if let Some(load) = runner.offer.take() {
            for class in runner.classes.clone() {
                if let Some(class) = self.classes.get_mut(&class) {
                    class.free.remove(&(load, id));
                }
                self.touch(class);
            }
        }
    }

    /// Puts a runner into the lists where its load and state belong.
    fn refresh(&mut self, id: RunnerId) {
        let Some(runner) = self.runners.get_mut(&id) else {
            return;
        };
        let (before, now) = (runner.offer, runner.load());
        if before == now {
            return;
        }
        runner.offer = now;
        for number in 0..runner.classes.len() {
            let class = self
                .runners
                .get(&id)
                .and_then(|runner| runner.classes.get(number));
            let Some(class) = class.copied() else { break };
            if let Some(class) = self.classes.get_mut(&class) {
                if let Some(load) = before {
                    class.free.remove(&(load, id));
                }
                class.free.extend(now.map(|load| (load, id)));
            }
            self.touch(class);
        }
    }
}
