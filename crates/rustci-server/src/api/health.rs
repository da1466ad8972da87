//! Routes for machines that look after the server; they need no token.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::Unavailable;
use crate::api::problem::ApiError;
use crate::health::Health;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(metrics))
        .routes(routes!(version))
}

/// The process answers.
#[utoipa::path(
    get, path = "/livez", operation_id = "is_alive", tag = "health",
    responses((status = 200, description = "It does.", body = Object))
)]
async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The server takes work, or says why not.
#[utoipa::path(
    get, path = "/readyz", operation_id = "is_ready", tag = "health",
    responses((status = 200, description = "It does.", body = Object), Unavailable)
)]
async fn ready(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    accepting(&app)?;
    Ok(Json(json!({ "status": "ready" })))
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
    (
        [(CONTENT_TYPE, telemetry::CONTENT_TYPE)],
        app.metrics.encode(),
    )
}

/// Name and version of the server.
#[utoipa::path(
    get, path = "/version", operation_id = "version", tag = "health",
    responses((status = 200, description = "Both.", body = Object))
)]
async fn version() -> Json<Value> {
    Json(json!({ "name": "rustci", "version": env!("CARGO_PKG_VERSION") }))
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
