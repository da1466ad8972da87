//! What people ask of the engine.

use std::time::Duration;

use prost::Message;
use rustci_pipeline::v1;
use rustci_scheduler::record::{NamedText, RunMeta};
use rustci_scheduler::{Command, JobId, Refused, Reply, RunId, RunnerId, Waiting};
use serde_json::{Map, Value, json};

use crate::api::ApiError;
use crate::api::view::{NewSource, RunView};
use crate::blobs::BlobDigest;
use crate::engine::core::{Core, Pending};
use crate::engine::handle::{Answer, Captured, Look, Request, Submission};
use crate::engine::placement::refusal;
use crate::engine::states;
use crate::limits::JOURNAL_BACKLOG_BYTES;
use crate::traces::RunTrace;

impl Core {
    /// Takes a request; it is answered when what it says is durable.
    pub(super) fn request_came(&mut self, request: Request) {
        match request {
            Request::Submit(submission, answer) => self.submit(*submission, answer),
            Request::Cancel(run, answer) => self.cancel(RunId(run), answer),
            // Whoever asked may have gone away; then nobody misses the answer.
            Request::Runners(answer) => drop(answer.send(Ok(self.runner_views()))),
            Request::Waiting(jobs, answer) => drop(answer.send(Ok(self.reasons(&jobs)))),
            Request::Explain { run, job, answer } => {
                drop(answer.send(Ok(self.explain(RunId(run), job.map(JobId)))));
            }
            Request::Queue(page, answer) => drop(answer.send(Ok(self.queue_view(&page)))),
            Request::Quotas(after, limit, answer) => {
                drop(answer.send(Ok(self.quotas(after.as_deref(), limit))));
            }
            Request::Quota(project, answer) => drop(answer.send(Ok(self.quota(&project)))),
            Request::ForgetRunner(runner, answer) => self.forget_runner(RunnerId(runner), answer),
            Request::Operate(command, answer) => self.operate(*command, answer),
            Request::Capture(look) => self.capture(look),
            Request::Measure(answer) => {
                self.measure();
                drop(answer.send(Ok(())));
            }
        }
    }

    fn submit(&mut self, submission: Submission, answer: Answer<RunView>) {
        let done = self.accepting().and_then(|()| self.start_run(submission));
        match done {
            Ok(run) => self.hold(Pending::Submitted(Box::new(run), answer)),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Shows the state of now once it is durable and the catalogue has it.
    fn capture(&mut self, look: Look) {
        // What earlier requests of this turn changed goes in front, and nothing of later ones.
        self.commit();
        if self.failed.is_none() {
            let captured = Captured {
                index: self.journal.appended().get(),
                state: self.scheduler.snapshot(),
            };
            self.hold(Pending::Captured(captured, look));
        }
    }

    fn accepting(&self) -> Result<(), ApiError> {
        if let Some(reason) = &self.failed {
            return Err(ApiError::Storage(reason.clone()));
        }
        if self.projection.is_overloaded() || self.journal.backlog_bytes() > JOURNAL_BACKLOG_BYTES {
            return Err(ApiError::Overloaded);
        }
        Ok(())
    }

    fn start_run(&mut self, submission: Submission) -> Result<RunView, ApiError> {
        self.check_secrets(&submission)?;
        let meta = meta(&submission)?;
        let command = Command::Submit {
            plan: submission.plan,
            meta,
        };
        let run = match self.command(command) {
            Ok(Reply::Run(run)) => run,
            Ok(_) => return Err(ApiError::Internal("a submission made no run".to_owned())),
            Err(refused) => return Err(refusal(refused)),
        };
        self.projection.run_submitted(run);
        let view = self
            .scheduler
            .run(run)
            .map(|run| states::run_view(&self.scheduler, run));
        view.ok_or_else(|| ApiError::Internal(format!("run {run} was not kept")))
    }

    /// A secret that is not there is found now, not when its job begins.
    fn check_secrets(&self, submission: &Submission) -> Result<(), ApiError> {
        let jobs = || submission.plan.plan().jobs.iter();
        if jobs().all(|job| job.secrets.is_empty()) {
            return Ok(());
        }
        let known = self
            .config
            .secrets
            .read(&submission.new.project)
            .map_err(|error| ApiError::Internal(error.to_string()))?;
        let wanted = jobs().flat_map(|job| job.secrets.values());
        let mut missing: Vec<_> = wanted
            .filter(|name| known.get(name).is_none())
            .cloned()
            .collect();
        missing.sort();
        missing.dedup();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(ApiError::SecretMissing(missing))
        }
    }

    fn cancel(&mut self, run: RunId, answer: Answer<()>) {
        // The API takes no reason, and that somebody asked says the conclusion.
        let reason = String::new();
        let open = self
            .scheduler
            .run(run)
            .is_some_and(|run| run.conclusion.is_none());
        let unknown = || ApiError::NotFound {
            what: format!("run {run}"),
        };
        if let Some(reason) = &self.failed {
            drop(answer.send(Err(ApiError::Storage(reason.clone()))));
        } else if !open {
            drop(answer.send(Err(unknown())));
        } else {
            match self.command(Command::CancelRun { run, reason }) {
                Ok(_) => self.hold(Pending::Canceled(answer)),
                Err(Refused::UnknownRun(_)) => drop(answer.send(Err(unknown()))),
                Err(error) => drop(answer.send(Err(ApiError::Internal(error.to_string())))),
            }
        }
    }

    /// Why jobs that have not started are waiting.
    fn reasons(&self, jobs: &[u64]) -> Vec<(u64, String)> {
        let reason = |id: &u64| Some((*id, self.scheduler.waiting(JobId(*id))?.to_string()));
        jobs.iter().filter_map(reason).collect()
    }

    /// Brings the gauges up to date.
    fn measure(&self) {
        use telemetry::JobState;
        let metrics = &self.config.metrics.rustci;
        let counts = self.scheduler.counts();
        metrics.runs_active(counts.runs as u64);
        metrics.jobs(JobState::Blocked, counts.blocked as u64);
        metrics.jobs(JobState::Queued, counts.queued as u64);
        metrics.jobs(JobState::Running, counts.running as u64);
        metrics.queue_depth(self.scheduler.queued() as u64);
        let now = self.clock.now().wall;
        let oldest = self.scheduler.oldest_queued();
        metrics.queue_oldest(oldest.map_or(Duration::ZERO, |since| now.saturating_since(since)));
        let reasons = self.scheduler.reasons();
        for code in Waiting::CODES {
            let count = reasons.get(code).copied().unwrap_or_default();
            metrics.jobs_waiting(code, count as u64);
        }
    }
}

/// What the scheduler keeps of a submission.
fn meta(submission: &Submission) -> Result<RunMeta, ApiError> {
    let new = &submission.new;
    let mut event = new.event.clone();
    event.insert("name".to_owned(), Value::String(submission.event.clone()));
    let run = json!({
        "project": new.project,
        "pipeline": submission.plan.plan().name,
        "file": new.pipeline.file,
    });
    let contexts: Map<String, Value> = [
        ("git".to_owned(), Value::Object(new.git.clone())),
        ("event".to_owned(), Value::Object(event)),
        (
            "inputs".to_owned(),
            Value::Object(submission.inputs.clone()),
        ),
        ("run".to_owned(), run),
    ]
    .into_iter()
    .collect();
    let env = new.env.iter().map(|(name, value)| NamedText {
        name: name.clone(),
        value: value.clone(),
    });
    Ok(RunMeta {
        project: new.project.clone(),
        file: new.pipeline.file.clone(),
        event: submission.event.clone(),
        contexts_json: Value::Object(contexts).to_string(),
        source: new
            .source
            .as_ref()
            .map(source)
            .transpose()?
            .unwrap_or_default(),
        env: env.collect(),
        priority: states::recorded_priority(new.priority).into(),
        trace: RunTrace::new(submission.trace)
            .map(RunTrace::to_bytes)
            .unwrap_or_default(),
        ..RunMeta::default()
    })
}

fn source(source: &NewSource) -> Result<Vec<u8>, ApiError> {
    use v1::source::Kind;
    let kind = match source {
        NewSource::Snapshot { digest, size } => {
            let digest: BlobDigest = digest
                .parse()
                .map_err(|error| ApiError::Invalid(format!("source.snapshot: {error}")))?;
            Kind::Snapshot(v1::Snapshot {
                digest: digest.as_bytes().to_vec(),
                size: *size,
            })
        }
        NewSource::Git {
            url,
            commit,
            reference,
        } => Kind::Git(v1::Git {
            url: url.clone(),
            commit: commit.clone(),
            r#ref: reference.clone(),
        }),
    };
    Ok(v1::Source { kind: Some(kind) }.encode_to_vec())
}
