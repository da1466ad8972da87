//! Connections that are made when they are needed and again when they ended.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use valkyrie::{Client, ClientBuilder, Endpoint, ErrorCode, Idle, Status};
use yggdrasil_calls::v1;

use super::ValkyrieConfig;
use crate::credentials::Secret;
use crate::retry::{Budget, pause};

/// Operations go over one connection after the other; each carries many at once.
pub(super) struct Links {
    endpoint: Endpoint,
    /// Empty is the default user.
    user: String,
    password: RwLock<Option<SecretString>>,
    password_from: Option<Secret>,
    idle: Idle,
    connect_timeout: Duration,
    slots: Vec<Slot>,
    next: AtomicUsize,
    retries: u32,
    budget: Budget,
}

#[derive(Default)]
struct Slot {
    link: RwLock<Option<Arc<Link>>>,
    /// Whoever comes while a connection is made waits for it.
    making: tokio::sync::Mutex<()>,
}

/// A connection.
pub(super) struct Link {
    pub(super) client: Client,
    slot: usize,
}

impl Slot {
    fn get(&self) -> Option<Arc<Link>> {
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner);
        link.clone()
    }

    fn set(&self, link: &Arc<Link>) {
        let mut slot = self.link.write().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(Arc::clone(link));
    }

    /// Forgets a connection, unless another has taken its place.
    fn forget(&self, link: &Arc<Link>) {
        let mut slot = self.link.write().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|now| Arc::ptr_eq(now, link)) {
            *slot = None;
        }
    }
}

impl Links {
    pub(super) fn new(endpoint: Endpoint, config: &ValkyrieConfig) -> Self {
        Self {
            endpoint,
            user: config.username.clone().unwrap_or_default(),
            password: RwLock::new(config.password.clone()),
            password_from: config.password_from.clone(),
            idle: config.idle,
            connect_timeout: config.connect_timeout,
            slots: (0..config.connections).map(|_| Slot::default()).collect(),
            next: AtomicUsize::new(0),
            retries: config.retries.min(10),
            budget: Budget::default(),
        }
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) const fn len(&self) -> usize {
        self.slots.len()
    }

    /// A connection; one that cannot be made is tried again, as long as the budget has room.
    pub(super) async fn link(&self) -> Result<Arc<Link>, Status> {
        self.budget.operation();
        let mut tries = 0;
        loop {
            match self.link_once().await {
                // Who is refused stays refused.
                Err(status)
                    if status.code() != ErrorCode::DENIED
                        && tries < self.retries
                        && self.budget.retry() =>
                {
                    tokio::time::sleep(pause(tries)).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    async fn link_once(&self) -> Result<Arc<Link>, Status> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        let Some(slot) = self.slots.get(index) else {
            return Err(Status::internal("there is no connection"));
        };
        if let Some(link) = slot.get() {
            return Ok(link);
        }
        let _making = slot.making.lock().await;
        if let Some(link) = slot.get() {
            return Ok(link);
        }
        let made = tokio::time::timeout(self.connect_timeout, self.connect()).await;
        let client = made.unwrap_or_else(|_| Err(Status::timeout("no connection in time")))?;
        let link = Arc::new(Link {
            client,
            slot: index,
        });
        slot.set(&link);
        Ok(link)
    }

    async fn connect(&self) -> Result<Client, Status> {
        let settings = ClientBuilder::default;
        let client = Client::connect_idle(&self.endpoint, self.idle, settings).await?;
        let known = self.password().clone();
        let said = match &known {
            Some(password) => self.authenticate(&client, password).await,
            None if self.password_from.is_some() => Err(Status::denied("no password yet")),
            None => return Ok(client),
        };
        match (said, &self.password_from) {
            (Ok(()), _) => Ok(client),
            // It may be another one by now.
            (Err(status), Some(source)) if status.code() == ErrorCode::DENIED => {
                let password = read(source.clone()).await?;
                self.authenticate(&client, &password).await?;
                *self
                    .password
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = Some(password);
                Ok(client)
            }
            (Err(status), _) => Err(status),
        }
    }

    fn password(&self) -> RwLockReadGuard<'_, Option<SecretString>> {
        self.password.read().unwrap_or_else(PoisonError::into_inner)
    }

    async fn authenticate(&self, client: &Client, password: &SecretString) -> Result<(), Status> {
        let request = v1::AuthenticateRequest {
            user: self.user.clone().into_bytes(),
            password: password.expose_secret().as_bytes().to_vec(),
        };
        let keys = v1::KeysClient::new(client.clone());
        keys.authenticate(request).await.map(drop)
    }

    /// Has another connection made in the place of one that ended.
    pub(super) fn forget(&self, link: &Arc<Link>) {
        if let Some(slot) = self.slots.get(link.slot) {
            slot.forget(link);
        }
    }
}

/// Reads a password, which may take a while.
async fn read(source: Secret) -> Result<SecretString, Status> {
    let read = tokio::task::spawn_blocking(move || source.read()).await;
    match read {
        Ok(read) => read.map_err(|error| Status::denied(error.to_string())),
        Err(_) => Err(Status::denied("the password cannot be read")),
    }
}
