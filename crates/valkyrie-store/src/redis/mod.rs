//! Redis, Valkey and Yggdrasil over the network.

mod connection;
mod encoded;
mod link;
mod login;
mod many;
mod ops;
mod password;
mod scripts;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo,
    TlsCertificates,
};
use secrecy::{ExposeSecret, SecretString};
use yggdrasil::Limit;

use crate::adapter::USUAL_LIMIT;
use crate::codec::{Codec, CodecConfig};
use crate::credentials::Secret;
use crate::error::StoreError;
use connection::Maker;
use link::Links;
use login::Login;

/// How a server is reached.
#[derive(Clone)]
pub struct RedisConfig {
    /// What the store is called in errors, logs and metrics. Default: `redis`.
    pub name: String,
    /// `redis://`, `valkey://` or `yggdrasil://` with host and port, or `redis+unix:///path`.
    pub url: String,
    /// The user; without one it is the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// Where the password is read again when the server refuses it or
    /// [`reload_credentials`](RedisStore::reload_credentials) asks, and in the beginning where
    /// `password` is `None`.
    pub password_from: Option<Secret>,
    /// One server, or a cluster that the server of the URL belongs to. Default: one.
    pub topology: Topology,
    /// How TLS is spoken. Default: not at all.
    pub tls: Option<TlsConfig>,
    /// Connections, each for many operations at once, 1 to 64. Default: 2.
    pub connections: usize,
    /// How often a connection that cannot be made is tried again within an operation, 0 to 10, with
    /// pauses that double from 10 ms on, each shortened by chance. Retries are at most a tenth of
    /// operations. Default: 0.
    pub retries: u32,
    /// Time to connect. Default: 1 s.
    pub connect_timeout: Duration,
    /// Time for an answer. Default: 1 s.
    pub timeout: Duration,
    /// How values are compressed and encrypted. Default: not at all, and encoded ones are given as
    /// they are.
    pub codec: Option<CodecConfig>,
    /// The limit of [`try_consume`](crate::StoreAdapter::try_consume).
    pub usual_limit: Limit,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            name: "redis".to_owned(),
            url: "redis://127.0.0.1:6379".to_owned(),
            username: None,
            password: None,
            password_from: None,
            topology: Topology::Single,
            tls: None,
            connections: 2,
            retries: 0,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            codec: None,
            usual_limit: USUAL_LIMIT,
        }
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("name", &self.name)
            .field("username", &self.username)
            .field("connections", &self.connections)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What stands behind a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Topology {
    /// One server.
    #[default]
    Single,
    /// Servers among which keys are spread. They are found through the one that is named.
    Cluster,
}

/// Who is trusted, and who this side is.
#[derive(Clone, Default)]
pub struct TlsConfig {
    /// Certificates in PEM that sign those of servers. Default: those of the system.
    pub authorities: Option<Vec<u8>>,
    /// Certificate and key in PEM that this side shows. Default: none.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}

impl TlsConfig {
    fn certificates(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: self.identity.as_ref().map(|(cert, key)| ClientTlsConfig {
                client_cert: cert.clone(),
                client_key: key.clone(),
            }),
            root_cert: self.authorities.clone(),
        }
    }
}

/// What a server is, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
    /// Yggdrasil, which does by itself what the others need scripts for.
    Yggdrasil,
}

/// A store over the network. Clones share its connections.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>, Option<Arc<Codec>>);

struct Inner {
    name: String,
    /// Host and port, or the path of a socket.
    address: String,
    links: Links,
    usual_limit: Limit,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store that connects when it is first asked for something.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where the URL is none, or the password cannot be read.
    pub fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let wrong = |cause: String| StoreError::Config(format!("{}: {cause}", config.name));
        if !(1..=64).contains(&config.connections) {
            let count = config.connections;
            return Err(wrong(format!("{count} connections; set 1 to 64")));
        }
        let login = Login::new(config.clone()).map_err(wrong)?;
        let info = connection_info(config, None, None).map_err(wrong)?;
        let codec = config.codec.clone().map(Codec::new).transpose();
        let codec = codec.map_err(|error| wrong(error.to_string()))?;
        let inner = Arc::new(Inner {
            name: config.name.clone(),
            address: info.addr().to_string(),
            links: Links::new(login, config),
            usual_limit: config.usual_limit,
        });
        Ok(Self(inner, codec.map(Arc::new)))
    }

    /// The same store without its codec: it gives and takes values as the server has them.
    pub(crate) fn as_stored(&self) -> Self {
        Self(Arc::clone(&self.0), None)
    }

    /// The host of the URL.
    fn host(&self) -> &str {
        let address = &self.0.address;
        address.rsplit_once(':').map_or(address, |(host, _)| host)
    }

    /// What the server says it is.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn flavor(&self) -> Result<Flavor, StoreError> {
        Ok(self.link().await?.flavor)
    }
}

fn maker(config: &RedisConfig, info: &ConnectionInfo) -> Result<Maker, redis::RedisError> {
    let certificates = config.tls.as_ref().map(TlsConfig::certificates);
    if config.topology == Topology::Cluster {
        let mut builder = ClusterClient::builder([info.clone()])
            .connection_timeout(config.connect_timeout)
            .response_timeout(config.timeout)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .retries(3);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        return Ok(Maker::Cluster(builder.build()?));
    }
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(Some(config.timeout));
    let client = match certificates {
        None => Client::open(info.clone())?,
        Some(certificates) => Client::build_with_tls(info.clone(), certificates)?,
    };
    Ok(Maker::Single(client, settings))
}

fn connection_info(
    config: &RedisConfig,
    username: Option<&str>,
    password: Option<&SecretString>,
) -> Result<ConnectionInfo, String> {
    let (scheme, rest) = config
        .url
        .split_once("://")
        .ok_or_else(|| format!("'{}' is no URL; write redis://HOST:PORT", config.url))?;
    let url = match scheme {
        "redis+unix" => config.url.clone(),
        "redis" | "valkey" | "yggdrasil" => match config.tls {
            None => format!("redis://{rest}"),
            Some(_) => format!("rediss://{rest}"),
        },
        other => {
            return Err(format!(
                "the scheme '{other}' is unknown; it is redis, valkey, yggdrasil or redis+unix"
            ));
        }
    };
    if rest
        .split('/')
        .next()
        .is_some_and(|host| host.contains('@'))
    {
        return Err("a password does not belong into a URL; set it by itself".to_owned());
    }
    let info = url
        .as_str()
        .into_connection_info()
        .map_err(|error| error.to_string())?;
    let mut settings = info.redis_settings().clone();
    if let Some(username) = username {
        settings = settings.set_username(username);
    }
    if let Some(password) = password {
        settings = settings.set_password(password.expose_secret());
    }
    // Without it, answers wait for each other (redis-rs/redis-rs#2195).
    let tcp = TcpSettings::default().set_nodelay(true);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
}
