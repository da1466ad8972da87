//! Approvals of jobs.

use axum::extract::State;
use axum::http::StatusCode;
use rustci_scheduler::Verdict;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::{Conflict, NotFound};
use crate::api::extract::{Json, Path};
use crate::api::health::accepting;
use crate::api::log::is_called;
use crate::api::problem::{ApiError, Listed};
use crate::api::runs::{engine, find};
use crate::api::view::AnswerRequest;
use crate::engine::Word;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(approve))
        .routes(routes!(decline))
}

/// Lets a job run that waits for an approval.
///
/// The first answer counts; every later one is refused.
#[utoipa::path(
    post, path = "/runs/{id}/jobs/{job}/approve", operation_id = "approve_job", tag = "runs",
    params(
        ("id" = u64, Path, description = "Number of the run."),
        ("job" = String, Path, description = "Number or key of the job.")
    ),
    request_body = AnswerRequest,
    responses((status = 204, description = "The job goes on."), NotFound, Conflict)
)]
async fn approve(
    State(app): State<App>,
    Path((run, job)): Path<(u64, String)>,
    Json(request): Json<AnswerRequest>,
) -> Result<StatusCode, ApiError> {
    answer(&app, (run, &job), Verdict::Approved, request).await
}

/// Ends a job that waits for an approval as declined.
#[utoipa::path(
    post, path = "/runs/{id}/jobs/{job}/decline", operation_id = "decline_job", tag = "runs",
    params(
        ("id" = u64, Path, description = "Number of the run."),
        ("job" = String, Path, description = "Number or key of the job.")
    ),
    request_body = AnswerRequest,
    responses((status = 204, description = "The job has ended."), NotFound, Conflict)
)]
async fn decline(
    State(app): State<App>,
    Path((run, job)): Path<(u64, String)>,
    Json(request): Json<AnswerRequest>,
) -> Result<StatusCode, ApiError> {
    answer(&app, (run, &job), Verdict::Declined, request).await
}

async fn answer(
    app: &App,
    (run, job): (u64, &str),
    verdict: Verdict,
    request: AnswerRequest,
) -> Result<StatusCode, ApiError> {
    accepting(app)?;
    let engine = engine(app)?;
    let view = find(app, run).await?;
    let found = view.jobs.iter().find(|view| is_called(view, job));
    let job = found.ok_or_else(|| ApiError::NotFound {
        listed: Listed::Jobs,
        what: format!("job {job:?} in run {run}"),
    })?;
    let job = job.id;
    let word = Word {
        run,
        job,
        verdict,
        by: request.by,
        comment: request.comment,
    };
    match engine.word(word).await {
        // What the scheduler does not have any more is over.
        Err(ApiError::NotFound { .. }) => Err(ApiError::NotAsking(job)),
        done => done.map(|()| StatusCode::NO_CONTENT),
    }
}
