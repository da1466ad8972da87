//! Yggdrasil over Valkyrie.

mod link;
mod ops;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use secrecy::SecretString;
use valkyrie::{Endpoint, ErrorCode, Idle, Request, Retry, Status};
use yggdrasil::Limit;
use yggdrasil_calls::{NOT_NOW, REJECTED, UNSURE, WRONG_TYPE};

use crate::adapter::USUAL_LIMIT;
use crate::credentials::Secret;
use crate::error::{Applied, StoreError};
use link::Links;

/// How Yggdrasil is reached over Valkyrie.
#[derive(Clone)]
pub struct ValkyrieConfig {
    /// What the store is called in errors, logs and metrics. Default: `yggdrasil`.
    pub name: String,
    /// `valkyrie+unix:///path`, `valkyrie+shm:///path` or `valkyrie+tcp://host:port`. Default:
    /// `valkyrie+unix:///run/yggdrasil.sock`.
    pub url: String,
    /// The user; without one it is the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// Where the password is read again when the server refuses it, and in the beginning where
    /// `password` is `None`.
    pub password_from: Option<Secret>,
    /// Connections, each for many operations at once and with a thread of its own, 1 to 64. Default: 1.
    pub connections: usize,
    /// How often a connection that cannot be made is tried again within an operation, 0 to 10, with
    /// pauses that double from 10 ms on, each shortened by chance. Retries are at most a tenth of
    /// operations. Default: 0.
    pub retries: u32,
    /// Time to connect. Default: 1 s.
    pub connect_timeout: Duration,
    /// Time for an answer. Default: 1 s.
    pub timeout: Duration,
    /// What the thread of a connection does when nothing is to be done. Default: it sleeps.
    pub idle: Idle,
    /// The limit of [`try_consume`](crate::StoreAdapter::try_consume).
    pub usual_limit: Limit,
}

impl Default for ValkyrieConfig {
    fn default() -> Self {
        Self {
            name: "yggdrasil".to_owned(),
            url: "valkyrie+unix:///run/yggdrasil.sock".to_owned(),
            username: None,
            password: None,
            password_from: None,
            connections: 1,
            retries: 0,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            idle: Idle::Park,
            usual_limit: USUAL_LIMIT,
        }
    }
}

impl fmt::Debug for ValkyrieConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkyrieConfig")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("username", &self.username)
            .field("connections", &self.connections)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A store in Yggdrasil, which is spoken to over Valkyrie: through shared memory, a Unix socket or TCP.
/// Clones share its connections. Operations need a runtime of tokio.
#[derive(Clone)]
pub struct ValkyrieStore(Arc<Inner>);

struct Inner {
    name: String,
    links: Links,
    timeout: Duration,
    usual_limit: Limit,
}

impl fmt::Debug for ValkyrieStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValkyrieStore")
            .field("name", &self.0.name)
            .field("endpoint", &self.0.links.endpoint())
            .finish_non_exhaustive()
    }
}

impl ValkyrieStore {
    /// A store. Connections are made when they are needed.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where a setting is none.
    pub fn new(config: &ValkyrieConfig) -> Result<Self, StoreError> {
        let wrong = |text: String| StoreError::Config(format!("{}: {text}", config.name));
        if !(1..=64).contains(&config.connections) {
            let count = config.connections;
            return Err(wrong(format!("{count} connections; set 1 to 64")));
        }
        let endpoint: Endpoint = config
            .url
            .parse()
            .map_err(|error: valkyrie::EndpointError| wrong(error.to_string()))?;
        Ok(Self(Arc::new(Inner {
            name: config.name.clone(),
            links: Links::new(endpoint, config),
            timeout: config.timeout,
            usual_limit: config.usual_limit,
        })))
    }

    /// Calls a method.
    async fn call<T: Message + Default>(
        &self,
        method: &'static str,
        request: &impl Message,
    ) -> Result<T, StoreError> {
        let message = Bytes::from(request.encode_to_vec());
        let links = &self.0.links;
        let mut ended = 0;
        loop {
            let link = links.link().await.map_err(|cause| self.unreached(&cause))?;
            let request = Request::new(message.clone()).with_timeout(self.0.timeout);
            let status = match link.client.call(method, request).await {
                Ok(answer) => return T::decode(answer.into_inner()).map_err(|_| self.unread()),
                Err(status) => status,
            };
            if has_ended(&status) {
                links.forget(&link);
                // It ended while nobody used it, as all of them may have.
                if is_not_sent(&status) && ended < links.len() {
                    ended += 1;
                    continue;
                }
            }
            return Err(self.failed(&status));
        }
    }

    fn unreached(&self, status: &Status) -> StoreError {
        let endpoint = self.0.links.endpoint();
        let what = match status.code() {
            ErrorCode::DENIED => "refuses the connection",
            _ => "cannot be reached",
        };
        self.unavailable(format!("{endpoint} {what}: {}", status.text()), Applied::No)
    }

    /// The answer is that of another program.
    fn unread(&self) -> StoreError {
        let cause = "the answer is not one of Yggdrasil".to_owned();
        self.unavailable(cause, Applied::Unknown)
    }

    fn failed(&self, status: &Status) -> StoreError {
        let (store, cause) = (self.0.name.clone(), status.text().to_owned());
        match status.code() {
            WRONG_TYPE => StoreError::WrongType { store },
            REJECTED | ErrorCode::TOO_LARGE | ErrorCode::UNEXPECTED => {
                StoreError::Rejected { store, cause }
            }
            UNSURE => self.unavailable(cause, Applied::Unknown),
            NOT_NOW | ErrorCode::DENIED | ErrorCode::BANNED => self.unavailable(cause, Applied::No),
            _ if is_not_sent(status) => self.unavailable(cause, Applied::No),
            _ => self.unavailable(cause, Applied::Unknown),
        }
    }

    fn unavailable(&self, cause: String, applied: Applied) -> StoreError {
        StoreError::Unavailable {
            store: self.0.name.clone(),
            cause,
            applied,
        }
    }
}

/// Whether the connection is of no more use.
fn has_ended(status: &Status) -> bool {
    let of_store = matches!(status.code(), WRONG_TYPE | REJECTED | NOT_NOW | UNSURE);
    // These are about one call.
    let of_call = matches!(
        status.code(),
        ErrorCode::TOO_LARGE | ErrorCode::UNEXPECTED | ErrorCode::LIMIT | ErrorCode::OVERLOADED
    );
    let is_late = status.code() == ErrorCode::TIMEOUT && !is_not_sent(status);
    !of_store && !of_call && !is_late
}

/// Whether nothing was done with the call, so that it may be sent elsewhere.
fn is_not_sent(status: &Status) -> bool {
    matches!(status.retry(), Retry::After(_))
}
