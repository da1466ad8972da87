//! A client on the shard of its connection.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tower::Service as TowerService;
use valkyrie_frame::{ErrorCode, StreamClass};
use valkyrie_session::{Retry, SendError};

use super::{ClientBuilder, Defaults};
use crate::calls::{Answer, Call, CallError, Reply};
use crate::error::{CloseReason, ConnectError};
use crate::link::Link;
use crate::rpc::body::Body;
use crate::rpc::engine::Engine;
use crate::rpc::request::{Expects, MethodName, Parts, Request, Response};
use crate::rpc::status::Status;
use crate::rpc::streaming::Streaming;
use valkyrie_transport::Endpoint;

/// Time that streams have to end when the last handle of a client is dropped.
const DRAIN: Duration = Duration::from_secs(60);

/// A client on the shard of its connection: the fastest, and not [`Send`]. Clones share the
/// connection, which closes in order when the last one is dropped.
///
/// A `tower` service over [`Body`]: a request with one message is a call, one with a stream opens
/// a stream.
#[derive(Clone)]
pub struct LocalClient {
    inner: Rc<Inner>,
}

struct Inner {
    link: Link,
    engine: Rc<Engine>,
    defaults: Defaults,
    owner: Owner,
}

/// Whether the connection ends with the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Client,
    Server,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.owner == Owner::Client {
            self.link.close(ErrorCode::NONE, DRAIN);
        }
    }
}

impl LocalClient {
    /// Connects with default settings; has to run on a shard.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        Self::builder().connect(endpoint).await
    }

    /// Settings of a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn owning(link: Link, engine: Rc<Engine>, defaults: Defaults) -> Self {
        Self::new(link, engine, defaults, Owner::Client)
    }

    /// The client that a server has for calling back.
    pub(crate) fn of_server(link: Link, engine: Rc<Engine>) -> Self {
        Self::new(link, engine, Defaults::default(), Owner::Server)
    }

    fn new(link: Link, engine: Rc<Engine>, defaults: Defaults, owner: Owner) -> Self {
        Self {
            inner: Rc::new(Inner {
                link,
                engine,
                defaults,
                owner,
            }),
        }
    }

    /// The connection.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.inner.link
    }

    /// Starts the orderly end: no new requests, what runs may end within `drain`. Returns when the
    /// connection is over.
    pub async fn close(&self, drain: Duration) -> CloseReason {
        self.inner.link.close(ErrorCode::NONE, drain);
        self.inner.link.closed().await
    }

    fn class_of(&self, parts: &Parts) -> StreamClass {
        parts.class.unwrap_or(self.inner.defaults.call_class)
    }

    /// Calls a method with one message for one answer. The request is sent at once, or as soon as
    /// the server takes another call; dropping the future cancels it at the server.
    pub fn call(&self, method: impl Into<MethodName>, request: Request<Bytes>) -> Calling {
        let (parts, message) = request.with_method(method.into()).into_parts();
        let step = match self.begin(&parts, &message) {
            Some(step) => step,
            None => Step::Waits(Box::new((parts, message))),
        };
        let client = self.clone();
        Calling { client, step }
    }

    /// Sends a request; `None` when the server takes no further call now.
    fn begin(&self, parts: &Parts, message: &[u8]) -> Option<Step> {
        if let Err(status) = self.check() {
            return Some(Step::Failed(status));
        }
        let mut session = self.inner.link.session();
        let options = parts.options(session.now(), self.inner.defaults.timeout);
        let (class, method) = (self.class_of(parts), &*parts.method);
        if parts.expects == Expects::Nothing {
            return Some(
                match session.message_with(class, method, message, &options) {
                    Ok(()) => Step::Done,
                    Err(error) => Step::Failed(error.into()),
                },
            );
        }
        match session.call_with(class, method, message, &options) {
            Ok(call) => {
                drop(session);
                Some(Step::Sent(self.inner.link.answer(call)))
            }
            Err(SendError::CallsExhausted) => None,
            Err(error) => Some(Step::Failed(error.into())),
        }
    }

    /// As [`call`](Self::call), but gives the answer to `then` where it lies in the read buffer:
    /// without a copy, and without waking a task.
    ///
    /// # Errors
    /// The request was not sent; 303 when the server takes no further call now.
    pub fn call_then(
        &self,
        method: &str,
        message: &[u8],
        timeout: Option<Duration>,
        then: impl FnOnce(Result<Reply<'_>, CallError>) + 'static,
    ) -> Result<(), Status> {
        let link = &self.inner.link;
        self.check()?;
        let class = self.inner.defaults.call_class;
        let timeout = timeout.or(self.inner.defaults.timeout);
        let call = link.session().call(class, method, message, timeout)?;
        link.answer_then(call, Box::new(then));
        Ok(())
    }

    fn check(&self) -> Result<(), Status> {
        match self.inner.link.close_reason() {
            // Nothing was sent, so another connection may be asked.
            Some(reason) => Err(Status::from(reason).with_retry(Retry::After(Duration::ZERO))),
            None => Ok(()),
        }
    }

    /// Sends one message that wants no answer.
    ///
    /// # Errors
    /// The message was not sent.
    pub fn notify(
        &self,
        method: impl Into<MethodName>,
        request: Request<Bytes>,
    ) -> Result<(), Status> {
        let (parts, message) = request.with_method(method.into()).into_parts();
        self.check()?;
        let mut session = self.inner.link.session();
        let options = parts.options(session.now(), self.inner.defaults.timeout);
        session.message_with(self.class_of(&parts), &parts.method, &message, &options)?;
        Ok(())
    }

    /// Opens a stream for a method, sends its messages as the server takes them, and returns the
    /// server's messages. Dropping those cancels the call at the server.
    ///
    /// # Errors
    /// The stream was not opened.
    pub fn open(
        &self,
        method: impl Into<MethodName>,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Streaming<Bytes>, Status> {
        let (parts, messages) = request.with_method(method.into()).into_parts();
        self.check()?;
        let Defaults {
            timeout,
            stream_class,
            ..
        } = self.inner.defaults;
        let class = parts.class.unwrap_or(stream_class);
        let engine = &self.inner.engine;
        engine.open(&self.inner.link, &parts, class, timeout, messages)
    }
}

impl fmt::Debug for LocalClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalClient")
            .field(&self.inner.link)
            .finish()
    }
}

/// The answer of a call, when it comes; see [`LocalClient::call`].
pub struct Calling {
    client: LocalClient,
    step: Step,
}

enum Step {
    /// The server takes no further call now.
    Waits(Box<(Parts, Bytes)>),
    Sent(Call),
    Failed(Status),
    Done,
}

fn response(answer: Answer) -> Response<Bytes> {
    Response::received(answer.body, answer.envelope.as_deref())
}

impl Future for Calling {
    type Output = Result<Response<Bytes>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { client, step } = self.get_mut();
        loop {
            match step {
                Step::Sent(call) => {
                    let answer = ready!(Pin::new(call).poll(cx));
                    *step = Step::Done;
                    return Poll::Ready(answer.map(response).map_err(Status::from));
                }
                Step::Waits(request) => {
                    let (parts, message) = request.as_ref();
                    ready!(client.inner.link.poll_call_room(cx));
                    if let Some(next) = client.begin(parts, message) {
                        *step = next;
                    }
                }
                Step::Failed(status) => {
                    let status = status.clone();
                    *step = Step::Done;
                    return Poll::Ready(Err(status));
                }
                // A message that wants no answer.
                Step::Done => return Poll::Ready(Ok(Response::new(Bytes::new()))),
            }
        }
    }
}

/// What a [`LocalClient`] as a `tower` service gives: the answer, when it comes.
pub struct Answering(Answers);

enum Answers {
    Call(Calling),
    Stream(Option<Result<Streaming<Bytes>, Status>>),
}

impl Future for Answering {
    type Output = Result<Response<Body>, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Answers::Call(call) => {
                let answer = ready!(Pin::new(call).poll(cx));
                Poll::Ready(answer.map(|response| response.map(Body::Message)))
            }
            Answers::Stream(opened) => {
                let opened = opened.take().unwrap_or_else(|| Err(Status::canceled()));
                Poll::Ready(opened.map(|messages| Response::new(Body::Stream(messages))))
            }
        }
    }
}

impl TowerService<Request<Body>> for LocalClient {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        ready!(self.inner.link.poll_call_room(cx));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        Answering(match body {
            Body::Message(message) => {
                let request = Request::from_parts(parts, message);
                Answers::Call(Self::call(self, method, request))
            }
            Body::Stream(messages) => {
                let request = Request::from_parts(parts, messages);
                Answers::Stream(Some(self.open(method, request)))
            }
        })
    }
}
