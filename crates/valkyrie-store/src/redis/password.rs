//! Another password at the server itself.

use redis::{Cmd, cmd};
use secrecy::{ExposeSecret, SecretString};

use super::link::Link;
use super::{Flavor, RedisStore};
use crate::error::StoreError;

impl RedisStore {
    /// Gives this store's user another password at the server, at every node of a cluster, and uses it
    /// as [`set_credentials`](Self::set_credentials) does.
    ///
    /// A named user has both passwords until the new one was proven to work, and loses the old one
    /// then; for the default user it is `requirepass` that changes. Where the new one does not work
    /// the server has the old one as before. Connections of others stay; what they connect anew needs
    /// the new password. Replicas of a server that is no cluster, and the server after its restart, know
    /// what their own settings say.
    ///
    /// # Errors
    /// There is no password yet, the server cannot be reached, does not let this user do it, or is
    /// Yggdrasil, whose password is fixed. Where the last step fails, which takes the old password
    /// away, the new one is in use all the same.
    pub async fn change_password(&self, next: SecretString) -> Result<(), StoreError> {
        let _alone = self.0.links.login.alone().await;
        let (username, old) = self.0.links.login.now();
        let name = &self.0.name;
        let Some(old) = old else {
            return Err(StoreError::Config(format!(
                "{name} has no password that could be changed"
            )));
        };
        let link = self.link().await?;
        if link.flavor == Flavor::Yggdrasil {
            return Err(StoreError::Unsupported {
                store: name.clone(),
                what: "passwords that change while it runs; start it with another --password-file",
            });
        }
        if old.expose_secret() == next.expose_secret() {
            return Ok(());
        }
        let secrets = [&old, &next];
        let user = username.as_deref().filter(|name| *name != "default");
        self.tell(&link, &enter(user, &next), &secrets).await?;
        // The change waits until nobody has an old connection.
        drop(link);
        if let Err(error) = self.change(username.clone(), next.clone()).await {
            let link = self.link().await?;
            let undo = match user {
                Some(user) => modify(user, '<', &next),
                None => enter(None, &old),
            };
            self.tell(&link, &undo, &secrets).await?;
            return Err(error);
        }
        let Some(user) = user else {
            return Ok(());
        };
        let link = self.link().await?;
        match self.tell(&link, &modify(user, '<', &old), &secrets).await {
            // Any password would do before.
            Err(StoreError::Rejected { cause, .. }) if cause.contains("does not exist") => Ok(()),
            done => done,
        }
    }

    /// Has all nodes do something. What they say of it may repeat its arguments, so secrets are taken
    /// out.
    async fn tell(
        &self,
        link: &Link,
        command: &Cmd,
        secrets: &[&SecretString],
    ) -> Result<(), StoreError> {
        let done = link.connection.clone().all(command).await;
        let done: Result<(), StoreError> = self.answered(link, done).await;
        let hidden = |mut cause: String| {
            for secret in secrets {
                cause = cause.replace(secret.expose_secret(), "***");
            }
            cause
        };
        done.map_err(|error| match error {
            StoreError::Rejected { store, cause } => StoreError::Rejected {
                store,
                cause: hidden(cause),
            },
            StoreError::Unavailable {
                store,
                cause,
                applied,
            } => StoreError::Unavailable {
                store,
                cause: hidden(cause),
                applied,
            },
            other => other,
        })
    }
}

/// Lets a user in with this password: beside others, or the default user with no other.
fn enter(user: Option<&str>, password: &SecretString) -> Cmd {
    match user {
        Some(user) => modify(user, '>', password),
        None => cmd("CONFIG")
            .arg("SET")
            .arg("requirepass")
            .arg(password.expose_secret())
            .to_owned(),
    }
}

/// Gives a user a password (`>`) or takes it away (`<`).
fn modify(user: &str, what: char, password: &SecretString) -> Cmd {
    let modifier = zeroize::Zeroizing::new(format!("{what}{}", password.expose_secret()));
    cmd("ACL")
        .arg("SETUSER")
        .arg(user)
        .arg(modifier.as_str())
        .to_owned()
}
