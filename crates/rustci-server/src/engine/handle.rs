//! How other threads speak to the engine.

use std::sync::Arc;

use rustci_scheduler::record::RunMeta;
use rustci_scheduler::{AttemptToken, Command, Quota, StoredPlan, Verdict};
use serde_json::{Map, Value};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use valkyrie_frame::TraceContext;

use crate::api::ApiError;
use crate::api::view::{Explanation, NewRun, QueueView, QuotaView, RunView, RunnerView};
use crate::catalogue::Catalogue;
use crate::engine::documents::Firing;
use crate::engine::keys::RequestKey;
use crate::engine::placement::QueuePage;
use crate::expected::Expected;
use crate::limits::{ENGINE_QUEUE, REASONS_MAX};

/// A run that was asked for and planned.
#[derive(Debug)]
pub struct Submission {
    /// What to run.
    pub plan: Arc<StoredPlan>,
    /// Name of the event.
    pub event: String,
    /// The inputs with their defaults.
    pub inputs: Map<String, Value>,
    /// The trace of whoever asks, where it has one.
    pub trace: Option<TraceContext>,
    /// The request as it came.
    pub new: NewRun,
}

/// A run that was, and is wanted once more.
#[derive(Debug)]
pub(crate) struct Again {
    /// What to run.
    pub(crate) plan: Arc<StoredPlan>,
    /// What to start it with.
    pub(crate) meta: RunMeta,
}

/// What is to begin.
#[derive(Debug)]
pub(crate) enum Wanted {
    New(Box<Submission>),
    Again(Box<Again>),
}

/// A run that is wanted.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) wanted: Wanted,
    /// The name of the request, under which it begins one run however often it comes.
    pub(crate) key: Option<RequestKey>,
}

/// What came of a wish for a run.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The run.
    New(Box<RunView>),
    /// The number of the run that the same request began before.
    Known(u64),
}

/// Somebody's word on whether a job may run.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) run: u64,
    pub(crate) job: u64,
    pub(crate) verdict: Verdict,
    pub(crate) by: String,
    pub(crate) comment: String,
}

/// The answer to a request, sent once what it says is durable.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, ApiError>>;

/// A request to the engine.
#[derive(Debug)]
pub(crate) enum Request {
    /// Start a run.
    Begin(Box<Begin>, Answer<Begun>),
    /// Answer the question whether a job may run.
    Word(Box<Word>, Answer<()>),
    /// Cancel a run.
    Cancel(u64, Answer<()>),
    /// List the runners that are known.
    Runners(Answer<Vec<RunnerView>>),
    /// Say why jobs wait.
    Waiting(Vec<u64>, Answer<Vec<(u64, String)>>),
    /// Say why the jobs of a run, or one of them, wait or ended, and when they will be done.
    Explain {
        run: u64,
        job: Option<String>,
        answer: Answer<Option<Explanation>>,
    },
    /// Show the queue.
    Queue(QueuePage, Answer<QueueView>),
    /// List so many quotas behind that of a project.
    Quotas(Option<String>, usize, Answer<Vec<QuotaView>>),
    /// Show the quota of a project.
    Quota(String, Answer<QuotaView>),
    /// Set what a project may have.
    SetQuota {
        project: String,
        quota: Quota,
        expected: Expected,
        answer: Answer<()>,
    },
    /// Forget a runner.
    ForgetRunner(u64, Answer<()>),
    /// Do what an operator wants with queue, quotas or runners.
    Operate(Box<Command>, Answer<()>),
    /// Say whether an attempt runs under this fencing number.
    IsRunning(AttemptToken, Answer<bool>),
    /// List the documents of a kind.
    Documents(&'static str, Answer<Vec<(String, Vec<u8>)>>),
    /// Keep, change or remove a registered pipeline.
    PutPipeline {
        name: String,
        value: Option<Vec<u8>>,
        expected: Expected,
        answer: Answer<()>,
    },
    /// Start a timed run.
    Fire(Box<Firing>, Answer<Begun>),
    /// Bring the gauges up to date.
    Measure(Answer<()>),
    /// Show the state and, on its thread, the catalogue at the same journal index.
    Capture(Look),
    /// Say of which runs something must stay.
    HeldRuns(Answer<Vec<u64>>),
}

/// The whole durable state after one record of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The record.
    pub index: u64,
    /// The scheduler's snapshot after it.
    pub state: Vec<u8>,
}

type LookFn = dyn FnOnce(&Catalogue, Captured) + Send;

/// What is done with a [`Captured`] state and the catalogue that belongs to it.
pub(crate) struct Look(pub(crate) Box<LookFn>);

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look")
    }
}

/// A handle to the engine.
#[derive(Debug, Clone)]
pub struct EngineHandle(mpsc::Sender<Request>);

impl EngineHandle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (sender, receiver) = mpsc::channel(ENGINE_QUEUE);
        (Self(sender), receiver)
    }

    /// Starts a run; the answer comes when the run is durable.
    ///
    /// # Errors
    /// [`ApiError`]: `Overloaded` when too much waits, `Storage` when the journal failed.
    pub async fn submit(&self, submission: Submission) -> Result<RunView, ApiError> {
        let (wanted, key) = (Wanted::New(Box::new(submission)), None);
        match self.begin(Begin { wanted, key }).await? {
            Begun::New(run) => Ok(*run),
            Begun::Known(run) => Err(ApiError::Internal(format!(
                "run {run} was found for a request without a key"
            ))),
        }
    }

    /// Starts a run unless the same request has; the answer comes when the run is durable.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and `IdempotencyMismatch` when the key stands for another
    /// request.
    pub(crate) async fn begin(&self, begin: Begin) -> Result<Begun, ApiError> {
        self.ask(|answer| Request::Begin(Box::new(begin), answer))
            .await
    }

    /// Answers the question whether a job may run; comes back when that is durable.
    ///
    /// # Errors
    /// [`ApiError`]: `NotFound` when the scheduler has no such run or job, `NotAsking` when the job
    /// does not wait for an answer.
    pub(crate) async fn word(&self, word: Word) -> Result<(), ApiError> {
        self.ask(|answer| Request::Word(Box::new(word), answer))
            .await
    }

    /// Cancels a run; the answer comes when that is durable.
    ///
    /// # Errors
    /// [`ApiError`]: `NotFound` when the scheduler has no such run, or it has ended.
    pub async fn cancel(&self, run: u64) -> Result<(), ApiError> {
        self.ask(|answer| Request::Cancel(run, answer)).await
    }

    /// The runners that are known, by name.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn runners(&self) -> Result<Vec<RunnerView>, ApiError> {
        self.ask(Request::Runners).await
    }

    /// Why jobs that have not started are waiting, by the number of the job. Of more than
    /// [`REASONS_MAX`] jobs the rest is left out.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn waiting(&self, mut jobs: Vec<u64>) -> Result<Vec<(u64, String)>, ApiError> {
        jobs.truncate(REASONS_MAX);
        self.ask(|answer| Request::Waiting(jobs, answer)).await
    }

    /// Why the jobs of a run, or the one with this number or key, wait or ended, and when they will
    /// be done; none when the scheduler does not have the run any more.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn explain(
        &self,
        run: u64,
        job: Option<String>,
    ) -> Result<Option<Explanation>, ApiError> {
        self.ask(|answer| Request::Explain { run, job, answer })
            .await
    }

    /// The queue in figures, and a page of it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn queue(&self, page: QueuePage) -> Result<QueueView, ApiError> {
        self.ask(|answer| Request::Queue(page, answer)).await
    }

    /// At most so many quotas, by project, behind that of `after`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn quotas(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<QuotaView>, ApiError> {
        self.ask(|answer| Request::Quotas(after, limit, answer))
            .await
    }

    /// What holds for a project; the empty name stands for the default of all.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn quota(&self, project: String) -> Result<QuotaView, ApiError> {
        self.ask(|answer| Request::Quota(project, answer)).await
    }

    /// Sets what a project may have, when that is as expected; the answer comes when it is durable.
    ///
    /// # Errors
    /// [`ApiError`]: `PreconditionFailed` when it is not as `expected`.
    pub(crate) async fn set_quota(
        &self,
        project: String,
        quota: Quota,
        expected: Expected,
    ) -> Result<(), ApiError> {
        self.ask(|answer| Request::SetQuota {
            project,
            quota,
            expected,
            answer,
        })
        .await
    }

    /// Forgets a runner that is gone for good; the answer comes when that is durable.
    ///
    /// # Errors
    /// [`ApiError`]: `NotFound`, or `RunnerInUse` while it is connected or has jobs.
    pub async fn forget_runner(&self, runner: u64) -> Result<(), ApiError> {
        self.ask(|answer| Request::ForgetRunner(runner, answer))
            .await
    }

    /// Does what an operator wants with queue, quotas or runners; the answer comes when that is
    /// durable.
    ///
    /// # Errors
    /// [`ApiError`]: what the scheduler refuses, and `Storage` when the journal failed.
    pub async fn operate(&self, command: Command) -> Result<(), ApiError> {
        self.ask(|answer| Request::Operate(Box::new(command), answer))
            .await
    }

    /// Runs that have not ended, and those whose jobs they took over: what they made has to stay.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn held_runs(&self) -> Result<Vec<u64>, ApiError> {
        self.ask(Request::HeldRuns).await
    }

    /// Whether an attempt runs, under this fencing number.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn is_running(&self, attempt: AttemptToken) -> Result<bool, ApiError> {
        self.ask(|answer| Request::IsRunning(attempt, answer)).await
    }

    /// The documents of a kind, by key.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn documents(
        &self,
        kind: &'static str,
    ) -> Result<Vec<(String, Vec<u8>)>, ApiError> {
        self.ask(|answer| Request::Documents(kind, answer)).await
    }

    /// Keeps, changes or removes a registered pipeline; the answer comes when that is durable.
    ///
    /// # Errors
    /// [`ApiError`]: `PipelineExists`, `PreconditionFailed` or `NotFound` when it is not as
    /// `expected`.
    pub(crate) async fn put_pipeline(
        &self,
        name: String,
        value: Option<Vec<u8>>,
        expected: Expected,
    ) -> Result<(), ApiError> {
        self.ask(|answer| Request::PutPipeline {
            name,
            value,
            expected,
            answer,
        })
        .await
    }

    /// Starts a timed run; the answer comes when the time and the run are durable.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn fire(&self, firing: Firing) -> Result<Begun, ApiError> {
        self.ask(|answer| Request::Fire(Box::new(firing), answer))
            .await
    }

    /// Brings the gauges of the metrics up to date.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn measure(&self) -> Result<(), ApiError> {
        self.ask(Request::Measure).await
    }

    /// Runs `look` on the catalogue's thread, with the state of the scheduler and a catalogue that
    /// has exactly the records up to that state. All of them are durable.
    ///
    /// # Errors
    /// [`ApiError`], or what `look` returns.
    pub(crate) async fn capture<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Catalogue, Captured) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.ask(|answer| {
            Request::Capture(Look(Box::new(move |catalogue, captured| {
                // Whoever asked may have gone away; then nobody misses the answer.
                let _ = answer.send(look(catalogue, captured));
            })))
        })
        .await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, ApiError> {
        let (answer, done) = oneshot::channel();
        self.0
            .try_send(request(answer))
            .map_err(|error| match error {
                TrySendError::Full(_) => ApiError::Overloaded,
                TrySendError::Closed(_) => ApiError::Stopping,
            })?;
        done.await.map_err(|_| ApiError::Stopping)?
    }
}
