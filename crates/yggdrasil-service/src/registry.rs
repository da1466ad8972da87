//! All clients, for those who ask about them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{Shutdown, shutdown};

use crate::acl::DEFAULT;
use crate::clock::Moment;
use crate::command::name_of;

/// Every client that is connected.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    next: AtomicU64,
    count: AtomicUsize,
    clients: Mutex<BTreeMap<u64, Arc<ClientInfo>>>,
}

/// What others may know of a client.
#[derive(Debug)]
pub(crate) struct ClientInfo {
    pub(crate) id: u64,
    pub(crate) address: String,
    local: String,
    since: Moment,
    socket: Arc<OwnedFd>,
    /// When it last asked something, in milliseconds, and the number of the command.
    last_ms: AtomicU64,
    last_command: AtomicU16,
    said: Mutex<Said>,
}

/// What a client says of itself.
#[derive(Debug, Default, Clone)]
pub(crate) struct Said {
    /// Its user; empty until it has said one.
    pub(crate) user: String,
    pub(crate) name: String,
    pub(crate) library: String,
    pub(crate) library_version: String,
}

impl Registry {
    pub(crate) fn add(
        &self,
        socket: &Arc<OwnedFd>,
        address: String,
        local: String,
        now: Moment,
    ) -> Arc<ClientInfo> {
        let info = Arc::new(ClientInfo {
            id: self.next.fetch_add(1, Ordering::Relaxed) + 1,
            address,
            local,
            since: now,
            socket: Arc::clone(socket),
            last_ms: AtomicU64::new(now.ms()),
            last_command: AtomicU16::new(u16::MAX),
            said: Mutex::default(),
        });
        self.lock().insert(info.id, Arc::clone(&info));
        self.count.fetch_add(1, Ordering::Relaxed);
        info
    }

    pub(crate) fn remove(&self, id: u64) {
        if self.lock().remove(&id).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ClientInfo>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientInfo {
    pub(crate) fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn used(&self, command: u16, now: Moment) {
        self.last_ms.store(now.ms(), Ordering::Relaxed);
        self.last_command.store(command, Ordering::Relaxed);
    }

    /// Ends its connection; its thread sees that soon.
    pub(crate) fn kill(&self) {
        // It may have ended by itself.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// A line of `CLIENT LIST`.
    pub(crate) fn line(&self, now: Moment) -> String {
        let said = self.said().clone();
        let last_ms = self.last_ms.load(Ordering::Relaxed);
        let command = name_of(self.last_command.load(Ordering::Relaxed)).to_ascii_lowercase();
        let mut line = format!("id={} addr={} laddr={}", self.id, self.address, self.local);
        let age = now.ms().saturating_sub(self.since.ms()) / 1000;
        let idle = now.ms().saturating_sub(last_ms) / 1000;
        // Writing to a string does not fail.
        let _ = write!(
            line,
            " name={} age={age} idle={idle} flags=N db=0 cmd={} user={} lib-name={} lib-ver={}",
            said.name,
            if command.is_empty() { "NULL" } else { &command },
            if said.user.is_empty() {
                DEFAULT
            } else {
                &said.user
            },
            said.library,
            said.library_version
        );
        line
    }
}
