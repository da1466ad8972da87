//! Requests and answers with what stands beside their messages.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use valkyrie_frame::{Metadata, Priority, StreamClass, Time, TraceContext};
use valkyrie_session::{CallOptions, Envelope, ReplyOptions, Urgency};

use crate::clock;

/// Name of a method, `package.Service/Method`; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct MethodName(Name);

#[derive(Clone, PartialEq, Eq)]
enum Name {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Deref for MethodName {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Name::Static(name) => name,
            Name::Shared(name) => name,
        }
    }
}

impl From<&'static str> for MethodName {
    fn from(name: &'static str) -> Self {
        Self(Name::Static(name))
    }
}

impl From<Arc<str>> for MethodName {
    fn from(name: Arc<str>) -> Self {
        Self(Name::Shared(name))
    }
}

impl From<String> for MethodName {
    fn from(name: String) -> Self {
        Self(Name::Shared(name.into()))
    }
}

impl fmt::Debug for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Whether a request of one message wants an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expects {
    Answer,
    Nothing,
}

/// What stands beside the message of a request.
#[derive(Debug, Clone)]
pub struct Parts {
    pub(crate) method: MethodName,
    pub(crate) class: Option<StreamClass>,
    pub(crate) deadline: Option<Time>,
    pub(crate) idempotency_key: Option<[u8; 16]>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) content_type: Cow<'static, str>,
    pub(crate) urgency: Urgency,
    pub(crate) priority: Priority,
    pub(crate) expects: Expects,
    pub(crate) metadata: Metadata,
    pub(crate) extensions: Extensions,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            method: MethodName::from(""),
            class: None,
            deadline: None,
            idempotency_key: None,
            trace: None,
            content_type: Cow::Borrowed(""),
            urgency: Urgency::Normal,
            priority: Priority::NORMAL,
            expects: Expects::Answer,
            metadata: Metadata::new(),
            extensions: Extensions::new(),
        }
    }
}

impl Parts {
    /// What a peer said beside its request.
    pub(crate) fn received(method: MethodName, now: Time, envelope: &Envelope<'_>) -> Self {
        let content_type = envelope.content_type();
        Self {
            method,
            deadline: envelope.deadline().map(|left| now + left),
            idempotency_key: envelope.idempotency_key(),
            trace: envelope.trace(),
            content_type: match content_type.is_empty() {
                true => Cow::Borrowed(""),
                false => Cow::Owned(content_type.to_owned()),
            },
            metadata: envelope.metadata().to_metadata(),
            ..Self::default()
        }
    }

    /// The same for the session; `timeout` holds where the request has no deadline.
    pub(crate) fn options(&self, now: Time, timeout: Option<Duration>) -> CallOptions<'_> {
        let left = self.deadline.map(|at| at.saturating_since(now));
        CallOptions {
            deadline: left.or(timeout),
            idempotency_key: self.idempotency_key,
            trace: self.trace,
            content_type: &self.content_type,
            metadata: self.metadata.view(),
            urgency: self.urgency,
            priority: self.priority,
        }
    }
}

/// A request: a message, or a stream of them, with what stands beside it.
///
/// ```
/// use std::time::Duration;
/// use valkyrie::Request;
///
/// let mut request = Request::new("ann").with_timeout(Duration::from_secs(2));
/// request.metadata_mut().insert("tenant", b"blue")?;
/// # Ok::<(), valkyrie::frame::MetadataError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Request<T> {
    parts: Parts,
    message: T,
}

impl<T> Request<T> {
    /// A request that says nothing beside its message.
    #[must_use]
    pub fn new(message: T) -> Self {
        let parts = Parts::default();
        Self { parts, message }
    }

    /// Puts a request together.
    #[must_use]
    pub const fn from_parts(parts: Parts, message: T) -> Self {
        Self { parts, message }
    }

    /// Takes a request apart.
    #[must_use]
    pub fn into_parts(self) -> (Parts, T) {
        (self.parts, self.message)
    }

    /// The message.
    #[must_use]
    pub const fn get_ref(&self) -> &T {
        &self.message
    }

    /// The message, to be changed.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// The message alone.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The same with another message.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Request<U> {
        Request {
            parts: self.parts,
            message: change(self.message),
        }
    }

    /// `package.Service/Method`; empty until a client sends the request.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.parts.method
    }

    pub(crate) fn with_method(mut self, method: MethodName) -> Self {
        self.parts.method = method;
        self
    }

    pub(crate) const fn expecting(mut self, expects: Expects) -> Self {
        self.parts.expects = expects;
        self
    }

    /// Names and values beside the message.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.parts.metadata
    }

    /// The same, to be changed.
    pub const fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.parts.metadata
    }

    /// When the caller stops waiting, on the clock of [`now`](crate::now).
    #[must_use]
    pub const fn deadline(&self) -> Option<Time> {
        self.parts.deadline
    }

    /// How long the caller still waits; zero when the time is over.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline().map(|at| at.saturating_since(clock::now()))
    }

    /// The same request, for which the caller waits `timeout` from now on. It holds at both ends:
    /// the caller gets status 105, the handler is dropped.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.parts.deadline = Some(clock::now() + timeout);
        self
    }

    /// The same request with the deadline of another, for a service that calls on.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Option<Time>) -> Self {
        self.parts.deadline = deadline;
        self
    }

    /// The key that makes a repeated request the same request.
    #[must_use]
    pub const fn idempotency_key(&self) -> Option<[u8; 16]> {
        self.parts.idempotency_key
    }

    /// The same request with a key that makes its repetition the same request.
    #[must_use]
    pub const fn with_idempotency_key(mut self, key: [u8; 16]) -> Self {
        self.parts.idempotency_key = Some(key);
        self
    }

    /// The trace that the request is a part of; a claim of the caller.
    #[must_use]
    pub const fn trace(&self) -> Option<TraceContext> {
        self.parts.trace
    }

    /// The same request as a part of a trace.
    #[must_use]
    pub const fn with_trace(mut self, trace: TraceContext) -> Self {
        self.parts.trace = Some(trace);
        self
    }

    /// The same request in another class than the client's default. It decides the place in the
    /// sending order and the window; see the specification, chapters 8 and 17.
    #[must_use]
    pub const fn with_class(mut self, class: StreamClass) -> Self {
        self.parts.class = Some(class);
        self
    }

    /// The same request, sent before the waiting frames of every class.
    #[must_use]
    pub const fn urgent(mut self) -> Self {
        self.parts.urgency = Urgency::Urgent;
        self
    }

    /// The same request on a stream of this priority: inside their class, those with a higher one
    /// leave first, in both directions.
    #[must_use]
    pub const fn with_priority(mut self, priority: Priority) -> Self {
        self.parts.priority = priority;
        self
    }

    /// Media type of the message; empty where it is not said.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.parts.content_type
    }

    /// The same request with a media type, at most 255 bytes.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<Cow<'static, str>>) -> Self {
        self.parts.content_type = content_type.into();
        self
    }

    /// Values that middleware leaves for handlers on this side; they do not travel.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.parts.extensions
    }

    /// The same, to be changed.
    pub const fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.parts.extensions
    }
}

impl<T> From<T> for Request<T> {
    fn from(message: T) -> Self {
        Self::new(message)
    }
}

/// An answer: a message, or a stream of them, with what stands beside it.
#[derive(Debug, Clone, Default)]
pub struct Response<T> {
    message: T,
    metadata: Metadata,
    content_type: Cow<'static, str>,
    extensions: Extensions,
}

impl<T> Response<T> {
    /// An answer that says nothing beside its message.
    #[must_use]
    pub fn new(message: T) -> Self {
        Self {
            message,
            metadata: Metadata::new(),
            content_type: Cow::Borrowed(""),
            extensions: Extensions::new(),
        }
    }

    pub(crate) fn received(message: T, envelope: Option<&Envelope<'_>>) -> Self {
        let mut response = Self::new(message);
        if let Some(envelope) = envelope {
            response.metadata = envelope.metadata().to_metadata();
            response.content_type = envelope.content_type().to_owned().into();
        }
        response
    }

    /// The message.
    #[must_use]
    pub const fn get_ref(&self) -> &T {
        &self.message
    }

    /// The message, to be changed.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// The message alone.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.message
    }

    /// The same with another message.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Response<U> {
        let Self {
            message,
            metadata,
            content_type,
            extensions,
        } = self;
        Response {
            message: change(message),
            metadata,
            content_type,
            extensions,
        }
    }

    pub(crate) fn try_map<U, E>(
        self,
        change: impl FnOnce(T) -> Result<U, E>,
    ) -> Result<Response<U>, E> {
        let (head, message) = self.split();
        change(message).map(|message| head.map(|()| message))
    }

    pub(crate) fn split(self) -> (Response<()>, T) {
        let Self {
            message,
            metadata,
            content_type,
            extensions,
        } = self;
        let head = Response {
            message: (),
            metadata,
            content_type,
            extensions,
        };
        (head, message)
    }

    /// Names and values beside the message.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The same, to be changed.
    pub const fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// Media type of the message; empty where it is not said.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The same answer with a media type, at most 255 bytes.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<Cow<'static, str>>) -> Self {
        self.content_type = content_type.into();
        self
    }

    /// Values that middleware leaves on this side; they do not travel.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The same, to be changed.
    pub const fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    pub(crate) fn options(&self) -> ReplyOptions<'_> {
        ReplyOptions {
            content_type: &self.content_type,
            metadata: self.metadata.view(),
        }
    }
}

impl<T> From<T> for Response<T> {
    fn from(message: T) -> Self {
        Self::new(message)
    }
}
