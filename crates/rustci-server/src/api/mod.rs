//! The HTTP API.
//!
//! One router is the whole of it: `rustci serve` puts it behind a socket, `rustci run` calls it in
//! process ([`Server::router`](crate::Server::router)), and [`ReadOnly`](crate::ReadOnly) gives the
//! same one without an engine behind it.

mod auth;
mod blob;
mod events;
mod health;
mod log;
mod problem;
mod rows;
mod runs;
pub mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::http::Method;
use axum::routing::{get, post, put};
use telemetry::Metrics;

use crate::blobs::Blobs;
use crate::catalogue::Queries;
use crate::engine::EngineHandle;
use crate::health::HealthCell;
use crate::limits::RUN_BODY_BYTES_MAX;
use crate::logs::LogFollower;
use crate::token::ApiToken;

pub use problem::ApiError;

/// What the handlers work with; cloning it clones pointers.
#[derive(Debug, Clone)]
pub(crate) struct App {
    /// The token that requests need; none when the caller is this process.
    pub(crate) token: Option<ApiToken>,
    /// None when the data directory is open for reading only.
    pub(crate) engine: Option<EngineHandle>,
    pub(crate) queries: Queries,
    pub(crate) logs: LogFollower,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) health: HealthCell,
    pub(crate) metrics: Metrics,
}

/// All routes over `app`.
pub(crate) fn router(app: App) -> Router {
    let guarded = Router::new()
        .route("/runs", post(runs::create).get(runs::list))
        .route("/runs/{id}", get(runs::get))
        .route("/runs/{id}/cancel", post(runs::cancel))
        .route("/runs/{id}/events", get(events::follow))
        .route("/runs/{id}/jobs/{job}/log", get(log::read))
        .route("/runners", get(runs::runners))
        .layer(DefaultBodyLimit::max(RUN_BODY_BYTES_MAX))
        // A blob is checked and counted while it streams, so the limit of bodies is lifted.
        .route("/blobs/{digest}", put(blob::put).head(blob::head))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_route)
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            auth::require_token,
        ));
    Router::new()
        .nest("/api/v1", guarded)
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/version", get(health::version))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_route)
        .with_state(app)
}

async fn no_route(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::NoRoute(uri.path().to_owned())
}

async fn method_not_allowed(method: Method) -> ApiError {
    ApiError::Method(method.to_string())
}
