//! Other credentials for the stores of a chain.

use secrecy::SecretString;

use crate::adapter::StoreAdapter;
use crate::error::StoreError;
use crate::hybrid::HybridStore;
use crate::redis::RedisStore;
use crate::store::Store;

impl HybridStore {
    /// Has a store of the chain use another user (`None`: the default user) and password from now on,
    /// without a failed operation; see [`RedisStore::set_credentials`].
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where the chain has no such store that is reached over the
    /// network, otherwise as [`RedisStore::set_credentials`].
    pub async fn rotate(
        &self,
        store: &str,
        username: Option<&str>,
        password: SecretString,
    ) -> Result<(), StoreError> {
        let found = self.servers().find(|server| server.name() == store);
        let unknown = || StoreError::Config(format!("the chain has no server called {store}"));
        let found = found.ok_or_else(unknown)?;
        found.set_credentials(username, password).await
    }

    /// Reads the passwords of all stores again whose sources may have changed; which ones use another
    /// one now. A store that fails keeps no other from being asked.
    ///
    /// # Errors
    /// The first one, as [`RedisStore::reload_credentials`].
    pub async fn reload_credentials(&self) -> Result<Vec<String>, StoreError> {
        let mut changed = Vec::new();
        let mut first_error = None;
        for server in self.servers() {
            match server.reload_credentials().await {
                Ok(true) => changed.push(server.name().to_owned()),
                Ok(false) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => Ok(changed),
        }
    }

    fn servers(&self) -> impl Iterator<Item = &RedisStore> {
        self.stores().flat_map(|store| match store {
            Store::Redis(server) => vec![server],
            Store::Migrating(both) => both.servers().collect(),
            Store::Memory(_) | Store::Valkyrie(_) => Vec::new(),
        })
    }
}
