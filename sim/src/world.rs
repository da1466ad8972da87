//! Virtual time, and what all nodes share.

use std::{collections::BTreeMap, time::Duration};

use rustci_scheduler::{AttemptToken, Now};
use valkyrie_frame::{Time, WallTime};

use crate::{
    net::{ConnId, End, Network},
    options::{Fault, Options},
    oracle::Oracle,
    rng::Rng,
};

/// Something that happens at a point in virtual time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Something came out of a pipe.
    Arrival { conn: ConnId, to: End },
    /// A session wants to know the time.
    SessionTimer { conn: ConnId, end: End },
    /// The scheduler has a deadline.
    SchedulerTimer,
    /// The control plane's journal has been synced.
    Synced { life: u64 },
    /// The control plane's log files have been synced.
    LogsSynced { life: u64 },
    /// The control plane's process starts.
    StartServer,
    /// A runner's process starts.
    StartRunner { runner: usize },
    /// A runner tries to reach the control plane.
    Connect { runner: usize, life: u64 },
    /// An attempt goes on inside a runner.
    Work {
        runner: usize,
        life: u64,
        token: AttemptToken,
    },
    /// Somebody submits a run.
    Submit,
    /// Somebody answers a job that asks.
    Answer,
    /// Something goes wrong.
    Fault(Fault),
    /// The end of a second process of a runner.
    EndClone { runner: usize },
    /// Somebody takes back what [`Fault::Drain`] and [`Fault::FullDisk`] did.
    Undrain,
    /// From now on nothing goes wrong.
    Heal,
}

impl Event {
    /// The node whose standing still delays it.
    pub(crate) fn node(&self) -> Option<End> {
        match self {
            Self::Arrival { to, .. } => Some(*to),
            Self::SessionTimer { end, .. } => Some(*end),
            Self::SchedulerTimer | Self::Synced { .. } | Self::LogsSynced { .. } => {
                Some(End::Server)
            }
            Self::Connect { .. } | Self::Work { .. } => Some(End::Runner),
            _ => None,
        }
    }
}

/// What will happen, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BTreeMap<(Time, u64), Event>,
    last: u64,
}

impl Queue {
    /// Something will happen at a time; what was put in first happens first.
    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.last += 1;
        self.events.insert((at, self.last), event);
    }

    /// The next thing that happens, and when.
    pub(crate) fn pop(&mut self) -> Option<(Time, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}

/// What a node may use while it handles an event.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) options: Options,
    pub(crate) rng: Rng,
    pub(crate) queue: Queue,
    pub(crate) net: Network,
    pub(crate) oracle: Oracle,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            now: Time::ZERO,
            rng: Rng::new(options.seed),
            options,
            queue: Queue::default(),
            net: Network::default(),
            oracle: Oracle::default(),
        }
    }

    /// Both clocks. The civil one starts somewhere else and runs as fast.
    pub(crate) fn clocks(&self) -> Now {
        let since = self.now.saturating_since(Time::ZERO);
        Now {
            time: self.now,
            wall: WallTime::from_millis(1_700_000_000_000) + since,
        }
    }

    /// Something will happen after a delay.
    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.queue.at(self.now + delay, event);
    }

    /// A time between two numbers of milliseconds.
    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.rng.between(low * 1000, high * 1000))
    }

    /// Puts bytes on the way to one end of a connection.
    pub(crate) fn send(&mut self, conn: ConnId, to: End, bytes: &[u8]) {
        let Self {
            net,
            options,
            rng,
            queue,
            now,
            ..
        } = self;
        net.send((conn, to), bytes, *now, options, rng, queue);
    }

    /// One end of a connection closes it.
    pub(crate) fn close(&mut self, conn: ConnId, by: End) {
        self.net.close(conn, by, self.now, &mut self.queue);
    }
}
