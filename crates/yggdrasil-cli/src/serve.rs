//! `yggdrasil serve`.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use telemetry::logging::{LogFormat, init};
use tracing::level_filters::LevelFilter;
use yggdrasil::{Eviction, KeyspaceConfig};
use yggdrasil_service::{PersistConfig, Placement, Secret, Server, ServerConfig, Sync, TlsConfig};

use crate::args::{EvictionArg, ServeArgs, SyncArg};
use crate::cluster;
use crate::failure::Failure;
use crate::flood::Flood;
use crate::output::{self, print};
use crate::policies;

pub(crate) fn serve(args: &ServeArgs) -> Result<(), Failure> {
    init(LogFormat::Text, LevelFilter::INFO)?;
    let config = config(args)?;
    let listen = |error| Failure::System {
        what: "listen for signals",
        error,
    };
    // Before anyone can know that there is a server to end.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(listen)?;
    let listen = [&*args.listen, &args.tls_listen].concat();
    let flood = Flood::limit(&args.flood, &listen)?;
    let server = Server::start(ServerConfig {
        sources: flood.sources.clone(),
        ..config
    })?;
    let addresses = [server.addresses(), server.tls_addresses()].concat();
    let greeting = greeting(&server, args) + &flood.started(&args.flood, &addresses)?;
    print(greeting.as_bytes())?;
    for signal in signals.forever() {
        if signal != SIGHUP {
            break;
        }
        match server.reload_tls() {
            Ok(()) => tracing::info!("certificates were read again"),
            Err(error) => tracing::error!(%error, "certificates stay as they were"),
        }
    }
    server.stop();
    print(b"stopped\n")
}

fn config(args: &ServeArgs) -> Result<ServerConfig, Failure> {
    let default = ServerConfig::default();
    let password = args
        .password_file
        .as_deref()
        .map(output::password)
        .transpose()?;
    let policies = args.policies.as_deref().map(policies::read).transpose()?;
    Ok(ServerConfig {
        listen: args.listen.clone(),
        tls: tls(args),
        unix: args.unix.clone(),
        threads: args.threads.unwrap_or(default.threads),
        placement: match args.pin {
            true => Placement::Pinned,
            false => Placement::Anywhere,
        },
        password: password.as_deref().map(Secret::new),
        users: args.users.clone(),
        unprotected: args.unprotected,
        clients_max: args.max_clients,
        buckets: args.buckets,
        keyspace: KeyspaceConfig {
            memory_bytes_max: args.max_memory.unwrap_or(0),
            eviction: match args.evict {
                EvictionArg::Never => Eviction::Never,
                EvictionArg::AnyKey => Eviction::AnyKey,
                EvictionArg::WithEnd => Eviction::WithEnd,
            },
            ..KeyspaceConfig::default()
        },
        value_bytes_max: args.max_value,
        slow: args.slow,
        pushed_bytes_max: args.max_pushed,
        tracking_bytes_max: args.max_tracked,
        policies: policies.unwrap_or_default(),
        persist: args.data_dir.clone().map(|directory| PersistConfig {
            sync: match args.sync {
                SyncArg::Always => Sync::Always,
                SyncArg::Group => Sync::Group,
                SyncArg::Os => Sync::Os,
            },
            snapshot_bytes: args.snapshot_after as u64,
            keep_buckets: args.keep_buckets,
            ..PersistConfig::new(directory)
        }),
        cluster: cluster::config(args)?,
        #[cfg(feature = "valkyrie")]
        valkyrie: valkyrie(args),
        ..default
    })
}

fn tls(args: &ServeArgs) -> Option<TlsConfig> {
    Some(TlsConfig {
        listen: args.tls_listen.clone(),
        certificate: args.tls_cert.clone()?,
        key: args.tls_key.clone()?,
        clients: args.tls_clients.clone(),
    })
}

#[cfg(feature = "valkyrie")]
fn valkyrie(args: &ServeArgs) -> Vec<yggdrasil_service::ValkyrieListen> {
    let idle = match args.low_latency {
        true => valkyrie::Idle::LowLatency,
        false => valkyrie::Idle::Park,
    };
    let listen = |endpoint: &valkyrie::Endpoint| yggdrasil_service::ValkyrieListen {
        endpoint: endpoint.clone(),
        idle,
    };
    args.valkyrie.iter().map(listen).collect()
}

fn greeting(server: &Server, args: &ServeArgs) -> String {
    let mut text = String::new();
    for address in server.addresses() {
        text += &format!(
            "listening on {address}    try: redis-cli -h {} -p {} CL.THROTTLE user:7 14 30 60\n",
            address.ip(),
            address.port()
        );
    }
    for address in server.tls_addresses() {
        text += &format!("listening on {address} with TLS\n");
    }
    if let Some(path) = &args.unix {
        text += &format!(
            "listening on {}    try: redis-cli -s {0} ping\n",
            path.display()
        );
    }
    #[cfg(feature = "valkyrie")]
    for endpoint in server.endpoints() {
        text += &format!("listening on {endpoint}\n");
    }
    if let Some(node) = &args.cluster.node {
        let address = server.addresses().first().map(ToString::to_string);
        let address = address.unwrap_or_default();
        text += &format!("node {node} of a cluster    try: yggdrasil cluster show {address}\n");
    }
    text += &match &args.data_dir {
        None => "keys are in memory only; Ctrl-C ends\n".to_owned(),
        Some(directory) => format!("keys are kept in {}; Ctrl-C ends\n", directory.display()),
    };
    text
}
