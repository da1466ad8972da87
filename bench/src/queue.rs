//! Jobs per second through everything but execution: plan, scheduler, journal, frames, dummy
//! executor and back; and how soon a full queue moves again after a restart.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustci_pipeline::Executor;
use rustci_runner::{RunnerConfig, Stop};
use rustci_scheduler::StoredPlan;
use rustci_server::engine::{EngineConfig, EngineHandle};
use telemetry::Metrics;
use tokio::sync::watch;
use valkyrie::{Endpoint, Shard};

use crate::disk::{RawSync, scratch};
use crate::node::{Node, NodeThread, Store};
use crate::plans::{plan, submission, submission_of};
use crate::report::{Report, percentile};
use crate::script::{Seen, Work, runner};

const JOBS_PER_PLAN: usize = 500;
const PLANS: usize = 200;
const ROUNDS: usize = 3;
const RUNNERS: usize = 4;
/// Projects among which the plans are divided where there are several.
const PROJECTS: usize = 20;
/// Jobs that one runner holds at once; the class of job streams has room for more.
const CAPACITY: u32 = 256;
/// Submissions under way at once.
const SUBMITTING: usize = 8;
const QUEUED_PLANS: usize = 100;
const QUEUED_PER_PLAN: usize = 1_000;
const QUEUED: usize = QUEUED_PLANS * QUEUED_PER_PLAN;
const RESTARTS: usize = 3;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let plans: Vec<_> = (0..PLANS)
        .map(|number| plan(number, JOBS_PER_PLAN))
        .collect::<Result<_>>()?;
    let (mut durable, mut memory, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let mut shared = Vec::new();
    for _ in 0..ROUNDS {
        let directory = scratch()?;
        let journal = directory.path().join("journal");
        let (rate, bytes) = throughput(Store::Files(&journal), directory.path(), &plans, 1)?;
        durable.push(rate);
        raw.push(bare_rate(directory.path(), bytes)?);
        let directory = scratch()?;
        memory.push(throughput(Store::Memory, directory.path(), &plans, 1)?.0);
        let directory = scratch()?;
        shared.push(throughput(Store::Memory, directory.path(), &plans, PROJECTS)?.0);
    }
    report.ours(
        "durable_jobs_per_s",
        percentile(&mut durable, 0.5),
        "1/s",
        ">= 20,000",
    );
    report.peer(
        "write",
        "written_jobs_per_s",
        percentile(&mut raw, 0.5),
        "1/s",
    );
    report.ours(
        "memory_jobs_per_s",
        percentile(&mut memory, 0.5),
        "1/s",
        ">= 100,000",
    );
    report.ours(
        "memory_20_projects_per_s",
        percentile(&mut shared, 0.5),
        "1/s",
        "",
    );
    let mut restarts = Vec::new();
    let mut reads = Vec::new();
    let directory = scratch()?;
    let journal = directory.path().join("journal");
    fill(&journal)?;
    for _ in 0..RESTARTS {
        reads.push(read_all(&journal)?);
        restarts.push(restart(&journal)?);
    }
    report.ours(
        "restart_100k_jobs_ms",
        percentile(&mut restarts, 0.5),
        "ms",
        "< 2000",
    );
    report.peer("read", "read_journal_ms", percentile(&mut reads, 0.5), "ms");
    Ok(())
}

/// Jobs per second from the first submission to the last durable completion, and the bytes that
/// the records have.
fn throughput(
    store: Store<'_>,
    directory: &Path,
    plans: &[Arc<StoredPlan>],
    projects: usize,
) -> Result<(f64, u64)> {
    let at: Endpoint = "valkyrie+mem://queue".parse()?;
    let node = NodeThread::start(store, &at, EngineConfig::default())?;
    node.seen.prepare();
    let (stop, stopped) = watch::channel(Stop::No);
    let state = directory.join("runners");
    let runners = Shard::spawn("runners", move || run_runners(at, state, stopped))?;
    let jobs = plans
        .iter()
        .map(|plan| plan.plan().jobs.len())
        .sum::<usize>();
    let rate = valkyrie::block_on(async {
        until_registered(&node.handle).await?;
        let start = Instant::now();
        submit_all(&node.handle, plans, projects).await?;
        while !node.seen.has_ended(jobs as u64) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ensure!(
                start.elapsed() < Duration::from_secs(60),
                "the queue does not empty"
            );
        }
        Ok(jobs as f64 / start.elapsed().as_secs_f64())
    })??;
    node.seen.check(plans.len(), JOBS_PER_PLAN)?;
    let bytes = node.seen.bytes();
    stop.send_replace(Stop::Drain);
    runners.join()??;
    node.stop()?;
    Ok((rate, bytes))
}

/// The product's runner, several times, on one shard.
async fn run_runners(
    at: Endpoint,
    state: std::path::PathBuf,
    stopped: watch::Receiver<Stop>,
) -> Result<()> {
    let mut running = Vec::new();
    for number in 0..RUNNERS {
        let name = format!("r{number}");
        let mut config = RunnerConfig::new(name.clone(), at.clone(), state.join(name));
        config.executors = vec![Executor::Dummy];
        config.labels = vec!["executor=dummy".to_owned()];
        config.capacity = CAPACITY;
        running.push(tokio::task::spawn_local(rustci_runner::run(
            config,
            stopped.clone(),
        )));
    }
    for runner in running {
        runner.await??;
    }
    Ok(())
}

async fn until_registered(handle: &EngineHandle) -> Result<()> {
    let start = Instant::now();
    while handle.runners().await?.len() < RUNNERS {
        ensure!(
            start.elapsed() < Duration::from_secs(10),
            "the runners do not register"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Submits plans in order, a few at a time; jobs get their ids in that order.
async fn submit_all(
    handle: &EngineHandle,
    plans: &[Arc<StoredPlan>],
    projects: usize,
) -> Result<()> {
    let numbered: Vec<_> = plans.iter().enumerate().collect();
    for some in numbered.chunks(SUBMITTING) {
        let submitted = some.iter().map(|(number, plan)| {
            let project = format!("p{}", number % projects);
            handle.submit(submission_of(plan, &project))
        });
        futures_util::future::try_join_all(submitted).await?;
    }
    Ok(())
}

/// The jobs per second that the disk alone would allow: the same bytes in batches of 64 KiB, each
/// written and synced.
fn bare_rate(directory: &Path, bytes: u64) -> Result<f64> {
    const BATCH: usize = 64 << 10;
    let mut raw = RawSync::new(directory, bytes + BATCH as u64, BATCH)?;
    let start = Instant::now();
    for _ in 0..bytes.div_ceil(BATCH as u64) {
        raw.sample()?;
    }
    Ok((PLANS * JOBS_PER_PLAN) as f64 / start.elapsed().as_secs_f64())
}

/// Leaves 100,000 queued jobs in the journal.
fn fill(journal: &Path) -> Result<()> {
    let at: Endpoint = "valkyrie+mem://fill".parse()?;
    let node = NodeThread::start(Store::Files(journal), &at, EngineConfig::default())?;
    valkyrie::block_on(async {
        for number in 0..QUEUED_PLANS {
            let plan = plan(number, QUEUED_PER_PLAN)?;
            node.handle.submit(submission(&plan)).await?;
        }
        Ok::<_, anyhow::Error>(())
    })??;
    node.stop()
}

/// Milliseconds from opening the journal to the first job at a runner that connects at once. The
/// runner keeps the job, so the next restart finds 100,000 unfinished jobs again.
fn restart(journal: &Path) -> Result<f64> {
    valkyrie::block_on(async {
        let at: Endpoint = "valkyrie+mem://restart".parse()?;
        let config = EngineConfig::default();
        let metrics = config.metrics.clone();
        let start = Instant::now();
        let node = Node::start(Store::Files(journal), &at, config).await?;
        let seen = Rc::new(Seen::default());
        let link = runner(&at, "r", 1, Work::Keep, &seen).await?;
        seen.wait(|seen| seen.requests.get() > 0).await?;
        let elapsed = start.elapsed();
        node.handle.measure().await?;
        ensure!(
            depth(&metrics)? + RESTARTS >= QUEUED,
            "jobs are missing after the restart"
        );
        drop(link);
        node.stop().await?;
        Ok(elapsed.as_secs_f64() * 1e3)
    })?
}

/// Jobs that wait for a runner, as the metrics have it.
fn depth(metrics: &Metrics) -> Result<usize> {
    let text = metrics.encode();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("rustci_queue_depth "));
    Ok(line.context("no queue depth")?.parse()?)
}

/// Milliseconds that reading the same files takes.
fn read_all(journal: &Path) -> Result<f64> {
    let start = Instant::now();
    let mut bytes = 0;
    for entry in std::fs::read_dir(journal)? {
        bytes += std::fs::read(entry?.path())?.len();
    }
    ensure!(bytes > 0, "the journal is empty");
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
