//! What each frame of a stream does.

use valkyrie_frame::limits::{METADATA_MAX, STREAM_WINDOW_BYTES_MAX};
use valkyrie_frame::{
    Correlation, FileChunk, FileComplete, FileStart, Flags, Frame, LogEntry, MessageType,
    StreamAck, StreamClass, StreamClose, StreamId, StreamReset, v2,
};

use crate::credit::Raised;
use crate::error::Violation;
use crate::event::{End, Event, Payload};
use crate::handshake::{decode, unexpected};
use crate::join::Opening;
use crate::limits::{EMPTY_FRAMES_MAX, UNACCEPTED_MAX, UNANSWERED_MAX};
use crate::receive::{Fault, Handled, body, is_charged, value};
use crate::rule::Rule;
use crate::session::Session;
use crate::state::{Change, StreamState};
use crate::streams::{Counting, Listed};

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
    fn late<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, bytes) = (frame.header.stream, frame.body.len() as u64);
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
        let key = crate::join::JoinKey {
            stream,
            correlation: frame.header.correlation,
            kind,
        };
        kind == MessageType::STREAM_OPEN
            || kind == MessageType::JOB_REQUEST
                && stream.class() == StreamClass::Jobs
                && !frame.header.flags.contains(Flags::ACK)
                && !self.joins.contains(key)
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
        let open = match opening(frame) {
            Ok(open) => open,
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
        Ok(Some(Event::Opened { stream, open }))
    }

    pub(crate) fn on_data<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, bytes) = (frame.header.stream, frame.body);
        if let Admitted::Late = self.admit(frame)? {
            return self.late(frame);
        }
        let end = end_of(frame);
        let Some(open) = self.streams.get_mut(stream) else {
            return Ok(None);
        };
        if open.receiving != Counting::Bytes && stream.class() != StreamClass::Logs {
            return Err(
                unexpected(frame, "on a stream that carries a file", Rule::FILE_ORDER).into(),
            );
        }
        open.flow
            .receive
            .receive(bytes.len() as u64)
            .map_err(|excess| Violation::Window { stream, excess })?;
        open.empty_frames = match (bytes.is_empty(), end) {
            (true, End::No) => open.empty_frames.saturating_add(1),
            _ => 0,
        };
        if open.empty_frames > EMPTY_FRAMES_MAX {
            let max = u64::from(EMPTY_FRAMES_MAX);
            return Err(Violation::TooMany {
                what: "empty frames in a row",
                max,
                rule: Rule::EMPTY_FRAMES,
            }
            .into());
        }
        if end == End::Yes {
            self.streams.change(stream, Change::ReceiveEnd);
            let status = valkyrie_frame::ErrorCode::NONE;
            if bytes.is_empty() {
                return Ok(Some(Event::Finished { stream, status }));
            }
            self.events.push_back(Event::Finished { stream, status });
        }
        Ok((!bytes.is_empty()).then_some(Event::Data {
            stream,
            bytes: Payload::Borrowed(bytes),
        }))
    }

    pub(crate) fn on_stream_close<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let stream = frame.header.stream;
        if let Admitted::Late = self.admit(frame)? {
            self.streams.change(stream, Change::ReceiveEnd);
            return self.skip();
        }
        let close = StreamClose::parse(frame.body).map_err(|error| body(frame, error))?;
        let expected = self
            .streams
            .get(stream)
            .map_or(0, |open| open.flow.receive.position());
        if close.status == valkyrie_frame::ErrorCode::NONE && close.final_offset != expected {
            let (kind, found) = (frame.header.kind, close.final_offset);
            return Err(Violation::Offset {
                kind,
                found,
                expected,
            }
            .into());
        }
        self.streams.change(stream, Change::ReceiveEnd);
        Ok(Some(Event::Finished {
            stream,
            status: close.status,
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
        self.budgets.resets.take(self.now).map_err(|max| {
            let max = u64::from(max);
            Fault::Connection(Violation::TooMany {
                what: "resets at once",
                max,
                rule: Rule::RESETS,
            })
        })?;
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

    pub(crate) fn on_stream_ack<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let stream = frame.header.stream;
        let ack =
            StreamAck::parse(frame.body).map_err(|error| Fault::Connection(body(frame, error)))?;
        if stream == StreamId::CONTROL {
            if self.send.raise(ack.limit) == Raised::Yes {
                self.wake_all();
            }
            return Ok(None);
        }
        if stream.is_channel() {
            if let Some(flow) = self.streams.flow_mut(stream) {
                flow.send.raise(ack.limit);
            }
            return Ok(None);
        }
        match self.streams.get(stream).map(|open| open.state) {
            // Credit for a stream that ended meanwhile.
            None | Some(StreamState::ResetSent) => self.skip(),
            Some(state) if state.is_opening() => Ok(self.on_accepted(stream, ack)),
            Some(_) => Ok(self.on_credit(stream, ack)),
        }
    }

    /// The peer took a stream of this side and says where to begin.
    fn on_accepted(&mut self, stream: StreamId, ack: StreamAck) -> Option<Event<'static>> {
        self.streams.change(stream, Change::Accept);
        let open = self.streams.get_mut(stream)?;
        if open.sending == Counting::Log && open.flow.send.position() == 0 {
            open.flow.send.begin(ack);
        } else {
            open.flow.send.raise(ack.limit);
        }
        self.wake(stream);
        Some(Event::Accepted {
            stream,
            consumed: ack.consumed,
        })
    }

    fn on_credit(&mut self, stream: StreamId, ack: StreamAck) -> Option<Event<'static>> {
        let open = self.streams.get_mut(stream)?;
        let event = match open.sending {
            Counting::Bytes => None,
            Counting::Log => Some(Event::LogDurable {
                stream,
                offset: ack.consumed,
                limit: ack.limit,
            }),
            Counting::FileOffered => {
                open.flow.send.begin(ack);
                open.sending = Counting::File;
                Some(Event::FileVerified {
                    stream,
                    offset: ack.consumed,
                })
            }
            Counting::File => Some(Event::FileVerified {
                stream,
                offset: ack.consumed,
            }),
        };
        if open.flow.send.raise(ack.limit) == Raised::Yes {
            self.wake(stream);
        }
        event
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
        for stream in std::mem::take(&mut self.blocked) {
            if let Some(open) = self.streams.get_mut(stream) {
                open.blocked = Listed::No;
                self.events.push_back(Event::Writable { stream });
            }
        }
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
            if end == End::Yes {
                self.streams.change(stream, Change::ReceiveEnd);
            }
            return Ok(Some(Event::JobAcked { stream, kind }));
        }
        let Some(whole) = self.join(frame, |_| Ok(Opening::default()))? else {
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
        if end_of(frame) == End::Yes {
            self.streams.change(stream, Change::ReceiveEnd);
            let status = valkyrie_frame::ErrorCode::NONE;
            self.events.push_back(Event::Finished { stream, status });
        }
        Ok(Some(Event::Log {
            stream,
            offset: entry.offset,
            records: entry.records,
        }))
    }

    pub(crate) fn on_file<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let stream = frame.header.stream;
        if let Admitted::Late = self.admit(frame)? {
            return self.late(frame);
        }
        if stream.class() != StreamClass::Data {
            return Err(unexpected(frame, "outside the streams for data", Rule::PLACE).into());
        }
        if frame.header.flags.contains(Flags::ACK) {
            return self.on_file_ack(frame);
        }
        let event = match frame.header.kind {
            MessageType::FILE_TRANSFER_START => self.on_file_start(frame),
            MessageType::FILE_TRANSFER_CHUNK => self.on_file_chunk(frame),
            _ => {
                let complete = FileComplete::parse(frame.body);
                let complete = complete.map_err(|error| body(frame, error))?;
                Ok(Event::FileComplete {
                    stream,
                    digest: complete.digest,
                })
            }
        }?;
        if end_of(frame) == End::Yes {
            self.streams.change(stream, Change::ReceiveEnd);
        }
        Ok(Some(event))
    }

    fn on_file_ack<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let stream = frame.header.stream;
        if end_of(frame) == End::Yes {
            self.streams.change(stream, Change::ReceiveEnd);
        }
        match frame.header.kind {
            MessageType::FILE_TRANSFER_COMPLETE => Ok(Some(Event::FileAcked { stream })),
            _ => self.skip(),
        }
    }

    fn on_file_start<'b>(&mut self, frame: &Frame<'b>) -> Result<Event<'b>, Fault> {
        let stream = frame.header.stream;
        let start = FileStart::parse(frame.body).map_err(|error| body(frame, error))?;
        if let Some(open) = self.streams.get_mut(stream) {
            if open.state.is_offered() {
                let when = "before the stream is accepted";
                return Err(unexpected(frame, when, Rule::FILE_ORDER).into());
            }
            if open.receiving == Counting::FileOffered {
                return Err(
                    unexpected(frame, "while another file is offered", Rule::FILE_ORDER).into(),
                );
            }
            open.receiving = Counting::FileOffered;
        }
        let FileStart {
            id,
            size,
            digest,
            name,
        } = start;
        Ok(Event::FileStart {
            stream,
            id,
            size,
            digest,
            name: name.into(),
        })
    }

    fn on_file_chunk<'b>(&mut self, frame: &Frame<'b>) -> Result<Event<'b>, Fault> {
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        let chunk = FileChunk::parse(frame.body).map_err(|error| body(frame, error))?;
        if let Some(open) = self.streams.get_mut(stream) {
            if open.receiving != Counting::File {
                return Err(
                    unexpected(frame, "before the file is wanted", Rule::FILE_ORDER).into(),
                );
            }
            let expected = open.flow.receive.position();
            if chunk.offset != expected {
                return Err(Violation::Offset {
                    kind,
                    found: chunk.offset,
                    expected,
                }
                .into());
            }
            let bytes = chunk.bytes.len() as u64;
            open.flow
                .receive
                .receive(bytes)
                .map_err(|excess| Violation::Window { stream, excess })?;
        }
        Ok(Event::FileChunk {
            stream,
            offset: chunk.offset,
            bytes: chunk.bytes,
        })
    }
}

/// The body of STREAM_OPEN.
fn opening(frame: &Frame<'_>) -> Result<v2::StreamOpen, Violation> {
    let open: v2::StreamOpen = decode(frame)?;
    if open.metadata.len() > METADATA_MAX {
        let problem = "more than 64 metadata entries";
        return Err(value(frame, problem, Rule::METADATA));
    }
    Ok(open)
}

const fn end_of(frame: &Frame<'_>) -> End {
    if frame.header.flags.contains(Flags::END_OF_STREAM) {
        End::Yes
    } else {
        End::No
    }
}
