//! Connections that are made when they are needed and again when they broke.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::{ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::sync::Mutex;

use super::connection::{Connection, Maker};
use super::{Flavor, RedisConfig, RedisStore};
use crate::error::{Applied, StoreError};

/// Operations go over one connection after the other; each carries many at once.
pub(super) struct Links {
    maker: Maker,
    connect_timeout: Duration,
    slots: Vec<Slot>,
    next: AtomicUsize,
    retries: u32,
    budget: Budget,
}

#[derive(Default)]
struct Slot(Mutex<Option<Link>>);

/// A connection, and what is at its other end.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) flavor: Flavor,
    slot: usize,
    /// Which of the connections of its slot it is.
    number: usize,
}

impl Links {
    pub(super) fn new(maker: Maker, config: &RedisConfig) -> Self {
        Self {
            maker,
            connect_timeout: config.connect_timeout,
            slots: (0..config.connections).map(|_| Slot::default()).collect(),
            next: AtomicUsize::new(0),
            retries: config.retries.min(10),
            budget: Budget::default(),
        }
    }

    /// A connection; one that cannot be made is tried again, as long as the budget has room.
    async fn link(&self) -> Result<Link, RedisError> {
        self.budget.operation();
        let mut tries = 0;
        loop {
            match self.link_once().await {
                Err(error) if tries < self.retries && may_pass(&error) && self.budget.retry() => {
                    tokio::time::sleep(pause(tries)).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    async fn link_once(&self) -> Result<Link, RedisError> {
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
        let mut connection = self.maker.connect().await?;
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let info: String = connection.any(&info).await?;
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

/// Whether it may be otherwise in a moment: who is refused stays refused.
fn may_pass(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Client)
}

/// Before the try with this number: 10 ms, 20 ms and so on, each times a number between 0 and 1.
fn pause(tries: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let chance = RandomState::new().hash_one(tries) as f64 / u64::MAX as f64;
    (Duration::from_millis(10) * 2_u32.pow(tries.min(10))).mul_f64(chance)
}

/// Keeps retries to a tenth of operations, so that a server in trouble is not given more.
#[derive(Debug)]
struct Budget(AtomicUsize);

/// Retries that may come at once.
const RETRIES_AT_ONCE: usize = 10;

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicUsize::new(10 * RETRIES_AT_ONCE))
    }
}

impl Budget {
    fn operation(&self) {
        let more = |have: usize| (have < 10 * RETRIES_AT_ONCE).then_some(have + 1);
        // Full is as good.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    fn retry(&self) -> bool {
        let less = |have: usize| have.checked_sub(10);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
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
