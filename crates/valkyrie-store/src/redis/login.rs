//! Who this side says it is, and how that changes while operations go on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{ErrorKind, RedisError};
use secrecy::{ExposeSecret, SecretString};

use super::connection::Maker;
use super::{RedisConfig, RedisStore, connection_info, maker};
use crate::credentials::{CredentialError, Secret};
use crate::error::StoreError;

/// Makes connections with the user and password of now.
pub(super) struct Login {
    /// Without user and password.
    config: RedisConfig,
    current: Mutex<Current>,
    /// One change at a time.
    changes: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Current {
    username: Option<String>,
    password: Option<SecretString>,
    maker: Arc<Maker>,
}

impl Login {
    /// The one of the settings; the password is read where there is only a source.
    pub(super) fn new(mut config: RedisConfig) -> Result<Self, String> {
        let username = config.username.take();
        let password = match (config.password.take(), &config.password_from) {
            (None, Some(secret)) => Some(secret.read().map_err(|error| error.to_string())?),
            (password, _) => password,
        };
        let current = Current::new(&config, username, password)?;
        Ok(Self {
            config,
            current: Mutex::new(current),
            changes: tokio::sync::Mutex::default(),
        })
    }

    /// The settings, without user and password.
    pub(super) const fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// What makes connections now.
    pub(super) fn maker(&self) -> Arc<Maker> {
        Arc::clone(&self.lock().maker)
    }

    /// Keeps others from changing it meanwhile.
    pub(super) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changes.lock().await
    }

    /// User and password of now.
    pub(super) fn now(&self) -> (Option<String>, Option<SecretString>) {
        let current = self.lock();
        (current.username.clone(), current.password.clone())
    }

    /// Looks for another password after one was refused; whether there is one.
    pub(super) async fn read_again(&self, refused: &Arc<Maker>) -> bool {
        let current = self.lock().clone();
        if !Arc::ptr_eq(&current.maker, refused) {
            return true;
        }
        match self.changed(&current).await {
            Ok(Some(password)) => {
                let next = Current::new(&self.config, current.username, Some(password));
                let is_made = next.is_ok();
                if let Ok(next) = next {
                    *self.lock() = next;
                }
                is_made
            }
            Ok(None) => false,
            Err(error) => {
                let store = &self.config.name;
                tracing::warn!(store, %error, "password cannot be read again");
                false
            }
        }
    }

    /// The password of the source where it is another than now.
    async fn changed(&self, current: &Current) -> Result<Option<SecretString>, CredentialError> {
        let from = self.config.password_from.clone();
        let Some(secret) = from.filter(|secret| secret.source().changes()) else {
            return Ok(None);
        };
        let password = read(secret).await?;
        let known = current.password.as_ref().map(ExposeSecret::expose_secret);
        Ok(Some(password).filter(|password| Some(password.expose_secret()) != known))
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn new(
        config: &RedisConfig,
        username: Option<String>,
        password: Option<SecretString>,
    ) -> Result<Self, String> {
        let info = connection_info(config, username.as_deref(), password.as_ref())?;
        let maker = maker(config, &info).map_err(|error| error.to_string())?;
        Ok(Self {
            username,
            password,
            maker: Arc::new(maker),
        })
    }
}

/// Reads a secret where waiting for files keeps nobody else.
async fn read(secret: Secret) -> Result<SecretString, CredentialError> {
    let name = secret.source().to_string();
    let read = tokio::task::spawn_blocking(move || secret.read());
    read.await.unwrap_or(Err(CredentialError::NotSet(name)))
}

/// Whether a server wants another user or password.
pub(super) fn is_login_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("WRONGPASS" | "NOAUTH"))
        // What a cluster has of the errors of its nodes.
        || error.detail().is_some_and(|text| text.ends_with("AuthenticationFailed"))
}

impl RedisStore {
    /// Uses another user (`None`: the default user) and password from now on.
    ///
    /// New connections are made with them first; where the server refuses, nothing changes. Then they
    /// take the place of the old ones, whose operations are waited for as long as answers may take, so
    /// that the old password may be taken from the server afterwards. No operation fails because of
    /// the change. Where the future is dropped, old or new ones are used, or some of each.
    ///
    /// # Errors
    /// The server cannot be reached or refuses them.
    pub async fn set_credentials(
        &self,
        username: Option<&str>,
        password: SecretString,
    ) -> Result<(), StoreError> {
        let _alone = self.0.links.login.alone().await;
        self.change(username.map(str::to_owned), password).await
    }

    /// Reads the password again where it comes from a file or a credential of systemd, and uses it as
    /// [`set_credentials`](Self::set_credentials) does; whether it is another one.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where it cannot be read, otherwise as
    /// [`set_credentials`](Self::set_credentials). The old one is still used then.
    pub async fn reload_credentials(&self) -> Result<bool, StoreError> {
        let login = &self.0.links.login;
        let _alone = login.alone().await;
        let current = login.lock().clone();
        let name = &self.0.name;
        let changed = login.changed(&current).await;
        let changed =
            changed.map_err(|error| StoreError::Config(format!("{name}: password: {error}")))?;
        let Some(password) = changed else {
            return Ok(false);
        };
        self.change(current.username, password).await?;
        Ok(true)
    }

    pub(super) async fn change(
        &self,
        username: Option<String>,
        password: SecretString,
    ) -> Result<(), StoreError> {
        let links = &self.0.links;
        let name = &self.0.name;
        let next = Current::new(&links.login.config, username, Some(password))
            .map_err(|cause| StoreError::Config(format!("{name}: {cause}")))?;
        let made = links.connect_all(&next.maker).await;
        let made = made.map_err(|error| self.not_connected(&error))?;
        // Before any place is taken: whoever connects from now on does it anew.
        *links.login.lock() = next;
        links.replace(made).await;
        tracing::info!(store = name, "credentials are changed");
        Ok(())
    }
}
