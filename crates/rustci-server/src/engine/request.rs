//! What people ask of the engine.

use std::time::Duration;

use prost::Message;
use rustci_pipeline::v1;
use rustci_scheduler::record::{NamedText, RunMeta};
use rustci_scheduler::{
    AttemptToken, Command, JobId, Refused, Reply, RunId, RunnerId, StoredPlan, Waiting,
};
use serde_json::{Map, Value, json};

use crate::api::view::NewSource;
use crate::api::{ApiError, Listed};
use crate::blobs::BlobDigest;
use crate::engine::core::{Core, Pending};
use crate::engine::handle::{
    Answer, Begin, Begun, Captured, Look, Request, Submission, Wanted, Word,
};
use crate::engine::keys::{Found, RequestKey};
use crate::engine::placement::refusal;
use crate::engine::states;
use crate::limits::JOURNAL_BACKLOG_BYTES;
use crate::traces::RunTrace;

impl Core {
    /// Takes a request; it is answered when what it says is durable.
    pub(super) fn request_came(&mut self, request: Request) {
        match request {
            Request::Begin(begin, answer) => self.begin(*begin, answer),
            Request::Word(word, answer) => self.word(*word, answer),
            Request::Cancel(run, answer) => self.cancel(RunId(run), answer),
            // Whoever asked may have gone away; then nobody misses the answer.
            Request::Runners(answer) => drop(answer.send(Ok(self.runner_views()))),
            Request::Waiting(jobs, answer) => drop(answer.send(Ok(self.reasons(&jobs)))),
            Request::Explain { run, job, answer } => {
                drop(answer.send(Ok(self.explain(RunId(run), job.as_deref()))));
            }
            Request::Queue(page, answer) => drop(answer.send(Ok(self.queue_view(&page)))),
            Request::Quotas(after, limit, answer) => {
                drop(answer.send(Ok(self.quotas(after.as_deref(), limit))));
            }
            Request::Quota(project, answer) => drop(answer.send(Ok(self.quota(&project)))),
            Request::SetQuota {
                project,
                quota,
                expected,
                answer,
            } => self.set_quota(project, quota, &expected, answer),
            Request::ForgetRunner(runner, answer) => self.forget_runner(RunnerId(runner), answer),
            Request::Operate(command, answer) => self.operate(*command, answer),
            Request::Documents(kind, answer) => drop(answer.send(Ok(self.documents(kind)))),
            Request::PutPipeline {
                name,
                value,
                expected,
                answer,
            } => self.put_pipeline(name, value, expected, answer),
            Request::Fire(firing, answer) => self.fire(*firing, answer),
            Request::Capture(look) => self.capture(look),
            Request::HeldRuns(answer) => drop(answer.send(Ok(self.held_runs()))),
            Request::IsRunning(attempt, answer) => {
                drop(answer.send(Ok(self.is_running(attempt))));
            }
            Request::Measure(answer) => {
                self.measure();
                drop(answer.send(Ok(())));
            }
        }
    }

    fn begin(&mut self, begin: Begin, answer: Answer<Begun>) {
        let known = self.find_request(begin.key.as_ref());
        let done = known.and_then(|known| match known {
            Some(run) => Ok(Begun::Known(run)),
            None => self.accepting().and_then(|()| self.start_run(begin)),
        });
        match done {
            Ok(begun) => self.hold(Pending::Begun(begun, answer)),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn is_running(&self, token: AttemptToken) -> bool {
        let number = usize::try_from(token.attempt).unwrap_or(usize::MAX);
        self.scheduler.job(token.job).is_some_and(|(_, _, job)| {
            let last = job.attempts.last().filter(|_| job.attempts.len() == number);
            last.is_some_and(|last| last.fence == token.fence && last.end.is_none())
        })
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

    /// The run that a request with this key began.
    fn find_request(&mut self, key: Option<&RequestKey>) -> Result<Option<u64>, ApiError> {
        let Some(key) = key else {
            return Ok(None);
        };
        let now_ms = self.clock.now().wall.as_millis();
        match self.keys.find(key, now_ms) {
            None => Ok(None),
            Some(Found::Same(run)) => Ok(Some(run)),
            Some(Found::Other) => Err(ApiError::IdempotencyMismatch(key.key.clone())),
        }
    }

    pub(super) fn accepting(&self) -> Result<(), ApiError> {
        if let Some(reason) = &self.failed {
            return Err(ApiError::Storage(reason.clone()));
        }
        if self.projection.is_overloaded() || self.journal.backlog_bytes() > JOURNAL_BACKLOG_BYTES {
            return Err(ApiError::Overloaded);
        }
        Ok(())
    }

    pub(super) fn start_run(&mut self, begin: Begin) -> Result<Begun, ApiError> {
        let (plan, mut meta) = match begin.wanted {
            Wanted::New(submission) => {
                let meta = meta(&submission)?;
                (submission.plan, meta)
            }
            Wanted::Again(again) => (again.plan, again.meta),
        };
        self.check_secrets(&plan, &meta.project)?;
        if let Some(key) = &begin.key {
            meta.idempotency_key.clone_from(&key.key);
            meta.request_digest.clone_from(&key.digest);
        }
        let command = Command::Submit { plan, meta };
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
        if let Some(key) = begin.key {
            let now_ms = self.clock.now().wall.as_millis();
            self.keys.remember(key, run, now_ms);
        }
        let view = view.ok_or_else(|| ApiError::Internal(format!("run {run} was not kept")))?;
        Ok(Begun::New(Box::new(view)))
    }

    /// Passes on somebody's word on whether a job may run.
    fn word(&mut self, word: Word, answer: Answer<()>) {
        if let Some(reason) = &self.failed {
            return drop(answer.send(Err(ApiError::Storage(reason.clone()))));
        }
        let (run, job) = (RunId(word.run), JobId(word.job));
        let command = Command::Answer {
            run,
            job,
            verdict: word.verdict,
            by: word.by,
            comment: word.comment,
        };
        let refused = match self.command(command) {
            Ok(_) => return self.hold(Pending::Done(answer)),
            Err(Refused::NotAsking(_)) => ApiError::NotAsking(word.job),
            Err(Refused::UnknownRun(_)) => ApiError::NotFound {
                listed: Listed::Runs,
                what: format!("run {run}"),
            },
            Err(Refused::UnknownJob { .. }) => ApiError::NotFound {
                listed: Listed::Jobs,
                what: format!("job {job} in run {run}"),
            },
            Err(error) => ApiError::Internal(error.to_string()),
        };
        drop(answer.send(Err(refused)));
    }

    /// A secret that is not there is found now, not when its job begins.
    fn check_secrets(&self, plan: &StoredPlan, project: &str) -> Result<(), ApiError> {
        let jobs = || plan.plan().jobs.iter();
        if jobs().all(|job| job.secrets.is_empty()) {
            return Ok(());
        }
        let known = self
            .config
            .secrets
            .read(project)
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
            listed: Listed::Runs,
            what: format!("run {run}"),
        };
        if let Some(reason) = &self.failed {
            drop(answer.send(Err(ApiError::Storage(reason.clone()))));
        } else if !open {
            drop(answer.send(Err(unknown())));
        } else {
            match self.command(Command::CancelRun { run, reason }) {
                Ok(_) => self.hold(Pending::Done(answer)),
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
