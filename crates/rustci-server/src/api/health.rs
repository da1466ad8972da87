//! Routes for machines that look after the server; they need no token.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::api::App;
use crate::api::problem::ApiError;
use crate::health::Health;

/// `GET /livez`: the process answers.
pub(crate) async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: the server takes work, or says why not.
pub(crate) async fn ready(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    accepting(&app)?;
    Ok(Json(json!({ "status": "ready" })))
}

/// `GET /metrics`: OpenMetrics text.
pub(crate) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    if let Some(engine) = &app.engine {
        // The counters are of use even when the gauges are a little old.
        let _ = engine.measure().await;
    }
    (
        [(CONTENT_TYPE, telemetry::CONTENT_TYPE)],
        app.metrics.encode(),
    )
}

/// `GET /version`.
pub(crate) async fn version() -> Json<Value> {
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
