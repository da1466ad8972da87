//! Routes for machines that look after the server; they need no token.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::{Conflict, Unavailable};
use crate::api::extract::Json;
use crate::api::problem::ApiError;
use crate::api::rate;
use crate::api::view::{HealthView, VersionView};
use crate::catalogue::Catalogue;
use crate::health::Health;
use crate::limits::HEALTH_PATIENCE;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(started))
        .routes(routes!(ready))
        .routes(routes!(metrics))
        .routes(routes!(version))
}

/// The process answers.
#[utoipa::path(
    get, path = "/livez", operation_id = "is_alive", tag = "health",
    responses((status = 200, description = "It does.", body = HealthView))
)]
async fn live() -> Json<HealthView> {
    healthy("ok", [])
}

/// The server has taken up its journal. HTTP is served from then on, so this answers or nothing
/// does.
#[utoipa::path(
    get, path = "/startupz", operation_id = "is_started", tag = "health",
    responses((status = 200, description = "It has.", body = HealthView))
)]
async fn started() -> Json<HealthView> {
    healthy("started", [])
}

/// The server takes work, or says why not.
///
/// Engine and catalogue are asked, so a thread that hangs is noticed too.
#[utoipa::path(
    get, path = "/readyz", operation_id = "is_ready", tag = "health",
    responses(
        (status = 200, description = "It does; each part that was asked.", body = HealthView),
        Conflict,
        Unavailable
    )
)]
async fn ready(State(app): State<App>) -> Result<Json<HealthView>, ApiError> {
    accepting(&app)?;
    let engine = app.engine.as_ref().ok_or(ApiError::ReadOnly)?;
    answers("engine", engine.measure()).await?;
    let ask = |catalogue: &Catalogue| catalogue.applied();
    let catalogue = async { app.queries.ask(ask).await.map_err(ApiError::from) };
    answers("catalogue", catalogue).await?;
    let mut view = healthy("ready", ["storage", "engine", "catalogue"]);
    // Without a store limits are counted elsewhere; work is taken all the same.
    view.0.checks.extend(rate::stores(&app));
    Ok(view)
}

async fn answers<T>(
    part: &str,
    asked: impl Future<Output = Result<T, ApiError>>,
) -> Result<(), ApiError> {
    match tokio::time::timeout(HEALTH_PATIENCE, asked).await {
        Ok(answer) => answer.map(|_| ()),
        Err(_) => {
            tracing::warn!(part, "no answer to a health check");
            Err(ApiError::Overloaded)
        }
    }
}

fn healthy<const N: usize>(status: &str, parts: [&str; N]) -> Json<HealthView> {
    let checks = parts.map(|part| (part.to_owned(), "ok".to_owned()));
    Json(HealthView {
        status: status.to_owned(),
        checks: checks.into(),
    })
}

/// Counters and gauges as OpenMetrics text.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses((status = 200, description = "All families.",
               content_type = "application/openmetrics-text", body = String))
)]
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    if let Some(engine) = &app.engine {
        // The counters are of use even when the gauges are a little old.
        let _ = engine.measure().await;
    }
    rate::measure(&app);
    (
        [(CONTENT_TYPE, telemetry::CONTENT_TYPE)],
        app.metrics.encode(),
    )
}

/// Name and version of the server.
#[utoipa::path(
    get, path = "/version", operation_id = "version", tag = "health",
    responses((status = 200, description = "Both.", body = VersionView))
)]
async fn version() -> Json<VersionView> {
    Json(VersionView {
        name: "rustci".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Waits until the storage fails: from then on nothing that anybody waits for will come.
pub(crate) async fn failed(app: &App) -> ApiError {
    ApiError::Storage(app.health.failed().await)
}

/// Whether the server takes something new.
pub(crate) fn accepting(app: &App) -> Result<(), ApiError> {
    match app.health.get() {
        Health::Ready => Ok(()),
        Health::Failed { reason } => Err(ApiError::Storage(reason)),
        Health::Stopping => Err(ApiError::Stopping),
        Health::ReadOnly => Err(ApiError::ReadOnly),
    }
}
