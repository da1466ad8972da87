//! Moves the bytes of one connection and decides nothing.

mod end;
mod gather;

use std::future::Future;
use std::hint;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use telemetry::OpenConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::{spawn_local, yield_now};
use valkyrie_frame::limits::HEADER_BYTES;
use valkyrie_frame::{ErrorCode, Time};
use valkyrie_session::limits::TRANSMIT_BYTES;
use valkyrie_session::{Event, Resume, SessionError};
use valkyrie_transport::Connection;

use crate::buffers;
use crate::clock;
use crate::config::{LinkConfig, Reads};
use crate::error::CloseReason;
use crate::idle;
use crate::link::{Handler, Link};
use crate::meter::Meter;
use crate::pipes::Pipes;
use crate::timers::Deadline;
use crate::told::{self, Receivers};
use crate::upgrade::{self, Upgrade};
use gather::{Gather, Mark, Next};

/// Parts of one write: two for each payload that is shared with its owner.
const SLICES_MAX: usize = 16;

/// Reads in one tick before the shard's other tasks have their turn.
const READS_PER_TICK: u32 = 8;

/// How often a shard that spins looks for bytes before its other tasks and the kernel have their
/// turn: a few microseconds. Once where something was just read, which others may wait for.
const LOOKS_OF_A_SPIN: u32 = 200;

/// After this long without a byte a connection gives back what it can do without.
const QUIET: Duration = Duration::from_millis(100);

/// Bytes waiting for a slow peer at which nothing more is read from it. More than credit can ever
/// let through, so two honest peers cannot end up waiting for each other.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(crate) use end::Course;

type ReadySender = oneshot::Sender<Result<(), CloseReason>>;

/// One connection with its handler.
pub(crate) struct Driver<H> {
    link: Link,
    connection: Pipes,
    handler: H,
    settings: Rc<Settings>,
    gather: Gather,
    open: Option<Box<OpenConnection>>,
    /// Until the connection is ready.
    beginning: Option<Box<Beginning>>,
    /// The beginning of a frame whose rest has not come.
    carry: Vec<u8>,
    stalled_since: Option<Time>,
    /// When the handler wants its next turn.
    wake_at: Option<Time>,
    deadline: Deadline,
    /// When the connection will have been quiet for a while, unless something is moved before.
    quiet_at: Option<Time>,
    turn: Turn,
    /// Among those that are served at once.
    place: Option<OwnedSemaphorePermit>,
}

/// What is only known until the connection is ready.
struct Beginning {
    /// When it began.
    at: Time,
    /// Who waits for it.
    ready: Option<ReadySender>,
}

/// What the connections of one configuration share.
#[derive(Debug)]
pub(crate) struct Settings {
    meter: Option<Meter>,
    receivers: Receivers,
    upgrade: Upgrade,
    write_stall: Duration,
    reads: Reads,
}

impl Settings {
    pub(crate) fn of(config: &LinkConfig) -> Rc<Self> {
        Rc::new(Self {
            meter: config.meter.clone(),
            receivers: config.receivers.clone(),
            upgrade: config.upgrade,
            write_stall: config.write_stall,
            reads: config.reads,
        })
    }
}

/// What the transport waits for.
#[derive(Debug, Default)]
enum Turn {
    /// Nothing: bytes come and go.
    #[default]
    None,
    /// What was read to its end, to read on from another transport.
    Read,
    /// To be given to the link that has redeemed a token.
    Away(Box<(Link, Resume)>),
}

impl<H: Handler> Driver<H> {
    /// Boxed once, or it would lie in its task several times: wherever the future moves it to.
    pub(crate) fn new(
        link: Link,
        connection: Connection,
        handler: H,
        settings: Rc<Settings>,
    ) -> Box<Self> {
        Box::new(Self {
            link,
            connection: Pipes::new(connection),
            handler,
            settings,
            gather: Gather::default(),
            open: None,
            beginning: Some(Box::new(Beginning {
                at: clock::now(),
                ready: None,
            })),
            carry: Vec::new(),
            stalled_since: None,
            wake_at: None,
            deadline: Deadline::default(),
            quiet_at: None,
            turn: Turn::None,
            place: None,
        })
    }

    /// Tells `sender` when the connection is ready, or why it will not be.
    pub(crate) fn tell_ready(mut self: Box<Self>, sender: ReadySender) -> Box<Self> {
        if let Some(beginning) = &mut self.beginning {
            beginning.ready = Some(sender);
        }
        self
    }

    /// Keeps the place of the connection until it is over.
    pub(crate) fn hold(mut self: Box<Self>, place: Option<OwnedSemaphorePermit>) -> Box<Self> {
        self.place = place;
        self
    }

    /// Runs the connection to its end.
    pub(crate) const fn run(self: Box<Self>) -> Course<H> {
        Course::Runs(self)
    }

    /// One tick: read what is there, let the handler see it, write what came of it in one go.
    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.link.begin_tick(cx.waker());
        let result = self.tick(cx);
        self.link.end_tick();
        result
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if self.link.is_aborted() {
            return Poll::Ready(CloseReason::Aborted);
        }
        if let Some(arrival) = self.link.take_arrival() {
            self.connection.arrive(arrival);
        }
        let mut now = clock::now();
        self.check_timers(now);
        let mut reads = 0;
        loop {
            self.deliver_queued();
            self.wake_at = self.handler.poll(&self.link, cx);
            if let Poll::Ready(reason) = self.flush(cx, now) {
                return Poll::Ready(reason);
            }
            if self.link.driver_session().queued_bytes() > QUEUED_BYTES_MAX {
                break;
            }
            if reads == READS_PER_TICK {
                cx.waker().wake_by_ref();
                break;
            }
            if self.gathers(cx, now) {
                break;
            }
            let looks = if reads == 0 { LOOKS_OF_A_SPIN } else { 1 };
            match self.read_once(cx, now, looks) {
                Poll::Ready(Ok(())) => {
                    reads += 1;
                    self.quiet_at = Some(now + QUIET);
                    idle::note_read();
                }
                Poll::Ready(Err(reason)) => return self.over(cx, now, reason),
                Poll::Pending => break,
            }
            now = clock::now();
        }
        let mut session = self.link.driver_session();
        match &self.settings.meter {
            Some(meter) => {
                meter.collect(&mut session);
                meter.answered(&self.link.take_latencies());
            }
            None => {
                session.counters().take(|_| {}, |_| {});
                session.take_stream_counts(|_, _| {});
            }
        }
        session.reclaim_buffers(buffers::give_write);
        drop(session);
        self.arm(cx, now)
    }

    /// Reads once into the shard's buffer and handles what came.
    fn read_once(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        looks: u32,
    ) -> Poll<Result<(), CloseReason>> {
        let mut buffer = buffers::take_read();
        let result = match self.poll_bytes(cx, &mut buffer, looks) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(CloseReason::Io(Arc::new(error)))),
            Poll::Ready(Ok(0)) => Poll::Ready(Err(self.ended())),
            Poll::Ready(Ok(count)) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                Poll::Ready(self.take_bytes(cx, now, bytes))
            }
        };
        buffers::give_read(buffer);
        result
    }

    /// Bytes that were read; 0 is the end.
    fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        looks: u32,
    ) -> Poll<io::Result<usize>> {
        if idle::is_spinning()
            && let Some(polled) = self.look(cx, buffer, looks)
        {
            return polled;
        }
        let mut space = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.connection).poll_read(cx, &mut space))?;
        Poll::Ready(Ok(space.filled().len()))
    }

    /// Looks for bytes that come without the kernel, while the shard spins anyway: the peer then
    /// rings no bell. `None` where they do not come like that.
    fn look(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        looks: u32,
    ) -> Option<Poll<io::Result<usize>>> {
        for _ in 0..looks {
            match self.connection.look(buffer)? {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => hint::spin_loop(),
                read => return Some(Poll::Ready(read)),
            }
        }
        // Comes back when the sockets of the shard have been looked at.
        let again = pin!(yield_now()).poll(cx);
        debug_assert!(again.is_pending());
        Some(Poll::Pending)
    }

    /// Whether to leave what is there for a moment: the rest of a long frame, where reads are
    /// gathered, is about to come.
    fn gathers(&mut self, cx: &Context<'_>, now: Time) -> bool {
        if self.settings.reads == Reads::Soon {
            return false;
        }
        let expected = self.link.driver_session().expected_bytes();
        let connection = &mut self.connection;
        let readable = || connection.readable_bytes();
        match self.gather.next(expected, readable, now) {
            Next::Look => {
                cx.waker().wake_by_ref();
                return true;
            }
            Next::Read(Mark::Is(bytes)) => self.connection.set_read_low_water(bytes),
            Next::Read(Mark::AtMost(bytes)) => self.connection.lower_read_low_water(bytes),
        }
        false
    }

    /// Why the bytes of the peer have ended.
    fn ended(&self) -> CloseReason {
        let session = self.link.driver_session();
        match session.failure() {
            Some(failure) => CloseReason::Session(failure.clone()),
            None if session.peer_closed() => CloseReason::Closed,
            None => CloseReason::Lost,
        }
    }

    /// Handles bytes in place. Of a frame that lies across two reads, only that frame is copied.
    fn take_bytes(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        mut input: &[u8],
    ) -> Result<(), CloseReason> {
        while !self.carry.is_empty() && !input.is_empty() {
            let count = missing(&self.carry).min(input.len());
            let (head, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
            self.carry.extend_from_slice(head);
            input = rest;
            let carry = std::mem::take(&mut self.carry);
            let mut view = carry.as_slice();
            self.feed(cx, now, &mut view)?;
            if !view.is_empty() {
                self.carry = carry;
            }
        }
        self.feed(cx, now, &mut input)?;
        self.carry.extend_from_slice(input);
        self.change_transport()
    }

    /// Does what an event asked for that is about the transport itself, now that all that was read
    /// is handled.
    fn change_transport(&mut self) -> Result<(), CloseReason> {
        match std::mem::take(&mut self.turn) {
            Turn::None => Ok(()),
            Turn::Read => {
                // Half a frame behind the peer's last one is never made whole.
                let whole = self.carry.is_empty();
                let turned = self.connection.turn_read();
                turned.ok().filter(|()| whole).ok_or(CloseReason::Lost)?;
                self.link.driver_session().reads_on_new();
                Ok(())
            }
            away @ Turn::Away(..) => {
                self.turn = away;
                Err(CloseReason::Moved)
            }
        }
    }

    /// Lets the session take whole frames off `input` and the handler see their events.
    fn feed(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        input: &mut &[u8],
    ) -> Result<(), CloseReason> {
        if input.is_empty() {
            return Ok(());
        }
        loop {
            let batch = self.link.driver_session().read_batch(now, input);
            if let Some(batch) = batch {
                self.handler.batch(&self.link, batch);
            }
            let next = self.link.driver_session().read(now, input);
            match next {
                Ok(Some(event)) => self.dispatch(event),
                Ok(None) => return Ok(()),
                Err(error) => return Err(CloseReason::Session(error)),
            }
            if self.link.is_aborted() {
                return Err(CloseReason::Aborted);
            }
            // Whoever makes a whole write's worth in one tick does not wait for its end.
            if self.link.driver_session().queued_bytes() >= TRANSMIT_BYTES
                && let Poll::Ready(reason) = self.flush(cx, now)
            {
                return Err(reason);
            }
        }
    }

    /// Events that came of timeouts and of the application's own calls.
    fn deliver_queued(&mut self) {
        loop {
            let event = self.link.driver_session().poll_event();
            let Some(event) = event else { return };
            self.dispatch(event);
        }
    }

    fn dispatch(&mut self, event: Event<'_>) {
        let Some(event) = self.link.take_answer(event) else {
            return;
        };
        let settings = &self.settings;
        let meter = settings.meter.as_ref();
        let Some(event) = told::take(&self.link, &settings.receivers, meter, event) else {
            return;
        };
        let Some(event) = self.take_transport(event) else {
            return;
        };
        if let Event::Ready(agreement) = &event {
            self.link.set_peer(&agreement.node, agreement.role);
            let beginning = self.beginning.take();
            let began = beginning
                .as_ref()
                .map_or(Time::ZERO, |beginning| beginning.at);
            let elapsed = clock::now().saturating_since(began);
            let kind = self.connection.kind();
            let meter = self.settings.meter.as_ref();
            self.open = meter.map(|meter| {
                let session = self.link.driver_session();
                Box::new(meter.ready(kind, agreement.mode, elapsed, session.limits()))
            });
            self.handler.event(&self.link, event);
            if let Some(sender) = beginning.and_then(|beginning| beginning.ready) {
                drop(sender.send(Ok(())));
            }
            return;
        }
        self.handler.event(&self.link, event);
    }

    /// Takes what is about the transport out of the events.
    fn take_transport<'b>(&mut self, event: Event<'b>) -> Option<Event<'b>> {
        match event {
            Event::PeerLeft => self.turn = Turn::Read,
            Event::Resume(resume) => match upgrade::redeem(&resume) {
                Some(link) => self.turn = Turn::Away(Box::new((link, resume))),
                None => self.link.driver_session().refuse_resume(),
            },
            Event::UpgradeOffered {
                endpoint,
                token,
                valid,
            } => match self.settings.upgrade {
                Upgrade::Take => {
                    spawn_local(upgrade::take(self.link.clone(), endpoint, token, valid));
                }
                Upgrade::Never | Upgrade::Offer => {
                    let text = "this side chooses its transports itself";
                    let mut session = self.link.driver_session();
                    session.decline_upgrade(ErrorCode::DENIED, text);
                }
            },
            Event::Moved => {
                self.link.set_address(self.connection.peer().clone());
                if let (Some(meter), Some(open)) = (&self.settings.meter, &mut self.open) {
                    meter.moved(open, self.connection.kind());
                }
                return Some(Event::Moved);
            }
            Event::Rtt { rtt } => {
                if let Some(meter) = &self.settings.meter {
                    meter.pinged(rtt);
                }
                return Some(Event::Rtt { rtt });
            }
            other => return Some(other),
        }
        None
    }

    /// Writes until nothing waits or the transport is full. Ready when the connection is over.
    fn flush(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<CloseReason> {
        loop {
            let mut session = self.link.driver_session();
            if session.prepare(now) == 0 {
                drop(session);
                self.stalled_since = None;
                return self.check_finished();
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = session.slices(&mut slices);
            let connection = Pin::new(&mut self.connection);
            let polled = match slices.get(..used).unwrap_or_default() {
                [one] => connection.poll_write(cx, one),
                many => connection.poll_write_vectored(cx, many),
            };
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(CloseReason::Lost),
                Poll::Ready(Ok(count)) => {
                    session.written(count);
                    self.stalled_since = None;
                    self.quiet_at = Some(now + QUIET);
                    if session.has_left() {
                        if self.connection.turn_write().is_err() {
                            return Poll::Ready(CloseReason::Lost);
                        }
                        session.sends_on_new();
                        // It may have an event about that.
                        cx.waker().wake_by_ref();
                    }
                }
                Poll::Ready(Err(error)) => {
                    drop(session);
                    return Poll::Ready(self.write_failed(error));
                }
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    return Poll::Pending;
                }
            }
        }
    }

    fn write_failed(&self, error: io::Error) -> CloseReason {
        match self.ended() {
            CloseReason::Lost => CloseReason::Io(Arc::new(error)),
            other => other,
        }
    }

    fn check_finished(&self) -> Poll<CloseReason> {
        let session = self.link.driver_session();
        if !session.is_finished() {
            return Poll::Pending;
        }
        Poll::Ready(match session.failure() {
            Some(failure) => CloseReason::Session(failure.clone()),
            None => CloseReason::Closed,
        })
    }

    /// The session is over; an ERROR may wait to be written.
    fn over(&mut self, cx: &mut Context<'_>, now: Time, reason: CloseReason) -> Poll<CloseReason> {
        if !matches!(reason, CloseReason::Session(SessionError::Violation(_))) {
            return Poll::Ready(reason);
        }
        match self.flush(cx, now) {
            // The transport is full: the peer does not read, so it will not read this either.
            Poll::Pending => Poll::Ready(reason),
            Poll::Ready(reason) => Poll::Ready(reason),
        }
    }

    fn check_timers(&mut self, now: Time) {
        let mut session = self.link.driver_session();
        if session.poll_timeout().is_some_and(|at| at <= now) {
            session.handle_timeout(now);
        }
        if self.quiet_at.is_some_and(|at| at <= now) {
            session.reclaim_buffers(buffers::give_write);
            session.release_buffers();
            self.quiet_at = None;
        }
    }

    /// Waits for the next deadline.
    fn arm(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<CloseReason> {
        let stall = self
            .stalled_since
            .map(|since| since + self.settings.write_stall);
        if stall.is_some_and(|at| at <= now) {
            return Poll::Ready(CloseReason::WriteStalled);
        }
        let session = self.link.driver_session().poll_timeout();
        let gathers = self.gather.deadline(now);
        let deadlines = [stall, session, self.quiet_at, self.wake_at, gathers];
        let Some(at) = deadlines.into_iter().flatten().min() else {
            return Poll::Pending;
        };
        if at <= now {
            // Come again at once.
            cx.waker().wake_by_ref();
        } else {
            self.deadline.arm(at, now, cx.waker());
        }
        Poll::Pending
    }
}

/// Bytes that a frame beginning with `carry` lacks, or its header, while that is not whole.
fn missing(carry: &[u8]) -> usize {
    match carry.get(12..16).and_then(<[u8]>::first_chunk::<4>) {
        Some(length) if carry.len() >= HEADER_BYTES => {
            let whole = HEADER_BYTES + u32::from_be_bytes(*length) as usize;
            whole.saturating_sub(carry.len())
        }
        _ => HEADER_BYTES - carry.len().min(HEADER_BYTES),
    }
}
