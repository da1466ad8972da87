//! The orderly end of a connection.

use std::time::Duration;

use valkyrie_frame::{ClosePayload, ErrorCode, MessageType, Time};

use crate::limits::DRAIN_MAX;
use crate::on_demand::resting;
use crate::session::{Phase, Session};

/// How far the orderly end has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Closing {
    /// We sent CLOSE and wait this long for what runs.
    sent: Option<Time>,
    /// The peer sent CLOSE and waits this long.
    pub(crate) received: Option<Time>,
    /// The CLOSE that is still to be sent.
    unsaid: Option<ClosePayload>,
}

resting!(Closing, closing, *closing == Closing::default());

impl Session {
    /// Starts the orderly end: nothing new is taken, what runs may end within `drain`.
    /// [`is_finished`](Self::is_finished) says when the transport can be closed.
    pub fn close(&mut self, code: ErrorCode, drain: Duration) {
        if self.phase == Phase::Failed || self.closing.sent.is_some() {
            return;
        }
        let drain = drain.min(DRAIN_MAX);
        let drain_ms = u32::try_from(drain.as_millis()).unwrap_or(u32::MAX);
        self.closing.sent = Some(self.now + drain);
        self.closing.unsaid = Some(ClosePayload {
            code,
            drain_ms,
            served: Some(self.streams.offered()),
        });
    }

    /// Whether the connection has ended in order, or has failed, and everything is sent: close
    /// the transport.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        if !self.outbox.is_empty() || !self.passing.is_empty() {
            return false;
        }
        if self.phase == Phase::Failed {
            return true;
        }
        if self.closing.unsaid.is_some() {
            return false;
        }
        let over = |deadline: Time| self.now >= deadline;
        match (self.closing.sent, self.closing.received) {
            (Some(sent), Some(_)) => self.is_idle() || over(sent),
            (Some(sent), None) => over(sent),
            (None, _) => false,
        }
    }

    /// Whether one of the sides has begun the orderly end.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.sent.is_some() || self.closing.received.is_some()
    }

    /// Whether the peer said that it closes, so that the end of its bytes is no loss.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.closing.received.is_some()
    }

    /// Sends CLOSE behind everything that was sent before it; in the control band it would overtake
    /// the streams and calls that it is meant to let through.
    pub(crate) fn say_close(&mut self, now: Time) {
        let Some(closing) = self.closing.present() else {
            return;
        };
        let due = closing.sent.is_some_and(|deadline| now >= deadline);
        if (due || self.outbox.is_empty() && self.lanes.is_empty())
            && let Some(close) = closing.unsaid.take()
        {
            self.control(MessageType::CLOSE, |out| close.append(out));
        }
    }

    /// When time moves the orderly end on. A deadline that has come is not named again: what is
    /// left then waits for the transport, not for time.
    pub(crate) fn closing_deadline(&self) -> Option<Time> {
        let deadline = self.closing.sent.or(self.closing.received)?;
        (self.closing.sent.is_none() || self.now < deadline).then_some(deadline)
    }

    /// Answers the peer's CLOSE when nothing runs any more, or its time is over.
    pub(crate) fn move_closing(&mut self, now: Time) {
        if let Some(deadline) = self.closing.received
            && self.closing.sent.is_none()
            && (self.is_idle() || now >= deadline)
        {
            self.close(ErrorCode::NONE, Duration::ZERO);
        }
    }
}
