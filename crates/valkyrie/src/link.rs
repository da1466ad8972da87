//! The handle of a connection.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use valkyrie_frame::{Correlation, ErrorCode, StreamClass};
use valkyrie_session::{Event, Session};
use valkyrie_transport::PeerAddress;

use crate::clock;
use crate::error::{CallError, CloseReason};

/// What a connection tells its owner. Called on the shard, so it must not block.
pub trait Handler: 'static {
    /// Something happened. What is sent from here leaves at the end of the tick.
    fn event(&mut self, link: &Link, event: Event<'_>);

    /// The connection is over, after the last event. Also called when it never became ready.
    fn closed(&mut self, link: &Link, reason: &CloseReason) {
        let _ = (link, reason);
    }
}

/// Handle of a connection; cheap to clone, bound to its shard.
#[derive(Clone)]
pub struct Link {
    inner: Rc<Inner>,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its own name for itself; empty before the handshake, unproven in plaintext.
    pub node: String,
    /// Where its bytes come from.
    pub address: PeerAddress,
}

struct Inner {
    id: u64,
    session: RefCell<Session>,
    address: PeerAddress,
    calls: RefCell<HashMap<Correlation, oneshot::Sender<Answer>>>,
    /// Wakes the driver; `None` while it runs, since it looks at the session before it rests.
    waker: RefCell<Option<Waker>>,
    closed: RefCell<Option<CloseReason>>,
    closed_notify: Notify,
    abort: Cell<bool>,
}

type Answer = Result<Bytes, CallError>;

impl Link {
    pub(crate) fn new(session: Session, address: PeerAddress) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let inner = Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            session: RefCell::new(session),
            address,
            calls: RefCell::default(),
            waker: RefCell::default(),
            closed: RefCell::default(),
            closed_notify: Notify::new(),
            abort: Cell::new(false),
        };
        Self {
            inner: Rc::new(inner),
        }
    }

    /// Number of the connection, unique in this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        let session = self.inner.session.borrow();
        let node = session.agreement().map(|agreement| agreement.node.clone());
        Peer {
            node: node.unwrap_or_default(),
            address: self.inner.address.clone(),
        }
    }

    /// The session, for sending. What is sent leaves when the present task rests.
    ///
    /// # Panics
    /// When the guard of an earlier call is still alive.
    #[must_use]
    pub fn session(&self) -> SessionMut<'_> {
        let mut session = self.inner.session.borrow_mut();
        session.tick(clock::now());
        SessionMut {
            session,
            link: self,
        }
    }

    /// The session, for looking at.
    ///
    /// # Panics
    /// When a guard of [`session`](Self::session) is alive.
    #[must_use]
    pub fn look(&self) -> Ref<'_, Session> {
        self.inner.session.borrow()
    }

    /// Calls `method` on the channel of `class` and waits for the answer, at most `deadline`.
    /// The peer learns the deadline, and of the cancellation when the future is dropped.
    ///
    /// # Errors
    /// [`CallError`]: not sent, refused, late, or the connection ended.
    pub async fn call(
        &self,
        class: StreamClass,
        method: &str,
        body: &[u8],
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        if let Some(reason) = &*self.inner.closed.borrow() {
            return Err(CallError::Closed(reason.clone()));
        }
        let (answer, receive) = oneshot::channel();
        let call = self.session().call(class, method, body, Some(deadline))?;
        self.inner.calls.borrow_mut().insert(call, answer);
        let waiting = Waiting { link: self, call };
        let result = receive.await;
        drop(waiting);
        result.unwrap_or_else(|_dropped| Err(CallError::Closed(CloseReason::Lost)))
    }

    /// Starts the orderly end; what runs may end within `drain`.
    pub fn close(&self, code: ErrorCode, drain: Duration) {
        self.session().close(code, drain);
    }

    /// Ends the connection at once, without a word to the peer.
    pub fn abort(&self) {
        self.inner.abort.set(true);
        self.wake();
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.closed.borrow().is_some()
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> CloseReason {
        loop {
            let notified = self.inner.closed_notify.notified();
            if let Some(reason) = &*self.inner.closed.borrow() {
                return reason.clone();
            }
            notified.await;
        }
    }

    pub(crate) fn wants_abort(&self) -> bool {
        self.inner.abort.get()
    }

    /// The session for the driver, which needs no wake-up.
    pub(crate) fn session_in_tick(&self) -> RefMut<'_, Session> {
        self.inner.session.borrow_mut()
    }

    /// The driver begins to run, and needs no wake-up until it rests.
    pub(crate) fn begin_tick(&self) {
        self.inner.waker.borrow_mut().take();
    }

    /// The driver rests.
    pub(crate) fn end_tick(&self, waker: &Waker) {
        *self.inner.waker.borrow_mut() = Some(waker.clone());
    }

    /// Takes the answers to calls of [`call`](Self::call); gives every other event back.
    pub(crate) fn take_answer<'b>(&self, event: Event<'b>) -> Option<Event<'b>> {
        let (Event::Reply { call, .. } | Event::CallFailed { call, .. }) = &event else {
            return Some(event);
        };
        let Some(waiting) = self.inner.calls.borrow_mut().remove(call) else {
            return Some(event);
        };
        let answer = match event {
            Event::Reply { body, .. } => Ok(body.into_bytes()),
            Event::CallFailed {
                code, retry, text, ..
            } => Err(CallError::Refused {
                code,
                retry,
                text: text.into_owned(),
            }),
            _ => return None,
        };
        // The caller may have given up meanwhile.
        let _ = waiting.send(answer);
        None
    }

    /// Notes the end and fails what waits.
    pub(crate) fn end(&self, reason: &CloseReason) {
        *self.inner.closed.borrow_mut() = Some(reason.clone());
        let waiting = std::mem::take(&mut *self.inner.calls.borrow_mut());
        for (_, caller) in waiting {
            let _ = caller.send(Err(CallError::Closed(reason.clone())));
        }
        self.inner.closed_notify.notify_waiters();
    }

    fn wake(&self) {
        if let Some(waker) = self.inner.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.inner;
        f.debug_struct("Link")
            .field("id", &inner.id)
            .field("address", &inner.address)
            .finish()
    }
}

/// Withdraws a call whose caller has gone.
struct Waiting<'l> {
    link: &'l Link,
    call: Correlation,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self
            .link
            .inner
            .calls
            .borrow_mut()
            .remove(&self.call)
            .is_some()
        {
            self.link.session().cancel(self.call);
        }
    }
}

/// The session of a link; its driver is woken when the guard is dropped.
pub struct SessionMut<'l> {
    session: RefMut<'l, Session>,
    link: &'l Link,
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
