//! Registered pipelines: keep, look at, change, remove, start.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::{Conflict, NotFound, Precondition, TooMany, Unprocessable};
use crate::api::blob::blocking;
use crate::api::extract::{Json, Path, Query};
use crate::api::health::accepting;
use crate::api::page::{Limit, Name, Page};
use crate::api::problem::{ApiError, Listed};
use crate::api::runs::{engine, request_key, start, traceparent};
use crate::api::tag::{self, EntryTag};
use crate::api::view::{NewPipeline, NewTrigger, PipelineList, PipelineView, RunCreated};
use crate::engine::PIPELINE;
use crate::expected::{Expected, tag_of};
use crate::pipelines::{Registered, Trigger, new_run};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, put, remove))
        .routes(routes!(trigger))
}

/// The query of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Pipelines in one page.
    #[serde(default)]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^([0-9a-f]{2})*$")]
    cursor: Option<Name>,
}

/// Lists registered pipelines, by name.
#[utoipa::path(
    get, path = "/pipelines", operation_id = "list_pipelines", tag = "pipelines",
    params(ListQuery),
    responses((status = 200, description = "A page of pipelines.", body = PipelineList), Conflict)
)]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Page<PipelineList>, ApiError> {
    let mut all = all(&app).await?;
    if let Some(Name(after)) = query.cursor {
        all.retain(|registered| registered.name > after);
    }
    let limit = query.limit.entries();
    let more = all.len() > limit;
    all.truncate(limit);
    let next = all.last().filter(|_| more);
    let next = next.map(|last| Name(last.name.clone()).to_string());
    let now = app.schedules.now();
    let views = blocking(move || Ok(all.iter().map(|one| one.view(now)).collect())).await?;
    Ok(Page {
        next: next.clone(),
        body: PipelineList {
            pipelines: views,
            next,
        },
    })
}

/// Registers a pipeline under a new name.
#[utoipa::path(
    post, path = "/pipelines", operation_id = "create_pipeline", tag = "pipelines",
    request_body = NewPipeline,
    responses(
        (status = 201, description = "It is kept.", body = PipelineView), Unprocessable, Conflict
    )
)]
async fn create(
    State(app): State<App>,
    Json(new): Json<NewPipeline>,
) -> Result<(StatusCode, Json<PipelineView>), ApiError> {
    let view = keep(&app, new, None, Expected::Absent).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// A registered pipeline with its file.
#[utoipa::path(
    get, path = "/pipelines/{name}", operation_id = "get_pipeline", tag = "pipelines",
    params(("name" = String, Path, description = "Its name.")),
    responses((status = 200, description = "It.", body = PipelineView), NotFound, Conflict)
)]
async fn get(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<(Extension<EntryTag>, Json<PipelineView>), ApiError> {
    let registered = find(&app, &name).await?;
    let now = app.schedules.now();
    let view = blocking(move || Ok(registered.full_view(now))).await?;
    Ok((Extension(EntryTag(view.etag.clone())), Json(view)))
}

/// Registers a pipeline, or changes the one of this name.
#[utoipa::path(
    put, path = "/pipelines/{name}", operation_id = "set_pipeline", tag = "pipelines",
    params(
        ("name" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "change it only in this state"),
        ("If-None-Match" = Option<String>, Header,
            description = "`*`: register it only when it is new"),
    ),
    request_body = NewPipeline,
    responses(
        (status = 200, description = "It is kept.", body = PipelineView), Unprocessable, Precondition
    )
)]
async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(new): Json<NewPipeline>,
) -> Result<Json<PipelineView>, ApiError> {
    let kept = keep(&app, new, Some(name), tag::expected(&headers)).await;
    kept.map(Json).map_err(|error| match error {
        ApiError::PipelineExists(name) => ApiError::Exists {
            what: format!("a pipeline {name}"),
        },
        other => other,
    })
}

/// Removes a registered pipeline. Its runs stay.
#[utoipa::path(
    delete, path = "/pipelines/{name}", operation_id = "remove_pipeline", tag = "pipelines",
    params(
        ("name" = String, Path, description = "Its name."),
        ("If-Match" = Option<String>, Header, description = "remove it only in this state"),
    ),
    responses((status = 204, description = "It is gone."), NotFound, Precondition)
)]
async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    accepting(&app)?;
    let engine = engine(&app)?;
    let expected = match tag::expected(&headers) {
        Expected::Any => Expected::present(),
        expected => expected,
    };
    engine.put_pipeline(name, None, expected).await?;
    app.schedules.wake();
    Ok(StatusCode::NO_CONTENT)
}

/// Starts a run of a registered pipeline.
#[utoipa::path(
    post, path = "/pipelines/{name}/trigger", operation_id = "trigger_pipeline", tag = "pipelines",
    params(("name" = String, Path, description = "Its name.")),
    request_body = NewTrigger,
    responses(
        (status = 201, description = "The run, durable.", body = RunCreated),
        NotFound, Unprocessable, TooMany
    )
)]
async fn trigger(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(new): Json<NewTrigger>,
) -> Result<(StatusCode, Json<RunCreated>), ApiError> {
    let key = request_key(&headers, &("trigger", &name, &new))?;
    let registered = find(&app, &name).await?;
    let mut event = Map::new();
    let event_name = new.event.unwrap_or_else(|| "manual".to_owned());
    event.insert("name".to_owned(), Value::from(event_name));
    let trigger = Trigger {
        event,
        inputs: new.inputs,
        env: new.env,
        reference: new.reference,
        priority: new.priority,
    };
    accepting(&app)?;
    let run = start(
        &app,
        new_run(&registered, trigger).await?,
        key,
        traceparent(&headers),
    )
    .await?;
    Ok((StatusCode::CREATED, Json(RunCreated { run })))
}

/// Keeps a pipeline, and says what it is now.
pub(super) async fn keep(
    app: &App,
    new: NewPipeline,
    name: Option<String>,
    expected: Expected,
) -> Result<PipelineView, ApiError> {
    accepting(app)?;
    let engine = engine(app)?;
    let now = app.schedules.now();
    let mut registered = blocking(move || Registered::new(new, name, now)).await?;
    if expected != Expected::Absent
        && let Ok(before) = find(app, &registered.name).await
    {
        registered.created_ms = before.created_ms;
    }
    let bytes = registered.to_bytes()?;
    registered.tag = tag_of(&bytes);
    let name = registered.name.clone();
    engine.put_pipeline(name, Some(bytes), expected).await?;
    app.schedules.wake();
    blocking(move || Ok(registered.full_view(now))).await
}

/// The pipeline of a name.
pub(super) async fn find(app: &App, name: &str) -> Result<Registered, ApiError> {
    let all = engine(app)?.documents(PIPELINE).await?;
    let found = all.iter().find(|(key, _)| key == name);
    let (_, bytes) = found.ok_or_else(|| ApiError::NotFound {
        listed: Listed::Pipelines,
        what: format!("pipeline {name}"),
    })?;
    Registered::from_bytes(bytes)
}

/// All pipelines, by name.
pub(super) async fn all(app: &App) -> Result<Vec<Registered>, ApiError> {
    let documents = engine(app)?.documents(PIPELINE).await?;
    let read = documents
        .iter()
        .map(|(_, bytes)| Registered::from_bytes(bytes));
    read.collect()
}
