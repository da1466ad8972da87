//! Clients.

mod local;
mod remote;
mod stub;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use valkyrie_frame::StreamClass;
use valkyrie_transport::Endpoint;

use super::engine::{Engine, Service, Shared};
use super::router::Router;
use crate::config::LinkConfig;
use crate::error::ConnectError;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::serve;

pub use local::{Calling, LocalClient};
pub use remote::{Asked, Client};
pub use stub::{Channel, Stub};

/// What a client does with requests that do not say otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) timeout: Option<Duration>,
    pub(crate) call_class: StreamClass,
    pub(crate) stream_class: StreamClass,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            timeout: None,
            call_class: StreamClass::System,
            stream_class: StreamClass::Data,
        }
    }
}

/// Settings of a client; see [`LocalClient::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    config: LinkConfig,
    defaults: Defaults,
    message_max: usize,
    router: Router,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            config: LinkConfig::default(),
            defaults: Defaults::default(),
            message_max: MESSAGE_BYTES_MAX,
            router: Router::new(),
        }
    }
}

impl ClientBuilder {
    /// Settings of the connection.
    pub fn config(mut self, config: LinkConfig) -> Self {
        self.config = config;
        self
    }

    /// How long requests wait that have no deadline of their own. Default: for ever.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.defaults.timeout = Some(timeout);
        self
    }

    /// Class of calls and messages. Default: system.
    pub const fn call_class(mut self, class: StreamClass) -> Self {
        self.defaults.call_class = class;
        self
    }

    /// Class of streams. Default: data, of which 4,499 can be open.
    pub const fn stream_class(mut self, class: StreamClass) -> Self {
        self.defaults.stream_class = class;
        self
    }

    /// Longest message on a stream that is taken. Default: 4 MiB. One stream holds that much only
    /// while its reader waits for the message.
    pub const fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_max = bytes;
        self
    }

    /// Services that the other side may call over this connection.
    pub fn serve(mut self, router: Router) -> Self {
        self.router = router;
        self
    }

    /// Connects on this shard.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(self, endpoint: &Endpoint) -> Result<LocalClient, ConnectError> {
        let engine = Engine::new(Shared {
            router: self.router,
            message_max: self.message_max,
            running_max: usize::MAX,
            running: Rc::new(Cell::new(0)),
        });
        let handler = Service(Rc::clone(&engine));
        let link = serve::connect(endpoint, self.config, handler).await?;
        Ok(LocalClient::owning(link, engine, self.defaults))
    }
}
