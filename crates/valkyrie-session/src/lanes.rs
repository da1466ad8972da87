//! Messages that wait for credit or are sent in fragments.
//!
//! A lane is a row of messages that must stay in order: one message of a channel, or all messages
//! of one stream. The lanes of a class take turns, one fragment each, so a long message does not
//! keep the short ones behind it waiting.

use std::collections::VecDeque;

use valkyrie_frame::{Correlation, Flags, MessageType, StreamClass, StreamId, TraceByte};

use crate::limits::{WAITING_BYTES_MAX, WAITING_MESSAGES_MAX};
use crate::on_demand::resting;

/// A message of which not everything was sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) kind: MessageType,
    pub(crate) correlation: Correlation,
    /// Flags of the last fragment; the first one has EXTENSIONS if there are any.
    pub(crate) flags: Flags,
    /// The encoded extension block, for the first fragment.
    pub(crate) extensions: Vec<u8>,
    /// The trace byte of the first fragment.
    pub(crate) trace: TraceByte,
    pub(crate) body: Vec<u8>,
    pub(crate) sent: usize,
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) stream: StreamId,
    pub(crate) messages: VecDeque<Outgoing>,
}

/// The lanes of all classes.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    system: VecDeque<Lane>,
    jobs: VecDeque<Lane>,
    data: VecDeque<Lane>,
    logs: VecDeque<Lane>,
    bytes: usize,
    messages: usize,
    /// How many lanes of all classes are not of a channel.
    of_streams: usize,
}

impl Lanes {
    /// Whether a message of `bytes` may wait too.
    pub(crate) const fn has_room(&self, bytes: usize) -> bool {
        self.messages < WAITING_MESSAGES_MAX && self.bytes + bytes <= WAITING_BYTES_MAX
    }

    /// Whether a new message on `stream` has to wait behind others.
    pub(crate) fn must_wait(&self, stream: StreamId) -> bool {
        let lanes = self.class(stream.class());
        !lanes.is_empty() && (stream.is_channel() || lanes.iter().any(|lane| lane.stream == stream))
    }

    /// Lets a message wait.
    pub(crate) fn push(&mut self, stream: StreamId, message: Outgoing) {
        self.bytes += message.body.len();
        self.messages += 1;
        let lanes = self.class_mut(stream.class());
        let known = lanes
            .iter_mut()
            .find(|lane| lane.stream == stream && !stream.is_channel());
        match known {
            Some(lane) => lane.messages.push_back(message),
            None => {
                lanes.push_back(Lane {
                    stream,
                    messages: VecDeque::from([message]),
                });
                self.of_streams += usize::from(!stream.is_channel());
            }
        }
    }

    /// Lets the last message that waits on a stream end it; whether there is one.
    pub(crate) fn end(&mut self, stream: StreamId) -> bool {
        let lanes = self.class_mut(stream.class()).iter_mut();
        let lane = lanes.filter(|lane| lane.stream == stream).last();
        let last = lane.and_then(|lane| lane.messages.back_mut());
        if let Some(message) = last {
            message.flags = message.flags | Flags::END_OF_STREAM;
            return true;
        }
        false
    }

    /// How many lanes of `class` wait.
    pub(crate) fn len(&self, class: StreamClass) -> usize {
        self.class(class).len()
    }

    /// Whether nothing waits.
    pub(crate) const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether all that waits is on channels.
    pub(crate) const fn only_channels(&self) -> bool {
        self.of_streams == 0
    }

    /// The lane whose turn it is.
    pub(crate) fn front(&mut self, class: StreamClass) -> Option<&mut Lane> {
        self.class_mut(class).front_mut()
    }

    /// Ends the turn of the front lane, whose first message is done or not.
    pub(crate) fn rotate(&mut self, class: StreamClass, done: Done) {
        let Some(mut lane) = self.class_mut(class).pop_front() else {
            return;
        };
        if done == Done::Yes
            && let Some(message) = lane.messages.pop_front()
        {
            self.bytes -= message.body.len();
            self.messages -= 1;
        }
        if lane.messages.is_empty() {
            self.of_streams -= usize::from(!lane.stream.is_channel());
        } else {
            self.class_mut(class).push_back(lane);
        }
    }

    /// Forgets what waits on a stream.
    pub(crate) fn drop_stream(&mut self, stream: StreamId) {
        self.retain(stream.class(), |lane, _| lane != stream);
    }

    /// Forgets a call or answer.
    pub(crate) fn drop_call(&mut self, stream: StreamId, kind: MessageType, call: Correlation) {
        self.retain(stream.class(), |lane, message| {
            lane != stream || message.kind != kind || message.correlation != call
        });
    }

    fn retain(&mut self, class: StreamClass, keep: impl Fn(StreamId, &Outgoing) -> bool) {
        if self.messages == 0 {
            return;
        }
        let (mut bytes, mut messages, mut of_streams) = (0, 0, 0);
        self.class_mut(class).retain_mut(|lane| {
            let stream = lane.stream;
            lane.messages.retain(|message| {
                let kept = keep(stream, message);
                if !kept {
                    bytes += message.body.len();
                    messages += 1;
                }
                kept
            });
            if lane.messages.is_empty() {
                of_streams += usize::from(!stream.is_channel());
            }
            !lane.messages.is_empty()
        });
        self.of_streams -= of_streams;
        self.bytes -= bytes;
        self.messages -= messages;
    }

    fn class(&self, class: StreamClass) -> &VecDeque<Lane> {
        match class {
            StreamClass::Control | StreamClass::System => &self.system,
            StreamClass::Jobs => &self.jobs,
            StreamClass::Data => &self.data,
            StreamClass::Logs => &self.logs,
        }
    }

    fn class_mut(&mut self, class: StreamClass) -> &mut VecDeque<Lane> {
        match class {
            StreamClass::Control | StreamClass::System => &mut self.system,
            StreamClass::Jobs => &mut self.jobs,
            StreamClass::Data => &mut self.data,
            StreamClass::Logs => &mut self.logs,
        }
    }
}

resting!(Lanes, lanes, lanes.is_empty());

/// Whether a message is completely sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Outgoing {
        Outgoing {
            kind: MessageType::CALL,
            correlation: Correlation::NONE,
            flags: Flags::NONE,
            extensions: Vec::new(),
            trace: TraceByte::NONE,
            body: vec![0; bytes],
            sent: 0,
        }
    }

    #[test]
    fn lanes_of_streams_are_counted_until_they_are_gone() {
        let mut lanes = Lanes::default();
        let (channel, first, second) = (StreamId(100), StreamId(101), StreamId(103));
        for stream in [channel, channel, first, first, second] {
            lanes.push(stream, message(10));
        }
        assert_eq!((lanes.len(StreamClass::Jobs), lanes.of_streams), (4, 2));
        lanes.rotate(StreamClass::Jobs, Done::No);
        lanes.rotate(StreamClass::Jobs, Done::Yes);
        lanes.rotate(StreamClass::Jobs, Done::Yes);
        lanes.rotate(StreamClass::Jobs, Done::Yes);
        assert!(!lanes.only_channels(), "one message of the first is left");
        lanes.drop_stream(first);
        assert!(lanes.only_channels());
        lanes.drop_stream(channel);
        assert_eq!((lanes.bytes, lanes.messages, lanes.of_streams), (0, 0, 0));
        assert!(lanes.is_empty());
    }
}
