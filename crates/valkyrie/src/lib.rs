//! Valkyrie: services, calls and streams over TCP, Unix sockets and in process.
//!
//! Start with the [`guide`]. In short: a [`Server`] serves the [`Service`]s of a [`Router`], a
//! [`LocalClient`] (on one thread) or a [`Client`] (from any) calls them, a [`Stub`] with typed
//! messages.
//!
//! ```
//! use valkyrie::{Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service};
//!
//! valkyrie::block_on(async {
//!     let hello = async |request: Request<Bytes>| {
//!         let name = String::from_utf8_lossy(request.get_ref());
//!         Ok(Response::new(Bytes::from(format!("hello {name}"))))
//!     };
//!     let router = Router::new().with(Service::new("demo.Greeter", Raw).unary("Hello", hello));
//!     let endpoint: Endpoint = "valkyrie+mem://doc-hello".parse()?;
//!     let _server = Server::builder().listen(&endpoint, router).await?;
//!     let client = LocalClient::connect(&endpoint).await?;
//!     let answer = client.call("demo.Greeter/Hello", Request::new("ann".into())).await?;
//!     assert_eq!(answer.get_ref(), "hello ann");
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The engine below
//!
//! A *shard* is one thread with everything that belongs to its connections: their sessions, their
//! handlers, one read buffer. Nothing is locked and nothing is sent between threads, so a message
//! costs an encode in place and no wake-up of its own. [`serve`] and [`connect`] run connections
//! on the shard they are called on; a [`Link`] is the handle of one connection there; a
//! [`Handler`] is called inline for what comes in, and whatever it sends leaves in one write at
//! the end of the tick.
//!
//! ```
//! use std::time::Duration;
//! use valkyrie::{Endpoint, Event, Handler, Link, LinkConfig, StreamClass, connect, listen, serve};
//!
//! struct Echo;
//! impl Handler for Echo {
//!     fn event(&mut self, link: &Link, event: Event<'_>) {
//!         if let Event::Call { call, body, .. } = event {
//!             link.session().reply(call, &body).expect("the call is open");
//!         }
//!     }
//! }
//! struct Quiet;
//! impl Handler for Quiet {
//!     fn event(&mut self, _link: &Link, _event: Event<'_>) {}
//! }
//!
//! valkyrie::block_on(async {
//!     let endpoint: Endpoint = "valkyrie+mem://doc-echo".parse()?;
//!     let listener = listen(&endpoint).await?;
//!     tokio::task::spawn_local(serve(listener, LinkConfig::default(), |_| Echo));
//!     let link = connect(&endpoint, LinkConfig::default(), Quiet).await?;
//!     let class = StreamClass::System;
//!     let answer = link.call(class, "demo.Echo/Say", b"hello", Duration::from_secs(1)).await?;
//!     assert_eq!(&answer[..], b"hello");
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A handler never blocks: it runs on the thread that moves the bytes of every connection of the
//! shard. What takes time goes to a local task, which answers through a clone of the [`Link`].

mod buffers;
mod calls;
mod clock;
mod config;
mod diagnostics;
mod driver;
mod error;
pub mod guide;
mod health;
mod idle;
mod latency;
pub mod limits;
mod link;
mod meter;
mod pipes;
mod rpc;
mod serve;
mod shard;
mod timers;
mod told;
mod turns;
mod upgrade;

pub use calls::{CallError, Reply};
pub use clock::now;
pub use config::{Admission, LinkConfig, Reads};
pub use diagnostics::Diagnostics;
pub use error::{CloseReason, ConnectError, ServeError};
pub use health::Health;
pub use idle::Idle;
pub use link::{Handler, Link, Peer, SessionMut};
pub use meter::Meter;
pub use rpc::*;
pub use serve::{connect, connect_over, serve};
pub use shard::{Shard, ShardError, block_on, block_on_with};
pub use told::{HealthError, Receivers};
pub use upgrade::{OfferError, Upgrade};

pub use bytes::Bytes;
pub use futures_core::Stream;
pub use valkyrie_frame as frame;
pub use valkyrie_frame::{
    Correlation, ErrorClass, ErrorCode, MessageType, Metadata, Recovery, StreamClass, StreamId,
    Time, TraceContext, WallTime, v2,
};
pub use valkyrie_session::{
    Agreement, Batch, CallOptions, End, Envelope, Event, Failure, HealthStatus, Limits, Messages,
    More, Payload, Proposal, ReplyOptions, Retry, Role, RoundTrip, SendError, Session,
    SessionConfig, SessionError, Violation,
};
pub use valkyrie_transport::{
    Endpoint, EndpointError, ListenError, Listener, PeerAddress, TransportKind, listen,
};
