//! A server and a runner inside this process, the same code as on two machines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustci_pipeline::Executor;
use rustci_runner::{RunnerConfig, RunnerError, Stop};
use rustci_server::catalogue::CatalogueError;
use rustci_server::secrets::{KEY_FILE, KeyPlace, Order, SecretStore, SecretsSource};
use rustci_server::{ReadOnly, Server, ServerConfig};
use telemetry::otlp::OtlpConfig;
use tokio::sync::watch;
use valkyrie::{Endpoint, Shard};

use crate::api::client::Api;
use crate::api::control::{self, ControlServer};
use crate::api::view::RunList;
use crate::failure::Failure;

/// What runners of this program offer; a job gets the native one unless its label asks for another.
pub(crate) const EXECUTORS: [Executor; 2] = [Executor::Native, Executor::Dummy];

/// How long canceled runs of a killed process may take to end, and how often that is looked at.
const SETTLE_WAIT: Duration = Duration::from_secs(20);
const SETTLE_PAUSE: Duration = Duration::from_millis(20);

/// A free port of this machine.
pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What to run with.
#[derive(Debug)]
pub(crate) struct EngineOptions {
    /// The data directory, which no other process uses.
    pub(crate) data: PathBuf,
    /// Where secrets come from, beside the environment; stronger than the store.
    pub(crate) secrets_file: Option<PathBuf>,
    /// Where the secrets of local runs are kept.
    pub(crate) secrets_dir: PathBuf,
    /// Where jobs find the API, when some job is to have a token for it; port 0 is a free one.
    pub(crate) http: Option<SocketAddr>,
    /// Labels of the runner, beside those of the machine.
    pub(crate) labels: Vec<String>,
    /// Where workspaces are kept, if they are.
    pub(crate) keep_workspaces: Option<PathBuf>,
}

/// A running server, its runner, and a client for it.
#[derive(Debug)]
pub(crate) struct Engine {
    api: Api,
    /// None when the socket could not be made: the run itself does not need it.
    control: Option<ControlServer>,
    server: Server,
    runner: Shard<Result<(), RunnerError>>,
    stop: watch::Sender<Stop>,
}

impl Engine {
    /// Starts both. Runs that an earlier process left behind are canceled: whoever waited for them
    /// is gone.
    ///
    /// # Errors
    /// Secrets that cannot be read, or what kept the server or the runner from starting.
    pub(crate) async fn start(options: EngineOptions) -> Result<Self, Failure> {
        // A name of this process: other runs on this machine have their own memory and their own.
        let endpoint = Endpoint::Mem {
            name: format!("local-{}", std::process::id()),
        };
        let config = ServerConfig {
            http: options.http,
            valkyrie: vec![endpoint.clone()],
            traces: traces()?,
            secrets: secrets(options.secrets_file)?.with_store(
                Arc::new(local_store(&options.secrets_dir)?),
                Order::FileFirst,
            ),
            ..ServerConfig::new(options.data.clone())
        };
        let runner_dir = options.data.join("runner");
        if let Err(error) = rustci_runner::reclaim(&runner_dir) {
            tracing::warn!(%error, "what an earlier run left cannot be removed");
        }
        let started = Server::start(config);
        let server = started.map_err(|error| Failure::engine("cannot start the server", error))?;
        let api = Api::in_process(
            server.router(),
            Some(server.token().expose()),
            "the local server",
        );
        cancel_leftovers(&api).await?;
        let control = ControlServer::start(&options.data, server.router());
        if let Err(error) = &control {
            tracing::warn!(%error, "other programs cannot reach this run");
        }
        let mut config = RunnerConfig {
            keep_workspaces: options.keep_workspaces,
            executors: EXECUTORS.to_vec(),
            ..RunnerConfig::new("local", endpoint, runner_dir)
        };
        config.labels.extend(options.labels);
        let (stop, stopped) = watch::channel(Stop::No);
        let runner = Shard::spawn("runner", move || rustci_runner::run(config, stopped));
        let runner = runner.map_err(Failure::io("start the runner"))?;
        Ok(Self {
            api,
            control: control.ok(),
            server,
            runner,
            stop,
        })
    }

    /// The way to the server.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// Ends the runner and then the server; what they still have to do, they do.
    ///
    /// # Errors
    /// What the runner failed with.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        drop(self.control);
        self.stop.send_replace(Stop::Drain);
        let ended = self.runner.join();
        self.server.shutdown();
        let failed = |error: &dyn std::fmt::Display| Failure::engine("the runner failed", error);
        ended
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))
    }

    /// Leaves both as they are. Their threads end with this process, and the job processes when
    /// they see that it is gone.
    pub(crate) fn abandon(self) {
        std::mem::forget(self);
    }
}

/// The secrets of a file and of the environment.
///
/// # Errors
/// [`Failure::Usage`] that names the line, never its content.
pub(crate) fn secrets(file: Option<PathBuf>) -> Result<SecretsSource, Failure> {
    SecretsSource::new(file).map_err(|error| Failure::Usage {
        message: error.to_string(),
        hint: "the file has one NAME=VALUE per line; lines that begin with # are comments"
            .to_owned(),
    })
}

/// Where traces go, from the variables that OpenTelemetry defines.
///
/// # Errors
/// [`Failure::Usage`] that names the variable.
pub(crate) fn traces() -> Result<Option<OtlpConfig>, Failure> {
    let read = OtlpConfig::from_env(|name| std::env::var(name).ok());
    read.map_err(|error| Failure::Usage {
        message: error.to_string(),
        hint: "OTEL_SDK_DISABLED=true switches traces off".to_owned(),
    })
}

/// The secrets of local runs in `dir`.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn local_store(dir: &Path) -> Result<SecretStore, Failure> {
    let key = KeyPlace::Own(dir.join(KEY_FILE));
    SecretStore::open(dir, key).map_err(|error| Failure::engine("cannot open the secrets", error))
}

async fn cancel_leftovers(api: &Api) -> Result<(), Failure> {
    for run in leftovers(api).await? {
        // One that ends meanwhile has nothing left to cancel.
        let _ = api.act(&format!("/api/v1/runs/{run}/cancel")).await;
    }
    Ok(())
}

/// Runs that have not ended.
async fn leftovers(api: &Api) -> Result<Vec<u64>, Failure> {
    let mut left = Vec::new();
    for status in ["queued", "running"] {
        let path = format!("/api/v1/runs?limit=200&status={status}");
        let list: RunList = api.get(&path).await?;
        left.extend(list.runs.iter().map(|run| run.id));
    }
    Ok(left)
}

/// Ends the runs in `data` that a `rustci run` left behind when it was killed, so that nobody waits
/// for them. Does nothing while one goes on there, and when none was killed.
pub(crate) async fn settle(data: &Path, secrets_dir: &Path) {
    if !control::is_left_behind(data).await {
        return;
    }
    let options = EngineOptions {
        data: data.to_owned(),
        secrets_file: None,
        secrets_dir: secrets_dir.to_owned(),
        http: None,
        labels: Vec::new(),
        keep_workspaces: None,
    };
    let settled = async {
        let engine = Engine::start(options).await?;
        // The runner says at once that it does not have their jobs any more.
        let deadline = tokio::time::Instant::now() + SETTLE_WAIT;
        while !leftovers(engine.api()).await?.is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
        engine.stop()
    };
    if let Err(error) = settled.await {
        // The next `rustci run` there does it, or says what is wrong.
        tracing::warn!(%error, "what a killed run left behind could not be ended");
    }
}

/// A client for the data of `dir`, which another process may be using, and what has to live as long
/// as the client.
///
/// # Errors
/// [`Failure::NoRuns`] when nothing was ever run there.
pub(crate) fn read_only(dir: &Path) -> Result<(Api, ReadOnly), Failure> {
    let data = ReadOnly::open(dir).map_err(|error| match error {
        CatalogueError::Missing { .. } => Failure::NoRuns {
            place: format!("in {}", dir.display()),
            server: String::new(),
        },
        other => Failure::engine("cannot read the data directory", other),
    })?;
    let api = Api::in_process(data.router(), None, dir.display().to_string());
    Ok((api, data))
}
