//! The loop: one event after the other, until every connection has ended in order.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use valkyrie_frame::Time;
use valkyrie_session::Side;

use super::{
    conn::{Bond, Conn, More, Outcome, Shared, other},
    options::PairOptions,
    pipe::Arrival,
    truth::{Broken, Step, broken, holds},
};
use crate::rng::Rng;

/// Time without a delivery, once faults have stopped, after which a connection counts as stuck.
/// Twenty times the longest round trip with a lost segment, and more than any buffer takes.
const STUCK: Duration = Duration::from_secs(120);
/// Time from the end of all faults to the end of everything.
const LIVENESS: Duration = Duration::from_secs(7_200);
/// Events after which a simulation that does not end is given up.
const STEPS_MAX: u64 = 5_000_000;
/// Time between two looks at whether everything goes on.
const WATCH: Duration = Duration::from_secs(1);

/// What a simulation of pairs did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PairSummary {
    /// Events handled.
    pub steps: u64,
    /// Things delivered: messages, calls, answers, data, ends.
    pub delivered: u64,
    /// Connections made.
    pub connections: u64,
    /// Virtual time passed.
    pub elapsed: Duration,
    /// A number over everything that happened: equal for equal histories.
    pub trace: u64,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PairFailure {
    /// What was simulated.
    pub options: PairOptions,
    /// Which invariant.
    pub invariant: &'static str,
    /// What was found instead.
    pub detail: String,
    /// After how many events.
    pub step: u64,
}

impl fmt::Display for PairFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "invariant {} is broken: {}", self.invariant, self.detail)?;
        writeln!(f, "after {} events", self.step)?;
        writeln!(f, "{}", self.options)?;
        let seed = self.options.seed;
        write!(
            f,
            "replay it with: cargo run --release -p rustci-sim -- pairs --seed {seed}"
        )
    }
}

/// Plays one seed.
///
/// # Errors
/// [`PairFailure`] with the first invariant that does not hold, or with a panic of the code under
/// test.
pub fn run_pairs(options: &PairOptions) -> Result<PairSummary, Box<PairFailure>> {
    let mut steps = 0;
    let play = AssertUnwindSafe(|| World::new(options).run(&mut steps));
    let failed = match catch_unwind(play) {
        Ok(Ok(summary)) => return Ok(summary),
        Ok(Err(broken)) => broken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let detail = text.unwrap_or("a panic without words").to_owned();
            let invariant = "panic";
            Broken { invariant, detail }
        }
    };
    Err(Box::new(PairFailure {
        options: options.clone(),
        invariant: failed.invariant,
        detail: failed.detail,
        step: steps,
    }))
}

/// Something that happens to one pair at a point in virtual time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Connect,
    /// Bytes may have come out of the pipe to an end.
    Arrive(Side),
    /// There is room in the pipe from an end.
    Room(Side),
    Timer(Side),
    Act(Side),
    Fault,
    Watch,
}

/// A pair of nodes and the connection that they have now.
#[derive(Debug, Default)]
struct Pair {
    conn: Option<Conn>,
    /// Which connection it is; events of earlier ones mean nothing.
    life: u64,
    /// When each end is woken next, the client and the server.
    wakes: [Wakes; 2],
    done: bool,
}

/// What is set for one end, so that nothing is set twice.
#[derive(Debug, Default)]
struct Wakes {
    timer: Option<Time>,
    arrive: Option<Time>,
    room: Option<Time>,
}

struct World<'o> {
    now: Time,
    queue: BTreeMap<(Time, u64), (usize, u64, Event)>,
    last: u64,
    rng: Rng,
    options: &'o PairOptions,
    keys: u64,
    pairs: Vec<Pair>,
    heal_at: Time,
    summary: PairSummary,
}

impl<'o> World<'o> {
    fn new(options: &'o PairOptions) -> Self {
        let start = Time::ZERO + Duration::from_secs(1);
        let mut world = Self {
            now: start,
            queue: BTreeMap::new(),
            last: 0,
            rng: Rng::new(options.seed),
            options,
            keys: 0,
            pairs: Vec::new(),
            heal_at: start + options.faulty,
            summary: PairSummary {
                trace: 0xcbf2_9ce4_8422_2325,
                ..PairSummary::default()
            },
        };
        for pair in 0..options.pairs {
            world.pairs.push(Pair::default());
            world.at(start, pair, 0, Event::Connect);
            world.at(start, pair, 0, Event::Watch);
            world.at(start, pair, 0, Event::Fault);
        }
        world
    }

    fn at(&mut self, at: Time, pair: usize, life: u64, event: Event) {
        self.last += 1;
        self.queue.insert((at, self.last), (pair, life, event));
    }

    fn healed(&self) -> bool {
        self.now >= self.heal_at
    }

    fn run(mut self, steps: &mut u64) -> Step<PairSummary> {
        let deadline = self.heal_at + LIVENESS;
        while let Some(((at, _), (pair, life, event))) = self.queue.pop_first() {
            self.now = at;
            *steps += 1;
            self.note(pair, event);
            holds("progress", at < deadline && *steps < STEPS_MAX, || {
                "the simulation does not end".to_owned()
            })?;
            self.handle(pair, life, event)?;
            if self.pairs.iter().all(|pair| pair.done) {
                break;
            }
        }
        self.summary.steps = *steps;
        self.summary.elapsed = self.now.saturating_since(Time::ZERO);
        Ok(self.summary)
    }

    /// Folds an event into the trace.
    fn note(&mut self, pair: usize, event: Event) {
        let side = |side: Side| u64::from(side == Side::Acceptor);
        let code = match event {
            Event::Connect => 1,
            Event::Arrive(to) => 2 + side(to),
            Event::Room(from) => 4 + side(from),
            Event::Timer(of) => 6 + side(of),
            Event::Act(of) => 8 + side(of),
            Event::Fault => 10,
            Event::Watch => 11,
        };
        let word = self.now.as_nanos() ^ code << 48 ^ (pair as u64) << 56;
        self.summary.trace = (self.summary.trace ^ word).wrapping_mul(0x0100_0000_01b3);
    }

    fn handle(&mut self, number: usize, life: u64, event: Event) -> Step {
        match event {
            Event::Watch => return self.watch(number),
            Event::Fault => {
                self.fault(number);
                return Ok(());
            }
            _ => {}
        }
        let Some(mut pair) = self.pairs.get_mut(number).map(std::mem::take) else {
            return Ok(());
        };
        let result = self.step(&mut pair, (number, life), event);
        if let Some(slot) = self.pairs.get_mut(number) {
            *slot = pair;
        }
        result
    }

    fn step(&mut self, pair: &mut Pair, (number, life): (usize, u64), event: Event) -> Step {
        if life != pair.life || pair.done {
            return Ok(());
        }
        if event == Event::Connect {
            self.connect(pair, number);
            return Ok(());
        }
        let Some(conn) = &mut pair.conn else {
            return Ok(());
        };
        let (Event::Arrive(side) | Event::Room(side) | Event::Timer(side) | Event::Act(side)) =
            event
        else {
            return Ok(());
        };
        if conn.is_gone(side) {
            return Ok(());
        }
        let paused = conn.peer(side).paused_until;
        if paused > self.now {
            self.at(paused, number, life, event);
            return Ok(());
        }
        woken(&mut pair.wakes, event);
        let mut shared = Shared {
            now: self.now,
            rng: &mut self.rng,
            options: self.options,
            keys: &mut self.keys,
        };
        match event {
            Event::Arrive(_) => {
                let at = match conn.arrive(side, &mut shared)? {
                    Arrival::Bytes(_) => Some(shared.now),
                    Arrival::Later(at) => Some(at),
                    Arrival::Hangup | Arrival::Nothing => None,
                };
                if let Some(at) = at {
                    self.wake(pair, number, at, event);
                }
            }
            Event::Timer(_) => conn.timeout(side, &mut shared)?,
            Event::Act(_) => {
                conn.act(side, &mut shared)?;
                self.next_act(number, life, side);
            }
            _ => {}
        }
        self.flush(pair, number, side)
    }

    fn connect(&mut self, pair: &mut Pair, number: usize) {
        pair.life += 1;
        pair.wakes = Default::default();
        let mut shared = Shared {
            now: self.now,
            rng: &mut self.rng,
            options: self.options,
            keys: &mut self.keys,
        };
        pair.conn = Some(Conn::new(&mut shared));
        self.summary.connections += 1;
        for side in [Side::Initiator, Side::Acceptor] {
            self.at(self.now, number, pair.life, Event::Room(side));
            self.next_act(number, pair.life, side);
        }
    }

    fn next_act(&mut self, number: usize, life: u64, side: Side) {
        let pace = self.options.pace.as_nanos() as u64;
        // What is left to do then is to read and to end things, all of it in one act.
        let pace = if self.healed() {
            pace.max(20_000_000)
        } else {
            pace
        };
        let at = self.now + Duration::from_nanos(self.rng.below(2 * pace));
        self.at(at, number, life, Event::Act(side));
    }

    /// Writes what an end has to say and arms what wakes the ends again.
    fn flush(&mut self, pair: &mut Pair, number: usize, side: Side) -> Step {
        let Some(conn) = &mut pair.conn else {
            return Ok(());
        };
        let mut shared = Shared {
            now: self.now,
            rng: &mut self.rng,
            options: self.options,
            keys: &mut self.keys,
        };
        let to = other(side);
        let was_empty = conn.pipe_to(to).is_empty();
        let more = match conn.is_gone(side) {
            true => More::No,
            false => conn.flush(side, &mut shared)?,
        };
        let wakes = was_empty && !conn.pipe_to(to).is_empty() || conn.is_gone(side);
        let (roomy, deadline) = (
            conn.pipe_to(to).roomy_at(self.now),
            conn.peer(side).session.poll_timeout(),
        );
        let over = conn.outcome() == Outcome::Over;
        if wakes {
            self.wake(pair, number, self.now, Event::Arrive(to));
        }
        if more == More::Yes {
            self.wake(pair, number, roomy, Event::Room(side));
        }
        if let Some(at) = deadline {
            self.wake(pair, number, at, Event::Timer(side));
        }
        if over {
            self.over(pair, number);
        }
        Ok(())
    }

    /// Sets an event for one end, unless it is set for as early.
    fn wake(&mut self, pair: &mut Pair, number: usize, at: Time, event: Event) {
        // A timer that is due already was looked at just now.
        let at = match event {
            Event::Timer(_) => at.max(self.now + Duration::from_nanos(1)),
            _ => at.max(self.now),
        };
        if let Some(set) = slot(&mut pair.wakes, event)
            && set.is_none_or(|set| at < set)
        {
            *set = Some(at);
            self.at(at, number, pair.life, event);
        }
    }

    /// Both ends of a connection are gone.
    fn over(&mut self, pair: &mut Pair, number: usize) {
        let conn = pair.conn.take();
        self.summary.delivered += conn.map_or(0, |conn| conn.truth.delivered);
        pair.life += 1;
        if self.healed() {
            pair.done = true;
        } else {
            let pause = Duration::from_millis(self.rng.between(1, 200));
            self.at(self.now + pause, number, pair.life, Event::Connect);
        }
    }

    /// Once faults have stopped: lets everything come to an end, and sees that it does.
    fn watch(&mut self, number: usize) -> Step {
        let (now, healed) = (self.now, self.healed());
        let Some(pair) = self.pairs.get_mut(number) else {
            return Ok(());
        };
        let life = pair.life;
        if pair.done {
            return Ok(());
        }
        let mut woken = false;
        match &mut pair.conn {
            // Between two connections.
            None if healed => pair.done = true,
            Some(conn) if healed => {
                conn.wind_up();
                let pending = conn.pending();
                if let Some(pending) = &pending {
                    let since = now.saturating_since(conn.truth.progress.max(self.heal_at));
                    if since > STUCK && conn.bond != Bond::Broken {
                        return broken("progress", format!("nothing for {since:?}: {pending}"));
                    }
                } else if conn.bond == Bond::Whole {
                    conn.close(Side::Initiator, now, Duration::from_secs(60));
                    woken = true;
                }
            }
            _ => {}
        }
        if woken {
            self.at(now, number, life, Event::Room(Side::Initiator));
        }
        self.at(now + WATCH, number, life, Event::Watch);
        Ok(())
    }

    /// Something goes wrong, or does not.
    fn fault(&mut self, number: usize) {
        if self.healed() {
            return;
        }
        let (now, faults) = (self.now, self.options.faults);
        let side = match self.rng.chance(50) {
            true => Side::Initiator,
            false => Side::Acceptor,
        };
        let wait = Duration::from_millis(self.rng.between(1, 4_000));
        let drain = Duration::from_millis(self.rng.between(0, 20_000));
        let mut happens = |percent| self.rng.chance(percent);
        let (stalls, pauses) = (happens(faults.stall), happens(faults.pause));
        let (cuts, halves) = (happens(faults.cut), happens(faults.half_close));
        let closes = happens(faults.close);
        let Some(pair) = self.pairs.get_mut(number) else {
            return;
        };
        let life = pair.life;
        let mut wakes = Vec::new();
        if let Some(conn) = &mut pair.conn {
            if stalls {
                conn.pipe_to(side).stall(now, wait);
            }
            if pauses {
                conn.peer(side).paused_until = now + wait;
            }
            if cuts {
                conn.bond = Bond::Broken;
                conn.pipe_to(Side::Initiator).cut();
                conn.pipe_to(Side::Acceptor).cut();
                wakes = vec![
                    Event::Arrive(Side::Initiator),
                    Event::Arrive(Side::Acceptor),
                ];
            } else if halves {
                conn.bond = Bond::Broken;
                conn.pipe_to(side).close();
                wakes = vec![Event::Arrive(side)];
            } else if closes && conn.peer(side).session.is_ready() {
                conn.close(side, now, drain);
                wakes = vec![Event::Room(side)];
            }
        }
        for event in wakes {
            self.at(now, number, life, event);
        }
        let pause = Duration::from_millis(self.rng.between(50, 1_000));
        self.at(now + pause, number, 0, Event::Fault);
    }
}

/// Where it is noted for when an event is set.
fn slot(wakes: &mut [Wakes; 2], event: Event) -> Option<&mut Option<Time>> {
    let (Event::Arrive(side) | Event::Room(side) | Event::Timer(side)) = event else {
        return None;
    };
    let [client, server] = wakes;
    let wakes = match side {
        Side::Initiator => client,
        Side::Acceptor => server,
    };
    match event {
        Event::Arrive(_) => Some(&mut wakes.arrive),
        Event::Room(_) => Some(&mut wakes.room),
        _ => Some(&mut wakes.timer),
    }
}

/// An event that was set has come.
fn woken(wakes: &mut [Wakes; 2], event: Event) {
    if let Some(set) = slot(wakes, event) {
        *set = None;
    }
}
