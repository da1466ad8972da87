//! One connection: two ends and the link between them.

use valkyrie_frame::{ErrorCode, Time};
use valkyrie_session::Side;

use super::{
    options::{PairOptions, Plant},
    peer::{Draining, Peer, Scene},
    pipe::{Arrival, Pipe},
    plant::spoil,
    truth::{Step, Truth, broken, holds},
};
use crate::rng::Rng;
use std::time::Duration;

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    client: Peer,
    server: Peer,
    to_client: Pipe,
    to_server: Pipe,
    pub(crate) truth: Truth,
    /// Whether everything that was sent has to arrive.
    pub(crate) bond: Bond,
    gone: u8,
}

/// What may be expected of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bond {
    /// Everything arrives.
    Whole,
    /// It was closed; what is not done by then is lost.
    Until(Time),
    /// It broke; whatever is under way may be lost.
    Broken,
}

/// What a step of an end led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Goes,
    /// Both ends are gone.
    Over,
}

/// What everybody in a simulation shares.
pub(crate) struct Shared<'a> {
    pub(crate) now: Time,
    pub(crate) rng: &'a mut Rng,
    pub(crate) options: &'a PairOptions,
    pub(crate) keys: &'a mut u64,
}

impl Conn {
    pub(crate) fn new(shared: &mut Shared<'_>) -> Self {
        let (options, now) = (shared.options, shared.now);
        let client = Peer::new(Side::Initiator, options, now, shared.rng);
        let server = Peer::new(Side::Acceptor, options, now, shared.rng);
        let truth = Truth {
            progress: now,
            ..Truth::default()
        };
        Self {
            client,
            server,
            to_client: Pipe::new(options.road),
            to_server: Pipe::new(options.road),
            truth,
            bond: Bond::Whole,
            gone: 0,
        }
    }

    pub(crate) fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Initiator => &mut self.client,
            Side::Acceptor => &mut self.server,
        }
    }

    /// The pipe that comes out at `side`.
    pub(crate) fn pipe_to(&mut self, side: Side) -> &mut Pipe {
        match side {
            Side::Initiator => &mut self.to_client,
            Side::Acceptor => &mut self.to_server,
        }
    }

    /// Lets the application of one end do something with everything that belongs to it.
    fn with(
        &mut self,
        side: Side,
        shared: &mut Shared<'_>,
        act: impl FnOnce(&mut Peer, &mut Scene<'_>) -> Step,
    ) -> Step {
        let peer = match side {
            Side::Initiator => &mut self.client,
            Side::Acceptor => &mut self.server,
        };
        let mut scene = Scene {
            now: shared.now,
            truth: &mut self.truth,
            rng: shared.rng,
            options: shared.options,
            keys: shared.keys,
        };
        peer.session.tick(shared.now);
        act(peer, &mut scene)?;
        peer.poll(&mut scene)?;
        peer.check()
    }

    /// What has come out of the pipe to one end.
    pub(crate) fn arrive(&mut self, side: Side, shared: &mut Shared<'_>) -> Step<Arrival> {
        let slice = shared.rng.chance(shared.options.faults.slice);
        let most = match slice {
            true => 1 + shared.rng.place(3000),
            false => usize::MAX,
        };
        let arrival = self.pipe_to(side).take(shared.now, most);
        match &arrival {
            Arrival::Bytes(bytes) => {
                self.with(side, shared, |peer, scene| peer.read(bytes, scene))?;
            }
            Arrival::Hangup => self.hung_up(side, shared.now)?,
            Arrival::Later(_) | Arrival::Nothing => {}
        }
        Ok(arrival)
    }

    /// The other side is gone, and so this one goes.
    fn hung_up(&mut self, side: Side, now: Time) -> Step {
        let peer = self.peer(side);
        let in_order = peer.session.peer_closed();
        peer.session.abandon();
        self.leave(side);
        if !self.has_to_be_whole(now) {
            return Ok(());
        }
        holds("agreement", in_order, || {
            format!("{side:?} hears of the end and not of a CLOSE")
        })?;
        self.left_whole()
    }

    pub(crate) fn act(&mut self, side: Side, shared: &mut Shared<'_>) -> Step {
        self.with(side, shared, Peer::act)
    }

    pub(crate) fn timeout(&mut self, side: Side, shared: &mut Shared<'_>) -> Step {
        let now = shared.now;
        self.with(side, shared, |peer, _| {
            peer.session.handle_timeout(now);
            Ok(())
        })
    }

    /// Writes what one end has to say, as far as there is room; whether there is more.
    pub(crate) fn flush(&mut self, side: Side, shared: &mut Shared<'_>) -> Step<More> {
        let to = other(side);
        loop {
            let room = self.pipe_to(to).room(shared.now);
            if room == 0 {
                return Ok(More::Yes);
            }
            // A socket takes a part of a frame too; what is spoilt has to be whole frames.
            let planted = shared.options.plant != Plant::Nothing;
            let most = if planted { usize::MAX } else { room };
            let bytes = self.peer(side).write(shared.now, most)?;
            if bytes.is_empty() {
                break;
            }
            let bytes = spoil(shared.options.plant, bytes, shared.rng);
            self.pipe_to(to).send(shared.now, bytes, shared.rng);
        }
        if self.peer(side).session.is_finished() {
            self.close_in_order(side, shared.now)?;
        }
        Ok(More::No)
    }

    /// An end has sent and received CLOSE, and nothing is open.
    fn close_in_order(&mut self, side: Side, now: Time) -> Step {
        let both = self.peer(side).session.peer_closed();
        self.leave(side);
        if !self.has_to_be_whole(now) {
            return Ok(());
        }
        holds("agreement", both, || {
            format!("{side:?} ends without the CLOSE of the other side")
        })?;
        self.left_whole()
    }

    /// Whether the end of this connection may lose nothing.
    fn has_to_be_whole(&self, now: Time) -> bool {
        match self.bond {
            Bond::Whole => true,
            Bond::Until(deadline) => now < deadline,
            Bond::Broken => false,
        }
    }

    /// When both ends have left in order, everything has arrived.
    fn left_whole(&self) -> Step {
        match self.truth.pending() {
            Some(pending) if self.outcome() == Outcome::Over => {
                broken("agreement", format!("closed in order with {pending}"))
            }
            _ => Ok(()),
        }
    }

    fn leave(&mut self, side: Side) {
        self.gone |= bit(side);
        self.pipe_to(other(side)).close();
    }

    pub(crate) fn is_gone(&self, side: Side) -> bool {
        self.gone & bit(side) != 0
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self.gone == 3 {
            true => Outcome::Over,
            false => Outcome::Goes,
        }
    }

    /// Begins the orderly end from one side.
    pub(crate) fn close(&mut self, side: Side, now: Time, drain: Duration) {
        self.bond = match self.bond {
            Bond::Whole => Bond::Until(now + drain),
            Bond::Until(deadline) => Bond::Until(deadline.min(now + drain)),
            Bond::Broken => Bond::Broken,
        };
        let peer = self.peer(side);
        peer.draining = Draining::Yes;
        peer.session.tick(now);
        peer.session.close(ErrorCode::NONE, drain);
    }

    /// Lets applications bring everything to an end.
    pub(crate) fn wind_up(&mut self) {
        self.client.draining = Draining::Yes;
        self.server.draining = Draining::Yes;
    }

    /// What is left to do; `None` when the connection is quiet and both ends agree on it.
    pub(crate) fn pending(&self) -> Option<String> {
        if let Some(pending) = self.truth.pending() {
            return Some(pending);
        }
        for peer in [&self.client, &self.server] {
            if !peer.session.is_idle() || peer.session.queued_bytes() > 0 {
                let classes: Vec<_> = peer.session.open_streams().collect();
                let known: Vec<_> = peer.streams.keys().collect();
                return Some(format!(
                    "{:?} is not idle: streams of {classes:?}, of which the application has {known:?}",
                    peer.side
                ));
            }
        }
        let under_way = !self.to_client.is_empty() || !self.to_server.is_empty();
        under_way.then(|| "bytes are under way".to_owned())
    }
}

/// Whether an end has more to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum More {
    Yes,
    No,
}

/// The side that a side talks to.
pub(crate) const fn other(side: Side) -> Side {
    match side {
        Side::Initiator => Side::Acceptor,
        Side::Acceptor => Side::Initiator,
    }
}

const fn bit(side: Side) -> u8 {
    match side {
        Side::Initiator => 1,
        Side::Acceptor => 2,
    }
}
