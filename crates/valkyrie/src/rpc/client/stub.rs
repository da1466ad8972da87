//! Typed calls over anything that answers requests.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use futures_core::Stream;
use tower::util::ServiceExt;
use tower::{Layer, Service as TowerService};

use crate::rpc::body::Body;
use crate::rpc::codec::{Codec, Decode, Encode, check_content_type, encode_one};
use crate::rpc::request::{Expects, MethodName, Request, Response};
use crate::rpc::status::Status;
use crate::rpc::streaming::Streaming;

/// Whatever answers requests: a client, or middleware around one. Implemented for every `tower`
/// service that does.
pub trait Channel:
    TowerService<
        Request<Body>,
        Response = Response<Body>,
        Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    > + Clone
{
}

impl<S> Channel for S where
    S: TowerService<
            Request<Body>,
            Response = Response<Body>,
            Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        > + Clone
{
}

/// Calls methods with messages that a codec reads and writes, over a client or any other `tower`
/// service: middleware goes around it with [`layer`](Self::layer).
///
/// ```
/// # use valkyrie::{Endpoint, Json, LocalClient, Request, Response, Router, Server, Service, Stub};
/// # valkyrie::block_on(async {
/// # let endpoint: Endpoint = "valkyrie+mem://doc-stub".parse()?;
/// # let square = async |request: Request<i64>| {
/// #     Ok(Response::new(request.get_ref() * request.get_ref()))
/// # };
/// # let router = Router::new().with(Service::new("demo.Math", Json).unary("Square", square));
/// # let server = Server::builder().listen(&endpoint, router).await?;
/// let math = Stub::new(LocalClient::connect(&endpoint).await?, Json);
/// let answer: Response<i64> = math.unary("demo.Math/Square", Request::new(12)).await?;
/// assert_eq!(answer.into_inner(), 144);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Stub<S, C> {
    service: S,
    codec: PhantomData<fn() -> C>,
}

impl<S: Clone, C> Clone for Stub<S, C> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            codec: PhantomData,
        }
    }
}

impl<S, C> Stub<S, C> {
    /// Calls over `service`.
    pub fn new(service: S, codec: C) -> Self {
        let _ = codec;
        Self {
            service,
            codec: PhantomData,
        }
    }

    /// Puts middleware around the service.
    #[must_use]
    pub fn layer<L: Layer<S>>(self, layer: L) -> Stub<L::Service, C> {
        Stub {
            service: layer.layer(self.service),
            codec: PhantomData,
        }
    }

    /// What it calls over.
    #[must_use]
    pub const fn service(&self) -> &S {
        &self.service
    }
}

impl<S: Channel, C: Codec> Stub<S, C> {
    async fn send(
        &self,
        method: MethodName,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let request = match C::CONTENT_TYPE {
            "" => request,
            _ if !request.content_type().is_empty() => request,
            own => request.with_content_type(own),
        };
        let answer = self.service.clone().oneshot(request.with_method(method));
        let answer = answer.await;
        let response = answer.map_err(|error| Status::from_error(error.into()))?;
        check_content_type::<C>(response.content_type())?;
        Ok(response)
    }

    async fn one_answer<U>(
        &self,
        method: MethodName,
        request: Request<Body>,
    ) -> Result<Response<U>, Status>
    where
        C: Decode<U>,
    {
        let (head, body) = self.send(method, request).await?.split();
        let (message, told) = match body {
            Body::Message(message) => (message, None),
            Body::Stream(stream) => only(stream).await?,
        };
        let mut response = head.try_map(|()| C::decode_owned(message))?;
        if let Some(told) = told {
            *response.metadata_mut() = told;
        }
        Ok(response)
    }

    /// Calls a method with one request and one answer.
    ///
    /// # Errors
    /// The call failed.
    pub async fn unary<T, U>(
        &self,
        method: impl Into<MethodName>,
        request: Request<T>,
    ) -> Result<Response<U>, Status>
    where
        C: Encode<T> + Decode<U>,
    {
        let message = encode_one::<C, T>(request.get_ref())?;
        let request = request.map(|_| Body::Message(message));
        self.one_answer(method.into(), request).await
    }

    /// Calls a method with many requests and one answer.
    ///
    /// # Errors
    /// The call failed.
    pub async fn client_stream<T, U, M>(
        &self,
        method: impl Into<MethodName>,
        request: Request<M>,
    ) -> Result<Response<U>, Status>
    where
        C: Encode<T> + Decode<U>,
        T: 'static,
        M: Stream<Item = Result<T, Status>> + Send + 'static,
    {
        let request = request.map(|messages| Body::Stream(Streaming::encoded::<C, T, M>(messages)));
        self.one_answer(method.into(), request).await
    }

    /// Calls a method with one request and many answers.
    ///
    /// # Errors
    /// The call was not begun; a later failure is in the stream.
    pub async fn server_stream<T, U>(
        &self,
        method: impl Into<MethodName>,
        request: Request<T>,
    ) -> Result<Response<Streaming<U>>, Status>
    where
        C: Encode<T> + Decode<U>,
    {
        let message = encode_one::<C, T>(request.get_ref())?;
        let request = request.map(|_| Body::Stream(Streaming::once(message)));
        let response = self.send(method.into(), request).await?;
        Ok(response.map(|body| body.into_stream().decoded::<C, U>()))
    }

    /// Calls a method with many requests and many answers.
    ///
    /// # Errors
    /// The call was not begun; a later failure is in the stream.
    pub async fn bidirectional<T, U, M>(
        &self,
        method: impl Into<MethodName>,
        request: Request<M>,
    ) -> Result<Response<Streaming<U>>, Status>
    where
        C: Encode<T> + Decode<U>,
        T: 'static,
        M: Stream<Item = Result<T, Status>> + Send + 'static,
    {
        let request = request.map(|messages| Body::Stream(Streaming::encoded::<C, T, M>(messages)));
        let response = self.send(method.into(), request).await?;
        Ok(response.map(|body| body.into_stream().decoded::<C, U>()))
    }

    /// Sends a message that wants no answer; returns when it is on its way.
    ///
    /// # Errors
    /// The message was not sent.
    pub async fn one_way<T>(
        &self,
        method: impl Into<MethodName>,
        request: Request<T>,
    ) -> Result<(), Status>
    where
        C: Encode<T>,
    {
        let message = encode_one::<C, T>(request.get_ref())?;
        let request = request.map(|_| Body::Message(message));
        let request = request.expecting(Expects::Nothing);
        self.send(method.into(), request).await.map(drop)
    }
}

/// The only message of a stream, and what was said beside it.
async fn only(
    mut stream: Streaming<Bytes>,
) -> Result<(Bytes, Option<valkyrie_frame::Metadata>), Status> {
    let Some(message) = stream.message().await? else {
        return Err(Status::malformed("the stream ended without its answer"));
    };
    if stream.message().await?.is_some() {
        return Err(Status::malformed(
            "a second answer where there has to be one",
        ));
    }
    let told = stream.metadata();
    Ok((message, told))
}

impl<S: fmt::Debug, C> fmt::Debug for Stub<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stub").field(&self.service).finish()
    }
}
