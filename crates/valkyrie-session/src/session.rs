//! The session: what goes in, what comes out.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use valkyrie_frame::{
    Correlation, ErrorCode, ErrorFlags, ErrorPayload, Frame, FrameLimits, Header, MessageType,
    StreamClass, StreamId, Time,
};

use crate::budget::Budgets;
use crate::calls::{Incoming, Outgoing, deadline_ms};
use crate::closing::Closing;
use crate::config::{Agreement, Limits, SessionConfig, Side};
use crate::counters::{Counters, Origin, StreamCount};
use crate::credit::{ReceiveCredit, SendCredit};
use crate::envelope::Envelope;
use crate::error::{SessionError, Violation};
use crate::event::{Event, Retry};
use crate::handshake::Greeting;
use crate::join::Joins;
use crate::keepalive::{Keepalive, Silence};
use crate::lanes::Lanes;
use crate::limits::{FRAGMENT_TIMEOUT, FRAME_BYTES_PER_S_MIN, FRAME_TIMEOUT, HANDSHAKE_TIMEOUT};
use crate::moving::Move;
use crate::negotiate::Negotiation;
use crate::on_demand::{OnDemand, resting};
use crate::options::{Block, ReplyOptions};
use crate::outbox::{Outbox, Place};
use crate::passing;
use crate::receive::Fault;
use crate::receive_batch::Piece;
use crate::round_trip::RoundTrip;
use crate::rule::Rule;
use crate::send::Failure;
use crate::span::Span;
use crate::state::StreamState;
use crate::streams::Streams;
use crate::way::Way;

/// One end of a connection as a state machine without I/O and without a clock.
///
/// Bytes go in through [`read`](Self::read) and come out through [`slices`](Self::slices);
/// the time goes in with every call, and [`poll_timeout`](Self::poll_timeout) says when
/// [`handle_timeout`](Self::handle_timeout) wants to be called. The order of calls in one tick:
/// `read` until it gives `None`, [`prepare`](Self::prepare) and write until it gives 0.
#[derive(Debug)]
pub struct Session {
    pub(crate) side: Side,
    pub(crate) config: Arc<SessionConfig>,
    pub(crate) phase: Phase,
    pub(crate) now: Time,
    /// What is only needed until the connection is ready.
    pub(crate) greeting: Option<Box<Greeting>>,
    pub(crate) agreement: Option<Box<Agreement>>,
    pub(crate) own: Limits,
    pub(crate) peer: Limits,
    pub(crate) outbox: OnDemand<Outbox>,
    /// Frames that stand behind all that was sent before them.
    pub(crate) passing: OnDemand<passing::Queue>,
    pub(crate) lanes: OnDemand<Lanes>,
    pub(crate) streams: Streams,
    pub(crate) send: SendCredit,
    pub(crate) receive: ReceiveCredit,
    /// What windows are sized by.
    pub(crate) way: Way,
    pub(crate) outgoing: OnDemand<Outgoing>,
    pub(crate) incoming: OnDemand<Incoming>,
    /// Number of the last MESSAGE; its own row of numbers, beside that of the calls.
    pub(crate) message_number: Correlation,
    pub(crate) joins: OnDemand<Joins>,
    pub(crate) keepalive: Keepalive,
    pub(crate) budgets: OnDemand<Budgets>,
    pub(crate) closing: OnDemand<Closing>,
    pub(crate) negotiation: Option<Box<Negotiation>>,
    pub(crate) moving: Option<Box<Move>>,
    pub(crate) events: OnDemand<Events>,
    pub(crate) counters: Counters,
    /// Streams and channels whose credit goes back with the next transmit.
    pub(crate) credit_due: Vec<StreamId>,
    /// Streams whose caller waits for credit.
    pub(crate) blocked: OnDemand<Ids>,
    pub(crate) failure: Option<Box<SessionError>>,
    partial: Partial,
    pub(crate) piece: Option<Piece>,
}

/// How far the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The acceptor waits for HELLO, the initiator for HELLO_ACK.
    Hello,
    /// The initiator waits for AUTH_SUCCESS.
    Auth,
    /// The acceptor was shown a token and waits for its owner's decision.
    Resuming,
    /// Everything is legal.
    Ready,
    /// Over; only an ERROR may still wait to be sent.
    Failed,
}

/// Some streams.
type Ids = Vec<StreamId>;

/// Those that did not come of the input.
type Events = VecDeque<Event<'static>>;

resting!(Ids, ids, ids.is_empty());
resting!(Events, events, events.is_empty());

/// A frame of which only the beginning is there.
#[derive(Debug, Clone, Copy)]
enum Partial {
    None,
    Since(Time, Span),
}

impl Session {
    /// A new session. The initiator has its HELLO waiting; `random` must be fresh, unguessable
    /// bytes.
    #[must_use]
    pub fn new(side: Side, config: impl Into<Arc<SessionConfig>>, random: [u8; 32]) -> Self {
        let config = config.into();
        let own = config.flow.apply(config.limits);
        let peer = Limits::default();
        let mut session = Self {
            side,
            keepalive: Keepalive::new(config.keepalive),
            config,
            phase: Phase::Hello,
            now: Time::ZERO,
            greeting: Some(Box::new(Greeting::new(random))),
            agreement: None,
            own,
            peer,
            outbox: OnDemand::default(),
            passing: OnDemand::default(),
            lanes: OnDemand::default(),
            streams: Streams::new(side.parity(), &own, &peer),
            send: SendCredit::new(0),
            receive: ReceiveCredit::new(own.connection_window()),
            way: Way::default(),
            outgoing: OnDemand::default(),
            incoming: OnDemand::default(),
            message_number: Correlation::NONE,
            joins: OnDemand::default(),
            budgets: OnDemand::default(),
            closing: OnDemand::default(),
            negotiation: None,
            moving: None,
            events: OnDemand::default(),
            counters: Counters::default(),
            credit_due: Vec::new(),
            blocked: OnDemand::default(),
            failure: None,
            partial: Partial::None,
            piece: None,
        };
        if side == Side::Initiator {
            session.send_hello();
        }
        session
    }

    /// Takes frames off `input` until one of them makes an event; `None` when what is left of
    /// `input` is not a whole frame. Keep that rest and give it again with what follows it. Of a
    /// long STREAM_DATA frame the bytes are given as they come, and none are left.
    ///
    /// # Errors
    /// The connection is over. What [`transmit`](Self::transmit) still gives, an ERROR that tells
    /// the peer why, should be written before the transport is closed.
    pub fn read<'b>(
        &mut self,
        now: Time,
        input: &mut &'b [u8],
    ) -> Result<Option<Event<'b>>, SessionError> {
        self.tick(now);
        loop {
            if let Some(event) = self.poll_event() {
                return Ok(Some(event));
            }
            if let Some(failure) = &self.failure {
                return Err((**failure).clone());
            }
            if self.piece.is_some() {
                if let Some(event) = self.go_on_piece(input) {
                    return Ok(Some(event));
                }
                if input.is_empty() {
                    return Ok(None);
                }
                continue;
            }
            let before = *input;
            match Frame::parse(input, self.frame_limits()) {
                Ok(None) if self.begin_piece(now, input) => {}
                Ok(None) => {
                    self.note_partial(now, input);
                    return Ok(None);
                }
                Ok(Some(frame)) => {
                    self.unpartial();
                    let raw = before.get(..before.len() - input.len()).unwrap_or_default();
                    if let Some(event) = self.on_frame(frame, raw) {
                        return Ok(Some(event));
                    }
                }
                Err(error) => self.fail(error.into()),
            }
        }
    }

    /// Does what time asks for; call it when [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Time) {
        self.tick(now);
        match self.phase {
            Phase::Hello | Phase::Auth | Phase::Resuming => self.check_handshake(now),
            Phase::Ready => {
                self.expire_calls(now);
                self.expire_joins(now);
                self.check_silence(now);
            }
            Phase::Failed => return,
        }
        if let Partial::Since(since, allowed) = self.partial
            && now >= since + allowed.duration()
        {
            self.fail(Violation::FrameTimeout {
                seconds: allowed.duration().as_secs(),
            });
        }
        self.move_closing(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called; `None` for never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let partial = match self.partial {
            Partial::None => None,
            Partial::Since(since, allowed) => Some(since + allowed.duration()),
        };
        let phase = match self.phase {
            Phase::Hello | Phase::Auth | Phase::Resuming => {
                self.started().map(|start| start + HANDSHAKE_TIMEOUT)
            }
            Phase::Ready => [
                self.keepalive.deadline(),
                self.outgoing.deadline(),
                self.joins.deadline(),
                self.closing_deadline(),
            ]
            .into_iter()
            .flatten()
            .min(),
            Phase::Failed => return None,
        };
        [partial, phase].into_iter().flatten().min()
    }

    /// The next event that did not come from the input of [`read`](Self::read), which gives
    /// these too.
    pub fn poll_event(&mut self) -> Option<Event<'static>> {
        self.events.present()?.pop_front()
    }

    /// Decides which frames leave next, about
    /// [`TRANSMIT_BYTES`](crate::limits::TRANSMIT_BYTES) of them; returns how many bytes wait to
    /// be [written](Self::written), 0 when nothing is to be sent. What was decided before and is
    /// not written whole stays first.
    pub fn prepare(&mut self, now: Time) -> usize {
        self.tick(now);
        let passing = self.passing.present();
        if let Some(first) = passing.and_then(VecDeque::front_mut) {
            return first.leaving_mut().prepare(now);
        }
        if self.has_left() {
            return 0;
        }
        if self.phase == Phase::Ready {
            self.move_closing(now);
            self.return_credit();
            self.fill_from_lanes();
        }
        self.say_close(now);
        self.outbox
            .present()
            .map_or(0, |outbox| outbox.prepare(now))
    }

    /// Names what [`prepare`](Self::prepare) decided on, in as many of `slices` as it takes, and
    /// there are; returns how many are used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self.passing.front() {
            Some(first) => first.leaving().slices(slices),
            None => self.outbox.slices(slices),
        }
    }

    /// The first `count` bytes of [`slices`](Self::slices) were written.
    ///
    /// # Panics
    /// When they name fewer bytes.
    pub fn written(&mut self, count: usize) {
        match self.passing.present().and_then(VecDeque::front_mut) {
            Some(first) => {
                first.leaving_mut().advance(count);
                self.end_passing();
            }
            None => self.outbox.advance(count),
        }
    }

    /// The same in one step, for tests and transports that take whole buffers: appends what would
    /// be written to `out` and returns how many bytes, 0 when there is nothing.
    pub fn transmit(&mut self, now: Time, out: &mut Vec<u8>) -> usize {
        let count = self.prepare(now);
        let mut left = count;
        while left > 0 {
            let mut slices = [IoSlice::new(&[]); 8];
            let used = self.slices(&mut slices);
            let before = out.len();
            for slice in slices.iter().take(used) {
                out.extend_from_slice(slice);
            }
            let taken = out.len() - before;
            self.written(taken);
            left -= taken;
        }
        count
    }

    /// Tells the session the time, for deadlines of what is sent next.
    pub fn tick(&mut self, now: Time) {
        self.now = self.now.max(now);
        if let Some(greeting) = &mut self.greeting
            && greeting.started.is_none()
        {
            greeting.started = Some(now);
            self.keepalive.hear(now);
        }
    }

    /// Asks for a sign of life now; an [`Event::Rtt`] follows.
    pub fn ping(&mut self) {
        let ping = self.keepalive.ask(self.now);
        self.control(MessageType::PING, |out| ping.append(out));
    }

    /// Whether no stream and no call is open and nothing waits to be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.streams.len() == 0
            && self.outgoing.len() == 0
            && self.incoming.len() == 0
            && self.lanes.is_empty()
    }

    /// Whether the handshake is done and the connection not over.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Why the connection is over, if it is because of an error.
    #[must_use]
    pub fn failure(&self) -> Option<&SessionError> {
        self.failure.as_deref()
    }

    /// What was agreed; `None` before `Ready`.
    #[must_use]
    pub fn agreement(&self) -> Option<&Agreement> {
        self.agreement.as_deref()
    }

    /// What this side accepts, with the first windows that its strategies chose.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.own
    }

    /// Which end this is.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Numbers about the connection.
    pub const fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Takes what was counted about streams since the last call, for each class that moved.
    pub fn take_stream_counts(&mut self, each: impl FnMut(StreamClass, StreamCount)) {
        self.streams.take_counts(each);
    }

    /// Lends the session an empty buffer to encode frames into, if it has use for one, so that it
    /// need not own one.
    pub fn lend_buffer(&mut self, take: impl FnOnce() -> Vec<u8>) {
        if let Some(outbox) = self.outbox.present() {
            outbox.lend(take);
        }
    }

    /// Takes the buffers that hold nothing back; some of them may have no capacity.
    pub fn reclaim_buffers(&mut self, each: impl FnMut(Vec<u8>)) {
        if let Some(outbox) = self.outbox.present() {
            outbox.reclaim(each);
        }
    }

    /// Gives back buffers that hold nothing, so that an idle connection costs little. To be called
    /// when the connection has been quiet for a while.
    pub fn release_buffers(&mut self) {
        self.outbox.rest();
        self.lanes.rest();
        self.streams.release();
        self.passing.rest();
        self.joins.rest();
        self.outgoing.rest();
        self.incoming.rest();
        self.counters.release();
        if let Some(budgets) = self.budgets.present() {
            budgets.refill(self.now);
            self.budgets.rest();
        }
        self.credit_due.shrink_to_fit();
        self.blocked.rest();
        self.events.rest();
    }

    /// Time of the last PING's way there and back.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.keepalive.round_trip().map(|trip| trip.latest)
    }

    /// What all PINGs so far tell about the way; `None` before the first answer.
    #[must_use]
    pub fn round_trip(&self) -> Option<RoundTrip> {
        self.keepalive.round_trip()
    }

    /// The time that was told last.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Whether the peer takes one more call now.
    #[must_use]
    pub fn has_call_room(&self) -> bool {
        self.outgoing.len() < self.peer.calls_max()
    }

    /// First credit that this side gives for a stream of a class.
    #[must_use]
    pub fn window(&self, class: StreamClass) -> u32 {
        self.own.window(class)
    }

    /// Streams that are not closed.
    #[must_use]
    pub fn streams_open(&self) -> usize {
        self.streams.len()
    }

    /// The classes of all streams that are not closed, one entry per stream.
    pub fn open_streams(&self) -> impl Iterator<Item = StreamClass> {
        self.streams.classes()
    }

    /// Bytes that are encoded and wait to be given out, of all classes.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.outbox.len() + self.passing_bytes()
    }

    fn frame_limits(&self) -> FrameLimits {
        match self.phase {
            Phase::Ready => FrameLimits {
                payload_bytes_max: self.own.frame_max(),
            },
            Phase::Hello | Phase::Auth | Phase::Resuming | Phase::Failed => FrameLimits::PRE_AUTH,
        }
    }

    fn note_partial(&mut self, now: Time, input: &[u8]) {
        if input.is_empty() {
            return self.unpartial();
        }
        let length = input.get(12..).and_then(<[u8]>::first_chunk::<4>);
        self.expect_rest(now, length.map_or(0, |length| u32::from_be_bytes(*length)));
    }

    /// A frame has begun; it has to be whole in the time that `bytes` of payload may take.
    pub(crate) fn expect_rest(&mut self, now: Time, bytes: u32) {
        let seconds = u64::from(bytes) / FRAME_BYTES_PER_S_MIN;
        let allowed = Span::of(FRAME_TIMEOUT + Duration::from_secs(seconds));
        self.partial = match self.partial {
            Partial::None => Partial::Since(now, allowed),
            Partial::Since(since, _) => Partial::Since(since, allowed),
        };
    }

    /// No frame has begun that is not whole.
    pub(crate) const fn unpartial(&mut self) {
        self.partial = Partial::None;
    }

    /// Ends the connection because the peer broke a rule; an ERROR tells it which.
    pub(crate) fn fail(&mut self, violation: Violation) {
        if self.phase == Phase::Failed {
            return;
        }
        self.counters.count_error(violation.code(), Origin::Local);
        self.drop_passing();
        if let Some(outbox) = self.outbox.present() {
            outbox.keep_control_only();
        }
        let text = violation.text();
        self.control(MessageType::ERROR, |out| {
            let flags = ErrorFlags::CONNECTION_ENDS;
            ErrorPayload {
                flags,
                ..ErrorPayload::new(violation.code(), &text)
            }
            .append(out);
        });
        self.end(SessionError::Violation(violation));
    }

    /// Ends the connection without a word to the peer.
    pub(crate) fn end(&mut self, error: SessionError) {
        self.phase = Phase::Failed;
        self.failure = Some(Box::new(error));
    }

    fn started(&self) -> Option<Time> {
        self.greeting.as_ref()?.started
    }

    fn check_handshake(&mut self, now: Time) {
        if self
            .started()
            .is_some_and(|start| now >= start + HANDSHAKE_TIMEOUT)
        {
            self.fail(Violation::HandshakeTimeout {
                seconds: HANDSHAKE_TIMEOUT.as_secs(),
            });
        }
    }

    fn check_silence(&mut self, now: Time) {
        match self.keepalive.check(now) {
            Silence::Fine => {}
            Silence::Ask(ping) => self.control(MessageType::PING, |out| ping.append(out)),
            Silence::Dead(silence) => self.fail(Violation::Silent {
                seconds: silence.as_secs(),
            }),
        }
    }

    fn expire_calls(&mut self, now: Time) {
        let Some(outgoing) = self.outgoing.present() else {
            return;
        };
        for call in outgoing.expired(now) {
            self.cancel(call);
            self.events.push_back(Event::CallFailed {
                call,
                code: ErrorCode::TIMEOUT,
                retry: Retry::No,
                text: "no answer within the deadline".into(),
                envelope: Envelope::EMPTY,
            });
        }
    }

    fn expire_joins(&mut self, now: Time) {
        let Some(joins) = self.joins.present() else {
            return;
        };
        for key in joins.expired(now) {
            let seconds = FRAGMENT_TIMEOUT.as_secs();
            let violation = Violation::FragmentTimeout {
                kind: key.kind,
                seconds,
            };
            let header = Header::new(key.kind, key.stream, 0).with_correlation(key.correlation);
            if let Some(event) = self.refuse_subject(&header, violation) {
                self.events.push_back(event);
            }
        }
    }

    /// Encodes a frame of stream 0.
    pub(crate) fn control(&mut self, kind: MessageType, body: impl FnOnce(&mut Vec<u8>)) {
        self.frame(Header::new(kind, StreamId::CONTROL, 0), body);
    }

    /// Encodes a frame in place: the payload behind its header, then the length into the header.
    pub(crate) fn frame(&mut self, header: Header, payload: impl FnOnce(&mut Vec<u8>)) {
        if self.phase == Phase::Failed {
            return;
        }
        let mut length = 0;
        self.outbox.append(Place::of_header(&header), |out| {
            let start = out.len();
            header.append(out);
            let body = out.len();
            payload(out);
            length = u32::try_from(out.len() - body).expect("payloads are checked before");
            if header.length != length {
                let header = Header { length, ..header };
                if let Some(space) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
                    header.encode(space);
                }
            }
        });
        self.counters
            .count_sent(header.kind, header.priority, length);
    }

    /// Encodes a frame whose length is in its header.
    #[inline]
    pub(crate) fn frame_of(&mut self, header: Header, payload: impl FnOnce(&mut Vec<u8>)) {
        self.outbox.append(Place::of_header(&header), |out| {
            header.append(out);
            payload(out);
        });
        self.counters
            .count_sent(header.kind, header.priority, header.length);
    }

    /// The same for a payload that is shared with its owner.
    pub(crate) fn frame_shared(&mut self, header: Header, payload: Bytes) {
        let place = Place::of_header(&header);
        self.outbox
            .append_shared(place, |out| header.append(out), payload);
        self.counters
            .count_sent(header.kind, header.priority, header.length);
    }

    /// Refuses one message or stream, as narrowly as its subject allows.
    pub(crate) fn refuse(
        &mut self,
        stream: StreamId,
        correlation: Correlation,
        violation: Violation,
    ) -> Option<Event<'static>> {
        if stream == StreamId::CONTROL {
            self.fail(violation);
            return None;
        }
        let state = self.streams.get(stream).map(|open| open.state);
        if state == Some(StreamState::ResetSent) {
            // What was under way when the stream was reset is dropped, right or wrong.
            return self.skip().unwrap_or_else(|fault| self.end_by(fault));
        }
        self.counters.count_error(violation.code(), Origin::Local);
        // A refused call costs no more than a skipped frame; a reset ends work of the peer's own.
        // What it opened before it saw a CLOSE is no fault of its own.
        let cheap = stream.is_channel() || violation == Violation::Draining;
        let (budget, what, rule) = match cheap {
            true => (
                &mut self.budgets.skips,
                "refused messages and streams at once",
                Rule::SKIPPED,
            ),
            false => (&mut self.budgets.resets, "resets at once", Rule::RESETS),
        };
        if let Err(max) = budget.take(self.now) {
            self.fail(Violation::TooMany {
                what,
                max: u64::from(max),
                rule,
            });
            return None;
        }
        let code = violation.code();
        let retry = if violation.is_retryable() {
            Retry::After(Duration::ZERO)
        } else {
            Retry::No
        };
        let text = violation.text();
        let failure = Failure {
            retry,
            ..Failure::new(code, &text)
        };
        self.send_failure(stream, correlation, &failure);
        if stream.is_channel() || state.is_none() {
            return None;
        }
        self.reset(stream, code);
        Some(Event::Reset { stream, code })
    }

    /// Ends the connection, whatever the fault was about.
    fn end_by<'b>(&mut self, fault: Fault) -> Option<Event<'b>> {
        let (Fault::Connection(violation) | Fault::Subject(violation)) = fault;
        self.fail(violation);
        None
    }

    /// Turns somebody away who showed a token that no session of this side knows.
    pub fn refuse_resume(&mut self) {
        if self.phase == Phase::Resuming {
            self.fail(Violation::NoOffer);
        }
    }

    /// The owner's transport is gone: nothing is sent or received any more, and what waits is
    /// dropped.
    pub fn abandon(&mut self) {
        self.phase = Phase::Failed;
        self.outbox = OnDemand::default();
        self.passing = OnDemand::default();
        self.lanes = OnDemand::default();
        self.joins = OnDemand::default();
        self.events = OnDemand::default();
    }

    /// Sends an ERROR about a stream or a message on it.
    pub(crate) fn send_failure(
        &mut self,
        stream: StreamId,
        correlation: Correlation,
        failure: &Failure<'_>,
    ) {
        let options = ReplyOptions {
            metadata: failure.metadata,
            ..ReplyOptions::default()
        };
        let block = Block::Reply(&options);
        let header = Header {
            priority: self.priority(stream),
            ..Header::new(MessageType::ERROR, stream, 0)
                .with_correlation(correlation)
                .with_flags(block.flag())
        };
        let (flags, retry_after_ms) = match failure.retry {
            Retry::No => (ErrorFlags::NONE, 0),
            Retry::After(wait) => (ErrorFlags::RETRYABLE, deadline_ms(wait)),
        };
        self.frame(header, |out| {
            block.append(out);
            ErrorPayload {
                flags,
                retry_after_ms,
                ..ErrorPayload::new(failure.code, failure.text)
            }
            .append(out);
        });
    }
}
