//! Repeating runs.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use prost::Message;
use rustci_pipeline::v1;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::{Conflict, NotFound, TooMany, Unprocessable};
use crate::api::extract::{Json, Path};
use crate::api::health::accepting;
use crate::api::problem::ApiError;
use crate::api::runs::{begin, find, request_key, traceparent};
use crate::api::view::{RerunRequest, RunCreated, RunView, Status};
use crate::blobs::BlobDigest;
use crate::engine::{Again, Begin, Wanted};
use crate::rerun::{self, Which};
use crate::traces::RunTrace;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(rerun))
}

/// Repeats a run that has ended.
///
/// It is a new run of the same plan, event and source. Jobs that are not repeated end at once as
/// they ended before, with their outputs; they say in `carried_from` where they ran.
#[utoipa::path(
    post, path = "/runs/{id}/rerun", operation_id = "rerun_run", tag = "runs",
    params(("id" = u64, Path, description = "Number of the run.")), request_body = RerunRequest,
    responses(
        (status = 201, description = "The new run, durable.", body = RunCreated),
        NotFound, Conflict, Unprocessable, TooMany
    )
)]
async fn rerun(
    State(app): State<App>,
    Path(id): Path<u64>,
    headers: HeaderMap,
    Json(request): Json<RerunRequest>,
) -> Result<(StatusCode, Json<RunCreated>), ApiError> {
    accepting(&app)?;
    let which = which(&request)?;
    let key = request_key(&headers, &("rerun", id, &request))?;
    let mut again = prepare(&app, id, &which).await?;
    again.meta.trace = RunTrace::new(traceparent(&headers))
        .map(RunTrace::to_bytes)
        .unwrap_or_default();
    let wanted = Wanted::Again(Box::new(again));
    let run = begin(&app, Begin { wanted, key }).await?;
    Ok((StatusCode::CREATED, Json(RunCreated { run })))
}

fn which(request: &RerunRequest) -> Result<Which, ApiError> {
    match (request.failed, request.jobs.is_empty()) {
        (true, false) => Err(ApiError::Contradiction(
            "`failed` and `jobs` exclude each other",
        )),
        (true, true) => Ok(Which::Failed),
        (false, true) => Ok(Which::All),
        (false, false) => Ok(Which::Jobs(request.jobs.clone())),
    }
}

/// What a rerun of a run needs, as far as it is still there.
async fn prepare(app: &App, id: u64, which: &Which) -> Result<Again, ApiError> {
    let run: RunView = find(app, id).await?;
    if run.status != Status::Finished {
        return Err(ApiError::RunNotFinished(id));
    }
    let origin = app
        .queries
        .read(move |catalogue| catalogue.origin(id))
        .await?;
    let origin = origin.ok_or(ApiError::OriginUnknown(id))?;
    let again = rerun::again(&run, &origin, which)?;
    if is_source_gone(app, &again.meta.source) {
        return Err(ApiError::SourceGone(id));
    }
    Ok(again)
}

fn is_source_gone(app: &App, source: &[u8]) -> bool {
    let kind = v1::Source::decode(source)
        .ok()
        .and_then(|source| source.kind);
    let Some(v1::source::Kind::Snapshot(snapshot)) = kind else {
        return false;
    };
    let digest = BlobDigest::try_from(snapshot.digest.as_slice());
    digest.is_ok_and(|digest| !app.blobs.touch(digest).unwrap_or(false))
}
