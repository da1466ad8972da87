//! What is lost when a store fails, and what is not.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use valkyrie_store::{
    Applied, BreakerConfig, BreakerState, Condition, Flavor, HybridConfig, HybridStore, Lifetime,
    Limit, MemoryStore, RedisConfig, RedisStore, Store, StoreAdapter, StoreError,
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
