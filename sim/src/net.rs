//! Connections as pairs of byte pipes with delays.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use valkyrie_frame::Time;

use crate::{
    options::{Fault, Options},
    rng::Rng,
    world::{Event, Queue},
};

/// Names a connection. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u64);

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Runner,
    Server,
}

impl End {
    /// The end that it talks to.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Runner => Self::Server,
            Self::Server => Self::Runner,
        }
    }
}

/// What comes out of a pipe.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A piece of the stream of bytes; pieces keep no frame together.
    Bytes(Vec<u8>),
    /// The other side is gone.
    Hangup,
}

/// Whether the ends of a lost connection hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Both ends are told.
    Told,
    /// This end is not told; the other is.
    Silent(End),
    /// Neither end is told: only silence tells.
    SilentBoth,
}

/// Whether bytes come through.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum PipeState {
    #[default]
    Open,
    /// What is put in vanishes.
    Lost,
}

/// One direction of a connection, named for the end it comes out at.
#[derive(Debug, Default)]
struct Pipe {
    arrivals: VecDeque<Arrival>,
    /// When the last byte put in comes out: bytes never overtake each other.
    busy_until: Time,
    state: PipeState,
}

/// All connections there are.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pipes: BTreeMap<(ConnId, End), Pipe>,
    last: u64,
}

impl Network {
    /// A new connection; both ends can send at once.
    pub(crate) fn connect(&mut self) -> ConnId {
        self.last += 1;
        let conn = ConnId(self.last);
        self.pipes.insert((conn, End::Runner), Pipe::default());
        self.pipes.insert((conn, End::Server), Pipe::default());
        conn
    }

    /// Puts bytes on the way to one end. They vanish when the connection is lost.
    pub(crate) fn send(
        &mut self,
        (conn, to): (ConnId, End),
        bytes: &[u8],
        now: Time,
        options: &Options,
        rng: &mut Rng,
        queue: &mut Queue,
    ) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let split = options.has(Fault::SplitReads) && rng.chance(30);
            let length = if split {
                1 + rng.place(rest.len().min(200))
            } else {
                rest.len()
            };
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            rest = behind;
            let delay = delay(options, rng);
            self.put(
                (conn, to),
                Arrival::Bytes(piece.to_vec()),
                now + delay,
                queue,
            );
        }
    }

    fn put(&mut self, end: (ConnId, End), arrival: Arrival, at: Time, queue: &mut Queue) {
        if let Some(pipe) = self.pipes.get_mut(&end)
            && pipe.state == PipeState::Open
        {
            pipe.busy_until = pipe.busy_until.max(at);
            pipe.arrivals.push_back(arrival);
            queue.at(
                pipe.busy_until,
                Event::Arrival {
                    conn: end.0,
                    to: end.1,
                },
            );
        }
    }

    /// Takes what has arrived at an end.
    pub(crate) fn take(&mut self, conn: ConnId, to: End) -> Option<Arrival> {
        self.pipes.get_mut(&(conn, to))?.arrivals.pop_front()
    }

    /// One end closes: the other gets what is on the way, then the news.
    pub(crate) fn close(&mut self, conn: ConnId, by: End, now: Time, queue: &mut Queue) {
        self.pipes.remove(&(conn, by));
        let news = now + Duration::from_millis(1);
        self.put((conn, by.other()), Arrival::Hangup, news, queue);
    }

    /// The way between both ends is lost, with everything on it.
    pub(crate) fn lose(&mut self, conn: ConnId, loss: Loss, now: Time, queue: &mut Queue) {
        for end in [End::Runner, End::Server] {
            if let Some(pipe) = self.pipes.get_mut(&(conn, end)) {
                pipe.arrivals.clear();
            }
            let told = match loss {
                Loss::Told => true,
                Loss::Silent(silent) => silent != end,
                Loss::SilentBoth => false,
            };
            if told {
                self.put((conn, end), Arrival::Hangup, now, queue);
            }
            if let Some(pipe) = self.pipes.get_mut(&(conn, end)) {
                pipe.state = PipeState::Lost;
            }
        }
    }

    /// Connections that have both ends.
    pub(crate) fn open(&self) -> Vec<ConnId> {
        let whole = |conn: &ConnId| self.pipes.contains_key(&(*conn, End::Server));
        let ends = self.pipes.keys().filter(|(_, end)| *end == End::Runner);
        ends.map(|(conn, _)| *conn).filter(whole).collect()
    }
}

/// How long bytes take. A slow piece holds up what follows it, and lets other connections pass.
fn delay(options: &Options, rng: &mut Rng) -> Duration {
    let micros = rng.between(20, 900);
    let slow = options.has(Fault::Delay) && rng.chance(5);
    Duration::from_micros(if slow {
        micros * rng.between(10, 4_000)
    } else {
        micros
    })
}
