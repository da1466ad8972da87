//! One end of a connection: a session, its application, and the monitor of what it sends.

use std::{collections::BTreeMap, io::IoSlice};

use valkyrie_frame::{Correlation, StreamClass, StreamId, Time};
use valkyrie_session::{Session, SessionError, Side};

use super::{
    monitor::Monitor,
    options::{PairOptions, Plant},
    truth::{Direction, Step, StreamTruth, Truth, broken, holds},
};
use crate::rng::Rng;

/// By how much [`Plant::Overspend`] falsifies credit.
pub(crate) const EXCESS: u64 = 4096;

/// One end.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) session: Session,
    pub(crate) side: Side,
    /// Streams that the application has open.
    pub(crate) streams: BTreeMap<StreamId, Local>,
    /// Calls that wait for an answer, by correlation.
    pub(crate) calls: BTreeMap<Correlation, Asked>,
    /// Calls of the other side that wait for this one.
    pub(crate) serving: Vec<Serving>,
    /// Nothing is done before this.
    pub(crate) paused_until: Time,
    pub(crate) draining: Draining,
    monitor: Option<Monitor>,
    input: Vec<u8>,
}

/// Whether the application still begins anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draining {
    No,
    Yes,
}

/// A call of this side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) call: Correlation,
    pub(crate) key: u64,
    pub(crate) deadline: Deadline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    None,
    Set,
}

/// A call of the other side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Serving {
    pub(crate) call: Correlation,
    pub(crate) key: u64,
}

/// A stream as one application sees it.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) key: u64,
    pub(crate) role: Role,
    pub(crate) what: What,
    pub(crate) accepted: Accepted,
    pub(crate) sending: Half,
    pub(crate) receiving: Half,
    /// Bytes that were delivered and not given back.
    pub(crate) unread: usize,
    /// The largest window that the stream had.
    pub(crate) window_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Opener,
    Acceptor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    No,
    Yes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Open,
    Ended,
}

/// What a stream carries.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Data,
    Job {
        /// An acknowledgement that this side owes.
        owes: Option<(valkyrie_frame::MessageType, Correlation)>,
    },
    Log {
        /// Where the next record goes, or comes from.
        position: u64,
        durable: u64,
    },
    File {
        size: u64,
        position: u64,
        stage: Stage,
    },
}

/// How far a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before the first message about it.
    New,
    /// The sender has offered it, the receiver has not said where to begin.
    Offered,
    Moving,
    /// All of it was sent, or came.
    Whole,
    /// Acknowledged.
    Done,
}

/// What the application of an end works with.
pub(crate) struct Scene<'a> {
    pub(crate) now: Time,
    pub(crate) truth: &'a mut Truth,
    pub(crate) rng: &'a mut Rng,
    pub(crate) options: &'a PairOptions,
    /// The last key given out.
    pub(crate) keys: &'a mut u64,
}

impl Scene<'_> {
    /// A key of which nothing else has one.
    pub(crate) fn key(&mut self) -> u64 {
        *self.keys += 1;
        *self.keys
    }
}

impl Local {
    pub(crate) fn new(key: u64, role: Role, what: What) -> Self {
        Self {
            key,
            role,
            what,
            accepted: Accepted::No,
            sending: Half::Open,
            receiving: Half::Open,
            unread: 0,
            window_max: 0,
        }
    }

    /// What this side sends on the stream.
    pub(crate) fn outgoing<'t>(&self, truth: &'t mut Truth) -> Step<&'t mut Direction> {
        let stream = self.truth(truth)?;
        Ok(match self.role {
            Role::Opener => &mut stream.there,
            Role::Acceptor => &mut stream.back,
        })
    }

    /// What comes to this side on the stream.
    pub(crate) fn incoming<'t>(&self, truth: &'t mut Truth) -> Step<&'t mut Direction> {
        let stream = self.truth(truth)?;
        Ok(match self.role {
            Role::Opener => &mut stream.back,
            Role::Acceptor => &mut stream.there,
        })
    }

    pub(crate) fn truth<'t>(&self, truth: &'t mut Truth) -> Step<&'t mut StreamTruth> {
        match truth.streams.get_mut(&self.key) {
            Some(stream) => Ok(stream),
            None => broken("agreement", format!("stream {:x} is forgotten", self.key)),
        }
    }
}

impl Peer {
    pub(crate) fn new(side: Side, options: &PairOptions, now: Time, rng: &mut Rng) -> Self {
        let mut session = Session::new(side, options.config(), rng.bytes());
        session.tick(now);
        Self {
            session,
            side,
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
            serving: Vec::new(),
            paused_until: Time::ZERO,
            draining: Draining::No,
            monitor: None,
            input: Vec::new(),
        }
    }

    /// The handshake is done.
    pub(crate) fn ready(&mut self, plant: Plant) {
        let Some(agreement) = self.session.agreement() else {
            return;
        };
        let excess = if plant == Plant::Overspend { EXCESS } else { 0 };
        self.monitor = Some(Monitor::new(agreement.limits, excess));
    }

    /// Bytes reach this end.
    pub(crate) fn read(&mut self, bytes: &[u8], scene: &mut Scene<'_>) -> Step {
        if let Some(monitor) = &mut self.monitor {
            monitor.reads(bytes)?;
        }
        self.input.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.input);
        let mut rest = all.as_slice();
        loop {
            // Either way of reading gives the same messages.
            if scene.rng.chance(50)
                && let Some(batch) = self.session.read_batch(scene.now, &mut rest)
            {
                for message in batch {
                    self.on_data(batch.stream(), message, scene)?;
                }
            }
            match self.session.read(scene.now, &mut rest) {
                Ok(Some(event)) => self.on_event(event, scene)?,
                Ok(None) => break,
                Err(error) => return fault(self.side, &error),
            }
        }
        self.input = rest.to_vec();
        Ok(())
    }

    /// Events that came of time and of the application's own calls.
    pub(crate) fn poll(&mut self, scene: &mut Scene<'_>) -> Step {
        while let Some(event) = self.session.poll_event() {
            self.on_event(event, scene)?;
        }
        match self.session.failure() {
            Some(error) => fault(self.side, error),
            None => Ok(()),
        }
    }

    /// Up to `room` bytes that this end writes now.
    pub(crate) fn write(&mut self, now: Time, room: usize) -> Step<Vec<u8>> {
        let mut out = Vec::new();
        let count = self.session.prepare(now).min(room);
        while out.len() < count {
            let mut slices = [IoSlice::new(&[]); 8];
            let used = self.session.slices(&mut slices);
            let before = out.len();
            for slice in slices.iter().take(used) {
                let most = (count - out.len()).min(slice.len());
                out.extend_from_slice(slice.get(..most).unwrap_or_default());
            }
            self.session.written(out.len() - before);
        }
        if let Some(monitor) = &mut self.monitor {
            monitor.writes(&out)?;
        }
        Ok(out)
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) -> Step {
        let Some(window) = self.session.flow_window(StreamId::CONTROL) else {
            return broken("windows", "the connection has none");
        };
        holds(
            "windows",
            (window.min_size..=window.max_size).contains(&window.size),
            || format!("{window:?}"),
        )?;
        let Some(agreement) = self.session.agreement() else {
            return Ok(());
        };
        // What took credit is bounded by it; the shortest frames are eight times their payload.
        let announced = u64::from(agreement.limits.connection_window());
        let most = 8 * announced.max(16 << 20) + (1 << 20);
        let queued = self.session.queued_bytes() as u64;
        holds("memory", queued <= most, || format!("{queued} bytes wait"))
    }

    /// What must hold for a stream of which something came.
    pub(crate) fn check_stream(&mut self, stream: StreamId) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        let Some(window) = self.session.flow_window(stream) else {
            return Ok(());
        };
        local.window_max = local.window_max.max(window.size);
        let (unread, most) = (local.unread, local.window_max);
        holds("credit", unread as u64 <= u64::from(most), || {
            format!("{unread} bytes are unread on {stream} with a window of {most}")
        })?;
        holds("windows", window.size <= window.max_size, || {
            format!("{stream}: {window:?}")
        })
    }

    /// Forgets a stream that has ended in both directions.
    pub(crate) fn settle_stream(&mut self, stream: StreamId, truth: &mut Truth) {
        let Some(local) = self.streams.get(&stream) else {
            return;
        };
        if local.sending == Half::Ended && local.receiving == Half::Ended {
            truth.forget(local.key);
            self.streams.remove(&stream);
        }
    }

    /// A stream of `class` that the application may still send on, at random.
    pub(crate) fn pick(&self, rng: &mut Rng, wanted: impl Fn(&Local) -> bool) -> Option<StreamId> {
        let fitting = || {
            let streams = self.streams.iter();
            streams
                .filter(|(_, local)| wanted(local))
                .map(|(id, _)| *id)
        };
        let place = rng.place(fitting().count());
        fitting().nth(place)
    }
}

fn fault(side: Side, error: &SessionError) -> Step {
    broken("peer", format!("{side:?}: {error}"))
}

/// Classes that take the streams of an application.
pub(crate) const CLASSES: [StreamClass; 4] = StreamClass::WITH_STREAMS;
