//! The Valkyrie engine: connections with their handlers, on one thread per shard.
//!
//! A *shard* is a thread with a single-threaded runtime. A connection and its [`Handler`] live on
//! the shard that opened it, so sending is a function call: the frame is encoded in place behind
//! what is already waiting, and the driver writes everything once at the end of its tick.
//!
//! - [`serve`] accepts connections and gives each a handler; [`connect`] opens one.
//! - [`Link`] is the handle of a connection: [`Link::call`] for a request with an answer,
//!   [`Link::session`] for everything else a [`Session`] can send.
//! - [`Shard`] starts a thread for all that.
//!
//! ```
//! use std::time::Duration;
//! use valkyrie::{ErrorCode, Event, Handler, Link, LinkConfig, StreamClass};
//!
//! struct Echo;
//! impl Handler for Echo {
//!     fn event(&mut self, link: &Link, event: Event<'_>) {
//!         if let Event::Call { call, body, .. } = event {
//!             // Nobody waits when the caller has gone.
//!             let _ = link.session().reply(call, &body);
//!         }
//!     }
//! }
//! struct Quiet;
//! impl Handler for Quiet {
//!     fn event(&mut self, _link: &Link, _event: Event<'_>) {}
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! valkyrie::block_on(async {
//!     let endpoint = "valkyrie+mem://echo".parse()?;
//!     let listener = valkyrie::listen(&endpoint).await?;
//!     tokio::task::spawn_local(valkyrie::serve(listener, LinkConfig::default(), |_| Echo));
//!     let link = valkyrie::connect(&endpoint, LinkConfig::default(), Quiet).await?;
//!     let limit = Duration::from_secs(1);
//!     let answer = link.call(StreamClass::System, "demo.Echo/Say", b"hello", limit).await?;
//!     assert_eq!(&answer[..], b"hello");
//!     link.close(ErrorCode::NONE, Duration::ZERO);
//!     Ok(())
//! })
//! # }
//! ```

mod buffers;
mod clock;
mod config;
mod driver;
mod error;
mod link;
mod serve;
mod shard;

pub use config::{Admission, LinkConfig};
pub use error::{CallError, CloseReason, ConnectError, ServeError};
pub use link::{Handler, Link, Peer, SessionMut};
pub use serve::{connect, serve};
pub use shard::{Shard, ShardError, block_on};
pub use valkyrie_frame::{
    Correlation, ErrorCode, FileStart, LogChannel, LogRecord, LogRecords, MessageType, StreamClass,
    StreamId, Time, WallTime, v2,
};
pub use valkyrie_session::{
    Agreement, End, Event, Limits, Payload, Retry, Role, SendError, Session, SessionConfig,
    SessionError, Side,
};
pub use valkyrie_transport::{
    AcceptError, Endpoint, EndpointError, ListenError, Listener, PeerAddress, TransportKind, listen,
};
