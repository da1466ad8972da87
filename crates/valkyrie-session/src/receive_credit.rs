//! What the peer's acknowledgements bring.

use valkyrie_frame::limits::{CONNECTION_WINDOW_BYTES_MAX, STREAM_WINDOW_BYTES_MAX};
use valkyrie_frame::{Frame, StreamAck, StreamId};

use crate::credit::Raised;
use crate::error::Violation;
use crate::event::Event;
use crate::receive::{Fault, Handled, body};
use crate::session::Session;
use crate::state::{Change, StreamState};
use crate::streams::{Counting, Listed, Stream};

impl Session {
    pub(crate) fn on_stream_ack<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let stream = frame.header.stream;
        let ack =
            StreamAck::parse(frame.body).map_err(|error| Fault::Connection(body(frame, error)))?;
        if stream == StreamId::CONTROL {
            let (sent, max) = (self.send.position(), CONNECTION_WINDOW_BYTES_MAX);
            check(stream, ack, sent, max).map_err(Fault::Connection)?;
            if self.send.raise(ack.limit) == Raised::No {
                return self.skip();
            }
            // What waits here goes first: streams that are woken would take all of it each time.
            self.fill_from_lanes();
            self.wake_all();
            return Ok(None);
        }
        if stream.is_channel() {
            return self.on_channel_credit(stream, ack);
        }
        let Some(open) = self.streams.get(stream) else {
            // Credit for a stream that ended meanwhile.
            return self.skip();
        };
        if open.state == StreamState::ResetSent {
            return self.skip();
        }
        check(stream, ack, may_be_consumed(open), STREAM_WINDOW_BYTES_MAX)?;
        if open.state.is_opening() {
            return Ok(self.on_accepted(stream, ack));
        }
        self.on_credit(stream, ack)
    }

    fn on_channel_credit<'b>(&mut self, stream: StreamId, ack: StreamAck) -> Handled<'b> {
        let Some(flow) = self.streams.flow_mut(stream) else {
            return self.skip();
        };
        let sent = flow.send.position();
        check(stream, ack, sent, STREAM_WINDOW_BYTES_MAX).map_err(Fault::Connection)?;
        match flow.send.raise(ack.limit) {
            Raised::Yes => Ok(None),
            Raised::No => self.skip(),
        }
    }

    /// The peer took a stream of this side and says where to begin.
    fn on_accepted(&mut self, stream: StreamId, ack: StreamAck) -> Option<Event<'static>> {
        let open = self.streams.get_mut(stream)?;
        if open.is_log_to_begin() {
            open.flow.send.begin(ack);
        } else {
            open.flow.send.raise(ack.limit);
        }
        self.streams.change(stream, Change::Accept);
        self.wake(stream);
        Some(Event::Accepted {
            stream,
            consumed: ack.consumed,
        })
    }

    /// Credit of a stream that is open. One that brings nothing is counted with the frames that
    /// mean nothing, or a flood of them would cost its sender less than this side.
    fn on_credit<'b>(&mut self, stream: StreamId, ack: StreamAck) -> Handled<'b> {
        let Some(open) = self.streams.get_mut(stream) else {
            return self.skip();
        };
        if open.sending == Counting::FileOffered {
            open.flow.send.begin(ack);
            open.sending = Counting::File;
            self.wake(stream);
            return Ok(Some(Event::FileVerified {
                stream,
                offset: ack.consumed,
            }));
        }
        let further = open.flow.send.consume(ack.consumed);
        let raised = open.flow.send.raise(ack.limit);
        let event = match open.sending {
            Counting::Log => Some(Event::LogDurable {
                stream,
                offset: ack.consumed,
                limit: ack.limit,
            }),
            Counting::File => Some(Event::FileVerified {
                stream,
                offset: ack.consumed,
            }),
            Counting::Bytes | Counting::FileOffered => None,
        };
        if raised == Raised::Yes {
            self.wake(stream);
        } else if further == Raised::No || event.is_none() {
            return self.skip();
        }
        Ok(event)
    }

    /// Tells a caller that ran out of credit that there is some.
    fn wake(&mut self, stream: StreamId) {
        if let Some(open) = self.streams.get_mut(stream)
            && open.blocked == Listed::Yes
        {
            open.blocked = Listed::No;
            self.blocked.retain(|id| *id != stream);
            self.events.push_back(Event::Writable { stream });
        }
    }

    fn wake_all(&mut self) {
        let blocked = self.blocked.present().map(std::mem::take);
        for stream in blocked.unwrap_or_default() {
            if let Some(open) = self.streams.get_mut(stream) {
                open.blocked = Listed::No;
                self.events.push_back(Event::Writable { stream });
            }
        }
    }
}

/// How far the peer can have consumed what this side sends on a stream.
fn may_be_consumed(open: &Stream) -> u64 {
    if open.is_log_to_begin() {
        return u64::MAX;
    }
    match open.sending {
        // The peer may have it all from an earlier try.
        Counting::FileOffered => open.file_sent,
        Counting::Bytes | Counting::Log | Counting::File => open.flow.send.position(),
    }
}

/// Whether `ack` can be true when `sent` is as far as this side has got, and lets it be no further
/// ahead than a window may be: credit without measure would put everything that the application
/// has to send into this side's memory.
fn check(stream: StreamId, ack: StreamAck, sent: u64, window_max: u32) -> Result<(), Violation> {
    let problem = if ack.consumed > sent {
        "more was consumed than was sent"
    } else if ack.limit - ack.consumed > u64::from(window_max) {
        "its limit is further ahead than the greatest window"
    } else {
        return Ok(());
    };
    Err(Violation::Credit { stream, problem })
}
