//! Every bound of the session beside those of the wire format (`valkyrie_frame::limits`).

use std::time::Duration;

use valkyrie_frame::limits::{
    CONNECTION_WINDOW_BYTES_MAX, FRAGMENT_BYTES, FRAGMENT_SHARED_BYTES, FRAME_PAYLOAD_BYTES_MAX,
    HEADER_BYTES, LOG_RECORD_BYTES_MAX, LOG_RECORD_HEADER_BYTES, MESSAGE_BYTES_MAX,
    STREAM_WINDOW_BYTES_MAX,
};

/// Bytes that one [`transmit`](crate::Session::transmit) gives, give or take one frame.
///
/// About 64 KiB, two whole fragments, is the size at which a write is cheapest per message; more
/// falls out of the cache and would stand in front of an urgent frame that comes next.
pub const TRANSMIT_BYTES: usize = 2 * (FRAGMENT_BYTES as usize + HEADER_BYTES);

/// Time from the first byte to AUTH_SUCCESS.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Frames before AUTH_SUCCESS; the longest handshake of any mode has eight.
pub(crate) const PRE_AUTH_FRAMES_MAX: u32 = 32;

/// A frame must be whole this long after its first byte, plus the time its length takes at
/// [`FRAME_BYTES_PER_S_MIN`].
pub(crate) const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Slowest pace at which a frame may come in.
pub(crate) const FRAME_BYTES_PER_S_MIN: u64 = 16 * 1024;

/// A message whose next fragment does not come within this is dropped.
pub(crate) const FRAGMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Messages that may be half received at once.
pub const JOINS_MAX: usize = 256;

/// Bytes of all half received messages: one of the longest, and room for short ones beside it.
pub const JOIN_BYTES_MAX: usize = MESSAGE_BYTES_MAX as usize + 8 * 1024 * 1024;

/// Bytes of messages that wait here for credit; beyond it sending fails.
pub const WAITING_BYTES_MAX: usize = MESSAGE_BYTES_MAX as usize + 16 * 1024 * 1024;

/// Messages that wait here for credit.
pub const WAITING_MESSAGES_MAX: usize = 16 * 1024;

/// Streams that the peer may have opened by STREAM_OPEN and this side has not accepted.
pub const UNACCEPTED_MAX: usize = 100;

/// Streams of the peer over its limit that may wait for it to answer their reset.
pub(crate) const UNANSWERED_MAX: u32 = 1024;

/// Resets, by the peer or provoked by it, in one burst.
pub(crate) const RESET_BURST: u32 = 100;
/// Resets per second in the long run.
pub(crate) const RESETS_PER_S: u32 = 33;

/// PINGs in one burst.
pub(crate) const PING_BURST: u32 = 60;
/// PINGs per second in the long run.
pub(crate) const PINGS_PER_S: u32 = 10;

/// Frames that this side skips (unknown type, no such call) in one burst.
pub(crate) const SKIP_BURST: u32 = 10_000;
/// Skipped frames per second in the long run.
pub(crate) const SKIPS_PER_S: u32 = 1_000;

/// Body of STREAM_OPEN: it takes no credit, and what it says is kept with the stream.
pub(crate) const OPENING_BYTES_MAX: usize = 16 * 1024;

/// Metrics reports, spans, health checks, status updates and alerts in one burst.
pub(crate) const REPORT_BURST: u32 = 100;
/// The same per second in the long run; each may be 64 KiB that have to be looked through.
pub(crate) const REPORTS_PER_S: u32 = 20;

/// NEGOTIATE and UPGRADE in one burst.
pub(crate) const PROPOSAL_BURST: u32 = 20;
/// NEGOTIATE and UPGRADE per second in the long run.
pub(crate) const PROPOSALS_PER_S: u32 = 1;

/// Longest time that the offer of another transport may be good for.
pub const OFFER_MAX: Duration = Duration::from_secs(60);
/// Longest endpoint in an offer.
pub(crate) const ENDPOINT_BYTES_MAX: usize = 1024;

/// Frames of data without a byte that may follow each other on one stream.
pub(crate) const EMPTY_FRAMES_MAX: u8 = 100;

/// A class counts as active this long after its last frame; two active classes shorten fragments.
pub(crate) const CLASS_ACTIVE: Duration = Duration::from_millis(10);

/// Longest message of [`send_batch`](crate::Session::send_batch): what the smallest window always
/// lets through in the end, since credit under a quarter of it may not have come back.
pub const BATCH_MESSAGE_BYTES_MAX: usize = STREAM_WINDOW_BYTES_MIN as usize / 4 * 3;

/// The bytes of a STREAM_DATA frame with at least this payload are handed on before it is whole:
/// keeping its beginning would cost a copy, a late start and memory. Shorter ones come whole.
pub const PIECES_FROM: u32 = 16 * 1024;

/// Shorter payloads are copied behind their headers; naming them apart would cost a write more.
pub(crate) const SHARED_BYTES_MIN: usize = 16 * 1024;

/// Frames of higher priority that leave before one of lower priority of the same class does.
pub(crate) const PASSED_OVER_MAX: u8 = 16;

/// Shortest keepalive interval that a peer can ask for.
pub(crate) const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
/// Timeouts that an unanswered PING waits at least: a segment that is lost three times is sent for
/// the fourth time after 1 + 2 + 4 of them.
pub(crate) const PATIENCE_TIMEOUTS: u32 = 7;
/// Longest wait for the answer to a PING, where two intervals are not longer.
pub(crate) const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// Smallest window of a system, job or data stream that a peer may announce.
pub const STREAM_WINDOW_BYTES_MIN: u32 = 4 * 1024;
/// Smallest window of the connection and of log streams: a log record must fit.
pub const LOG_WINDOW_BYTES_MIN: u32 = 64 * 1024;

/// Least that an idle window shrinks to, by class: system, jobs, data, logs.
pub const CLASS_WINDOW_BYTES_MIN: [u32; 4] = [4 * 1024, 4 * 1024, 256 * 1024, 64 * 1024];
/// Most that a window grows to, by class: system, jobs, data, logs.
pub const CLASS_WINDOW_BYTES_MAX: [u32; 4] = [
    1024 * 1024,
    1024 * 1024,
    STREAM_WINDOW_BYTES_MAX,
    STREAM_WINDOW_BYTES_MAX,
];

/// Shortest time after which a window is looked at again. The round trip of a link on one host is
/// shorter than the time a thread needs to wake, and no measure for anything.
pub(crate) const TUNE_ROUND_MIN: Duration = Duration::from_millis(1);
/// A window of which little was used for this long halves.
pub(crate) const TUNE_IDLE: Duration = Duration::from_secs(1);
/// Wait after a larger window did not make a stream faster; doubles each time.
pub(crate) const TUNE_HOLD: Duration = Duration::from_secs(1);
/// Doublings of that wait: about a minute.
pub(crate) const TUNE_HOLD_DOUBLINGS_MAX: u8 = 6;
/// Time in a queue that is no sign of one.
pub(crate) const TUNE_QUEUE_FREE: Duration = Duration::from_micros(200);
/// Time in a queue from which on a window shrinks in any case, if the way itself is shorter.
pub(crate) const TUNE_QUEUE_MAX: Duration = Duration::from_millis(2);
/// Time between two PINGs that measure the round trip, while credit is given back. The peer
/// answers ten a second in the long run.
pub(crate) const RTT_SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// Longest drain that a CLOSE can ask for.
pub const DRAIN_MAX: Duration = Duration::from_secs(3600);

const _: () = {
    assert!(LOG_RECORD_BYTES_MAX + LOG_RECORD_HEADER_BYTES + 8 <= LOG_WINDOW_BYTES_MIN as usize);
    // Up to a quarter of a connection's credit waits to be given back; a record needs no more than
    // the rest, or it would wait for ever.
    assert!(
        LOG_RECORD_BYTES_MAX + LOG_RECORD_HEADER_BYTES + 8 <= LOG_WINDOW_BYTES_MIN as usize * 5 / 8
    );
    assert!(FRAGMENT_BYTES as usize <= TRANSMIT_BYTES);
    assert!(BATCH_MESSAGE_BYTES_MAX <= FRAGMENT_SHARED_BYTES as usize);
    // Both leave the peer's budget of PINGs to the heartbeat and to the application.
    assert!(RTT_SAMPLE_EVERY.as_millis() * PINGS_PER_S as u128 >= 2000);
    assert!(WAITING_BYTES_MAX > MESSAGE_BYTES_MAX as usize);
    assert!(JOIN_BYTES_MAX > MESSAGE_BYTES_MAX as usize);
    assert!(FRAME_PAYLOAD_BYTES_MAX <= CONNECTION_WINDOW_BYTES_MAX);
};
