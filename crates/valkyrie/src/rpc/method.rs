//! Handlers of methods behind one face.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;

use super::body::Body;
use super::codec::{Decode, Encode, check_content_type, encode_one};
use super::request::{Parts, Request, Response};
use super::status::Status;
use super::streaming::Streaming;

/// The answer of a method, when it comes.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>>>>;

/// A method of a service.
pub(crate) trait Method {
    /// Handles a request, whatever carries it.
    fn call(&self, request: Request<Body>) -> Answering;

    /// Handles a request of one message that lies in the read buffer. An answer that is there at
    /// once is written to `out` and costs no allocation.
    fn start(&self, parts: Parts, message: &[u8], out: &mut BytesMut) -> Started {
        let _ = out;
        let body = Body::Message(Bytes::copy_from_slice(message));
        Started::Later(self.call(Request::from_parts(parts, body)))
    }
}

/// What became of a request.
pub(crate) enum Started {
    /// The answer is written, or there is none.
    Done(Result<Response<()>, Status>),
    /// It takes longer.
    Later(Answering),
}

fn failed(status: Status) -> Answering {
    Box::pin(std::future::ready(Err(status)))
}

fn one_message(body: Body) -> Result<Bytes, Status> {
    match body {
        Body::Message(message) => Ok(message),
        Body::Stream(_) => Err(Status::no_method(
            "the method takes one request and gives one answer: call it, open no stream",
        )),
    }
}

fn stream_of(body: Body) -> Result<Streaming<Bytes>, Status> {
    match body {
        Body::Stream(stream) => Ok(stream),
        Body::Message(_) => Err(Status::no_method(
            "the method takes or gives a stream of messages: open a stream for it",
        )),
    }
}

/// Boxes that futures of one kind are run in, one after the other.
struct Spare<F> {
    boxes: RefCell<Vec<Pin<Box<Option<F>>>>>,
}

/// Boxes that are kept; more run at once only where handlers call their own service.
const SPARE_MAX: usize = 16;

impl<F: Future> Spare<F> {
    fn new() -> Self {
        Self {
            boxes: RefCell::default(),
        }
    }

    /// Runs a future as far as it goes at once.
    fn run(&self, future: F) -> Result<F::Output, Running<F>> {
        let spare = self.boxes.borrow_mut().pop();
        let mut place = spare.unwrap_or_else(|| Box::pin(None));
        place.as_mut().set(Some(future));
        // Nobody needs to be woken: what is not done is polled again with a waker right away.
        match poll_in(&mut place, &mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Err(Running(place)),
            Poll::Ready(output) => {
                place.as_mut().set(None);
                let mut boxes = self.boxes.borrow_mut();
                if boxes.len() < SPARE_MAX {
                    boxes.push(place);
                }
                Ok(output)
            }
        }
    }
}

fn poll_in<F: Future>(place: &mut Pin<Box<Option<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    let future = place.as_mut().as_pin_mut();
    future
        .expect("it stays in its place until it is done")
        .poll(cx)
}

/// A future that was begun.
struct Running<F>(Pin<Box<Option<F>>>);

impl<F: Future> Future for Running<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let output = ready!(poll_in(&mut self.0, cx));
        self.0.as_mut().set(None);
        Poll::Ready(output)
    }
}

/// One request, one answer.
pub(crate) struct Unary<C, T, U, H, F> {
    handler: H,
    spare: Spare<F>,
    types: PhantomData<fn(C, T) -> U>,
}

impl<C, T, U, H, F: Future> Unary<C, T, U, H, F> {
    pub(crate) fn new(handler: H) -> Self {
        Self {
            handler,
            spare: Spare::new(),
            types: PhantomData,
        }
    }
}

fn answer<C: Encode<U>, U>(response: Response<U>) -> Result<Response<Body>, Status> {
    let response = response.try_map(|message| encode_one::<C, U>(&message))?;
    Ok(said::<C, _>(response.map(Body::Message)))
}

/// Names the media type where the handler did not.
fn said<C: super::codec::Codec, T>(response: Response<T>) -> Response<T> {
    if C::CONTENT_TYPE.is_empty() || !response.content_type().is_empty() {
        return response;
    }
    response.with_content_type(C::CONTENT_TYPE)
}

impl<C, T, U, H, F> Method for Unary<C, T, U, H, F>
where
    C: Decode<T> + Encode<U>,
    T: 'static,
    U: 'static,
    H: Fn(Request<T>) -> F,
    F: Future<Output = Result<Response<U>, Status>> + 'static,
{
    fn call(&self, request: Request<Body>) -> Answering {
        let (parts, body) = request.into_parts();
        let message = check_content_type::<C>(&parts.content_type)
            .and_then(|()| one_message(body))
            .and_then(C::decode_owned);
        match message {
            Err(status) => failed(status),
            Ok(message) => {
                let future = (self.handler)(Request::from_parts(parts, message));
                Box::pin(async move { answer::<C, U>(future.await?) })
            }
        }
    }

    fn start(&self, parts: Parts, message: &[u8], out: &mut BytesMut) -> Started {
        let checked = check_content_type::<C>(&parts.content_type);
        let message = match checked.and_then(|()| C::decode(message)) {
            Ok(message) => message,
            Err(status) => return Started::Done(Err(status)),
        };
        let future = (self.handler)(Request::from_parts(parts, message));
        match self.spare.run(future) {
            Err(running) => Started::Later(Box::pin(async move { answer::<C, U>(running.await?) })),
            Ok(Err(status)) => Started::Done(Err(status)),
            Ok(Ok(response)) => {
                let (head, message) = said::<C, _>(response).split();
                Started::Done(C::encode(&message, out).map(|()| head))
            }
        }
    }
}

/// One request that wants no answer.
pub(crate) struct OneWay<C, T, H, F> {
    handler: H,
    spare: Spare<F>,
    types: PhantomData<fn(C, T)>,
}

impl<C, T, H, F: Future> OneWay<C, T, H, F> {
    pub(crate) fn new(handler: H) -> Self {
        Self {
            handler,
            spare: Spare::new(),
            types: PhantomData,
        }
    }
}

impl<C, T, H, F> Method for OneWay<C, T, H, F>
where
    C: Decode<T>,
    T: 'static,
    H: Fn(Request<T>) -> F,
    F: Future<Output = ()> + 'static,
{
    fn call(&self, request: Request<Body>) -> Answering {
        let (parts, body) = request.into_parts();
        let message = check_content_type::<C>(&parts.content_type)
            .and_then(|()| one_message(body))
            .and_then(C::decode_owned);
        match message {
            Err(status) => failed(status),
            Ok(message) => {
                let future = (self.handler)(Request::from_parts(parts, message));
                Box::pin(async move {
                    future.await;
                    Ok(Response::new(Body::Message(Bytes::new())))
                })
            }
        }
    }

    fn start(&self, parts: Parts, message: &[u8], _out: &mut BytesMut) -> Started {
        let checked = check_content_type::<C>(&parts.content_type);
        let message = match checked.and_then(|()| C::decode(message)) {
            Ok(message) => message,
            Err(status) => return Started::Done(Err(status)),
        };
        let future = (self.handler)(Request::from_parts(parts, message));
        match self.spare.run(future) {
            Ok(()) => Started::Done(Ok(Response::new(()))),
            Err(running) => Started::Later(Box::pin(async move {
                running.await;
                Ok(Response::new(Body::Message(Bytes::new())))
            })),
        }
    }
}

/// A method with streams, in the three shapes that differ only in what the handler sees.
pub(crate) struct OnStream<C, T, U, H, Shape> {
    handler: H,
    types: PhantomData<fn(C, T, Shape) -> U>,
}

impl<C, T, U, H, Shape> OnStream<C, T, U, H, Shape> {
    pub(crate) const fn new(handler: H) -> Self {
        Self {
            handler,
            types: PhantomData,
        }
    }
}

/// Many requests, one answer.
pub(crate) struct ClientStream;
/// One request, many answers.
pub(crate) struct ServerStream;
/// Many of both.
pub(crate) struct Bidirectional;

impl<C, T, U, H, F> Method for OnStream<C, T, U, H, ClientStream>
where
    C: Decode<T> + Encode<U>,
    T: 'static,
    U: 'static,
    H: Fn(Request<Streaming<T>>) -> F,
    F: Future<Output = Result<Response<U>, Status>> + 'static,
{
    fn call(&self, request: Request<Body>) -> Answering {
        match incoming::<C, T>(request) {
            Err(status) => failed(status),
            Ok(request) => {
                let future = (self.handler)(request);
                Box::pin(async move { answer::<C, U>(future.await?) })
            }
        }
    }
}

impl<C, T, U, H, F, S> Method for OnStream<C, T, U, H, Bidirectional>
where
    C: Decode<T> + Encode<U>,
    T: 'static,
    U: 'static,
    H: Fn(Request<Streaming<T>>) -> F,
    F: Future<Output = Result<Response<S>, Status>> + 'static,
    S: Stream<Item = Result<U, Status>> + Send + 'static,
{
    fn call(&self, request: Request<Body>) -> Answering {
        match incoming::<C, T>(request) {
            Err(status) => failed(status),
            Ok(request) => {
                let future = (self.handler)(request);
                Box::pin(async move { Ok(outgoing::<C, U, S>(future.await?)) })
            }
        }
    }
}

impl<C, T, U, H, F, S> Method for OnStream<C, T, U, std::rc::Rc<H>, ServerStream>
where
    C: Decode<T> + Encode<U>,
    T: 'static,
    U: 'static,
    H: Fn(Request<T>) -> F + 'static,
    F: Future<Output = Result<Response<S>, Status>> + 'static,
    S: Stream<Item = Result<U, Status>> + Send + 'static,
{
    fn call(&self, request: Request<Body>) -> Answering {
        let request = match incoming::<C, T>(request) {
            Ok(request) => request,
            Err(status) => return failed(status),
        };
        let handler = std::rc::Rc::clone(&self.handler);
        Box::pin(async move {
            let (parts, mut messages) = request.into_parts();
            let Some(message) = messages.message().await? else {
                return Err(Status::malformed("the stream ended before its request"));
            };
            drop(messages);
            let response = handler(Request::from_parts(parts, message)).await?;
            Ok(outgoing::<C, U, S>(response))
        })
    }
}

fn incoming<C: Decode<T>, T>(request: Request<Body>) -> Result<Request<Streaming<T>>, Status> {
    let (parts, body) = request.into_parts();
    check_content_type::<C>(&parts.content_type)?;
    let messages = stream_of(body)?.decoded::<C, T>();
    Ok(Request::from_parts(parts, messages))
}

fn outgoing<C, U, S>(response: Response<S>) -> Response<Body>
where
    C: Encode<U>,
    U: 'static,
    S: Stream<Item = Result<U, Status>> + Send + 'static,
{
    said::<C, _>(response).map(|stream| Body::Stream(Streaming::encoded::<C, U, S>(stream)))
}
