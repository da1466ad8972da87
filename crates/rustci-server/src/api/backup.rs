//! Backups over HTTP, and the digest by which a restored server is recognised.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::Conflict;
use crate::api::blob::blocking;
use crate::api::extract::{Json, Query};
use crate::api::health::accepting;
use crate::api::problem::ApiError;
use crate::api::view::StateView;
use crate::backup::{self, BackupError, Manifest, Stage, Wanted, state_digest};
use crate::engine::EngineHandle;
use crate::limits::{BACKUP_CHUNK_BYTES, BACKUP_CHUNKS};

const TAR: &str = "application/x-tar";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(backup))
        .routes(routes!(state))
}

/// Makes backups of a data directory, one at a time.
#[derive(Debug, Clone)]
pub(crate) struct Backups {
    data: PathBuf,
    seat: Arc<Semaphore>,
}

impl Backups {
    /// Backups of `data`; what an earlier process left of one is removed.
    pub(crate) fn of(data: PathBuf) -> Self {
        backup::sweep(&data);
        Self {
            data,
            seat: Arc::new(Semaphore::new(1)),
        }
    }
}

/// The query of a backup.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct BackupQuery {
    /// Put the key of the secrets into it.
    #[serde(default)]
    #[param(default = false)]
    keys: bool,
}

/// Streams a backup at one index of the journal.
///
/// A tar archive that begins with `manifest.json` and ends with `end`; one that ends otherwise was
/// cut off. `rustci restore` makes a data directory of it.
#[utoipa::path(
    get, path = "/backup", operation_id = "backup", tag = "operations", params(BackupQuery),
    responses(
        (status = 200, description = "The archive.", content_type = "application/x-tar",
         body = Vec<u8>),
        Conflict
    )
)]
async fn backup(
    State(app): State<App>,
    Query(query): Query<BackupQuery>,
) -> Result<([(HeaderName, &'static str); 1], Body), ApiError> {
    accepting(&app)?;
    let (engine, backups) = parts(&app)?;
    let seat = Arc::clone(&backups.seat).try_acquire_owned();
    let seat = seat.map_err(|_| ApiError::BackupRunning)?;
    let wanted = if query.keys {
        Wanted::Keys
    } else {
        Wanted::NoKeys
    };
    let data = backups.data.clone();
    let stage = Arc::new(blocking(move || Ok(Stage::begin(&data)?)).await?);
    let at_index = Arc::clone(&stage);
    let captured = engine
        .capture(move |catalogue, captured| {
            at_index.capture(catalogue, &captured)?;
            Ok(captured)
        })
        .await?;
    let (stage, manifest) = blocking(move || {
        let manifest = stage.finish(&captured, wanted)?;
        Ok((stage, manifest))
    })
    .await?;
    tracing::info!(
        index = manifest.index,
        state = manifest.state_digest,
        files = manifest.files.len(),
        bytes = manifest.bytes(),
        "backup begins"
    );
    Ok(([(CONTENT_TYPE, TAR)], send(stage, manifest, seat)))
}

/// The archive as a body, written by a thread of its own as fast as it is read.
fn send(stage: Arc<Stage>, manifest: Manifest, seat: OwnedSemaphorePermit) -> Body {
    let (chunks, taken) = mpsc::channel(BACKUP_CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut out = Chunks {
            to: chunks.clone(),
            buffer: Vec::with_capacity(BACKUP_CHUNK_BYTES),
        };
        if let Err(error) = backup::write(&stage, &manifest, &mut out) {
            tracing::warn!(%error, "a backup was not finished");
            // The body breaks off; if nobody reads it any more, nobody has to be told.
            let _ = chunks.blocking_send(Err(io::Error::other(error.to_string())));
        }
        drop((stage, seat));
    });
    Body::from_stream(stream::unfold(taken, |mut taken| async {
        Some((taken.recv().await?, taken))
    }))
}

/// Cuts what is written into chunks of a body.
struct Chunks {
    to: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BACKUP_CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more");
        self.to.blocking_send(Ok(chunk)).map_err(gone)
    }
}

/// The query of the state.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StateQuery {
    /// Digest the catalogue too, which reads all of it.
    #[serde(default)]
    #[param(default = false)]
    catalogue: bool,
}

/// Index and digest of the durable state.
///
/// Two servers with the same digests have the same runs in the same states.
#[utoipa::path(
    get, path = "/state", operation_id = "state", tag = "operations", params(StateQuery),
    responses((status = 200, description = "The state of now.", body = StateView), Conflict)
)]
async fn state(
    State(app): State<App>,
    Query(query): Query<StateQuery>,
) -> Result<Json<StateView>, ApiError> {
    accepting(&app)?;
    let (engine, _) = parts(&app)?;
    let view = engine.capture(move |catalogue, captured| {
        let digest = |digest| blake3::Hash::from_bytes(digest).to_hex().to_string();
        let catalogue = query.catalogue.then(|| catalogue.digest()).transpose()?;
        Ok(StateView {
            index: captured.index,
            state_digest: state_digest(&captured.state),
            catalogue_digest: catalogue.map(digest),
        })
    });
    Ok(Json(view.await?))
}

fn parts(app: &App) -> Result<(&EngineHandle, &Backups), ApiError> {
    app.engine
        .as_ref()
        .zip(app.backups.as_ref())
        .ok_or(ApiError::ReadOnly)
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        match error {
            // The server itself goes on: only this request suffers.
            BackupError::Io { .. } | BackupError::Catalogue(_) => {
                Self::BackupFailed(error.to_string())
            }
            other => Self::Internal(other.to_string()),
        }
    }
}
