//! The paths of the older API under `/api/ci`, on the same engine: its words and shapes, real
//! answers.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use rustci_pipeline::PlanRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::{Conflict, NotFound, TooMany, Unprocessable};
use crate::api::extract::{Json, Path, Query, unread};
use crate::api::health::accepting;
use crate::api::multipart;
use crate::api::page::Word;
use crate::api::pipelines::{all, find, keep};
use crate::api::problem::ApiError;
use crate::api::runs::{self, number, start};
use crate::api::view::{
    Conclusion, JobView, NewPipeline, PipelineSource, PipelineText, PipelineView, RunSummary,
    RunView, Status, StepView,
};
use crate::catalogue::{Catalogue, RunFilter};
use crate::expected::Expected;
use crate::limits::PAGE_RUNS_MAX;
use crate::pipelines::{Registered, Trigger, new_run, rfc3339, slug};

/// Names of the part of an upload that has the file.
const PARTS: [&str; 3] = ["pipeline", "file", "yaml"];
/// How many names are tried for a pipeline whose own one is taken.
const NAMES_MAX: u32 = 1_000;

/// The routes that need the token.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(upload))
        .routes(routes!(get))
        .routes(routes!(yaml))
        .routes(routes!(trigger))
        .routes(routes!(webhook))
        .routes(routes!(executions))
        .routes(routes!(execution))
        .routes(routes!(cancel))
        .routes(routes!(test))
}

/// The route that does not.
pub(super) fn open_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(healthchecker))
}

/// The server answers.
#[utoipa::path(
    get, path = "/api/healthchecker", operation_id = "older_health", tag = "older",
    responses((status = 200, description = "It does.", body = Object))
)]
async fn healthchecker() -> Json<Value> {
    Json(json!({ "status": "success", "message": "RustCI is running" }))
}

/// The engine answers.
#[utoipa::path(
    get, path = "/test", operation_id = "older_test", tag = "older",
    responses(
        (status = 200, description = "It does.", content_type = "text/plain", body = String),
        Conflict
    )
)]
async fn test(State(app): State<App>) -> Result<impl IntoResponse, ApiError> {
    runs::engine(&app)?.measure().await?;
    Ok(([(CONTENT_TYPE, "text/plain")], "the CI engine works\n"))
}

/// A pipeline to keep.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OlderNew {
    /// The file.
    yaml_content: String,
    /// A tier that is not above the file's own; the file runs as it is.
    #[serde(default)]
    pipeline_type: Option<Tier>,
}

/// The tiers of older files, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Tier {
    /// A repository and a server.
    Minimal,
    /// Steps.
    Simple,
    /// Stages.
    Standard,
    /// Everything.
    Advanced,
}

/// A registered pipeline.
#[derive(Debug, Serialize, ToSchema)]
struct OlderPipeline {
    /// Its name on the server.
    id: String,
    /// What the file calls it.
    name: String,
    /// What the file says of it.
    description: Option<String>,
    /// Its tier; none for a native file.
    pipeline_type: Option<Tier>,
    /// When it was registered, by RFC 3339.
    created_at: String,
    /// When it was last changed.
    updated_at: String,
}

impl OlderPipeline {
    fn of(registered: &Registered) -> Self {
        let older = registered.older();
        Self {
            id: registered.name.clone(),
            name: older.title,
            description: older.description,
            pipeline_type: older
                .tier
                .and_then(|tier| serde_json::from_value(Value::from(tier)).ok()),
            created_at: rfc3339(registered.created_ms),
            updated_at: rfc3339(registered.updated_ms),
        }
    }
}

/// Keeps a pipeline. Its id is made of its name.
#[utoipa::path(
    post, path = "/pipelines", operation_id = "older_create_pipeline", tag = "older",
    request_body = OlderNew,
    responses((status = 200, description = "It is kept.", body = OlderPipeline), Unprocessable)
)]
async fn create(
    State(app): State<App>,
    Json(new): Json<OlderNew>,
) -> Result<Json<OlderPipeline>, ApiError> {
    add(&app, new.yaml_content, new.pipeline_type).await
}

/// A form with a pipeline file. Only described here: forms are read part by part.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "the document needs its shape, nobody makes one")]
struct UploadForm {
    /// The file's text.
    file: String,
}

/// Keeps a pipeline whose file is a part of a form: `pipeline`, `file` or `yaml`.
#[utoipa::path(
    post, path = "/pipelines/upload", operation_id = "older_upload_pipeline", tag = "older",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "It is kept.", body = OlderPipeline), Unprocessable)
)]
async fn upload(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<OlderPipeline>, ApiError> {
    let body = body.map_err(|error| unread(&error))?;
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let parts = multipart::parts(kind.unwrap_or_default(), &body).map_err(ApiError::Invalid)?;
    let file = parts
        .iter()
        .find(|part| PARTS.contains(&part.name.as_str()));
    let file = file.ok_or_else(|| {
        ApiError::Invalid(format!("the form has no part named {}", PARTS.join(", ")))
    })?;
    let text = std::str::from_utf8(file.body)
        .map_err(|_| ApiError::Invalid("the file is not UTF-8 text".to_owned()))?;
    add(&app, text.to_owned(), None).await
}

/// Keeps a file under the first free name like its own.
async fn add(app: &App, text: String, tier: Option<Tier>) -> Result<Json<OlderPipeline>, ApiError> {
    let new = NewPipeline {
        pipeline: PipelineText {
            file: "pipeline.yaml".to_owned(),
            text,
            includes: BTreeMap::new(),
        },
        ..NewPipeline::default()
    };
    let registered = Registered::new(new.clone(), None, app.schedules.now())?;
    let older = OlderPipeline::of(&registered);
    if let (Some(wanted), Some(own)) = (tier, older.pipeline_type)
        && wanted > own
    {
        return Err(ApiError::Invalid(format!(
            "pipeline_type is above the file's own tier, which is {own:?}"
        )));
    }
    let base = slug(&older.name);
    for number in 1..=NAMES_MAX {
        let name = match number {
            1 => base.clone(),
            _ => format!("{base}-{number}"),
        };
        match keep(app, new.clone(), Some(name), Expected::Absent).await {
            Err(ApiError::PipelineExists(_)) => {}
            done => return done.map(|view| Json(of_view(&view, older))),
        }
    }
    Err(ApiError::PipelineExists(base))
}

fn of_view(view: &PipelineView, older: OlderPipeline) -> OlderPipeline {
    OlderPipeline {
        id: view.name.clone(),
        ..older
    }
}

/// Lists all pipelines.
#[utoipa::path(
    get, path = "/pipelines", operation_id = "older_list_pipelines", tag = "older",
    responses((status = 200, description = "All of them.", body = Vec<OlderPipeline>), Conflict)
)]
async fn list(State(app): State<App>) -> Result<Json<Vec<OlderPipeline>>, ApiError> {
    let all = all(&app).await?;
    Ok(Json(all.iter().map(OlderPipeline::of).collect()))
}

/// One pipeline.
#[utoipa::path(
    get, path = "/pipelines/{id}", operation_id = "older_get_pipeline", tag = "older",
    params(("id" = String, Path, description = "Its id.")),
    responses((status = 200, description = "It.", body = OlderPipeline), NotFound, Conflict)
)]
async fn get(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<OlderPipeline>, ApiError> {
    Ok(Json(OlderPipeline::of(&find(&app, &id).await?)))
}

/// The file of a pipeline, as it was given.
#[utoipa::path(
    get, path = "/pipelines/{id}/yaml", operation_id = "older_get_yaml", tag = "older",
    params(("id" = String, Path, description = "Its id.")),
    responses(
        (status = 200, description = "The file.", content_type = "application/yaml", body = String),
        NotFound, Conflict
    )
)]
async fn yaml(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let registered = find(&app, &id).await?;
    Ok((
        [(CONTENT_TYPE, "application/yaml")],
        registered.pipeline.text,
    ))
}

/// What a run is to be of.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OlderTrigger {
    /// `manual`, `git_push`, `pull_request`, `schedule`, `scheduled` or `webhook`.
    trigger_type: String,
    /// A branch instead of the registered one.
    #[serde(default)]
    branch: Option<String>,
    /// A commit; wins over the branch.
    #[serde(default)]
    commit_hash: Option<String>,
    /// The repository, for a pipeline without one.
    #[serde(default)]
    repository: Option<String>,
    /// Environment of the run.
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

/// A run that was started.
#[derive(Debug, Serialize, ToSchema)]
struct OlderStarted {
    /// Number of the run; none when the pipeline has no trigger for the event.
    execution_id: Option<String>,
    /// One sentence.
    message: String,
}

/// Starts a run. The answer comes when it is durable, not when it has ended.
#[utoipa::path(
    post, path = "/pipelines/{id}/trigger", operation_id = "older_trigger", tag = "older",
    params(("id" = String, Path, description = "Its id.")),
    request_body = OlderTrigger,
    responses(
        (status = 200, description = "The run.", body = OlderStarted),
        NotFound, Unprocessable, TooMany
    )
)]
async fn trigger(
    State(app): State<App>,
    Path(id): Path<String>,
    Json(new): Json<OlderTrigger>,
) -> Result<Json<OlderStarted>, ApiError> {
    let mut registered = find(&app, &id).await?;
    let event = match new.trigger_type.as_str() {
        "manual" => "manual",
        "git_push" | "webhook" => "push",
        "pull_request" => "pull_request",
        "schedule" | "scheduled" => "cron",
        other => {
            return Err(ApiError::Invalid(format!(
                "there is no trigger_type {other:?}"
            )));
        }
    };
    if let Some(url) = new.repository {
        let own = registered.source.get_or_insert_with(|| PipelineSource {
            url: url.clone(),
            reference: "main".to_owned(),
        });
        if own.url != url {
            return Err(ApiError::Invalid(format!(
                "the pipeline is of the repository {}, not {url}",
                own.url
            )));
        }
    }
    let mut named = Map::new();
    named.insert("name".to_owned(), Value::from(event));
    let trigger = Trigger {
        event: named,
        env: new.environment,
        reference: new.commit_hash.or(new.branch),
        ..Trigger::default()
    };
    begin(&app, &registered, trigger, "the pipeline was started").await
}

/// Starts the run of a trigger.
async fn begin(
    app: &App,
    registered: &Registered,
    trigger: Trigger,
    message: &str,
) -> Result<Json<OlderStarted>, ApiError> {
    accepting(app)?;
    let run = start(app, new_run(registered, trigger).await?, None, None).await?;
    Ok(Json(OlderStarted {
        execution_id: Some(run.id.to_string()),
        message: message.to_owned(),
    }))
}

/// Takes the payload of a push as GitHub sends it, and starts a run when the pipeline has a
/// trigger for it.
#[utoipa::path(
    post, path = "/pipelines/{id}/webhook", operation_id = "older_webhook", tag = "older",
    params(("id" = String, Path, description = "Its id.")),
    request_body = Object,
    responses(
        (status = 200, description = "The run, or why there is none.", body = OlderStarted),
        NotFound, Unprocessable, TooMany
    )
)]
async fn webhook(
    State(app): State<App>,
    Path(id): Path<String>,
    Json(payload): Json<Map<String, Value>>,
) -> Result<Json<OlderStarted>, ApiError> {
    let registered = find(&app, &id).await?;
    let payload = Value::Object(payload);
    let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str);
    let Some(git_ref) = text("/ref") else {
        return Err(ApiError::Invalid("the payload has no `ref`".to_owned()));
    };
    let commit = text("/after").filter(|commit| commit.len() >= 40);
    let is_tag = git_ref.starts_with("refs/tags/");
    let event = if is_tag { "tag" } else { "push" };
    let request = PlanRequest {
        event: event.to_owned(),
        git_ref: Some(git_ref.to_owned()),
        changed_paths: changed(&payload),
        message: text("/head_commit/message").map(str::to_owned),
        ..PlanRequest::default()
    };
    if let Some(reason) = registered.refuses(&request)? {
        return Ok(Json(OlderStarted {
            execution_id: None,
            message: reason,
        }));
    }
    let mut named = Map::new();
    named.insert("name".to_owned(), Value::from(event));
    for (name, pointer) in [
        ("message", "/head_commit/message"),
        ("repository", "/repository/full_name"),
        ("actor", "/pusher/name"),
    ] {
        if let Some(value) = text(pointer) {
            named.insert(name.to_owned(), Value::from(value));
        }
    }
    let trigger = Trigger {
        event: named,
        reference: Some(commit.unwrap_or(git_ref).to_owned()),
        ..Trigger::default()
    };
    begin(
        &app,
        &registered,
        trigger,
        "the webhook started the pipeline",
    )
    .await
}

/// The paths that the commits of a push changed; none when it does not say.
fn changed(payload: &Value) -> Option<Vec<String>> {
    let commits = payload.get("commits")?.as_array()?;
    let lists = commits.iter().flat_map(|commit| {
        ["added", "modified", "removed"]
            .iter()
            .filter_map(|kind| commit.get(kind)?.as_array())
    });
    let paths = lists.flatten().filter_map(Value::as_str);
    Some(paths.map(str::to_owned).collect())
}

/// A run.
#[derive(Debug, Serialize, ToSchema)]
struct OlderExecution {
    /// Number of the run.
    id: String,
    /// The pipeline; its name in the file when it is not registered any more.
    pipeline_id: String,
    /// `pending`, `running`, `success`, `failed`, `cancelled` or `timeout`.
    status: &'static str,
    /// When it began, by RFC 3339.
    started_at: Option<String>,
    /// When it ended.
    finished_at: Option<String>,
    /// How long it took, in seconds.
    duration: Option<u64>,
    /// Its jobs; not in lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<OlderStage>,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
struct OlderStage {
    /// Its key.
    name: String,
    /// As of the run.
    status: &'static str,
    /// Its steps.
    steps: Vec<OlderStep>,
    /// Where its log is.
    logs: String,
}

/// A step.
#[derive(Debug, Serialize, ToSchema)]
struct OlderStep {
    /// Its name.
    name: String,
    /// As of the run.
    status: &'static str,
}

/// The query of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ExecutionsQuery {
    /// Only runs of this pipeline.
    #[param(value_type = Option<String>, max_length = 255)]
    pipeline_id: Option<Word>,
}

/// Lists the newest runs, at most 200.
#[utoipa::path(
    get, path = "/executions", operation_id = "older_list_executions", tag = "older",
    params(ExecutionsQuery),
    responses((status = 200, description = "Runs, newest first.", body = Vec<OlderExecution>), NotFound, Conflict)
)]
async fn executions(
    State(app): State<App>,
    Query(query): Query<ExecutionsQuery>,
) -> Result<Json<Vec<OlderExecution>>, ApiError> {
    let names = Names::of(&app).await?;
    let mut filter = RunFilter::newest(PAGE_RUNS_MAX);
    if let Some(Word(id)) = &query.pipeline_id {
        let registered = find(&app, id).await?;
        filter.pipeline = Some(registered.older().title);
        filter.project = Some(registered.project);
    }
    let ask = move |catalogue: &Catalogue| catalogue.runs(&filter);
    let page = app.queries.read(ask).await?;
    Ok(Json(
        page.runs.iter().map(|run| names.summary(run)).collect(),
    ))
}

/// One run with its jobs and steps.
#[utoipa::path(
    get, path = "/executions/{id}", operation_id = "older_get_execution", tag = "older",
    params(("id" = u64, Path, description = "Number of the run.")),
    responses((status = 200, description = "It.", body = OlderExecution), NotFound, Conflict)
)]
async fn execution(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<OlderExecution>, ApiError> {
    let run = runs::find(&app, number(&id, "execution")?).await?;
    let names = Names::of(&app).await?;
    Ok(Json(names.execution(&run)))
}

/// Cancels a run.
#[utoipa::path(
    delete, path = "/executions/{id}/cancel", operation_id = "older_cancel_execution", tag = "older",
    params(("id" = u64, Path, description = "Number of the run.")),
    responses((status = 200, description = "Its jobs are told to stop.", body = OlderStarted), NotFound, Conflict)
)]
async fn cancel(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<OlderStarted>, ApiError> {
    runs::stop(&app, number(&id, "execution")?).await?;
    Ok(Json(OlderStarted {
        execution_id: Some(id),
        message: "the execution is being cancelled".to_owned(),
    }))
}

/// Ids of registered pipelines, by project and the name in the file.
struct Names(BTreeMap<(String, String), String>);

impl Names {
    async fn of(app: &App) -> Result<Self, ApiError> {
        let all = all(app).await?;
        let names = all
            .into_iter()
            .map(|one| ((one.project.clone(), one.older().title), one.name));
        Ok(Self(names.collect()))
    }

    fn id(&self, project: &str, pipeline: &str) -> String {
        let key = (project.to_owned(), pipeline.to_owned());
        self.0.get(&key).cloned().unwrap_or(key.1)
    }

    fn summary(&self, run: &RunSummary) -> OlderExecution {
        OlderExecution {
            id: run.id.to_string(),
            pipeline_id: self.id(&run.project, &run.pipeline),
            status: state(run.status, run.conclusion),
            started_at: run.started_ms.map(rfc3339),
            finished_at: run.finished_ms.map(rfc3339),
            duration: seconds(run.started_ms, run.finished_ms),
            stages: Vec::new(),
        }
    }

    fn execution(&self, run: &RunView) -> OlderExecution {
        OlderExecution {
            id: run.id.to_string(),
            pipeline_id: self.id(&run.project, &run.pipeline),
            status: state(run.status, run.conclusion),
            started_at: run.started_ms.map(rfc3339),
            finished_at: run.finished_ms.map(rfc3339),
            duration: seconds(run.started_ms, run.finished_ms),
            stages: run.jobs.iter().map(|job| stage(run.id, job)).collect(),
        }
    }
}

fn stage(run: u64, job: &JobView) -> OlderStage {
    OlderStage {
        name: job.key.clone(),
        status: state(job.status, job.conclusion),
        steps: job.steps.iter().map(step).collect(),
        logs: format!("/api/v1/runs/{run}/jobs/{}/log", job.id),
    }
}

fn step(step: &StepView) -> OlderStep {
    OlderStep {
        name: step.name.clone(),
        status: state(step.status, step.conclusion),
    }
}

/// The older API's word for a state.
fn state(status: Status, conclusion: Option<Conclusion>) -> &'static str {
    match (status, conclusion) {
        (Status::Blocked | Status::Queued, _) => "pending",
        (Status::Running, _) | (Status::Finished, None) => "running",
        (Status::Finished, Some(conclusion)) => match conclusion {
            Conclusion::Success | Conclusion::Skipped => "success",
            Conclusion::Canceled | Conclusion::Declined => "cancelled",
            Conclusion::TimedOut => "timeout",
            Conclusion::Failure | Conclusion::Error | Conclusion::Killed | Conclusion::Blocked => {
                "failed"
            }
        },
    }
}

fn seconds(from: Option<u64>, to: Option<u64>) -> Option<u64> {
    Some(to?.saturating_sub(from?) / 1000)
}
