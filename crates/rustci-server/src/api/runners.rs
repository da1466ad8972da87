//! Runners: what they have, whether they get more, and forgetting those that are gone.

use axum::extract::State;
use axum::http::StatusCode;
use rustci_scheduler::{Command, Drain, RunnerId};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::{Conflict, NotFound};
use crate::api::extract::{Json, Path, Query};
use crate::api::health::accepting;
use crate::api::page::{Limit, Name, Page};
use crate::api::problem::{ApiError, Listed};
use crate::api::runs::engine;
use crate::api::view::{RunnerList, RunnerView};
use crate::presence;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(forget))
        .routes(routes!(drain))
        .routes(routes!(undrain))
}

/// The query of the list of runners.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunnersQuery {
    /// Runners in one page.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    #[serde(default)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^([0-9a-f]{2}){0,255}$")]
    cursor: Option<Name>,
    /// Also list the runners that are connected to other servers with the same store.
    #[serde(default)]
    #[param(default = false)]
    elsewhere: bool,
}

/// Lists the runners that are connected, and those that were.
#[utoipa::path(
    get, path = "/runners", operation_id = "list_runners", tag = "runners", params(RunnersQuery),
    responses((status = 200, description = "By name.", body = RunnerList), Conflict)
)]
async fn list(
    State(app): State<App>,
    Query(query): Query<RunnersQuery>,
) -> Result<Page<RunnerList>, ApiError> {
    let limit = query.limit.entries();
    let mut runners = engine(&app)?.runners().await?;
    if let Some(Name(after)) = &query.cursor {
        runners.retain(|runner| runner.name > *after);
    }
    let more = runners.len() > limit;
    runners.truncate(limit);
    let next = runners
        .last()
        .filter(|_| more)
        .map(|runner| Name(runner.name.clone()).to_string());
    let elsewhere = match query.elsewhere {
        true => Some(presence::elsewhere(app.shared.as_ref()).await?),
        false => None,
    };
    let body = RunnerList {
        runners,
        next: next.clone(),
        elsewhere,
    };
    Ok(Page { body, next })
}

/// Gives a runner nothing new, also when it comes back; what it has goes on.
#[utoipa::path(
    post, path = "/runners/{id}/drain", operation_id = "drain_runner", tag = "runners",
    params(("id" = u64, Path, description = "Number of the runner.")),
    responses((status = 200, description = "The runner.", body = RunnerView), NotFound, Conflict)
)]
async fn drain(State(app): State<App>, Path(id): Path<u64>) -> Result<Json<RunnerView>, ApiError> {
    set(&app, id, Drain::On).await
}

/// Gives a runner jobs again.
#[utoipa::path(
    post, path = "/runners/{id}/undrain", operation_id = "undrain_runner", tag = "runners",
    params(("id" = u64, Path, description = "Number of the runner.")),
    responses((status = 200, description = "The runner.", body = RunnerView), NotFound, Conflict)
)]
async fn undrain(
    State(app): State<App>,
    Path(id): Path<u64>,
) -> Result<Json<RunnerView>, ApiError> {
    set(&app, id, Drain::Off).await
}

async fn set(app: &App, id: u64, drain: Drain) -> Result<Json<RunnerView>, ApiError> {
    accepting(app)?;
    let engine = engine(app)?;
    let runner = RunnerId(id);
    engine
        .operate(Command::RunnerDrain { runner, drain })
        .await?;
    let runners = engine.runners().await?;
    let found = runners.into_iter().find(|runner| runner.id == id);
    found.map(Json).ok_or_else(|| ApiError::NotFound {
        listed: Listed::Runners,
        what: format!("runner {id}"),
    })
}

/// Forgets a runner that is gone for good; its name is free again.
#[utoipa::path(
    delete, path = "/runners/{id}", operation_id = "forget_runner", tag = "runners",
    params(("id" = u64, Path, description = "Number of the runner.")),
    responses((status = 204, description = "It is forgotten."), NotFound, Conflict)
)]
async fn forget(State(app): State<App>, Path(id): Path<u64>) -> Result<StatusCode, ApiError> {
    accepting(&app)?;
    engine(&app)?.forget_runner(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
