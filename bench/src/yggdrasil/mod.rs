//! Token buckets and keys in process, on one thread; beside the buckets a map behind a lock. Then the
//! server over Valkyrie, and beside others.

mod calls;
mod server;

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ::yggdrasil::{
    Buckets, CompactBuckets, CompactLimit, Condition, Keyspace, KeyspaceConfig, Lifetime, Limit,
    step,
};
use anyhow::{Result, ensure};

use crate::report::{Report, percentile};

/// Keys that stay in the processor's cache.
const HOT: u64 = 1024;
const MANY: u64 = 10_000_000;
const HOT_CALLS: u64 = 20_000_000;
const MANY_CALLS: u64 = 10_000_000;
const TIMED: usize = 500_000;
const ROUNDS: usize = 5;
/// How often the clock is read: once for so many calls, as a server does for a batch.
const BATCH: u64 = 64;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    // A rate that never runs out: each call changes its bucket.
    let limit = Limit::per(1_000_000_000, Duration::from_secs(1), 1_000_000)?;
    let clock = Clock(Instant::now());
    let (hot, map) = (Buckets::with_room_for(HOT as usize), Map::default());
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    // In turn, so that a change of the machine's speed hits both.
    for _ in 0..ROUNDS {
        ours.push(rate(HOT_CALLS, HOT, &clock, |key, now| {
            hot.try_consume(key, &limit, 1, now).is_allowed()
        })?);
        beside.push(rate(HOT_CALLS / 10, HOT, &clock, |key, now| {
            map.try_consume(key, &limit, now)
        })?);
    }
    report.ours(
        "consume_hot_per_s_per_core",
        percentile(&mut ours, 0.5),
        "1/s",
        ">= 15,000,000",
    );
    let beside = percentile(&mut beside, 0.5);
    report.peer("mutex", "consume_hot_per_s_per_core", beside, "1/s");
    report.ours("consume_p99_us", p99(&hot, &limit, &clock)?, "us", "< 1");
    compact(report, &clock)?;
    keys(report, &clock)?;
    many(report, &clock)?;
    calls::run(report)?;
    server::run(report)
}

/// Buckets of 8 bytes: as fast, and as many as there are places.
fn compact(report: &mut Report, clock: &Clock) -> Result<()> {
    const KEYS: u64 = 1_000_000;
    let limit = CompactLimit::new(1, 1_000_000_000)?;
    let hot = CompactBuckets::with_room_for(HOT as usize);
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(rate(HOT_CALLS, HOT, clock, |key, now| {
            hot.try_consume(key, &limit, 1, now).is_allowed()
        })?);
    }
    let rate = percentile(&mut rates, 0.5);
    report.ours("compact_hot_per_s_per_core", rate, "1/s", "");
    let buckets = CompactBuckets::with_room_for(KEYS as usize);
    let daily = CompactLimit::per(1, Duration::from_secs(86_400), 5)?;
    for index in 0..KEYS {
        buckets.try_consume(&key(index), &daily, 1, clock.now());
    }
    ensure!(
        buckets.evicted_live() == 0,
        "a table for {KEYS} keys forgets some"
    );
    let each = buckets.bytes() as f64 / KEYS as f64;
    report.ours("bytes_per_bucket_b", each, "B", "<= 12");
    Ok(())
}

/// How long one value takes, of a hundred thousand.
fn keys(report: &mut Report, clock: &Clock) -> Result<()> {
    const KEYS: u64 = 100_000;
    let keys = Keyspace::new(&KeyspaceConfig::default());
    let (mut sets, mut gets) = (Vec::new(), Vec::new());
    for index in 0..TIMED as u64 {
        let name = key(index % KEYS);
        let start = Instant::now();
        let (now_ms, key) = (clock.now() / 1_000_000, keys.key(black_box(&name)));
        let always = Condition::Always;
        keys.shard(key)
            .set(key, &name, Lifetime::Unlimited, always, now_ms)?;
        sets.push(start.elapsed().as_nanos() as f64 / 1e3);
        let start = Instant::now();
        let (now_ms, key) = (clock.now() / 1_000_000, keys.key(black_box(&name)));
        let found = keys.shard(key).get(key, now_ms).is_some();
        gets.push(start.elapsed().as_nanos() as f64 / 1e3);
        ensure!(found, "key {index} is not there");
    }
    report.ours("set_p99_us", percentile(&mut sets, 0.99), "us", "< 2");
    report.ours("get_p99_us", percentile(&mut gets, 0.99), "us", "< 2");
    Ok(())
}

/// Every bucket of ten million is in use, and they are asked in no order.
fn many(report: &mut Report, clock: &Clock) -> Result<()> {
    let buckets = Buckets::with_room_for(MANY as usize);
    // Whole days to come back: nothing is forgotten meanwhile.
    let limit = Limit::per(1, Duration::from_secs(86_400), 100)?;
    for index in 0..MANY {
        let decision = buckets.try_consume(&key(index), &limit, 1, clock.now());
        ensure!(decision.is_allowed(), "bucket {index} was not new");
    }
    let live = buckets.live(clock.now()) as u64;
    ensure!(
        live + buckets.crowds() == MANY,
        "{live} of {MANY} buckets are there, {} keys found no room",
        buckets.crowds()
    );
    let (mut rates, mut ahead) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        rates.push(rate(MANY_CALLS, MANY, clock, |key, now| {
            buckets.try_consume(key, &limit, 1, now).is_allowed()
        })?);
        ahead.push(rate_ahead(&buckets, &limit, clock)?);
    }
    report.ours(
        "consume_10m_keys_alone_per_s",
        percentile(&mut rates, 0.5),
        "1/s",
        "",
    );
    let mut rates = ahead;
    report.ours(
        "consume_10m_keys_per_s_per_core",
        percentile(&mut rates, 0.5),
        "1/s",
        ">= 3,000,000",
    );
    let each = buckets.bytes() as f64 / MANY as f64;
    report.ours("bytes_per_bucket_a", each, "B", "<= 24");
    report.ours("crowds_of_10m", buckets.crowds() as f64, "", "");
    Ok(())
}

/// The same as a server does it, which has sixteen requests in its hands before it does the first.
fn rate_ahead(buckets: &Buckets, limit: &Limit, clock: &Clock) -> Result<f64> {
    const AHEAD: u64 = 16;
    let (start, mut count) = (Instant::now(), 0);
    for batch in 0..MANY_CALLS / AHEAD {
        let names: [_; AHEAD as usize] =
            std::array::from_fn(|index| key(place(batch * AHEAD + index as u64, MANY)));
        let now = clock.now();
        for name in &names {
            buckets.prefetch(black_box(name));
        }
        for name in &names {
            count += u64::from(buckets.try_consume(name, limit, 1, now).is_allowed());
        }
    }
    ensure!(
        count == MANY_CALLS,
        "{count} of {MANY_CALLS} calls were allowed"
    );
    Ok(MANY_CALLS as f64 / start.elapsed().as_secs_f64())
}

/// Which key comes when: an odd step visits all of them, in an order that no prefetcher knows.
fn place(index: u64, keys: u64) -> u64 {
    let turn = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(turn) * u128::from(keys)) >> 64) as u64
}

/// Calls a second, each of which has to be allowed.
fn rate(
    calls: u64,
    keys: u64,
    clock: &Clock,
    mut allowed: impl FnMut(&[u8; 16], u64) -> bool,
) -> Result<f64> {
    let (start, mut count, mut now) = (Instant::now(), 0, clock.now());
    for index in 0..calls {
        if index % BATCH == 0 {
            now = clock.now();
        }
        count += u64::from(allowed(black_box(&key(place(index, keys))), now));
    }
    ensure!(count == calls, "{count} of {calls} calls were allowed");
    Ok(calls as f64 / start.elapsed().as_secs_f64())
}

fn p99(buckets: &Buckets, limit: &Limit, clock: &Clock) -> Result<f64> {
    let mut times = Vec::with_capacity(TIMED);
    for index in 0..TIMED as u64 {
        let key = key(index % HOT);
        let start = Instant::now();
        let decision = buckets.try_consume(black_box(&key), limit, 1, clock.now());
        times.push(start.elapsed().as_nanos() as f64 / 1e3);
        ensure!(decision.is_allowed(), "call {index} was denied");
    }
    Ok(percentile(&mut times, 0.99))
}

fn key(index: u64) -> [u8; 16] {
    let mut key = *b"bucket: ........";
    if let Some(number) = key.last_chunk_mut() {
        *number = index.to_be_bytes();
    }
    key
}

struct Clock(Instant);

impl Clock {
    fn now(&self) -> u64 {
        // Not at 0, where no bucket is older than the clock.
        self.0.elapsed().as_nanos() as u64 + 1_000_000_000
    }
}

/// What everyone writes first.
#[derive(Default)]
struct Map(Mutex<HashMap<[u8; 16], u64>>);

impl Map {
    fn try_consume(&self, key: &[u8; 16], limit: &Limit, now: u64) -> bool {
        let Ok(mut map) = self.0.lock() else {
            return false;
        };
        let bucket = map.entry(*key).or_default();
        let (next, decision) = step(*bucket, now, limit, 1);
        *bucket = next;
        decision.is_allowed()
    }
}
