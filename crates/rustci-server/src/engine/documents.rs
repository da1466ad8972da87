//! Documents that the journal keeps for the control plane: registered pipelines and the times at
//! which they ran.

use rustci_scheduler::Command;

use crate::api::{ApiError, Listed};
use crate::engine::core::{Core, Pending};
use crate::engine::handle::{Answer, Begin, Begun, Submission, Wanted};
use crate::engine::placement::refusal;
use crate::expected::{Expected, tag_of};

/// The kind of registered pipelines, whose keys are their names.
pub(crate) const PIPELINE: &str = "pipeline";
/// The kind of times that came last, whose keys are `PIPELINE/SCHEDULE`.
pub(crate) const CRON: &str = "cron";

/// A run that a schedule asks for.
#[derive(Debug)]
pub(crate) struct Firing {
    /// `PIPELINE/SCHEDULE`.
    pub(crate) key: String,
    /// The time of the schedule, in Unix milliseconds.
    pub(crate) at_ms: u64,
    /// None when the pipeline cannot be run; the time counts as gone all the same.
    pub(crate) submission: Option<Box<Submission>>,
}

impl Core {
    /// The documents of a kind, by key.
    pub(super) fn documents(&self, kind: &str) -> Vec<(String, Vec<u8>)> {
        let documents = self.scheduler.documents(kind);
        documents
            .map(|(key, value)| (key.to_owned(), value.to_vec()))
            .collect()
    }

    /// Changes a registered pipeline that is as expected; the answer comes when that is durable.
    pub(super) fn put_pipeline(
        &mut self,
        name: String,
        value: Option<Vec<u8>>,
        expected: Expected,
        answer: Answer<()>,
    ) {
        let tag = self.document(PIPELINE, &name).map(|bytes| tag_of(&bytes));
        if !expected.agrees(tag.as_deref()) {
            let what = format!("pipeline {name}");
            return drop(answer.send(Err(match (expected, &value, tag) {
                (Expected::Absent, _, _) => ApiError::PipelineExists(name),
                (_, None, None) => ApiError::NotFound {
                    listed: Listed::Pipelines,
                    what,
                },
                _ => ApiError::PreconditionFailed { what },
            })));
        }
        if value.is_none() {
            self.forget_times(&name);
        }
        let kind = PIPELINE.to_owned();
        self.operate(
            Command::SetDocument {
                kind,
                key: name,
                value,
            },
            answer,
        );
    }

    /// Forgets when the schedules of a pipeline came last: one of the same name is another one.
    fn forget_times(&mut self, name: &str) {
        let begin = format!("{name}/");
        let keys = self.documents(CRON).into_iter().map(|(key, _)| key);
        for key in keys.filter(|key| key.starts_with(&begin)) {
            let kind = CRON.to_owned();
            // It stays when the journal failed, and then so does the pipeline.
            let _ = self.command(Command::SetDocument {
                kind,
                key,
                value: None,
            });
        }
    }

    /// Writes down that a time has come, and starts the run. Both become durable together, so a
    /// time is used once at most, over restarts too.
    pub(super) fn fire(&mut self, firing: Firing, answer: Answer<Begun>) {
        let fired = self.mark(&firing).and_then(|()| {
            let submission = firing.submission.ok_or_else(|| {
                ApiError::Invalid("the pipeline cannot be run; its time is gone".to_owned())
            })?;
            let wanted = Wanted::New(submission);
            self.start_run(Begin { wanted, key: None })
        });
        match fired {
            Ok(begun) => self.hold(Pending::Begun(begun, answer)),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn mark(&mut self, firing: &Firing) -> Result<(), ApiError> {
        self.accepting()?;
        let last = self
            .document(CRON, &firing.key)
            .and_then(|value| time(&value));
        if last.is_some_and(|last| last >= firing.at_ms) {
            return Err(ApiError::Invalid("that time was used already".to_owned()));
        }
        let mark = Command::SetDocument {
            kind: CRON.to_owned(),
            key: firing.key.clone(),
            value: Some(firing.at_ms.to_string().into_bytes()),
        };
        self.command(mark).map(|_| ()).map_err(refusal)
    }

    fn document(&self, kind: &str, key: &str) -> Option<Vec<u8>> {
        let mut documents = self.scheduler.documents(kind);
        documents
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.to_vec())
    }
}

/// The time in a document of the kind [`CRON`].
pub(crate) fn time(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
