//! The HTTP API.
//!
//! One router is the whole of it: `rustci serve` puts it behind a socket, `rustci run` calls it in
//! process ([`Server::router`](crate::Server::router)), and [`ReadOnly`](crate::ReadOnly) gives the
//! same one without an engine behind it.
//!
//! # Adding routes
//! A feature has its handlers in `api/<feature>.rs` with `pub(super) fn routes()`, merged in
//! [`versioned`], and its types in `view`. A handler says in `#[utoipa::path]` what it takes and
//! gives; from that the document is made, and a test holds every answer against it:
//! - `path` is what follows `/api/v1`; `operation_id` is unique, a verb and a noun; `tag` names the
//!   feature. The first line of the doc comment is the summary.
//! - It takes [`extract::Path`], [`extract::Query`] (with `IntoParams` and `deny_unknown_fields`)
//!   and [`extract::Json`], gives `Json`, and every error is an [`ApiError`].
//! - `responses` has the success and its own errors from [`answers`]; 400, 401, 409 (read-only),
//!   413, 415 and 503 are added by [`document::finish`].
//! - `spec/openapi.json` is the document as it is stored; after a change, and after a conflict in
//!   it: `UPDATE_EXPECT=1 cargo test -p rustci-server --lib stored_document`.

mod answers;
mod auth;
mod blob;
pub(crate) mod document;
mod events;
mod extract;
mod health;
mod log;
mod problem;
mod rows;
mod runs;
pub mod view;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use telemetry::Metrics;
use utoipa_axum::router::OpenApiRouter;

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
    let guarded = Router::from(versioned())
        // Uploads take the raw body, which they check and count while it streams.
        .layer(DefaultBodyLimit::max(RUN_BODY_BYTES_MAX))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_route)
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            auth::require_token,
        ));
    let text = Bytes::from(openapi());
    let document = get(move || async move { ([(CONTENT_TYPE, "application/json")], text) });
    Router::from(health::routes())
        .nest("/api/v1", guarded)
        .route("/api/v1/openapi.json", document.clone())
        .route("/api-docs/openapi.json", document)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_route)
        .with_state(app)
}

/// The `OpenAPI` document of all routes, as JSON text.
#[must_use]
pub fn openapi() -> String {
    let routes = OpenApiRouter::with_openapi(document::start())
        .nest("/api/v1", versioned())
        .merge(health::routes());
    document::to_text(&document::finish(routes.into_openapi()))
}

/// The routes under `/api/v1`, one line for each feature.
fn versioned() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(blob::routes())
        .merge(events::routes())
        .merge(log::routes())
        .merge(runs::routes())
}

async fn no_route(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::NoRoute(uri.path().to_owned())
}

async fn method_not_allowed(method: Method) -> ApiError {
    ApiError::Method(method.to_string())
}
