//! The queue: who goes next, and what that costs whom.
//!
//! Inside a class the project that was given the least runner time for its weight goes first, and
//! among classes that could go the one whose first project was given the least over all classes.
//! Both are start-time fair queueing: a project that comes back begins where the others are, so it
//! has neither credit for its absence nor debt for what is long over. A job is charged when it
//! goes, with the time that such jobs of its project took of late.

use std::sync::Arc;

use valkyrie_frame::WallTime;

use super::{
    Pool, Share,
    class::{Class, ClassId},
    project::{ProjectId, Projects, Turns},
    runner::Held,
    share::Place,
};
use crate::{JobId, Quota, RunnerId, plan::Requirement};

/// The job that goes next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Next {
    pub(crate) job: JobId,
    pub(crate) runner: RunnerId,
    place: Place,
    class: ClassId,
    project: ProjectId,
}

impl Pool {
    /// The job that goes next and the runner that gets it. Neither is taken yet.
    pub(crate) fn next(&mut self) -> Option<Next> {
        loop {
            let (turns, place, class_id) = *self.ready.first()?;
            let class = self.classes.get(&class_id)?;
            let (project_id, _) = class.head()?;
            let project = self.projects.get(project_id)?;
            // What a project was given only grows, so an old figure is too low and comes up here.
            if project.turns == turns && !project.is_full() {
                let (_, runner) = class.free.first()?;
                return Some(Next {
                    job: place.1,
                    runner: *runner,
                    place,
                    class: class_id,
                    project: project_id,
                });
            }
            self.touch(class_id);
        }
    }

    /// Gives the job that goes next to its runner; it was queued at `queued`.
    pub(crate) fn assign(&mut self, next: Next, queued: WallTime, now: WallTime) {
        if let Some(class) = self.classes.get_mut(&next.class)
            && class.remove(next.project, next.place)
        {
            self.left(next.project, queued);
        }
        self.occupy(next.runner, next.job, next.class, next.project, now);
        self.drop_idle_class(next.class);
    }

    /// Notes that a runner has a job since before this process began.
    pub(crate) fn resume(
        &mut self,
        runner: RunnerId,
        job: JobId,
        requirement: &Arc<Requirement>,
        share: Share<'_>,
        since: WallTime,
    ) {
        let class = self.class_for(requirement);
        let project = self.projects.id(share.project);
        self.occupy(runner, job, class, project, since);
    }

    fn occupy(
        &mut self,
        runner: RunnerId,
        job: JobId,
        class: ClassId,
        project: ProjectId,
        since: WallTime,
    ) {
        self.charge(class, project);
        if let Some(project) = self.projects.get_mut(project) {
            project.running += 1;
        }
        self.running += 1;
        let held = Held {
            project,
            class,
            since,
        };
        let active = &mut self.runners.entry(runner).or_default().active;
        active.insert(job, held);
        self.refresh(runner);
        self.touch(class);
    }

    fn charge(&mut self, class: ClassId, project: ProjectId) {
        let (Some(class), Some(weight)) = (
            self.classes.get_mut(&class),
            self.projects
                .get(project)
                .map(|project| project.quota.weight),
        ) else {
            return;
        };
        let step = Turns::step(class.expected_ms(project), weight);
        class.charge(project, step);
        self.projects.charge(project, step);
    }

    /// Notes that a runner no longer has a job.
    pub(crate) fn release(&mut self, runner: RunnerId, job: JobId, now: WallTime) {
        let pooled = self.runners.get_mut(&runner);
        let held = pooled.and_then(|runner| runner.active.remove(&job));
        self.refresh(runner);
        let Some(held) = held else { return };
        if let Some(class) = self.classes.get_mut(&held.class) {
            let took = now.saturating_since(held.since).as_millis();
            class.took(held.project, u64::try_from(took).unwrap_or(u64::MAX));
        }
        if let Some(project) = self.projects.get_mut(held.project) {
            project.running = project.running.saturating_sub(1);
        }
        self.running = self.running.saturating_sub(1);
        self.let_in(held.project);
        self.projects.drop_idle(held.project);
    }

    /// Adds a job to the queue of its class.
    pub(crate) fn enqueue(&mut self, job: JobId, requirement: &Arc<Requirement>, share: Share<'_>) {
        let id = self.class_for(requirement);
        let project = self.projects.id(share.project);
        if let Some(class) = self.classes.get_mut(&id)
            && class.insert(project, share.place(job))
        {
            *self.ages.entry(share.queued).or_default() += 1;
            self.queued += 1;
            if let Some(project) = self.projects.get_mut(project) {
                project.queued += 1;
            }
        }
        self.touch(id);
    }

    /// Takes a job out of the queue; does nothing when it is not there.
    pub(crate) fn dequeue(&mut self, job: JobId, requirement: &Requirement, share: Share<'_>) {
        let class = self.ids.get(requirement).copied();
        let (Some(id), Some(project)) = (class, self.projects.find(share.project)) else {
            return;
        };
        if let Some(class) = self.classes.get_mut(&id)
            && class.remove(project, share.place(job))
        {
            self.left(project, share.queued);
        }
        self.touch(id);
        self.drop_idle_class(id);
    }

    /// Counts a job out that has left the queue.
    fn left(&mut self, project: ProjectId, queued: WallTime) {
        self.queued -= 1;
        if let Some(project) = self.projects.get_mut(project) {
            project.queued = project.queued.saturating_sub(1);
        }
        if let Some(count) = self.ages.get_mut(&queued) {
            *count -= 1;
            if *count == 0 {
                self.ages.remove(&queued);
            }
        }
    }

    /// Counts jobs of a project that have come into being.
    pub(crate) fn opened(&mut self, project: &str, jobs: usize) {
        let id = self.projects.id(project);
        if let Some(project) = self.projects.get_mut(id) {
            project.open += jobs;
        }
    }

    /// Counts a job of a project out that is over.
    pub(crate) fn closed(&mut self, project: &str) {
        let Some(id) = self.projects.find(project) else {
            return;
        };
        if let Some(project) = self.projects.get_mut(id) {
            project.open = project.open.saturating_sub(1);
        }
        self.projects.drop_idle(id);
    }

    /// Sets what a project may have; the empty name stands for all that have nothing of their own.
    pub(crate) fn set_quota(&mut self, project: &str, quota: Quota) {
        for concerned in self.projects.set_quota(project, quota) {
            self.let_in(concerned);
        }
    }

    /// Lets the jobs of a project go again if it has room.
    fn let_in(&mut self, id: ProjectId) {
        let Some(project) = self.projects.get_mut(id) else {
            return;
        };
        if project.held.is_empty() || project.is_full() {
            return;
        }
        for class_id in std::mem::take(&mut project.held) {
            if let Some(class) = self.classes.get_mut(&class_id) {
                class.let_in(id);
            }
            self.touch(class_id);
        }
    }

    /// Keeps [`Self::ready`] right after a class has changed.
    pub(super) fn touch(&mut self, id: ClassId) {
        let Some(class) = self.classes.get_mut(&id) else {
            return;
        };
        let head = open_head(class, id, &mut self.projects);
        if class.ready == head {
            return;
        }
        if let Some((turns, place)) = class.ready {
            self.ready.remove(&(turns, place, id));
        }
        self.ready
            .extend(head.map(|(turns, place)| (turns, place, id)));
        class.ready = head;
    }
}

/// The first job of a class that may go, if there is a runner; projects at their bound are put
/// aside on the way.
fn open_head(class: &mut Class, id: ClassId, projects: &mut Projects) -> Option<(Turns, Place)> {
    if class.free.is_empty() {
        return None;
    }
    loop {
        let (project_id, place) = class.head()?;
        let project = projects.get_mut(project_id)?;
        if !project.is_full() {
            return Some((project.turns, place));
        }
        project.held.insert(id);
        class.hold(project_id);
    }
}
