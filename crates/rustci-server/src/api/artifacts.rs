//! Artifacts: what a run left behind, as files and as archives.

use std::io::{self, Write};

use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rustci_content::archive::{write_tar, write_zip};
use rustci_content::{Chunk, ChunkSource, Entry, EntryKind, Manifest};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::{Conflict, NotFound};
use crate::api::blob::blocking;
use crate::api::download::{self, attachment};
use crate::api::extract::{Path, Query};
use crate::api::health::accepting;
use crate::api::page::{Cursor, Limit, Page};
use crate::api::problem::{ApiError, Listed};
use crate::api::runs;
use crate::api::view::{ArtifactFiles, ArtifactList, ArtifactView, FileView};
use crate::catalogue::Artifact;
use crate::content::{StoredChunks, TreeError, TreeGuard};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, remove))
        .routes(routes!(file))
        .routes(routes!(archive))
}

/// The query of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Entries in one page.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    #[serde(default)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<u64>)]
    cursor: Option<Cursor>,
}

/// Lists the artifacts of a run.
#[utoipa::path(
    get, path = "/runs/{id}/artifacts", operation_id = "list_artifacts", tag = "artifacts",
    params(("id" = u64, Path, description = "Number of the run."), ListQuery),
    responses((status = 200, description = "A page of artifacts.", body = ArtifactList), NotFound)
)]
async fn list(
    State(app): State<App>,
    Path(run): Path<u64>,
    Query(query): Query<ListQuery>,
) -> Result<Page<ArtifactList>, ApiError> {
    runs::find(&app, run).await?;
    let after = query.cursor.map_or(0, |cursor| cursor.0);
    let limit = query.limit.get();
    let ask = move |catalogue: &crate::catalogue::Catalogue| {
        catalogue.artifacts(run, after, limit.saturating_add(1))
    };
    let mut artifacts = app.queries.ask(ask).await?;
    let more = artifacts.len() > query.limit.entries();
    artifacts.truncate(query.limit.entries());
    let next = artifacts.last().filter(|_| more);
    let next = next.map(|last| last.id.to_string());
    let artifacts = artifacts.iter().map(ArtifactView::from).collect();
    let body = ArtifactList {
        artifacts,
        next: next.clone(),
    };
    Ok(Page { body, next })
}

/// Shows an artifact and lists its files.
#[utoipa::path(
    get, path = "/artifacts/{id}", operation_id = "get_artifact", tag = "artifacts",
    params(("id" = u64, Path, description = "Number of the artifact."), ListQuery),
    responses(
        (status = 200, description = "The artifact with a page of its files.", body = ArtifactFiles),
        NotFound
    )
)]
async fn get(
    State(app): State<App>,
    Path(id): Path<u64>,
    Query(query): Query<ListQuery>,
) -> Result<Page<ArtifactFiles>, ApiError> {
    let opened = open(&app, id).await?;
    let begin = query.cursor.map_or(0, |cursor| cursor.0);
    let begin = usize::try_from(begin).unwrap_or(usize::MAX);
    let entries = opened.manifest.entries();
    let files = entries.iter().skip(begin).take(query.limit.entries());
    let files: Vec<FileView> = files.map(FileView::from).collect();
    let end = begin.saturating_add(files.len());
    let next = (end < entries.len()).then(|| end.to_string());
    let body = ArtifactFiles {
        artifact: ArtifactView::from(&opened.artifact),
        files,
        next: next.clone(),
    };
    Ok(Page { body, next })
}

/// Removes an artifact.
#[utoipa::path(
    delete, path = "/artifacts/{id}", operation_id = "remove_artifact", tag = "artifacts",
    params(("id" = u64, Path, description = "Number of the artifact.")),
    responses((status = 204, description = "It is gone."), NotFound, Conflict)
)]
async fn remove(State(app): State<App>, Path(id): Path<u64>) -> Result<StatusCode, ApiError> {
    accepting(&app)?;
    runs::engine(&app)?;
    let removed = app
        .queries
        .ask(move |catalogue| catalogue.remove_artifact(id));
    match removed.await? {
        true => {
            app.metrics.content.removed("deleted", 1);
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(unknown(id)),
    }
}

/// Downloads one file of an artifact, whole or a range of it.
#[utoipa::path(
    get, path = "/artifacts/{id}/files/{*path}", operation_id = "get_artifact_file",
    tag = "artifacts",
    params(
        ("id" = u64, Path, description = "Number of the artifact."),
        ("path" = String, Path, description = "The file's path; `/` may be `%2F`."),
        ("Range" = Option<String>, Header, description = "One range: `bytes=0-99`.")
    ),
    responses(
        (status = 200, description = "The file.", content_type = "application/octet-stream",
         body = Vec<u8>),
        (status = 206, description = "The range.", content_type = "application/octet-stream",
         body = Vec<u8>),
        (status = 416, description = "The range has no byte of the file.",
         body = crate::api::view::Problem, content_type = "application/problem+json"),
        NotFound
    )
)]
async fn file(
    State(app): State<App>,
    Path((id, path)): Path<(u64, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let opened = open(&app, id).await?;
    let entry = opened.manifest.find(&path).cloned();
    let entry = entry.filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
    let entry = entry.ok_or_else(|| ApiError::NotFound {
        listed: Listed::Files,
        what: format!("file {path:?} in artifact {id}"),
    })?;
    let size = entry.size();
    let wanted = download::range(headers.get(RANGE), size)
        .map_err(|_| ApiError::RangeUnsatisfiable { size })?;
    let (status, (first, end)) = match wanted {
        Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        None => (StatusCode::OK, (0, size)),
    };
    let mut answer = HeaderMap::new();
    answer.insert(CONTENT_LENGTH, (end - first).into());
    answer.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{size}", end - 1);
        let range = HeaderValue::from_str(&range).map_err(internal)?;
        answer.insert(CONTENT_RANGE, range);
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    describe(&mut answer, "application/octet-stream", name);
    let Opened { chunks, guard, .. } = opened;
    let body = download::body(seat(&app)?, move |out| {
        let _guard = guard;
        write_range(&entry, &chunks, first, end, out)
    });
    Ok((status, answer, body.map_err(internal)?).into_response())
}

/// The query of an archive.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ArchiveQuery {
    /// The archive's format.
    #[param(inline, required = false)]
    #[serde(default)]
    format: Format,
}

/// Formats of archives.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Compressed; opens everywhere.
    #[default]
    Zip,
    /// Not compressed.
    Tar,
}

/// Downloads an artifact as one archive, which is made while it is sent.
#[utoipa::path(
    get, path = "/artifacts/{id}/archive", operation_id = "get_artifact_archive",
    tag = "artifacts",
    params(("id" = u64, Path, description = "Number of the artifact."), ArchiveQuery),
    responses(
        (status = 200, description = "The archive.", content(
            (Vec<u8> = "application/zip"), (Vec<u8> = "application/x-tar")
        )),
        NotFound
    )
)]
async fn archive(
    State(app): State<App>,
    Path(id): Path<u64>,
    Query(query): Query<ArchiveQuery>,
) -> Result<Response, ApiError> {
    let Opened {
        artifact,
        manifest,
        chunks,
        guard,
    } = open(&app, id).await?;
    let (kind, extension) = match query.format {
        Format::Zip => ("application/zip", "zip"),
        Format::Tar => ("application/x-tar", "tar"),
    };
    let mut answer = HeaderMap::new();
    describe(&mut answer, kind, &format!("{}.{extension}", artifact.name));
    let body = download::body(seat(&app)?, move |out| {
        let _guard = guard;
        match query.format {
            Format::Zip => write_zip(&manifest, &chunks, out),
            Format::Tar => write_tar(&manifest, &chunks, out),
        }
    });
    Ok((answer, body.map_err(internal)?).into_response())
}

/// What came out of a job is never shown as a page of this server.
fn describe(headers: &mut HeaderMap, kind: &'static str, name: &str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_DISPOSITION, attachment(name));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// An artifact with its files, which stay while this is there.
struct Opened {
    artifact: Artifact,
    manifest: Manifest,
    chunks: StoredChunks,
    guard: TreeGuard,
}

async fn open(app: &App, id: u64) -> Result<Opened, ApiError> {
    let artifact = app.queries.ask(move |catalogue| catalogue.artifact(id));
    let artifact = artifact.await?.ok_or_else(|| unknown(id))?;
    let content = app.content.clone();
    blocking(move || {
        let guard = content.pins.read(artifact.tree.digest);
        let manifest = content.manifest(artifact.tree.digest);
        let manifest = manifest.map_err(|error| match error {
            TreeError::Gone(_) => ApiError::NotFound {
                listed: Listed::Artifacts,
                what: format!("content of artifact {id} any more"),
            },
            other => ApiError::Internal(other.to_string()),
        })?;
        Ok(Opened {
            artifact,
            manifest,
            chunks: content.chunks(),
            guard,
        })
    })
    .await
}

fn unknown(id: u64) -> ApiError {
    ApiError::NotFound {
        listed: Listed::Artifacts,
        what: format!("artifact {id}"),
    }
}

fn internal(error: impl ToString) -> ApiError {
    ApiError::Internal(error.to_string())
}

/// Leave to write one more download.
fn seat(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    let seats = std::sync::Arc::clone(&app.content.downloads);
    seats.try_acquire_owned().map_err(|_| ApiError::Overloaded)
}

/// Writes the bytes of a file between two positions.
fn write_range(
    entry: &Entry,
    chunks: &StoredChunks,
    first: u64,
    end: u64,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (mut at, mut buffer) = (0_u64, Vec::new());
    for chunk in entry.chunks() {
        let next = at + u64::from(chunk.length);
        if next > first && at < end {
            read(chunks, chunk, &mut buffer)?;
            let from = usize::try_from(first.saturating_sub(at)).unwrap_or(usize::MAX);
            let to = usize::try_from(end.min(next) - at).unwrap_or(usize::MAX);
            out.write_all(buffer.get(from..to).unwrap_or_default())?;
        }
        at = next;
    }
    Ok(())
}

fn read(chunks: &StoredChunks, chunk: &Chunk, buffer: &mut Vec<u8>) -> io::Result<()> {
    chunks.read(chunk, buffer)?;
    if crate::blobs::BlobDigest::of(buffer) == chunk.digest {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "chunk {} is damaged",
            chunk.digest
        )))
    }
}

impl From<&Artifact> for ArtifactView {
    fn from(artifact: &Artifact) -> Self {
        Self {
            id: artifact.id,
            run: artifact.run,
            job: artifact.job_key.clone(),
            attempt: artifact.attempt,
            name: artifact.name.clone(),
            digest: artifact.tree.digest.to_string(),
            files: artifact.tree.files,
            bytes: artifact.tree.bytes,
            stored_bytes: artifact.stored_bytes,
            created_ms: artifact.created_ms,
            expires_ms: artifact.expires_ms,
        }
    }
}

impl From<&Entry> for FileView {
    fn from(entry: &Entry) -> Self {
        let executable = matches!(
            entry.kind,
            EntryKind::File {
                executable: true,
                ..
            }
        );
        Self {
            path: entry.path.clone(),
            bytes: entry.size(),
            executable,
        }
    }
}
