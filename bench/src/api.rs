//! Lists and single runs over HTTP with 100,000 runs in the catalogue, at rest and while runs are
//! submitted.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustci_pipeline::PlanRequest;
use rustci_scheduler::StoredPlan;
use rustci_server::api::view::{
    Conclusion, EventView, GitView, Priority, RunList, RunSummary, RunView, Status,
};
use rustci_server::catalogue::{Catalogue, Change, NewJob, Origin, PlannedStep};
use rustci_server::{Server, ServerConfig};

use crate::http::Api;
use crate::report::{Report, percentile};

const RUNS: u64 = 100_000;
const BATCH: u64 = 5_000;
const ROUNDS: u64 = 60;
const STEPS: usize = 4;

const PIPELINE: &str = "version: 1
name: pipeline-3
on: { manual: {} }
jobs:
  build: { runs-on: [nowhere=yes], steps: [{ run: make }] }
";

/// Filters as people set them: common, rare, several, none; `{}` is a place in the history.
const QUERIES: &[&str] = &[
    "limit=20",
    "limit=200",
    "limit=20&cursor={}",
    "status=finished&limit=50&cursor={}",
    "status=running",
    "conclusion=failure&limit=50&cursor={}",
    "project=project-7&limit=50&cursor={}",
    "project=project-7&conclusion=failure&limit=50",
    "project=project-7&branch=branch-10&pipeline=pipeline-3&limit=50",
    "pipeline=pipeline-3&event=push&conclusion=success&limit=50&cursor={}",
    "commit=c0000000000000000000000000000000004d2",
    "branch=nobody&project=project-7",
    "since=1763000000000&limit=50&cursor={}",
    "since=1763099990000&status=finished",
];

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    std::fs::create_dir(&data)?;
    fill(&data)?;
    let mut config = ServerConfig::new(data);
    config.http = Some("127.0.0.1:0".parse()?);
    let server = Server::start(config)?;
    let api = Api::of(&server)?;
    let mut lists = lists(&api)?;
    report.ours("list_p99_ms", percentile(&mut lists, 0.99), "ms", "< 10");
    report.ours("list_p50_ms", percentile(&mut lists, 0.50), "ms", "");
    let mut singles = singles(&api)?;
    report.ours(
        "get_run_p99_ms",
        percentile(&mut singles, 0.99),
        "ms",
        "< 10",
    );
    let documents = (0..ROUNDS).map(|_| timed(&api, "/api/v1/openapi.json"));
    let mut documents = all(documents.map(|timed| timed.map(|(time, _)| time)))?;
    report.ours(
        "openapi_p99_ms",
        percentile(&mut documents, 0.99),
        "ms",
        "< 10",
    );
    let (mut busy, submitted) = while_busy(&api)?;
    report.ours("list_busy_p99_ms", percentile(&mut busy, 0.99), "ms", "");
    report.peer("beside", "runs_submitted", submitted, "");
    server.shutdown();
    Ok(())
}

/// Runs of 20 projects, 8 pipelines, 50 branches; one in ten failed.
fn fill(data: &Path) -> Result<()> {
    let parsed = rustci_pipeline::parse("bench.yaml", PIPELINE);
    let pipeline = parsed.pipeline.context("the pipeline of the bench")?;
    let planned = rustci_pipeline::plan(
        &pipeline,
        &PlanRequest {
            event: "manual".into(),
            ..PlanRequest::default()
        },
    );
    let planned = planned.ok().context("the plan of the bench")?;
    let plan = Arc::new(StoredPlan::new(planned.plan));
    let mut catalogue = Catalogue::open(&data.join("catalogue.sqlite"))?;
    for first in (1..=RUNS).step_by(usize::try_from(BATCH)?) {
        let changes: Vec<_> = (first..first + BATCH)
            .map(|id| Change::NewRun {
                run: summary(id),
                jobs: jobs(id),
                origin: origin(&plan),
            })
            .collect();
        catalogue.apply(&changes, 0)?;
    }
    catalogue.checkpoint()?;
    Ok(())
}

fn origin(plan: &Arc<StoredPlan>) -> Origin {
    Origin {
        plan: Arc::clone(plan),
        meta: Vec::new(),
        expanded: Vec::new(),
        idempotency_key: None,
        request_digest: Vec::new(),
    }
}

fn summary(id: u64) -> RunSummary {
    let conclusion = match id % 10 {
        3 => Conclusion::Failure,
        _ => Conclusion::Success,
    };
    let event = if id.is_multiple_of(3) {
        "manual"
    } else {
        "push"
    };
    let created_ms = 1_763_000_000_000 + id * 1_000;
    RunSummary {
        id,
        project: format!("project-{}", id / 10 * 7 % 20),
        pipeline: format!("pipeline-{}", id % 8),
        file: ".rustci.yaml".to_owned(),
        status: Status::Finished,
        conclusion: Some(conclusion),
        digest: "0".repeat(64),
        event: EventView {
            name: event.to_owned(),
        },
        git: GitView {
            reference: Some("refs/heads/main".to_owned()),
            branch: Some(format!("branch-{}", id / 100 * 13 % 50)),
            commit: Some(format!("c{id:039x}")),
        },
        priority: Priority::Normal,
        rerun_of: None,
        created_ms,
        started_ms: Some(created_ms + 5),
        finished_ms: Some(created_ms + 900),
    }
}

fn jobs(run: u64) -> Vec<NewJob> {
    let job = |place: u64| NewJob {
        id: run * 2 + place,
        key: format!("job-{place}"),
        job_id: format!("job-{place}"),
        name: format!("job-{place}"),
        needs: Vec::new(),
        steps: (0..STEPS)
            .map(|step| PlannedStep::Alone(format!("step {step}")))
            .collect(),
        carried_from: None,
    };
    (0..2).map(job).collect()
}

/// Every query at places all over the history.
fn lists(api: &Api) -> Result<Vec<f64>> {
    let times = (0..ROUNDS).flat_map(|round| {
        let place = RUNS - round * RUNS / ROUNDS;
        QUERIES.iter().map(move |query| list(api, query, place))
    });
    all(times)
}

fn list(api: &Api, query: &str, place: u64) -> Result<f64> {
    let path = format!("/api/v1/runs?{}", query.replace("{}", &place.to_string()));
    let (time, body) = timed(api, &path)?;
    let list: RunList = serde_json::from_slice(&body)?;
    let may_be_empty = ["running", "nobody", "commit"];
    let is_empty = list.runs.is_empty() && place > RUNS / 2;
    ensure!(
        !is_empty || may_be_empty.iter().any(|word| query.contains(word)),
        "{path} is empty"
    );
    Ok(time)
}

fn singles(api: &Api) -> Result<Vec<f64>> {
    let times = (0..ROUNDS * 10).map(|round| {
        let id = 1 + round * 7_919 % RUNS;
        let (time, body) = timed(api, &format!("/api/v1/runs/{id}"))?;
        let run: RunView = serde_json::from_slice(&body)?;
        ensure!(run.id == id && run.jobs.len() == 2, "run {id} is another");
        Ok(time)
    });
    all(times)
}

/// Lists while another client submits runs as fast as the server takes them.
fn while_busy(api: &Api) -> Result<(Vec<f64>, f64)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut count = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                api.submit(PIPELINE)?;
                count += 1;
            }
            anyhow::Ok(f64::from(count))
        });
        let times = lists(api);
        stop.store(true, Ordering::Relaxed);
        let count = writer.join().ok().context("the writer panicked")??;
        Ok((times?, count))
    })
}

/// Milliseconds from before the connection is opened to the last byte.
fn timed(api: &Api, path: &str) -> Result<(f64, Vec<u8>)> {
    let begun = Instant::now();
    let mut body = Vec::new();
    api.get(path, "application/json")?.read_to_end(&mut body)?;
    Ok((begun.elapsed().as_secs_f64() * 1e3, body))
}

fn all(times: impl Iterator<Item = Result<f64>>) -> Result<Vec<f64>> {
    times.collect()
}
