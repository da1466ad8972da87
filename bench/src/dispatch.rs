//! From a submitted run to its job at a connected runner: durable, and over real frames.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustci_scheduler::StoredPlan;
use rustci_server::engine::{EngineConfig, EngineHandle};
use valkyrie::Endpoint;

use crate::disk::{RawSync, scratch};
use crate::node::{Node, NodeThread, Store};
use crate::observed::Observation;
use crate::plans::{expected, plan, submission};
use crate::report::{Report, percentile};
use crate::script::{Seen, Work, runner};

const WARM_UP: usize = 200;
const SAMPLES: usize = 3_000;
const RUNNERS: usize = 200;
const RAW_FILE_BYTES: u64 = 16 << 20;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let directory = scratch()?;
    let (mut ours, mut raw) = valkyrie::block_on(in_process(directory.path()))??;
    report.peer(
        "fdatasync",
        "fdatasync_p50_us",
        percentile(&mut raw, 0.5),
        "us",
    );
    report.peer(
        "fdatasync",
        "fdatasync_p99_us",
        percentile(&mut raw, 0.99),
        "us",
    );
    let bar = percentile(&mut raw, 0.5) + 150.0;
    let p50 = percentile(&mut ours, 0.5);
    report.ours(
        "inprocess_p50_us",
        p50,
        "us",
        format!("< {bar:.0} (fdatasync + 150)"),
    );
    report.ours(
        "inprocess_p99_us",
        percentile(&mut ours, 0.99),
        "us",
        "< 1000",
    );
    let directory = scratch()?;
    let (mut ours, mut raw) = over_unix(directory.path())?;
    report.ours(
        "unix_200_runners_p50_us",
        percentile(&mut ours, 0.5),
        "us",
        "",
    );
    report.ours(
        "unix_200_runners_p99_us",
        percentile(&mut ours, 0.99),
        "us",
        "< 2000",
    );
    report.peer(
        "fdatasync",
        "unix_fdatasync_p99_us",
        percentile(&mut raw, 0.99),
        "us",
    );
    Ok(())
}

/// Times of dispatches, and of raw syncs taken in turn with them.
type Times = (Vec<f64>, Vec<f64>);

/// Engine and runner on one shard, frames in memory between them.
async fn in_process(directory: &Path) -> Result<Times> {
    let at: Endpoint = "valkyrie+mem://dispatch".parse()?;
    let store = Store::Files(&directory.join("journal"));
    let node = Node::start(store, &at, EngineConfig::default()).await?;
    let seen = Rc::new(Seen::default());
    let link = runner(&at, "r", 1, Work::Finish, &seen).await?;
    let bench = Dispatch {
        handle: &node.handle,
        journal: &node.seen,
        seen: &seen,
        directory,
    };
    let times = bench.measure().await?;
    drop(link);
    node.stop().await?;
    Ok(times)
}

/// The engine on its own shard, 200 runners on another one, each with one slot.
fn over_unix(directory: &Path) -> Result<Times> {
    let socket = directory.join("s");
    let at: Endpoint = format!("valkyrie+unix://{}", socket.display()).parse()?;
    let node = NodeThread::start(
        Store::Files(&directory.join("journal")),
        &at,
        EngineConfig::default(),
    )?;
    let times = valkyrie::block_on(async {
        let seen = Rc::new(Seen::default());
        let mut links = Vec::new();
        for number in 0..RUNNERS {
            links.push(runner(&at, &format!("r{number}"), 1, Work::Finish, &seen).await?);
        }
        let bench = Dispatch {
            handle: &node.handle,
            journal: &node.seen,
            seen: &seen,
            directory,
        };
        bench.measure().await
    })??;
    node.stop()?;
    Ok(times)
}

struct Dispatch<'a> {
    handle: &'a EngineHandle,
    journal: &'a Observation,
    seen: &'a Seen,
    directory: &'a Path,
}

impl Dispatch<'_> {
    async fn measure(&self) -> Result<Times> {
        let plan = plan(0, 1)?;
        let before = self.journal.bytes();
        self.sample(&plan, 1).await?;
        let bytes = usize::try_from(self.journal.bytes() - before)?;
        // A run writes two batches: its submission with the lease, and its end.
        let mut raw = RawSync::new(self.directory, RAW_FILE_BYTES, bytes / 2)?;
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for turn in 1..WARM_UP + SAMPLES {
            let (own, other) = (self.sample(&plan, turn as u64 + 1).await?, raw.sample()?);
            if turn >= WARM_UP {
                ours.push(own);
                peer.push(other);
            }
        }
        let orders = self.seen.orders.borrow();
        let got = orders.get(&expected(0, 0)).copied();
        let all = (WARM_UP + SAMPLES) as u64;
        ensure!(
            orders.len() == 1 && got == Some(all),
            "{got:?} of {all} orders arrived"
        );
        Ok((ours, peer))
    }

    /// Microseconds from the submission to the job at a runner; returns when all is quiet again.
    async fn sample(&self, plan: &Arc<StoredPlan>, count: u64) -> Result<f64> {
        let submission = submission(plan);
        let start = Instant::now();
        let submitted = self.handle.submit(submission);
        let requested = self.seen.wait(|seen| seen.requests.get() == count);
        let (submitted, requested) = tokio::join!(submitted, requested);
        submitted?;
        requested?;
        let at = self.seen.requested.get().context("a request has a time")?;
        self.seen
            .wait(|seen| seen.acknowledged.get() == count)
            .await?;
        // The engine still forgets the run; that must not meet the raw sync.
        while !self.journal.is_quiet() {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        Ok(at.duration_since(start).as_secs_f64() * 1e6)
    }
}
