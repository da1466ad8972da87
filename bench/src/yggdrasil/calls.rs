//! Tokens of `yggdrasil serve` over Valkyrie, one call at a time, with a core for each end.

use std::time::{Duration, Instant};

use ::yggdrasil::Limit;
use anyhow::{Context, Result, anyhow, ensure};
use valkyrie::{Endpoint, Idle, LocalClient, block_on_with};
use valkyrie_store::{StoreAdapter, ValkyrieConfig, ValkyrieStore};
use yggdrasil_calls::v1::{ConsumeRequest, KeysClient, Outcome};

use crate::processes::{self, Process, wait_for};
use crate::report::{Report, percentile};
use crate::wire::place::pin;

const CALLS: usize = 100_000;
const WARM_UP: usize = 2_000;

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// A program on the thread of its connection.
    Client,
    /// An adapter of a store, whose connection has a thread of its own.
    Store,
}

struct Case {
    transport: &'static str,
    by: By,
    idle: Idle,
    /// Median and 99th percentile, each with its target.
    metrics: [(&'static str, &'static str); 2],
}

const CASES: &[Case] = &[
    Case {
        transport: "shm",
        by: By::Client,
        idle: Idle::LowLatency,
        metrics: [
            ("shm_consume_p50_us", "< 10"),
            ("shm_consume_p99_us", "< 20"),
        ],
    },
    Case {
        transport: "shm",
        by: By::Client,
        idle: Idle::Park,
        metrics: [
            ("shm_parked_consume_p50_us", ""),
            ("shm_parked_consume_p99_us", ""),
        ],
    },
    Case {
        transport: "unix",
        by: By::Client,
        idle: Idle::LowLatency,
        metrics: [("unix_consume_p50_us", ""), ("unix_consume_p99_us", "")],
    },
    Case {
        transport: "unix",
        by: By::Client,
        idle: Idle::Park,
        metrics: [
            ("unix_parked_consume_p50_us", ""),
            ("unix_parked_consume_p99_us", ""),
        ],
    },
    Case {
        transport: "shm",
        by: By::Store,
        idle: Idle::LowLatency,
        metrics: [
            ("shm_store_consume_p50_us", ""),
            ("shm_store_consume_p99_us", ""),
        ],
    },
];

pub(super) fn run(report: &mut Report) -> Result<()> {
    let program = processes::yggdrasil()?;
    for case in CASES {
        // A thread of its own, so that nothing else stays on its core.
        let figures = std::thread::scope(|scope| {
            let measured = scope.spawn(|| measure(&program, case)).join();
            measured.map_err(|_| anyhow!("the thread that calls panicked"))?
        })?;
        for ((metric, target), value) in case.metrics.into_iter().zip(figures) {
            report.ours(metric, value, "us", target);
        }
    }
    Ok(())
}

fn measure(program: &std::path::Path, case: &Case) -> Result<[f64; 2]> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("socket");
    let url = format!("valkyrie+{}://{}", case.transport, socket.display());
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--threads", "1"];
    arguments.extend(["--valkyrie", &url]);
    if case.idle == Idle::LowLatency {
        arguments.push("--low-latency");
    }
    pin(1)?;
    let _server = Process::start(program, &arguments, dir.path())?;
    pin(0)?;
    wait_for(&url, || socket.exists())?;
    let endpoint: Endpoint = url.parse()?;
    let mut times = match case.by {
        By::Client => block_on_with(case.idle, client(&endpoint))??,
        By::Store => store(url, case.idle)?,
    };
    Ok([percentile(&mut times, 0.5), percentile(&mut times, 0.99)])
}

async fn client(endpoint: &Endpoint) -> Result<Vec<f64>> {
    let keys = KeysClient::new(LocalClient::connect(endpoint).await?);
    let mut times = Vec::with_capacity(CALLS);
    for index in 0..CALLS + WARM_UP {
        let request = ConsumeRequest {
            key: super::key(index as u64 % super::HOT).to_vec(),
            emission_ns: 1,
            burst: 1_000_000,
            cost: 1,
        };
        let start = Instant::now();
        let decision = keys.consume(request).await?.into_inner();
        if index >= WARM_UP {
            times.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
        ensure!(
            decision.outcome() == Outcome::Allowed,
            "call {index} was denied"
        );
    }
    Ok(times)
}

fn store(url: String, idle: Idle) -> Result<Vec<f64>> {
    let limit = Limit::per(1_000_000_000, Duration::from_secs(1), 1_000_000)?;
    let store = ValkyrieStore::new(&ValkyrieConfig {
        url,
        idle,
        ..ValkyrieConfig::default()
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    runtime.block_on(async {
        let mut times = Vec::with_capacity(CALLS);
        for index in 0..CALLS + WARM_UP {
            let key = super::key(index as u64 % super::HOT);
            let start = Instant::now();
            let decision = store.consume(&key, &limit, 1).await?;
            if index >= WARM_UP {
                times.push(start.elapsed().as_nanos() as f64 / 1e3);
            }
            ensure!(decision.is_allowed(), "call {index} was denied");
        }
        Ok(times)
    })
}
