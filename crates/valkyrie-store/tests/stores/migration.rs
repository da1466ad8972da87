//! Everything moves from one store to another while programs use both.
//!
//! `STORE_MIGRATION_KEYS` is how many keys move, 3,000 by default.

#![expect(clippy::print_stdout, reason = "a long run shows how far it is")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use valkyrie_store::{
    Condition, Flavor, Leased, Lifetime, Limit, MemoryStore, MigratingStore, MigrationConfig,
    MigrationPace, MigrationProgress, Phase, RedisConfig, RedisStore, Store, StoreAdapter,
    StoreError, StoreEvent, Transacted, Transaction,
};

use crate::server::Server;

fn config() -> MigrationConfig {
    MigrationConfig {
        refresh: Duration::from_millis(20),
        fresh: Duration::from_millis(1000),
        lease_max: Duration::from_millis(300),
        sample: 1,
        ..MigrationConfig::default()
    }
}

const PACE: MigrationPace = MigrationPace {
    concurrency: 128,
    keys_per_second: None,
    hold: Duration::from_millis(300),
};

const WAY: [Phase; 8] = [
    Phase::Shadow,
    Phase::Backfill,
    Phase::Verify,
    Phase::ReadNew,
    Phase::Drain,
    Phase::Switch,
    Phase::WriteNew,
    Phase::Done,
];

async fn open(old: &Store, new: &Store) -> MigratingStore {
    MigratingStore::open(old.clone(), new.clone(), config())
        .await
        .unwrap()
}

/// What programs do all the time while stores move, each with keys of its own, so that it knows what
/// every one of them has to hold.
struct Load {
    stops: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: JoinSet<BTreeMap<String, Option<String>>>,
}

impl Load {
    fn start(stores: &[MigratingStore], tasks_each: usize) -> Self {
        let mut load = Self {
            stops: Arc::default(),
            done: Arc::default(),
            tasks: JoinSet::new(),
        };
        for (process, store) in stores.iter().enumerate() {
            for task in 0..tasks_each {
                let (stops, done) = (Arc::clone(&load.stops), Arc::clone(&load.done));
                let seed = (process * tasks_each + task) as u64;
                load.tasks
                    .spawn(write_and_check(store.clone(), seed, stops, done));
            }
        }
        load
    }

    async fn end(mut self) -> BTreeMap<String, Option<String>> {
        self.stops.store(true, Ordering::Release);
        let mut all = BTreeMap::new();
        while let Some(expected) = self.tasks.join_next().await {
            all.extend(expected.unwrap());
        }
        all
    }
}

/// Every read has to see what this task wrote last, in each phase.
async fn write_and_check(
    store: MigratingStore,
    seed: u64,
    stops: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> BTreeMap<String, Option<String>> {
    let mut expected: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let (mut step, mut counted) = (0_u64, 0);
    while !stops.load(Ordering::Acquire) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        step += 1;
        let key = format!("load:{seed}:{}", random % 64);
        match (random >> 8) % 9 {
            0 => {
                store.delete(&key).await.unwrap();
                expected.insert(key, None);
            }
            1 => {
                let is_number = |text: &String| text.parse::<i64>().is_ok();
                let before = expected.get(&key).cloned().flatten();
                if before.as_ref().is_none_or(is_number) {
                    let value = store.increment(&key, 3).await.unwrap();
                    let known: i64 = before.map_or(0, |text| text.parse().unwrap());
                    assert_eq!(value, known + 3, "{key}");
                    expected.insert(key, Some(value.to_string()));
                }
            }
            2 => {
                let lifetime = Lifetime::For(Duration::from_secs(1000 + random % 1000));
                let there = store.set_lifetime(key.as_bytes(), lifetime).await.unwrap();
                let known = expected.get(&key).is_some_and(Option::is_some);
                assert_eq!(there, known, "{key}");
            }
            3 => {
                let value = format!("absent {step}");
                let (unlimited, absent) = (Lifetime::Unlimited, Condition::Absent);
                let written = store
                    .write(key.as_bytes(), value.as_bytes(), unlimited, absent)
                    .await;
                let known = expected.get(&key).is_some_and(Option::is_some);
                assert_eq!(written.unwrap().is_done(), !known, "{key}");
                if !known {
                    expected.insert(key, Some(value));
                }
            }
            4 | 5 => {
                let found = store.get(&key).await.unwrap();
                let found = found.map(|bytes| String::from_utf8(bytes).unwrap());
                let known = expected.get(&key).cloned().flatten();
                assert_eq!(found, known, "{key} in {:?}", store.state());
            }
            6 => {
                let (value, counter) = (format!("both {step}"), format!("load:{seed}:count"));
                let known = expected.get(&key).cloned().flatten();
                let sum = both(&store, (&key, known, &value), &counter).await;
                expected.extend([(key, Some(value)), (counter, Some(sum.to_string()))]);
                counted += 1;
                assert_eq!(sum, counted);
            }
            _ => {
                let value = format!("value {step}");
                store.set(&key, &value, None).await.unwrap();
                expected.insert(key, Some(value));
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    expected
}

/// Changes a value that is known and counts that, as one; the count.
async fn both(
    store: &MigratingStore,
    (key, known, value): (&str, Option<String>, &str),
    counter: &str,
) -> i64 {
    let before = match &known {
        None => Condition::Absent,
        Some(value) => Condition::Equals(value.as_bytes()),
    };
    let both = Transaction::new()
        .when(key.as_bytes(), before)
        .set(key.as_bytes(), value.as_bytes(), Lifetime::Keep)
        .add(counter.as_bytes(), 1);
    match store.transact(&both).await.unwrap() {
        Transacted::Done(sums) => *sums.first().unwrap(),
        Transacted::Refused(step) => panic!("{key}: step {step}"),
    }
}

async fn fill(store: &Store, count: usize) {
    let mut tasks = JoinSet::new();
    let share = count.div_ceil(16);
    for part in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            for number in (part * share..(part + 1) * share).take_while(|number| *number < count) {
                let ttl = (number % 3 == 0).then(|| Duration::from_secs(3600 + number as u64));
                let value = format!("value of {number}");
                store
                    .set(format!("key:{number}"), value, ttl)
                    .await
                    .unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

async fn ensure_holds(store: &Store, expected: &BTreeMap<String, Option<String>>) {
    for (key, value) in expected {
        let found = store.get(key).await.unwrap();
        let found = found.map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(&found, value, "{key} in {}", store.name());
    }
}

fn keys() -> usize {
    std::env::var("STORE_MIGRATION_KEYS").map_or(3_000, |text| text.parse().unwrap())
}

/// All the way, with three processes that write and read; both stores are equal at the end.
async fn migrates(old: Store, new: Store) {
    let count = keys();
    fill(&old, count).await;
    new.set("left over", "of somebody", None).await.unwrap();
    let stores = [
        open(&old, &new).await,
        open(&old, &new).await,
        open(&old, &new).await,
    ];
    let load = Load::start(&stores, 4);
    let coordinator = open(&old, &new).await;
    let began = Instant::now();
    let mut entered = Vec::new();
    let report = coordinator
        .migrate(Phase::WriteNew, &PACE, |progress| match progress {
            MigrationProgress::Entered(phase) => {
                println!("{phase:?} after {:.1?}", began.elapsed());
                entered.push(phase);
            }
            MigrationProgress::Repaired(key, mismatch) => println!("{key}: {mismatch:?}"),
            _ => {}
        })
        .await
        .unwrap();
    assert_eq!(entered, WAY[..7]);
    assert_eq!(report.mismatched, 0, "{report:?}");
    assert_eq!(report.repaired, 0, "{report:?}");
    assert!(report.copied as usize >= count, "{report:?}");
    assert!(report.compared as usize >= count, "{report:?}");
    // The way back stays open until it is done.
    let operations = load.done.load(Ordering::Relaxed);
    println!(
        "{report:?}, {operations} operations in {:?}",
        began.elapsed()
    );
    let expected = load.end().await;
    ensure_holds(&new, &expected).await;
    ensure_holds(&old, &expected).await;
    let report = coordinator
        .migrate(Phase::Done, &PACE, |_| {})
        .await
        .unwrap();
    assert_eq!(report.state.phase, Phase::Done);
    for store in &stores {
        assert_eq!(store.report().lost, 0);
        assert_eq!(store.report().mismatched, 0);
    }
    for number in (0..count).step_by(count.div_ceil(500)) {
        let key = format!("key:{number}");
        let value = new.get(&key).await.unwrap().unwrap();
        assert_eq!(value, format!("value of {number}").into_bytes());
        let ttl = new.ttl(&key).await.unwrap();
        assert_eq!(ttl.is_some(), number % 3 == 0, "{key}");
    }
    assert_eq!(new.get("left over").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_redis_to_valkey() {
    let (redis, valkey) = (Server::start(Flavor::Redis), Server::start(Flavor::Valkey));
    migrates(patient(&redis, "redis"), patient(&valkey, "valkey")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_valkey_to_yggdrasil() {
    let (old, new) = (
        Server::start(Flavor::Valkey),
        Server::start(Flavor::Yggdrasil),
    );
    migrates(patient(&old, "valkey"), patient(&new, "yggdrasil")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_yggdrasil_to_redis() {
    let (old, new) = (
        Server::start(Flavor::Yggdrasil),
        Server::start(Flavor::Redis),
    );
    migrates(patient(&old, "yggdrasil"), patient(&new, "redis")).await;
}

/// What somebody breaks in the new store while it is read sends everyone back to the old one, and
/// nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_fault_rolls_back_by_itself() {
    let (redis, valkey) = (Server::start(Flavor::Redis), Server::start(Flavor::Valkey));
    let old: Store = patient(&redis, "redis");
    let new: Store = patient(&valkey, "valkey");
    fill(&old, 500).await;
    let store = open(&old, &new).await;
    let load = Load::start(std::slice::from_ref(&store), 4);
    let coordinator = open(&old, &new).await;
    coordinator
        .migrate(Phase::ReadNew, &PACE, |_| {})
        .await
        .unwrap();
    let mut events = store.events();
    new.set("key:7", "broken", None).await.unwrap();
    let reader = {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let value = store.get("key:7").await.unwrap().unwrap();
                if store.state().phase == Phase::RolledBack {
                    return value;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let value = tokio::time::timeout(Duration::from_secs(20), reader);
    assert_eq!(value.await.unwrap().unwrap(), b"value of 7");
    let state = coordinator.status().await.unwrap().state;
    assert_eq!(state.phase, Phase::RolledBack);
    assert_eq!(state.cause, "'key:7' differs (value) in the new store");
    assert!(store.report().mismatched > 0);
    let event = events.try_recv().unwrap();
    assert!(
        matches!(&event, StoreEvent::MigrationMismatch { key, .. } if key == "key:7"),
        "{event:?}"
    );
    assert_eq!(event.notice().kind.name(), "migration_mismatch");
    ensure_holds(&old, &load.end().await).await;
    // From there it goes well another time.
    let report = coordinator
        .migrate(Phase::Done, &PACE, |_| {})
        .await
        .unwrap();
    assert_eq!(report.mismatched, 0);
    assert_eq!(new.get("key:7").await.unwrap().unwrap(), b"value of 7");
}

/// A new store that goes away while it is read: nobody notices but for the state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_store_that_dies_is_left() {
    let (redis, valkey) = (Server::start(Flavor::Redis), Server::start(Flavor::Valkey));
    let old: Store = patient(&redis, "redis");
    let new: Store = patient(&valkey, "valkey");
    fill(&old, 200).await;
    let store = open(&old, &new).await;
    let load = Load::start(std::slice::from_ref(&store), 4);
    let coordinator = open(&old, &new).await;
    coordinator
        .migrate(Phase::ReadNew, &PACE, |_| {})
        .await
        .unwrap();
    drop(valkey);
    let began = Instant::now();
    while coordinator.status().await.unwrap().state.phase != Phase::RolledBack {
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let cause = coordinator.status().await.unwrap().state.cause;
    assert!(cause.contains("valkey"), "{cause}");
    ensure_holds(&old, &load.end().await).await;
}

/// From the last point from which there is a way back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn way_back_from_the_end() {
    let (redis, valkey) = (Server::start(Flavor::Redis), Server::start(Flavor::Valkey));
    let old: Store = patient(&redis, "redis");
    let new: Store = patient(&valkey, "valkey");
    fill(&old, 500).await;
    let store = open(&old, &new).await;
    let load = Load::start(std::slice::from_ref(&store), 4);
    let coordinator = open(&old, &new).await;
    coordinator
        .migrate(Phase::WriteNew, &PACE, |_| {})
        .await
        .unwrap();
    store.set("only since", "then", None).await.unwrap();
    let report = coordinator
        .roll_back("somebody asked", &PACE, |_| {})
        .await
        .unwrap();
    assert_eq!(report.state.phase, Phase::RolledBack);
    assert_eq!(report.state.cause, "somebody asked");
    ensure_holds(&old, &load.end().await).await;
    assert_eq!(old.get("only since").await.unwrap().unwrap(), b"then");
    // What was done cannot be undone.
    coordinator
        .migrate(Phase::Done, &PACE, |_| {})
        .await
        .unwrap();
    let error = coordinator
        .roll_back("too late", &PACE, |_| {})
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("migrate the other way"),
        "{error}"
    );
}

async fn goes_on(count: &AtomicU64) {
    let (before, began) = (count.load(Ordering::Relaxed), Instant::now());
    while count.load(Ordering::Relaxed) < before + 20 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "nobody gets a lease"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A store of a machine that is busy with the other tests.
fn patient(server: &Server, name: &str) -> Store {
    let config = RedisConfig {
        timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
        ..server.config(name)
    };
    RedisStore::new(&config).unwrap().into()
}

/// Two holders never overlap and fencing numbers only grow, wherever leases are at the time.
async fn leases_move(old: Store, new: Store) {
    let stores = [open(&old, &new).await, open(&old, &new).await];
    let stops = Arc::new(AtomicBool::new(false));
    let holder = Arc::new(AtomicU64::new(0));
    let last = Arc::new(AtomicU64::new(0));
    let held = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..6_u64 {
        let [first, second] = &stores;
        let store = if task % 2 == 0 { first } else { second }.clone();
        let (stops, holder, last, held) = (
            Arc::clone(&stops),
            Arc::clone(&holder),
            Arc::clone(&last),
            Arc::clone(&held),
        );
        tasks.spawn(async move {
            let me = format!("holder {task}");
            while !stops.load(Ordering::Acquire) {
                let ttl = Duration::from_millis(250);
                let until = Instant::now() + ttl;
                let fence = match store.lease(b"lock", me.as_bytes(), ttl).await {
                    Ok(Leased::Held { fence }) => fence,
                    Ok(Leased::Taken { .. }) | Err(StoreError::Unavailable { .. }) => {
                        tokio::time::sleep(Duration::from_millis(3)).await;
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                let before = holder.swap(task + 1, Ordering::AcqRel);
                assert_eq!(before, 0, "{task} holds what {before} holds");
                assert!(last.fetch_max(fence, Ordering::AcqRel) < fence);
                held.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
                // Whoever comes late holds nothing any more.
                if Instant::now() < until {
                    assert_eq!(holder.swap(0, Ordering::AcqRel), task + 1);
                } else {
                    holder.store(0, Ordering::Release);
                }
                let _ = store.release(b"lock", fence).await.unwrap();
            }
        });
    }
    let coordinator = open(&old, &new).await;
    coordinator
        .migrate(Phase::WriteNew, &PACE, |_| {})
        .await
        .unwrap();
    goes_on(&held).await;
    coordinator.roll_back("back", &PACE, |_| {}).await.unwrap();
    goes_on(&held).await;
    stops.store(true, Ordering::Release);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let long = stores[0].lease(b"l", b"me", Duration::from_secs(60)).await;
    assert!(matches!(long, Err(StoreError::Rejected { .. })), "{long:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_move_from_redis_to_yggdrasil_and_back() {
    let (old, new) = (
        Server::start(Flavor::Redis),
        Server::start(Flavor::Yggdrasil),
    );
    leases_move(patient(&old, "redis"), patient(&new, "yggdrasil")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_move_from_valkey_to_redis_and_back() {
    let (old, new) = (Server::start(Flavor::Valkey), Server::start(Flavor::Redis));
    leases_move(patient(&old, "valkey"), patient(&new, "redis")).await;
}

/// A bucket that was empty in the old store is not full in the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_move() {
    let servers = [
        Server::start(Flavor::Redis),
        Server::start(Flavor::Valkey),
        Server::start(Flavor::Yggdrasil),
    ];
    let stores = || -> [Store; 3] { std::array::from_fn(|i| patient(&servers[i], "store")) };
    let limit = Limit::per(1, Duration::from_secs(3600), 5).unwrap();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let [old, new] = [stores()[from].clone(), stores()[to].clone()];
        let config = MigrationConfig {
            name: format!("buckets-{from}-{to}"),
            ..config()
        };
        let store = MigratingStore::open(old, new, config).await.unwrap();
        store.migrate(Phase::Shadow, &PACE, |_| {}).await.unwrap();
        let key = format!("bucket {from} {to}");
        for _ in 0..5 {
            let taken = store.consume(key.as_bytes(), &limit, 1).await.unwrap();
            assert!(taken.is_allowed());
        }
        store.migrate(Phase::Done, &PACE, |_| {}).await.unwrap();
        let taken = store.consume(key.as_bytes(), &limit, 1).await.unwrap();
        assert!(!taken.is_allowed(), "{from} {to}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_coordinator_and_settings_that_are_none() {
    let (old, new): (Store, Store) = (MemoryStore::new().into(), MemoryStore::new().into());
    let store = open(&old, &new).await;
    let slow = MigrationPace {
        hold: Duration::from_secs(30),
        ..PACE
    };
    let first = {
        let store = store.clone();
        tokio::spawn(async move { store.migrate(Phase::ReadNew, &slow, |_| {}).await })
    };
    while store.state().phase != Phase::ReadNew {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = store.migrate(Phase::Done, &PACE, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    first.abort();
    let error = store.migrate(Phase::Off, &PACE, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("'off' is no goal"), "{error}");
    for wrong in [
        MigrationConfig {
            name: "a b".to_owned(),
            ..config()
        },
        MigrationConfig {
            sample: 0,
            ..config()
        },
        MigrationConfig {
            fresh: Duration::from_millis(1),
            ..config()
        },
    ] {
        let error = MigratingStore::open(old.clone(), new.clone(), wrong).await;
        assert!(matches!(error, Err(StoreError::Config(_))), "{error:?}");
    }
    let nested = MigratingStore::open(store.clone(), new.clone(), config()).await;
    assert!(matches!(nested, Err(StoreError::Config(_))));
    let version = store
        .write(b"k", b"v", Lifetime::Unlimited, Condition::Version(1))
        .await;
    assert!(matches!(version, Err(StoreError::Unsupported { .. })));
}
