//! One Valkyrie connection as a pure state machine: negotiation, streams, calls, credit,
//! priorities, heartbeat, close.
//!
//! Start with [`Session`]: bytes and time go in, bytes and [`Event`]s come out. Nothing here opens
//! a socket, reads a clock or spawns anything, so a test is two sessions and a list of calls:
//!
//! ```
//! use valkyrie_frame::{StreamClass, Time};
//! use valkyrie_session::{Event, Session, SessionConfig, Side};
//!
//! let mut client = Session::new(Side::Initiator, SessionConfig::default(), [1; 32]);
//! let mut server = Session::new(Side::Acceptor, SessionConfig::default(), [2; 32]);
//! let (now, mut wire) = (Time::ZERO, Vec::new());
//!
//! client.transmit(now, &mut wire);
//! assert!(matches!(server.read(now, &mut wire.as_slice())?, Some(Event::Ready(_))));
//! wire.clear();
//! server.transmit(now, &mut wire);
//! assert!(matches!(client.read(now, &mut wire.as_slice())?, Some(Event::Ready(_))));
//!
//! client.call(StreamClass::System, "demo.Echo/Say", b"hello", None)?;
//! wire.clear();
//! client.transmit(now, &mut wire);
//! let Some(Event::Call { call, body, .. }) = server.read(now, &mut wire.as_slice())? else {
//!     panic!("the call arrives");
//! };
//! server.reply(call, &body)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a peer does wrong is a [`Violation`]: it names the rule, has the wire code, and ends no
//! more than it must. Every bound is in [`limits`].

mod budget;
mod calls;
mod closing;
mod config;
mod counters;
mod credit;
mod envelope;
mod error;
mod event;
mod flow;
mod handshake;
mod join;
mod keepalive;
mod lanes;
pub mod limits;
mod moving;
mod negotiate;
mod observe;
mod on_demand;
mod options;
mod outbox;
mod passing;
mod receive;
mod receive_batch;
mod receive_credit;
mod receive_file;
mod receive_stream;
mod resume;
mod round_trip;
mod rule;
mod send;
mod send_data;
mod send_file;
mod send_stream;
mod session;
mod span;
mod state;
mod streams;
mod table;
mod tune;
mod view;
mod way;

pub use config::{Agreement, LimitError, Limits, Role, SessionConfig, Side};
pub use counters::{Counters, ErrorNote, Origin, SIZE_CLASSES, StreamCount, TypeCount};
pub use envelope::Envelope;
pub use error::{SendError, SessionError, Violation};
pub use event::{End, Event, More, Payload, Retry};
pub use flow::{CongestionAlgorithm, FlowControl, FlowControlStrategy, FlowWindow, LearnedModel};
pub use negotiate::Proposal;
pub use observe::HealthStatus;
pub use options::{CallOptions, ReplyOptions, Urgency};
pub use receive_batch::{Batch, Messages};
pub use resume::{Joining, Resume};
pub use round_trip::RoundTrip;
pub use rule::Rule;
pub use send::Failure;
pub use session::Session;
pub use view::{CallsView, FlowView, StreamView};
