//! Moves the numbers of a shard's connections to the metric families.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use telemetry::{Direction, FrameCounts, FrameTally, OpenConnection, ValkyrieMetrics};
use valkyrie_frame::{ErrorCode, MessageType, SecurityMode, StreamClass};
use valkyrie_session::{Limits, Session};
use valkyrie_transport::TransportKind;

/// Where the connections of one shard count. Clones share it; each shard makes its own.
///
/// Frames are tallied in plain memory and reach the shared families once per tick.
#[derive(Debug, Clone)]
pub struct Meter {
    shard: Rc<Shard>,
}

#[derive(Debug)]
struct Shard {
    tally: RefCell<FrameTally>,
    metrics: ValkyrieMetrics,
}

impl Meter {
    /// A meter of this shard that moves `metrics`.
    #[must_use]
    pub fn new(metrics: &ValkyrieMetrics) -> Self {
        let tally = RefCell::new(FrameTally::new(metrics));
        Self {
            shard: Rc::new(Shard {
                tally,
                metrics: metrics.clone(),
            }),
        }
    }

    /// Takes a session's notes of the last tick.
    pub(crate) fn collect(&self, session: &mut Session) {
        let mut tally = self.shard.tally.borrow_mut();
        session.counters().take(
            |count| {
                let counts = FrameCounts {
                    sent: count.sent,
                    received: count.received,
                    skipped: count.skipped,
                    bytes: count.bytes,
                    sizes: &count.sizes,
                };
                tally.add(count.kind, &counts);
            },
            |error| self.shard.metrics.error(error.code),
        );
        tally.flush();
        let metrics = &self.shard.metrics;
        session.take_stream_counts(|class, count| {
            (0..count.opened).for_each(|_| metrics.stream_opened(class));
            (0..count.closed).for_each(|_| metrics.stream_closed(class));
            if count.sent > 0 {
                metrics.stream_bytes(class, Direction::Sent, count.sent);
            }
            if count.window > 0 {
                metrics.window(class, count.window);
            }
            if count.received > 0 {
                metrics.stream_bytes(class, Direction::Received, count.received);
            }
        });
    }

    /// Takes the last notes of a session whose connection is over; its streams end with it.
    pub(crate) fn finish(&self, session: &mut Session, reason: &'static str) {
        self.collect(session);
        for class in session.open_streams() {
            self.shard.metrics.stream_closed(class);
        }
        self.shard.metrics.disconnected(reason);
    }

    /// A connection became ready `elapsed` after its first byte; `limits` are this side's.
    pub(crate) fn ready(
        &self,
        transport: TransportKind,
        mode: SecurityMode,
        elapsed: Duration,
        limits: &Limits,
    ) -> OpenConnection {
        for class in StreamClass::WITH_STREAMS {
            self.shard.metrics.window(class, limits.window(class));
        }
        self.shard
            .metrics
            .connection(transport.name(), mode, elapsed)
    }

    /// A ready connection goes on over another transport.
    pub(crate) fn moved(&self, open: &mut OpenConnection, transport: TransportKind) {
        open.moved(transport.name());
    }

    /// A PING was answered.
    pub(crate) fn pinged(&self, round_trip: Duration) {
        let metrics = &self.shard.metrics;
        metrics.answered(MessageType::PING, round_trip);
    }

    /// Calls were answered after these times.
    pub(crate) fn answered(&self, elapsed: &[Duration]) {
        for elapsed in elapsed {
            self.shard.metrics.answered(MessageType::CALL, *elapsed);
        }
    }

    /// The peer sent an alert.
    pub(crate) fn alert(&self, severity: &'static str) {
        self.shard.metrics.alert(severity);
    }

    /// An error that no session saw.
    pub(crate) fn error(&self, code: ErrorCode) {
        self.shard.metrics.error(code);
    }
}
