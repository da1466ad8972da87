//! Services by name, and who handles what.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tower::util::ServiceExt;
use tower::{Layer, Service as TowerService};

use super::body::Body;
use super::codec::{Codec, Decode, Encode, Raw};
use super::method::{
    Answering, Bidirectional, ClientStream, Method, OnStream, OneWay, ServerStream, Unary,
};
use super::request::{MethodName, Request, Response};
use super::status::Status;
use super::streaming::Streaming;

/// The methods of one service, `package.Service`, whose messages a codec reads and writes.
///
/// Handlers are async functions. They run on the shard of their connection and are polled inline
/// once: a handler that waits for nothing costs no task and no allocation. It is dropped when its
/// caller gives up or its deadline passes.
///
/// ```
/// use valkyrie::{Json, Request, Response, Service};
///
/// let service = Service::new("demo.Math", Json).unary("Square", async |request: Request<i64>| {
///     Ok(Response::new(request.get_ref() * request.get_ref()))
/// });
/// ```
pub struct Service<C = Raw> {
    name: String,
    methods: Vec<(String, Rc<dyn Method>)>,
    codec: PhantomData<fn() -> C>,
}

impl<C: Codec> Service<C> {
    /// A service without methods yet.
    pub fn new(name: impl Into<String>, codec: C) -> Self {
        let _ = codec;
        Self {
            name: name.into(),
            methods: Vec::new(),
            codec: PhantomData,
        }
    }

    fn method(mut self, name: &str, method: impl Method + 'static) -> Self {
        let name = format!("{}/{name}", self.name);
        self.methods.push((name, Rc::new(method)));
        self
    }

    /// A method with one request and one answer.
    #[must_use]
    pub fn unary<T, U, H, F>(self, name: &str, handler: H) -> Self
    where
        C: Decode<T> + Encode<U>,
        T: 'static,
        U: 'static,
        H: Fn(Request<T>) -> F + 'static,
        F: Future<Output = Result<Response<U>, Status>> + 'static,
    {
        self.method(name, Unary::<C, T, U, H, F>::new(handler))
    }

    /// A method with many requests and one answer.
    #[must_use]
    pub fn client_stream<T, U, H, F>(self, name: &str, handler: H) -> Self
    where
        C: Decode<T> + Encode<U>,
        T: 'static,
        U: 'static,
        H: Fn(Request<Streaming<T>>) -> F + 'static,
        F: Future<Output = Result<Response<U>, Status>> + 'static,
    {
        self.method(name, OnStream::<C, T, U, H, ClientStream>::new(handler))
    }

    /// A method with one request and many answers, which are a stream: one made by
    /// [`channel`](crate::channel), by [`iter`](crate::iter), or any other.
    #[must_use]
    pub fn server_stream<T, U, H, F, S>(self, name: &str, handler: H) -> Self
    where
        C: Decode<T> + Encode<U>,
        T: 'static,
        U: 'static,
        H: Fn(Request<T>) -> F + 'static,
        F: Future<Output = Result<Response<S>, Status>> + 'static,
        S: Stream<Item = Result<U, Status>> + Send + 'static,
    {
        let handler = Rc::new(handler);
        self.method(name, OnStream::<C, T, U, Rc<H>, ServerStream>::new(handler))
    }

    /// A method with many requests and many answers.
    #[must_use]
    pub fn bidirectional<T, U, H, F, S>(self, name: &str, handler: H) -> Self
    where
        C: Decode<T> + Encode<U>,
        T: 'static,
        U: 'static,
        H: Fn(Request<Streaming<T>>) -> F + 'static,
        F: Future<Output = Result<Response<S>, Status>> + 'static,
        S: Stream<Item = Result<U, Status>> + Send + 'static,
    {
        self.method(name, OnStream::<C, T, U, H, Bidirectional>::new(handler))
    }

    /// A method that takes messages and answers none of them.
    #[must_use]
    pub fn one_way<T, H, F>(self, name: &str, handler: H) -> Self
    where
        C: Decode<T>,
        T: 'static,
        H: Fn(Request<T>) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.method(name, OneWay::<C, T, H, F>::new(handler))
    }
}

/// Anything that answers requests, behind one face.
pub(crate) trait AnyService {
    fn call(&self, request: Request<Body>) -> Answering;
}

/// A `tower` service. Each request has a clone of its own, whose readiness it waits for.
struct OfTower<S>(S);

impl<S, E> AnyService for OfTower<S>
where
    S: TowerService<Request<Body>, Response = Response<Body>, Error = E> + Clone + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn call(&self, request: Request<Body>) -> Answering {
        let service = self.0.clone();
        Box::pin(async move {
            let answer = service.oneshot(request).await;
            answer.map_err(|error| Status::from_error(error.into()))
        })
    }
}

/// Who handles a request.
pub(crate) enum Target<'r> {
    Method(&'r dyn Method, &'r MethodName),
    Any(&'r dyn AnyService),
}

struct Route {
    name: MethodName,
    method: Rc<dyn Method>,
}

/// All services of a server. A `tower` service itself, over [`Body`].
///
/// Clones share the services.
#[derive(Clone)]
pub struct Router {
    inner: Rc<Inner>,
}

struct Inner {
    routes: Vec<Route>,
    index: HashMap<Arc<str>, usize>,
    /// The method that was called last: most calls repeat it.
    last: Cell<usize>,
    services: HashMap<String, Box<dyn AnyService>>,
    /// Middleware around everything else.
    around: Option<Box<dyn AnyService>>,
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl Router {
    /// A router without services.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Rc::new(Inner {
                routes: Vec::new(),
                index: HashMap::new(),
                last: Cell::new(0),
                services: HashMap::new(),
                around: None,
            }),
        }
    }

    fn change(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Rc::try_unwrap(self.inner).unwrap_or_else(|shared| Inner {
            // A router that is shared or layered becomes the fallback of a new one.
            routes: Vec::new(),
            index: HashMap::new(),
            last: Cell::new(0),
            services: HashMap::from([(
                String::new(),
                Box::new(OfTower(Self { inner: shared })) as Box<dyn AnyService>,
            )]),
            around: None,
        });
        change(&mut inner);
        Self {
            inner: Rc::new(inner),
        }
    }

    /// Adds the methods of a service; a method of the same name is replaced.
    #[must_use]
    pub fn with<C>(self, service: Service<C>) -> Self {
        self.unlayered().change(|inner| {
            for (name, method) in service.methods {
                let name: Arc<str> = name.into();
                let route = Route {
                    name: MethodName::from(Arc::clone(&name)),
                    method,
                };
                match inner
                    .index
                    .get(&name)
                    .and_then(|at| inner.routes.get_mut(*at))
                {
                    Some(known) => *known = route,
                    None => {
                        inner.index.insert(name, inner.routes.len());
                        inner.routes.push(route);
                    }
                }
            }
        })
    }

    /// Lets a `tower` service handle every method of `service`, `package.Service`, that the router
    /// has not; with an empty name those of every service.
    #[must_use]
    pub fn with_tower<S, E>(self, service: impl Into<String>, handler: S) -> Self
    where
        S: TowerService<Request<Body>, Response = Response<Body>, Error = E> + Clone + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.unlayered().change(|inner| {
            let handler = Box::new(OfTower(handler));
            inner.services.insert(service.into(), handler);
        })
    }

    /// Puts middleware around everything that the router has now.
    #[must_use]
    pub fn layer<L, E>(self, layer: L) -> Self
    where
        L: Layer<Self>,
        L::Service:
            TowerService<Request<Body>, Response = Response<Body>, Error = E> + Clone + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let around = Box::new(OfTower(layer.layer(self)));
        Self::new().change(|inner| inner.around = Some(around))
    }

    /// A router that can take more: a layered one goes on inside.
    fn unlayered(self) -> Self {
        if self.inner.around.is_none() {
            return self;
        }
        Self::new().change(|inner| {
            inner
                .services
                .insert(String::new(), Box::new(OfTower(self)));
        })
    }

    /// Who handles a method.
    pub(crate) fn find(&self, method: &str) -> Option<Target<'_>> {
        let inner = &*self.inner;
        if let Some(around) = &inner.around {
            return Some(Target::Any(around.as_ref()));
        }
        let last = inner.last.get();
        let known = inner
            .routes
            .get(last)
            .filter(|route| *route.name == *method);
        let route = known.or_else(|| {
            let at = *inner.index.get(method)?;
            inner.last.set(at);
            inner.routes.get(at)
        });
        if let Some(route) = route {
            return Some(Target::Method(route.method.as_ref(), &route.name));
        }
        let service = method.split_once('/').map_or("", |(service, _)| service);
        let any = inner
            .services
            .get(service)
            .or_else(|| inner.services.get(""));
        any.map(|any| Target::Any(any.as_ref()))
    }

    /// Answers a request.
    pub(crate) fn answer(&self, request: Request<Body>) -> Answering {
        match self.find(request.method()) {
            Some(Target::Method(method, _)) => method.call(request),
            Some(Target::Any(service)) => service.call(request),
            None => {
                let status = no_method(request.method());
                Box::pin(std::future::ready(Err(status)))
            }
        }
    }
}

pub(crate) fn no_method(method: &str) -> Status {
    Status::no_method(format!("there is no method {method} here"))
}

impl TowerService<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Answering;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        self.answer(request)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.inner.routes.iter().map(|route| &route.name);
        f.debug_list().entries(names).finish()
    }
}

impl<C> fmt::Debug for Service<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.methods.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}
