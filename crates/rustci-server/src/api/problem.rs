//! Everything that can go wrong in a request, and the one table of its codes.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rustci_pipeline::Diagnostic;

use crate::api::view::Problem;
use crate::blobs::{BlobDigest, BlobError};
use crate::catalogue::CatalogueError;
use crate::limits::{BLOB_BYTES_MAX, RUN_BODY_BYTES_MAX};
use crate::logs::ReadError;

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The caller showed no token, or a wrong one.
    #[error("this route needs the header `Authorization: Bearer <token>`")]
    Unauthorized,
    /// The caller's path, query, header or body is not as documented.
    #[error("{0}")]
    Invalid(String),
    /// The caller's pipeline file has errors.
    #[error("{file} has {} that keep it from running", count(.diagnostics))]
    Pipeline {
        /// The file as the caller named it.
        file: String,
        /// All findings.
        diagnostics: Vec<Diagnostic>,
    },
    /// The caller's source was not uploaded.
    #[error("the source snapshot {0} is not on the server")]
    BlobMissing(BlobDigest),
    /// The caller's bytes do not have the digest it promised.
    #[error("{0}")]
    Digest(BlobError),
    /// The caller's body is too large.
    #[error("the body is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// There is no such thing.
    #[error("there is no {what}")]
    NotFound {
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
    /// The data directory is open for reading only.
    #[error("this server only reads; no server process owns its data directory")]
    ReadOnly,
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

/// One row of the table.
struct Row {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    hint: String,
}

impl ApiError {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.row().code
    }

    /// The table: every error has a status, a code, a title and a word on what to do.
    fn row(&self) -> Row {
        use StatusCode as S;
        let (status, code, title, hint) = match self {
            Self::Unauthorized => (
                S::UNAUTHORIZED,
                "unauthorized",
                "Token missing or wrong",
                "the token is in the file `token` of the server's data directory",
            ),
            Self::Invalid(_) => (
                S::BAD_REQUEST,
                "invalid_request",
                "Request not understood",
                "see docs/api.md for the route",
            ),
            Self::Pipeline { .. } => (
                S::UNPROCESSABLE_ENTITY,
                "invalid_pipeline",
                "Pipeline file has errors",
                "fix what `diagnostics` lists; `rustci lint` shows the same",
            ),
            Self::BlobMissing(_) => (
                S::UNPROCESSABLE_ENTITY,
                "blob_missing",
                "Source not uploaded",
                "upload the archive first with PUT /api/v1/blobs/{digest}",
            ),
            Self::Digest(_) => (
                S::UNPROCESSABLE_ENTITY,
                "digest_mismatch",
                "Body changed on its way",
                "compute the BLAKE3 digest of the bytes that are sent, and send again",
            ),
            Self::TooLarge { .. } => (
                S::PAYLOAD_TOO_LARGE,
                "too_large",
                "Body too large",
                "leave large and generated files out of the source",
            ),
            Self::NotFound { .. } => (
                S::NOT_FOUND,
                "not_found",
                "Not found",
                "GET /api/v1/runs lists what there is",
            ),
            Self::NoRoute(_) => (
                S::NOT_FOUND,
                "no_route",
                "Route not found",
                "see docs/api.md for all routes",
            ),
            Self::Method(_) => (
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method not allowed",
                "see docs/api.md for the route",
            ),
            Self::RunFinished(_) => (
                S::CONFLICT,
                "run_finished",
                "Run has ended",
                "nothing is left to cancel",
            ),
            Self::ReadOnly => (
                S::CONFLICT,
                "read_only",
                "Only reading is possible",
                "start `rustci serve` on this data directory",
            ),
            Self::Overloaded => (
                S::SERVICE_UNAVAILABLE,
                "overloaded",
                "Server overloaded",
                "try again in a second",
            ),
            Self::Storage(_) => (
                S::SERVICE_UNAVAILABLE,
                "storage_failed",
                "Storage failed",
                "free or repair the disk and restart the server; everything acknowledged is kept",
            ),
            Self::Stopping => (
                S::SERVICE_UNAVAILABLE,
                "stopping",
                "Server is shutting down",
                "try again when it is back",
            ),
            Self::Internal(_) => (
                S::INTERNAL_SERVER_ERROR,
                "internal",
                "Server error",
                "the server's log says more; please report it",
            ),
        };
        Row {
            status,
            code,
            title,
            hint: hint.to_owned(),
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
            hint: row.hint,
            diagnostics,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let row = self.row();
        if row.status.is_server_error() {
            tracing::warn!(code = row.code, error = %self, "request failed");
        }
        let body = serde_json::to_vec(&self.to_problem()).unwrap_or_default();
        let mut response = (row.status, body).into_response();
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem);
        match self {
            Self::Unauthorized => {
                let bearer = HeaderValue::from_static("Bearer realm=\"rustci\"");
                headers.insert(header::WWW_AUTHENTICATE, bearer);
            }
            Self::Overloaded => {
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
            ReadError::NotARecord { .. } => Self::Invalid(error.to_string()),
            ReadError::Io { .. } => Self::Internal(error.to_string()),
        }
    }
}

/// The error for a body over the limit of `POST /api/v1/runs`.
pub(crate) fn run_too_large() -> ApiError {
    ApiError::TooLarge {
        max: u64::try_from(RUN_BODY_BYTES_MAX).unwrap_or(u64::MAX),
    }
}

fn count(diagnostics: &[Diagnostic]) -> String {
    match diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .count()
    {
        1 => "1 error".to_owned(),
        errors => format!("{errors} errors"),
    }
}
