//! Settings of a server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use journal::{JournalConfig, SyncMode};
use rustci_scheduler::SchedulerConfig;
use telemetry::notify::Notifier;
use telemetry::otlp::OtlpConfig;
use valkyrie::Endpoint;
use valkyrie_store::{HybridStore, Limit};

use crate::content::ContentConfig;
use crate::limits::SNAPSHOT_RECORDS;
use crate::pipelines::CronClock;
use crate::secrets::SecretsSource;

/// Settings of a [`Server`](crate::Server). All values are valid by their types.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where everything durable lies; made when missing, mode 0700.
    pub data_dir: PathBuf,
    /// Where HTTP is served; nowhere when `None`, and the router still works in process. Port 0
    /// takes a free one.
    pub http: Option<SocketAddr>,
    /// Where runners connect. Plaintext, so Unix sockets, loopback and memory only.
    pub valkyrie: Vec<Endpoint>,
    /// When a record counts as durable. Default [`SyncMode::Group`].
    pub sync: SyncMode,
    /// Leases and patience. Default: a lease of 15 s.
    pub scheduler: SchedulerConfig,
    /// Where secret values come from. Default: none.
    pub secrets: SecretsSource,
    /// Where traces of finished runs are sent. Default: nowhere.
    pub traces: Option<OtlpConfig>,
    /// Who is told of runs that fail and runners that are lost. Default: nobody.
    pub notifier: Option<Notifier>,
    /// A file with the key of the secrets store, which the server only reads. Default: none, the
    /// server makes a key in the data directory when the first secret is set.
    pub secrets_key: Option<PathBuf>,
    /// How much of artifacts and caches is kept, and for how long.
    pub content: ContentConfig,
    /// Where jobs find the API. Default: the address of `http`, with the loopback address in the
    /// place of an unspecified one.
    pub public_url: Option<String>,
    /// The clock of schedules; registered pipelines run at their times by it. Default: none, they
    /// never run by themselves.
    pub schedules: Option<CronClock>,
    /// How long runs are kept after their end, with their logs. Default: for ever.
    pub keep_runs: Option<Duration>,
    /// How often an IPv4 address, or the 64 bits that name an IPv6 network, may ask the API. Default:
    /// without a limit.
    pub api_limit: Option<Limit>,
    /// Where requests are counted, and what servers that name the same one share: the counts, the
    /// keys of requests, and which runners live. Default: counts in memory, nothing is shared.
    pub store: Option<HybridStore>,
    /// A snapshot after so many records. Default 200,000: a restart then reads at most some tens
    /// of megabytes.
    pub snapshot_records: u64,
}

impl ServerConfig {
    /// Defaults over a data directory: no HTTP socket, no endpoint for runners.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            http: None,
            valkyrie: Vec::new(),
            sync: SyncMode::default(),
            scheduler: SchedulerConfig::default(),
            secrets: SecretsSource::default(),
            traces: None,
            notifier: None,
            secrets_key: None,
            content: ContentConfig::default(),
            public_url: None,
            schedules: None,
            keep_runs: None,
            api_limit: None,
            store: None,
            snapshot_records: SNAPSHOT_RECORDS,
        }
    }

    pub(crate) fn journal(&self) -> JournalConfig {
        JournalConfig {
            mode: self.sync,
            ..JournalConfig::default()
        }
    }
}
