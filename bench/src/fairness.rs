//! How evenly projects are served when one of them asks for ten times as much as the others.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Result, ensure};
use rustci_scheduler::{Command, Pause};
use rustci_server::engine::EngineConfig;
use valkyrie::Endpoint;

use crate::node::{Node, Store};
use crate::plans::{expected, plan, submission_of};
use crate::report::Report;
use crate::script::{Seen, Work, runner};

const PROJECTS: usize = 10;
/// Jobs of each project but the first, which has ten times as many.
const JOBS: usize = 1_000;
const FLOOD: usize = 10 * JOBS;
/// Jobs that are served before it is counted: half of what all but the first have.
const SERVED: u64 = (PROJECTS * JOBS / 2) as u64;
const RUNNERS: u32 = 4;
const CAPACITY: u32 = 8;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let served = valkyrie::block_on(serve())??;
    for (project, count) in served.iter().enumerate().skip(1) {
        ensure!(*count < JOBS as f64, "project {project} ran out of jobs");
    }
    report.ours("jain_index", jain(&served), "", ">= 0.95");
    // In the order of submission the first project alone would have been served.
    let mut fifo = vec![0.0; PROJECTS];
    if let Some(first) = fifo.first_mut() {
        *first = served.iter().sum();
    }
    report.peer("fifo", "jain_index", jain(&fifo), "");
    Ok(())
}

/// Lets all projects queue up, then serves some jobs; gives how many of each project.
async fn serve() -> Result<Vec<f64>> {
    let at: Endpoint = "valkyrie+mem://fairness".parse()?;
    let node = Node::start(Store::Memory, &at, EngineConfig::default()).await?;
    node.handle.operate(Command::Pause(Pause::On)).await?;
    let mut owner = HashMap::new();
    let mut number = 0;
    for project in 0..PROJECTS {
        let jobs = if project == 0 { FLOOD } else { JOBS };
        for _ in 0..jobs / JOBS {
            let plan = plan(number, JOBS)?;
            let name = format!("p{project}");
            node.handle.submit(submission_of(&plan, &name)).await?;
            owner.extend((0..JOBS).map(|place| (expected(number, place), project)));
            number += 1;
        }
    }
    let seen = Rc::new(Seen::default());
    let mut links = Vec::new();
    for number in 0..RUNNERS {
        let name = format!("r{number}");
        links.push(runner(&at, &name, CAPACITY, Work::Finish, &seen).await?);
    }
    node.handle.operate(Command::Pause(Pause::Off)).await?;
    seen.wait(|seen| seen.acknowledged.get() >= SERVED).await?;
    let mut served = vec![0.0; PROJECTS];
    for (output, times) in seen.orders.borrow().iter() {
        ensure!(*times == 1, "a job was done {times} times");
        let project = owner.get(output).and_then(|owner| served.get_mut(*owner));
        *project.ok_or_else(|| anyhow::anyhow!("an unknown job was done"))? += 1.0;
    }
    drop(links);
    node.stop().await?;
    Ok(served)
}

/// Jain's index: 1 when all have the same, 1 / n when one has everything.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}
