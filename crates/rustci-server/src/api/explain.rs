//! Why jobs wait or ended, and when they will be done.

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::NotFound;
use crate::api::extract::{Json, Path};
use crate::api::problem::{ApiError, Listed};
use crate::api::view::{Explanation, JobExplanation, Status};
use crate::limits::EXPLAINED_JOBS_MAX;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(run))
        .routes(routes!(job))
}

/// Why the jobs of a run wait or ended, and when they will be done.
#[utoipa::path(
    get, path = "/runs/{id}/explain", operation_id = "explain_run", tag = "runs",
    params(("id" = u64, Path, description = "Number of the run.")),
    responses((status = 200, description = "The jobs, those that wait first.", body = Explanation), NotFound)
)]
async fn run(State(app): State<App>, Path(id): Path<u64>) -> Result<Json<Explanation>, ApiError> {
    explain(&app, id, None).await.map(Json)
}

/// Why one job waits or ended, and when it will be done.
#[utoipa::path(
    get, path = "/runs/{id}/jobs/{job}/explain", operation_id = "explain_job", tag = "runs",
    params(
        ("id" = u64, Path, description = "Number of the run."),
        ("job" = String, Path, description = "Number or key of the job."),
    ),
    responses((status = 200, description = "The job.", body = JobExplanation), NotFound)
)]
async fn job(
    State(app): State<App>,
    Path((id, job)): Path<(u64, String)>,
) -> Result<Json<JobExplanation>, ApiError> {
    let explained = explain(&app, id, Some(job.clone())).await?;
    let found = explained.jobs.into_iter().next();
    found.map(Json).ok_or_else(|| ApiError::NotFound {
        listed: Listed::Jobs,
        what: format!("job {job} in run {id}"),
    })
}

/// From the engine while it has the run, else what was recorded.
async fn explain(app: &App, id: u64, job: Option<String>) -> Result<Explanation, ApiError> {
    if let Some(engine) = &app.engine
        && let Some(explained) = engine.explain(id, job.clone()).await?
    {
        return Ok(explained);
    }
    let run = app.queries.ask(move |catalogue| catalogue.run(id)).await?;
    let run = run.ok_or_else(|| ApiError::NotFound {
        listed: Listed::Runs,
        what: format!("run {id}"),
    })?;
    let mut explained = Explanation::from(&run);
    explained
        .jobs
        .retain(|explained| job.as_deref().is_none_or(|job| explained.is_called(job)));
    let over = |status| matches!(status, Status::Running | Status::Finished);
    explained.jobs.sort_by_key(|job| over(job.status));
    let left_out = explained.jobs.len().saturating_sub(EXPLAINED_JOBS_MAX);
    explained.jobs.truncate(EXPLAINED_JOBS_MAX);
    explained.left_out = left_out as u64;
    Ok(explained)
}
