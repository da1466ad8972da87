//! A running server: its threads, wired together.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use journal::{FileJournal, JournalError, Recovered};
use telemetry::Metrics;
use telemetry::notify::Notifier;
use telemetry::otlp::{Exporter, OtlpConfig, SpanQueue};
use tokio::sync::{mpsc, oneshot, watch};
use valkyrie::{Endpoint, LinkConfig, ListenError, Meter, Receivers, Role, SessionConfig, Shard};
use valkyrie_store::{HybridConfig, HybridStore, Limit, MemoryStore, StoreError};

use crate::alerts::Alerts;
use crate::api::{self, App, Backups};
use crate::blobs::{BlobError, Blobs};
use crate::catalogue::{Catalogue, CatalogueError, CatalogueThread};
use crate::config::ServerConfig;
use crate::content::{Content, Sweeper};
use crate::engine::{self, Engine, EngineConfig, EngineHandle, RecoverError, RequestKey};
use crate::health::HealthCell;
use crate::http::{BoundHttp, HttpError, HttpServer};
use crate::job_token::JobTokens;
use crate::limits::HISTORY_JOBS_MAX;
use crate::lock::{DataLock, LockError};
use crate::logs::{LogFollower, LogStore};
use crate::paths::Layout;
use crate::pipelines::{CronClock, CronThread, Schedules};
use crate::presence::Presence;
use crate::retention::{self, Retention};
use crate::secrets::{KeyPlace, SecretStore, SecretsError, SecretsSource};
use crate::shared::{ServerIdentity, Shared};
use crate::token::{ApiToken, TokenError};
use crate::traces::{self, EndedRuns, Tracer};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory cannot be made or used.
    #[error("data directory {} cannot be used: {source}", dir.display())]
    DataDir {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no usable token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The secrets store cannot be opened.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal cannot be taken up.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The catalogue cannot be opened.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The blob store cannot be opened.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// A runner endpoint cannot be served.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The HTTP address cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Requests cannot be counted.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no thread.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
    /// The shard ended before it was ready. A bug; its panic was reported.
    #[error("the engine ended while it was starting")]
    Ended,
}

/// A running server. Dropping it shuts it down, which takes up to some seconds.
///
/// Fields are dropped from top to bottom: who hands work on before who takes it.
#[derive(Debug)]
pub struct Server {
    _presence: Option<Presence>,
    http: Option<HttpServer>,
    _sweeper: Sweeper,
    _schedules: Option<CronThread>,
    _retention: Option<Retention>,
    shard: EngineShard,
    _tracer: Option<Tracer>,
    _logs: LogStore,
    _catalogue: CatalogueThread,
    app: App,
    token: ApiToken,
    _lock: DataLock,
}

/// The thread of the engine.
#[derive(Debug)]
struct EngineShard {
    thread: Option<Shard<()>>,
    stop: watch::Sender<bool>,
    started: Started,
}

/// What the shard tells when it is ready.
#[derive(Debug)]
struct Started {
    handle: EngineHandle,
    endpoints: Vec<Endpoint>,
}

impl Server {
    /// Starts a server over its data directory: every run goes on where it was.
    ///
    /// Returns when requests and runners are taken. Blocks for the time it takes to read the
    /// journal.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(config: ServerConfig) -> Result<Self, StartError> {
        let dir = config.data_dir.clone();
        let layout = Layout(&dir);
        make_dir(&dir)?;
        let lock = DataLock::take(&dir)?;
        let token = ApiToken::load_or_create(&dir)?;
        let blobs = Arc::new(Blobs::open(&layout.blobs())?);
        let content = Content::open(&layout.content(), config.content)?;
        let secrets = with_store(config.secrets.clone(), layout, config.secrets_key.clone())?;
        let metrics = Metrics::new();
        let (journal, recovered) = FileJournal::open(layout.journal(), config.journal())?;
        let health = HealthCell::default();
        let (catalogue, applied) = open_catalogue(&layout.catalogue(), recovered.last().get())?;
        let (history, requests) = known(&catalogue)?;
        let catalogue = catalogue.with_blobs(Arc::clone(&content.blobs));
        let (ended, ended_runs) = traces::channel(metrics.rustci.clone());
        let telling = config.traces.is_some().then_some(ended);
        let catalogue = catalogue_thread(catalogue, &health, telling, config.notifier)?;
        let traces = config.traces.clone();
        let tracer = tracer(config.traces, ended_runs, &catalogue, &metrics)?;
        let logs = open_logs(&layout.logs(), &metrics)?;
        let (http, job_tokens, url) = bind_http(config.http, config.public_url, &token)?;
        let shared = shared(config.store, config.api_limit, &token, url)?;
        let engine = EngineConfig {
            scheduler: config.scheduler,
            secrets: secrets.clone(),
            logs: Some(logs.logs()),
            blobs: Some(Arc::clone(&blobs)),
            requests,
            content: Some(content.clone()),
            queries: Some(catalogue.queries()),
            updates: Some(catalogue.updates()),
            metrics: metrics.clone(),
            health: health.clone(),
            history,
            job_tokens: Some(job_tokens.clone()),
            snapshot_records: config.snapshot_records,
        };
        let shard =
            EngineShard::start(config.valkyrie, engine, journal, recovered, applied, traces)?;
        let (schedules, cron) = schedules(config.schedules, &shard)?;
        let app = App {
            token: Some(token.clone()),
            job_tokens: Some(job_tokens),
            engine: Some(shard.started.handle.clone()),
            queries: catalogue.queries(),
            logs: LogFollower::Store(logs.logs()),
            blobs,
            content,
            secrets: secrets.store,
            backups: Some(Backups::of(dir)),
            schedules,
            health,
            metrics,
            api_limit: config.api_limit,
            shared,
        };
        Ok(Self {
            _presence: presence(&app)?,
            _sweeper: sweeper(&app, shard.started.handle.clone())?,
            http: serve(http, &app)?,
            _schedules: cron,
            _retention: retention(config.keep_runs, &app, Layout(&config.data_dir).logs())?,
            shard,
            _tracer: tracer,
            _logs: logs,
            _catalogue: catalogue,
            app,
            token,
            _lock: lock,
        })
    }

    /// The API, for calling it in process. Requests need the token as over the network.
    pub fn router(&self) -> Router {
        api::router(self.app.clone())
    }

    /// The token that requests need.
    #[must_use]
    pub fn token(&self) -> &ApiToken {
        &self.token
    }

    /// Where HTTP is served, if it is.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpServer::address)
    }

    /// Where runners connect, with the ports that the system chose.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.shard.started.endpoints
    }

    /// Ends the server: connections are closed, everything acknowledged is on disk. Running jobs
    /// stay with their runners, who come back to the next server. Blocks for at most some seconds.
    pub fn shutdown(self) {
        drop(self);
    }
}

/// Starts the catalogue's thread, which tells those who want to know what changed.
fn catalogue_thread(
    catalogue: Catalogue,
    health: &HealthCell,
    ended: Option<EndedRuns>,
    notifier: Option<Notifier>,
) -> Result<CatalogueThread, CatalogueError> {
    let alerts = notifier.map(Alerts::new);
    CatalogueThread::start_telling(catalogue, health.clone(), ended, alerts)
}

/// Sends traces, when there is somewhere to send them.
fn tracer(
    to: Option<OtlpConfig>,
    ended: mpsc::Receiver<u64>,
    catalogue: &CatalogueThread,
    metrics: &Metrics,
) -> Result<Option<Tracer>, StartError> {
    let start = |to| Tracer::start(to, ended, catalogue.queries(), metrics.rustci.clone());
    to.map(start).transpose().map_err(StartError::Thread)
}

/// Serves the API where it was bound, if anywhere.
fn serve(http: Option<BoundHttp>, app: &App) -> Result<Option<HttpServer>, HttpError> {
    let serve = |bound: BoundHttp| bound.serve(api::router(app.clone()));
    http.map(serve).transpose()
}

/// Takes the address of HTTP, so that jobs can be told where the API is, and makes what signs their
/// tokens.
fn bind_http(
    address: Option<SocketAddr>,
    public_url: Option<String>,
    token: &ApiToken,
) -> Result<(Option<BoundHttp>, JobTokens, Option<String>), HttpError> {
    let http = address.map(BoundHttp::bind).transpose()?;
    let url = public_url.or_else(|| http.as_ref().map(BoundHttp::url));
    Ok((http, JobTokens::new(token, url.clone()), url))
}

/// The store of the server: what it was given, or memory where only requests have to be counted.
fn shared(
    store: Option<HybridStore>,
    limit: Option<Limit>,
    token: &ApiToken,
    url: Option<String>,
) -> Result<Option<Shared>, StoreError> {
    let server = ServerIdentity::new(token, url);
    let memory = || HybridStore::of([MemoryStore::new().into()], HybridConfig::default());
    let store = match (store, limit) {
        (None, Some(_)) => Some(memory()?),
        (store, _) => store,
    };
    Ok(store.map(|store| Shared { store, server }))
}

fn open_logs(dir: &Path, metrics: &Metrics) -> Result<LogStore, StartError> {
    let logs = LogStore::start(dir, metrics.rustci.clone());
    logs.map_err(|source| StartError::DataDir {
        dir: dir.to_owned(),
        source,
    })
}

/// Starts registered pipelines at their times, when there is a clock for that.
fn schedules(
    clock: Option<CronClock>,
    shard: &EngineShard,
) -> Result<(Schedules, Option<CronThread>), StartError> {
    let schedules = Schedules::of(clock.clone());
    let start = |_| CronThread::start(shard.started.handle.clone(), schedules.clone());
    let cron = clock.map(start).transpose().map_err(StartError::Thread)?;
    Ok((schedules, cron))
}

/// Removes old runs, when the server does not keep them for ever.
fn retention(
    keep: Option<Duration>,
    app: &App,
    logs: PathBuf,
) -> Result<Option<Retention>, StartError> {
    let Some((keep, engine)) = keep.zip(app.engine.clone()) else {
        return Ok(None);
    };
    let work = retention::Work {
        keep,
        queries: app.queries.clone(),
        engine,
        logs,
        blobs: Arc::clone(&app.blobs),
    };
    Retention::start(work).map(Some).map_err(StartError::Thread)
}

/// Says which runners live, where other servers can see it.
fn presence(app: &App) -> Result<Option<Presence>, StartError> {
    let shared = app.shared.clone().filter(Shared::is_shared);
    let start = |(shared, engine)| Presence::start(shared, engine);
    let thread = shared.zip(app.engine.clone()).map(start);
    thread.transpose().map_err(StartError::Thread)
}

fn sweeper(app: &App, engine: EngineHandle) -> Result<Sweeper, StartError> {
    let metrics = app.metrics.content.clone();
    let sweeper = Sweeper::start(app.content.clone(), app.queries.clone(), engine, metrics);
    sweeper.map_err(StartError::Thread)
}

impl EngineShard {
    fn start(
        endpoints: Vec<Endpoint>,
        config: EngineConfig,
        journal: FileJournal,
        recovered: Recovered,
        applied: u64,
        traces: Option<OtlpConfig>,
    ) -> Result<Self, StartError> {
        let (stop, stopped) = watch::channel(false);
        let (ready, started) = oneshot::channel();
        let thread = Shard::spawn("engine", move || async move {
            let spans = traces.map(|to| {
                let (queue, receiver) = SpanQueue::new();
                tokio::task::spawn_local(receiver.export(Exporter::new(to)));
                queue
            });
            let links = link_config(&config.metrics, spans);
            let made = prepare(&endpoints, config, journal, &recovered, applied).await;
            drop(recovered);
            match made {
                Ok((engine, listeners, told)) => {
                    for listener in listeners {
                        let serve = valkyrie::serve(listener, links.clone(), engine.handlers());
                        tokio::task::spawn_local(async move {
                            if let Err(error) = serve.await {
                                tracing::error!(%error, "runners can no longer connect here");
                            }
                        });
                    }
                    // The starter waits for this; if it is gone, `stop` is too.
                    let _ = ready.send(Ok(told));
                    engine.run(stopped).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        })
        .map_err(StartError::Thread)?;
        let started = wait(started)?;
        Ok(Self {
            thread: Some(thread),
            stop,
            started,
        })
    }
}

/// Waits for the shard's word. Not `blocking_recv`: the caller may be inside a runtime.
fn wait(started: oneshot::Receiver<Result<Started, StartError>>) -> Result<Started, StartError> {
    let thread = std::thread::scope(|scope| scope.spawn(|| started.blocking_recv()).join());
    match thread {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(StartError::Ended),
    }
}

async fn prepare(
    endpoints: &[Endpoint],
    config: EngineConfig,
    journal: FileJournal,
    recovered: &Recovered,
    applied: u64,
) -> Result<(Engine, Vec<valkyrie::Listener>, Started), StartError> {
    let (engine, handle) = Engine::new(config, Box::new(journal), recovered, applied)?;
    let mut listeners = Vec::new();
    for endpoint in endpoints {
        listeners.push(valkyrie::listen(endpoint).await?);
    }
    let endpoints = listeners
        .iter()
        .map(|listener| listener.endpoint().clone())
        .collect();
    Ok((engine, listeners, Started { handle, endpoints }))
}

/// Where runners connect, and where goes what they tell about themselves.
fn link_config(metrics: &Metrics, spans: Option<SpanQueue>) -> LinkConfig {
    let session = SessionConfig {
        node: "rustci".to_owned(),
        role: Role::CONTROL_PLANE,
        ..SessionConfig::default()
    };
    LinkConfig {
        session,
        meter: Some(Meter::new(&metrics.valkyrie)),
        receivers: Receivers {
            metrics: Some(metrics.peers.clone()),
            spans,
            ..Receivers::default()
        },
        ..LinkConfig::default()
    }
}

impl Drop for EngineShard {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(Err(error)) = self.thread.take().map(Shard::join) {
            tracing::error!(%error, "the engine did not end well");
        }
    }
}

fn make_dir(dir: &Path) -> Result<(), StartError> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(|source| StartError::DataDir {
        dir: dir.to_owned(),
        source,
    })
}

/// The source with the store of this data directory, unless it brought one.
fn with_store(
    mut source: SecretsSource,
    layout: Layout<'_>,
    key: Option<PathBuf>,
) -> Result<SecretsSource, SecretsError> {
    if source.store.is_none() {
        let place = key.map_or_else(|| KeyPlace::Own(layout.secrets_key()), KeyPlace::Given);
        source.store = Some(Arc::new(SecretStore::open(&layout.secrets(), place)?));
    }
    Ok(source)
}

/// What the engine has to know of earlier runs.
fn known(
    catalogue: &Catalogue,
) -> Result<(Vec<engine::JobTook>, Vec<engine::KnownRequest>), CatalogueError> {
    let requests = catalogue.requests_since(RequestKey::oldest_ms())?;
    Ok((catalogue.times(HISTORY_JOBS_MAX)?, requests))
}

/// Opens the catalogue and says how far it is. One that is damaged, or knows of records that the
/// journal does not have, is put aside and made anew.
fn open_catalogue(path: &Path, last: u64) -> Result<(Catalogue, u64), StartError> {
    let opened = Catalogue::open(path).and_then(|catalogue| {
        let applied = catalogue.applied()?;
        Ok((catalogue, applied))
    });
    match opened {
        Ok((catalogue, applied)) if applied <= last => return Ok((catalogue, applied)),
        Ok((_, applied)) => {
            tracing::warn!(
                applied,
                last,
                "the catalogue is ahead of the journal; rebuilding it"
            );
        }
        Err(error) if error.is_damage() => {
            tracing::warn!(%error, "the catalogue is damaged; rebuilding it");
        }
        Err(error) => return Err(error.into()),
    }
    put_aside(path).map_err(|source| StartError::DataDir {
        dir: path.to_owned(),
        source,
    })?;
    Ok((Catalogue::open(path)?, 0))
}

fn put_aside(path: &Path) -> io::Result<()> {
    std::fs::rename(path, path.with_extension("sqlite.damaged"))?;
    for extension in ["sqlite-wal", "sqlite-shm"] {
        match std::fs::remove_file(path.with_extension(extension)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
