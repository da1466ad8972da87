//! A client for any thread.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio_util::sync::PollSender;
use tower::Service as TowerService;
use valkyrie_session::Retry;
use valkyrie_transport::Endpoint;

use super::{ClientBuilder, LocalClient};
use crate::error::{CloseReason, ConnectError};
use crate::idle::Idle;
use crate::limits::COMMANDS_MAX;
use crate::rpc::body::Body;
use crate::rpc::request::{MethodName, Request, Response};
use crate::rpc::status::Status;
use crate::shard::Shard;

/// Commands that are taken in one turn.
const COMMANDS_PER_TURN: usize = 256;

type Answer = Result<Response<Body>, Status>;

/// What a handle asks of the shard.
enum Command {
    Send(Request<Body>, oneshot::Sender<Answer>),
    Close(Duration, oneshot::Sender<CloseReason>),
}

/// A client for any thread and any runtime: [`Send`] and [`Clone`]. Its connection lives on a
/// thread of its own; requests cross to it by a bounded queue, many at a time. The connection
/// closes in order when the last clone is dropped.
///
/// A `tower` service over [`Body`], like [`LocalClient`], for [`Stub`](crate::Stub) and generated
/// clients.
///
/// ```
/// # use valkyrie::{Bytes, Endpoint, Raw, Request, Response, Router, Server, Service, Shard};
/// use valkyrie::Client;
///
/// # let (tell, told) = std::sync::mpsc::channel();
/// # Shard::spawn("doc-server", move || async move {
/// #     let echo = async |request: Request<Bytes>| Ok(Response::new(request.into_inner()));
/// #     let router = Router::new().with(Service::new("demo.Echo", Raw).unary("Say", echo));
/// #     let endpoint = "valkyrie+tcp://127.0.0.1:0".parse().unwrap();
/// #     let mut server = Server::builder().listen(&endpoint, router).await.unwrap();
/// #     tell.send(server.endpoint().clone()).unwrap();
/// #     server.wait().await.unwrap();
/// # })?;
/// # let endpoint: Endpoint = told.recv()?;
/// let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
/// runtime.block_on(async {
///     let client = Client::connect(&endpoint).await?;
///     let answer = client.call("demo.Echo/Say", Request::new("hello".into())).await?;
///     assert_eq!(answer.get_ref(), "hello");
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client {
    commands: PollSender<Command>,
}

impl Clone for Client {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
        }
    }
}

/// Carries out commands until no handle is left and the connection has closed.
async fn run(client: LocalClient, mut commands: mpsc::Receiver<Command>) {
    let mut taken = Vec::with_capacity(COMMANDS_PER_TURN);
    while commands.recv_many(&mut taken, COMMANDS_PER_TURN).await > 0 {
        for command in taken.drain(..) {
            match command {
                Command::Send(request, answer) => send(client.clone(), request, answer),
                Command::Close(drain, closed) => {
                    let client = client.clone();
                    spawn_local(async move { drop(closed.send(client.close(drain).await)) });
                }
            }
        }
    }
    let link = client.link().clone();
    drop(client);
    link.closed().await;
}

/// Sends a request and its answer back, unless nobody waits for it any more.
fn send(mut client: LocalClient, request: Request<Body>, mut answer: oneshot::Sender<Answer>) {
    if answer.is_closed() {
        return;
    }
    let answering = TowerService::call(&mut client, request);
    spawn_local(async move {
        tokio::select! {
            result = answering => drop(answer.send(result)),
            // The call is canceled with its future.
            () = answer.closed() => {}
        }
    });
}

/// The connection ended; whether the request was handled is not known.
fn gone() -> Status {
    Status::from(CloseReason::Closed)
}

/// The connection ended before the request was sent.
fn not_sent() -> Status {
    gone().with_retry(Retry::After(Duration::ZERO))
}

impl Client {
    /// Connects with default settings, on a new thread.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        Self::connect_with(endpoint, ClientBuilder::default).await
    }

    /// Connects on a new thread, with the settings that `settings` makes there.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_with(
        endpoint: &Endpoint,
        settings: impl FnOnce() -> ClientBuilder + Send + 'static,
    ) -> Result<Self, ConnectError> {
        Self::connect_idle(endpoint, Idle::default(), settings).await
    }

    /// The same on a thread that does `idle` when nothing is to be done.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_idle(
        endpoint: &Endpoint,
        idle: Idle,
        settings: impl FnOnce() -> ClientBuilder + Send + 'static,
    ) -> Result<Self, ConnectError> {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (tell, told) = oneshot::channel();
        let endpoint = endpoint.clone();
        let main = move || async move {
            match settings().connect(&endpoint).await {
                Ok(client) => {
                    drop(tell.send(Ok(())));
                    run(client, commands).await;
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        };
        Shard::spawn_with("valkyrie-client", idle, main).map_err(ConnectError::Thread)?;
        let ended = || ConnectError::Thread(io::Error::other("the thread of the client ended"));
        told.await.unwrap_or_else(|_| Err(ended()))?;
        let commands = PollSender::new(sender);
        Ok(Self { commands })
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let queue = self.commands.get_ref().ok_or_else(not_sent)?;
        let sent = queue.send(Command::Send(request, answer)).await;
        sent.map_err(|_| not_sent())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Calls a method with one message for one answer. Dropping the future cancels the call at the
    /// server.
    ///
    /// # Errors
    /// The call failed.
    pub async fn call(
        &self,
        method: impl Into<MethodName>,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Status> {
        let request = request.with_method(method.into()).map(Body::Message);
        let (head, body) = self.ask(request).await?.split();
        let message = body.into_message().await?;
        Ok(head.map(|()| message))
    }

    /// Starts the orderly end: no new requests, what runs may end within `drain`. Returns when the
    /// connection is over.
    pub async fn close(&self, drain: Duration) -> CloseReason {
        let (closed, told) = oneshot::channel();
        let Some(queue) = self.commands.get_ref() else {
            return CloseReason::Closed;
        };
        if queue.send(Command::Close(drain, closed)).await.is_err() {
            return CloseReason::Closed;
        }
        told.await.unwrap_or(CloseReason::Closed)
    }
}

/// What a [`Client`] as a `tower` service gives: the answer, when it comes.
#[derive(Debug)]
pub struct Asked {
    answered: Result<oneshot::Receiver<Answer>, Option<Status>>,
}

impl Future for Asked {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut self.answered {
            Ok(answered) => {
                let answer = ready!(Pin::new(answered).poll(cx));
                Poll::Ready(answer.unwrap_or_else(|_| Err(gone())))
            }
            Err(status) => Poll::Ready(Err(status.take().unwrap_or_else(gone))),
        }
    }
}

impl TowerService<Request<Body>> for Client {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Asked;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.commands.poll_reserve(cx).map_err(|_| not_sent())
    }

    fn call(&mut self, request: Request<Body>) -> Asked {
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.send_item(Command::Send(request, answer));
        Asked {
            answered: match sent {
                Ok(()) => Ok(answered),
                Err(_) => Err(Some(not_sent())),
            },
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
