//! The adapters of `valkyrie-store` beside real servers.
//!
//! How much one connection carries is measured with 128 users who each ask one thing after the other.
//! Latency is measured at a fixed rate: requests begin whether or not earlier ones have their answers, so
//! that a slow moment is felt by all that come in it (coordinated omission; Tene, How NOT to Measure
//! Latency, 2015).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::LocalSet;
use valkyrie_store::{
    Condition, Lifetime, Limit, MemoryStore, RedisConfig, RedisStore, Store, StoreAdapter,
};

use crate::processes::{self, Process, free_port, wait_for};
use crate::report::{Report, percentile};

mod pace;
pub(crate) mod ycsb;

const USERS: u64 = 128;
const CLOSED: u64 = 60_000;
const OPEN_PER_S: u64 = 4_000;
const OPEN: u64 = 12_000;
const ROUNDS: usize = 3;

struct Names {
    rate: &'static str,
    consume: &'static str,
    get: &'static str,
    set: &'static str,
}

macro_rules! names {
    ($store:literal) => {
        Names {
            rate: concat!($store, "_ops_per_s_per_connection"),
            consume: concat!($store, "_consume_p99_ms"),
            get: concat!($store, "_get_p99_ms"),
            set: concat!($store, "_set_p99_ms"),
        }
    };
}

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let servers = [
        (names!("redis"), Path::new("redis-server").to_owned()),
        (names!("valkey"), Path::new("valkey-server").to_owned()),
        (names!("yggdrasil"), processes::yggdrasil()?),
    ];
    for (names, program) in servers {
        let (_process, port) = start(&program)?;
        let config = RedisConfig {
            url: format!("redis://127.0.0.1:{port}"),
            connections: 1,
            ..RedisConfig::default()
        };
        let store = RedisStore::new(&config)?.into();
        LocalSet::new().block_on(&runtime, measure(report, &names, store))?;
    }
    let store = MemoryStore::new().into();
    LocalSet::new().block_on(&runtime, measure(report, &names!("memory"), store))
}

fn start(program: &Path) -> Result<(Process, u16)> {
    let port = free_port()?;
    let (number, listen) = (port.to_string(), format!("127.0.0.1:{port}"));
    let arguments = match program.ends_with("yggdrasil") {
        true => vec!["serve", "--threads", "1", "--listen", &listen],
        false => vec!["--port", &number, "--save", "", "--appendonly", "no"],
    };
    let process = Process::start(program, &arguments, Path::new("/tmp")).with_context(
        || "install the servers with: apt-get install redis-server; scripts/install-valkey.sh",
    )?;
    wait_for(&format!("{} on port {port}", program.display()), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    })?;
    Ok((process, port))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Set,
    Get,
    Consume,
}

async fn measure(report: &mut Report, names: &Names, store: Store) -> Result<()> {
    let (mut rates, mut times) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        rates.push(closed(&store).await?);
        for (all, mut round) in times.iter_mut().zip(open(&store).await?) {
            all.push(percentile(&mut round, 0.99));
        }
    }
    let [set, get, consume] = &mut times;
    report.ours(names.rate, percentile(&mut rates, 0.5), "1/s", ">= 10,000");
    report.ours(names.consume, percentile(consume, 0.5), "ms", "< 1");
    report.ours(names.get, percentile(get, 0.5), "ms", "< 2");
    report.ours(names.set, percentile(set, 0.5), "ms", "< 2");
    Ok(())
}

/// One operation; what it answers is looked at.
async fn ask(store: &Store, kind: Kind, number: u64) -> Result<()> {
    // A rate that never runs out.
    let limit = Limit::new(1_000, 1_000_000)?;
    let key = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44).to_be_bytes();
    match kind {
        Kind::Set => {
            let done = store
                .write(&key, &[7; 64], Lifetime::Unlimited, Condition::Always)
                .await?;
            ensure!(done.is_done(), "a value was not stored");
        }
        Kind::Get => {
            let found = store.read(&key).await?;
            ensure!(
                found.is_none_or(|value| value.bytes.len() == 64),
                "a value is another"
            );
        }
        Kind::Consume => {
            let name = [b"bucket:", &key[..]].concat();
            let decision = store.consume(&name, &limit, 1).await?;
            ensure!(decision.is_allowed(), "a bucket of a million is empty");
        }
    }
    Ok(())
}

/// Operations a second of users who wait for each answer.
async fn closed(store: &Store) -> Result<f64> {
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let users = (0..USERS).map(|_| {
        let (store, next) = (store.clone(), Arc::clone(&next));
        tokio::task::spawn_local(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(kind) = (number < CLOSED).then(|| kind_of(number)) else {
                    return Ok(());
                };
                ask(&store, kind, number).await?;
                // In memory nothing ever waits.
                if number % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    for user in users.collect::<Vec<_>>() {
        let done: Result<()> = user.await?;
        done?;
    }
    Ok(CLOSED as f64 / start.elapsed().as_secs_f64())
}

const fn kind_of(number: u64) -> Kind {
    match number % 3 {
        0 => Kind::Set,
        1 => Kind::Get,
        _ => Kind::Consume,
    }
}

/// Milliseconds that each operation took, by kind. They begin at a fixed rate, whoever still waits.
async fn open(store: &Store) -> Result<[Vec<f64>; 3]> {
    let mut asked = Vec::with_capacity(OPEN as usize);
    let begin = Instant::now();
    for number in 0..OPEN {
        let due = begin + Duration::from_micros(number * 1_000_000 / OPEN_PER_S);
        pace::until(due).await;
        let store = store.clone();
        asked.push(tokio::task::spawn_local(async move {
            let kind = kind_of(number);
            ask(&store, kind, number).await?;
            // From when it should have begun.
            anyhow::Ok((kind, due.elapsed().as_secs_f64() * 1e3))
        }));
    }
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    for one in asked {
        let (kind, taken) = one.await??;
        if let Some(times) = all.get_mut(kind as usize) {
            times.push(taken);
        }
    }
    Ok(all)
}
