//! Frames that stand behind everything that was sent before them, whatever its class.

use std::collections::VecDeque;

use valkyrie_frame::{Header, MessageType, StreamId};

use crate::on_demand::{OnDemand, resting};
use crate::outbox::{Outbox, Place};
use crate::session::Session;

/// What has to be given out before a frame, and the frame.
#[derive(Debug)]
pub(crate) struct Passing {
    before: OnDemand<Outbox>,
    mark: OnDemand<Outbox>,
    then: Then,
}

/// What follows the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Whatever was sent after it.
    GoOn,
    /// Nothing on this transport.
    Stop,
}

/// Frames that wait for what was sent before them; almost always none.
pub(crate) type Queue = VecDeque<Passing>;

resting!(Queue, queue, queue.is_empty());

impl Session {
    /// Sends a frame of stream 0 behind everything that is encoded now. What is sent later goes
    /// into fresh buffers behind it, so a sender that never rests cannot put it off.
    pub(crate) fn send_behind_all(&mut self, header: Header, body: &[u8], then: Then) {
        let length = u32::try_from(body.len()).expect("bodies of stream 0 are checked before");
        let header = Header { length, ..header };
        let mut mark = OnDemand::<Outbox>::default();
        mark.append(Place::CONTROL, |out| {
            header.append(out);
            out.extend_from_slice(body);
        });
        self.counters
            .count_sent(header.kind, header.priority, length);
        self.passing.push_back(Passing {
            before: std::mem::take(&mut self.outbox),
            mark,
            then,
        });
    }

    /// Goes on behind a frame that was given out.
    pub(crate) fn end_passing(&mut self) {
        let done = self.passing.front().is_some_and(|first| first.bytes() == 0);
        if done
            && let Some(passing) = self.passing.pop_front()
            && passing.then == Then::Stop
        {
            self.mark_is_out();
        }
    }

    /// Drops what stands there but what is half written: the connection is over.
    pub(crate) fn drop_passing(&mut self) {
        let passing = self.passing.present();
        if let Some(mut first) = passing.and_then(VecDeque::pop_front) {
            self.outbox = std::mem::take(first.leaving_mut());
            self.passing = OnDemand::default();
        }
    }

    /// Bytes that wait there.
    pub(crate) fn passing_bytes(&self) -> usize {
        self.passing.iter().map(Passing::bytes).sum()
    }
}

impl Passing {
    fn bytes(&self) -> usize {
        self.before.len() + self.mark.len()
    }

    /// Where the bytes are whose turn it is.
    pub(crate) fn leaving(&self) -> &Outbox {
        match self.before.is_empty() {
            true => &self.mark,
            false => &self.before,
        }
    }

    pub(crate) fn leaving_mut(&mut self) -> &mut OnDemand<Outbox> {
        match self.before.is_empty() {
            true => &mut self.mark,
            false => &mut self.before,
        }
    }
}

/// A header on stream 0.
pub(crate) const fn on_control(kind: MessageType) -> Header {
    Header::new(kind, StreamId::CONTROL, 0)
}
