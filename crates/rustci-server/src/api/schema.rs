//! What a pipeline file may look like, for editors and other tools.

use axum::Json;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(pipeline))
}

/// The JSON Schema of native pipeline files.
#[utoipa::path(
    get, path = "/schema/pipeline", operation_id = "pipeline_schema", tag = "pipelines",
    responses((status = 200, description = "JSON Schema, draft 7.", body = Object))
)]
async fn pipeline() -> Json<Value> {
    Json(rustci_pipeline::schema())
}
