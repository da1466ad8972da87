//! What each frame of a stream does.

use valkyrie_frame::limits::{METADATA_MAX, METHOD_BYTES_MAX, STREAM_WINDOW_BYTES_MAX};
use valkyrie_frame::{
    Correlation, ErrorCode, Flags, Frame, LogEntry, MessageType, StreamClass, StreamClose,
    StreamId, StreamReset, v2,
};

use crate::envelope::Envelope;
use crate::error::Violation;
use crate::event::{End, Event, More, Payload};
use crate::handshake::{decode, unexpected};
use crate::join::JoinKey;
use crate::limits::{OPENING_BYTES_MAX, UNACCEPTED_MAX, UNANSWERED_MAX};
use crate::receive::{Fault, Handled, body, credit_of, is_charged, value};
use crate::rule::Rule;
use crate::session::Session;
use crate::state::{Change, StreamState};
use crate::streams::Counting;

/// What may be done with a frame of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// The stream takes it.
    Yes,
    /// This side has reset the stream; the frame was under way, or was itself the reason.
    Late,
}

impl Session {
    /// Whether the peer may send this frame on its stream now.
    pub(crate) fn admit(&mut self, frame: &Frame<'_>) -> Result<Admitted, Fault> {
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        if !stream.is_stream() {
            let problem = "it belongs on a stream, not on stream 0 or a channel";
            return Err(Fault::Connection(Violation::WrongRange {
                stream,
                kind,
                problem,
                rule: Rule::PLACE,
            }));
        }
        match self.streams.get(stream).map(|open| open.state) {
            None => Err(Violation::UnknownStream { stream, kind }.into()),
            Some(StreamState::ResetSent) => Ok(Admitted::Late),
            Some(state) if !state.can_receive() => Err(Violation::AfterEnd { stream, kind }.into()),
            Some(state) => {
                if state.is_opening() {
                    self.streams.change(stream, Change::Accept);
                }
                Ok(Admitted::Yes)
            }
        }
    }

    /// A frame for a stream that this side has reset: only its end matters.
    ///
    /// What the peer had credit for was rightly sent before it saw the reset, in frames as short
    /// as it likes; more than that is skipped like anything without meaning.
    pub(crate) fn late<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, bytes) = (frame.header.stream, credit_of(frame));
        let rightful = bytes > 0
            && is_charged(frame.header.kind)
            && self
                .streams
                .flow_mut(stream)
                .is_some_and(|flow| flow.receive.receive(bytes).is_ok());
        if frame.header.flags.contains(Flags::END_OF_STREAM) {
            self.streams.change(stream, Change::ReceiveEnd);
        }
        if rightful { Ok(None) } else { self.skip() }
    }

    /// Registers a stream of the peer after everything about its id was checked.
    fn offer(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        self.way.opened(self.now);
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        let wrong = |problem| {
            Fault::Connection(Violation::WrongRange {
                stream,
                kind,
                problem,
                rule: Rule::PARITY,
            })
        };
        if !stream.is_stream() {
            return Err(wrong("stream 0 and the channels cannot be opened"));
        }
        if self.streams.is_own(stream) {
            return Err(wrong("its parity belongs to the other side"));
        }
        if self.streams.get(stream).is_some() {
            return Err(unexpected(frame, "on a stream that is open", Rule::OPENED_ONCE).into());
        }
        if self.is_closing() {
            return self.turn_away(frame, Violation::Draining);
        }
        let max = u64::from(self.own.streams_max());
        if u64::from(self.streams.peers()) >= max {
            return self.turn_away(
                frame,
                Violation::TooMany {
                    what: "streams at once",
                    max,
                    rule: Rule::STREAMS_AT_ONCE,
                },
            );
        }
        if kind == MessageType::STREAM_OPEN && self.streams.unaccepted() >= UNACCEPTED_MAX {
            let max = UNACCEPTED_MAX as u64;
            let what = "streams that are not accepted";
            let rule = Rule::STREAMS_AT_ONCE;
            return self.turn_away(frame, Violation::TooMany { what, max, rule });
        }
        self.streams
            .insert(stream, StreamState::Offered, &self.own, &self.peer);
        Ok(())
    }

    /// Refuses a new stream: it is registered only to be reset, so that what the peer has already
    /// sent behind the opening finds it.
    fn turn_away(&mut self, frame: &Frame<'_>, violation: Violation) -> Result<(), Fault> {
        let stream = frame.header.stream;
        // Each waits for the peer to answer the reset; one that never does would fill the table.
        let max = self.own.streams_max().saturating_add(UNANSWERED_MAX);
        if self.streams.peers() >= max {
            return Err(Fault::Connection(Violation::TooMany {
                what: "streams at once, with those whose reset is not answered",
                max: u64::from(max),
                rule: Rule::STREAMS_AT_ONCE,
            }));
        }
        self.streams
            .insert(stream, StreamState::Offered, &self.own, &self.peer);
        if frame.header.flags.contains(Flags::END_OF_STREAM) {
            self.streams.change(stream, Change::ReceiveEnd);
        }
        Err(violation.into())
    }

    /// Whether the frame is the first of a stream.
    fn is_opening(&self, frame: &Frame<'_>) -> bool {
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        kind == MessageType::STREAM_OPEN
            || kind == MessageType::JOB_REQUEST
                && stream.class() == StreamClass::Jobs
                && !frame.header.flags.contains(Flags::ACK)
                && !self.joins.contains(JoinKey::of(&frame.header))
    }

    /// Refuses a frame before anything else is done with it.
    pub(crate) fn refuse_frame<'b>(
        &mut self,
        frame: &Frame<'b>,
        violation: Violation,
    ) -> Handled<'b> {
        if self.is_opening(frame) {
            return self.refuse_opening(frame, violation);
        }
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        if kind == MessageType::ERROR {
            // Never answered by an ERROR about a part of the connection.
            return Err(Fault::Connection(violation));
        }
        if stream.is_channel() && is_charged(kind) {
            // The sender has spent it, whatever becomes of the message.
            self.charge_channel(stream, frame.body.len() as u64)?;
        }
        Err(violation.into())
    }

    /// Refuses the frame that opens a stream: the stream is registered only to be reset, or it
    /// would stay open at the peer.
    fn refuse_opening<'b>(&mut self, frame: &Frame<'b>, violation: Violation) -> Handled<'b> {
        if self.admit_opening(frame)? == Admitted::Late {
            return Ok(None);
        }
        let stream = frame.header.stream;
        if end_of(frame) == End::Yes {
            self.streams.change(stream, Change::ReceiveEnd);
        }
        self.refuse(stream, Correlation::NONE, violation);
        Ok(None)
    }

    /// Registers a stream of the peer; `Late` when it was turned away, of which the application
    /// hears nothing.
    fn admit_opening(&mut self, frame: &Frame<'_>) -> Result<Admitted, Fault> {
        match self.offer(frame) {
            Ok(()) => Ok(Admitted::Yes),
            Err(Fault::Subject(violation @ (Violation::Draining | Violation::TooMany { .. }))) => {
                self.refuse(frame.header.stream, Correlation::NONE, violation);
                Ok(Admitted::Late)
            }
            Err(fault) => Err(fault),
        }
    }

    pub(crate) fn on_stream_open<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let stream = frame.header.stream;
        let (open, envelope) = match opening(frame) {
            Ok(opening) => opening,
            Err(violation) => return self.refuse_opening(frame, violation),
        };
        if self.admit_opening(frame)? == Admitted::Late {
            return Ok(None);
        }
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.priority = frame.header.priority;
            if open.window != 0 {
                let window = u64::from(open.window.min(STREAM_WINDOW_BYTES_MAX));
                entry.flow.send = crate::credit::SendCredit::new(window);
            }
        }
        if frame.header.flags.contains(Flags::END_OF_STREAM) {
            self.streams.change(stream, Change::ReceiveEnd);
        }
        Ok(Some(Event::Opened {
            stream,
            open,
            envelope,
        }))
    }

    pub(crate) fn on_data<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, bytes) = (frame.header.stream, frame.body);
        if let Admitted::Late = self.admit(frame)? {
            return self.late(frame);
        }
        let end = end_of(frame);
        let envelope = boxed_envelope(frame)?;
        let Some(open) = self.streams.get_mut(stream) else {
            return Ok(None);
        };
        // An end without a byte ends a file too, also one whose beginning its sender does not know.
        let only_end = bytes.is_empty() && end == End::Yes;
        let is_file = open.receiving != Counting::Bytes && stream.class() != StreamClass::Logs;
        if is_file && !only_end {
            return Err(
                unexpected(frame, "on a stream that carries a file", Rule::FILE_ORDER).into(),
            );
        }
        let credit = credit_of(frame);
        let more = match frame.header.flags.contains(Flags::MORE_FRAGMENTS) {
            true if bytes.is_empty() && credit > 0 => {
                let problem = "a fragment without a byte";
                return Err(value(frame, problem, Rule::EMPTY_FRAGMENT).into());
            }
            true => More::Yes,
            false => More::No,
        };
        open.flow
            .receive
            .receive(credit)
            .map_err(|excess| Violation::Window { stream, excess })?;
        open.count_empty(credit, end)?;
        if end == End::Yes {
            self.streams.change(stream, Change::ReceiveEnd);
            let finished = finished(stream, ErrorCode::NONE);
            if credit == 0 {
                return Ok(Some(finished));
            }
            self.events.push_back(finished);
        }
        Ok((credit > 0).then_some(Event::Data {
            stream,
            bytes: Payload::Borrowed(bytes),
            more,
            envelope,
        }))
    }

    pub(crate) fn on_stream_close<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let stream = frame.header.stream;
        if let Admitted::Late = self.admit(frame)? {
            self.streams.change(stream, Change::ReceiveEnd);
            return self.skip();
        }
        let close = StreamClose::parse(frame.body).map_err(|error| body(frame, error))?;
        if self.joins.is_inside(stream) {
            return Err(unexpected(frame, "inside a message", Rule::END_INSIDE).into());
        }
        let expected = self
            .streams
            .get(stream)
            .map_or(0, |open| open.flow.receive.position());
        if close.status == ErrorCode::NONE && close.final_offset != expected {
            let (kind, found) = (frame.header.kind, close.final_offset);
            return Err(Violation::Offset {
                kind,
                found,
                expected,
            }
            .into());
        }
        let envelope = boxed_envelope(frame)?;
        self.streams.change(stream, Change::ReceiveEnd);
        Ok(Some(Event::Finished {
            stream,
            status: close.status,
            envelope,
        }))
    }

    pub(crate) fn on_stream_reset<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        if !stream.is_stream() {
            let problem = "stream 0 and the channels cannot be reset";
            return Err(Fault::Connection(Violation::WrongRange {
                stream,
                kind,
                problem,
                rule: Rule::RESET,
            }));
        }
        let reset = StreamReset::parse(frame.body).map_err(|error| body(frame, error))?;
        let Some(state) = self.streams.get(stream).map(|open| open.state) else {
            return self.skip();
        };
        if state == StreamState::ResetSent {
            self.streams.change(stream, Change::ReceiveReset);
            return Ok(None);
        }
        // What this side opened in vain because the peer closes has cost the peer as much.
        let in_vain = state.is_opening() && reset.code == ErrorCode::DRAINING;
        if !in_vain {
            self.budgets.resets.take(self.now).map_err(|max| {
                let max = u64::from(max);
                Fault::Connection(Violation::TooMany {
                    what: "resets at once",
                    max,
                    rule: Rule::RESETS,
                })
            })?;
        }
        if state.can_send() {
            self.send_reset(stream, reset.code);
        }
        self.forget_stream(stream);
        self.streams.change(stream, Change::ReceiveReset);
        Ok(Some(Event::Reset {
            stream,
            code: reset.code,
        }))
    }

    pub(crate) fn on_job<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        if stream.class() != StreamClass::Jobs || stream.is_channel() {
            let problem = "job messages use streams 101 to 999";
            return Err(Fault::Connection(Violation::WrongRange {
                stream,
                kind,
                problem,
                rule: Rule::PLACE,
            }));
        }
        if self.is_opening(frame) && self.admit_opening(frame)? == Admitted::Late {
            return Ok(None);
        }
        if let Admitted::Late = self.admit(frame)? {
            return self.late(frame);
        }
        self.on_job_message(frame)
    }

    fn on_job_message<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        let bytes = frame.body.len() as u64;
        if let Some(flow) = self.streams.flow_mut(stream) {
            flow.receive
                .receive(bytes)
                .map_err(|excess| Violation::Window { stream, excess })?;
            flow.receive.consume(bytes);
        }
        self.list_credit(stream);
        let end = end_of(frame);
        if frame.header.flags.contains(Flags::ACK) {
            check_ack_body(frame)?;
            if end == End::Yes {
                self.streams.change(stream, Change::ReceiveEnd);
            }
            return Ok(Some(Event::JobAcked { stream, kind }));
        }
        if self.joins.is_inside_another(JoinKey::of(&frame.header)) {
            return Err(unexpected(frame, "inside another message", Rule::HALF_SENT).into());
        }
        let Some(whole) = self.join(frame)? else {
            return Ok(None);
        };
        if end == End::Yes {
            self.streams.change(stream, Change::ReceiveEnd);
        }
        let correlation = frame.header.correlation;
        Ok(Some(Event::Job {
            stream,
            kind,
            body: whole.body,
            correlation,
            end,
        }))
    }

    pub(crate) fn on_log<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        if let Admitted::Late = self.admit(frame)? {
            return self.late(frame);
        }
        if stream.class() != StreamClass::Logs {
            return Err(unexpected(frame, "outside the streams for logs", Rule::PLACE).into());
        }
        let entry = LogEntry::parse(frame.body).map_err(|error| body(frame, error))?;
        let Some(open) = self.streams.get_mut(stream) else {
            return Ok(None);
        };
        if open.state.is_offered() {
            return Err(
                unexpected(frame, "before the stream is accepted", Rule::LOG_OFFSET).into(),
            );
        }
        let expected = open.flow.receive.position();
        if entry.offset != expected {
            return Err(Violation::Offset {
                kind,
                found: entry.offset,
                expected,
            }
            .into());
        }
        open.flow
            .receive
            .receive(entry.records.len() as u64)
            .map_err(|excess| Violation::Window { stream, excess })?;
        open.count_empty(entry.records.len() as u64, end_of(frame))?;
        if end_of(frame) == End::Yes {
            self.streams.change(stream, Change::ReceiveEnd);
            let status = ErrorCode::NONE;
            self.events.push_back(finished(stream, status));
        }
        Ok(Some(Event::Log {
            stream,
            offset: entry.offset,
            records: entry.records,
        }))
    }
}

/// An acknowledgement says nothing but that it is one.
pub(crate) fn check_ack_body(frame: &Frame<'_>) -> Result<(), Violation> {
    if frame.body.is_empty() {
        return Ok(());
    }
    Err(value(
        frame,
        "an acknowledgement has no body",
        Rule::ACK_BODY,
    ))
}

/// The body of STREAM_OPEN, and what stands beside it.
fn opening<'b>(frame: &Frame<'b>) -> Result<(v2::StreamOpen, Envelope<'b>), Violation> {
    check_length(frame, "STREAM_OPEN", frame.body.len(), OPENING_BYTES_MAX)?;
    let open: v2::StreamOpen = decode(frame)?;
    check_length(frame, "its method", open.method.len(), METHOD_BYTES_MAX)?;
    if open.metadata.len() > METADATA_MAX {
        let problem = "more than 64 metadata entries";
        return Err(value(frame, problem, Rule::METADATA));
    }
    Ok((open, Envelope::read(frame)?))
}

/// What a frame says beside its body; most say nothing and cost no allocation.
fn boxed_envelope<'b>(frame: &Frame<'b>) -> Result<Option<Box<Envelope<'b>>>, Violation> {
    if frame.extensions.is_empty() {
        return Ok(None);
    }
    Envelope::read(frame).map(|envelope| Some(Box::new(envelope)))
}

/// The end of the peer's direction, which says nothing else.
pub(crate) const fn finished(stream: StreamId, status: ErrorCode) -> Event<'static> {
    let envelope = None;
    Event::Finished {
        stream,
        status,
        envelope,
    }
}

fn check_length(
    frame: &Frame<'_>,
    what: &'static str,
    length: usize,
    max: usize,
) -> Result<(), Violation> {
    if length > max {
        return Err(Violation::TooLong {
            kind: frame.header.kind,
            what,
            max,
            rule: Rule::METADATA,
        });
    }
    Ok(())
}

pub(crate) const fn end_of(frame: &Frame<'_>) -> End {
    if frame.header.flags.contains(Flags::END_OF_STREAM) {
        End::Yes
    } else {
        End::No
    }
}
