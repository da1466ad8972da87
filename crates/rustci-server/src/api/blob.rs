//! Uploading source snapshots.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::{NotFound, Unprocessable};
use crate::api::extract::Path;
use crate::api::health::accepting;
use crate::api::problem::{ApiError, Large, Listed};
use crate::blobs::{BlobDigest, Upload};
use crate::limits::BLOB_BYTES_MAX;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(put, head))
}

/// Whether the server has a source archive.
#[utoipa::path(
    head, path = "/blobs/{digest}", operation_id = "find_blob", tag = "blobs",
    params(("digest" = String, Path, pattern = "^[0-9a-f]{64}$",
            description = "BLAKE3, 64 lower-case hex digits.")),
    responses((status = 200, description = "It is there; `Content-Length` is its size."), NotFound)
)]
async fn head(
    State(app): State<App>,
    Path(digest): Path<String>,
) -> Result<(StatusCode, HeaderMap), ApiError> {
    let size = app.blobs.size(parse(&digest)?);
    let size = size.ok_or_else(|| ApiError::NotFound {
        listed: Listed::Blobs,
        what: format!("blob {digest}"),
    })?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_LENGTH, size.into());
    Ok((StatusCode::OK, headers))
}

/// Stores a source archive under its digest.
///
/// When it is there already, the body is not read.
#[utoipa::path(
    put, path = "/blobs/{digest}", operation_id = "store_blob", tag = "blobs",
    params(("digest" = String, Path, pattern = "^[0-9a-f]{64}$",
            description = "BLAKE3, 64 lower-case hex digits.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "It was there."),
        (status = 201, description = "It is stored."),
        Unprocessable
    )
)]
async fn put(
    State(app): State<App>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    accepting(&app)?;
    let digest = parse(&digest)?;
    check_length(&headers)?;
    if app.blobs.size(digest).is_some() {
        return Ok(StatusCode::OK);
    }
    let upload = blocking(move || Ok(app.blobs.upload(digest)?)).await?;
    let upload = receive(upload, body).await?;
    blocking(move || Ok(upload.finish()?)).await?;
    Ok(StatusCode::CREATED)
}

async fn receive(mut upload: Upload, body: Body) -> Result<Upload, ApiError> {
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| {
            ApiError::Invalid(format!("the body broke off: {error}; send it again"))
        })?;
        // Writing a chunk goes to the page cache; only the sync at the end waits for the disk.
        upload.write(&chunk)?;
    }
    Ok(upload)
}

/// Refuses a body before it is sent when its announced length is over the limit.
fn check_length(headers: &HeaderMap) -> Result<(), ApiError> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    match length.and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length > BLOB_BYTES_MAX => Err(ApiError::TooLarge {
            what: Large::Archive,
            max: BLOB_BYTES_MAX,
        }),
        _ => Ok(()),
    }
}

fn parse(digest: &str) -> Result<BlobDigest, ApiError> {
    digest
        .parse()
        .map_err(|error| ApiError::Invalid(format!("{error}, not {digest:?}")))
}

/// Runs `work` where it may wait for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::Internal(format!("a disk task ended early: {error}")))?
}
