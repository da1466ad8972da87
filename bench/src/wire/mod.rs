//! Valkyrie beside what else moves messages: `messages`, `calls`, `latency`, `bulk`, `connections`,
//! `growth`.
//!
//! An [`Entrant`] is one of those measured, a [`Case`] what it does in one bench. Every slice of a
//! case runs in a process of its own, so that no entrant inherits threads, memory or a core from
//! another, and the slices of all take turns, so that a change of the machine's speed hits all. The
//! figure is the median over the slices of a case. Each case checks what arrived.

mod count;
mod frame;
mod growth;
mod limit;
mod measure;
mod memory;
mod metric;
mod ours;
#[cfg(feature = "peers")]
mod peers;
pub(crate) mod place;
mod raw;
mod slice;
mod socket;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::processes;
use crate::report::{Report, note};
use growth::{Growth, Load};
use measure::{Figures, Hist};
use memory::Idle;
use metric::{Medians, Metric};
use place::Place;

/// Calls that wait for their answer at the same time, on one connection.
const CALLS_IN_FLIGHT: u64 = 256;
/// Connections that many messages are spread over.
const CONNECTIONS: u64 = 1_024;
/// Messages to one of them before the next has its turn.
const MESSAGES_A_FLUSH: u64 = 128;
/// Round trips that one slice of [`Work::Pinned`] and [`Work::Parked`] times.
const ROUNDS: usize = 8_000;

/// One of those that are measured.
pub(crate) struct Entrant {
    /// The `peer` of its figures.
    name: &'static str,
    cases: &'static [Case],
}

/// What an entrant does in one bench.
pub(crate) struct Case {
    bench: &'static str,
    work: Work,
}

impl Case {
    const fn new(bench: &'static str, work: Work) -> Self {
        Self { bench, work }
    }
}

/// That many round trips, one at a time, with the ends where the place says.
type Echo = fn(usize, Place) -> Result<Hist>;

enum Work {
    /// Figures under the names it gives them.
    Run(fn() -> Result<Figures>),
    /// The same, of figures that another slice would not change.
    Once(fn() -> Result<Figures>),
    /// Latency with both ends on one core.
    Pinned(Echo),
    /// Latency with both ends on their own cores, sleeping while they wait; and wake-ups.
    Parked(Echo),
    /// System calls of a round trip.
    Counted(Echo),
    /// Memory of a connection that does nothing.
    Idle(Idle),
    /// What connections and calls cost the more of them there are.
    Growth(Growth),
}

impl Work {
    /// How many slices it takes until the median stands.
    fn slices(&self) -> usize {
        match self {
            Self::Run(_) | Self::Pinned(_) | Self::Parked(_) => 5,
            Self::Growth(_) => 3,
            Self::Once(_) | Self::Counted(_) | Self::Idle(_) => 1,
        }
    }

    fn measure(&self, case: &str) -> Result<Figures> {
        match self {
            Self::Run(run) | Self::Once(run) => run(),
            Self::Pinned(echo) => {
                let mut hist = echo(ROUNDS, Place::OneCore)?;
                Ok(vec![
                    ("tcp_pinned_p50_us", hist.us(0.5)),
                    ("tcp_pinned_p99_us", hist.us(0.99)),
                ])
            }
            Self::Parked(echo) => {
                let before = count::wake_ups()?;
                let mut hist = echo(ROUNDS, Place::TwoCores)?;
                let rounds = ROUNDS + measure::WARM_UP;
                let wake_ups = (count::wake_ups()? - before) as f64 / rounds as f64;
                Ok(vec![
                    ("tcp_parked_p50_us", hist.us(0.5)),
                    ("tcp_parked_p99_us", hist.us(0.99)),
                    ("wakeups_per_round_trip", wake_ups),
                ])
            }
            Self::Counted(_) => Ok(vec![(
                "syscalls_per_round_trip",
                count::system_calls(case)?,
            )]),
            Self::Idle(idle) => Ok(vec![("tcp_kib_per_connection", idle.measure(case)?)]),
            Self::Growth(_) => Growth::measure(case),
        }
    }
}

/// Those that are always measured; none of them may fail.
const OWN: &[Entrant] = &[ours::OURS, raw::RAW, raw::STD, limit::LIMIT];

/// Other projects; one that cannot run here is left out, with the reason.
#[cfg(feature = "peers")]
const PEERS: &[Entrant] = peers::PEERS;
#[cfg(not(feature = "peers"))]
const PEERS: &[Entrant] = &[];

/// Measures all that take part in `bench` and reports their figures.
pub(crate) fn run(bench: &str, report: &mut Report) -> Result<()> {
    if bench == "messages" {
        // Built before the time of a slice runs.
        processes::allocations()?;
    }
    let mut medians = Medians::default();
    let mut left_out = Vec::new();
    for round in 0.. {
        let mut busy = false;
        for (entrant, index, case) in cases(bench) {
            if round >= case.work.slices() || left_out.contains(&(entrant.name, index)) {
                continue;
            }
            busy = true;
            match slice::run(&format!("{}/{index}", entrant.name)) {
                Ok(figures) => medians.add(entrant.name, figures)?,
                Err(error) if PEERS.iter().any(|peer| peer.name == entrant.name) => {
                    note(&format!("{bench}: {} left out: {error:#}", entrant.name));
                    left_out.push((entrant.name, index));
                }
                Err(error) => return Err(error.context(entrant.name)),
            }
        }
        if !busy {
            break;
        }
    }
    for metric in Metric::of(bench) {
        medians.report(metric, report);
    }
    Ok(())
}

fn entrants() -> impl Iterator<Item = &'static Entrant> {
    OWN.iter().chain(PEERS)
}

fn cases(bench: &str) -> impl Iterator<Item = (&'static Entrant, usize, &'static Case)> {
    entrants().flat_map(move |entrant| {
        let cases = entrant.cases.iter().enumerate();
        cases
            .filter(move |(_, case)| case.bench == bench)
            .map(move |(index, case)| (entrant, index, case))
    })
}

/// What a process does that this program starts.
#[derive(Subcommand)]
pub(crate) enum Part {
    /// Measures one slice of a case, named as entrant/index.
    Slice { case: String },
    /// Makes round trips, to be watched from outside.
    Rounds { case: String, rounds: usize },
    /// Serves at a port until it is killed.
    Serve { case: String, port: u16 },
    /// Opens connections to a server and makes calls, with a word from outside before each part.
    Load {
        case: String,
        at: SocketAddr,
        connections: usize,
        calls: usize,
    },
}

impl Part {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Slice { case } => slice::main(&find(&case)?.work, &case),
            Self::Rounds { case, rounds } => match find(&case)?.work {
                Work::Counted(echo) => echo(rounds, Place::TwoCores).map(drop),
                _ => anyhow::bail!("{case} has no rounds to count"),
            },
            Self::Serve { case, port } => match &find(&case)?.work {
                Work::Idle(idle) => idle.serve(port),
                Work::Growth(growth) => growth.serve(port),
                _ => anyhow::bail!("{case} has no server"),
            },
            Self::Load {
                case,
                at,
                connections,
                calls,
            } => match &find(&case)?.work {
                Work::Growth(growth) => growth.load(at, Load { connections, calls }),
                _ => anyhow::bail!("{case} has no load"),
            },
        }
    }
}

fn find(case: &str) -> Result<&'static Case> {
    let (name, index) = case.split_once('/').context("a case is entrant/index")?;
    let index: usize = index.parse()?;
    entrants()
        .find(|entrant| entrant.name == name)
        .and_then(|entrant| entrant.cases.get(index))
        .with_context(|| format!("there is no case {case}"))
}
