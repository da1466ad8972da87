//! The queue, as people see it.

use std::collections::BTreeMap;

use valkyrie_frame::WallTime;

pub use crate::pool::{Ahead, ClassView, ProjectView};
use crate::{JobId, Quota, Scheduler};

/// How many jobs wait for what, by [`Waiting::code`](crate::Waiting::code).
pub type Reasons = BTreeMap<&'static str, usize>;

/// The queue in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueView {
    /// No job is handed out.
    pub paused: bool,
    /// Jobs that wait for a runner, those behind a `max-parallel` not counted.
    pub queued: usize,
    /// Jobs that runners have.
    pub running: usize,
    /// Since when the job waits for a runner that does so longest.
    pub oldest: Option<WallTime>,
    /// Queued jobs by what their runners must have, the most first.
    pub classes: Vec<ClassView>,
    /// Projects with open jobs, those with the most queued ones first.
    pub projects: Vec<ProjectView>,
}

/// What there is that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Runs.
    pub runs: usize,
    /// Jobs that wait for something else than a runner.
    pub blocked: usize,
    /// Jobs that wait for a runner, those behind a `max-parallel` among them.
    pub queued: usize,
    /// Jobs that runners have.
    pub running: usize,
}

impl Scheduler {
    /// How much there is that has not ended.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let queued = self.pool.queued() + self.limits.waiting();
        Counts {
            runs: self.runs().filter(|run| run.conclusion.is_none()).count(),
            blocked: self.pool.waiting_in_all().saturating_sub(queued),
            queued,
            running: self.pool.running(),
        }
    }

    /// Since when the job waits for a runner that does so longest.
    #[must_use]
    pub fn oldest_queued(&self) -> Option<WallTime> {
        self.pool.oldest()
    }

    /// The queue in figures, with at most `max` classes and projects. Its cost grows with their
    /// number, not with that of the jobs.
    #[must_use]
    pub fn queue(&self, max: usize) -> QueueView {
        let mut classes = self.pool.class_views();
        classes.sort_by_key(|class| std::cmp::Reverse(class.queued));
        classes.truncate(max);
        let mut projects = self.pool.project_views();
        projects.sort_by_key(|project| std::cmp::Reverse(project.queued));
        projects.truncate(max);
        QueueView {
            paused: self.is_paused(),
            queued: self.pool.queued(),
            running: self.pool.running(),
            oldest: self.pool.oldest(),
            classes,
            projects,
        }
    }

    /// How many open jobs wait for what. Jobs in the queue are counted by class and project; the
    /// cost grows with their number and with that of the jobs at a slot or an approval.
    #[must_use]
    pub fn reasons(&self) -> Reasons {
        let mut reasons = Reasons::new();
        if self.is_paused() {
            reasons.insert("paused", self.pool.queued() + self.limits.waiting());
        } else {
            self.pool.count_reasons(&mut reasons);
            reasons.insert("max_parallel", self.limits.waiting());
        }
        self.count_gates(&mut reasons);
        let counted: usize = reasons.values().sum();
        let blocked = self.pool.waiting_in_all().saturating_sub(counted);
        reasons.insert("needs", blocked);
        reasons.retain(|_, count| *count > 0);
        reasons
    }

    /// Adds up the jobs that need nothing but a slot or an answer.
    fn count_gates(&self, reasons: &mut Reasons) {
        for taker in self.state.slots.waiting() {
            let (reason, jobs) = match taker.job {
                Some(_) => ("slot", 1),
                None => ("run_slot", self.run(taker.run).map_or(0, |run| run.open)),
            };
            *reasons.entry(reason).or_default() += jobs;
        }
        let asked = self.leases.asked().filter_map(|job| self.job(job));
        let asking = asked.filter(|(.., job)| job.is_asking());
        reasons.insert("approval", asking.count());
    }

    /// What is in front of a job that waits for a runner.
    #[must_use]
    pub fn ahead(&self, id: JobId) -> Option<Ahead> {
        let (run, place, _) = self.job(id)?;
        let requirement = run.requirement(place)?;
        self.pool.ahead(id, &requirement, run.share(place))
    }

    /// Jobs that wait for a runner, by priority and age, from behind `after` on; of one project
    /// only when one is named. Each with what to give as `after` to go on behind it. Which
    /// project's turn it is, the order does not say.
    #[must_use]
    pub fn queue_page(
        &self,
        after: (u64, JobId),
        project: Option<&str>,
        limit: usize,
    ) -> Vec<(u64, JobId)> {
        self.pool.page(after, project, limit)
    }

    /// What has been set for projects, by name; the default under the empty one.
    pub fn quotas(&self) -> impl Iterator<Item = (&str, Quota)> {
        let quotas = self.state.quotas.iter();
        quotas.map(|(project, quota)| (project.as_str(), *quota))
    }

    /// What holds for a project: its own quota, with the default where that is silent.
    #[must_use]
    pub fn quota(&self, project: &str) -> Quota {
        self.pool.quota(project)
    }

    /// What a project has now; `None` while it has nothing open.
    #[must_use]
    pub fn project(&self, name: &str) -> Option<ProjectView> {
        self.pool.project_view(name)
    }
}
