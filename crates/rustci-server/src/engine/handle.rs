//! How other threads speak to the engine.

use std::sync::Arc;

use rustci_scheduler::StoredPlan;
use serde_json::{Map, Value};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use valkyrie_frame::TraceContext;

use crate::api::ApiError;
use crate::api::view::{NewRun, RunView, RunnerView};
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

/// The answer to a request, sent once what it says is durable.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, ApiError>>;

/// A request to the engine.
#[derive(Debug)]
pub(crate) enum Request {
    /// Start a run.
    Submit(Box<Submission>, Answer<RunView>),
    /// Cancel a run.
    Cancel(u64, Answer<()>),
    /// List the runners that are connected.
    Runners(Answer<Vec<RunnerView>>),
    /// Say why jobs wait.
    Waiting(Vec<u64>, Answer<Vec<(u64, String)>>),
    /// Bring the gauges up to date.
    Measure(Answer<()>),
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
        self.ask(|answer| Request::Submit(Box::new(submission), answer))
            .await
    }

    /// Cancels a run; the answer comes when that is durable.
    ///
    /// # Errors
    /// [`ApiError`]: `NotFound` when the scheduler has no such run, or it has ended.
    pub async fn cancel(&self, run: u64) -> Result<(), ApiError> {
        self.ask(|answer| Request::Cancel(run, answer)).await
    }

    /// The runners that are connected now, by name.
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

    /// Brings the gauges of the metrics up to date.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn measure(&self) -> Result<(), ApiError> {
        self.ask(Request::Measure).await
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
