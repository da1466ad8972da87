//! The queue: what waits and for what; pause and resume; quotas of projects.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use rustci_scheduler::limits::QUOTA_WEIGHT_MAX;
use rustci_scheduler::{Command, Pause};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::{Conflict, Precondition, Unprocessable};
use crate::api::extract::{Json, Path, Query};
use crate::api::health::accepting;
use crate::api::page::{Limit, Name, Page, Word};
use crate::api::problem::ApiError;
use crate::api::runs::engine;
use crate::api::tag::{self, EntryTag};
use crate::api::view::{NewQuota, QueueState, QueueView, QuotaList, QuotaView};
use crate::engine::{QueuePage, wanted_quota};
use crate::limits::NAME_CHARS_MAX;

/// The name that stands for all projects without a quota of their own.
const DEFAULT: &str = "_default";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(quotas))
        .routes(routes!(quota, set_quota, remove_quota))
}

/// The place in the queue that a cursor stands for.
#[derive(Debug, Clone, Copy)]
struct Place((u64, u64));

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once('-');
        let numbers = parts.and_then(|(place, job)| Some((place.parse().ok()?, job.parse().ok()?)));
        numbers.map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "cursor is the `next` of the page before, not {text:?}"
            ))
        })
    }
}

/// The query of the queue.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QueueQuery {
    /// Jobs in one page.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    #[serde(default)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,18}-[0-9]{1,18}$")]
    cursor: Option<Place>,
    /// Only jobs of this project.
    #[param(value_type = Option<String>, max_length = 255)]
    project: Option<Word>,
}

/// The queue in figures, and the jobs in it.
#[utoipa::path(
    get, path = "/queue", operation_id = "get_queue", tag = "queue", params(QueueQuery),
    responses((status = 200, description = "The queue.", body = QueueView), Conflict)
)]
async fn show(
    State(app): State<App>,
    Query(query): Query<QueueQuery>,
) -> Result<Page<QueueView>, ApiError> {
    let page = QueuePage {
        after: query.cursor.map(|Place(place)| place).unwrap_or_default(),
        project: query.project.map(|Word(project)| project),
        limit: query.limit.entries(),
    };
    let body = engine(&app)?.queue(page).await?;
    let next = body.next.clone();
    Ok(Page { body, next })
}

/// Pauses the queue: no job is handed out, running ones go on. Lasts over restarts.
#[utoipa::path(
    post, path = "/queue/pause", operation_id = "pause_queue", tag = "queue",
    responses((status = 200, description = "It is paused.", body = QueueState), Conflict)
)]
async fn pause(State(app): State<App>) -> Result<Json<QueueState>, ApiError> {
    set(&app, Pause::On).await
}

/// Resumes the queue.
#[utoipa::path(
    post, path = "/queue/resume", operation_id = "resume_queue", tag = "queue",
    responses((status = 200, description = "It goes on.", body = QueueState), Conflict)
)]
async fn resume(State(app): State<App>) -> Result<Json<QueueState>, ApiError> {
    set(&app, Pause::Off).await
}

async fn set(app: &App, pause: Pause) -> Result<Json<QueueState>, ApiError> {
    accepting(app)?;
    engine(app)?.operate(Command::Pause(pause)).await?;
    Ok(Json(QueueState {
        paused: pause == Pause::On,
    }))
}

/// The query of the list of quotas.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QuotasQuery {
    /// Quotas in one page.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    #[serde(default)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^([0-9a-f]{2}){0,255}$")]
    cursor: Option<Name>,
}

/// Lists what was set for projects.
#[utoipa::path(
    get, path = "/quotas", operation_id = "list_quotas", tag = "queue", params(QuotasQuery),
    responses((status = 200, description = "By project.", body = QuotaList), Conflict)
)]
async fn quotas(
    State(app): State<App>,
    Query(query): Query<QuotasQuery>,
) -> Result<Page<QuotaList>, ApiError> {
    let limit = query.limit.entries();
    let after = query.cursor.map(|Name(project)| project);
    let mut quotas = engine(&app)?.quotas(after, limit.saturating_add(1)).await?;
    let more = quotas.len() > limit;
    quotas.truncate(limit);
    let next = quotas.last().filter(|_| more).map(|quota| {
        Name(if quota.project == DEFAULT {
            String::new()
        } else {
            quota.project.clone()
        })
        .to_string()
    });
    let body = QuotaList {
        quotas,
        next: next.clone(),
    };
    Ok(Page { body, next })
}

/// What a project may have.
#[utoipa::path(
    get, path = "/projects/{project}/quota", operation_id = "get_quota", tag = "queue",
    params(("project" = String, Path, min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$",
        description = "The project; `_default` for all others.")),
    responses((status = 200, description = "What holds for it.", body = QuotaView), Conflict, Unprocessable)
)]
async fn quota(
    State(app): State<App>,
    Path(project): Path<String>,
) -> Result<(Extension<EntryTag>, Json<QuotaView>), ApiError> {
    let project = project_name(&project)?;
    let quota = engine(&app)?.quota(project).await?;
    Ok((Extension(EntryTag(quota.etag.clone())), Json(quota)))
}

/// Sets what a project may have, in place of what was set before.
#[utoipa::path(
    put, path = "/projects/{project}/quota", operation_id = "set_quota", tag = "queue",
    params(("project" = String, Path, min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$",
        description = "The project; `_default` for all others."),
        ("If-Match" = Option<String>, Header, description = "set it only in this state")),
    request_body = NewQuota,
    responses(
        (status = 200, description = "What holds now.", body = QuotaView),
        Conflict, Unprocessable, Precondition
    )
)]
async fn set_quota(
    State(app): State<App>,
    Path(project): Path<String>,
    headers: HeaderMap,
    Json(new): Json<NewQuota>,
) -> Result<Json<QuotaView>, ApiError> {
    accepting(&app)?;
    let project = project_name(&project)?;
    check(new)?;
    let engine = engine(&app)?;
    let expected = tag::expected(&headers);
    engine
        .set_quota(project.clone(), wanted_quota(new), expected)
        .await?;
    engine.quota(project).await.map(Json)
}

/// Removes what was set for a project: the default holds again.
#[utoipa::path(
    delete, path = "/projects/{project}/quota", operation_id = "remove_quota", tag = "queue",
    params(("project" = String, Path, min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$",
        description = "The project; `_default` for all others."),
        ("If-Match" = Option<String>, Header, description = "remove it only in this state")),
    responses(
        (status = 204, description = "Nothing is set for it any more."),
        Conflict, Unprocessable, Precondition
    )
)]
async fn remove_quota(
    State(app): State<App>,
    Path(project): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    accepting(&app)?;
    let (project, none) = (project_name(&project)?, wanted_quota(NewQuota::default()));
    let expected = tag::expected(&headers);
    engine(&app)?.set_quota(project, none, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The scheduler's name of a project: the default's is empty.
fn project_name(project: &str) -> Result<String, ApiError> {
    if project == DEFAULT {
        return Ok(String::new());
    }
    if project.is_empty()
        || project.chars().count() > NAME_CHARS_MAX
        || project.chars().any(char::is_control)
    {
        return Err(ApiError::Name("project"));
    }
    Ok(project.to_owned())
}

fn check(new: NewQuota) -> Result<(), ApiError> {
    let figures = [
        ("running", new.running, u32::MAX),
        ("queued", new.queued, u32::MAX),
        ("weight", new.weight, QUOTA_WEIGHT_MAX),
    ];
    for (name, figure, max) in figures {
        if figure.is_some_and(|figure| figure == 0 || figure > max) {
            return Err(ApiError::Invalid(format!(
                "{name} must be 1 to {max}; leave it out for no bound of its own"
            )));
        }
    }
    Ok(())
}
