//! What is in front of a queued job. Counted, never walked.

use super::{
    Pool, Share,
    class::{Class, Line},
    project::{ProjectId, Turns},
};
use crate::{JobId, plan::Requirement};

/// Projects that are looked at one by one; more are reckoned from these.
const PROJECTS_COUNTED: usize = 1_024;

/// What is in front of a queued job, and how fast it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Ahead {
    /// Jobs of its project that go before it.
    pub own: usize,
    /// Jobs of other projects that go before it, if the queue stays as it is.
    pub others: usize,
    /// Jobs that the runners which suit it run at once.
    pub slots: usize,
    /// Those of them that are free now.
    pub free: usize,
    /// How long jobs of its kind take on average.
    pub mean_ms: Option<u64>,
}

impl Pool {
    /// What is in front of a job that is in the queue.
    pub(crate) fn ahead(
        &self,
        job: JobId,
        requirement: &Requirement,
        share: Share<'_>,
    ) -> Option<Ahead> {
        let class = self.classes.get(self.ids.get(requirement)?)?;
        let project_id = self.projects.find(share.project)?;
        let line = class.lines.get(&project_id)?;
        let own = line.queue.rank(share.place(job));
        let (slots, free) = self.slots(class);
        Some(Ahead {
            own,
            others: self.of_others(class, project_id, line, own),
            slots,
            free,
            mean_ms: class.mean.millis(),
        })
    }

    /// Jobs that the runners of a class run at once, and how many more they would take now.
    pub(super) fn slots(&self, class: &Class) -> (usize, usize) {
        let members = class.members.iter().filter_map(|id| self.runners.get(id));
        let open = members.filter(|runner| !runner.is_closed());
        let (slots, free) = open.fold((0_usize, 0_usize), |(slots, free), runner| {
            let capacity = usize::try_from(runner.capacity).unwrap_or(usize::MAX);
            let room = capacity.saturating_sub(runner.active.len());
            (slots.saturating_add(capacity), free.saturating_add(room))
        });
        (slots, free)
    }

    /// Jobs of other projects that get their turn before the project's job number `own`.
    fn of_others(&self, class: &Class, project: ProjectId, line: &Line, own: usize) -> usize {
        let target = line
            .turns
            .max(class.clock)
            .after_many(self.step(class, project), own);
        let before = class.order.iter().take_while(|(turns, _)| *turns < target);
        let (mut looked_at, mut found) = (0, 0_usize);
        for (turns, other) in before.filter(|(_, other)| *other != project) {
            if looked_at == PROJECTS_COUNTED {
                return found.saturating_mul(class.order.len()) / PROJECTS_COUNTED;
            }
            looked_at += 1;
            let step = self.step(class, *other);
            let turns = turns.max(&class.clock).steps_to(target, step);
            let turns = usize::try_from(turns).unwrap_or(usize::MAX);
            let queued = class.lines.get(other).map_or(0, |line| line.queue.len());
            found = found.saturating_add(queued.min(turns.saturating_add(1)));
        }
        found
    }

    fn step(&self, class: &Class, project: ProjectId) -> Turns {
        let weight = self
            .projects
            .get(project)
            .map_or(1, |project| project.quota.weight);
        Turns::step(class.expected_ms(project), weight)
    }
}
