//! Connections that are made when they are needed and again when they broke.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisError, ServerErrorKind,
};
use tokio::sync::Mutex;

use super::{Flavor, RedisConfig, RedisStore};
use crate::error::{Applied, StoreError};

/// Operations go over one connection after the other; each carries many at once.
pub(super) struct Links {
    client: Client,
    config: AsyncConnectionConfig,
    connect_timeout: Duration,
    slots: Vec<Slot>,
    next: AtomicUsize,
}

#[derive(Default)]
struct Slot(Mutex<Option<Link>>);

/// A connection, and what is at its other end.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    pub(super) flavor: Flavor,
    slot: usize,
    /// Which of the connections of its slot it is.
    number: usize,
}

impl Links {
    pub(super) fn new(client: Client, config: &RedisConfig) -> Self {
        Self {
            client,
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(config.connect_timeout))
                .set_response_timeout(Some(config.timeout)),
            connect_timeout: config.connect_timeout,
            slots: (0..config.connections).map(|_| Slot::default()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    async fn link(&self) -> Result<Link, RedisError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let index = turn % self.slots.len();
        let Some(slot) = self.slots.get(index) else {
            return Err((ErrorKind::Client, "there is no connection").into());
        };
        // Whoever comes while a connection is made waits for it.
        let mut slot = slot.0.lock().await;
        if let Some(link) = &*slot {
            return Ok(link.clone());
        }
        let connect = self.connect(index, turn);
        let link = match tokio::time::timeout(2 * self.connect_timeout, connect).await {
            Ok(link) => link?,
            Err(_) => return Err((ErrorKind::Client, "no connection in time").into()),
        };
        *slot = Some(link.clone());
        Ok(link)
    }

    async fn connect(&self, slot: usize, number: usize) -> Result<Link, RedisError> {
        let client = &self.client;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&self.config)
            .await?;
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut connection)
            .await?;
        let says = |name: &str| info.lines().any(|line| line.starts_with(name));
        let flavor = match () {
            () if says("yggdrasil_version:") => Flavor::Yggdrasil,
            () if says("valkey_version:") || says("server_name:valkey") => Flavor::Valkey,
            () => Flavor::Redis,
        };
        Ok(Link {
            connection,
            flavor,
            slot,
            number,
        })
    }

    /// Forgets a connection that broke, unless another has taken its place.
    async fn broke(&self, link: &Link) {
        if let Some(slot) = self.slots.get(link.slot) {
            let mut slot = slot.0.lock().await;
            if slot.as_ref().is_some_and(|now| now.number == link.number) {
                *slot = None;
            }
        }
    }
}

impl RedisStore {
    /// A connection; one is made where there is none.
    pub(super) async fn link(&self) -> Result<Link, StoreError> {
        let link = self.0.links.link().await;
        link.map_err(|error| match error.kind() {
            // Asking again with the same password would not help.
            ErrorKind::AuthenticationFailed | ErrorKind::Server(_) | ErrorKind::Extension => {
                StoreError::Unavailable {
                    store: self.0.name.clone(),
                    cause: format!(
                        "{} refuses the connection: {}",
                        self.0.address,
                        words(&error)
                    ),
                    applied: Applied::No,
                }
            }
            _ => StoreError::Unavailable {
                store: self.0.name.clone(),
                cause: format!("{} cannot be reached: {}", self.0.address, words(&error)),
                applied: Applied::No,
            },
        })
    }

    /// What a command or script answered, or what its failure means.
    pub(super) async fn answered<T: FromRedisValue>(
        &self,
        link: &Link,
        answer: Result<T, RedisError>,
    ) -> Result<T, StoreError> {
        let Err(error) = answer else {
            return answer.map_err(|_| StoreError::Config(String::new()));
        };
        let store = self.0.name.clone();
        let cause = words(&error);
        if error.code() == Some("WRONGTYPE") {
            return Err(StoreError::WrongType { store });
        }
        // These come before anything is done.
        let refused_at_once = matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::TryAgain
            )
        );
        if refused_at_once {
            let applied = Applied::No;
            return Err(StoreError::Unavailable {
                store,
                cause,
                applied,
            });
        }
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                Err(StoreError::Rejected { store, cause })
            }
            _ => {
                if !error.is_timeout() {
                    self.0.links.broke(link).await;
                }
                Err(StoreError::Unavailable {
                    store,
                    cause,
                    applied: Applied::Unknown,
                })
            }
        }
    }
}

/// An error in a line.
fn words(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}
