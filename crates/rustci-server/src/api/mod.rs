//! The HTTP API.
//!
//! One router is the whole of it: `rustci serve` puts it behind a socket, `rustci run` calls it in
//! process ([`Server::router`](crate::Server::router)), and [`ReadOnly`](crate::ReadOnly) gives the
//! same one without an engine behind it.
//!
//! # Adding routes
//! A feature has its handlers in `api/<feature>.rs` with `pub(super) fn routes()`, merged in
//! `versioned`, and its types in `view`. A handler says in `#[utoipa::path]` what it takes and
//! gives; from that the document is made, and a test holds every answer against it:
//! - `path` is what follows `/api/v1`; `operation_id` is unique, a verb and a noun; `tag` names the
//!   feature. The first line of the doc comment is the summary.
//! - It takes `extract::Path`, `extract::Query` (with `IntoParams` and `deny_unknown_fields`)
//!   and `extract::Json`, gives `Json`, and every error is an [`ApiError`].
//! - `responses` has the success and its own errors from `answers`; 400, 401, 409 (read-only),
//!   413, 415 and 503 are added by `document::finish`.
//! - `tests/contract/cases.rs` gets a row for its success and for each error of its own; the test
//!   says what is missing.
//! - `spec/openapi.json` is the document as it is stored; after a change, and after a conflict in
//!   it: `UPDATE_EXPECT=1 cargo test -p rustci-server --lib stored_document`.

mod answers;
mod approval;
mod artifacts;
mod auth;
mod backup;
mod blob;
mod caches;
pub(crate) mod check;
mod ci;
mod contract;
mod distinct;
pub(crate) mod document;
mod download;
mod envelope;
mod events;
mod explain;
mod extract;
mod health;
mod log;
mod multipart;
mod page;
mod pipelines;
mod problem;
mod queue;
mod rate;
mod rerun;
mod rows;
mod runners;
mod runs;
mod schema;
mod secrets;
mod tag;
mod tests;
pub mod view;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use telemetry::Metrics;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use valkyrie_store::Limit;

use crate::api::contract::Contract;
use crate::blobs::Blobs;
use crate::catalogue::Queries;
use crate::content::Content;
use crate::engine::EngineHandle;
use crate::health::HealthCell;
use crate::job_token::JobTokens;
use crate::limits::RUN_BODY_BYTES_MAX;
use crate::logs::LogFollower;
use crate::pipelines::Schedules;
use crate::secrets::SecretStore;
use crate::shared::Shared;
use crate::token::ApiToken;

pub(crate) use backup::Backups;
pub use problem::{ApiError, Large, Listed};
pub(crate) use runs::plan;

/// What the handlers work with; cloning it clones pointers.
#[derive(Debug, Clone)]
pub(crate) struct App {
    /// The token that requests need; none when the caller is this process.
    pub(crate) token: Option<ApiToken>,
    /// Tokens of jobs; none when the data directory is open for reading only.
    pub(crate) job_tokens: Option<JobTokens>,
    /// None when the data directory is open for reading only.
    pub(crate) engine: Option<EngineHandle>,
    pub(crate) queries: Queries,
    pub(crate) logs: LogFollower,
    pub(crate) blobs: Arc<Blobs>,
    /// Artifacts, caches, summaries and reports.
    pub(crate) content: Content,
    /// None when the data directory is open for reading only.
    pub(crate) secrets: Option<Arc<SecretStore>>,
    /// None when the data directory is open for reading only.
    pub(crate) backups: Option<Backups>,
    /// What wakes the schedules, and their clock.
    pub(crate) schedules: Schedules,
    pub(crate) health: HealthCell,
    pub(crate) metrics: Metrics,
    /// How often an address may ask; none without a limit.
    pub(crate) api_limit: Option<Limit>,
    /// Where that is counted, and what servers share; none when nothing is counted or shared.
    pub(crate) shared: Option<Shared>,
}

/// All routes over `app`.
pub(crate) fn router(app: App) -> Router {
    let document = document();
    let text = Bytes::from(document::to_text(&document));
    let openapi = get(move || async move { ([(CONTENT_TYPE, document::JSON)], text) });
    let contract = Arc::new(Contract::of(document));
    Router::from(health::routes())
        .nest("/api/v1", guarded(versioned(), &app, &contract))
        .nest("/api/ci", guarded(ci::routes(), &app, &contract))
        .merge(Router::from(ci::open_routes()))
        .route("/api/v1/openapi.json", openapi.clone())
        .route("/api-docs/openapi.json", openapi)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_route)
        .layer(from_fn_with_state(app.metrics.http.clone(), envelope::wrap))
        .with_state(app)
}

/// Routes behind the token and the contract.
fn guarded(routes: OpenApiRouter<App>, app: &App, contract: &Arc<Contract>) -> Router<App> {
    Router::from(routes)
        // Uploads take the raw body, which they check and count while it streams.
        .layer(DefaultBodyLimit::max(RUN_BODY_BYTES_MAX))
        .layer(from_fn_with_state(
            (Arc::clone(contract), app.clone()),
            contract::keep,
        ))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_route)
        .layer(from_fn_with_state(app.clone(), auth::require_token))
        .layer(from_fn_with_state(app.clone(), rate::keep))
}

/// The `OpenAPI` document of all routes, as JSON text.
#[must_use]
pub fn openapi() -> String {
    document::to_text(&document())
}

fn document() -> OpenApi {
    let routes = OpenApiRouter::with_openapi(document::start())
        .nest("/api/v1", versioned())
        .nest("/api/ci", ci::routes())
        .merge(ci::open_routes())
        .merge(health::routes());
    document::finish(routes.into_openapi())
}

/// The routes under `/api/v1`, one line for each feature.
fn versioned() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(artifacts::routes())
        .merge(backup::routes())
        .merge(caches::routes())
        .merge(approval::routes())
        .merge(blob::routes())
        .merge(events::routes())
        .merge(explain::routes())
        .merge(log::routes())
        .merge(pipelines::routes())
        .merge(queue::routes())
        .merge(runners::routes())
        .merge(rerun::routes())
        .merge(runs::routes())
        .merge(schema::routes())
        .merge(tests::routes())
        .merge(secrets::routes())
}

async fn no_route(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::NoRoute(uri.path().to_owned())
}

/// `OPTIONS` is answered too: the router adds `Allow` to either.
async fn method_not_allowed(method: Method) -> Result<StatusCode, ApiError> {
    match method {
        Method::OPTIONS => Ok(StatusCode::NO_CONTENT),
        other => Err(ApiError::Method(other.to_string())),
    }
}
