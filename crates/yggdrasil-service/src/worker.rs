//! A thread with its connections.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use slab::Slab;
use socket2::SockRef;

use crate::client::Client;
use crate::clock::Moment;
use crate::connection::{Connection, Ended, Pushed, Scratch, Waits};
use crate::counters::{Counter, Counters};
use crate::feed::{Parcel, Place, Post, Target};
use crate::limits::HANDSHAKE_S_MAX;
use crate::server::{Listener, StartError};
use crate::shared::Shared;
use crate::tls::Tls;

/// Events that are taken from the kernel at once.
const EVENTS: usize = 256;
/// Clients that are accepted before others have their turn again.
const ACCEPTS: usize = 64;
/// Events of the wake-up carry this, those of listeners the numbers below.
const WAKE: u64 = u64::MAX;
const LISTENERS: u64 = u64::MAX - 1024;
/// What those are told who are not served.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const TOO_OFTEN: &[u8] = b"-ERR this address comes too often or is banned\r\n";
/// How often keys whose end has come are removed.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// How other threads reach a worker.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    arrivals: Mutex<Vec<Connection>>,
    connections: AtomicUsize,
}

impl Mailbox {
    fn give(&self, connection: Connection) {
        self.arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }

    fn take(&self) -> Vec<Connection> {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut arrivals)
    }
}

pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    /// Only the first worker has any.
    pub(crate) listeners: Vec<Listener>,
    epoll: OwnedFd,
    connections: Slab<Connection>,
    /// Those that had their turn since answers were sent.
    served: Vec<usize>,
    /// The newest change of which it knows whether it is on the disk.
    told: u64,
    /// When clients with TLS have to have proved who they are, in the order of the times.
    handshakes: VecDeque<(Moment, Target)>,
    scratch: Scratch,
}

impl Worker {
    pub(crate) fn new(
        number: usize,
        shared: Arc<Shared>,
        mailboxes: Arc<[Mailbox]>,
        listeners: Vec<Listener>,
    ) -> Result<Self, StartError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(StartError::kernel)?;
        let worker = Self {
            number,
            shared,
            mailboxes,
            listeners,
            epoll,
            connections: Slab::new(),
            served: Vec::new(),
            told: 0,
            handshakes: VecDeque::new(),
            scratch: Scratch::default(),
        };
        if let Some(post) = worker.shared.posts.get(number) {
            worker.listen(post, WAKE)?;
        }
        for (listener, number) in worker.listeners.iter().zip(LISTENERS..) {
            worker.listen(listener, number)?;
        }
        Ok(worker)
    }

    fn listen(&self, source: impl AsFd, number: u64) -> Result<(), StartError> {
        let data = EventData::new_u64(number);
        epoll::add(&self.epoll, source, data, EventFlags::IN).map_err(StartError::kernel)
    }

    /// Serves until the server stops.
    pub(crate) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let mut swept = self.shared.clock.now();
        while !self.shared.stops.load(Ordering::Acquire) {
            events.clear();
            // One of them is enough to look after keys that nobody asks for.
            let has_time = self.number == 0 || !self.handshakes.is_empty();
            let timeout = has_time.then_some(TICK);
            let waited = epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref());
            if waited.is_err_and(|error| error != Errno::INTR) {
                tracing::error!(worker = self.number, "waiting for clients failed");
                return;
            }
            for event in &events {
                self.handle(event);
            }
            self.deliver();
            // Nothing that somebody could see is answered before it is as safe as was asked for.
            let settled = match &self.shared.persistence {
                Some(persistence) if !self.served.is_empty() => persistence.settle(&mut self.told),
                _ => Ok(()),
            };
            if settled.is_err() {
                self.drop_unsettled();
            }
            self.flush();
            if !self.handshakes.is_empty() {
                self.end_handshakes();
            }
            if self.number == 0 {
                let now = self.shared.clock.now();
                if now.ms() - swept.ms() >= 100 {
                    swept = now;
                    self.shared.keys.advance(now.ms());
                    self.keep();
                }
            }
        }
    }

    /// Hands changes to the disk that nobody waits for, and makes a snapshot where one is due.
    fn keep(&self) {
        let Some(persistence) = &self.shared.persistence else {
            return;
        };
        // A failure is told to whoever writes next.
        let _ = persistence.settle(&mut 0);
        if persistence.is_due()
            && let Err(error) = self.shared.snapshot()
        {
            tracing::error!(%error, "no thread for a snapshot");
        }
    }

    /// Ends connections that are about to hear of changes that may not be on the disk, so that nobody
    /// believes in them.
    fn drop_unsettled(&mut self) {
        for number in self.served.clone() {
            let connection = self.connections.get(number);
            if connection.is_some_and(|it| it.client.is_unsettled) {
                self.close(number);
            }
        }
    }

    /// Ends connections that have taken too long to say who they are.
    fn end_handshakes(&mut self) {
        let now = self.shared.clock.now();
        while let Some((_, target)) = self.handshakes.pop_front_if(|(at, _)| *at <= now) {
            let connection = self.connections.get(target.slot);
            let is_new = connection.is_some_and(|it| {
                it.client.info.id == target.id && it.tls.as_ref().is_some_and(|tls| tls.is_new())
            });
            if is_new {
                self.close(target.slot);
            }
        }
    }

    fn handle(&mut self, event: &Event) {
        match event.data.u64() {
            WAKE => self.woken(),
            number if number >= LISTENERS => self.accept((number - LISTENERS) as usize),
            number => self.serve(number as usize),
        }
    }

    fn count(&self, counter: fn(&Counters) -> &Counter) {
        if let Some(counters) = self.shared.counters.get(self.number) {
            counter(counters).add(1);
        }
    }

    fn serve(&mut self, number: usize) {
        let Some(connection) = self.connections.get_mut(number) else {
            return;
        };
        // Who is not listened to sends nothing.
        if connection.waits == Waits::ForCommands {
            let (sources, clock) = (&self.shared.sources, self.shared.clock);
            if !sources.admit(connection.source, || clock.now()) {
                if connection.tls.is_none() {
                    refuse(&connection.socket, TOO_OFTEN);
                }
                self.close(number);
                return;
            }
        }
        let counters = self.shared.counters.get(self.number);
        let Some(counters) = counters else { return };
        match connection.turn(&self.shared, counters, &mut self.scratch) {
            Ok(()) if connection.is_postponed => self.resume(number),
            Ok(()) => self.served.push(number),
            Err(Ended) => self.close(number),
        }
    }

    /// Goes on with a connection that has to hear messages first.
    fn resume(&mut self, number: usize) {
        self.deliver();
        let counters = self.shared.counters.get(self.number);
        let (Some(connection), Some(counters)) = (self.connections.get_mut(number), counters)
        else {
            return;
        };
        match connection.work(&self.shared, counters, &mut self.scratch) {
            Ok(()) => self.served.push(number),
            Err(Ended) => self.close(number),
        }
    }

    /// Sends the answers of all connections that had their turn. Each one earlier would wake up its
    /// client earlier, but one at a time, and waking somebody takes longer than most commands.
    fn flush(&mut self) {
        let mut served = std::mem::take(&mut self.served);
        for number in served.drain(..) {
            let counters = self.shared.counters.get(self.number);
            let (Some(connection), Some(counters)) = (self.connections.get_mut(number), counters)
            else {
                continue;
            };
            let flushed = connection.flush(counters, &mut self.scratch);
            self.wait_for(number, flushed);
        }
        self.served = served;
    }

    /// Asks the kernel about what a connection waits for after answers were sent.
    fn wait_for(&mut self, number: usize, flushed: Result<Waits, Ended>) {
        let Some(connection) = self.connections.get_mut(number) else {
            return;
        };
        match flushed {
            Ok(waits) if waits == connection.waits => {}
            Ok(waits) => {
                connection.waits = waits;
                let flags = match waits {
                    Waits::ForCommands => EventFlags::IN,
                    Waits::ForRoom => EventFlags::OUT,
                };
                let data = EventData::new_u64(number as u64);
                if epoll::modify(&self.epoll, &connection.socket, data, flags).is_err() {
                    self.close(number);
                }
            }
            Err(Ended) => self.close(number),
        }
    }

    /// Puts messages behind the answers of those who want them.
    fn deliver(&mut self) {
        let post = self.shared.posts.get(self.number);
        let Some(mail) = post.and_then(Post::collect) else {
            return;
        };
        for parcel in &mail.parcels {
            for target in &*parcel.targets {
                if target.id != parcel.except {
                    self.push(*target, parcel);
                }
            }
        }
        for target in mail.missed {
            let connection = self.connections.get(target.slot);
            if connection.is_some_and(|it| it.client.info.id == target.id) {
                self.close_slow(target.slot);
            }
        }
    }

    fn push(&mut self, target: Target, parcel: &Parcel) {
        let number = target.slot;
        let counters = self.shared.counters.get(self.number);
        let (Some(connection), Some(counters)) = (self.connections.get_mut(number), counters)
        else {
            return;
        };
        if connection.client.info.id != target.id {
            return;
        }
        if !connection.wants(parcel, &self.shared) {
            // It may have lost the right to hear it; then it ends with the others that are served.
            if connection.client.quits {
                self.served.push(number);
            }
            return;
        }
        match connection.push(parcel, &mut self.scratch) {
            Pushed::First => self.served.push(number),
            Pushed::Behind => {}
            Pushed::Much if connection.waits == Waits::ForCommands => {
                let flushed = connection.flush_early(&self.shared, counters, &mut self.scratch);
                self.wait_for(number, flushed);
            }
            Pushed::Much => {}
        }
        let bytes_max = self.shared.config.pushed_bytes_max;
        let connection = self.connections.get(number);
        if connection.is_some_and(|it| it.pending() > bytes_max) {
            self.close_slow(number);
        }
    }

    /// Ends a connection whose client does not take its messages.
    fn close_slow(&mut self, number: usize) {
        self.count(|counters| &counters.slow);
        self.close(number);
    }

    fn close(&mut self, number: usize) {
        let mut connection = self.connections.remove(number);
        connection.client.leave(&self.shared);
        self.shared.clients.remove(connection.client.info.id);
        // Others may still hold the socket for a moment, so the kernel is told.
        let _ = epoll::delete(&self.epoll, &connection.socket);
        connection.client.info.kill();
        if let Some(mailbox) = self.mailboxes.get(self.number) {
            mailbox.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn woken(&mut self) {
        let Some(mailbox) = self.mailboxes.get(self.number) else {
            return;
        };
        if let Some(post) = self.shared.posts.get(self.number) {
            post.answer();
        }
        for connection in mailbox.take() {
            self.adopt(connection);
        }
    }

    fn adopt(&mut self, mut connection: Connection) {
        let slot = self.connections.vacant_entry();
        connection.client.place = Place {
            worker: self.number,
            slot: slot.key(),
        };
        let data = EventData::new_u64(slot.key() as u64);
        let added = epoll::add(&self.epoll, &connection.socket, data, EventFlags::IN);
        match added {
            Ok(()) => {
                if connection.tls.is_some() {
                    let target = Target {
                        slot: slot.key(),
                        id: connection.client.info.id,
                    };
                    let ns = self.shared.clock.now().ns + HANDSHAKE_S_MAX * 1_000_000_000;
                    self.handshakes.push_back((Moment { ns }, target));
                }
                slot.insert(connection);
            }
            Err(error) => {
                tracing::warn!(%error, "a client cannot be waited for");
                self.shared.clients.remove(connection.client.info.id);
                if let Some(mailbox) = self.mailboxes.get(self.number) {
                    mailbox.connections.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(listener) else {
                return;
            };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match accept_with(listener, flags) {
                Ok(socket) => Arc::new(socket),
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    tracing::warn!(%error, "a client cannot be accepted");
                    return;
                }
            };
            let ends = listener.prepare(&SockRef::from(&*socket));
            // Who came for TLS would take a text for something else.
            let has_tls = matches!(listener, Listener::Tls(_));
            let tell = |text| {
                if !has_tls {
                    refuse(&socket, text)
                }
            };
            let now = || self.shared.clock.now();
            if !self.shared.sources.admit(ends.source, now) {
                self.count(|counters| &counters.refused);
                tell(TOO_OFTEN);
                continue;
            }
            if self.shared.clients.count() >= self.shared.config.clients_max {
                self.count(|counters| &counters.refused);
                tell(TOO_MANY);
                continue;
            }
            let tls = self.shared.tls.as_ref().filter(|_| has_tls);
            let tls = tls.and_then(Tls::session);
            // Nobody is served without TLS who came for it.
            if tls.is_some() != has_tls {
                continue;
            }
            self.count(|counters| &counters.connections);
            let clients = &self.shared.clients;
            let info = clients.add(&socket, ends.peer, ends.local, now());
            let client = Client::new(info, self.shared.standing());
            let mut connection = Connection::new(socket, client, ends.source);
            connection.tls = tls;
            self.place(connection);
        }
    }

    /// Gives a connection to the worker that has the fewest.
    fn place(&mut self, connection: Connection) {
        let counts = self
            .mailboxes
            .iter()
            .map(|it| it.connections.load(Ordering::Relaxed));
        let fewest = counts.enumerate().min_by_key(|(_, count)| *count);
        let (number, _) = fewest.unwrap_or((self.number, 0));
        if let Some(mailbox) = self.mailboxes.get(number) {
            mailbox.connections.fetch_add(1, Ordering::Relaxed);
            if number != self.number {
                mailbox.give(connection);
                if let Some(post) = self.shared.posts.get(number) {
                    post.ring();
                }
                return;
            }
        }
        self.adopt(connection);
    }
}

fn refuse(socket: &OwnedFd, text: &[u8]) {
    use rustix::net::{SendFlags, send};
    // Whoever is refused may be gone already.
    let _ = send(socket, text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}
