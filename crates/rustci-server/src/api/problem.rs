//! Everything that can go wrong in a request.

use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use rustci_pipeline::Diagnostic;

use crate::api::document::PROBLEM;
use crate::api::rows::{self, Row};
use crate::api::view::Problem;
use crate::blobs::{BlobDigest, BlobError};
use crate::catalogue::CatalogueError;
use crate::limits::{BLOB_BYTES_MAX, NAME_CHARS_MAX, RUN_BODY_BYTES_MAX};
use crate::logs::ReadError;

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The caller showed no token, or a wrong one.
    #[error("this route needs the header `Authorization: Bearer <token>`")]
    Unauthorized,
    /// The caller is a job and asks for more than its permissions.
    #[error("{0}")]
    Forbidden(String),
    /// The caller's path, query, header or body is not as documented.
    #[error("{0}")]
    Invalid(String),
    /// The caller's pipeline file has errors.
    #[error("{file} has {} from running", count(.diagnostics))]
    Pipeline {
        /// The file as the caller named it.
        file: String,
        /// All findings.
        diagnostics: Vec<Diagnostic>,
    },
    /// The caller's commit asks that nothing is run for it.
    #[error("the commit's message has `{0}`, so nothing is run for it")]
    RunSkipped(&'static str),
    /// The caller's source was not uploaded.
    #[error("the source snapshot {0} is not on the server")]
    BlobMissing(BlobDigest),
    /// The caller's pipeline wants secrets that the server does not have.
    #[error("the pipeline uses secrets that are not set: {}", .0.join(", "))]
    SecretMissing(Vec<String>),
    /// The caller's value has the form that the route documents, and no run could use it.
    #[error("{0}")]
    Unusable(String),
    /// The caller's bytes do not have the digest it promised.
    #[error("{0}")]
    Digest(BlobError),
    /// The caller's offset is in the middle of a record.
    #[error("{0}")]
    Offset(String),
    /// The caller's name for something is none.
    #[error("{0} must have 1 to {NAME_CHARS_MAX} characters and no control characters")]
    Name(&'static str),
    /// The caller asks for two things that exclude each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// The caller names a job that is not there.
    #[error("{what} has no job {name:?}")]
    UnknownJob {
        /// `run 7`, `the pipeline`.
        what: String,
        /// What the caller called it.
        name: String,
    },
    /// The caller's range begins behind the end.
    #[error("the file has {size} bytes, and the range none of them")]
    RangeUnsatisfiable {
        /// Length of the file.
        size: u64,
    },
    /// The caller's body is too large.
    #[error("{} is larger than {max} bytes", what.name())]
    TooLarge {
        /// What it is.
        what: Large,
        /// The limit.
        max: u64,
    },
    /// The caller's body is of a media type that the route does not take.
    #[error("this route does not take a body of type {sent}; it takes {taken}")]
    MediaType {
        /// What the caller sent.
        sent: String,
        /// What the route takes.
        taken: String,
    },
    /// The caller accepts none of the media types that the route gives.
    #[error("this route gives only {0}")]
    NotAcceptable(String),
    /// The caller's `If-Match` names another state than the present one.
    #[error("{what} was changed by somebody else")]
    PreconditionFailed {
        /// `runner build-1`, ...
        what: String,
    },
    /// The caller's `If-None-Match: *` wants something to be new that is not.
    #[error("there is {what} already")]
    Exists {
        /// `a secret token`, ...
        what: String,
    },
    /// There is no such thing.
    #[error("there is no {what}")]
    NotFound {
        /// Where those are listed that there are.
        listed: Listed,
        /// `run 7`, `job 3 in run 7`, ...
        what: String,
    },
    /// There is no such route.
    #[error("there is no route {0}")]
    NoRoute(String),
    /// The route does not know the method.
    #[error("this route does not know the method {0}")]
    Method(String),
    /// The run ended before it could be cancelled.
    #[error("run {0} has ended")]
    RunFinished(u64),
    /// Nobody asked about the job, or somebody has answered.
    #[error("job {0} does not wait for an approval")]
    NotAsking(u64),
    /// The run has to end before it can be repeated.
    #[error("run {0} goes on")]
    RunNotFinished(u64),
    /// No job of the run failed.
    #[error("no job of run {0} failed or was canceled")]
    NothingToRerun(u64),
    /// What the run was made from is not stored.
    #[error("an older version recorded run {0}, without what it was made from")]
    OriginUnknown(u64),
    /// The archive that the run worked on was removed.
    #[error("the source of run {0} is not stored any more")]
    SourceGone(u64),
    /// The caller used the key of a request for another one.
    #[error("the key {0:?} was used for another request")]
    IdempotencyMismatch(String),
    /// Another server with the same store got a request under the caller's key first.
    #[error("the key {key:?} was first used at {server}")]
    IdempotencyElsewhere {
        /// The key.
        key: String,
        /// Where that server is, or its id.
        server: String,
    },
    /// The store that servers share did not answer, and no other can stand in for it.
    #[error("the store that servers share does not answer: {0}")]
    StoreUnavailable(String),
    /// The key of the secrets is not the server's to change.
    #[error("{0}")]
    KeyElsewhere(String),
    /// There is a registered pipeline of that name already.
    #[error("there is a pipeline {0} already")]
    PipelineExists(String),
    /// The repository of a registered pipeline did not say which commit its ref is.
    #[error("the ref of {url} could not be looked up: {why}")]
    SourceUnreachable {
        /// The repository.
        url: String,
        /// What git said.
        why: String,
    },
    /// The runner is connected or has jobs.
    #[error("runner {0} is connected or has jobs")]
    RunnerInUse(u64),
    /// The project has as many waiting jobs as it may have.
    #[error("{0}")]
    QuotaExceeded(String),
    /// Somebody else is making a backup.
    #[error("another backup is being made")]
    BackupRunning,
    /// A backup could not be made; everything else goes on.
    #[error("the backup could not be made: {0}")]
    BackupFailed(String),
    /// The data directory is open for reading only.
    #[error("this server only reads; no server process owns its data directory")]
    ReadOnly,
    /// The caller's address asks more often than it may.
    #[error("this address asks too often; the next request is taken in {} ms", .0.as_millis())]
    RateLimited(Duration),
    /// Too much waits for the engine or the catalogue.
    #[error("the server has more work waiting than it takes")]
    Overloaded,
    /// Something durable could not be written, so nothing new is taken.
    #[error("the server stopped accepting work: {0}")]
    Storage(String),
    /// The server is about to end.
    #[error("the server is shutting down")]
    Stopping,
    /// Our fault.
    #[error("{0}")]
    Internal(String),
}

/// What a request did not find, by where those are listed that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listed {
    /// Runs.
    Runs,
    /// Jobs of a run, their attempts and logs.
    Jobs,
    /// Runners.
    Runners,
    /// Registered pipelines.
    Pipelines,
    /// Entries of caches.
    Caches,
    /// Artifacts of runs.
    Artifacts,
    /// Files in an artifact.
    Files,
    /// Tests of a project.
    Tests,
    /// Secrets.
    Secrets,
    /// Uploads, which nothing lists.
    Blobs,
}

impl Listed {
    fn hint(self) -> &'static str {
        match self {
            Self::Runs => rows::NOT_FOUND.hint,
            Self::Jobs => "GET /api/v1/runs/{id} lists the jobs of a run and their attempts",
            Self::Runners => "GET /api/v1/runners lists what there is",
            Self::Pipelines => "GET /api/v1/pipelines lists what there is",
            Self::Caches => "GET /api/v1/caches lists what there is",
            Self::Artifacts => "GET /api/v1/runs/{id}/artifacts lists those of a run",
            Self::Files => "GET /api/v1/artifacts/{id} lists the files of an artifact",
            Self::Tests => "GET /api/v1/projects/{project}/tests lists those of a project",
            Self::Secrets => "GET /api/v1/secrets lists the names of those there are",
            Self::Blobs => "upload it with PUT /api/v1/blobs/{digest}",
        }
    }
}

/// What is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Large {
    /// An archive of a source.
    Archive,
    /// A body of JSON.
    Body,
    /// The value of a secret.
    Secret,
}

impl Large {
    fn name(self) -> &'static str {
        match self {
            Self::Archive | Self::Body => "the body",
            Self::Secret => "the value of the secret",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Archive => rows::TOO_LARGE.hint,
            Self::Body => "send less in one request; files go into the archive of the source",
            Self::Secret => "keep large files elsewhere, and the key to them as a secret",
        }
    }
}

impl ApiError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.row().code
    }

    /// The row of the table that this error has.
    fn row(&self) -> &'static Row {
        match self {
            Self::Unauthorized => &rows::UNAUTHORIZED,
            Self::Forbidden(_) => &rows::FORBIDDEN,
            Self::Invalid(_) => &rows::INVALID_REQUEST,
            Self::Pipeline { .. } => &rows::INVALID_PIPELINE,
            Self::RunSkipped(_) => &rows::RUN_SKIPPED,
            Self::BlobMissing(_) => &rows::BLOB_MISSING,
            Self::SecretMissing(_) => &rows::SECRET_MISSING,
            Self::Unusable(_) => &rows::UNUSABLE_VALUE,
            Self::Digest(_) => &rows::DIGEST_MISMATCH,
            Self::Offset(_) => &rows::INVALID_OFFSET,
            Self::Name(_) => &rows::INVALID_NAME,
            Self::Contradiction(_) => &rows::CONTRADICTION,
            Self::UnknownJob { .. } => &rows::UNKNOWN_JOB,
            Self::RangeUnsatisfiable { .. } => &rows::RANGE_UNSATISFIABLE,
            Self::TooLarge { .. } => &rows::TOO_LARGE,
            Self::MediaType { .. } => &rows::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable(_) => &rows::NOT_ACCEPTABLE,
            Self::PreconditionFailed { .. } | Self::Exists { .. } => &rows::PRECONDITION_FAILED,
            Self::NotFound { .. } => &rows::NOT_FOUND,
            Self::NoRoute(_) => &rows::NO_ROUTE,
            Self::Method(_) => &rows::METHOD_NOT_ALLOWED,
            Self::RunFinished(_) => &rows::RUN_FINISHED,
            Self::NotAsking(_) => &rows::NOT_ASKING,
            Self::RunNotFinished(_) => &rows::RUN_NOT_FINISHED,
            Self::NothingToRerun(_) => &rows::NOTHING_TO_RERUN,
            Self::OriginUnknown(_) => &rows::ORIGIN_UNKNOWN,
            Self::SourceGone(_) => &rows::SOURCE_GONE,
            Self::IdempotencyMismatch(_) => &rows::IDEMPOTENCY_MISMATCH,
            Self::IdempotencyElsewhere { .. } => &rows::IDEMPOTENCY_ELSEWHERE,
            Self::StoreUnavailable(_) => &rows::STORE_UNAVAILABLE,
            Self::KeyElsewhere(_) => &rows::KEY_ELSEWHERE,
            Self::PipelineExists(_) => &rows::PIPELINE_EXISTS,
            Self::SourceUnreachable { .. } => &rows::SOURCE_UNREACHABLE,
            Self::RunnerInUse(_) => &rows::RUNNER_IN_USE,
            Self::QuotaExceeded(_) => &rows::QUOTA_EXCEEDED,
            Self::BackupRunning => &rows::BACKUP_RUNNING,
            Self::BackupFailed(_) => &rows::BACKUP_FAILED,
            Self::ReadOnly => &rows::READ_ONLY,
            Self::RateLimited(_) => &rows::RATE_LIMITED,
            Self::Overloaded => &rows::OVERLOADED,
            Self::Storage(_) => &rows::STORAGE_FAILED,
            Self::Stopping => &rows::STOPPING,
            Self::Internal(_) => &rows::INTERNAL,
        }
    }

    /// What to do. Most errors of a row need the same.
    fn hint(&self) -> &'static str {
        match self {
            Self::NotFound { listed, .. } => listed.hint(),
            Self::TooLarge { what, .. } => what.hint(),
            Self::Exists { .. } => {
                "to replace it, leave out what asks for a new one: If-None-Match, or --new"
            }
            _ => self.row().hint,
        }
    }

    /// The error as the body of an answer.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        let row = self.row();
        let diagnostics = match self {
            Self::Pipeline { diagnostics, .. } => diagnostics.clone(),
            _ => Vec::new(),
        };
        Problem {
            kind: format!("urn:rustci:problem:{}", row.code),
            title: row.title.to_owned(),
            status: row.status.as_u16(),
            detail: self.to_string(),
            code: row.code.to_owned(),
            hint: self.hint().to_owned(),
            diagnostics,
            request_id: None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let row = self.row();
        if row.status.is_server_error() {
            tracing::warn!(code = row.code, error = %self, "request failed");
        }
        let problem = self.to_problem();
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (row.status, body).into_response();
        response.extensions_mut().insert(problem);
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static(PROBLEM);
        headers.insert(header::CONTENT_TYPE, problem);
        match self {
            Self::Unauthorized => {
                let bearer = HeaderValue::from_static("Bearer realm=\"rustci\"");
                headers.insert(header::WWW_AUTHENTICATE, bearer);
            }
            Self::RateLimited(wait) => {
                let seconds = wait.as_nanos().div_ceil(1_000_000_000);
                let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::Overloaded | Self::StoreUnavailable(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<CatalogueError> for ApiError {
    fn from(error: CatalogueError) -> Self {
        match error {
            CatalogueError::Stopped => Self::Stopping,
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Digest { .. } => Self::Digest(error),
            BlobError::TooLarge => Self::TooLarge {
                what: Large::Archive,
                max: BLOB_BYTES_MAX,
            },
            // A blob that could not be stored was not acknowledged: only this request suffers.
            BlobError::Io { .. } => Self::Storage(error.to_string()),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotARecord { .. } => Self::Offset(error.to_string()),
            ReadError::Io { .. } => Self::Internal(error.to_string()),
        }
    }
}

/// The error for a body over the limit of `POST /api/v1/runs`.
pub(crate) fn run_too_large() -> ApiError {
    ApiError::TooLarge {
        what: Large::Body,
        max: u64::try_from(RUN_BODY_BYTES_MAX).unwrap_or(u64::MAX),
    }
}

fn count(diagnostics: &[Diagnostic]) -> String {
    match diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .count()
    {
        1 => "1 error that keeps it".to_owned(),
        errors => format!("{errors} errors that keep it"),
    }
}
