//! Messages for the clients of a thread.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::Kind;
use super::roster::Target;

/// Messages on their way to the clients of a thread, and the bell that wakes it.
#[derive(Debug)]
pub(crate) struct Post {
    wake: OwnedFd,
    /// Whether there is mail, for the thread to look at without a lock.
    has_mail: AtomicBool,
    mail: Mutex<Mail>,
    bytes_max: usize,
}

/// What was left for a thread.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    pub(crate) parcels: Vec<Parcel>,
    /// Clients for whom there was no room, so that they missed something.
    pub(crate) missed: HashSet<Target>,
    bytes: usize,
}

/// A message for some clients.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) kind: Kind,
    /// What they asked for.
    pub(crate) name: Arc<[u8]>,
    pub(crate) targets: Arc<Vec<Target>>,
    /// A client that does not get it; 0 is none.
    pub(crate) except: u64,
    /// The message without its first byte, which the version of the protocol decides.
    pub(crate) bytes: Arc<[u8]>,
}

impl Post {
    /// One that takes so many bytes before its thread looks.
    pub(crate) fn new(bytes_max: usize) -> Result<Self, Errno> {
        Ok(Self {
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            has_mail: AtomicBool::new(false),
            mail: Mutex::default(),
            bytes_max,
        })
    }

    /// Wakes the thread.
    pub(crate) fn ring(&self) {
        // It is full only while the thread has not looked at all that rang before.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Ends the ringing.
    pub(crate) fn answer(&self) {
        let mut count = [0; 8];
        // Nothing to read is as good.
        let _ = rustix::io::read(&self.wake, &mut count);
    }

    /// Leaves a message; rings for the first only.
    pub(super) fn leave(&self, parcel: Parcel) {
        let mut mail = self.lock();
        mail.bytes += parcel.bytes.len() + size_of::<Parcel>();
        if mail.bytes > self.bytes_max {
            let is_meant = |target: &&Target| target.id != parcel.except;
            let missed = parcel.targets.iter().filter(is_meant).copied();
            mail.missed.extend(missed);
        } else {
            mail.parcels.push(parcel);
        }
        let is_first = !self.has_mail.swap(true, Ordering::Release);
        drop(mail);
        if is_first {
            self.ring();
        }
    }

    /// Whether there is mail.
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// Takes all mail, where there is some.
    #[inline]
    pub(crate) fn collect(&self) -> Option<Mail> {
        if !self.has_mail() {
            return None;
        }
        let mut mail = self.lock();
        self.has_mail.store(false, Ordering::Release);
        Some(std::mem::take(&mut mail))
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Post {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
