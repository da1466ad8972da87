//! Servers.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use valkyrie_frame::ErrorCode;
use valkyrie_transport::{Endpoint, ListenError, Listener, listen};

use super::client::LocalClient;
use super::engine::{Engine, Service, Shared};
use super::router::Router;
use crate::config::LinkConfig;
use crate::error::{CloseReason, ServeError};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::link::{Handler, Link};
use crate::serve::serve;

type OnConnect = Rc<dyn Fn(LocalClient)>;

/// Settings of a server; see [`Server::builder`].
#[derive(Clone)]
#[must_use]
pub struct ServerBuilder {
    config: LinkConfig,
    message_max: usize,
    running_max: usize,
    on_connect: Option<OnConnect>,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            config: LinkConfig::default(),
            message_max: MESSAGE_BYTES_MAX,
            running_max: usize::MAX,
            on_connect: None,
        }
    }
}

impl ServerBuilder {
    /// Settings of the connections.
    pub fn config(mut self, config: LinkConfig) -> Self {
        self.config = config;
        self
    }

    /// Longest message on a stream that is taken. Default: 4 MiB. One stream holds that much only
    /// while its handler waits for the message.
    pub const fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_max = bytes;
        self
    }

    /// Requests that are handled at once, over all connections; one more fails with 501, to be
    /// tried again. Default: as many as the limits of the connections allow.
    pub const fn concurrency(mut self, requests: usize) -> Self {
        self.running_max = requests;
        self
    }

    /// Calls `on_connect` for each new connection, with a client for calling back what the other
    /// side serves.
    pub fn on_connect(mut self, on_connect: impl Fn(LocalClient) + 'static) -> Self {
        self.on_connect = Some(Rc::new(on_connect));
        self
    }

    /// Listens on `endpoint` and serves there.
    ///
    /// # Errors
    /// The endpoint cannot be listened on.
    pub async fn listen(self, endpoint: &Endpoint, router: Router) -> Result<Server, ListenError> {
        Ok(self.serve(listen(endpoint).await?, router))
    }

    /// As [`listen`](Self::listen), with a router for each connection, so that handlers can remember
    /// what its client said: `make` gets the connection before anything was read from it.
    ///
    /// # Errors
    /// The endpoint cannot be listened on.
    pub async fn listen_each(
        self,
        endpoint: &Endpoint,
        make: impl Fn(&Link) -> Router + 'static,
    ) -> Result<Server, ListenError> {
        Ok(self.serve_each(listen(endpoint).await?, make))
    }

    /// Serves the connections of a listener, in local tasks of this shard.
    #[must_use]
    pub fn serve(self, listener: Listener, router: Router) -> Server {
        self.serve_each(listener, move |_| router.clone())
    }

    /// The same with a router for each connection; see [`listen_each`](Self::listen_each).
    #[must_use]
    pub fn serve_each(
        self,
        listener: Listener,
        make: impl Fn(&Link) -> Router + 'static,
    ) -> Server {
        let endpoint = listener.endpoint().clone();
        let links = Links::default();
        let (message_max, running_max) = (self.message_max, self.running_max);
        let running = Rc::new(Cell::new(0));
        let (kept, on_connect) = (links.clone(), self.on_connect);
        let connection = move |link: &Link| {
            let engine = Engine::new(Shared {
                router: make(link),
                message_max,
                running_max,
                running: Rc::clone(&running),
            });
            kept.add(link);
            Connection {
                service: Service(Rc::clone(&engine)),
                engine,
                links: kept.clone(),
                on_connect: on_connect.clone(),
            }
        };
        let accepting = spawn_local(serve(listener, self.config, connection));
        Server {
            endpoint,
            links,
            accepting,
        }
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.config)
            .field("message_max", &self.message_max)
            .field("running_max", &self.running_max)
            .finish_non_exhaustive()
    }
}

/// The connections that are open.
#[derive(Clone, Default)]
struct Links {
    inner: Rc<(RefCell<Vec<Link>>, Notify)>,
}

impl Links {
    fn add(&self, link: &Link) {
        self.inner.0.borrow_mut().push(link.clone());
    }

    fn remove(&self, link: &Link) {
        let (open, changed) = &*self.inner;
        open.borrow_mut().retain(|known| known.id() != link.id());
        changed.notify_waiters();
    }

    fn len(&self) -> usize {
        self.inner.0.borrow().len()
    }

    fn close(&self, drain: Duration) {
        let open = self.inner.0.borrow().clone();
        for link in open {
            link.close(ErrorCode::NONE, drain);
        }
    }

    async fn none(&self) {
        loop {
            let changed = self.inner.1.notified();
            if self.len() == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// One connection of a server.
struct Connection {
    service: Service,
    engine: Rc<Engine>,
    links: Links,
    on_connect: Option<OnConnect>,
}

impl Handler for Connection {
    fn event(&mut self, link: &Link, event: valkyrie_session::Event<'_>) {
        if let valkyrie_session::Event::Ready(_) = event
            && let Some(on_connect) = self.on_connect.take()
        {
            let engine = Rc::clone(&self.engine);
            on_connect(LocalClient::of_server(link.clone(), engine));
        }
        self.service.event(link, event);
    }

    fn batch(&mut self, link: &Link, batch: valkyrie_session::Batch<'_>) {
        self.service.batch(link, batch);
    }

    fn poll(
        &mut self,
        link: &Link,
        cx: &mut std::task::Context<'_>,
    ) -> Option<valkyrie_frame::Time> {
        self.service.poll(link, cx)
    }

    fn closed(&mut self, link: &Link, reason: &CloseReason) {
        self.service.closed(link, reason);
        self.links.remove(link);
    }
}

/// A server on this shard. It goes on when this handle is dropped.
///
/// ```
/// use valkyrie::{Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service};
///
/// valkyrie::block_on(async {
///     let echo = async |request: Request<Bytes>| Ok(Response::new(request.into_inner()));
///     let router = Router::new().with(Service::new("demo.Echo", Raw).unary("Say", echo));
///     let endpoint: Endpoint = "valkyrie+mem://doc-server".parse()?;
///     let server = Server::builder().listen(&endpoint, router).await?;
///
///     let client = LocalClient::connect(server.endpoint()).await?;
///     let answer = client.call("demo.Echo/Say", Request::new("hello".into())).await?;
///     assert_eq!(answer.get_ref(), "hello");
///     drop(client);
///     server.shutdown(std::time::Duration::from_secs(1)).await;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    endpoint: Endpoint,
    links: Links,
    accepting: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    /// Settings of a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Connections that are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.links.len()
    }

    /// Serves until the listener breaks.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn wait(&mut self) -> Result<(), ServeError> {
        match (&mut self.accepting).await {
            Ok(result) => result,
            // The task was stopped with its runtime.
            Err(_) => Ok(()),
        }
    }

    /// Ends in order: takes no new connection, tells every peer, answers what runs, lets streams
    /// end, and returns when all connections are closed. What takes longer than `drain` is cut.
    pub async fn shutdown(self, drain: Duration) {
        self.accepting.abort();
        self.links.close(drain);
        self.links.none().await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("endpoint", &self.endpoint)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
