//! The handle of one connection.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use valkyrie_frame::{ErrorCode, StreamClass, Time};
use valkyrie_session::{Batch, Event, More, Payload, Role, Session};
use valkyrie_transport::{Connection, PeerAddress, TransportKind};

use crate::buffers;
use crate::calls::{CallError, Waiting};
use crate::clock;
use crate::error::CloseReason;
use crate::told::Told;

/// Takes what comes in on one connection.
///
/// Runs inline on the shard, between reading and writing, and therefore never blocks: slow work
/// belongs into a local task.
pub trait Handler: 'static {
    /// Something happened. The event borrows from the read buffer; copy what has to stay.
    fn event(&mut self, link: &Link, event: Event<'_>);

    /// Several small messages of one stream came at once. Unless it is written anew, each of them
    /// becomes an [`Event::Data`]; whoever takes them here saves most of what a message costs.
    fn batch(&mut self, link: &Link, batch: Batch<'_>) {
        let stream = batch.stream();
        for message in batch {
            let event = Event::Data {
                stream,
                bytes: Payload::Borrowed(message),
                more: More::No,
                envelope: None,
            };
            self.event(link, event);
        }
    }

    /// Has its turn in every tick of the connection, behind the events and before the write, for
    /// work of the handler's own; `cx` wakes the connection. Returns when it wants to be called
    /// again at the latest.
    fn poll(&mut self, link: &Link, cx: &mut Context<'_>) -> Option<Time> {
        let _ = (link, cx);
        None
    }

    /// The connection is over; nothing comes after this.
    fn closed(&mut self, link: &Link, reason: &CloseReason) {
        let _ = (link, reason);
    }
}

/// A connection on this shard. Clones are the same connection; it stays open without any.
#[derive(Clone)]
pub struct Link {
    inner: Rc<Inner>,
}

pub(crate) struct Inner {
    id: u64,
    session: RefCell<Session>,
    /// Nothing before the first call of this side.
    calls: RefCell<Option<Box<Waiting>>>,
    peer: RefCell<Peer>,
    /// Wakes the driver.
    waker: RefCell<Option<Waker>>,
    turn: Cell<Turn>,
    abort: Cell<Abort>,
    rare: RefCell<Option<Box<Rare>>>,
}

/// What most links do without for most of their lives.
#[derive(Default)]
struct Rare {
    /// Why the connection is over.
    closed: Option<CloseReason>,
    /// Wakes who waits for that.
    ended: Option<Rc<Notify>>,
    /// What the peer told about itself.
    told: Option<Told>,
    /// A transport to move to, for the driver.
    arrival: Option<Connection>,
}

/// Whether the owner wants the connection gone at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abort {
    No,
    Yes,
}

/// Whose turn it is, which decides who writes what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The driver runs and will write at the end of its tick.
    Driver,
    /// The driver sleeps and has to be woken.
    Others,
    /// The driver has been woken already.
    Dirty,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name for itself; empty before the connection is ready, unproven in plaintext.
    pub node: String,
    /// Its role; unproven in plaintext.
    pub role: Role,
    /// What the transport tells about it.
    pub address: PeerAddress,
}

impl Peer {
    /// The transport of the connection.
    #[must_use]
    pub const fn transport(&self) -> TransportKind {
        self.address.kind()
    }

    /// The user at the other end, where the transport proves it.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.address.uid()
    }
}

impl Link {
    pub(crate) fn new(session: Session, address: PeerAddress) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let peer = Peer {
            node: String::new(),
            role: Role::default(),
            address,
        };
        Self {
            inner: Rc::new(Inner {
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                session: RefCell::new(session),
                calls: RefCell::default(),
                peer: RefCell::new(peer),
                waker: RefCell::new(None),
                turn: Cell::new(Turn::Others),
                abort: Cell::new(Abort::No),
                rare: RefCell::default(),
            }),
        }
    }

    /// Names the connection in this process; the field `conn` of log events.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.inner.peer.borrow().clone()
    }

    /// The session, to send on. What is sent leaves when the guard is dropped and the present
    /// tick of the shard ends, in one write with everything else.
    ///
    /// # Panics
    /// If another guard of the same link is alive: keep it for one statement.
    #[must_use]
    pub fn session(&self) -> SessionMut<'_> {
        let mut session = self.inner.session.borrow_mut();
        // The clock is read once for all that is sent before the driver has its turn.
        if self.inner.turn.get() == Turn::Others {
            session.tick(clock::now());
            session.lend_buffer(buffers::take_write);
        }
        SessionMut {
            session,
            link: &self.inner,
        }
    }

    /// Calls `method` on the channel of `class` and waits for the answer.
    ///
    /// Dropping the future cancels the call at the peer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &self,
        class: StreamClass,
        method: &str,
        body: &[u8],
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        if let Some(reason) = self.close_reason() {
            return Err(CallError::Closed(reason));
        }
        let call = self.session().call(class, method, body, Some(deadline))?;
        self.answer(call).await.map(|answer| answer.body)
    }

    /// Starts the orderly end: nothing new is taken, what runs may end within `drain`.
    pub fn close(&self, code: ErrorCode, drain: Duration) {
        self.session().close(code, drain);
    }

    /// Ends the connection at once, without a word to the peer: what is not written is lost, as if
    /// the process had died.
    pub fn abort(&self) {
        self.inner.abort.set(Abort::Yes);
        self.inner.wake();
    }

    /// A handle that does not keep what the connection leaves behind.
    pub(crate) fn downgrade(&self) -> WeakLink {
        WeakLink {
            inner: Rc::downgrade(&self.inner),
        }
    }

    /// The session for a look at it; `None` while somebody sends on it.
    pub(crate) fn look(&self) -> Option<Ref<'_, Session>> {
        self.inner.session.try_borrow().ok()
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.inner.abort.get() == Abort::Yes
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.inner.is_open()
    }

    /// Why the connection is over; `None` while it is not.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        let rare = self.inner.rare.borrow();
        rare.as_ref()?.closed.clone()
    }

    /// Waits until the connection is over. Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        loop {
            let ended = self.inner.ended();
            let notified = ended.notified();
            if let Some(reason) = self.close_reason() {
                return reason;
            }
            notified.await;
        }
    }

    /// The calls of this side; `None` before the first.
    pub(crate) fn calls(&self) -> Option<RefMut<'_, Waiting>> {
        let calls = self.inner.calls.borrow_mut();
        RefMut::filter_map(calls, |calls| calls.as_deref_mut()).ok()
    }

    /// The same, for the first.
    pub(crate) fn calls_mut(&self) -> RefMut<'_, Waiting> {
        let calls = self.inner.calls.borrow_mut();
        RefMut::map(calls, |calls| calls.get_or_insert_default().as_mut())
    }

    pub(crate) fn from_inner(inner: Rc<Inner>) -> Self {
        Self { inner }
    }

    pub(crate) const fn inner(&self) -> &Rc<Inner> {
        &self.inner
    }

    /// What the peer has told and asked.
    pub(crate) fn told<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        let mut rare = self.inner.rare.borrow_mut();
        look(rare.get_or_insert_default().told.get_or_insert_default())
    }

    /// The same to the end: nothing is told any more.
    pub(crate) fn take_told(&self) -> Option<Told> {
        self.inner.rare.borrow_mut().as_mut()?.told.take()
    }

    /// A transport to move to is there.
    pub(crate) fn arrive(&self, connection: Connection) {
        let mut rare = self.inner.rare.borrow_mut();
        let before = rare.get_or_insert_default().arrival.replace(connection);
        drop(rare);
        drop(before);
        self.inner.wake();
    }

    /// Takes it, for the driver.
    pub(crate) fn take_arrival(&self) -> Option<Connection> {
        self.inner.rare.borrow_mut().as_mut()?.arrival.take()
    }

    pub(crate) fn set_address(&self, address: PeerAddress) {
        self.inner.peer.borrow_mut().address = address;
    }

    pub(crate) fn set_peer(&self, node: &str, role: Role) {
        let mut peer = self.inner.peer.borrow_mut();
        node.clone_into(&mut peer.node);
        peer.role = role;
    }

    /// The driver begins its tick.
    pub(crate) fn begin_tick(&self, waker: &Waker) {
        if self.inner.turn.replace(Turn::Driver) == Turn::Others {
            self.driver_session().lend_buffer(buffers::take_write);
        }
        let mut known = self.inner.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// The driver goes to sleep.
    pub(crate) fn end_tick(&self) {
        self.inner.turn.set(Turn::Others);
    }

    /// The session, for the driver, which needs no waking.
    pub(crate) fn driver_session(&self) -> RefMut<'_, Session> {
        self.inner.session.borrow_mut()
    }

    pub(crate) fn set_closed(&self, reason: &CloseReason) {
        self.inner.rare.borrow_mut().get_or_insert_default().closed = Some(reason.clone());
        self.inner.waker.borrow_mut().take();
        self.fail_calls(reason);
        let rare = self.inner.rare.borrow();
        let ended = rare.as_ref().and_then(|rare| rare.ended.clone());
        drop(rare);
        if let Some(ended) = ended {
            ended.notify_waiters();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("id", &self.inner.id)
            .field("peer", &self.inner.peer)
            .finish_non_exhaustive()
    }
}

/// A link that may be gone.
#[derive(Clone)]
pub(crate) struct WeakLink {
    inner: Weak<Inner>,
}

impl WeakLink {
    /// The link, unless its connection is over.
    pub(crate) fn upgrade(&self) -> Option<Link> {
        let inner = self.inner.upgrade()?;
        let link = Link { inner };
        (!link.is_closed()).then_some(link)
    }
}

/// Access to a link's session. Dropping it lets the driver write what was sent.
#[derive(Debug)]
pub struct SessionMut<'l> {
    session: RefMut<'l, Session>,
    link: &'l Inner,
}

impl Inner {
    /// Wakes when the connection is over.
    fn ended(&self) -> Rc<Notify> {
        let mut rare = self.rare.borrow_mut();
        let ended = &mut rare.get_or_insert_default().ended;
        Rc::clone(ended.get_or_insert_default())
    }

    /// Whether the connection is not over.
    pub(crate) fn is_open(&self) -> bool {
        let rare = self.rare.borrow();
        rare.as_ref().is_none_or(|rare| rare.closed.is_none())
    }

    /// Lets the driver run, once per tick however many messages are sent before it does.
    fn wake(&self) {
        if self.turn.get() == Turn::Others {
            self.turn.set(Turn::Dirty);
            if let Some(waker) = self.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Deref for SessionMut<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for SessionMut<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Drop for SessionMut<'_> {
    fn drop(&mut self) {
        self.link.wake();
    }
}
