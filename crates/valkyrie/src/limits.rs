//! Bounds of what peers may make this side hold, beside those of the session.

use valkyrie_session::limits::JOIN_BYTES_MAX;

/// Longest message on a stream that a service or client takes by default.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of messages longer than their credit that are half received, of all streams of a
/// connection; as many as of calls.
pub const JOINING_BYTES_MAX: usize = JOIN_BYTES_MAX;

/// Streams that a connection gives up at once, and a second in the long run. Below what
/// lets the peer take for misuse; more of them run out instead of being reset.
pub(crate) const GIVE_UP_BURST: u32 = 80;
/// See [`GIVE_UP_BURST`].
pub(crate) const GIVE_UPS_PER_S: u32 = 25;

/// Requests of other threads that wait for the shard of their connection.
pub const COMMANDS_MAX: usize = 1024;

const _: () = assert!(MESSAGE_BYTES_MAX <= JOINING_BYTES_MAX);
