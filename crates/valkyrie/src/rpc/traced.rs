//! Spans of requests, for a collector of traces.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use telemetry::otlp::{Span, SpanKind, SpanQueue, SpanStatus, Value};
use tower::{Layer, Service as TowerService};
use valkyrie_frame::TraceContext;

use super::body::Body;
use super::request::{Request, Response};
use super::status::Status;

/// Traces that begin at a client: one in so many requests that belong to none.
const ROOTS_ONE_IN: u32 = 100;

/// A `tower` layer that makes a span of each request which belongs to a sampled trace, from the
/// request to the beginning of its answer, with the names of OpenTelemetry's RPC conventions.
///
/// Around a [`Router`](crate::Router) the parent is the context that the caller sent; around a
/// client it is the context of the request, and the server gets that of the new span. The request
/// carries the new context from then on: a handler that passes [`Request::trace`] on to its own
/// calls continues the trace. Log events inside belong to a `tracing` span with the ids.
#[derive(Debug, Clone)]
pub struct Traced {
    spans: SpanQueue,
    side: SpanKind,
    roots: Option<Arc<Roots>>,
}

/// Decides which requests without a trace begin one.
#[derive(Debug)]
struct Roots {
    one_in: u32,
    count: AtomicU32,
}

impl Traced {
    /// Spans of the answering side.
    #[must_use]
    pub const fn server(spans: SpanQueue) -> Self {
        let (side, roots) = (SpanKind::Server, None);
        Self { spans, side, roots }
    }

    /// Spans of the asking side. One in a hundred requests without a trace begins one.
    #[must_use]
    pub fn client(spans: SpanQueue) -> Self {
        let side = SpanKind::Client;
        let traced = Self {
            spans,
            side,
            roots: None,
        };
        traced.roots(ROOTS_ONE_IN)
    }

    /// The same, but one in `one_in` requests without a trace begins one; none for 0.
    #[must_use]
    pub fn roots(mut self, one_in: u32) -> Self {
        let count = AtomicU32::new(0);
        self.roots = (one_in > 0).then(|| Arc::new(Roots { one_in, count }));
        self
    }

    /// Begins the span of a request, which carries it from then on.
    fn begin(&self, request: Request<Body>) -> (Request<Body>, Option<Open>) {
        let parent = request.trace();
        let sampled = match (&parent, &self.roots) {
            (Some(parent), _) => parent.flags & 1 == 1,
            (None, Some(roots)) => roots.count.fetch_add(1, Ordering::Relaxed) % roots.one_in == 0,
            (None, None) => false,
        };
        let Some(context) = sampled.then(|| child_of(parent)).flatten() else {
            return (request, None);
        };
        let open = Open {
            spans: self.spans.clone(),
            side: self.side,
            context,
            parent_id: parent.map(|parent| parent.parent_id),
            method: request.method().to_owned(),
            start_ns: unix_ns(),
            log: tracing::info_span!("request", method = request.method(), trace = %context),
        };
        (request.with_trace(context), Some(open))
    }
}

/// The context of a new span; `None` when the system has no randomness.
fn child_of(parent: Option<TraceContext>) -> Option<TraceContext> {
    let mut random = [0; 24];
    getrandom::fill(&mut random).ok()?;
    let (trace, span) = random.split_first_chunk::<16>()?;
    let parent_id = *span.first_chunk::<8>()?;
    Some(match parent {
        Some(parent) => TraceContext {
            parent_id,
            ..parent
        },
        // Sampled, with a random id.
        None => TraceContext {
            trace_id: *trace,
            parent_id,
            flags: 3,
        },
    })
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// A span that is not over.
#[derive(Debug)]
struct Open {
    spans: SpanQueue,
    side: SpanKind,
    /// That of the span itself: its id stands where its children find their parent's.
    context: TraceContext,
    parent_id: Option<[u8; 8]>,
    method: String,
    start_ns: u64,
    log: tracing::Span,
}

impl Open {
    fn end(self, failure: Option<(Cow<'static, str>, String)>) {
        let (service, method) = self.method.split_once('/').unwrap_or(("", &self.method));
        let mut attributes = vec![
            (Cow::Borrowed("rpc.system"), Value::from("valkyrie")),
            (Cow::Borrowed("rpc.service"), Value::from(service)),
            (Cow::Borrowed("rpc.method"), Value::from(method)),
        ];
        let status = match failure {
            None => SpanStatus::Unset,
            Some((kind, text)) => {
                attributes.push((Cow::Borrowed("error.type"), Value::from(kind.into_owned())));
                SpanStatus::Error(text)
            }
        };
        self.spans.put(vec![Span {
            trace_id: self.context.trace_id,
            span_id: self.context.parent_id,
            parent_id: self.parent_id,
            name: self.method.clone(),
            kind: self.side,
            start_ns: self.start_ns,
            end_ns: unix_ns().max(self.start_ns),
            attributes,
            status,
        }]);
    }
}

impl<S> Layer<S> for Traced {
    type Service = TracedService<S>;

    fn layer(&self, inner: S) -> TracedService<S> {
        let traced = self.clone();
        TracedService { inner, traced }
    }
}

/// What [`Traced`] makes of a service.
#[derive(Debug, Clone)]
pub struct TracedService<S> {
    inner: S,
    traced: Traced,
}

impl<S, E> TowerService<Request<Body>> for TracedService<S>
where
    S: TowerService<Request<Body>, Response = Response<Body>, Error = E>,
    E: fmt::Display + 'static,
{
    type Response = Response<Body>;
    type Error = E;
    type Future = TracedAnswer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (request, open) = self.traced.begin(request);
        let log = open.as_ref().map(|open| open.log.clone());
        let _inside = log.as_ref().map(tracing::Span::enter);
        let inner = Box::pin(self.inner.call(request));
        TracedAnswer { inner, open }
    }
}

/// The answer of a [`TracedService`]. Dropping it ends the span as canceled.
#[derive(Debug)]
pub struct TracedAnswer<F> {
    inner: Pin<Box<F>>,
    open: Option<Open>,
}

impl<F, E> Future for TracedAnswer<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
    E: fmt::Display + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let log = self.open.as_ref().map(|open| open.log.clone());
        let _inside = log.as_ref().map(tracing::Span::enter);
        let answer = ready!(self.inner.as_mut().poll(cx));
        if let Some(open) = self.open.take() {
            open.end(answer.as_ref().err().map(failure_of));
        }
        Poll::Ready(answer)
    }
}

impl<F> Drop for TracedAnswer<F> {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            open.end(Some((Cow::Borrowed("canceled"), "canceled".to_owned())));
        }
    }
}

/// The kind of an error with few values, and its words.
fn failure_of<E: fmt::Display + 'static>(error: &E) -> (Cow<'static, str>, String) {
    let status = (error as &dyn Any).downcast_ref::<Status>();
    let kind = status.map_or("error", |status| status.code().name());
    (Cow::Borrowed(kind), error.to_string())
}
