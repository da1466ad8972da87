//! What several servers share: a store, and who this server is in it.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use valkyrie_store::{Condition, HybridStore, Lifetime, StoreAdapter, StoreError};

use crate::api::ApiError;
use crate::hex;
use crate::limits::{REQUEST_KEY_CLAIMS, REQUEST_KEY_LIFE};
use crate::token::ApiToken;

/// What stands before the keys of requests in the store.
const REQUESTS: &str = "rustci:idempotency:";
/// Bytes of a server's id; two servers have the same one by chance in no practical number of them.
const ID_BYTES: usize = 16;

/// Who a server is for the others that use its store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerIdentity {
    /// The same as long as the server has its token.
    pub(crate) id: String,
    /// Where its API is, if anywhere.
    pub(crate) url: Option<String>,
}

impl ServerIdentity {
    /// The server that has this token. Nobody finds the token from it.
    pub(crate) fn new(token: &ApiToken, url: Option<String>) -> Self {
        let digest = blake3::derive_key("rustci: id of a server", token.expose().as_bytes());
        let id = digest.get(..ID_BYTES).unwrap_or(&digest);
        Self {
            id: hex::encode(id),
            url,
        }
    }
}

impl fmt::Display for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.url {
            Some(url) => f.write_str(url),
            None => write!(f, "server {}", self.id),
        }
    }
}

/// A store, and who this server is in it. Clones share the store.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) store: HybridStore,
    pub(crate) server: ServerIdentity,
}

impl Shared {
    /// Whether other servers can use the store too.
    pub(crate) fn is_shared(&self) -> bool {
        self.store.caps().shared
    }

    /// Binds the key of a request to this server for as long as the engine knows it, so that no other
    /// server with the same store begins anything under it. A key that this server has bound before
    /// stays bound. Does nothing where the store is not shared.
    ///
    /// # Errors
    /// [`ApiError::IdempotencyElsewhere`] where another server has it; [`ApiError::StoreUnavailable`]
    /// where nobody can say so.
    pub(crate) async fn bind(&self, key: &str) -> Result<(), ApiError> {
        if !self.is_shared() {
            return Ok(());
        }
        let name = format!("{REQUESTS}{}", hex::encode(&Sha256::digest(key)));
        let name = name.as_bytes();
        let own = serde_json::to_vec(&self.server);
        let own = own.map_err(|error| ApiError::Internal(error.to_string()))?;
        let life = Lifetime::For(REQUEST_KEY_LIFE);
        for _ in 0..REQUEST_KEY_CLAIMS {
            let written = self.store.write(name, &own, life, Condition::Absent).await;
            if written.map_err(unavailable)?.is_done() {
                return Ok(());
            }
            // It may have ended in between, or the store may have gone: the next write says so.
            let Some(value) = self.store.read(name).await.map_err(unavailable)? else {
                continue;
            };
            return match serde_json::from_slice::<ServerIdentity>(&value.bytes) {
                Ok(holder) if holder.id == self.server.id => Ok(()),
                Ok(holder) => Err(elsewhere(key, &holder)),
                Err(_) => Err(elsewhere(key, &"a server that cannot be made out")),
            };
        }
        Err(ApiError::StoreUnavailable(
            "it does not keep what is written".to_owned(),
        ))
    }
}

/// A store that refuses is as good as none for who needs it.
pub(crate) fn unavailable(error: StoreError) -> ApiError {
    ApiError::StoreUnavailable(error.to_string())
}

fn elsewhere(key: &str, server: &dyn fmt::Display) -> ApiError {
    ApiError::IdempotencyElsewhere {
        key: key.to_owned(),
        server: server.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_their_tokens_which_nobody_learns() {
        let [one, other] = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let token = |dir: &tempfile::TempDir| ApiToken::load_or_create(dir.path()).unwrap();
        let url = Some("http://ci.example".to_owned());
        let identity = ServerIdentity::new(&token(&one), url.clone());
        assert_eq!(identity.id, ServerIdentity::new(&token(&one), None).id);
        assert_ne!(identity.id, ServerIdentity::new(&token(&other), url).id);
        assert_eq!(identity.id.len(), 32);
        assert!(!token(&one).expose().contains(&identity.id));
        assert_eq!(identity.to_string(), "http://ci.example");
        let nowhere = ServerIdentity {
            url: None,
            ..identity
        };
        assert_eq!(nowhere.to_string(), format!("server {}", nowhere.id));
    }
}
