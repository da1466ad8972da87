//! What operators see of the queue and the runners, and what they do to them.

use rustci_scheduler::{Command, JobId, Quota, Refused, RunnerId};
use valkyrie_frame::WallTime;

use crate::api::view::{
    ClassView, NewQuota, ProjectLoad, QueueView, QueuedJob, QuotaView, RunnerState, RunnerView,
};
use crate::api::{ApiError, Listed};
use crate::engine::core::{Core, Pending};
use crate::engine::handle::Answer;
use crate::engine::states;
use crate::expected::{Expected, tag_of};
use crate::limits::QUEUE_GROUPS_MAX;

/// Which part of the queue somebody wants to see.
#[derive(Debug, Clone)]
pub struct QueuePage {
    /// Where it begins: the place and the job that the page before ended with.
    pub after: (u64, u64),
    /// Jobs of this project only.
    pub project: Option<String>,
    /// At most so many jobs.
    pub limit: usize,
}

impl Core {
    /// Does what an operator wants; answered when that is durable.
    pub(super) fn operate(&mut self, command: Command, answer: Answer<()>) {
        if let Some(reason) = &self.failed {
            drop(answer.send(Err(ApiError::Storage(reason.clone()))));
            return;
        }
        match self.command(command) {
            Ok(_) => self.hold(Pending::Done(answer)),
            Err(refused) => drop(answer.send(Err(refusal(refused)))),
        }
    }

    pub(super) fn queue_view(&self, page: &QueuePage) -> QueueView {
        let queue = self.scheduler.queue(QUEUE_GROUPS_MAX);
        let (place, job) = page.after;
        let found = self.scheduler.queue_page(
            (place, JobId(job)),
            page.project.as_deref(),
            page.limit.saturating_add(1),
        );
        let more = found.len() > page.limit;
        let shown = found.get(..page.limit).unwrap_or(&found);
        let next = shown.last().filter(|_| more);
        let reasons = self.scheduler.reasons();
        QueueView {
            paused: queue.paused,
            queued: queue.queued as u64,
            running: queue.running as u64,
            oldest_ms: queue.oldest.map(WallTime::as_millis),
            reasons: reasons
                .iter()
                .map(|(code, count)| ((*code).to_owned(), *count as u64))
                .collect(),
            classes: queue.classes.into_iter().map(class_view).collect(),
            projects: queue.projects.into_iter().map(load).collect(),
            jobs: shown
                .iter()
                .filter_map(|(_, job)| self.queued_job(*job))
                .collect(),
            next: next.map(|(place, job)| format!("{place}-{job}")),
        }
    }

    fn queued_job(&self, id: JobId) -> Option<QueuedJob> {
        let (run, place, job) = self.scheduler.job(id)?;
        let waiting = self.scheduler.waiting(id)?;
        Some(QueuedJob {
            job: id.0,
            run: run.id.0,
            key: run.plan.plan().jobs.get(place)?.key.clone(),
            project: run.meta.project.clone(),
            pipeline: run.plan.plan().name.clone(),
            priority: states::priority(run.meta.priority()),
            queued_ms: job.queued.map(WallTime::as_millis),
            code: waiting.code().to_owned(),
            reason: waiting.to_string(),
        })
    }

    /// What was set for projects whose names come after `after`.
    pub(super) fn quotas(&self, after: Option<&str>, limit: usize) -> Vec<QuotaView> {
        let set = self.scheduler.quotas().map(|(project, _)| project);
        let wanted = set.filter(|project| after.is_none_or(|after| *project > after));
        let wanted = wanted.take(limit).map(|project| self.quota(project));
        wanted.collect()
    }

    /// What holds for one project; the empty name stands for the default of all.
    pub(super) fn quota(&self, project: &str) -> QuotaView {
        let set = self.scheduler.quotas().find(|(name, _)| *name == project);
        let own = set.map(|(_, quota)| quota).unwrap_or_default();
        let holds = self.scheduler.quota(project);
        let now = self.scheduler.project(project);
        QuotaView {
            project: if project.is_empty() {
                "_default".to_owned()
            } else {
                project.to_owned()
            },
            own: NewQuota {
                running: some(own.running),
                queued: some(own.queued),
                weight: some(own.weight),
            },
            running: some(holds.running),
            queued: some(holds.queued),
            weight: holds.weight.max(1),
            etag: quota_tag(own),
            running_now: now.as_ref().map_or(0, |now| now.running as u64),
            waiting_now: now.as_ref().map_or(0, |now| now.waiting as u64),
        }
    }

    /// Sets what a project may have, when that is as expected.
    pub(super) fn set_quota(
        &mut self,
        project: String,
        quota: Quota,
        expected: &Expected,
        answer: Answer<()>,
    ) {
        let set = self.scheduler.quotas().find(|(name, _)| *name == project);
        let own = set.map(|(_, quota)| quota).unwrap_or_default();
        if !expected.agrees(Some(&quota_tag(own))) {
            let what = format!("quota of {project}");
            return drop(answer.send(Err(ApiError::PreconditionFailed { what })));
        }
        self.operate(Command::SetQuota { project, quota }, answer);
    }

    /// All runners that are known, by name.
    pub(super) fn runner_views(&self) -> Vec<RunnerView> {
        let mut views: Vec<_> = self
            .scheduler
            .runners()
            .map(|runner| self.runner_view(runner))
            .collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    fn runner_view(&self, runner: rustci_scheduler::RunnerView) -> RunnerView {
        let running = u32::try_from(runner.jobs.len()).unwrap_or(u32::MAX);
        let load = u64::from(running) * 100 / u64::from(runner.capacity.max(1));
        let seen = self.seen.get(&runner.id).map(|seen| seen.as_millis());
        RunnerView {
            id: runner.id.0,
            state: match (runner.connected, runner.draining || runner.leaving) {
                (false, _) => RunnerState::Away,
                (true, true) => RunnerState::Draining,
                (true, false) => RunnerState::Connected,
            },
            drained: runner.draining,
            name: runner.name,
            labels: runner.labels,
            capacity: runner.capacity,
            running,
            jobs: runner.jobs.iter().map(|job| job.0).collect(),
            load_percent: u32::try_from(load).unwrap_or(u32::MAX).min(100),
            version: self.versions.get(&runner.id).cloned().unwrap_or_default(),
            last_seen_ms: seen.filter(|_| !runner.connected),
        }
    }

    /// Forgets what belongs to a runner that is gone for good.
    pub(super) fn forget_runner(&mut self, runner: RunnerId, answer: Answer<()>) {
        self.operate(Command::ForgetRunner { runner }, answer);
        if self.scheduler.known_runner(runner).is_none() {
            self.versions.remove(&runner);
            self.places.remove(&runner);
            self.seen.remove(&runner);
        }
    }
}

/// A refusal in the words of the API.
pub(super) fn refusal(refused: Refused) -> ApiError {
    match refused {
        Refused::UnknownRunner(runner) => ApiError::NotFound {
            listed: Listed::Runners,
            what: format!("runner {runner}"),
        },
        Refused::UnknownRun(run) => ApiError::NotFound {
            listed: Listed::Runs,
            what: format!("run {run}"),
        },
        Refused::RunnerInUse(runner) => ApiError::RunnerInUse(runner.0),
        Refused::QuotaExceeded { .. } => ApiError::QuotaExceeded(refused.to_string()),
        other => ApiError::Invalid(other.to_string()),
    }
}

/// The quota that a client asks for.
pub(crate) fn wanted(new: NewQuota) -> Quota {
    Quota {
        running: new.running.unwrap_or_default(),
        queued: new.queued.unwrap_or_default(),
        weight: new.weight.unwrap_or_default(),
    }
}

/// Names what is set for a project.
fn quota_tag(own: Quota) -> String {
    let Quota {
        running,
        queued,
        weight,
    } = own;
    tag_of(format!("{running} {queued} {weight}").as_bytes())
}

fn some(figure: u32) -> Option<u32> {
    (figure > 0).then_some(figure)
}

fn class_view(class: rustci_scheduler::ClassView) -> ClassView {
    ClassView {
        all: class.all,
        any: class.any,
        queued: class.queued as u64,
        runners: class.runners as u64,
        slots: class.slots as u64,
        free: class.free as u64,
    }
}

fn load(project: rustci_scheduler::ProjectView) -> ProjectLoad {
    ProjectLoad {
        project: project.name,
        queued: project.queued as u64,
        running: project.running as u64,
        waiting: project.waiting as u64,
        weight: project.quota.weight.max(1),
    }
}
