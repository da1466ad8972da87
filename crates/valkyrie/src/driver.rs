//! Moves bytes between a transport and a session, and events to a handler. Decides nothing.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use telemetry::{FrameTally, OpenConnection, Received, ValkyrieMetrics};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep_until};
use valkyrie_frame::{Priority, Time};
use valkyrie_session::{Event, Origin, Way};
use valkyrie_transport::Connection;

use crate::buffers;
use crate::clock;
use crate::error::CloseReason;
use crate::link::{Handler, Link};

/// Encoded bytes that are written without waiting for the end of the tick.
const FLUSH_BYTES: usize = 64 * 1024;
/// While more than this is encoded and the peer does not take it, nothing is read from it.
const BACKLOG_BYTES_MAX: usize = 1024 * 1024;
/// Reads of one connection before the others of the shard have their turn.
const READS_PER_TICK: u32 = 8;
/// Sent bytes that are not taken for this long end the connection.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// Where the connections of one listener are counted.
pub(crate) struct Meter {
    pub(crate) metrics: ValkyrieMetrics,
    pub(crate) tally: RefCell<FrameTally>,
}

pub(crate) struct Driver<H> {
    io: Connection,
    link: Link,
    handler: H,
    meter: Option<Rc<Meter>>,
    open: Option<OpenConnection>,
    ready: Option<oneshot::Sender<()>>,
    started: Time,
    /// The beginning of a frame whose rest has not come.
    carry: Vec<u8>,
    /// Bytes being written, and how many of them are.
    out: Vec<u8>,
    written: usize,
    stalled: Option<Time>,
    timer: Option<(Time, Pin<Box<Sleep>>)>,
    eof: bool,
}

impl<H: Handler> Driver<H> {
    pub(crate) fn new(
        io: Connection,
        link: Link,
        handler: H,
        meter: Option<Rc<Meter>>,
        ready: Option<oneshot::Sender<()>>,
    ) -> Self {
        Self {
            io,
            link,
            handler,
            meter,
            open: None,
            ready,
            started: clock::now(),
            carry: Vec::new(),
            out: Vec::new(),
            written: 0,
            stalled: None,
            timer: None,
            eof: false,
        }
    }

    /// Drives the connection to its end.
    pub(crate) async fn run(mut self) {
        tracing::debug!(conn = self.link.id(), peer = %self.io.peer(), "connection begins");
        let reason = poll_fn(|cx| self.tick(cx)).await;
        self.count();
        if let Some(meter) = &self.meter {
            meter.metrics.disconnected(reason.word());
        }
        tracing::debug!(conn = self.link.id(), %reason, "connection ended");
        self.link.end(&reason);
        // Whoever waits in `connect` must find the reason when `ready` is dropped.
        self.ready = None;
        self.handler.closed(&self.link, &reason);
    }

    /// One turn: read what is there, do what time asks for, write what there is to say.
    fn tick(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.link.begin_tick();
        let result = self.turn(cx);
        if result.is_pending() {
            self.count();
            self.link.end_tick(cx.waker());
        }
        result
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if self.link.wants_abort() {
            return Poll::Ready(CloseReason::Done);
        }
        if let Err(reason) = self.poll_io(cx) {
            return Poll::Ready(reason);
        }
        loop {
            if self.link.session_in_tick().is_finished() && self.written == self.out.len() {
                return Poll::Ready(self.end_reason());
            }
            if self.eof && self.link.session_in_tick().failure().is_none() {
                return Poll::Ready(self.end_reason());
            }
            ready!(self.poll_timer(cx));
            if let Err(reason) = self.on_timeout().and_then(|()| self.flush(cx)) {
                return Poll::Ready(reason);
            }
        }
    }

    /// Reads and handles until nothing is left or others should have their turn.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        self.deliver_waiting();
        for _ in 0..READS_PER_TICK {
            self.flush(cx)?;
            let backlog = self.link.session_in_tick().queued_bytes();
            if self.eof || (backlog > BACKLOG_BYTES_MAX && self.written < self.out.len()) {
                return Ok(());
            }
            match self.read(cx)? {
                Poll::Pending => return self.flush(cx),
                Poll::Ready(()) => {}
            }
        }
        cx.waker().wake_by_ref();
        self.flush(cx)
    }

    /// One read into the shard's buffer, behind what was carried over, and all events in it.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, CloseReason> {
        let mut buffer = buffers::take_read();
        let result = self.read_into(cx, &mut buffer);
        buffers::give_read(buffer);
        result
    }

    fn read_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Result<Poll<()>, CloseReason> {
        let mut space = ReadBuf::new(buffer);
        space.put_slice(&self.carry);
        match Pin::new(&mut self.io).poll_read(cx, &mut space) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Err(error)) => return Err(CloseReason::Io(error.to_string())),
            Poll::Ready(Ok(())) => {}
        }
        if space.filled().len() == self.carry.len() {
            self.eof = true;
            return Ok(Poll::Pending);
        }
        let mut input: &[u8] = space.filled();
        self.handle(&mut input, cx)?;
        self.carry.clear();
        self.carry.extend_from_slice(input);
        if self.carry.is_empty() {
            self.carry = Vec::new();
        }
        Ok(Poll::Ready(()))
    }

    /// Gives the handler every event of `input`; leaves the partial frame in it.
    fn handle(&mut self, input: &mut &[u8], cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            let event = self.link.session_in_tick().read(clock::now(), input);
            match event {
                Ok(None) => return Ok(()),
                Ok(Some(event)) => self.deliver(event),
                Err(_failure) => {
                    // The session keeps the reason; the ERROR it has queued is still written.
                    *input = &[];
                    return Ok(());
                }
            }
            if self.link.session_in_tick().queued_bytes() >= FLUSH_BYTES {
                self.flush(cx)?;
            }
        }
    }

    fn deliver(&mut self, event: Event<'_>) {
        if let Event::Ready(agreement) = &event {
            if let Some(meter) = &self.meter {
                let handshake = clock::now().saturating_since(self.started);
                let transport = self.io.kind().name();
                self.open = Some(
                    meter
                        .metrics
                        .connection(transport, agreement.mode, handshake),
                );
            }
            if let Some(ready) = self.ready.take() {
                // Nobody waits any more when `connect` was dropped.
                let _ = ready.send(());
            }
        }
        if let Some(event) = self.link.take_answer(event) {
            self.handler.event(&self.link, event);
        }
    }

    /// Writes until nothing is left or the peer takes no more.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            if self.written == self.out.len() && !self.refill() {
                self.stalled = None;
                return Ok(());
            }
            let rest = self.out.get(self.written..).unwrap_or_default();
            match Pin::new(&mut self.io).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(self.write_failed("the transport takes nothing")),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.stalled = None;
                }
                Poll::Ready(Err(error)) => return Err(self.write_failed(&error.to_string())),
                Poll::Pending => {
                    self.stalled
                        .get_or_insert_with(|| clock::now() + WRITE_STALL);
                    return Ok(());
                }
            }
        }
    }

    /// Takes the next encoded frames; false when there are none, and no buffer is held then.
    fn refill(&mut self) -> bool {
        self.written = 0;
        if self.out.capacity() == 0 {
            self.out = buffers::take_write();
        }
        self.out.clear();
        if self
            .link
            .session_in_tick()
            .transmit(clock::now(), &mut self.out)
            > 0
        {
            return true;
        }
        buffers::give_write(std::mem::take(&mut self.out));
        false
    }

    /// The peer may have said why it went before the write found out.
    fn write_failed(&self, error: &str) -> CloseReason {
        match self.link.session_in_tick().failure() {
            Some(failure) => CloseReason::Session(failure.clone()),
            None => CloseReason::Io(error.to_owned()),
        }
    }

    /// Ready when a deadline has come.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let session = self.link.session_in_tick().poll_timeout();
        let Some(deadline) = [session, self.stalled].into_iter().flatten().min() else {
            return Poll::Pending;
        };
        // A timer that is early costs one wake-up; moving it with every frame would cost more.
        let armed = self.timer.as_ref().map(|(time, _)| *time);
        if armed.is_none_or(|time| time > deadline) {
            self.timer = Some((
                deadline,
                Box::pin(sleep_until(clock::instant(deadline).into())),
            ));
        }
        let Some((_, timer)) = &mut self.timer else {
            return Poll::Pending;
        };
        ready!(timer.as_mut().poll(cx));
        self.timer = None;
        Poll::Ready(())
    }

    fn on_timeout(&mut self) -> Result<(), CloseReason> {
        let now = clock::now();
        if self.stalled.is_some_and(|deadline| now >= deadline) {
            return Err(CloseReason::Stalled(WRITE_STALL));
        }
        self.link.session_in_tick().handle_timeout(now);
        self.deliver_waiting();
        Ok(())
    }

    /// Events that no input made: of calls that failed at once, of deadlines.
    fn deliver_waiting(&mut self) {
        loop {
            let event = self.link.session_in_tick().poll_event();
            match event {
                Some(event) => self.deliver(event),
                None => return,
            }
        }
    }

    fn end_reason(&self) -> CloseReason {
        let session = self.link.session_in_tick();
        match session.failure() {
            Some(failure) => CloseReason::Session(failure.clone()),
            None if session.is_closing() => CloseReason::Done,
            None => CloseReason::Lost,
        }
    }

    /// Moves what the session counted to the metrics, once per tick.
    fn count(&self) {
        let mut session = self.link.session_in_tick();
        let counters = session.counters();
        let Some(meter) = &self.meter else {
            counters.take_notes(|_| {}, |_| {});
            return;
        };
        let mut tally = meter.tally.borrow_mut();
        let frame = |note: valkyrie_session::FrameNote| match note.way {
            Way::Sent => tally.sent(note.kind, Priority::NORMAL, note.bytes),
            Way::Received => tally.received(note.kind, Received::Success, note.bytes),
            Way::Skipped => tally.received(note.kind, Received::Skipped, note.bytes),
        };
        counters.take_notes(frame, |note| {
            if note.origin == Origin::Local {
                meter.metrics.error(note.code);
            }
        });
        tally.flush();
    }
}
