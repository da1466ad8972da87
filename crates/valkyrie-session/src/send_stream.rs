//! What the owner of a session can send on streams: openings, jobs, logs, credit, ends.

use valkyrie_frame::{
    Correlation, ErrorCode, Flags, Header, LogEntry, LogRecords, MessageType, MetadataView,
    Priority, StreamAck, StreamClass, StreamClose, StreamId, StreamReset, TraceByte, v2,
};

use crate::credit::{Raised, Sized};
use crate::error::SendError;
use crate::event::End;
use crate::flow::{FlowWindow, Policy};
use crate::limits::OPENING_BYTES_MAX;
use crate::options::{Block, CallOptions, ReplyOptions, check_content_type};
use crate::send::{Head, Structured};
use crate::session::Session;
use crate::state::{Change, StreamState};
use crate::streams::{Counting, Listed, Stream};

impl Session {
    /// Opens a stream of `class`. [`Accepted`](crate::Event::Accepted) or
    /// [`Reset`](crate::Event::Reset) follows; data may be sent at once, log records and files
    /// only after `Accepted`.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn open(
        &mut self,
        class: StreamClass,
        open: &v2::StreamOpen,
    ) -> Result<StreamId, SendError> {
        self.open_with(class, open, &CallOptions::default())
    }

    /// The same, with what the opening can say beside method and metadata, which are in `open`.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn open_with(
        &mut self,
        class: StreamClass,
        open: &v2::StreamOpen,
        options: &CallOptions<'_>,
    ) -> Result<StreamId, SendError> {
        check_content_type(options.content_type)?;
        let block = Block::Opening(options);
        let mut open = open.clone();
        // The peer takes the number as it stands, so it must be the one that is held here.
        open.window = open.window.min(self.own.window(class));
        let bytes = prost::Message::encode_to_vec(&open);
        let max = OPENING_BYTES_MAX;
        if bytes.len() > max {
            return Err(SendError::TooLarge {
                bytes: bytes.len(),
                max,
            });
        }
        let stream = self.new_stream(class, MessageType::STREAM_OPEN)?;
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.priority = options.priority;
            if open.window != 0 {
                entry.flow.receive = crate::credit::ReceiveCredit::new(open.window);
            }
            if let Some(trace) = &options.trace {
                entry.trace = TraceByte::INHERIT.describing(trace);
            }
        }
        self.streams.number(stream);
        let header = Header {
            trace: block.trace(),
            priority: options.priority,
            ..Header::new(MessageType::STREAM_OPEN, stream, 0).with_flags(block.flag())
        };
        self.frame(header, |out| {
            block.append(out);
            out.extend_from_slice(&bytes);
        });
        Ok(stream)
    }

    /// Takes a stream that the peer opened. `consumed` is where the peer begins: the durable
    /// offset of a log, 0 for anything else.
    pub fn accept(&mut self, stream: StreamId, consumed: u64) {
        let Some(open) = self.streams.get_mut(stream) else {
            return;
        };
        if !open.state.is_offered() {
            return;
        }
        if open.receiving == Counting::Log && open.flow.receive.position() == 0 {
            open.flow.receive.begin(consumed);
        }
        let ack = open.flow.receive.grant();
        self.streams.change(stream, Change::Accept);
        self.send_ack(stream, ack);
    }

    /// Opens a job stream with JOB_REQUEST; JOB_ACCEPT or JOB_REJECT follows as
    /// [`Job`](crate::Event::Job).
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn job_request(&mut self, request: &v2::JobRequest) -> Result<StreamId, SendError> {
        let (class, kind) = (StreamClass::Jobs, MessageType::JOB_REQUEST);
        self.check_message(class, kind, prost::Message::encoded_len(request))?;
        let stream = self.new_stream(class, kind)?;
        self.send_message(on(stream, kind, Flags::NONE), &Structured(request));
        Ok(stream)
    }

    /// Sends a job message. JOB_COMPLETE, JOB_FAILED and JOB_REJECT ask for an acknowledgement,
    /// which comes as [`JobAcked`](crate::Event::JobAcked).
    ///
    /// A message that finds no credit waits here and goes out by itself, in order.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn job(
        &mut self,
        stream: StreamId,
        kind: MessageType,
        body: &impl prost::Message,
        end: End,
    ) -> Result<(), SendError> {
        if !kind.is_job() || stream.class() != StreamClass::Jobs {
            return Err(SendError::WrongClass {
                class: stream.class(),
                kind,
            });
        }
        self.sendable(stream)?;
        self.check_message(StreamClass::Jobs, kind, body.encoded_len())?;
        let asks = matches!(
            kind,
            MessageType::JOB_COMPLETE | MessageType::JOB_FAILED | MessageType::JOB_REJECT
        );
        let acked = if asks {
            Flags::ACK_REQUESTED
        } else {
            Flags::NONE
        };
        let head = on(stream, kind, acked | end_flag(end));
        self.send_message(head, &Structured(body));
        self.sent_end(stream, end);
        Ok(())
    }

    /// Acknowledges a message that was handled: a job message after its record is durable, a file
    /// after it is stored.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn ack(
        &mut self,
        stream: StreamId,
        kind: MessageType,
        correlation: Correlation,
        end: End,
    ) -> Result<(), SendError> {
        self.sendable(stream)?;
        let flags = Flags::ACK | end_flag(end);
        let head = Head {
            correlation,
            ..on(stream, kind, flags)
        };
        self.send_message(head, &[].as_slice());
        self.sent_end(stream, end);
        Ok(())
    }

    /// Sends whole log records that continue at `offset`, in frames cut between records.
    ///
    /// # Errors
    /// Nothing was sent; [`SendError::NoCredit`] when they do not fit
    /// [`log_credit`](Self::log_credit), with a [`Writable`](crate::Event::Writable) to follow.
    pub fn log(&mut self, stream: StreamId, offset: u64, records: &[u8]) -> Result<(), SendError> {
        let open = self.sendable(stream)?;
        let expected = open.flow.send.position();
        if open.sending != Counting::Log {
            let (class, kind) = (stream.class(), MessageType::LOG_ENTRY);
            return Err(SendError::WrongClass { class, kind });
        }
        if open.state.is_opening() {
            return Err(self.no_credit(stream));
        }
        if offset != expected {
            return Err(SendError::Offset {
                stream,
                found: offset,
                expected,
            });
        }
        let pieces = pieces_of(records, self.fragment(stream)).ok_or(SendError::NotRecords)?;
        let in_stream = self
            .streams
            .flow_mut(stream)
            .map_or(0, |flow| flow.send.available());
        let headers = 8 * pieces.len() as u64;
        let bytes = records.len() as u64;
        if bytes > in_stream || bytes + headers > self.send.available() {
            return Err(self.no_credit(stream));
        }
        let mut offset = offset;
        for piece in pieces {
            let entry = LogEntry {
                offset,
                records: piece,
            };
            let bytes = piece.len() as u64;
            self.spend(stream, bytes);
            self.send.spend(8);
            self.on_stream(MessageType::LOG_ENTRY, stream, Flags::NONE, |out| {
                entry.append(out)
            });
            offset += bytes;
        }
        Ok(())
    }

    /// The position that log records on this stream may reach now; 0 before it is accepted.
    #[must_use]
    pub fn log_credit(&self, stream: StreamId) -> u64 {
        let Some(open) = self
            .streams
            .get(stream)
            .filter(|open| !open.state.is_opening())
        else {
            return 0;
        };
        let send = &open.flow.send;
        // Every frame costs eight bytes of connection credit for its offset. Two frames in a row
        // hold more than a fragment of records, so a sixty-fourth is far more than they need.
        let connection = self.send.available();
        let connection = connection.saturating_sub(connection / 64 + 64);
        send.limit().min(send.position().saturating_add(connection))
    }

    /// Tells the peer that its log is durable up to `offset`, and lets it send on.
    pub fn log_durable(&mut self, stream: StreamId, offset: u64) {
        self.consumed_to(stream, offset, Counting::Log);
    }

    pub(crate) fn consumed_to(&mut self, stream: StreamId, offset: u64, counting: Counting) {
        if let Some(open) = self.streams.get_mut(stream)
            && open.receiving == counting
            && open.flow.receive.consumed_to(offset) == Raised::Yes
        {
            self.list_progress(stream);
        }
    }

    /// Lets the peer know how far a log or file is. Told at the end of every batch, not by
    /// quarters: the peer waits for it.
    pub(crate) fn list_progress(&mut self, stream: StreamId) {
        if let Some(flow) = self.streams.flow_mut(stream)
            && flow.listed == Listed::No
        {
            flow.listed = Listed::Yes;
            self.credit_due.push(stream);
        }
    }

    /// Gives credit for `bytes` of [`Data`](crate::Event::Data) back to the peer.
    pub fn consume(&mut self, stream: StreamId, bytes: usize) {
        if let Some(flow) = self.streams.flow_mut(stream) {
            flow.receive.consume(bytes as u64);
        }
        self.list_credit(stream);
    }

    /// Ends this side's direction of a stream; nothing happens if it has ended.
    pub fn finish(&mut self, stream: StreamId) {
        self.finish_with(stream, MetadataView::EMPTY);
    }

    /// The same, with names and values for the peer's application.
    pub fn finish_with(&mut self, stream: StreamId, metadata: MetadataView<'_>) {
        self.finish_as(stream, ErrorCode::NONE, metadata);
    }

    /// Whether this side may still send on a stream.
    #[must_use]
    pub fn can_send(&self, stream: StreamId) -> bool {
        let open = self.streams.get(stream);
        self.check_open().is_ok() && open.is_some_and(|open| open.state.can_send())
    }

    pub(crate) fn finish_as(
        &mut self,
        stream: StreamId,
        status: ErrorCode,
        metadata: MetadataView<'_>,
    ) {
        let Ok(open) = self.sendable(stream) else {
            return;
        };
        // Where a log or file begins is for the peer to say; before it has, no offset is right.
        let begun = !open.is_waiting_to_begin();
        let final_offset = open.flow.send.position();
        if self.lanes.present().is_some_and(|lanes| lanes.end(stream)) {
            return;
        }
        if !begun {
            let (kind, flags) = (MessageType::STREAM_DATA, Flags::END_OF_STREAM);
            self.on_stream(kind, stream, flags, |_| {});
            self.sent_end(stream, End::Yes);
            return;
        }
        let close = StreamClose {
            final_offset,
            status,
        };
        let options = ReplyOptions {
            metadata,
            ..ReplyOptions::default()
        };
        let block = Block::Reply(&options);
        let flags = block.flag();
        self.on_stream(MessageType::STREAM_CLOSE, stream, flags, |out| {
            block.append(out);
            close.append(out);
        });
        self.sent_end(stream, End::Yes);
    }

    /// Ends both directions of a stream at once; nothing happens if it has ended.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        let Some(open) = self.streams.get(stream) else {
            return;
        };
        if open.state == StreamState::ResetSent {
            return;
        }
        // A JOB_REQUEST that waited for credit goes with what waits, and the peer, which has never
        // heard of the stream, would not answer a reset of it.
        let unheard = self.streams.is_own(stream) && open.is_unheard();
        self.forget_stream(stream);
        if !unheard {
            self.send_reset(stream, code);
        }
        self.streams.change(stream, Change::SendReset);
        if unheard {
            self.streams.change(stream, Change::ReceiveReset);
        }
    }

    pub(crate) fn send_reset(&mut self, stream: StreamId, code: ErrorCode) {
        let final_offset = self
            .streams
            .get(stream)
            .map_or(0, |open| open.flow.send.position());
        let reset = StreamReset { final_offset, code };
        self.on_stream(MessageType::STREAM_RESET, stream, Flags::NONE, |out| {
            reset.append(out)
        });
    }

    /// Drops what waits on a stream in either direction.
    pub(crate) fn forget_stream(&mut self, stream: StreamId) {
        if let Some(lanes) = self.lanes.present() {
            lanes.drop_stream(stream);
        }
        self.joins.drop_stream(stream);
        if let Some(blocked) = self.blocked.present() {
            blocked.retain(|id| *id != stream);
        }
    }

    /// Acknowledges everything that is due, on the connection and on streams.
    pub(crate) fn return_credit(&mut self) {
        let (now, way) = (self.now, self.way);
        let policy = self.config.flow.of_connection(&self.own);
        let (mut sized, mut widest) = (Sized::No, 0);
        let mut owed = std::mem::take(&mut self.credit_due);
        for stream in owed.drain(..) {
            let (policy, told) = (self.policy(stream), self.is_told_all(stream));
            let receives = self.receives_credit(stream);
            let Some(flow) = self.streams.flow_mut(stream) else {
                continue;
            };
            // A stream that was opened again since then owes nothing yet.
            let listed = std::mem::replace(&mut flow.listed, Listed::No);
            if !receives || listed == Listed::No {
                continue;
            }
            sized = sized.or(flow.receive.tune(now, &policy, &way));
            if told || flow.receive.raises() {
                let (ack, window) = (flow.receive.grant(), flow.receive.window());
                widest = widest.max(window);
                self.streams
                    .count(stream.class(), |count| count.window = window);
                self.send_ack(stream, ack);
            }
        }
        // Its memory is for the next ones.
        if self.credit_due.is_empty() {
            self.credit_due = owed;
        }
        let due = self.receive.is_due();
        if due {
            sized = sized.or(self.receive.tune(now, &policy, &way));
        }
        let widened = self.receive.widen(&policy, widest) == Raised::Yes;
        if (widened || due) && self.receive.raises() {
            let ack = self.receive.grant();
            self.send_ack(StreamId::CONTROL, ack);
        }
        if sized == Sized::Yes
            && let Some(ping) = self.way.ask(now)
        {
            self.control(MessageType::PING, |out| ping.append(out));
        }
    }

    /// Whether the peer waits to hear how far this side is, and not only for credit.
    fn is_told_all(&self, stream: StreamId) -> bool {
        let open = self.streams.get(stream);
        open.is_some_and(|open| open.receiving != Counting::Bytes)
    }

    /// Whether the peer may still send on a stream or channel.
    fn receives_credit(&self, stream: StreamId) -> bool {
        stream.is_channel()
            || self
                .streams
                .get(stream)
                .is_some_and(|open| open.state.can_receive_credit())
    }

    /// How the window of a stream or channel follows the traffic.
    fn policy(&self, stream: StreamId) -> Policy {
        let (flow, class) = (&self.config.flow, stream.class());
        match stream.is_channel() {
            true => flow.of_channel(class, &self.own),
            false => flow.of_stream(class, &self.own),
        }
    }

    /// The receive window of a stream or channel, or of the connection under
    /// [`StreamId::CONTROL`]; `None` when there is no such stream.
    #[must_use]
    pub fn flow_window(&self, stream: StreamId) -> Option<FlowWindow> {
        if stream == StreamId::CONTROL {
            let policy = self.config.flow.of_connection(&self.own);
            return Some(self.receive.view(&policy));
        }
        self.streams.window(stream, &self.policy(stream))
    }

    /// Credit goes in the control band: it must not wait behind what it makes room for.
    fn send_ack(&mut self, stream: StreamId, ack: StreamAck) {
        let header = Header::new(MessageType::STREAM_ACK, stream, 16);
        self.frame(header, |out| ack.append(out));
    }

    fn new_stream(&mut self, class: StreamClass, kind: MessageType) -> Result<StreamId, SendError> {
        self.check_new()?;
        if class == StreamClass::Control {
            return Err(SendError::WrongClass { class, kind });
        }
        let exhausted = SendError::StreamsExhausted { class };
        if self.streams.own() >= self.peer.streams_max() {
            return Err(exhausted);
        }
        let stream = self.streams.free_id(class).ok_or(exhausted)?;
        self.streams
            .insert(stream, StreamState::Opening, &self.own, &self.peer);
        Ok(stream)
    }

    /// The stream, if this side may send on it. Sending accepts a stream of the peer.
    pub(crate) fn sendable(&mut self, stream: StreamId) -> Result<&mut Stream, SendError> {
        if self.check_sendable(stream)?.state.is_offered() {
            self.streams.change(stream, Change::Accept);
        }
        let unknown = SendError::UnknownStream { stream };
        self.streams.get_mut(stream).ok_or(unknown)
    }

    /// The same, but an offered stream is not accepted by it.
    #[inline]
    pub(crate) fn check_sendable(&self, stream: StreamId) -> Result<&Stream, SendError> {
        self.check_open()?;
        let unknown = SendError::UnknownStream { stream };
        let open = self.streams.get(stream).ok_or(unknown)?;
        match open.state {
            StreamState::ResetSent => Err(unknown),
            state if !state.can_send() => Err(SendError::AfterEnd { stream }),
            _ => Ok(open),
        }
    }

    /// Notes that the caller waits for credit.
    pub(crate) fn block(&mut self, stream: StreamId) {
        if let Some(open) = self.streams.get_mut(stream)
            && open.blocked == Listed::No
        {
            open.blocked = Listed::Yes;
            self.blocked.push(stream);
        }
    }

    pub(crate) fn no_credit(&mut self, stream: StreamId) -> SendError {
        self.block(stream);
        SendError::NoCredit { stream }
    }

    pub(crate) fn sent_end(&mut self, stream: StreamId, end: End) {
        // A last message that waits ends the stream when its last fragment is sent.
        if end == End::Yes && !self.lanes.must_wait(stream) {
            self.end_sending(stream);
        }
    }

    /// This side's direction has ended on the wire.
    pub(crate) fn end_sending(&mut self, stream: StreamId) {
        // The peer may forget the stream with this end, so what it still has to learn goes first:
        // the control band overtakes the end.
        if let Some(flow) = self.streams.flow_mut(stream)
            && flow.listed == Listed::Yes
        {
            flow.listed = Listed::No;
            let ack = flow.receive.grant();
            self.credit_due.retain(|id| *id != stream);
            self.send_ack(stream, ack);
        }
        self.streams.change(stream, Change::SendEnd);
    }

    pub(crate) fn on_stream(
        &mut self,
        kind: MessageType,
        stream: StreamId,
        flags: Flags,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let open = self.streams.get(stream);
        let (priority, trace) = open.map_or((Priority::NORMAL, TraceByte::NONE), |open| {
            (open.priority, open.trace)
        });
        let header = Header {
            priority,
            trace,
            ..Header::new(kind, stream, 0).with_flags(flags)
        };
        self.frame(header, body);
    }
}

/// A message of a stream without extensions and correlation.
const fn on(stream: StreamId, kind: MessageType, flags: Flags) -> Head<'static> {
    let (correlation, block) = (Correlation::NONE, Block::None);
    Head {
        kind,
        stream,
        correlation,
        flags,
        block,
    }
}

pub(crate) const fn end_flag(end: End) -> Flags {
    match end {
        End::No => Flags::NONE,
        End::Yes => Flags::END_OF_STREAM,
    }
}

/// Cuts log bytes between records into pieces of at most `max` bytes, or one record; `None` if
/// they are not whole records.
fn pieces_of(records: &[u8], max: usize) -> Option<Vec<&[u8]>> {
    let mut pieces = Vec::with_capacity(records.len() / max + 1);
    let (mut start, mut end) = (0, 0);
    for record in LogRecords::new(records) {
        let next = end + record.ok()?.encoded_len();
        if next - start > max && end > start {
            pieces.push(records.get(start..end)?);
            start = end;
        }
        end = next;
    }
    if end > start {
        pieces.push(records.get(start..end)?);
    }
    Some(pieces)
}
