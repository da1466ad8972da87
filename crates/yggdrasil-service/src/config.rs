//! How a server is set up.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use yggdrasil::{KeyspaceConfig, Pattern, Policy};

use crate::cluster::ClusterConfig;
use crate::persist::PersistConfig;
use crate::sources::SourceLimit;
use crate::tls::TlsConfig;

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where TCP clients come to. Default: 127.0.0.1:7777. Port 0 is any free one.
    pub listen: Vec<SocketAddr>,
    /// Where clients come to with TLS, besides. Default: nowhere.
    pub tls: Option<TlsConfig>,
    /// Where Unix socket clients come to. Default: nowhere. A socket that is left of an earlier life
    /// is replaced.
    pub unix: Option<PathBuf>,
    /// Threads that serve, 1 to 1024. Default: one a core.
    pub threads: usize,
    /// Where they run. Default: where the system likes.
    pub placement: Placement,
    /// What clients have to say before anything else. Default: none is needed, and then only
    /// addresses of this machine may be listened on.
    pub password: Option<Secret>,
    /// A file of users: lines of `user`, a name and rules as those of `ACL SETUSER`. Default: none, and
    /// then everyone is the user `default`, who may do everything after the password. Where the file
    /// has a line for `default`, there must be no password besides.
    pub users: Option<PathBuf>,
    /// Whether a server without a password may listen on other addresses all the same. Default: no.
    pub unprotected: bool,
    /// Clients at the same time. Default: 10,000.
    pub clients_max: usize,
    /// Token buckets that are not full at the same time; each takes 24 bytes. Default: 1,000,000.
    pub buckets: usize,
    /// Keys and values.
    pub keyspace: KeyspaceConfig,
    /// Longest argument in bytes. Default: 1 MiB.
    pub value_bytes_max: usize,
    /// Commands that take longer are kept in the slow log. Default: 10 ms.
    pub slow: Duration,
    /// Messages that a client may leave untaken, in bytes; then its connection ends. Default: 32 MiB.
    pub pushed_bytes_max: usize,
    /// What is kept of which keys clients have in their caches, in bytes; where it is full, clients are
    /// told that some of them are not to be believed any more. Default: 128 MiB.
    pub tracking_bytes_max: usize,
    /// Limits that keys have under `YGG.TAKE` from the start on. Default: none. A later one of the same
    /// pattern replaces an earlier one.
    pub policies: Vec<(Pattern, Policy)>,
    /// Where keys are kept. Default: in memory only. Buckets are full again after a start, unless
    /// [`keep_buckets`](PersistConfig::keep_buckets) is set.
    pub persist: Option<PersistConfig>,
    /// How often each source address may come. Default: as often as it likes.
    pub sources: SourceLimit,
    /// The cluster that the server belongs to. Default: none.
    pub cluster: Option<ClusterConfig>,
    /// Where Valkyrie clients come to. Default: nowhere.
    #[cfg(feature = "valkyrie")]
    pub valkyrie: Vec<ValkyrieListen>,
}

/// Where Valkyrie clients come to; a thread serves them.
///
/// Over Unix sockets and shared memory only this user and root are let in, and TCP is for addresses of
/// this machine. Where there is a [password](ServerConfig::password), connections have to say it first.
#[cfg(feature = "valkyrie")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValkyrieListen {
    /// The address. A socket that is left of an earlier life is replaced.
    pub endpoint: valkyrie::Endpoint,
    /// What the thread does when nothing is to be done.
    pub idle: valkyrie::Idle,
}

impl ServerConfig {
    /// Threads that count what they do.
    pub(crate) const fn counting(&self) -> usize {
        #[cfg(feature = "valkyrie")]
        return self.threads + self.valkyrie.len();
        #[cfg(not(feature = "valkyrie"))]
        return self.threads;
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 7777))],
            tls: None,
            unix: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            placement: Placement::default(),
            password: None,
            users: None,
            unprotected: false,
            clients_max: 10_000,
            buckets: 1_000_000,
            keyspace: KeyspaceConfig::default(),
            value_bytes_max: 1 << 20,
            slow: Duration::from_millis(10),
            pushed_bytes_max: 32 << 20,
            tracking_bytes_max: 128 << 20,
            policies: Vec::new(),
            persist: None,
            sources: SourceLimit::None,
            cluster: None,
            #[cfg(feature = "valkyrie")]
            valkyrie: Vec::new(),
        }
    }
}

/// Where threads run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// Where the system likes.
    #[default]
    Anywhere,
    /// Each on one processor, as many on each NUMA node as on the others.
    Pinned,
}

/// A password. Only its digest is kept, and it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Of these bytes.
    #[must_use]
    pub fn new(password: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        Self(Sha256::digest(password).into())
    }

    pub(crate) const fn digest(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it is these bytes; takes the same time for all that are not.
    #[must_use]
    pub fn is(&self, password: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        Self::new(password).0.ct_eq(&self.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
