//! How soon the engine says why a job waits when 100,000 do.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustci_server::engine::{EngineConfig, EngineHandle, QueuePage};
use valkyrie::Endpoint;

use crate::node::{Node, Store};
use crate::plans::{plan, submission_of};
use crate::report::{Report, percentile};
use crate::script::{Seen, Work, runner};

const PLANS: usize = 500;
const JOBS: usize = 200;
const PROJECTS: usize = 50;
const QUEUED: usize = PLANS * JOBS;
const ASKED: usize = 5_000;
const CAPACITY: u32 = 8;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let [mut job, mut run, mut queue] = valkyrie::block_on(ask())??;
    for (metric, times, target) in [
        ("explain_p99_ms", &mut job, "< 5"),
        ("explain_run_p99_ms", &mut run, ""),
        ("queue_page_p99_ms", &mut queue, ""),
    ] {
        report.ours(metric, percentile(times, 0.99), "ms", target);
    }
    Ok(())
}

/// Milliseconds of every question: about one job, about a whole run, about the queue.
async fn ask() -> Result<[Vec<f64>; 3]> {
    let at: Endpoint = "valkyrie+mem://explain".parse()?;
    let node = Node::start(Store::Memory, &at, EngineConfig::default()).await?;
    for number in 0..PLANS {
        let plan = plan(number, JOBS)?;
        let project = format!("p{}", number % PROJECTS);
        node.handle.submit(submission_of(&plan, &project)).await?;
    }
    // It keeps its jobs, so the others wait for it.
    let seen = Rc::new(Seen::default());
    let link = runner(&at, "r", CAPACITY, Work::Keep, &seen).await?;
    seen.wait(|seen| seen.requests.get() >= u64::from(CAPACITY))
        .await?;
    let [mut jobs, mut runs, mut queues] = [const { Vec::new() }; 3];
    for asked in 0..ASKED {
        // Steps of a prime go through all jobs, front and back of the queue alike.
        let job = asked * 7_919 % QUEUED;
        jobs.push(explain_job(&node.handle, job).await?);
        if asked % 10 == 0 {
            let start = Instant::now();
            let run = node.handle.explain((job / JOBS + 1) as u64, None).await?;
            runs.push(start.elapsed().as_secs_f64() * 1e3);
            let run = run.context("a run is missing")?;
            ensure!(run.jobs.len() == JOBS, "jobs are missing");
            queues.push(look(&node.handle, asked).await?);
        }
    }
    drop(link);
    node.stop().await?;
    Ok([jobs, runs, queues])
}

async fn explain_job(handle: &EngineHandle, job: usize) -> Result<f64> {
    let number = (job + 1).to_string();
    let start = Instant::now();
    let explained = handle
        .explain((job / JOBS + 1) as u64, Some(number))
        .await?;
    let elapsed = start.elapsed();
    let explained = explained.context("a run is missing")?;
    let job = explained.jobs.first().context("a job is missing")?;
    ensure!(
        job.code == "running" || job.code == "capacity" && job.details.ahead_own.is_some(),
        "a job waits for {}",
        job.code
    );
    Ok(elapsed.as_secs_f64() * 1e3)
}

async fn look(handle: &EngineHandle, asked: usize) -> Result<f64> {
    let page = QueuePage {
        after: (0, asked as u64),
        project: None,
        limit: 100,
    };
    let start = Instant::now();
    let queue = handle.queue(page).await?;
    let elapsed = start.elapsed();
    let waiting = QUEUED as u64 - u64::from(CAPACITY);
    ensure!(queue.queued == waiting, "{} jobs are queued", queue.queued);
    ensure!(queue.jobs.len() == 100, "the page is not full");
    Ok(elapsed.as_secs_f64() * 1e3)
}
