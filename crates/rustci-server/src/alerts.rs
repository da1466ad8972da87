//! What people are told of runs and runners.
//!
//! The catalogue's thread hands over what changed, so everything told is durable. Nothing is told of
//! before the start: a restart repeats nobody's failures.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use telemetry::notify::{Notice, NotificationMessage, NotificationSeverity, Notifier, RuleKind};

use crate::api::view::{AttemptView, Conclusion, RunSummary};
use crate::catalogue::{Change, JobState};

/// Attempts and runs that are remembered as told.
const TOLD_MAX: usize = 1_024;

/// Tells of runs that did not succeed and of runners that were lost.
#[derive(Debug)]
pub(crate) struct Alerts {
    notifier: Notifier,
    since_ms: u64,
    told: VecDeque<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Run(u64),
    Attempt(u64, u32),
}

impl Alerts {
    /// Tells of what happens from now on.
    pub(crate) fn new(notifier: Notifier) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis();
        Self::since(notifier, u64::try_from(now).unwrap_or(u64::MAX))
    }

    fn since(notifier: Notifier, since_ms: u64) -> Self {
        Self {
            notifier,
            since_ms,
            told: VecDeque::new(),
        }
    }

    /// Looks at what changed.
    pub(crate) fn see(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Run(run) => self.run(run),
                Change::Job(job) => self.job(job),
                _ => {}
            }
        }
    }

    fn run(&mut self, run: &RunSummary) {
        let what = match run.conclusion {
            Some(Conclusion::Failure) => "failed",
            Some(Conclusion::TimedOut) => "took too long",
            Some(Conclusion::Error) => "could not be run",
            _ => return,
        };
        if !self.is_news(Told::Run(run.id), run.finished_ms) {
            return;
        }
        let (pipeline, project, id) = (&run.pipeline, &run.project, run.id);
        let body = format!(
            "Run {id} of {pipeline} ({}) in project {project} {what}. `rustci runs view {id}` shows why.",
            run.file
        );
        self.tell(
            RuleKind::RunFailed,
            format!("{project} {}", run.file),
            NotificationMessage::new(
                NotificationSeverity::Error,
                format!("Run {id} of {pipeline} {what}"),
                body,
            ),
        );
    }

    fn job(&mut self, job: &JobState) {
        let lost = |attempt: &&AttemptView| attempt.cause.as_deref() == Some("runner_lost");
        for attempt in job.attempts.iter().filter(lost) {
            let told = Told::Attempt(job.id, attempt.number);
            if !self.is_news(told, attempt.finished_ms) {
                continue;
            }
            let (runner, run, number) = (&attempt.runner, job.run, attempt.number);
            let body = format!(
                "It was silent longer than its lease while it did attempt {number} of a job of run {run}. The \
                 job starts elsewhere as its `retry` allows; look at the machine of {runner}."
            );
            self.tell(
                RuleKind::RunnerLost,
                runner.clone(),
                NotificationMessage::new(
                    NotificationSeverity::Warning,
                    format!("Runner {runner} was lost"),
                    body,
                ),
            );
        }
    }

    /// Whether this was not told yet and happened after the start.
    fn is_news(&mut self, what: Told, at_ms: Option<u64>) -> bool {
        if at_ms.is_none_or(|at| at < self.since_ms) || self.told.contains(&what) {
            return false;
        }
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(what);
        true
    }

    fn tell(&self, kind: RuleKind, subject: String, message: NotificationMessage) {
        self.notifier.notify(Notice {
            kind,
            subject,
            message: message.with_tag("ci").with_tag(kind.name()),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use telemetry::notify::{NotificationAdapter, NotificationManager, Sending};

    use super::*;
    use crate::api::view::{EventView, GitView, Priority, Status};

    /// Keeps titles.
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl NotificationAdapter for Kept {
        fn name(&self) -> &'static str {
            "kept"
        }

        fn send<'a>(&'a self, message: &'a NotificationMessage) -> Sending<'a> {
            self.0.lock().unwrap().push(message.title.clone());
            Box::pin(std::future::ready(Ok(String::new())))
        }
    }

    fn run(id: u64, conclusion: Conclusion, finished_ms: u64) -> Change {
        Change::Run(RunSummary {
            id,
            project: "shop".to_owned(),
            pipeline: "build".to_owned(),
            file: format!("{id}.yaml"),
            status: Status::Finished,
            conclusion: Some(conclusion),
            digest: String::new(),
            event: EventView {
                name: "manual".to_owned(),
            },
            git: GitView::default(),
            priority: Priority::default(),
            rerun_of: None,
            created_ms: 1,
            started_ms: Some(2),
            finished_ms: Some(finished_ms),
        })
    }

    #[tokio::test]
    async fn failures_since_the_start_are_told_once() {
        let titles = Arc::<Mutex<Vec<String>>>::default();
        let mut manager = NotificationManager::new();
        manager.add_adapter(Box::new(Kept(Arc::clone(&titles))));
        let mut alerts = Alerts::since(manager.notifier(), 100);
        let failed = run(2, Conclusion::Failure, 100);
        alerts.see(&[
            run(1, Conclusion::Failure, 99),
            failed.clone(),
            failed,
            run(3, Conclusion::Success, 101),
            run(4, Conclusion::Canceled, 101),
            run(5, Conclusion::TimedOut, 101),
        ]);
        manager.close(std::time::Duration::from_secs(20)).await;
        let expected = ["Run 2 of build failed", "Run 5 of build took too long"];
        assert_eq!(*titles.lock().unwrap(), expected);
    }
}
