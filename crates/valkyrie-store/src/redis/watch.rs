//! Changes of keys, which servers tell over connections of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion,
    PushInfo, PushKind, RedisError, Value, cmd,
};
use tokio::sync::Notify;

use super::connection::{Connection, Node, masters, slots};
use super::link::{Link, is_refused_at_once, words};
use super::login::is_login_refused;
use super::ops::pattern;
use super::{Flavor, RedisStore, TlsConfig, connection_info};
use crate::error::{Applied, StoreError};
use crate::retry::pause;
use crate::watch::{Change, Ends, Queue, Teller, Watch};

/// How often servers are asked whether they are there, still tell changes, and are those of the cluster.
const BEAT: Duration = Duration::from_secs(1);
/// Pauses between tries to connect grow for so many of them, up to 2.5 s.
const GROWS: u32 = 8;
/// The setting of Redis and Valkey that has them tell changes.
const SETTING: &str = "notify-keyspace-events";
/// What of it the operations of a store take, unless it is everything: general commands, strings, sets
/// with an order, ends, and evictions.
const CLASSES: &str = "g$zxe";

type Result<T> = std::result::Result<T, StoreError>;

/// Has one told of changes.
struct Watcher {
    store: RedisStore,
    prefix: Vec<u8>,
    /// What stands before a key in the name of a channel.
    channel: String,
    teller: Teller,
}

/// Connections to all servers that have to tell.
struct Lines {
    lines: Vec<MultiplexedConnection>,
    flavor: Flavor,
    /// The masters of the cluster; none where there is no cluster.
    nodes: Vec<Node>,
    /// Told when a connection ends.
    broken: Arc<Notify>,
}

impl RedisStore {
    /// Has servers tell of all changes from here on.
    pub(super) async fn watch_keys(&self, prefix: &[u8]) -> Result<Watch> {
        let queue = Arc::new(Queue::default());
        let info = connection_info(self.0.links.login.config(), None, None);
        let db = info.map_err(StoreError::Config)?.redis_settings().db();
        let watcher = Watcher {
            store: self.as_stored(),
            prefix: prefix.to_vec(),
            channel: format!("__keyspace@{db}__:"),
            teller: Teller(Arc::clone(&queue)),
        };
        let lines = watcher.connect().await?;
        Ok(Watch::new(queue, Ends::spawn(watcher.run(lines))))
    }

    /// What it means that a server does not do what watching takes.
    fn not_told(&self, error: &RedisError) -> StoreError {
        let (store, cause) = (self.0.name.clone(), words(error));
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension
                if !is_refused_at_once(error) && !is_login_refused(error) =>
            {
                StoreError::Rejected { store, cause }
            }
            _ => StoreError::Unavailable {
                store,
                cause,
                applied: Applied::No,
            },
        }
    }

    /// Whether a server of Redis or Valkey tells changes. Who may not see its settings is told nothing
    /// about that.
    async fn check_setting(&self, line: &mut MultiplexedConnection) -> Result<()> {
        let mut get = cmd("CONFIG");
        get.arg("GET").arg(SETTING);
        let found: std::result::Result<HashMap<String, String>, _> = get.query_async(line).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                return match self.not_told(&error) {
                    StoreError::Rejected { .. } => Ok(()),
                    error => Err(error),
                };
            }
        };
        let Some(flags) = found.get(SETTING).filter(|flags| !is_enough(flags)) else {
            return Ok(());
        };
        let (name, address) = (&self.0.name, &self.0.address);
        Err(StoreError::Config(format!(
            "{name}: {address} does not tell which keys change: its setting {SETTING} is '{flags}'. Set it \
             with: CONFIG SET {SETTING} {flags}KA, and for its next start with this line in its \
             configuration: {SETTING} {flags}KA"
        )))
    }
}

/// Whether a server with this setting tells what a store changes.
fn is_enough(flags: &str) -> bool {
    let has_all = flags.contains('A') || CLASSES.chars().all(|class| flags.contains(class));
    flags.contains('K') && has_all
}

impl Watcher {
    async fn run(self, mut lines: Lines) {
        loop {
            let error = self.until_broken(&mut lines).await;
            drop(lines);
            let (store, queue) = (self.store.0.name.as_str(), &self.teller.0);
            tracing::warn!(store, %error, "changes of keys are not told; asking anew");
            queue.interrupted();
            lines = self.connect_again().await;
            tracing::info!(store, "changes of keys are told again");
            queue.resumed();
        }
    }

    /// Waits until something keeps servers from telling.
    async fn until_broken(&self, lines: &mut Lines) -> StoreError {
        loop {
            let broken = lines.broken.notified();
            if tokio::time::timeout(BEAT, broken).await.is_ok() {
                let (store, address) = (self.store.0.name.clone(), &self.store.0.address);
                return StoreError::Unavailable {
                    store,
                    cause: format!("a connection to {address} that told changes has ended"),
                    applied: Applied::No,
                };
            }
            if let Err(error) = self.beat(lines).await {
                return error;
            }
        }
    }

    /// Asks all servers whether they are there and tell what they should.
    async fn beat(&self, lines: &mut Lines) -> Result<()> {
        let store = &self.store;
        for (index, line) in lines.lines.iter_mut().enumerate() {
            if lines.flavor == Flavor::Yggdrasil {
                let pong: std::result::Result<String, _> = cmd("PING").query_async(line).await;
                pong.map_err(|error| store.not_told(&error))?;
            } else {
                store.check_setting(line).await?;
            }
            let Some((host, _)) = lines.nodes.get(index) else {
                continue;
            };
            let ranges = slots().query_async(line).await;
            let ranges: Vec<Vec<Value>> = ranges.map_err(|error| store.not_told(&error))?;
            if masters(&ranges, host) != lines.nodes {
                return Err(StoreError::Unavailable {
                    store: store.0.name.clone(),
                    cause: "other nodes of the cluster have the keys now".to_owned(),
                    applied: Applied::No,
                });
            }
        }
        Ok(())
    }

    async fn connect_again(&self) -> Lines {
        let mut tries = 0;
        loop {
            tokio::time::sleep(pause(tries)).await;
            tries = GROWS.min(tries + 1);
            match self.connect().await {
                Ok(lines) => return lines,
                // The first says why; others come as long as it is so.
                Err(error) if tries == 1 => {
                    let store = self.store.0.name.as_str();
                    tracing::warn!(store, %error, "changes of keys cannot be asked for; trying again");
                }
                Err(error) => {
                    let store = self.store.0.name.as_str();
                    tracing::debug!(store, %error, "changes of keys cannot be asked for");
                }
            }
        }
    }

    /// Connections to all servers that have to tell, on which they do from here on.
    async fn connect(&self) -> Result<Lines> {
        let link = self.store.link().await?;
        let mut lines = Lines {
            lines: Vec::new(),
            flavor: link.flavor,
            nodes: self.nodes(&link).await?,
            broken: Arc::default(),
        };
        // Who changes the password waits until nobody has the old connections.
        drop(link);
        let places: Vec<Option<Node>> = match lines.nodes.is_empty() {
            true => vec![None],
            false => lines.nodes.iter().cloned().map(Some).collect(),
        };
        for place in &places {
            let line = self.line(place.as_ref(), &lines).await?;
            lines.lines.push(line);
        }
        // They may have become others meanwhile.
        self.beat(&mut lines).await?;
        Ok(lines)
    }

    /// The masters of a cluster; none where there is no cluster.
    async fn nodes(&self, link: &Link) -> Result<Vec<Node>> {
        if matches!(link.connection, Connection::Single(_)) {
            return Ok(Vec::new());
        }
        let nodes = link.connection.clone().nodes(self.store.host()).await;
        let nodes = self.store.answered(link, nodes).await?;
        match nodes.is_empty() {
            false => Ok(nodes),
            true => Err(StoreError::Unavailable {
                store: self.store.0.name.clone(),
                cause: "no node of the cluster has keys".to_owned(),
                applied: Applied::No,
            }),
        }
    }

    /// A connection to a server, which tells changes on it.
    async fn line(&self, node: Option<&Node>, lines: &Lines) -> Result<MultiplexedConnection> {
        let login = &self.store.0.links.login;
        let maker = login.maker();
        let opened = match self.open(node, lines).await {
            Err(error) if is_login_refused(&error) && login.read_again(&maker).await => {
                self.open(node, lines).await
            }
            opened => opened,
        };
        let mut line = opened.map_err(|error| self.store.not_connected(&error))?;
        self.subscribe(&mut line, lines.flavor).await?;
        Ok(line)
    }

    async fn open(
        &self,
        node: Option<&Node>,
        lines: &Lines,
    ) -> std::result::Result<MultiplexedConnection, RedisError> {
        let login = &self.store.0.links.login;
        let config = login.config();
        let (username, password) = login.now();
        let info = connection_info(config, username.as_deref(), password.as_ref())
            .map_err(|cause| (ErrorKind::InvalidClientConfig, "settings", cause))?;
        let info = at(info, node);
        let (queue, broken) = (Arc::clone(&self.teller.0), Arc::clone(&lines.broken));
        let ear = Ear {
            channel_bytes: self.channel.len(),
            queue,
        };
        let push = move |push: PushInfo| -> std::result::Result<(), ()> {
            match push.kind {
                PushKind::Disconnection => broken.notify_one(),
                _ => ear.hear(&push.kind, push.data),
            }
            Ok(())
        };
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.timeout))
            .set_push_sender(push);
        let client = match config.tls.as_ref().map(TlsConfig::certificates) {
            None => Client::open(info)?,
            Some(certificates) => Client::build_with_tls(info, certificates)?,
        };
        let made = client.get_multiplexed_async_connection_with_config(&settings);
        match tokio::time::timeout(2 * config.connect_timeout, made).await {
            Ok(made) => made,
            Err(_) => Err((ErrorKind::Client, "no connection in time").into()),
        }
    }

    /// Has a server tell.
    async fn subscribe(&self, line: &mut MultiplexedConnection, flavor: Flavor) -> Result<()> {
        if flavor == Flavor::Yggdrasil {
            let watch = cmd("YGG.WATCH").arg(&self.prefix).to_owned();
            return self.tell(line, &watch).await;
        }
        self.store.check_setting(line).await?;
        // Keys that go with all others are told in no other way. Nothing is read here, so this costs
        // nothing.
        let track = cmd("CLIENT").arg("TRACKING").arg("ON").to_owned();
        self.tell(line, &track).await?;
        let keys = [self.channel.as_bytes(), &pattern(&self.prefix)].concat();
        let listened = line.psubscribe(keys).await;
        listened.map_err(|error| self.store.not_told(&error))
    }

    async fn tell(&self, line: &mut MultiplexedConnection, command: &Cmd) -> Result<()> {
        let done: std::result::Result<Value, _> = command.query_async(line).await;
        done.map(drop).map_err(|error| self.store.not_told(&error))
    }
}

/// The way to a node of the cluster, on which messages come without being asked for.
fn at(info: ConnectionInfo, node: Option<&Node>) -> ConnectionInfo {
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    let info = info.set_redis_settings(settings);
    let Some((host, port)) = node else {
        return info;
    };
    let (host, port) = (host.clone(), *port);
    let addr = match info.addr() {
        ConnectionAddr::TcpTls { insecure, .. } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: None,
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    info.set_addr(addr)
}

/// Hears what a server tells.
struct Ear {
    /// What stands before a key in the name of a channel.
    channel_bytes: usize,
    queue: Arc<Queue>,
}

impl Ear {
    fn hear(&self, kind: &PushKind, data: Vec<Value>) {
        let understood = match kind {
            PushKind::PMessage => self.notified(data),
            PushKind::Other(kind) if kind == "change" => self.changed(data),
            // All keys are gone.
            PushKind::Invalidate if data.first() == Some(&Value::Nil) => None,
            _ => Some(()),
        };
        if understood.is_none() {
            self.queue.lost();
        }
    }

    /// A message of Redis and Valkey: pattern, channel, and what was done.
    fn notified(&self, data: Vec<Value>) -> Option<()> {
        let [_, Value::BulkString(channel), Value::BulkString(event)] =
            <[Value; 3]>::try_from(data).ok()?
        else {
            return None;
        };
        if channel.len() < self.channel_bytes {
            return None;
        }
        if let Some(change) = change_of(&event) {
            let key = Bytes::from(channel).slice(self.channel_bytes..);
            self.queue.changed(key, change, None);
        }
        Some(())
    }

    /// A message of Yggdrasil: key, what became of it, and its version.
    fn changed(&self, data: Vec<Value>) -> Option<()> {
        let [
            Value::BulkString(key),
            Value::BulkString(change),
            Value::Int(version),
        ] = <[Value; 3]>::try_from(data).ok()?
        else {
            return None;
        };
        let change = match change.as_slice() {
            b"set" => Change::Set,
            b"removed" => Change::Removed,
            b"expired" => Change::Expired,
            b"evicted" => Change::Evicted,
            _ => return None,
        };
        let version = u64::try_from(version).ok();
        self.queue.changed(key.into(), change, version);
        Some(())
    }
}

/// What an event of Redis or Valkey means for its key.
fn change_of(event: &[u8]) -> Option<Change> {
    match event {
        b"del" | b"rename_from" | b"move_from" => Some(Change::Removed),
        b"expired" => Some(Change::Expired),
        b"evicted" => Some(Change::Evicted),
        // Another event says what was made, and a look at what is not there changes nothing.
        b"new" | b"keymiss" => None,
        _ => Some(Change::Set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_enough_with_keys_and_all_that_stores_do() {
        for flags in ["KA", "AKE", "g$zxeK", "K$xegzlsh"] {
            assert!(is_enough(flags), "{flags}");
        }
        for flags in ["", "A", "EA", "K", "Kg$xe", "Kgzxe", "g$zxe"] {
            assert!(!is_enough(flags), "{flags}");
        }
    }
}
