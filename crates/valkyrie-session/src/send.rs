//! What the owner of a session can send on the channels: calls, answers, messages.

use std::time::Duration;

use valkyrie_frame::{
    Correlation, ErrorCode, ErrorFlags, ExtensionType, ExtensionWriter, Flags, Header, MessageType,
    StreamClass, StreamId,
};

use crate::calls::{Wanted, deadline_ms};
use crate::error::SendError;
use crate::lanes::{Done, Outgoing};
use crate::limits::TRANSMIT_BYTES;
use crate::outbox::Band;
use crate::session::{Phase, Session};
use crate::streams::Listed;

/// A message that is about to be sent.
pub(crate) struct Message<'a> {
    pub(crate) kind: MessageType,
    pub(crate) stream: StreamId,
    pub(crate) correlation: Correlation,
    pub(crate) flags: Flags,
    pub(crate) extensions: Vec<u8>,
    pub(crate) body: &'a [u8],
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
        self.check_new()?;
        self.check_message(class, MessageType::CALL, body.len())?;
        let extensions = extensions(method, deadline)?;
        let until = deadline.map(|deadline| self.now + deadline);
        let max = self.peer.calls_max();
        let call = self
            .outgoing
            .open(class, until, max)
            .ok_or(SendError::CallsExhausted)?;
        self.send_message(Message {
            kind: MessageType::CALL,
            stream: class.channel(),
            correlation: call,
            flags: Flags::NONE,
            extensions,
            body,
        });
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
        self.frame(Band::of(class, Flags::NONE), header, |_| {});
    }

    /// Answers a call of the peer.
    ///
    /// # Errors
    /// The call is not open, or the answer is too large; the call stays open then.
    pub fn reply(&mut self, call: Correlation, body: &[u8]) -> Result<(), SendError> {
        let (class, wanted) = self.open_call(call)?;
        self.check_message(class, MessageType::REPLY, body.len())?;
        self.incoming.close(call);
        if wanted == Wanted::Yes {
            self.send_message(Message {
                kind: MessageType::REPLY,
                stream: class.channel(),
                correlation: call,
                flags: Flags::NONE,
                extensions: Vec::new(),
                body,
            });
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
        let (class, wanted) = self.open_call(call)?;
        self.incoming.close(call);
        if wanted == Wanted::Yes {
            self.send_error(class.channel(), call, code, ErrorFlags::NONE, text);
        }
        Ok(())
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
        self.plain_message(class, method, body, Flags::NONE)
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
        self.plain_message(class, method, body, Flags::URGENT)
    }

    fn plain_message(
        &mut self,
        class: StreamClass,
        method: &str,
        body: &[u8],
        flags: Flags,
    ) -> Result<(), SendError> {
        self.check_new()?;
        self.check_message(class, MessageType::MESSAGE, body.len())?;
        let extensions = extensions(method, None)?;
        let stream = class.channel();
        // Numbered because any message may end up in fragments: it needs only to find no credit.
        self.message_number = self.message_number.next();
        let correlation = self.message_number;
        self.send_message(Message {
            kind: MessageType::MESSAGE,
            stream,
            correlation,
            flags,
            extensions,
            body,
        });
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
            self.send_error(stream, correlation, code, ErrorFlags::NONE, text);
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
            Phase::Hello | Phase::Auth => Err(SendError::NotReady),
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
        self.outbox.fragment(band, self.now)
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
    pub(crate) fn send_message(&mut self, message: Message<'_>) {
        let bytes = message.body.len();
        let at_once = bytes <= self.fragment(message.stream)
            && !self.lanes.must_wait(message.stream)
            && bytes as u64 <= self.credit(message.stream);
        if at_once {
            self.spend(message.stream, bytes as u64);
            self.encode(&message);
            return;
        }
        let Message {
            kind,
            stream,
            correlation,
            flags,
            extensions,
            body,
        } = message;
        let body = body.to_vec();
        self.lanes.push(
            stream,
            Outgoing {
                kind,
                correlation,
                flags,
                extensions,
                body,
                sent: 0,
            },
        );
    }

    fn encode(&mut self, message: &Message<'_>) {
        let flags = match message.extensions.is_empty() {
            true => message.flags,
            false => message.flags | Flags::EXTENSIONS,
        };
        let length = message.extensions.len() + message.body.len();
        let length = u32::try_from(length).expect("a fragment is under 256 KiB");
        let header = Header::new(message.kind, message.stream, length)
            .with_flags(flags)
            .with_correlation(message.correlation);
        self.frame(Band::of(message.stream.class(), flags), header, |out| {
            out.extend_from_slice(&message.extensions);
            out.extend_from_slice(message.body);
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
        let lane = self.lanes.front(class)?;
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
        let message = self.lanes.front(class)?.messages.front_mut()?;
        let start = message.sent;
        message.sent += count;
        let extensions = std::mem::take(&mut message.extensions);
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
        self.encode(&Message {
            kind,
            stream,
            correlation,
            flags,
            extensions,
            body: fragment,
        });
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

/// The extension block of a call or message.
fn extensions(method: &str, deadline: Option<Duration>) -> Result<Vec<u8>, SendError> {
    let max = valkyrie_frame::limits::METHOD_BYTES_MAX;
    let too_large = SendError::TooLarge {
        bytes: method.len(),
        max,
    };
    if method.len() > max {
        return Err(too_large);
    }
    let mut block = Vec::with_capacity(method.len() + 12);
    let mut writer = ExtensionWriter::new(&mut block);
    writer
        .put(ExtensionType::METHOD, method.as_bytes())
        .map_err(|_| too_large)?;
    if let Some(deadline) = deadline {
        let ms = deadline_ms(deadline).to_be_bytes();
        writer
            .put(ExtensionType::DEADLINE, &ms)
            .map_err(|_| too_large)?;
    }
    writer.finish();
    Ok(block)
}
