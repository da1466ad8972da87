//! What each frame that comes in does.

use std::borrow::Cow;
use std::time::Duration;

use valkyrie_frame::{
    ClosePayload, Correlation, ErrorCode, ErrorFlags, ErrorPayload, Flags, Frame, Header,
    MessageType, PayloadError, Ping, StreamId,
};

use crate::calls::Refused;
use crate::counters::Origin;
use crate::envelope::Envelope;
use crate::error::{SessionError, Violation};
use crate::event::{Event, Payload, Retry};
use crate::handshake::unexpected;
use crate::join::{JoinError, JoinKey};
use crate::limits::{DRAIN_MAX, PRE_AUTH_FRAMES_MAX};
use crate::rule::Rule;
use crate::session::{Phase, Session};
use crate::state::StreamState;
use crate::streams::Listed;
use crate::way::Answer;

/// A rule that was broken, and how much has to end.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection.
    Connection(Violation),
    /// The frame's stream, or on a channel the frame's message.
    Subject(Violation),
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        Self::Subject(violation)
    }
}

/// Result of handling one frame.
pub(crate) type Handled<'b> = Result<Option<Event<'b>>, Fault>;

/// A message that is whole, with what its first fragment said.
pub(crate) struct Whole<'b> {
    pub(crate) envelope: Envelope<'b>,
    pub(crate) body: Payload<'b>,
}

impl Session {
    /// Handles one frame, whose bytes are `raw`.
    pub(crate) fn on_frame<'b>(&mut self, frame: Frame<'b>, raw: &'b [u8]) -> Option<Event<'b>> {
        let header = &frame.header;
        if self.is_behind_mark() {
            self.fail(unexpected(&frame, "behind the mark", Rule::MARK));
            return None;
        }
        self.counters.count_received(header.kind, header.length);
        self.keepalive.hear(self.now);
        let handled = match self.phase {
            Phase::Ready => self.on_ready_frame(&frame),
            Phase::Hello | Phase::Auth | Phase::Resuming => self.on_early_frame(&frame, raw),
            Phase::Failed => return None,
        };
        match handled {
            Ok(event) => event,
            Err(Fault::Connection(violation)) => {
                self.fail(violation);
                None
            }
            Err(Fault::Subject(violation)) => self.refuse_subject(header, violation),
        }
    }

    /// Refuses what a frame is about. Each side numbers its own calls and messages, so only the
    /// ERROR of a CALL has its correlation: that of another frame would hit a call of the peer
    /// which happens to have the same number.
    pub(crate) fn refuse_subject(
        &mut self,
        header: &Header,
        violation: Violation,
    ) -> Option<Event<'static>> {
        let (stream, call) = (header.stream, header.correlation);
        if !stream.is_channel() || header.kind == MessageType::CALL {
            return self.refuse(stream, call, violation);
        }
        let failed = (header.kind == MessageType::REPLY).then(|| self.fail_call(call, &violation));
        self.refuse(stream, Correlation::NONE, violation);
        failed.flatten()
    }

    /// Fails a call of this side whose answer cannot be taken.
    fn fail_call(&mut self, call: Correlation, violation: &Violation) -> Option<Event<'static>> {
        let class = self.outgoing.close(call)?;
        self.forget_call(class.channel(), call);
        Some(Event::CallFailed {
            call,
            code: violation.code(),
            retry: Retry::No,
            text: violation.text().into(),
            envelope: Envelope::EMPTY,
        })
    }

    /// The gate before AUTH_SUCCESS: few types, all on stream 0.
    fn on_early_frame<'b>(&mut self, frame: &Frame<'b>, raw: &[u8]) -> Handled<'b> {
        let frames = self.greeting.as_mut().map_or(0, |greeting| {
            greeting.frames += 1;
            greeting.frames
        });
        let kind = frame.header.kind;
        if !kind.is_pre_auth() || frame.header.stream != StreamId::CONTROL {
            return Err(Fault::Connection(unexpected(
                frame,
                "before authentication",
                Rule::BEFORE_AUTH,
            )));
        }
        if frames > PRE_AUTH_FRAMES_MAX {
            let max = u64::from(PRE_AUTH_FRAMES_MAX);
            let what = "frames before authentication";
            return Err(Fault::Connection(Violation::TooMany {
                what,
                max,
                rule: Rule::HANDSHAKE_LIMITS,
            }));
        }
        check_flags(frame).map_err(Fault::Connection)?;
        if self.phase == Phase::Resuming {
            let when = "before the answer to a token";
            let violation = unexpected(frame, when, Rule::HANDSHAKE_ORDER);
            return Err(Fault::Connection(violation));
        }
        match kind {
            MessageType::HELLO => self.on_hello(frame, raw).map(Some),
            MessageType::HELLO_ACK => self.on_hello_ack(frame, raw).map(|()| None),
            MessageType::AUTH_SUCCESS => self.on_auth_success(frame).map(Some),
            MessageType::ERROR => return self.on_error(frame),
            MessageType::CLOSE => return self.on_close(frame),
            MessageType::AUTH_FAILURE => Err(unexpected(
                frame,
                "in a mode without authentication",
                Rule::HANDSHAKE_ORDER,
            )),
            _ => Err(unexpected(
                frame,
                "in the mode that was chosen",
                Rule::HANDSHAKE_ORDER,
            )),
        }
        .map_err(Fault::Connection)
    }

    fn on_ready_frame<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let kind = frame.header.kind;
        if is_charged(kind) {
            self.charge_connection(frame)?;
        }
        if let Err(violation) = check_flags(frame) {
            return self.refuse_frame(frame, violation);
        }
        let control = matches!(
            kind,
            MessageType::PING | MessageType::PONG | MessageType::CLOSE
        );
        if control && frame.header.stream != StreamId::CONTROL {
            return Err(misplaced(frame, "it belongs on stream 0"));
        }
        match kind {
            MessageType::CALL | MessageType::REPLY | MessageType::CANCEL | MessageType::MESSAGE => {
                self.on_channel_frame(frame)
            }
            MessageType::STREAM_OPEN => self.on_stream_open(frame),
            MessageType::STREAM_DATA => self.on_data(frame),
            MessageType::STREAM_CLOSE => self.on_stream_close(frame),
            MessageType::STREAM_ACK => self.on_stream_ack(frame),
            MessageType::STREAM_RESET => self.on_stream_reset(frame),
            MessageType::LOG_ENTRY => self.on_log(frame),
            MessageType::FILE_TRANSFER_START
            | MessageType::FILE_TRANSFER_CHUNK
            | MessageType::FILE_TRANSFER_COMPLETE => self.on_file(frame),
            kind if kind.is_job() => self.on_job(frame),
            kind if kind.is_observe() => self.on_observe(frame),
            MessageType::NEGOTIATE => self.on_negotiate(frame),
            MessageType::UPGRADE => self.on_upgrade(frame),
            MessageType::PING => self.on_ping(frame),
            MessageType::PONG => self.on_pong(frame),
            MessageType::ERROR => self.on_error(frame),
            MessageType::CLOSE => self.on_close(frame),
            MessageType::HELLO
            | MessageType::HELLO_ACK
            | MessageType::AUTH_CHALLENGE
            | MessageType::AUTH_RESPONSE
            | MessageType::AUTH_SUCCESS
            | MessageType::AUTH_FAILURE
            | MessageType::KEY_EXCHANGE => Err(Fault::Connection(unexpected(
                frame,
                "after authentication",
                Rule::HANDSHAKE_ONCE,
            ))),
            _ => self.skip(),
        }
    }

    /// Payload takes connection credit, and gives it back at once: it has left the connection's
    /// buffer when it is looked at, so no unread stream can hold up the others.
    fn charge_connection(&mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        let (stream, bytes) = (frame.header.stream, credit_of(frame));
        let room = self.receive.room();
        if bytes > room {
            return Err(Fault::Connection(Violation::Window {
                stream: StreamId::CONTROL,
                excess: bytes - room,
            }));
        }
        self.take_connection_credit(stream, bytes);
        Ok(())
    }

    /// The same for bytes that are known to have credit.
    #[inline]
    pub(crate) fn take_connection_credit(&mut self, stream: StreamId, bytes: u64) {
        self.receive.take(bytes);
        let class = stream.class();
        self.streams.count(class, |count| count.received += bytes);
    }

    /// Counts a frame that has no meaning here; a flood of them ends the connection.
    pub(crate) fn skip<'b>(&mut self) -> Handled<'b> {
        self.counters.count_skipped();
        self.budgets.skips.take(self.now).map_err(|max| {
            let max = u64::from(max);
            Fault::Connection(Violation::TooMany {
                what: "frames without meaning at once",
                max,
                rule: Rule::SKIPPED,
            })
        })?;
        Ok(None)
    }

    fn on_ping<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let ping = Ping::parse(frame.body).map_err(|error| body(frame, error))?;
        self.budgets.pings.take(self.now).map_err(|max| {
            let max = u64::from(max);
            Fault::Connection(Violation::TooMany {
                what: "PINGs at once",
                max,
                rule: Rule::PINGS,
            })
        })?;
        self.control(MessageType::PONG, |out| ping.append(out));
        Ok(None)
    }

    fn on_pong<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let pong = Ping::parse(frame.body).map_err(|error| body(frame, error))?;
        if self.way.answered(self.now, pong) == Answer::Taken {
            return Ok(None);
        }
        match self.keepalive.answered(self.now, pong) {
            Some(rtt) => {
                self.way.note(rtt);
                Ok(Some(Event::Rtt { rtt }))
            }
            None => self.skip(),
        }
    }

    fn on_close<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let close = ClosePayload::parse(frame.body)
            .map_err(|error| Fault::Connection(body(frame, error)))?;
        let drain = Duration::from_millis(u64::from(close.drain_ms)).min(DRAIN_MAX);
        if self.closing.received.is_some() {
            return self.skip();
        }
        self.closing.received = Some(self.now + drain);
        if let Some(served) = close.served {
            self.give_up_unserved(served);
        }
        Ok(Some(Event::Closing {
            code: close.code,
            drain,
        }))
    }

    /// Ends the streams of this side that the peer has not seen when it began to close and will
    /// refuse: they may be opened elsewhere at once.
    fn give_up_unserved(&mut self, served: [u64; 4]) {
        let code = ErrorCode::DRAINING;
        for stream in self.streams.unserved(served) {
            // One that the application has ended itself is none of its concerns any more.
            let state = self.streams.get(stream).map(|open| open.state);
            if state == Some(StreamState::ResetSent) {
                continue;
            }
            self.reset(stream, code);
            self.events.push_back(Event::Reset { stream, code });
        }
    }

    fn on_error<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let error = ErrorPayload::parse(frame.body)
            .map_err(|error| Fault::Connection(body(frame, error)))?;
        let (stream, call) = (frame.header.stream, frame.header.correlation);
        self.counters.count_error(error.code, Origin::Peer);
        if error.flags.contains(ErrorFlags::CONNECTION_ENDS) || self.phase != Phase::Ready {
            let (code, text) = (error.code, error.text.to_owned());
            self.end(SessionError::Peer { code, text });
            return Ok(None);
        }
        let retry = retry_of(&error);
        // What is wrong with the extensions of an ERROR is not answered with another one.
        let envelope = Envelope::read(frame).map_err(Fault::Connection)?;
        if stream.is_channel() && !call.is_none() {
            if !self.outgoing.is_open_on(call, stream.class()) {
                // As a late REPLY: the call was canceled or timed out.
                return self.skip();
            }
            self.outgoing.close(call);
            self.forget_call(stream, call);
            let text = error.text.into();
            return Ok(Some(Event::CallFailed {
                call,
                code: error.code,
                retry,
                text,
                envelope,
            }));
        }
        self.count_stream_error(stream)?;
        Ok(Some(Event::PeerError {
            stream,
            correlation: call,
            code: error.code,
            retry,
            text: error.text.into(),
            envelope,
        }))
    }

    /// Counts an ERROR that answers no call. The first one on a stream of this side is free: it
    /// may be the answer.
    fn count_stream_error(&mut self, stream: StreamId) -> Result<(), Fault> {
        let own = self.streams.is_own(stream);
        if let Some(open) = self.streams.get_mut(stream)
            && own
            && open.failed == Listed::No
        {
            open.failed = Listed::Yes;
            return Ok(());
        }
        self.budgets.errors.take(self.now).map_err(|max| {
            let max = u64::from(max);
            Fault::Connection(Violation::TooMany {
                what: "ERRORs at once",
                max,
                rule: Rule::ERRORS,
            })
        })
    }

    /// What was half sent or half received of a call of this side.
    pub(crate) fn forget_call(&mut self, stream: StreamId, call: Correlation) {
        if let Some(lanes) = self.lanes.present() {
            lanes.drop_call(stream, MessageType::CALL, call);
        }
        self.joins.drop_join(JoinKey {
            stream,
            correlation: call,
            kind: MessageType::REPLY,
        });
    }

    /// CALL, REPLY, CANCEL and MESSAGE.
    fn on_channel_frame<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        if !stream.is_channel() {
            let problem = "calls and messages use the channels 1, 100, 1000 and 10000";
            return Err(misplaced(frame, problem));
        }
        if kind != MessageType::CANCEL {
            self.charge_channel(stream, frame.body.len() as u64)?;
        }
        match kind {
            MessageType::CALL => self.on_call(frame),
            MessageType::REPLY => self.on_reply(frame),
            MessageType::CANCEL => self.on_cancel(frame),
            _ => self.on_message(frame),
        }
    }

    /// Takes channel credit and gives it back at once: the handler runs before the next frame,
    /// and what waits beyond that is bounded by the number of calls and the size of joins.
    pub(crate) fn charge_channel(&mut self, stream: StreamId, bytes: u64) -> Result<(), Fault> {
        let Some(flow) = self.streams.flow_mut(stream) else {
            return Ok(());
        };
        flow.receive
            .receive(bytes)
            .map_err(|excess| Fault::Connection(Violation::Window { stream, excess }))?;
        flow.receive.consume(bytes);
        self.list_credit(stream);
        Ok(())
    }

    fn on_call<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, call) = (frame.header.stream, frame.header.correlation);
        if call.is_none() {
            return Err(value(frame, "a call needs a correlation", Rule::CORRELATION).into());
        }
        let Some(whole) = self.join(frame)? else {
            return Ok(None);
        };
        let method = whole.method(frame)?;
        if self.is_closing() {
            return Err(Violation::Draining.into());
        }
        let max = self.own.calls_max();
        self.incoming
            .open(call, stream.class(), max)
            .map_err(|refused| match refused {
                Refused::Reused => Violation::CorrelationReused { call },
                Refused::TooMany => Violation::TooMany {
                    what: "calls at once",
                    max: u64::from(max),
                    rule: Rule::CALLS_AT_ONCE,
                },
            })?;
        Ok(Some(Event::Call {
            call,
            class: stream.class(),
            deadline: whole.envelope.deadline(),
            method,
            body: whole.body,
            envelope: whole.envelope,
        }))
    }

    fn on_message<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        if frame.header.correlation.is_none() {
            let problem = "a message needs a correlation";
            return Err(value(frame, problem, Rule::MESSAGE_NUMBER).into());
        }
        let Some(whole) = self.join(frame)? else {
            return Ok(None);
        };
        let method = whole.method(frame)?;
        Ok(Some(Event::Message {
            class: frame.header.stream.class(),
            method,
            body: whole.body,
            envelope: whole.envelope,
        }))
    }

    fn on_reply<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let call = frame.header.correlation;
        // The answer to a call that was canceled or timed out is late, not wrong.
        if !self.outgoing.is_open_on(call, frame.header.stream.class()) {
            return self.skip();
        }
        let Some(whole) = self.join(frame)? else {
            return Ok(None);
        };
        self.outgoing.close(call);
        Ok(Some(Event::Reply {
            call,
            body: whole.body,
            envelope: whole.envelope,
        }))
    }

    fn on_cancel<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, call) = (frame.header.stream, frame.header.correlation);
        if !frame.body.is_empty() {
            return Err(value(frame, "it has no body", Rule::CANCEL_BODY).into());
        }
        self.joins.drop_join(JoinKey {
            stream,
            correlation: call,
            kind: MessageType::CALL,
        });
        // Also of a call that was answered: the answer may still wait here.
        if let Some(lanes) = self.lanes.present() {
            lanes.drop_call(stream, MessageType::REPLY, call);
        }
        if !self.incoming.cancel(call, stream.class()) {
            return self.skip();
        }
        Ok(Some(Event::CallCanceled { call }))
    }

    /// Joins fragments; `None` until the message is whole.
    pub(crate) fn join<'b>(&mut self, frame: &Frame<'b>) -> Result<Option<Whole<'b>>, Violation> {
        let header = &frame.header;
        let more = header.flags.contains(Flags::MORE_FRAGMENTS);
        let key = JoinKey::of(header);
        if more && frame.body.is_empty() {
            self.joins.drop_join(key);
            return Err(value(
                frame,
                "a fragment without a byte",
                Rule::EMPTY_FRAGMENT,
            ));
        }
        let (max, now) = (self.own.message_max(), self.now);
        if frame.body.len() > max as usize {
            self.joins.drop_join(key);
            return Err(Violation::TooLarge {
                kind: key.kind,
                max: u64::from(max),
            });
        }
        let begun = self.joins.contains(key);
        let joined = match (begun, more) {
            (false, false) => {
                let envelope = Envelope::read(frame)?;
                let body = Payload::Borrowed(frame.body);
                return Ok(Some(Whole { envelope, body }));
            }
            (false, true) => {
                let envelope = Envelope::read(frame)?.into_owned();
                self.joins
                    .begin(key, envelope, frame.body, now)
                    .map(|()| None)
            }
            (true, true) => self.joins.add(key, frame.body, max, now).map(|()| None),
            (true, false) => self.joins.finish(key, frame.body, max, now).map(Some),
        };
        let joined = joined.map_err(|error| match error {
            JoinError::TooLarge { max } => Violation::TooLarge {
                kind: key.kind,
                max,
            },
            JoinError::TooMany { max } => Violation::TooMany {
                what: "messages in fragments at once",
                max,
                rule: Rule::HALF_SENT,
            },
            JoinError::Full { max } => Violation::TooLong {
                kind: key.kind,
                what: "all that is half received",
                max,
                rule: Rule::HALF_SENT,
            },
        })?;
        Ok(joined.map(|(envelope, bytes)| Whole {
            envelope,
            body: Payload::Joined(bytes),
        }))
    }
}

impl<'b> Whole<'b> {
    /// The method, borrowed where it lies in the frame, so that a call in one frame costs no copy.
    fn method(&self, frame: &Frame<'b>) -> Result<Cow<'b, str>, Violation> {
        let method = match self.envelope.borrowed_method() {
            Some(method) => Cow::Borrowed(method),
            None => Cow::Owned(self.envelope.method().to_owned()),
        };
        if method.is_empty() {
            return Err(value(
                frame,
                "the extension method is missing",
                Rule::METHOD,
            ));
        }
        Ok(method)
    }
}

/// Types whose payload takes credit.
pub(crate) const fn is_charged(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::STREAM_DATA
            | MessageType::FILE_TRANSFER_CHUNK
            | MessageType::LOG_ENTRY
            | MessageType::CALL
            | MessageType::REPLY
            | MessageType::MESSAGE
    ) || kind.is_job()
        || kind.is_observe()
}

/// What a frame of a charged type takes: its body, and one byte for a message of a stream that has
/// none, or such messages would be free.
pub(crate) fn credit_of(frame: &Frame<'_>) -> u64 {
    let empty_message = frame.body.is_empty()
        && frame.header.kind == MessageType::STREAM_DATA
        && frame.header.flags.contains(Flags::EXTENSIONS);
    frame.body.len() as u64 + u64::from(empty_message)
}

/// Flags and extensions that this side cannot honour.
fn check_flags(frame: &Frame<'_>) -> Result<(), Violation> {
    let (flags, kind) = (frame.header.flags, frame.header.kind);
    if let Some(extension) = frame.extensions.unknown_critical() {
        return Err(Violation::CriticalExtension { extension, kind });
    }
    if flags.contains(Flags::COMPRESSED) {
        return Err(unexpected(
            frame,
            "compressed, which was not agreed",
            Rule::COMPRESSED,
        ));
    }
    if flags.contains(Flags::END_TO_END_SEALED) {
        return Err(unexpected(
            frame,
            "sealed, which was not agreed",
            Rule::SEALED,
        ));
    }
    Ok(())
}

/// A type on a stream or channel where it does not belong.
pub(crate) const fn misplaced(frame: &Frame<'_>, problem: &'static str) -> Fault {
    Fault::Connection(Violation::WrongRange {
        stream: frame.header.stream,
        kind: frame.header.kind,
        problem,
        rule: Rule::PLACE,
    })
}

pub(crate) const fn body(frame: &Frame<'_>, error: PayloadError) -> Violation {
    Violation::Body {
        kind: frame.header.kind,
        error,
    }
}

pub(crate) const fn value(frame: &Frame<'_>, problem: &'static str, rule: Rule) -> Violation {
    Violation::Value {
        kind: frame.header.kind,
        problem,
        rule,
    }
}

fn retry_of(error: &ErrorPayload<'_>) -> Retry {
    if error.flags.contains(ErrorFlags::RETRYABLE) {
        Retry::After(Duration::from_millis(u64::from(error.retry_after_ms)))
    } else {
        Retry::No
    }
}
