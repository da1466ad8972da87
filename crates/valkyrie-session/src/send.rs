//! What the owner of a session can send on the channels: calls, answers, messages.

use std::time::Duration;

use valkyrie_frame::limits::FRAGMENT_SHARED_BYTES;
use valkyrie_frame::{
    Correlation, ErrorCode, Flags, Header, MessageType, MetadataView, Priority, StreamClass,
    StreamId,
};

use crate::calls::Wanted;
use crate::error::SendError;
use crate::event::Retry;
use crate::lanes::{Done, Outgoing};
use crate::limits::TRANSMIT_BYTES;
use crate::options::{
    Block, CallOptions, ReplyOptions, Urgency, check_content_type, check_request,
};
use crate::outbox::Band;
use crate::session::{Phase, Session};
use crate::streams::Listed;

/// Why a call or a stream of the peer fails, for [`Session::reply_failure`] and
/// [`Session::fail_stream`].
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// Why.
    pub code: ErrorCode,
    /// Whether to try again, and when.
    pub retry: Retry,
    /// For people; longer than 1 KiB is cut. No program decides anything by it.
    pub text: &'a str,
    /// Names and values for the receiver's application.
    pub metadata: MetadataView<'a>,
}

impl<'a> Failure<'a> {
    /// A failure that says nothing else and would come again.
    #[must_use]
    pub const fn new(code: ErrorCode, text: &'a str) -> Self {
        let (retry, metadata) = (Retry::No, MetadataView::EMPTY);
        Self {
            code,
            retry,
            text,
            metadata,
        }
    }
}

/// A message that is about to be sent, without its body.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) kind: MessageType,
    pub(crate) stream: StreamId,
    pub(crate) correlation: Correlation,
    pub(crate) flags: Flags,
    pub(crate) block: Block<'a>,
}

/// A body that is written where it goes, without a copy in between.
pub(crate) trait Body {
    fn bytes(&self) -> usize;
    fn append(&self, out: &mut Vec<u8>);
}

impl Body for &[u8] {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// A Protocol Buffers body.
pub(crate) struct Structured<'a, M>(pub(crate) &'a M);

impl<M: prost::Message> Body for Structured<'_, M> {
    fn bytes(&self) -> usize {
        self.0.encoded_len()
    }

    fn append(&self, out: &mut Vec<u8>) {
        self.0.encode(out).expect("a Vec grows as far as it has to");
    }
}

impl Session {
    /// Calls `method` on the channel of `class`. A [`Reply`](crate::Event::Reply) or
    /// [`CallFailed`](crate::Event::CallFailed) follows; after `deadline` it is the latter with
    /// code 105, and the peer is told.
    ///
    /// A call that finds no credit waits here and goes out by itself.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn call(
        &mut self,
        class: StreamClass,
        method: &str,
        body: &[u8],
        deadline: Option<Duration>,
    ) -> Result<Correlation, SendError> {
        self.call_with(class, method, body, &deadline.into())
    }

    /// The same, with everything that a call can say.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn call_with(
        &mut self,
        class: StreamClass,
        method: &str,
        body: &[u8],
        options: &CallOptions<'_>,
    ) -> Result<Correlation, SendError> {
        self.check_new()?;
        self.check_message(class, MessageType::CALL, body.len())?;
        check_request(method, options.content_type)?;
        let until = options.deadline.map(|deadline| self.now + deadline);
        let max = self.peer.calls_max();
        let call = self
            .outgoing
            .open(class, until, max)
            .ok_or(SendError::CallsExhausted)?;
        let head = Head {
            kind: MessageType::CALL,
            stream: class.channel(),
            correlation: call,
            flags: options.flags(),
            block: Block::Request(method, options),
        };
        self.send_message(head, &body);
        Ok(call)
    }

    /// Gives a call up; its answer will not be reported. Nothing happens if it has ended.
    pub fn cancel(&mut self, call: Correlation) {
        let Some(class) = self.outgoing.close(call) else {
            return;
        };
        let stream = class.channel();
        self.forget_call(stream, call);
        let header = Header::new(MessageType::CANCEL, stream, 0).with_correlation(call);
        self.frame(header, |_| {});
    }

    /// Answers a call of the peer.
    ///
    /// # Errors
    /// The call is not open, or the answer is too large; the call stays open then.
    pub fn reply(&mut self, call: Correlation, body: &[u8]) -> Result<(), SendError> {
        self.reply_with(call, body, &ReplyOptions::default())
    }

    /// The same, with everything that an answer can say.
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    pub fn reply_with(
        &mut self,
        call: Correlation,
        body: &[u8],
        options: &ReplyOptions<'_>,
    ) -> Result<(), SendError> {
        let (class, wanted) = self.open_call(call)?;
        check_content_type(options.content_type)?;
        self.check_message(class, MessageType::REPLY, body.len())?;
        self.incoming.close(call);
        if wanted == Wanted::Yes {
            let head = Head {
                kind: MessageType::REPLY,
                stream: class.channel(),
                correlation: call,
                flags: Flags::NONE,
                block: Block::Reply(options),
            };
            self.send_message(head, &body);
        }
        Ok(())
    }

    /// Fails a call of the peer; a longer `text` than 1 KiB is cut.
    ///
    /// # Errors
    /// The call is not open.
    pub fn reply_error(
        &mut self,
        call: Correlation,
        code: ErrorCode,
        text: &str,
    ) -> Result<(), SendError> {
        self.reply_failure(call, &Failure::new(code, text))
    }

    /// The same, with everything that a failure can say.
    ///
    /// # Errors
    /// The call is not open.
    pub fn reply_failure(
        &mut self,
        call: Correlation,
        failure: &Failure<'_>,
    ) -> Result<(), SendError> {
        let (class, wanted) = self.open_call(call)?;
        self.incoming.close(call);
        if wanted == Wanted::Yes {
            self.send_failure(class.channel(), call, failure);
        }
        Ok(())
    }

    /// Ends this side's direction of a stream with a failure; nothing happens if it has ended.
    ///
    /// Not a reset, of which a peer takes few: failures of an application are no misuse.
    pub fn fail_stream(&mut self, stream: StreamId, failure: &Failure<'_>) {
        if self.can_send(stream) {
            self.send_failure(stream, Correlation::NONE, failure);
            self.finish_as(stream, failure.code, MetadataView::EMPTY);
        }
    }

    /// Sends a message that wants no answer.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn message(
        &mut self,
        class: StreamClass,
        method: &str,
        body: &[u8],
    ) -> Result<(), SendError> {
        self.message_with(class, method, body, &CallOptions::default())
    }

    /// The same, sent before the waiting frames of every class but control.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn urgent_message(
        &mut self,
        class: StreamClass,
        method: &str,
        body: &[u8],
    ) -> Result<(), SendError> {
        let options = CallOptions {
            urgency: Urgency::Urgent,
            ..CallOptions::default()
        };
        self.message_with(class, method, body, &options)
    }

    /// The same, with everything that a message can say.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn message_with(
        &mut self,
        class: StreamClass,
        method: &str,
        body: &[u8],
        options: &CallOptions<'_>,
    ) -> Result<(), SendError> {
        self.check_new()?;
        self.check_message(class, MessageType::MESSAGE, body.len())?;
        check_request(method, options.content_type)?;
        let stream = class.channel();
        // Numbered because any message may end up in fragments: it needs only to find no credit.
        self.message_number = self.message_number.next();
        let correlation = self.message_number;
        let head = Head {
            kind: MessageType::MESSAGE,
            stream,
            correlation,
            flags: options.flags(),
            block: Block::Request(method, options),
        };
        self.send_message(head, &body);
        Ok(())
    }

    /// Reports an error about a stream, or about one message on it.
    pub fn error(
        &mut self,
        stream: StreamId,
        correlation: Correlation,
        code: ErrorCode,
        text: &str,
    ) {
        if self.phase == Phase::Ready {
            self.send_failure(stream, correlation, &Failure::new(code, text));
        }
    }

    fn open_call(&self, call: Correlation) -> Result<(StreamClass, Wanted), SendError> {
        self.check_open()?;
        self.incoming
            .get(call)
            .ok_or(SendError::UnknownCall { call })
    }

    /// Whether anything may be sent.
    pub(crate) const fn check_open(&self) -> Result<(), SendError> {
        match self.phase {
            Phase::Ready => Ok(()),
            Phase::Hello | Phase::Auth | Phase::Resuming => Err(SendError::NotReady),
            Phase::Failed => Err(SendError::Closed),
        }
    }

    /// Whether something new may begin.
    pub(crate) fn check_new(&self) -> Result<(), SendError> {
        self.check_open()?;
        if self.is_closing() {
            Err(SendError::Draining)
        } else {
            Ok(())
        }
    }

    /// Whether a message of this length can be sent on a class at all.
    pub(crate) fn check_message(
        &self,
        class: StreamClass,
        kind: MessageType,
        bytes: usize,
    ) -> Result<(), SendError> {
        let max = self.peer.message_max() as usize;
        if class == StreamClass::Control {
            return Err(SendError::WrongClass { class, kind });
        }
        if bytes > max {
            return Err(SendError::TooLarge { bytes, max });
        }
        if !self.lanes.has_room(bytes) {
            return Err(SendError::Full);
        }
        Ok(())
    }

    /// Longest fragment on a stream now.
    pub(crate) fn fragment(&self, stream: StreamId) -> usize {
        let band = Band::of(stream.class(), Flags::NONE);
        let alone = self.config.fragment.min(self.peer.frame_max());
        self.outbox.fragment(band, self.now, alone as usize)
    }

    /// The priority of what belongs to a stream or channel.
    pub(crate) fn priority(&self, stream: StreamId) -> Priority {
        let open = self.streams.get(stream);
        open.map_or(Priority::NORMAL, |open| open.priority)
    }

    /// Bytes that may be sent now on a stream or channel, by both levels of credit.
    pub(crate) fn credit(&mut self, stream: StreamId) -> u64 {
        let connection = self.send.available();
        self.streams
            .flow_mut(stream)
            .map_or(0, |flow| flow.send.available().min(connection))
    }

    /// Takes credit on both levels.
    pub(crate) fn spend(&mut self, stream: StreamId, bytes: u64) {
        self.send.spend(bytes);
        self.streams
            .count(stream.class(), |count| count.sent += bytes);
        if let Some(flow) = self.streams.flow_mut(stream) {
            flow.send.spend(bytes);
        }
    }

    /// Sends a message: at once when it is short, has credit and nobody waits before it, else
    /// through the lanes.
    pub(crate) fn send_message(&mut self, head: Head<'_>, body: &impl Body) {
        let (bytes, stream) = (body.bytes(), head.stream);
        let short = bytes <= FRAGMENT_SHARED_BYTES as usize || bytes <= self.fragment(stream);
        let at_once = short && !self.lanes.must_wait(stream) && bytes as u64 <= self.credit(stream);
        if at_once {
            self.spend(stream, bytes as u64);
            self.encode(head, |out| body.append(out));
            return;
        }
        let Head {
            kind,
            correlation,
            flags,
            block,
            ..
        } = head;
        let (mut extensions, mut waiting) = (Vec::new(), Vec::with_capacity(bytes));
        let trace = block.trace();
        block.append(&mut extensions);
        body.append(&mut waiting);
        let message = Outgoing {
            kind,
            correlation,
            flags,
            extensions,
            trace,
            body: waiting,
            sent: 0,
        };
        self.lanes.push(stream, message);
    }

    fn encode(&mut self, head: Head<'_>, body: impl FnOnce(&mut Vec<u8>)) {
        let flags = head.flags | head.block.flag();
        let header = Header {
            trace: head.block.trace(),
            ..Header::new(head.kind, head.stream, 0)
                .with_flags(flags)
                .with_correlation(head.correlation)
        };
        if head.kind == MessageType::JOB_REQUEST {
            self.streams.number(head.stream);
        }
        let priority = self.priority(head.stream);
        self.frame(Header { priority, ..header }, |out| {
            head.block.append(out);
            body(out);
        });
    }

    /// Moves fragments from the lanes to the buffers: a turn for each lane, until no lane has
    /// credit or a whole transmit is waiting. What is not encoded yet can still be overtaken.
    pub(crate) fn fill_from_lanes(&mut self) {
        if self.lanes.is_empty() {
            return;
        }
        for class in StreamClass::WITH_STREAMS {
            let band = Band::of(class, Flags::NONE);
            let mut stuck = 0;
            while stuck < self.lanes.len(class) && self.outbox.waiting(band) < TRANSMIT_BYTES {
                match self.send_fragment(class) {
                    Some(done) => {
                        self.lanes.rotate(class, done);
                        stuck = 0;
                    }
                    // The lanes of a channel share its credit: where one has none, thousands may.
                    None if self.lanes.only_channels() => break,
                    None => {
                        self.lanes.rotate(class, Done::No);
                        stuck += 1;
                    }
                }
            }
        }
    }

    /// Sends the next fragment of the lane in front; `None` when it has no credit.
    fn send_fragment(&mut self, class: StreamClass) -> Option<Done> {
        let lane = self.lanes.present()?.front(class)?;
        let stream = lane.stream;
        let message = lane.messages.front_mut()?;
        let left = message.body.len() - message.sent;
        let (kind, correlation, flags) = (message.kind, message.correlation, message.flags);
        let most = left.min(self.fragment(stream));
        let allowed = usize::try_from(self.credit(stream)).unwrap_or(usize::MAX);
        let count = most.min(allowed);
        if count == 0 && left > 0 {
            return None;
        }
        self.spend(stream, count as u64);
        let message = self.lanes.present()?.front(class)?.messages.front_mut()?;
        let start = message.sent;
        message.sent += count;
        let extensions = std::mem::take(&mut message.extensions);
        let trace = std::mem::take(&mut message.trace);
        let body = std::mem::take(&mut message.body);
        let done = if start + count == body.len() {
            Done::Yes
        } else {
            Done::No
        };
        let flags = match done {
            Done::Yes => flags,
            Done::No if flags.contains(Flags::URGENT) => Flags::MORE_FRAGMENTS | Flags::URGENT,
            Done::No => Flags::MORE_FRAGMENTS,
        };
        let fragment = body.get(start..start + count).unwrap_or_default();
        let block = Block::Encoded(&extensions, trace);
        let head = Head {
            kind,
            stream,
            correlation,
            flags,
            block,
        };
        self.encode(head, |out| out.extend_from_slice(fragment));
        if let Some(message) = self
            .lanes
            .front(class)
            .and_then(|lane| lane.messages.front_mut())
        {
            message.body = body;
        }
        if flags.contains(Flags::END_OF_STREAM) {
            self.end_sending(stream);
        }
        Some(done)
    }

    /// Puts a stream on the list of those whose credit goes back, once a quarter is due.
    pub(crate) fn list_credit(&mut self, stream: StreamId) {
        if let Some(flow) = self.streams.flow_mut(stream)
            && flow.listed == Listed::No
            && flow.receive.is_due()
        {
            flow.listed = Listed::Yes;
            self.credit_due.push(stream);
        }
    }
}
