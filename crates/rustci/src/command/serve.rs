//! `rustci serve`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use rustci_server::content::ContentConfig;
use rustci_server::pipelines::CronClock;
use rustci_server::token::TOKEN_FILE;
use rustci_server::{SchedulerConfig, Server, ServerConfig, StartError};
use serde_json::json;
use telemetry::logging::{LogFormat, init};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;
use valkyrie::Endpoint;
use valkyrie_store::credentials::{Environment, Secret, SecretSource};
use valkyrie_store::{
    HybridConfig, HybridStore, MemoryStore, MigratingStore, MigrationConfig, RedisConfig,
    SecretString, Store, StoreError,
};

use super::notify;
use super::runner::endpoint;
use crate::args::store::StoreArgs;
use crate::args::{ServeArgs, SyncMode};
use crate::dirs;
use crate::engine::secrets;
use crate::engine::traces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::summary::shell_word;
use crate::signals::Signals;

/// The unit of `--keep-runs`.
const DAY: Duration = Duration::from_secs(86_400);

/// Where runners connect unless told otherwise, beside the socket in the data directory.
const DEFAULT_ENDPOINT: &str = "valkyrie+tcp://127.0.0.1:7443";

/// How long the end waits for the last notifications.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a store may take.
const STORE_PATIENCE: Duration = Duration::from_millis(200);

/// Runs a server until a signal ends it.
///
/// # Errors
/// Wrong arguments, or what keeps the server from starting.
pub(crate) async fn serve(args: &ServeArgs, out: &mut Output) -> Result<Exit, Failure> {
    let format = match out.format() {
        Format::Json => LogFormat::Json,
        Format::Text => LogFormat::Text,
    };
    init(format, LevelFilter::INFO).map_err(|error| Failure::engine("cannot log", error))?;
    let mut signals = Signals::listen()?;
    let data = dirs::server_data(args.data_dir.as_deref());
    let manager = args.notify.as_deref().map(notify::manager).transpose()?;
    let mut config = config(args, &data)?;
    if let Some(manager) = &manager {
        config.notifier = Some(manager.notifier());
        if let Some(store) = &config.store {
            store.notify(&manager.notifier());
        }
    }
    let reload = args.limits.store_password_file.as_ref();
    let reload = reload.and(config.store.clone());
    let mut hangup = reload.is_some().then(hangups).transpose()?;
    let server = Server::start(config).map_err(not_started)?;
    announce(&server, &data, args, out)?;
    while let Next::Reload = next(&mut signals, hangup.as_mut()).await {
        if let Some(store) = &reload {
            reload_credentials(store).await;
        }
    }
    server.shutdown();
    if let Some(manager) = manager {
        manager.close(FAREWELL).await;
    }
    Ok(Exit::Success)
}

/// What a signal asks for.
enum Next {
    Reload,
    End,
}

/// The signal that asks to read the password of the stores again. It ends a server that has none.
fn hangups() -> Result<Signal, Failure> {
    signal(SignalKind::hangup()).map_err(Failure::io("listen for signals"))
}

async fn next(signals: &mut Signals, hangup: Option<&mut Signal>) -> Next {
    let Some(hangup) = hangup else {
        signals.next().await;
        return Next::End;
    };
    tokio::select! {
        () = signals.next() => Next::End,
        _ = hangup.recv() => Next::Reload,
    }
}

async fn reload_credentials(store: &HybridStore) {
    match store.reload_credentials().await {
        Ok(stores) => tracing::info!(?stores, "passwords of stores are read again"),
        Err(error) => tracing::error!(%error, "passwords of stores stay as they are"),
    }
}

fn config(args: &ServeArgs, data: &Path) -> Result<ServerConfig, Failure> {
    if args.lease.is_zero() {
        return Err(Failure::Usage {
            message: "--lease is 0, so every job would be taken from its runner at once".to_owned(),
            hint: "15s is the default; tests use 1s".to_owned(),
        });
    }
    Ok(ServerConfig {
        http: Some(address(&args.http)?),
        valkyrie: endpoints(args, data)?,
        sync: match args.sync {
            SyncMode::Always => rustci_server::SyncMode::Always,
            SyncMode::Group => rustci_server::SyncMode::Group,
            SyncMode::Os => rustci_server::SyncMode::Os,
        },
        scheduler: SchedulerConfig {
            lease: args.lease,
            requeues_max: args.requeues,
            ..SchedulerConfig::default()
        },
        secrets: secrets(args.secrets_file.clone())?,
        traces: traces()?,
        public_url: args.public_url.clone(),
        keep_runs: args.keep_runs.map(|days| DAY * days),
        content: ContentConfig {
            artifact_bytes_max: args.artifact_max,
            cache_bytes_max: args.cache_max,
            ..ContentConfig::default()
        },
        secrets_key: dirs::secrets_key(args.secrets_key_file.as_deref()),
        schedules: Some(CronClock::default()),
        api_limit: args.limits.api_rate.0,
        store: stores(&args.limits)?,
        ..ServerConfig::new(data.to_owned())
    })
}

/// The stores that are named, and after them memory.
fn stores(args: &StoreArgs) -> Result<Option<HybridStore>, Failure> {
    if args.store.is_empty() {
        return Ok(None);
    }
    let usage = |error: StoreError| Failure::Usage {
        message: format!("--store {error}"),
        hint: "write redis://HOST:PORT, valkey://HOST:PORT, yggdrasil://HOST:PORT or \
               valkyrie+unix:///PATH"
            .to_owned(),
    };
    let password_from = args.store_password_file.as_deref().map(password_file);
    let password = password_from.as_ref().map(password).transpose()?;
    let store = |url: &String, number: usize| {
        let kind = url.split("://").next().unwrap_or_default();
        let config = RedisConfig {
            // Short and without an address, since it is a label of metrics.
            name: format!("{kind}-{number}"),
            url: url.clone(),
            username: args.store_user.clone(),
            password: password.clone(),
            password_from: password_from.clone(),
            // Nobody waits longer for an answer of the API because of a store.
            connect_timeout: STORE_PATIENCE,
            timeout: STORE_PATIENCE,
            ..RedisConfig::default()
        };
        Store::open(&config).map_err(usage)
    };
    let named = args.store.iter().zip(1..);
    let mut stores: Vec<Store> = named
        .map(|(url, number)| store(url, number))
        .collect::<Result<_, _>>()?;
    if let (Some(url), Some(first)) = (&args.store_migrate_to, stores.first_mut()) {
        let config = MigrationConfig {
            patience: STORE_PATIENCE,
            hold_max: STORE_PATIENCE,
            ..MigrationConfig::default()
        };
        let new = store(url, args.store.len() + 1)?;
        *first = MigratingStore::new(first.clone(), new, config)
            .map_err(usage)?
            .into();
    }
    stores.push(MemoryStore::new().into());
    let chain = HybridStore::of(stores, HybridConfig::default()).map_err(usage)?;
    Ok(Some(chain))
}

/// The password in a file that nobody else can read.
pub(crate) fn password_file(path: &Path) -> Secret {
    Secret::new(SecretSource::File(path.to_owned()), Environment::process())
}

/// Reads a password.
pub(crate) fn password(secret: &Secret) -> Result<SecretString, Failure> {
    secret.read().map_err(|error| Failure::Usage {
        message: error.to_string(),
        hint: "write the password into a file with mode 600".to_owned(),
    })
}

fn endpoints(args: &ServeArgs, data: &Path) -> Result<Vec<Endpoint>, Failure> {
    if !args.valkyrie.is_empty() {
        return args.valkyrie.iter().map(|text| endpoint(text)).collect();
    }
    let socket = Endpoint::Unix {
        path: data.join("rustci.sock"),
    };
    Ok(vec![endpoint(DEFAULT_ENDPOINT)?, socket])
}

fn address(text: &str) -> Result<SocketAddr, Failure> {
    let found = text
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next());
    found.ok_or_else(|| Failure::Usage {
        message: format!("--http {text} is not an address"),
        hint: "write host:port, such as 127.0.0.1:8000".to_owned(),
    })
}

/// Why a server did not start, as a failure of the command.
pub(crate) fn not_started(error: StartError) -> Failure {
    match error {
        StartError::Lock(error) => Failure::Usage {
            message: error.to_string(),
            hint: "a data directory belongs to one server at a time".to_owned(),
        },
        other => Failure::engine("cannot start the server", other),
    }
}

fn announce(
    server: &Server,
    data: &Path,
    args: &ServeArgs,
    out: &mut Output,
) -> Result<(), Failure> {
    let url = server
        .http_address()
        .map(|at| format!("http://{at}"))
        .unwrap_or_default();
    let endpoints: Vec<String> = server.endpoints().iter().map(Endpoint::to_string).collect();
    let token = data.join(TOKEN_FILE);
    if out.format() == Format::Json {
        return out.json(&json!({
            "http": url, "valkyrie": endpoints, "data_dir": data, "token_file": token,
        }));
    }
    let look = out.look();
    let row = |what: &str, value: &str| {
        format!("  {}  {value}\n", look.colour.dim(&format!("{what:<12}")))
    };
    let first = endpoints.first().map_or("", String::as_str);
    // The default data directory is where clients look for the token by themselves.
    let token_option = match args.data_dir {
        Some(_) => format!(" --data-dir {}", shell_word(&data.to_string_lossy())),
        None => String::new(),
    };
    let mut text = format!("RustCI {} is ready\n", env!("CARGO_PKG_VERSION"));
    text.push_str(&row("http", &url));
    for (at, endpoint) in endpoints.iter().enumerate() {
        text.push_str(&row(if at == 0 { "runners" } else { "" }, endpoint));
    }
    text.push_str(&row("data", &dirs::tilde(data)));
    text.push_str(&row("token", &dirs::tilde(&token)));
    text.push('\n');
    text.push_str(&row(
        "add a runner",
        &format!("rustci runner --connect {first}"),
    ));
    text.push_str(&row(
        "run",
        &format!("rustci run --server {url}{token_option}"),
    ));
    text.push_str(&row(
        "look",
        &format!("rustci runs list --server {url}{token_option}"),
    ));
    text.push_str(&row("stop", "Ctrl-C; runs go on with the next start"));
    text.push('\n');
    out.text(&text)
}
