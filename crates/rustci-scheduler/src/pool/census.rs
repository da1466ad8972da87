//! The queue in figures and in pages.

use std::{cmp::Reverse, collections::BTreeMap, collections::BinaryHeap};

use valkyrie_frame::WallTime;

use super::{
    Pool,
    class::{Class, Line},
    project::Project,
    runner::PoolRunner,
    share::Place,
};
use crate::{JobId, Quota};

/// Queued jobs with one requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassView {
    /// Labels a runner must have, all of them.
    pub all: Vec<String>,
    /// Labels of which it must have one.
    pub any: Vec<String>,
    /// Jobs in the queue.
    pub queued: usize,
    /// Connected runners that suit.
    pub runners: usize,
    /// Jobs that these run at once, as far as they take any.
    pub slots: usize,
    /// Those of them that are free now.
    pub free: usize,
}

/// What a project has and may have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectView {
    /// Its name.
    pub name: String,
    /// Its jobs that wait for a runner.
    pub queued: usize,
    /// Its jobs that runners have.
    pub running: usize,
    /// Its jobs that have not ended and do not run, the queued ones among them.
    pub waiting: usize,
    /// What holds for it.
    pub quota: Quota,
}

impl Pool {
    /// Jobs in the queue.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Jobs that runners have.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// When the job was queued that waits for a runner longest.
    pub(crate) fn oldest(&self) -> Option<WallTime> {
        self.ages.first_key_value().map(|(queued, _)| *queued)
    }

    /// Jobs of all projects that have not ended and do not run.
    pub(crate) fn waiting_in_all(&self) -> usize {
        self.projects.iter().map(Project::waiting).sum()
    }

    /// Every class with jobs.
    pub(crate) fn class_views(&self) -> Vec<ClassView> {
        let classes = self.classes.values().filter(|class| class.queued > 0);
        let view = |class: &Class| {
            let (slots, free) = self.slots(class);
            ClassView {
                all: class.requirement.all.clone(),
                any: class.requirement.any.clone(),
                queued: class.queued,
                runners: class.members.len(),
                slots,
                free,
            }
        };
        classes.map(view).collect()
    }

    /// Every project with open jobs.
    pub(crate) fn project_views(&self) -> Vec<ProjectView> {
        let open = self.projects.iter().filter(|project| project.open > 0);
        open.map(view_of).collect()
    }

    /// A project that is known.
    pub(crate) fn project_view(&self, name: &str) -> Option<ProjectView> {
        let project = self.projects.get(self.projects.find(name)?)?;
        Some(view_of(project))
    }

    /// Adds up what the queued jobs wait for, by class and project.
    pub(crate) fn count_reasons(&self, reasons: &mut BTreeMap<&'static str, usize>) {
        let connected = self.runners.values().any(PoolRunner::is_connected);
        for class in self.classes.values().filter(|class| class.queued > 0) {
            let (reason, held) = match class.members.is_empty() {
                true if connected => ("no_suitable_runner", 0),
                true => ("no_runners", 0),
                false => (self.class_reason(class), self.held(class)),
            };
            *reasons.entry("quota").or_default() += held;
            *reasons.entry(reason).or_default() += class.queued.saturating_sub(held);
        }
    }

    /// Jobs of a class whose project runs as many as it may.
    fn held(&self, class: &Class) -> usize {
        // Without a bound nobody is held, and nobody has to be looked for.
        if !self.projects.any_bound() {
            return 0;
        }
        let full = class.lines.iter().filter(|(project, line)| {
            let project = self.projects.get(**project);
            !line.queue.is_empty() && project.is_some_and(Project::is_full)
        });
        full.map(|(_, line)| line.queue.len()).sum()
    }

    /// What a class with suitable runners waits for.
    fn class_reason(&self, class: &Class) -> &'static str {
        let mut resting = false;
        for runner in class.members.iter().filter_map(|id| self.runners.get(id)) {
            if !runner.is_closed() {
                return "capacity";
            }
            resting |= runner.resting;
        }
        if resting { "resting" } else { "draining" }
    }

    /// Queued jobs by place, from behind `after` on.
    pub(crate) fn page(
        &self,
        (late, job): (u64, JobId),
        project: Option<&str>,
        limit: usize,
    ) -> Vec<(u64, JobId)> {
        let only = project.map(|name| self.projects.find(name));
        let lines = self.classes.values().flat_map(|class| &class.lines);
        let wanted = lines.filter(|(id, _)| only.is_none_or(|only| only == Some(**id)));
        merge(wanted.map(|(_, line)| line), Place(late, job), limit)
    }
}

/// The first places behind `after` of several lines.
fn merge<'a>(
    lines: impl Iterator<Item = &'a Line>,
    after: Place,
    limit: usize,
) -> Vec<(u64, JobId)> {
    let mut rests: Vec<_> = lines.map(|line| line.queue.after(after)).collect();
    let heads = rests.iter_mut().enumerate();
    let heads = heads.filter_map(|(number, rest)| Some(Reverse((rest.next()?, number))));
    let mut heads: BinaryHeap<_> = heads.collect();
    let mut page = Vec::new();
    while page.len() < limit
        && let Some(Reverse((Place(late, job), number))) = heads.pop()
    {
        page.push((late, job));
        let next = rests.get_mut(number).and_then(Iterator::next);
        heads.extend(next.map(|place| Reverse((place, number))));
    }
    page
}

fn view_of(project: &Project) -> ProjectView {
    ProjectView {
        name: project.name.to_string(),
        queued: project.queued,
        running: project.running,
        waiting: project.waiting(),
        quota: project.quota,
    }
}
