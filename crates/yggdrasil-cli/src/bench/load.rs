//! Clients that ask, and how long answers take.
//!
//! Without a rate a client asks again when it has its answers, so it asks less while the server is slow,
//! and the slow time counts once. With a rate each request is due at a time of its own, is sent then
//! whether or not earlier ones have their answers, and is timed from when it was due.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::task::{Random, Task};
use crate::args::BenchArgs;
use crate::client::{Client, Outgoing};
use crate::failure::Failure;

/// Most requests that are sent at once because they are due.
const AT_ONCE: usize = 1024;

/// What came of a load.
pub(super) struct Outcome {
    /// In nanoseconds.
    pub(super) times: Histogram<u64>,
    pub(super) errors: u64,
    /// The first of them.
    pub(super) error: Option<String>,
}

impl Outcome {
    fn new() -> Result<Self, Failure> {
        // Three digits, up to a minute; what takes longer counts as that.
        let times = Histogram::new_with_max(60_000_000_000, 3);
        let times = times.map_err(|error| Failure::System {
            what: "count times",
            error: std::io::Error::other(error),
        })?;
        Ok(Self {
            times,
            errors: 0,
            error: None,
        })
    }

    fn answered(&mut self, took: Duration, wrong: Option<String>) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.times.saturating_record(took);
        if let Some(wrong) = wrong {
            self.errors += 1;
            self.error.get_or_insert(wrong);
        }
    }

    fn add(&mut self, other: Self) {
        // Both have the same bounds.
        let _ = self.times.add(&other.times);
        self.errors += other.errors;
        self.error = self.error.take().or(other.error);
    }
}

pub(super) fn run(clients: Vec<Client>, task: &Task, args: &BenchArgs) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let until = start + args.duration;
    let mut all = Outcome::new()?;
    thread::scope(|scope| {
        let clients = clients.into_iter().zip(0_u32..);
        let threads: Vec<_> = clients
            .map(|(client, number)| {
                scope.spawn(move || match args.rate {
                    None => closed(client, task, args.pipeline, number, until),
                    Some(rate) => {
                        let each = Duration::from_secs_f64(1.0 / f64::from(rate));
                        let plan = Plan {
                            first: start + each * number,
                            every: each * args.clients,
                            until,
                        };
                        open(client, task, number, plan)
                    }
                })
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(outcome) => all.add(outcome?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}

fn closed(
    mut client: Client,
    task: &Task,
    pipeline: u32,
    number: u32,
    until: Instant,
) -> Result<Outcome, Failure> {
    let (mut outcome, mut random) = (Outcome::new()?, Random(number.into()));
    let mut out = Vec::new();
    while Instant::now() < until {
        out.clear();
        for _ in 0..pipeline {
            task.ask(&mut out, &mut random);
        }
        let sent = Instant::now();
        client.send(&out)?;
        for _ in 0..pipeline {
            let reply = client.reply()?;
            outcome.answered(sent.elapsed(), task.wrong(&reply));
        }
    }
    Ok(outcome)
}

/// When the requests of a client are due.
#[derive(Clone, Copy)]
struct Plan {
    first: Instant,
    every: Duration,
    until: Instant,
}

fn open(client: Client, task: &Task, number: u32, plan: Plan) -> Result<Outcome, Failure> {
    let outgoing = client.outgoing()?;
    let (sent, waits) = channel();
    thread::scope(|scope| {
        let sender = scope.spawn(move || send(outgoing, task, number, plan, &sent));
        let outcome = receive(client, task, &waits);
        match sender.join() {
            // Where nothing can be sent nothing comes either, so the receiver knows as much.
            Ok(sent) => outcome.and_then(|outcome| sent.map(|()| outcome)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn send(
    mut outgoing: Outgoing,
    task: &Task,
    number: u32,
    plan: Plan,
    sent: &Sender<Instant>,
) -> Result<(), Failure> {
    let mut random = Random(number.into());
    let (mut out, mut due) = (Vec::new(), plan.first);
    while due < plan.until {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        out.clear();
        let now = Instant::now();
        let mut count = 0;
        while due <= now && due < plan.until && count < AT_ONCE {
            task.ask(&mut out, &mut random);
            // Nobody waits any more where the receiver has failed.
            if sent.send(due).is_err() {
                return Ok(());
            }
            due += plan.every;
            count += 1;
        }
        outgoing.send(&out)?;
    }
    Ok(())
}

fn receive(mut client: Client, task: &Task, waits: &Receiver<Instant>) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::new()?;
    for due in waits {
        let reply = client.reply()?;
        outcome.answered(due.elapsed(), task.wrong(&reply));
    }
    Ok(outcome)
}
