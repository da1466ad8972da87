//! What a connection has begun and not ended.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;
use valkyrie_frame::{StreamId, Time};

use super::inbox::Inbox;
use super::status::Status;
use super::tasks::{Key, TaskId};

/// Something that runs: a call or message of the peer that could not be answered at once, or a
/// stream.
pub(crate) struct Work {
    pub(crate) task: Option<TaskId>,
    pub(crate) deadline: Option<Time>,
    pub(crate) stream: Option<OfStream>,
    /// Counts it among those that the server runs at once.
    pub(crate) permit: Option<Permit>,
}

/// What a stream has beside that.
pub(crate) struct OfStream {
    pub(crate) role: Role,
    pub(crate) inbox: Arc<Inbox>,
    /// The ERROR of the peer that goes before its end.
    pub(crate) told: Option<Status>,
    pub(crate) peer: Peer,
}

/// Which part of a call this side has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It opened the stream.
    Caller,
    /// It answers.
    Service,
}

/// Whether the peer's direction has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Sends,
    Ended,
}

/// Frees a place among those that run at once when it is dropped.
pub(crate) struct Permit(Rc<Cell<usize>>);

impl Permit {
    pub(crate) fn new(running: &Rc<Cell<usize>>) -> Self {
        running.set(running.get() + 1);
        Self(Rc::clone(running))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// All works of a connection. Borrowed for one look at a time, since what ends runs code of
/// handlers, which may begin the next.
#[derive(Default)]
pub(crate) struct Works {
    open: RefCell<HashMap<Key, Work, RandomState>>,
    /// No deadline is before this; it may be earlier than the earliest.
    earliest: Cell<Option<Time>>,
}

impl Works {
    pub(crate) fn insert(&self, key: Key, work: Work) {
        if let Some(deadline) = work.deadline {
            let earliest = self.earliest.get();
            self.earliest
                .set(Some(earliest.map_or(deadline, |at| at.min(deadline))));
        }
        self.open.borrow_mut().insert(key, work);
    }

    pub(crate) fn remove(&self, key: Key) -> Option<Work> {
        self.open.borrow_mut().remove(&key)
    }

    /// Looks at a work.
    pub(crate) fn with<T>(&self, key: Key, look: impl FnOnce(&mut Work) -> T) -> Option<T> {
        self.open.borrow_mut().get_mut(&key).map(look)
    }

    /// The inbox of a stream, if someone may read it.
    pub(crate) fn inbox(&self, stream: StreamId) -> Option<Arc<Inbox>> {
        let open = self.open.borrow();
        let work = open.get(&Key::Stream(stream))?;
        work.stream.as_ref().map(|of| Arc::clone(&of.inbox))
    }

    /// When a deadline has come, at the latest.
    pub(crate) fn earliest(&self) -> Option<Time> {
        self.earliest.get()
    }

    /// The works whose time is over; they have no deadline any more.
    ///
    /// Looks at all of them, but only when the earliest deadline has come: keeping them sorted
    /// would cost every call, and almost none runs into its deadline.
    pub(crate) fn expired(&self, now: Time) -> Vec<Key> {
        if self.earliest.get().is_none_or(|at| now < at) {
            return Vec::new();
        }
        let (mut over, mut earliest) = (Vec::new(), None::<Time>);
        for (key, work) in self.open.borrow_mut().iter_mut() {
            match work.deadline {
                Some(at) if at <= now => {
                    work.deadline = None;
                    over.push(*key);
                }
                Some(at) => earliest = Some(earliest.map_or(at, |known| known.min(at))),
                None => {}
            }
        }
        self.earliest.set(earliest);
        over
    }

    /// Takes everything: the connection is over.
    pub(crate) fn take_all(&self) -> HashMap<Key, Work, RandomState> {
        self.earliest.set(None);
        std::mem::take(&mut *self.open.borrow_mut())
    }
}
