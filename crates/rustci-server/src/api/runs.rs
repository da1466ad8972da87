//! Runs: start, list, look at, cancel.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use rustci_pipeline::{Job, Plan, PlanRefused, PlanRequest, Planned};
use rustci_scheduler::StoredPlan;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use valkyrie_frame::TraceContext;

use crate::api::App;
use crate::api::answers::{Conflict, NotFound, TooMany, Unprocessable};
use crate::api::blob::blocking;
use crate::api::check;
use crate::api::contract::IDEMPOTENCY_KEY;
use crate::api::extract::{Json, Path, Query};
use crate::api::health::accepting;
use crate::api::page::{Cursor, Limit, Page, Word};
use crate::api::problem::{ApiError, Listed};
use crate::api::view::{
    Conclusion, JobView, NewRun, NewSource, PipelineText, RunCreated, RunList, RunView, Status,
};
use crate::blobs::BlobDigest;
use crate::catalogue::{Catalogue, RunFilter};
use crate::engine::{Begin, Begun, EngineHandle, RequestKey, Submission, Wanted};
use crate::job_token::JobClaims;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get))
        .routes(routes!(cancel))
}

/// Starts a run.
///
/// The answer comes when the run is on disk: a run that was acknowledged is never lost.
#[utoipa::path(
    post, path = "/runs", operation_id = "create_run", tag = "runs", request_body = NewRun,
    responses((status = 201, description = "The run, durable.", body = RunCreated), Unprocessable, TooMany)
)]
async fn create(
    State(app): State<App>,
    claims: Option<Extension<JobClaims>>,
    headers: HeaderMap,
    Json(new): Json<NewRun>,
) -> Result<(StatusCode, Json<RunCreated>), ApiError> {
    if let Some(Extension(claims)) = claims.filter(|claims| claims.project != new.project) {
        let project = &claims.project;
        return Err(ApiError::Forbidden(format!(
            "the job may only start runs of {project:?}"
        )));
    }
    let key = request_key(&headers, &("run", &new))?;
    let run = start(&app, new, key, traceparent(&headers)).await?;
    Ok((StatusCode::CREATED, Json(RunCreated { run })))
}

/// Starts a run; it is durable then.
pub(super) async fn start(
    app: &App,
    new: NewRun,
    key: Option<RequestKey>,
    trace: Option<TraceContext>,
) -> Result<RunView, ApiError> {
    accepting(app)?;
    check::run(&new)?;
    check_source(app, new.source.as_ref())?;
    // Planning a large file takes milliseconds that live logs should not wait for.
    let mut submission = blocking(move || plan(new)).await?;
    submission.trace = trace;
    let wanted = Wanted::New(Box::new(submission));
    begin(app, Begin { wanted, key }).await
}

/// Begins a run, and gives it; or the one that the request began when it came first.
pub(super) async fn begin(app: &App, begin: Begin) -> Result<RunView, ApiError> {
    let engine = engine(app)?;
    if let (Some(key), Some(shared)) = (&begin.key, &app.shared) {
        // The engine knows the keys of this server only.
        shared.bind(&key.key).await?;
    }
    match engine.begin(begin).await? {
        Begun::New(run) => Ok(*run),
        Begun::Known(run) => {
            // The first request may have come a moment ago.
            app.queries.settled().await?;
            find(app, run).await
        }
    }
}

/// The key of a request that may come again. What it is known by then is the digest of `request`.
pub(super) fn request_key(
    headers: &HeaderMap,
    request: &impl Serialize,
) -> Result<Option<RequestKey>, ApiError> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let unreadable = |error: &dyn std::fmt::Display| ApiError::Invalid(error.to_string());
    let key = key.to_str().map_err(|error| unreadable(&error))?.to_owned();
    let text = serde_json::to_vec(request).map_err(|error| unreadable(&error))?;
    let digest = Sha256::digest(text).to_vec();
    Ok(Some(RequestKey { key, digest }))
}

/// The trace of the client. One that cannot be read is dropped, as W3C Trace Context asks.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get("traceparent")?.to_str().ok()?.parse().ok()
}

/// The query of a list of runs: those that have everything that is named.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Runs in one page.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    #[serde(default)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,18}$")]
    cursor: Option<Cursor>,
    /// Only runs of this project.
    #[param(value_type = Option<String>, max_length = 255)]
    project: Option<Word>,
    /// Only runs of the pipeline with this name.
    #[param(value_type = Option<String>, max_length = 255)]
    pipeline: Option<Word>,
    /// Only runs in this state.
    #[param(inline)]
    status: Option<Status>,
    /// Only runs that ended so.
    #[param(inline)]
    conclusion: Option<Conclusion>,
    /// Only runs started by this event.
    #[param(value_type = Option<String>, max_length = 255)]
    event: Option<Word>,
    /// Only runs of this branch.
    #[param(value_type = Option<String>, max_length = 255)]
    branch: Option<Word>,
    /// Only runs of this commit, by its full id.
    #[param(value_type = Option<String>, max_length = 255)]
    commit: Option<Word>,
    /// Only runs accepted at this time or later, in Unix milliseconds.
    #[param(maximum = 9_007_199_254_740_991_i64)]
    since: Option<u64>,
}

impl From<ListQuery> for RunFilter {
    fn from(query: ListQuery) -> Self {
        let text = |word: Option<Word>| word.map(|Word(text)| text);
        Self {
            before: query.cursor.map(|Cursor(id)| id),
            limit: query.limit.get(),
            project: text(query.project),
            pipeline: text(query.pipeline),
            status: query.status,
            conclusion: query.conclusion,
            event: text(query.event),
            branch: text(query.branch),
            commit: text(query.commit),
            since_ms: query.since,
        }
    }
}

/// Lists runs, newest first.
#[utoipa::path(
    get, path = "/runs", operation_id = "list_runs", tag = "runs", params(ListQuery),
    responses((status = 200, description = "A page of runs; `Link` names the next.",
               body = RunList))
)]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Page<RunList>, ApiError> {
    let filter = RunFilter::from(query);
    let ask = move |catalogue: &Catalogue| catalogue.runs(&filter);
    let body = app.queries.read(ask).await?;
    let next = body.next.clone();
    Ok(Page { body, next })
}

/// One run with its jobs and steps.
#[utoipa::path(
    get, path = "/runs/{id}", operation_id = "get_run", tag = "runs",
    params(("id" = u64, Path, description = "Number of the run.")),
    responses((status = 200, description = "The run.", body = RunView), NotFound)
)]
async fn get(State(app): State<App>, Path(id): Path<u64>) -> Result<Json<RunView>, ApiError> {
    find(&app, id).await.map(Json)
}

/// Cancels a run.
#[utoipa::path(
    post, path = "/runs/{id}/cancel", operation_id = "cancel_run", tag = "runs",
    params(("id" = u64, Path, description = "Number of the run.")),
    responses((status = 202, description = "Its jobs are told to stop."), NotFound, Conflict)
)]
async fn cancel(State(app): State<App>, Path(id): Path<u64>) -> Result<StatusCode, ApiError> {
    stop(&app, id).await.map(|()| StatusCode::ACCEPTED)
}

/// Cancels a run; that is durable then.
pub(super) async fn stop(app: &App, id: u64) -> Result<(), ApiError> {
    accepting(app)?;
    match engine(app)?.cancel(id).await {
        Err(ApiError::NotFound { .. }) => {
            // What the scheduler does not have is over, or never was.
            find(app, id).await?;
            Err(ApiError::RunFinished(id))
        }
        done => done,
    }
}

/// The run, from the catalogue; why its jobs wait, from the engine.
pub(crate) async fn find(app: &App, id: u64) -> Result<RunView, ApiError> {
    let run = app.queries.read(move |catalogue| catalogue.run(id)).await?;
    let mut run = run.ok_or_else(|| ApiError::NotFound {
        listed: Listed::Runs,
        what: format!("run {id}"),
    })?;
    if run.status != Status::Finished {
        say_why(app, run.jobs.iter_mut().collect()).await;
    }
    Ok(run)
}

/// Fills in why jobs wait. That changes with every runner that comes and goes, so it is asked for
/// when somebody looks, and not stored.
pub(crate) async fn say_why(app: &App, mut jobs: Vec<&mut JobView>) {
    jobs.retain(|job| matches!(job.status, Status::Blocked | Status::Queued));
    let Some(engine) = app.engine.as_ref().filter(|_| !jobs.is_empty()) else {
        return;
    };
    let ids = jobs.iter().map(|job| job.id).collect();
    // An engine that is stopping has no reasons to give; the states are still true.
    let Ok(reasons) = engine.waiting(ids).await else {
        return;
    };
    let reasons: HashMap<u64, String> = reasons.into_iter().collect();
    for job in jobs {
        job.reason = reasons.get(&job.id).cloned().or_else(|| job.reason.take());
    }
}

/// A number in a path or query.
pub(crate) fn number(text: &str, what: &str) -> Result<u64, ApiError> {
    text.parse()
        .map_err(|_| ApiError::Invalid(format!("{what} is a number, not {text:?}")))
}

pub(crate) fn engine(app: &App) -> Result<&EngineHandle, ApiError> {
    app.engine.as_ref().ok_or(ApiError::ReadOnly)
}

fn check_source(app: &App, source: Option<&NewSource>) -> Result<(), ApiError> {
    let Some(NewSource::Snapshot { digest, .. }) = source else {
        return Ok(());
    };
    let digest: BlobDigest = digest
        .parse()
        .map_err(|error| ApiError::Invalid(format!("source.snapshot: {error}")))?;
    // Used now, so it stays until the run that names it is known.
    let found = app.blobs.touch(digest);
    match found.map_err(|error| ApiError::Internal(error.to_string()))? {
        true => Ok(()),
        false => Err(ApiError::BlobMissing(digest)),
    }
}

/// Reads and plans the file; every finding at once.
pub(crate) fn plan(new: NewRun) -> Result<Submission, ApiError> {
    let file = new.pipeline.file.clone();
    let refused = |diagnostics| ApiError::Pipeline { file, diagnostics };
    let PipelineText {
        file: name,
        text,
        includes,
    } = &new.pipeline;
    let parsed = rustci_pipeline::parse_with(name, text, includes);
    let Some(pipeline) = parsed.pipeline else {
        return Err(refused(parsed.diagnostics));
    };
    let request = PlanRequest {
        event: event_name(&new),
        git_ref: new
            .git
            .get("ref")
            .and_then(|name| name.as_str())
            .map(str::to_owned),
        changed_paths: None,
        inputs: new.inputs.clone(),
        message: message(&new.event),
    };
    // Filters of `on` are for webhooks. Who asks for a run gets it.
    let planned = rustci_pipeline::plan(&pipeline, &request);
    let planned = planned.map_err(|error| match error {
        PlanRefused::Skipped { marker } => ApiError::RunSkipped(marker),
        error => refused(error.into_diagnostics()),
    })?;
    let Planned {
        mut plan, inputs, ..
    } = planned;
    keep_jobs(&mut plan, &new.jobs)?;
    Ok(Submission {
        trace: None,
        plan: Arc::new(StoredPlan::new(plan)),
        event: request.event,
        inputs,
        new,
    })
}

/// Takes the jobs out of the plan that are neither wanted nor needed by one that is.
fn keep_jobs(plan: &mut Plan, wanted: &[String]) -> Result<(), ApiError> {
    let is_called = |job: &Job, name: &String| job.id == *name || job.key == *name;
    for name in wanted {
        if !plan.jobs.iter().any(|job| is_called(job, name)) {
            let what = "the pipeline".to_owned();
            let name = name.clone();
            return Err(ApiError::UnknownJob { what, name });
        }
    }
    let is_wanted = |job: &Job| wanted.is_empty() || wanted.iter().any(|name| is_called(job, name));
    let mut open: Vec<&Job> = plan.jobs.iter().filter(|job| is_wanted(job)).collect();
    let mut needed: BTreeSet<String> = BTreeSet::new();
    while let Some(job) = open.pop() {
        for need in &job.needs {
            if needed.insert(need.clone()) {
                open.extend(plan.jobs.iter().filter(|job| job.id == *need));
            }
        }
    }
    plan.jobs
        .retain(|job| is_wanted(job) || needed.contains(&job.id));
    Ok(())
}

/// The message of the commit that an event is about, where forges write it.
fn message(event: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    let head = event
        .get("head_commit")
        .and_then(|commit| commit.get("message"));
    let message = event.get("message").or(head)?;
    message.as_str().map(str::to_owned)
}

/// The event's name; `manual` when the caller gives none.
fn event_name(new: &NewRun) -> String {
    new.event
        .get("name")
        .and_then(|name| name.as_str())
        .unwrap_or("manual")
        .to_owned()
}
