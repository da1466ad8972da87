//! What the rest of the process tells a connection.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use valkyrie_frame::StreamId;

/// Something that a connection has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// A future of this slot can go on.
    Task(u32),
    /// A reader took messages; their credit can go back.
    Taken(StreamId),
    /// A reader wants no more messages.
    Dropped(StreamId),
}

/// Collects notes from any thread and wakes the connection's driver once for many of them.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    notes: Mutex<Notes>,
    /// The driver runs and will look at the notes before it sleeps.
    busy: AtomicBool,
}

#[derive(Debug, Default)]
struct Notes {
    waiting: Vec<Note>,
    driver: Option<Waker>,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Notes> {
        // No code of others runs under the lock, so what it guards is whole.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a note.
    pub(crate) fn ring(&self, note: Note) {
        let mut notes = self.lock();
        notes.waiting.push(note);
        // Looked at under the lock, so that a driver which just found no note is woken.
        let driver = match self.busy.load(Ordering::Relaxed) {
            true => None,
            false => notes.driver.take(),
        };
        drop(notes);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// The driver runs.
    pub(crate) fn begin(&self) {
        self.busy.store(true, Ordering::Relaxed);
    }

    /// Takes the notes into `into`, which is empty; false, and the driver may sleep, when there
    /// are none.
    pub(crate) fn take(&self, into: &mut Vec<Note>, driver: &Waker) -> bool {
        let mut notes = self.lock();
        if notes.waiting.is_empty() {
            self.busy.store(false, Ordering::Relaxed);
            if !notes
                .driver
                .as_ref()
                .is_some_and(|known| known.will_wake(driver))
            {
                notes.driver = Some(driver.clone());
            }
            return false;
        }
        mem::swap(&mut notes.waiting, into);
        true
    }
}

/// Wakes the future of one slot.
pub(crate) struct SlotWaker {
    pub(crate) bell: Arc<Bell>,
    pub(crate) slot: u32,
    /// Whether its note waits already.
    pub(crate) noted: AtomicBool,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.noted.swap(true, Ordering::AcqRel) {
            self.bell.ring(Note::Task(self.slot));
        }
    }
}
