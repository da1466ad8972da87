//! The loop: one event after the other, until everything has ended or time is up.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use valkyrie_frame::Time;

use crate::{
    net::End,
    options::Options,
    oracle::{Gates, Violation},
    runner::Runner,
    server::Server,
    world::{Event, World},
};

/// Virtual time from the end of all faults to the end of everything.
const LIVENESS: Duration = Duration::from_secs(3_600);
/// Events after which a simulation that does not end is given up.
const STEPS_MAX: u64 = 2_000_000;

/// What a simulation did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Events handled.
    pub steps: u64,
    /// Virtual time passed.
    pub elapsed: Duration,
    /// Jobs that ended with an attempt.
    pub completions: usize,
    /// Slots, approvals, matrices and reruns.
    pub gates: Gates,
    /// Times the control plane was started.
    pub starts: usize,
    /// A number over everything that happened: equal for equal histories.
    pub trace: u64,
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What was simulated.
    pub options: Options,
    /// Which invariant, by its number in the list of invariants.
    pub invariant: &'static str,
    /// What was found instead.
    pub detail: String,
    /// After how many events.
    pub step: u64,
    /// At what virtual time.
    pub at: Duration,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "invariant {} is broken: {}", self.invariant, self.detail)?;
        writeln!(
            f,
            "after {} events, at {:?} of virtual time",
            self.step, self.at
        )?;
        writeln!(f, "{}", self.options)?;
        write!(
            f,
            "replay it with: cargo run -p rustci-sim -- --seed {}",
            self.options.seed
        )
    }
}

/// Plays one seed.
///
/// # Errors
/// [`Failure`] with the first invariant that does not hold, or with a panic of the code under test.
pub fn run(options: Options) -> Result<Summary, Box<Failure>> {
    let simulation = AssertUnwindSafe(|| Simulation::new(options.clone()).run());
    catch_unwind(simulation).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let detail = text.unwrap_or("a panic without words").to_owned();
        let (invariant, step, at) = ("panic", 0, Duration::ZERO);
        Err(Box::new(Failure {
            options,
            invariant,
            detail,
            step,
            at,
        }))
    })
}

/// The nodes and how far they are.
pub(crate) struct Simulation {
    pub(crate) world: World,
    pub(crate) server: Server,
    /// Runners, and behind them their clones.
    pub(crate) runners: Vec<Runner>,
    pub(crate) healed: bool,
    steps: u64,
    trace: u64,
}

impl Simulation {
    fn new(options: Options) -> Self {
        let count = options.runners;
        let mut runners: Vec<_> = (0..count)
            .map(|number| Runner::new(number, number))
            .collect();
        runners.extend((0..count).map(|number| Runner::new(count + number, number)));
        let mut simulation = Self {
            world: World::new(options),
            server: Server::default(),
            runners,
            healed: false,
            steps: 0,
            trace: 0xcbf2_9ce4_8422_2325,
        };
        simulation.plan();
        simulation
    }

    /// Decides when what begins.
    fn plan(&mut self) {
        let world = &mut self.world;
        world.after(Duration::ZERO, Event::StartServer);
        for runner in 0..world.options.runners {
            let delay = world.millis(0, 2_000);
            world.after(delay, Event::StartRunner { runner });
        }
        let faulty = u64::try_from(world.options.faulty.as_millis()).unwrap_or(u64::MAX);
        for _ in 0..world.options.runs {
            let delay = world.millis(0, faulty);
            world.after(delay, Event::Submit);
        }
        for fault in world.options.faults.clone() {
            if fault.is_event() {
                for _ in 0..world.rng.between(1, 5) {
                    let delay = world.millis(500, faulty);
                    world.after(delay, Event::Fault(fault));
                }
            }
        }
        let delay = world.millis(500, 10_000);
        world.after(delay, Event::Answer);
        world.after(world.options.faulty, Event::Heal);
    }

    fn run(mut self) -> Result<Summary, Box<Failure>> {
        let deadline = Time::ZERO + self.world.options.faulty + LIVENESS;
        while let Some((at, event)) = self.world.queue.pop() {
            self.world.now = at;
            self.steps += 1;
            if at > deadline || self.steps > STEPS_MAX {
                let open = self.open_work();
                self.world
                    .oracle
                    .fail("I12", format!("not everything ended: {open}"));
            } else if let Some(later) = self.paused(&event) {
                self.world.queue.at(later, event);
                continue;
            } else {
                self.note(at, &event);
                self.handle(event);
            }
            if let Some(violation) = self.world.oracle.violation.take() {
                return Err(Box::new(self.failure(violation)));
            }
            if self.healed && self.steps.is_multiple_of(16) && self.open_work().is_empty() {
                break;
            }
        }
        self.server.with(&mut self.world, |process, world| {
            world.oracle.compare(&process.scheduler);
        });
        match self.world.oracle.violation.take() {
            Some(violation) => Err(Box::new(self.failure(violation))),
            None => Ok(self.summary()),
        }
    }

    fn failure(&self, violation: Violation) -> Failure {
        Failure {
            options: self.world.options.clone(),
            invariant: violation.invariant,
            detail: violation.detail,
            step: self.steps,
            at: self.world.now.saturating_since(Time::ZERO),
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            steps: self.steps,
            elapsed: self.world.now.saturating_since(Time::ZERO),
            completions: self.world.oracle.completions,
            gates: self.world.oracle.gates,
            starts: self.world.oracle.recoveries,
            trace: self.trace,
        }
    }

    /// Folds an event into the trace.
    fn note(&mut self, at: Time, event: &Event) {
        let text = format!("{} {event:?}", at.as_nanos());
        for byte in text.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// When an event can happen whose node stands still.
    fn paused(&self, event: &Event) -> Option<Time> {
        let until = match (event.node()?, event) {
            (End::Server, _) => self.server.paused_until,
            (End::Runner, Event::Connect { runner, .. } | Event::Work { runner, .. }) => {
                self.runners.get(*runner)?.paused_until
            }
            (End::Runner, Event::Arrival { conn, .. } | Event::SessionTimer { conn, .. }) => {
                self.runners
                    .iter()
                    .find(|runner| runner.has(*conn))?
                    .paused_until
            }
            (End::Runner, _) => return None,
        };
        (until > self.world.now).then_some(until)
    }

    fn handle(&mut self, event: Event) {
        let Self { world, server, .. } = self;
        match event {
            Event::Arrival {
                conn,
                to: End::Server,
            } => server.arrival(conn, world),
            Event::Arrival {
                conn,
                to: End::Runner,
            } => {
                if let Some(runner) = self.runners.iter_mut().find(|runner| runner.has(conn)) {
                    runner.arrival(conn, world);
                }
            }
            Event::SessionTimer {
                conn,
                end: End::Server,
            } => server.session_timer(conn, world),
            Event::SessionTimer {
                conn,
                end: End::Runner,
            } => {
                if let Some(runner) = self.runners.iter_mut().find(|runner| runner.has(conn)) {
                    runner.session_timer(world);
                }
            }
            Event::SchedulerTimer => server.with(world, |process, world| process.tick(world)),
            Event::Synced { life } => server.synced(life, world),
            Event::LogsSynced { life } => server.logs_synced(life, world),
            Event::StartServer => server.start(world),
            Event::StartRunner { runner } => self.with_runner(runner, Runner::start),
            Event::Connect { runner, life } => self.connect(runner, life),
            Event::Work {
                runner,
                life,
                token,
            } => {
                self.with_runner(runner, |runner, world| runner.work(life, token, world));
            }
            Event::EndClone { runner } => self.with_runner(runner, |runner, world| {
                runner.die(world);
                runner.spool.clear();
            }),
            Event::Submit => self.submit(),
            Event::Answer => self.answer(),
            Event::Undrain => self.undrain(),
            Event::Heal => self.heal(),
            Event::Fault(fault) if !self.healed => self.fault(fault),
            Event::Fault(_) => {}
        }
    }

    pub(crate) fn with_runner(
        &mut self,
        number: usize,
        action: impl FnOnce(&mut Runner, &mut World),
    ) {
        if let Some(runner) = self.runners.get_mut(number) {
            action(runner, &mut self.world);
        }
    }

    /// A runner reaches the control plane only while it is there.
    fn connect(&mut self, number: usize, life: u64) {
        if self.server.process.is_some() {
            self.with_runner(number, |runner, world| runner.connect(life, world));
        } else {
            let delay = self.world.millis(50, 1_000);
            self.world.after(
                delay,
                Event::Connect {
                    runner: number,
                    life,
                },
            );
        }
    }

    /// What has not ended; empty when everything has.
    fn open_work(&mut self) -> String {
        let Some(process) = &self.server.process else {
            return "the control plane is down".to_owned();
        };
        let open = process
            .scheduler
            .runs()
            .find(|run| run.conclusion.is_none());
        if let Some(run) = open {
            let jobs: Vec<_> = (0..run.jobs.len()).map(|place| run.job_id(place)).collect();
            let waiting = jobs.iter().find_map(|job| process.scheduler.waiting(*job));
            let waiting = waiting.map_or(String::new(), |waiting| waiting.to_string());
            return format!("run {} is open; {waiting}", run.id);
        }
        let held = self.runners.iter().find(|runner| !runner.spool.is_empty());
        if let Some(runner) = held {
            return format!("runner {} still has attempts", runner.number);
        }
        String::new()
    }
}
