//! A guide: the concepts, and one example for each feature.
//!
//! 1. [Concepts](#concepts)
//! 2. [Quick start](#quick-start)
//! 3. [Ways of calling](#ways-of-calling)
//! 4. [Messages: bytes, JSON, Protocol Buffers](#messages-bytes-json-protocol-buffers)
//! 5. [What stands beside a message](#what-stands-beside-a-message)
//! 6. [Deadlines and cancellation](#deadlines-and-cancellation)
//! 7. [Failures](#failures)
//! 8. [Streams and slow readers](#streams-and-slow-readers)
//! 9. [Middleware](#middleware)
//! 10. [Other threads](#other-threads)
//! 11. [Calling back](#calling-back)
//! 12. [Shutting down](#shutting-down)
//! 13. [Urgency, classes, priorities](#urgency-classes-priorities)
//! 14. [Below the services](#below-the-services)
//!
//! # Concepts
//!
//! A *shard* is a thread with everything that belongs to its connections; see
//! [`Shard`](crate::Shard) and [`block_on`](crate::block_on). A *connection* joins a client and a
//! server; it carries any number of *calls* (one request, one answer) and *streams* (messages in
//! both directions) at once. A *service* is a set of methods under a name, a
//! [`Router`](crate::Router) a set of services. A [`Server`](crate::Server) takes connections and
//! serves a router on them; a [`LocalClient`](crate::LocalClient) calls on the shard that it lives
//! on, a [`Client`](crate::Client) from any thread.
//!
//! Handlers are async functions. They run on the shard of their connection and are polled once
//! right where the request is read, so a handler that waits for nothing costs no task. They need
//! not be [`Send`], and they must not block: what takes long belongs on another thread.
//!
//! # Quick start
//!
//! ```
//! use std::time::Duration;
//! use valkyrie::{Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service};
//!
//! valkyrie::block_on(async {
//!     let hello = async |request: Request<Bytes>| {
//!         let name = String::from_utf8_lossy(request.get_ref());
//!         Ok(Response::new(Bytes::from(format!("hello {name}"))))
//!     };
//!     let router = Router::new().with(Service::new("demo.Greeter", Raw).unary("Hello", hello));
//!     let endpoint: Endpoint = "valkyrie+tcp://127.0.0.1:0".parse()?;
//!     let server = Server::builder().listen(&endpoint, router).await?;
//!
//!     let client = LocalClient::connect(server.endpoint()).await?;
//!     let answer = client.call("demo.Greeter/Hello", Request::new("ann".into())).await?;
//!     assert_eq!(answer.get_ref(), "hello ann");
//!     drop(client);
//!     server.shutdown(Duration::from_secs(1)).await;
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Ways of calling
//!
//! | requests | answers | service | [`Stub`](crate::Stub) |
//! |---|---|---|---|
//! | one | one | [`unary`](crate::Service::unary) | `unary` |
//! | many | one | [`client_stream`](crate::Service::client_stream) | `client_stream` |
//! | one | many | [`server_stream`](crate::Service::server_stream) | `server_stream` |
//! | many | many | [`bidirectional`](crate::Service::bidirectional) | `bidirectional` |
//! | one | none | [`one_way`](crate::Service::one_way) | `one_way` |
//!
//! Streams of one's own are any [`Stream`](crate::Stream) of results, such as those of
//! [`iter`](crate::iter) and [`channel`](crate::channel).
//!
//! ```
//! # use valkyrie::{Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service};
//! use valkyrie::{Streaming, Stub, iter};
//!
//! # valkyrie::block_on(async {
//! let echo = async |request: Request<Streaming<Bytes>>| Ok(Response::new(request.into_inner()));
//! let service = Service::new("demo.Echo", Raw).bidirectional("All", echo);
//! # let endpoint: Endpoint = "valkyrie+mem://guide-ways".parse()?;
//! # let _server = Server::builder().listen(&endpoint, Router::new().with(service)).await?;
//! let echo = Stub::new(LocalClient::connect(&endpoint).await?, Raw);
//! let words = iter(["one", "two"].map(Bytes::from));
//! let answers = echo.bidirectional("demo.Echo/All", Request::new(words)).await?;
//! let mut answers: Streaming<Bytes> = answers.into_inner();
//! assert_eq!(answers.message().await?, Some(Bytes::from("one")));
//! assert_eq!(answers.message().await?, Some(Bytes::from("two")));
//! assert_eq!(answers.message().await?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Messages: bytes, JSON, Protocol Buffers
//!
//! A service and a [`Stub`](crate::Stub) have a codec: [`Raw`](crate::Raw) for bytes,
//! [`Json`](crate::Json) for whatever serde knows, [`Prost`](crate::Prost) for Protocol Buffers,
//! or [your own](crate::Codec). The crate `valkyrie-build` makes a trait for servers and a client
//! of each service in a `.proto` file.
//!
//! ```
//! # use valkyrie::{Endpoint, LocalClient, Request, Response, Router, Server, Service, Stub};
//! use valkyrie::Json;
//!
//! # valkyrie::block_on(async {
//! let add = async |request: Request<Vec<i64>>| Ok(Response::new(request.get_ref().iter().sum()));
//! let service = Service::new("demo.Math", Json).unary::<_, i64, _, _>("Add", add);
//! # let endpoint: Endpoint = "valkyrie+mem://guide-json".parse()?;
//! # let _server = Server::builder().listen(&endpoint, Router::new().with(service)).await?;
//! let math = Stub::new(LocalClient::connect(&endpoint).await?, Json);
//! let sum: Response<i64> = math.unary("demo.Math/Add", Request::new(vec![1, 2, 3])).await?;
//! assert_eq!(sum.into_inner(), 6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What stands beside a message
//!
//! Requests and answers carry [metadata](crate::Metadata), names and values for the other side's
//! program. A request may have an idempotency key, which makes a repetition the same request, and
//! the [trace](crate::TraceContext) that it belongs to.
//!
//! ```
//! # use valkyrie::{Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service};
//! # valkyrie::block_on(async {
//! let who = async |request: Request<Bytes>| {
//!     let tenant = request.metadata().get_str("tenant").unwrap_or("nobody").to_owned();
//!     Ok(Response::new(Bytes::from(tenant)))
//! };
//! # let router = Router::new().with(Service::new("demo.Who", Raw).unary("Am", who));
//! # let endpoint: Endpoint = "valkyrie+mem://guide-metadata".parse()?;
//! # let _server = Server::builder().listen(&endpoint, router).await?;
//! # let client = LocalClient::connect(&endpoint).await?;
//! let mut request = Request::new(Bytes::new()).with_idempotency_key([7; 16]);
//! request.metadata_mut().insert("tenant", b"blue")?;
//! let answer = client.call("demo.Who/Am", request).await?;
//! assert_eq!(answer.get_ref(), "blue");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Deadlines and cancellation
//!
//! A request's [timeout](crate::Request::with_timeout) holds at both ends: the caller gets status
//! 105, the handler is dropped, and what it calls in turn can
//! [take the deadline over](crate::Request::with_deadline). A caller that drops its future or its
//! stream of answers cancels the call, and the handler is dropped, too.
//!
//! ```
//! # use std::time::Duration;
//! # use valkyrie::{Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service};
//! use valkyrie::{ErrorCode, Status};
//!
//! # valkyrie::block_on(async {
//! let never = async |_: Request<Bytes>| -> Result<Response<Bytes>, Status> {
//!     std::future::pending().await
//! };
//! # let router = Router::new().with(Service::new("demo.Sloth", Raw).unary("Think", never));
//! # let endpoint: Endpoint = "valkyrie+mem://guide-deadline".parse()?;
//! # let _server = Server::builder().listen(&endpoint, router).await?;
//! # let client = LocalClient::connect(&endpoint).await?;
//! let request = Request::new(Bytes::new()).with_timeout(Duration::from_millis(20));
//! let status = client.call("demo.Sloth/Think", request).await.unwrap_err();
//! assert_eq!(status.code(), ErrorCode::TIMEOUT);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Failures
//!
//! Everything that can go wrong with a call is a [`Status`](crate::Status): its code, whose
//! [class](crate::ErrorClass) says whose fault it is and whose [recovery](crate::Recovery) what to
//! do, whether to try again, words for people, metadata for programs. Codes from 450 to 499 are
//! the application's own. A handler that panics fails its call with 500 and nothing else.
//!
//! ```
//! # use std::time::Duration;
//! use valkyrie::{ErrorCode, Metadata, Retry, Status};
//!
//! let mut metadata = Metadata::new();
//! metadata.insert("account", b"4711")?;
//! let status = Status::new(ErrorCode(451), "the account is locked")
//!     .with_retry(Retry::After(Duration::from_secs(60)))
//!     .with_metadata(metadata);
//! assert_eq!(status.metadata().get_str("account"), Some("4711"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Streams and slow readers
//!
//! A sender is held back by the credit of its stream: a reader that does not read stops its own
//! sender, wherever that is, and nothing else on the connection. A message may be
//! [as long](crate::ServerBuilder::message_bytes_max) as both sides allow; longer than the credit,
//! it comes while its reader waits for it. Dropping a [`Streaming`](crate::Streaming) tells the
//! sender to stop.
//!
//! # Middleware
//!
//! Routers and clients are `tower` services over [`Body`](crate::Body), so ordinary layers go
//! around both; see [`Router::layer`](crate::Router::layer) and
//! [`Stub::layer`](crate::Stub::layer). Any `tower` service can
//! [serve](crate::Router::with_tower).
//!
//! ```
//! # use std::time::Duration;
//! # use valkyrie::{Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service};
//! # use valkyrie::Stub;
//! use tower::ServiceBuilder;
//!
//! # valkyrie::block_on(async {
//! # let echo = async |request: Request<Bytes>| Ok(Response::new(request.into_inner()));
//! # let service = Service::new("demo.Echo", Raw).unary("Say", echo);
//! let around = ServiceBuilder::new().load_shed().concurrency_limit(100);
//! let router = Router::new().with(service).layer(around);
//! # let endpoint: Endpoint = "valkyrie+mem://guide-middleware".parse()?;
//! # let _server = Server::builder().listen(&endpoint, router).await?;
//! # let client = LocalClient::connect(&endpoint).await?;
//! let around = ServiceBuilder::new().timeout(Duration::from_secs(2));
//! let echo = Stub::new(client, Raw).layer(around);
//! let answer: Response<Bytes> = echo.unary("demo.Echo/Say", Request::new("x".into())).await?;
//! # assert_eq!(answer.get_ref(), "x");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Other threads
//!
//! [`Client`](crate::Client) is for programs that live elsewhere: any thread, any runtime. A
//! server has a thread of its own in a [`Shard`](crate::Shard):
//!
//! ```
//! # use valkyrie::{Bytes, Raw, Request, Response, Router, Server, Service};
//! use std::sync::mpsc;
//! use valkyrie::{Client, Shard};
//!
//! let (tell, told) = mpsc::channel();
//! Shard::spawn("server", move || async move {
//!     let echo = async |request: Request<Bytes>| Ok(Response::new(request.into_inner()));
//!     let router = Router::new().with(Service::new("demo.Echo", Raw).unary("Say", echo));
//!     let endpoint = "valkyrie+tcp://127.0.0.1:0".parse().expect("it is one");
//!     let mut server = Server::builder().listen(&endpoint, router).await.expect("a free port");
//!     tell.send(server.endpoint().clone()).expect("somebody waits");
//!     server.wait().await
//! })?;
//! let endpoint = told.recv()?;
//! let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! runtime.block_on(async {
//!     let client = Client::connect(&endpoint).await?;
//!     let answer = client.call("demo.Echo/Say", Request::new("x".into())).await?;
//!     assert_eq!(answer.get_ref(), "x");
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Calling back
//!
//! A connection has no direction: a client can [serve](crate::ClientBuilder::serve), and a server
//! [calls](crate::ServerBuilder::on_connect) over the connections that it has.
//!
//! # Shutting down
//!
//! [`Server::shutdown`](crate::Server::shutdown) takes nothing new, answers what runs, lets
//! streams end and closes. Clients get status 306 for new requests, to be tried on another
//! connection. A client closes in the same way when its last handle is dropped.
//!
//! # Urgency, classes, priorities
//!
//! One connection carries what is urgent beside what is bulk. Each request has a
//! [class](crate::Request::with_class), which decides its share of the connection and its window:
//! calls are `system` by default and streams `data`. Streams of a class have
//! [priorities](crate::Request::with_priority), and an [urgent](crate::Request::urgent) message
//! goes before all of them.
//!
//! # Below the services
//!
//! [`connect`](crate::connect), [`serve`](crate::serve), [`Link`](crate::Link) and
//! [`Handler`](crate::Handler) are one level down: events where they lie in the read buffer, jobs,
//! logs and files with their offsets, batches of small messages, bytes without bounds. The crate
//! `valkyrie-session` is the protocol without a socket.
