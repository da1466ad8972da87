//! The core workloads of YCSB over the adapters (Cooper et al., Benchmarking Cloud Serving Systems with
//! YCSB, 2010): 1,000 bytes a record, keys by Zipf's law with 0.99.
//!
//! Requests begin at a fixed rate, whoever still waits, and are timed from when they should have begun, in
//! histograms of three digits (Tene's HDR histogram). Stores have no order of keys, so a scan of workload
//! E reads up to 100 records that were stored one after the other, all at once.

use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::task::LocalSet;
use valkyrie_store::{Condition, Lifetime, RedisConfig, RedisStore, Store, StoreAdapter, Value};

use super::{pace, start};
use crate::processes;
use crate::report::Report;

const RECORDS: u64 = 100_000;
const RECORD_BYTES: usize = 1_000;
const PER_S: u64 = 4_000;
const REQUESTS: u64 = 12_000;
const SCAN_MAX: u64 = 100;
const ZIPF: f64 = 0.99;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
}

struct Workload {
    p50: &'static str,
    p99: &'static str,
    p999: &'static str,
    /// The first step, its part of a hundred, and the other one.
    steps: (Step, u64, Step),
    /// Whether what was stored last is read most.
    latest: Latest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Latest {
    No,
    Yes,
}

macro_rules! workload {
    ($name:literal, $steps:expr, $latest:expr) => {
        Workload {
            p50: concat!("ycsb_", $name, "_p50_ms"),
            p99: concat!("ycsb_", $name, "_p99_ms"),
            p999: concat!("ycsb_", $name, "_p99_9_ms"),
            steps: $steps,
            latest: $latest,
        }
    };
}

const WORKLOADS: [Workload; 6] = [
    workload!("a", (Step::Read, 50, Step::Update), Latest::No),
    workload!("b", (Step::Read, 95, Step::Update), Latest::No),
    workload!("c", (Step::Read, 100, Step::Update), Latest::No),
    workload!("d", (Step::Read, 95, Step::Insert), Latest::Yes),
    workload!("e", (Step::Scan, 95, Step::Insert), Latest::No),
    workload!("f", (Step::Read, 50, Step::ReadModifyWrite), Latest::No),
];

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let servers = [
        ("yggdrasil", processes::yggdrasil()?),
        ("redis", Path::new("redis-server").to_owned()),
        ("valkey", Path::new("valkey-server").to_owned()),
    ];
    for (name, program) in servers {
        let (_process, port) = start(&program)?;
        let config = RedisConfig {
            url: format!("redis://127.0.0.1:{port}"),
            timeout: Duration::from_secs(10),
            ..RedisConfig::default()
        };
        let store: Store = RedisStore::new(&config)?.into();
        LocalSet::new().block_on(&runtime, fill(&store))?;
        for workload in &WORKLOADS {
            let times = LocalSet::new().block_on(&runtime, measure(&store, workload))?;
            let ms = |share| times.value_at_quantile(share) as f64 / 1e3;
            let figures = [
                (workload.p50, ms(0.5)),
                (workload.p99, ms(0.99)),
                (workload.p999, ms(0.999)),
            ];
            for (metric, value) in figures {
                match name {
                    "yggdrasil" => report.ours(metric, value, "ms", ""),
                    peer => report.peer(peer, metric, value, "ms"),
                }
            }
        }
    }
    Ok(())
}

fn key(record: u64) -> Vec<u8> {
    format!("user{record:012}").into_bytes()
}

async fn write(store: &Store, record: u64) -> Result<()> {
    let value = [(record % 251) as u8; RECORD_BYTES];
    let (unlimited, always) = (Lifetime::Unlimited, Condition::Always);
    let done = store.write(&key(record), &value, unlimited, always).await?;
    ensure!(done.is_done(), "a record was not stored");
    Ok(())
}

async fn read(store: &Store, record: u64) -> Result<()> {
    let found = store.read(&key(record)).await?;
    ensure!(is_whole(record, found), "record {record} is another");
    Ok(())
}

async fn scan(store: &Store, records: Range<u64>) -> Result<()> {
    let keys: Vec<_> = records.clone().map(key).collect();
    let names: Vec<_> = keys.iter().map(Vec::as_slice).collect();
    let found = store.read_many(&names).await?;
    let whole = records
        .zip(found)
        .all(|(record, found)| is_whole(record, found));
    ensure!(whole, "a record of a scan is another");
    Ok(())
}

fn is_whole(record: u64, found: Option<Value>) -> bool {
    found.is_some_and(|value| value.bytes[..] == [(record % 251) as u8; RECORD_BYTES])
}

async fn fill(store: &Store) -> Result<()> {
    for first in (0..RECORDS).step_by(500) {
        let records = first..(first + 500).min(RECORDS);
        try_join_all(records.map(|record| write(store, record))).await?;
    }
    Ok(())
}

/// Microseconds that requests took.
async fn measure(store: &Store, workload: &Workload) -> Result<Histogram<u64>> {
    let zipf = Rc::new(Zipf::new(RECORDS));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let (first, part, second) = workload.steps;
    let mut inserted = RECORDS;
    let mut asked = Vec::with_capacity(REQUESTS as usize);
    let begin = Instant::now();
    for number in 0..REQUESTS {
        let due = begin + Duration::from_micros(number * 1_000_000 / PER_S);
        pace::until(due).await;
        let step = if next() % 100 < part { first } else { second };
        let rank = zipf.rank(next());
        let record = match (step, workload.latest) {
            (Step::Insert, _) => {
                inserted += 1;
                inserted - 1
            }
            // Those that are surely stored by now.
            (_, Latest::Yes) => inserted.saturating_sub(200 + rank).min(RECORDS - 1),
            // Popular ones are spread over all.
            (_, Latest::No) => rank.wrapping_mul(0xff51_afd7_ed55_8ccd) % RECORDS,
        };
        let length = next() % SCAN_MAX + 1;
        let store = store.clone();
        asked.push(tokio::task::spawn_local(async move {
            match step {
                Step::Read => read(&store, record).await?,
                Step::Update | Step::Insert => write(&store, record).await?,
                Step::ReadModifyWrite => {
                    read(&store, record).await?;
                    write(&store, record).await?;
                }
                Step::Scan => {
                    scan(&store, record..(record + length).min(RECORDS)).await?;
                }
            }
            anyhow::Ok(due.elapsed().as_micros() as u64)
        }));
    }
    let mut times = Histogram::new(3)?;
    for one in asked {
        times.record(one.await??)?;
    }
    Ok(times)
}

/// Ranks by Zipf's law, by the method that YCSB uses (Gray et al., Quickly Generating Billion-Record
/// Synthetic Databases, 1994).
struct Zipf {
    items: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    fn new(items: u64) -> Self {
        let zeta = |count: u64| (1..=count).map(|it| (it as f64).powf(-ZIPF)).sum::<f64>();
        let (all, two) = (zeta(items), zeta(2));
        Self {
            items: items as f64,
            zeta: all,
            alpha: 1.0 / (1.0 - ZIPF),
            eta: (1.0 - (2.0 / items as f64).powf(1.0 - ZIPF)) / (1.0 - two / all),
        }
    }

    fn rank(&self, random: u64) -> u64 {
        let u = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let scaled = u * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(ZIPF) {
            return 1;
        }
        (self.items * (self.eta * u - self.eta + 1.0).powf(self.alpha)) as u64
    }
}
