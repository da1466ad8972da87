//! From a job that writes a line to the server that has it durable, and to a reader who follows.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustci_pipeline::{PlanRequest, compile};
use rustci_runner::{RunnerConfig, Stop};
use rustci_scheduler::StoredPlan;
use rustci_server::api::view::LogLine;
use rustci_server::engine::EngineConfig;
use rustci_server::logs::{LogKey, LogReader, LogStore};
use rustix::time::{ClockId, clock_gettime};
use telemetry::Metrics;
use tokio::sync::watch;
use valkyrie::{Endpoint, Shard};
use valkyrie_frame::LogChannel;

use crate::disk::{RawSync, scratch};
use crate::http::Api;
use crate::node::{NodeThread, Store};
use crate::plans::submission;
use crate::report::{Report, percentile};

const LINES: usize = 2_000;
const ROUNDS: usize = 3;
/// Lines at the start that do not count: processes, files and streams come into being.
const WARM_UP: usize = 100;
const INTERVAL: Duration = Duration::from_millis(2);

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let (mut middles, mut tails, mut raws, mut lives) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (mut durable, mut raw) = to_server()?;
        middles.push(percentile(&mut durable, 0.5));
        tails.push(percentile(&mut durable, 0.99));
        raws.push(percentile(&mut raw, 0.99));
        lives.push(percentile(&mut to_reader()?, 0.99));
    }
    // One stall of a shared disk delays every line of its time: the median of the rounds is about
    // this program, and not about the worst moment of its neighbours.
    let median = |values: &mut Vec<f64>| percentile(values, 0.5);
    report.ours("line_to_server_p50_ms", median(&mut middles), "ms", "");
    report.ours("line_to_server_p99_ms", median(&mut tails), "ms", "< 2");
    report.peer(
        "fdatasync",
        "line_fdatasync_p99_ms",
        median(&mut raws),
        "ms",
    );
    report.ours("live_line_p99_ms", median(&mut lives), "ms", "< 100");
    Ok(())
}

/// What the job runs: prints the machine's monotonic clock, in nanoseconds, every 2 ms.
pub(crate) fn emit() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for _ in 0..LINES {
        writeln!(out, "{}", nanos())?;
        out.flush()?;
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

/// The same clock in every process.
fn nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or_default()
}

fn pipeline() -> Result<String> {
    let program = std::env::current_exe()?;
    Ok(format!(
        "version: 1\nname: lines\non: {{ manual: {{}} }}\njobs:\n  emit:\n    steps:\n      - run: exec '{}' emit-lines\n",
        program.display()
    ))
}

/// Milliseconds of each line until the log store says that it is durable; and of raw syncs of a
/// line's bytes on the same disk.
fn to_server() -> Result<(Vec<f64>, Vec<f64>)> {
    let directory = scratch()?;
    let at = endpoint(directory.path())?;
    let store = LogStore::start(&directory.path().join("logs"), Metrics::new().rustci)?;
    let config = EngineConfig {
        logs: Some(store.logs()),
        ..EngineConfig::default()
    };
    let node = NodeThread::start(Store::Files(&directory.path().join("journal")), &at, config)?;
    let runner = Runner::start(at, directory.path().join("runner"))?;
    let request = PlanRequest {
        event: "manual".to_owned(),
        ..PlanRequest::default()
    };
    let plan = StoredPlan::new(compile("bench.yaml", &pipeline()?, &request)?.plan);
    let times = valkyrie::block_on(async {
        let run = node.handle.submit(submission(&plan.into())).await?;
        let job = run.jobs.first().context("the run has no job")?.id;
        let key = LogKey {
            run: run.id,
            job,
            attempt: 1,
        };
        let mut tail = store.logs().follow(key);
        let mut reader = LogReader::new(store.logs().path(key));
        let mut times = Vec::new();
        loop {
            let end = *tail.borrow_and_update();
            let now = nanos();
            while reader.position() < end.durable {
                reader.read_lines(end.durable, |line| {
                    if line.record.channel == LogChannel::STDOUT {
                        times.push(age(now, line.record.bytes));
                    }
                })?;
            }
            if end.finished {
                break;
            }
            tail.changed().await?;
        }
        times.into_iter().collect::<Result<Vec<_>>>()
    })??;
    runner.stop()?;
    node.stop()?;
    let mut raw = RawSync::new(directory.path(), 1 << 20, 32)?;
    let raw: Vec<_> = (0..LINES / 4)
        .map(|_| Ok(raw.sample()? / 1e3))
        .collect::<Result<_>>()?;
    Ok((settled(times)?, raw))
}

/// Milliseconds of each line until a client that follows the log over HTTP has it.
fn to_reader() -> Result<Vec<f64>> {
    let directory = scratch()?;
    let (server, at) = super::server(directory.path())?;
    let api = Api::of(&server)?;
    let runner = Runner::start(at, directory.path().join("runner"))?;
    let run = api.submit(&pipeline()?)?;
    let path = format!("/api/v1/runs/{}/jobs/emit/log?follow=true", run.id);
    let mut times = Vec::new();
    for line in api.get(&path, "text/event-stream")?.lines() {
        let line = line?;
        let now = nanos();
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if data == "{}" {
            break;
        }
        let line: LogLine = serde_json::from_str(data)?;
        if line.channel == "stdout" {
            times.push(age(now, line.text.as_bytes())?);
        }
    }
    runner.stop()?;
    server.shutdown();
    settled(times)
}

/// Milliseconds since the time that a line says.
fn age(now: u64, line: &[u8]) -> Result<f64> {
    let said: u64 = std::str::from_utf8(line)?.parse()?;
    Ok(now
        .checked_sub(said)
        .context("a line came before it was written")? as f64
        / 1e6)
}

fn settled(mut times: Vec<f64>) -> Result<Vec<f64>> {
    ensure!(
        times.len() == LINES,
        "{} of {LINES} lines came",
        times.len()
    );
    Ok(times.split_off(WARM_UP))
}

fn endpoint(directory: &Path) -> Result<Endpoint> {
    Ok(format!("valkyrie+unix://{}", directory.join("s").display()).parse()?)
}

/// The product's runner on a shard of its own; its job processes are this program again.
struct Runner {
    stop: watch::Sender<Stop>,
    shard: Shard<Result<(), rustci_runner::RunnerError>>,
}

impl Runner {
    fn start(at: Endpoint, state: PathBuf) -> Result<Self> {
        let (stop, stopped) = watch::channel(Stop::No);
        let shard = Shard::spawn("runner", move || {
            rustci_runner::run(RunnerConfig::new("bench", at, state), stopped)
        })?;
        Ok(Self { stop, shard })
    }

    fn stop(self) -> Result<()> {
        self.stop.send_replace(Stop::Drain);
        Ok(self.shard.join()??)
    }
}
