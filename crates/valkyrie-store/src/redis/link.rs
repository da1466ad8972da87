//! Connections that are made when they are needed and again when they broke.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::{ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::sync::{Mutex, mpsc};

use super::connection::{Connection, Maker};
use super::login::{Login, is_login_refused};
use super::{Flavor, RedisConfig, RedisStore};
use crate::error::{Applied, StoreError};
use crate::retry::{Budget, pause};

/// Operations go over one connection after the other; each carries many at once.
pub(super) struct Links {
    pub(super) login: Login,
    connect_timeout: Duration,
    timeout: Duration,
    slots: Vec<Slot>,
    next: AtomicUsize,
    made: AtomicUsize,
    retries: u32,
    budget: Budget,
}

#[derive(Default)]
struct Slot(Mutex<Option<Kept>>);

/// A connection that is there for everybody, and what tells when nobody has it any more.
pub(super) struct Kept {
    link: Link,
    unused: mpsc::Receiver<()>,
}

/// A connection, and what is at its other end.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) flavor: Flavor,
    slot: usize,
    /// Which of all connections it is.
    number: usize,
    /// Goes with the last clone.
    _used: mpsc::Sender<()>,
}

impl Links {
    pub(super) fn new(login: Login, config: &RedisConfig) -> Self {
        Self {
            login,
            connect_timeout: config.connect_timeout,
            timeout: config.timeout,
            slots: (0..config.connections).map(|_| Slot::default()).collect(),
            next: AtomicUsize::new(0),
            made: AtomicUsize::new(0),
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
        if let Some(kept) = &*slot {
            return Ok(kept.link.clone());
        }
        let maker = self.login.maker();
        let kept = match self.connect(&maker, index).await {
            Err(error) if is_login_refused(&error) && self.login.read_again(&maker).await => {
                self.connect(&self.login.maker(), index).await?
            }
            done => done?,
        };
        let link = kept.link.clone();
        *slot = Some(kept);
        Ok(link)
    }

    async fn connect(&self, maker: &Maker, slot: usize) -> Result<Kept, RedisError> {
        let made = self.connect_patiently(maker, slot);
        match tokio::time::timeout(2 * self.connect_timeout, made).await {
            Ok(made) => made,
            Err(_) => Err((ErrorKind::Client, "no connection in time").into()),
        }
    }

    async fn connect_patiently(&self, maker: &Maker, slot: usize) -> Result<Kept, RedisError> {
        let mut connection = maker.connect().await?;
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let info: String = connection.any(&info).await?;
        let says = |name: &str| info.lines().any(|line| line.starts_with(name));
        let flavor = match () {
            () if says("yggdrasil_version:") => Flavor::Yggdrasil,
            () if says("valkey_version:") || says("server_name:valkey") => Flavor::Valkey,
            () => Flavor::Redis,
        };
        let (used, unused) = mpsc::channel(1);
        let link = Link {
            connection,
            flavor,
            slot,
            number: self.made.fetch_add(1, Ordering::Relaxed),
            _used: used,
        };
        Ok(Kept { link, unused })
    }

    /// As many connections as are in use, and at least one, with another login.
    pub(super) async fn connect_all(&self, maker: &Maker) -> Result<Vec<Kept>, RedisError> {
        let mut made = vec![self.connect(maker, 0).await?];
        for (index, slot) in self.slots.iter().enumerate().skip(1) {
            if slot.0.lock().await.is_some() {
                made.push(self.connect(maker, index).await?);
            }
        }
        Ok(made)
    }

    /// Puts these in the place of all connections, and waits until the operations on the old ones have
    /// their answers, as long as answers may take.
    pub(super) async fn replace(&self, made: Vec<Kept>) {
        let mut made = made.into_iter().peekable();
        let mut old = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let next = made.next_if(|kept| kept.link.slot == index);
            let mut slot = slot.0.lock().await;
            // One that came meanwhile has the old login, too.
            old.extend(std::mem::replace(&mut *slot, next));
        }
        let drained = async {
            for Kept { link, mut unused } in old {
                drop(link);
                unused.recv().await;
            }
        };
        // What takes longer has failed by then.
        let _ = tokio::time::timeout(self.timeout, drained).await;
    }

    /// Forgets a connection that broke, unless another has taken its place.
    async fn broke(&self, link: &Link) {
        if let Some(slot) = self.slots.get(link.slot) {
            let mut slot = slot.0.lock().await;
            let is_it = |kept: &Kept| kept.link.number == link.number;
            if slot.as_ref().is_some_and(is_it) {
                *slot = None;
            }
        }
    }
}

/// Whether it may be otherwise in a moment: who is refused stays refused.
fn may_pass(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Client)
}

impl RedisStore {
    /// A connection; one is made where there is none.
    pub(super) async fn link(&self) -> Result<Link, StoreError> {
        let link = self.0.links.link().await;
        link.map_err(|error| self.not_connected(&error))
    }

    /// What it means that there is no connection.
    pub(super) fn not_connected(&self, error: &RedisError) -> StoreError {
        match error.kind() {
            // Asking again with the same password would not help.
            ErrorKind::AuthenticationFailed | ErrorKind::Server(_) | ErrorKind::Extension => {
                StoreError::Unavailable {
                    store: self.0.name.clone(),
                    cause: format!(
                        "{} refuses the connection: {}",
                        self.0.address,
                        words(error)
                    ),
                    applied: Applied::No,
                }
            }
            _ => StoreError::Unavailable {
                store: self.0.name.clone(),
                cause: format!("{} cannot be reached: {}", self.0.address, words(error)),
                applied: Applied::No,
            },
        }
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
        let refused_at_once = is_refused_at_once(&error);
        // The disk of the server refuses, which may be otherwise later or elsewhere.
        let refused_at_once = refused_at_once || error.code() == Some("MISCONF");
        let needs_login = is_login_refused(&error);
        if needs_login {
            self.0.links.broke(link).await;
        }
        if refused_at_once || needs_login {
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

/// Whether a server refused before it did anything, and may do it later.
pub(super) fn is_refused_at_once(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
        )
    )
}

/// An error in a line.
pub(super) fn words(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}
