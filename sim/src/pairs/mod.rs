//! Pairs of sessions over links that delay, slice, stall and break.
//!
//! [`run_pairs`] plays one seed: some connections, each of two sessions with an application on
//! either end that does everything a session can do, at random. First faults happen; then they
//! stop, the applications bring to an end what they began, and the connections have to become
//! quiet and close in order.
//!
//! Judged after every step:
//! - once: nothing is delivered twice, out of order or with other bytes than were sent;
//! - credit: no side sends past a limit that it was given, counted on the wire by a monitor that
//!   shares nothing with the sessions, and no reader holds more than its window;
//! - windows: each stays between its least and its greatest;
//! - memory: what waits to be sent is bounded by the windows;
//! - peer: no session finds fault with the other;
//! - progress: once faults stop, something arrives at least every two minutes until all is done;
//! - agreement: in the end neither side has a stream or a call that the other has not.

mod app;
mod conn;
mod files;
mod jobs;
mod monitor;
mod options;
mod peer;
mod pipe;
mod plant;
mod streams;
mod truth;
mod world;

pub use options::{PairOptions, Plant};
pub use world::{PairFailure, PairSummary, run_pairs};

pub(crate) use pipe::{Arrival, Pipe, Road};
