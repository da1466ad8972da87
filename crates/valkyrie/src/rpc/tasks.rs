//! The futures of a connection that could not end at once.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use valkyrie_frame::{Correlation, StreamId};

use super::bell::{Bell, SlotWaker};

type Job = Pin<Box<dyn Future<Output = ()>>>;

/// A slab of futures. Each has a waker that leaves a note with the connection, so a thousand
/// sleeping futures cost a tick nothing.
pub(crate) struct Tasks {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    bell: Arc<Bell>,
}

struct Slot {
    key: Key,
    job: Option<Job>,
    waker: Waker,
    noted: Arc<SlotWaker>,
    /// Counts the users of the slot, so that one who ended is not taken for the next.
    user: u32,
}

/// Names a future for as long as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskId {
    slot: u32,
    user: u32,
}

/// What a future works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A call of the peer.
    Call(Correlation),
    /// A message of the peer, by a number of this side.
    Message(u32),
    /// A stream.
    Stream(StreamId),
}

/// What became of a future that was given a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It goes on later, or is gone already.
    Waits,
    /// It has ended.
    Ended(Key),
    /// It panicked.
    Panicked(Key),
}

impl Tasks {
    pub(crate) fn new(bell: Arc<Bell>) -> Self {
        Self {
            slots: RefCell::default(),
            free: RefCell::default(),
            bell,
        }
    }

    /// Adds a future; it has its first turn with the next note.
    pub(crate) fn insert(&self, key: Key, job: Job) -> TaskId {
        let mut slots = self.slots.borrow_mut();
        let number = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let number = u32::try_from(slots.len()).expect("fewer than a connection's streams");
            let noted = Arc::new(SlotWaker {
                bell: Arc::clone(&self.bell),
                slot: number,
                noted: AtomicBool::new(false),
            });
            let waker = Waker::from(Arc::clone(&noted));
            slots.push(Slot {
                key,
                job: None,
                waker,
                noted,
                user: 0,
            });
            number
        });
        let slot = slots
            .get_mut(number as usize)
            .expect("the slot was just found");
        slot.key = key;
        slot.job = Some(job);
        slot.waker.wake_by_ref();
        TaskId {
            slot: number,
            user: slot.user,
        }
    }

    /// Lets a future go on; nothing happens if it has ended.
    pub(crate) fn wake(&self, id: TaskId) {
        let slots = self.slots.borrow();
        if let Some(slot) = slots.get(id.slot as usize)
            && slot.user == id.user
        {
            slot.waker.wake_by_ref();
        }
    }

    /// Drops a future; nothing happens if it has ended.
    pub(crate) fn cancel(&self, id: TaskId) {
        let job = self.free_slot(id);
        // The future's own code runs here, with nothing borrowed.
        drop(job);
    }

    /// Gives the future of a slot its turn.
    pub(crate) fn turn(&self, number: u32) -> Turn {
        let Some((mut job, waker, key, id)) = self.take(number) else {
            return Turn::Waits;
        };
        let mut context = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => {
                self.put_back(id, job);
                Turn::Waits
            }
            Ok(Poll::Ready(())) => {
                self.free_slot(id);
                Turn::Ended(key)
            }
            Err(_) => {
                self.free_slot(id);
                Turn::Panicked(key)
            }
        }
    }

    fn take(&self, number: u32) -> Option<(Job, Waker, Key, TaskId)> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(number as usize)?;
        slot.noted.noted.store(false, Ordering::Release);
        let id = TaskId {
            slot: number,
            user: slot.user,
        };
        Some((slot.job.take()?, slot.waker.clone(), slot.key, id))
    }

    /// Unless it was canceled in its own turn.
    fn put_back(&self, id: TaskId, job: Job) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(id.slot as usize)
            && slot.user == id.user
        {
            slot.job = Some(job);
        }
    }

    fn free_slot(&self, id: TaskId) -> Option<Job> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(id.slot as usize)?;
        if slot.user != id.user {
            return None;
        }
        slot.user = slot.user.wrapping_add(1);
        self.free.borrow_mut().push(id.slot);
        slot.job.take()
    }

    /// Drops all futures.
    pub(crate) fn clear(&self) {
        let slots = std::mem::take(&mut *self.slots.borrow_mut());
        self.free.borrow_mut().clear();
        drop(slots);
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, free) = (self.slots.borrow().len(), self.free.borrow().len());
        write!(f, "Tasks({})", all - free)
    }
}
