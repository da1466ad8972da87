//! What is lost when a store fails, and what is not.

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use valkyrie_store::{
    Applied, Attempt, BreakerConfig, BreakerState, Condition, Flavor, HybridConfig, HybridStore,
    Lifetime, Limit, MemoryStore, RedisConfig, RedisStore, Store, StoreAdapter, StoreError,
    Transaction,
};

use crate::server::{Server, free_port};

fn config() -> HybridConfig {
    HybridConfig {
        breaker: BreakerConfig {
            failures: 2,
            open_for: Duration::from_millis(50),
            successes: 2,
        },
        ..HybridConfig::default()
    }
}

fn chain(stores: impl IntoIterator<Item = Store>) -> HybridStore {
    HybridStore::of(stores, config()).unwrap()
}

/// A store where nobody listens.
fn nowhere() -> RedisStore {
    RedisStore::new(&RedisConfig {
        name: "nowhere".to_owned(),
        url: format!("redis://127.0.0.1:{}", free_port()),
        ..RedisConfig::default()
    })
    .unwrap()
}

fn hourly(burst: u32) -> Limit {
    Limit::per(1, Duration::from_secs(3600), burst).unwrap()
}

/// Nothing of a lease or a conditional write may come from the second store.
async fn ensure_coordination_fails(store: &HybridStore) {
    let ttl = Duration::from_secs(10);
    let unlimited = Lifetime::Unlimited;
    let errors = [
        store.lease(b"l", b"me", ttl).await.err(),
        store.renew(b"l", 1, ttl).await.err(),
        store.release(b"l", 1).await.err(),
        store.acquire(b"p", b"me", 1, ttl).await.err(),
        store.give_back(b"p", b"me").await.err(),
        store
            .write(b"k", b"v", unlimited, Condition::Absent)
            .await
            .err(),
        store
            .write(b"k", b"v", unlimited, Condition::Equals(b"w"))
            .await
            .err(),
        store.remove(b"k", Condition::Equals(b"w")).await.err(),
    ];
    for error in errors {
        let error = error.expect("coordination never falls back");
        assert!(error.applied().is_some(), "{error}");
    }
}

#[tokio::test]
async fn unreachable_store_is_replaced_but_for_coordination() {
    let store = chain([nowhere().into(), MemoryStore::new().into()]);
    store.set("k", "v", None).await.unwrap();
    assert_eq!(store.get("k").await.unwrap().as_deref(), Some(&b"v"[..]));
    assert!(
        store
            .consume(b"b", &hourly(2), 2)
            .await
            .unwrap()
            .is_allowed()
    );
    assert!(
        !store
            .consume(b"b", &hourly(2), 1)
            .await
            .unwrap()
            .is_allowed()
    );
    assert_eq!(store.increment("n", 3).await.unwrap(), 3);
    ensure_coordination_fails(&store).await;
    let status = store.status();
    assert_ne!(status[0].state, BreakerState::Closed);
    assert!(status[0].failed >= 2);
    assert!(
        status[0]
            .last_error
            .as_ref()
            .unwrap()
            .contains("cannot be reached")
    );
    assert_eq!(status[1].state, BreakerState::Closed);
    assert_eq!(store.fell_back(), 5);
}

/// A server whose disk refuses says so before anything is done.
#[tokio::test]
async fn store_that_takes_no_writes_is_replaced_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    let settings = ["--save", "3600 1", "--dir", &path];
    let server = Server::start_at(Flavor::Redis, free_port(), &settings);
    let (primary, memory) = (server.store("redis"), MemoryStore::new());
    primary.set("k", "first", None).await.unwrap();
    drop(dir);
    let ask = |command: &[&str]| {
        let mut cli = std::process::Command::new("redis-cli");
        let out = cli.args(["-p", &server.port.to_string()]).args(command);
        String::from_utf8(out.output().unwrap().stdout).unwrap()
    };
    ask(&["BGSAVE"]);
    let start = Instant::now();
    while !ask(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err") {
        assert!(start.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = primary.set("k", "second", None).await.unwrap_err();
    assert!(refused.is_not_applied(), "{refused:?}");
    assert!(refused.to_string().contains("MISCONF"), "{refused}");
    let store = chain([primary.clone().into(), memory.clone().into()]);
    store.set("k", "second", None).await.unwrap();
    assert_eq!(
        primary.get("k").await.unwrap().as_deref(),
        Some(&b"first"[..])
    );
    assert_eq!(
        store.get("k").await.unwrap().as_deref(),
        Some(&b"second"[..])
    );
    ensure_coordination_fails(&store).await;
}

#[tokio::test]
async fn wrong_password_is_an_unreachable_store() {
    let port = free_port();
    let server = Server::start_at(Flavor::Redis, port, &["--requirepass", "right"]);
    for password in [None, Some("wrong".into())] {
        let wrong = RedisStore::new(&RedisConfig {
            password,
            ..server.config("locked")
        });
        let wrong = wrong.unwrap();
        let error = wrong.get("k").await.unwrap_err();
        assert!(error.is_not_applied(), "{error}");
        assert!(
            !format!("{error} {error:?}").contains("wrong\""),
            "{error:?}"
        );
        let store = chain([wrong.into(), MemoryStore::new().into()]);
        store.set("k", "v", None).await.unwrap();
        ensure_coordination_fails(&store).await;
    }
    let right = RedisStore::new(&RedisConfig {
        password: Some("right".into()),
        ..server.config("locked")
    });
    right.unwrap().set("k", "v", None).await.unwrap();
}

/// A paused server takes requests and gives no answers: what was sent may have been done.
#[tokio::test]
async fn paused_store_leaves_counts_alone() {
    let server = Server::start(Flavor::Valkey);
    let primary = RedisStore::new(&RedisConfig {
        timeout: Duration::from_millis(100),
        ..server.config("valkey")
    });
    let store = chain([primary.unwrap().into(), MemoryStore::new().into()]);
    assert!(
        store
            .consume(b"b", &hourly(10), 4)
            .await
            .unwrap()
            .is_allowed()
    );
    assert_eq!(store.increment("n", 1).await.unwrap(), 1);
    server.signal("STOP");
    let unclear = store.increment("n", 1).await.unwrap_err();
    assert_eq!(unclear.applied(), Some(Applied::Unknown), "{unclear}");
    // Asked again it is counted elsewhere, because nothing is sent to the first one now.
    let unclear = store.consume(b"b", &hourly(10), 4).await.unwrap_err();
    assert_eq!(unclear.applied(), Some(Applied::Unknown), "{unclear}");
    assert_eq!(
        store.consume(b"b", &hourly(10), 4).await.unwrap().remaining,
        6
    );
    ensure_coordination_fails(&store).await;
    assert_eq!(store.get("k").await.unwrap(), None);
    server.signal("CONT");
    // It is trusted again after some answers, and has done what was in doubt once.
    let start = Instant::now();
    while store.status()[0].state != BreakerState::Closed {
        assert!(start.elapsed() < Duration::from_secs(20));
        let _ = store.get("k").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.increment("n", 0).await.unwrap(), 2);
    assert_eq!(
        store.consume(b"b", &hourly(10), 0).await.unwrap().remaining,
        2
    );
}

/// A store that was away has values that others have changed meanwhile. They are never read again.
#[tokio::test]
async fn store_that_is_back_has_no_old_values() {
    let server = Server::start(Flavor::Redis);
    let primary = RedisStore::new(&RedisConfig {
        timeout: Duration::from_millis(100),
        ..server.config("redis")
    });
    let (primary, memory) = (primary.unwrap(), MemoryStore::new());
    let store = chain([primary.clone().into(), memory.clone().into()]);
    let keys: Vec<_> = (0..300).map(|number| format!("k{number}")).collect();
    for key in &keys {
        store
            .set(key, "old", Some(Duration::from_secs(1000)))
            .await
            .unwrap();
    }
    store.set("kept", "old", None).await.unwrap();
    server.signal("STOP");
    // The first of them are in doubt and may be done when it goes on.
    for key in &keys {
        store.set(key, "new", None).await.unwrap();
    }
    let removed = store.delete("kept").await.unwrap();
    assert!(!removed, "the other store never had it");
    assert_eq!(store.status()[0].stale, keys.len() + 1);
    assert_eq!(store.status()[1].stale, 0);
    server.signal("CONT");
    let start = Instant::now();
    let mut turns = keys.iter().cycle();
    while store.status()[0].stale > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            store.status()
        );
        let value = store.get(turns.next().unwrap()).await.unwrap();
        assert_ne!(value.as_deref(), Some(&b"old"[..]));
        let swapped = store
            .write(b"kept", b"x", Lifetime::Keep, Condition::Equals(b"old"))
            .await;
        assert!(!swapped.is_ok_and(|written| written.is_done()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(store.status()[0].stale_lost, 0);
    for key in keys.iter().chain([&"kept".to_owned()]) {
        assert_eq!(primary.get(key).await.unwrap(), None, "{key}");
    }
    // What the other one was told is over, too.
    let deadline = Instant::now() + Duration::from_secs(10);
    while memory.scan(b"k", None).await.unwrap().keys.len() > 1 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    store.set("k0", "newest", None).await.unwrap();
    assert_eq!(
        store.get("k0").await.unwrap().as_deref(),
        Some(&b"newest"[..])
    );
}

/// The same for several operations that belong together.
#[tokio::test]
async fn work_that_went_elsewhere_leaves_no_old_values() {
    let server = Server::start(Flavor::Redis);
    let primary = RedisStore::new(&RedisConfig {
        timeout: Duration::from_millis(100),
        ..server.config("redis")
    });
    let store = chain([primary.unwrap().into(), MemoryStore::new().into()]);
    store.set("a", "old", None).await.unwrap();
    store.set("b", "old", None).await.unwrap();
    server.signal("STOP");
    let change = |attempt: Attempt| {
        let done = async move {
            attempt.read(b"other").await?;
            attempt.set("a", "new", None).await?;
            let rest = Transaction::new()
                .set(b"b", b"new", Lifetime::Unlimited)
                .add(b"n", 1);
            attempt.transact(&rest).await
        };
        Box::pin(done) as Pin<Box<dyn Future<Output = _> + Send>>
    };
    // What does not answer is left alone after two failures; then it is certain that nothing is done.
    let start = Instant::now();
    while store.execute_with_fallback(change).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(store.status()[0].stale, 2);
    server.signal("CONT");
    while store.status()[0].stale > 0 {
        assert!(start.elapsed() < Duration::from_secs(20));
        for key in ["a", "b"] {
            let value = store.get(key).await.unwrap();
            assert_ne!(value.as_deref(), Some(&b"old"[..]));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(store.increment("n", 0).await.unwrap(), 0);
}

#[tokio::test]
async fn killed_store_comes_back_by_itself() {
    let port = free_port();
    let server = Server::start_at(Flavor::Redis, port, &[]);
    let store = chain([server.store("redis").into(), MemoryStore::new().into()]);
    store.set("k", "first", None).await.unwrap();
    drop(server);
    // At most the operations that were under way are in doubt.
    let start = Instant::now();
    while store.fell_back() < 10 {
        assert!(start.elapsed() < Duration::from_secs(10));
        store.set("k", "second", None).await.unwrap();
    }
    ensure_coordination_fails(&store).await;
    assert_eq!(
        store.get("k").await.unwrap().as_deref(),
        Some(&b"second"[..])
    );
    let _server = Server::start_at(Flavor::Redis, port, &[]);
    while store.status()[0].state != BreakerState::Closed {
        assert!(start.elapsed() < Duration::from_secs(20));
        let _ = store.get("other").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A stated loss of the class: the values of the time between are not in the first store.
    assert_eq!(store.get("k").await.unwrap(), None);
    let leased = store.lease(b"l", b"me", Duration::from_secs(10)).await;
    assert!(leased.is_ok());
}

#[tokio::test]
async fn silent_network_is_not_waited_for() {
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let primary = RedisStore::new(&RedisConfig {
        url: format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port()),
        timeout: Duration::from_millis(100),
        connect_timeout: Duration::from_millis(100),
        ..RedisConfig::default()
    });
    let store = chain([primary.unwrap().into(), MemoryStore::new().into()]);
    let start = Instant::now();
    store.set("k", "v", None).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    ensure_coordination_fails(&store).await;
    // From now on nobody waits at all.
    let start = Instant::now();
    for _ in 0..100 {
        store.get("k").await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(2));
}

/// A network between a store and its server that takes its time, or carries nothing at all.
struct Network {
    port: u16,
    /// Milliseconds that each piece takes; `CUT` for ever.
    delay_ms: Arc<AtomicU64>,
}

const CUT: u64 = u64::MAX;

impl Network {
    async fn to(server: &Server) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), server.port);
        let delay_ms = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&delay_ms);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = tokio::net::TcpStream::connect(("127.0.0.1", to)).await else {
                    continue;
                };
                let (client, server) = (client.into_split(), server.into_split());
                tokio::spawn(carry(client.0, server.1, Arc::clone(&delay)));
                tokio::spawn(carry(server.0, client.1, Arc::clone(&delay)));
            }
        });
        Self { port, delay_ms }
    }

    fn set(&self, delay_ms: u64) {
        self.delay_ms.store(delay_ms, Ordering::Release);
    }

    fn store(&self) -> RedisStore {
        RedisStore::new(&RedisConfig {
            name: "far".to_owned(),
            url: format!("redis://127.0.0.1:{}", self.port),
            timeout: Duration::from_millis(200),
            connect_timeout: Duration::from_millis(200),
            ..RedisConfig::default()
        })
        .unwrap()
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay_ms: Arc<AtomicU64>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut piece = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let waits = || match delay_ms.load(Ordering::Acquire) {
            CUT => Some(Duration::from_millis(5)),
            _ => None,
        };
        while let Some(pause) = waits() {
            tokio::time::sleep(pause).await;
        }
        let delay = delay_ms.load(Ordering::Acquire).min(10_000);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let Some(piece) = piece.get(..count) else {
            return;
        };
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}

async fn is_trusted_again(store: &HybridStore) {
    let start = Instant::now();
    while store.status().first().map(|first| first.state) != Some(BreakerState::Closed) {
        assert!(start.elapsed() < Duration::from_secs(20));
        let _ = store.get("other").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Slow is not gone: as long as answers come in time, nothing falls back; else it is as if it were.
#[tokio::test]
async fn slow_store_is_waited_for_and_no_longer() {
    let server = Server::start(Flavor::Redis);
    let network = Network::to(&server).await;
    let store = chain([network.store().into(), MemoryStore::new().into()]);
    store.set("k", "v", None).await.unwrap();
    network.set(40);
    for _ in 0..5 {
        assert_eq!(store.get("k").await.unwrap().as_deref(), Some(&b"v"[..]));
    }
    assert_eq!(store.increment("n", 1).await.unwrap(), 1);
    let leased = store.lease(b"l", b"me", Duration::from_secs(10)).await;
    assert!(leased.is_ok());
    assert_eq!(store.fell_back(), 0);
    network.set(1000);
    let unclear = store.increment("n", 1).await.unwrap_err();
    assert_eq!(unclear.applied(), Some(Applied::Unknown), "{unclear}");
    // Reads and writes that do no harm twice go on elsewhere, without the values of the first.
    assert_eq!(store.get("k").await.unwrap(), None);
    ensure_coordination_fails(&store).await;
    assert!(store.fell_back() > 0);
    network.set(0);
    is_trusted_again(&store).await;
    assert_eq!(store.get("k").await.unwrap().as_deref(), Some(&b"v"[..]));
    // What was in doubt was done once.
    assert_eq!(store.increment("n", 0).await.unwrap(), 2);
}

/// A network that carries nothing for a while: the same, and nothing is done twice when it heals.
#[tokio::test]
async fn partition_loses_what_is_stated_and_heals() {
    let server = Server::start(Flavor::Valkey);
    let network = Network::to(&server).await;
    let store = chain([network.store().into(), MemoryStore::new().into()]);
    store.set("k", "first", None).await.unwrap();
    let fence = match store.lease(b"l", b"me", Duration::from_secs(60)).await {
        Ok(valkyrie_store::Leased::Held { fence }) => fence,
        other => panic!("{other:?}"),
    };
    let taken = store.consume(b"b", &hourly(10), 4).await.unwrap();
    assert_eq!(taken.remaining, 6);
    network.set(CUT);
    // In doubt, so not counted elsewhere; from then on nothing is sent.
    assert!(store.consume(b"b", &hourly(10), 1).await.is_err());
    store.set("k", "second", None).await.unwrap();
    let elsewhere = loop {
        match store.consume(b"b", &hourly(10), 4).await {
            Ok(decision) => break decision,
            Err(error) => assert_eq!(error.applied(), Some(Applied::Unknown)),
        }
    };
    assert_eq!(elsewhere.remaining, 6);
    ensure_coordination_fails(&store).await;
    // Meanwhile the server goes on for those who reach it.
    let near = server.store("near");
    assert!(
        near.renew(b"l", fence, Duration::from_secs(60))
            .await
            .unwrap()
    );
    near.set("near", "v", None).await.unwrap();
    network.set(0);
    is_trusted_again(&store).await;
    assert_eq!(store.get("near").await.unwrap().as_deref(), Some(&b"v"[..]));
    assert!(
        store
            .renew(b"l", fence, Duration::from_secs(60))
            .await
            .unwrap()
    );
    // Neither the value from before nor that of the write in doubt is believed, and nothing of the
    // memory's came over.
    assert_eq!(store.get("k").await.unwrap(), None);
    let left = store.consume(b"b", &hourly(10), 0).await.unwrap().remaining;
    assert!((1..=6).contains(&left), "{left}");
}

/// One node of three is gone: its keys fall back or fail by their class, and no lease is ever given by
/// the memory behind.
#[tokio::test]
async fn part_of_a_cluster_that_is_gone_is_not_made_up() {
    let ports = [free_port(), free_port(), free_port()];
    let mut members = "epoch 1\n".to_owned();
    for (name, port) in ["a", "b", "c"].iter().zip(ports) {
        members += &format!("node {name} 127.0.0.1:{port} 1\n");
    }
    let start = |(name, port): (&str, u16)| {
        yggdrasil_service::Server::start(yggdrasil_service::ServerConfig {
            listen: vec![([127, 0, 0, 1], port).into()],
            buckets: 10_000,
            threads: 1,
            cluster: Some(yggdrasil_service::ClusterConfig::new(
                name,
                members.parse().unwrap(),
            )),
            ..yggdrasil_service::ServerConfig::default()
        })
        .unwrap()
    };
    let mut servers: Vec<_> = ["a", "b", "c"].into_iter().zip(ports).map(start).collect();
    let cluster = RedisStore::new(&RedisConfig {
        url: format!("yggdrasil://127.0.0.1:{}", ports[0]),
        topology: valkyrie_store::Topology::Cluster,
        ..RedisConfig::default()
    })
    .unwrap();
    let began = Instant::now();
    while cluster.get("k").await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let memory = MemoryStore::new();
    let store = chain([cluster.into(), memory.clone().into()]);
    for number in 0..50 {
        store.set(format!("k{number}"), "v", None).await.unwrap();
    }
    assert_eq!(store.fell_back(), 0);
    drop(servers.pop());
    let (mut values, mut gone, mut leased) = (0, 0, 0);
    for number in 0..50 {
        match store.get(format!("k{number}")).await {
            Ok(Some(_)) => values += 1,
            Ok(None) => gone += 1,
            Err(error) => panic!("reads fall back: {error}"),
        }
        let key = format!("l{number}");
        match store
            .lease(key.as_bytes(), b"me", Duration::from_secs(60))
            .await
        {
            Ok(_) => leased += 1,
            Err(error) => assert!(error.applied().is_some(), "{error}"),
        }
        let held = memory
            .lease(key.as_bytes(), b"other", Duration::from_secs(1))
            .await;
        assert!(
            matches!(held, Ok(valkyrie_store::Leased::Held { .. })),
            "{held:?}"
        );
    }
    assert!(
        gone > 0 && values > 0 && leased > 0,
        "{values} {gone} {leased}"
    );
}

#[tokio::test]
async fn limits_are_shared_out_or_given_away_as_set() {
    let divided = HybridConfig {
        expected_nodes: 4,
        ..config()
    };
    let chain = [nowhere().into(), MemoryStore::new().into()];
    let store = HybridStore::of(chain, divided).unwrap();
    let decision = store.consume(b"b", &hourly(20), 1).await.unwrap();
    assert_eq!(decision.remaining, 4);

    let closed = HybridStore::of([nowhere().into()], config()).unwrap();
    assert!(closed.consume(b"b", &hourly(20), 1).await.is_err());
    let open = HybridConfig {
        limits_open: true,
        ..config()
    };
    let open = HybridStore::of([nowhere().into()], open).unwrap();
    assert!(
        open.consume(b"b", &hourly(20), 1)
            .await
            .unwrap()
            .is_allowed()
    );
}

/// How often work that writes begins, and what comes of it.
async fn work_with(stores: [Store; 2]) -> (u32, Result<(), StoreError>) {
    let store = chain(stores);
    let mut begun = 0;
    let done = store
        .execute_with_fallback(|adapter| {
            begun += 1;
            Box::pin(async move {
                adapter.set("a", "1", None).await?;
                adapter.get("a").await?;
                Ok(())
            })
        })
        .await;
    (begun, done)
}

#[tokio::test]
async fn work_is_done_again_only_where_nothing_was_written() {
    let memory = || Store::from(MemoryStore::new());
    let (begun, done) = work_with([nowhere().into(), memory()]).await;
    assert!(done.is_ok());
    assert_eq!(begun, 2);
    let (begun, done) = work_with([memory(), memory()]).await;
    assert!(done.is_ok());
    assert_eq!(begun, 1);

    // Written, then the connection is lost before anything else is sent: not again.
    let server = Server::start(Flavor::Redis);
    let store = chain([server.store("redis").into(), memory()]);
    let mut server = Some(server);
    let mut begun = 0;
    let done = store
        .execute_with_fallback(|adapter| {
            begun += 1;
            let server = server.take();
            Box::pin(async move {
                adapter.set("a", "1", None).await?;
                drop(server);
                while adapter.get("a").await.is_ok() {}
                adapter.get("a").await.map(drop)
            })
        })
        .await;
    assert!(done.is_err());
    assert_eq!(begun, 1);
}
