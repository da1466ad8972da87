//! The same for every store.

use std::time::{Duration, Instant};

use valkyrie_store::{
    Acquired, Beyond, Condition, Flavor, HybridConfig, HybridStore, Increment, Leased, Lifetime,
    Limit, MemoryStore, Outcome, Store, StoreAdapter, StoreError,
};

use crate::server::Server;
use crate::together;

const LONG: Duration = Duration::from_secs(1000);
const SHORT: Duration = Duration::from_millis(40);

/// Every claim about a store, each with keys of its own.
pub(crate) async fn conform(store: &impl StoreAdapter) {
    values(store).await;
    lifetimes(store).await;
    conditions(store).await;
    versions(store).await;
    counters(store).await;
    buckets(store).await;
    leases(store).await;
    places(store).await;
    scans(store).await;
    wrong_types(store).await;
    simple_calls(store).await;
    together::conform(store).await;
}

async fn values(store: &impl StoreAdapter) {
    store.ping().await.unwrap();
    assert_eq!(store.read(b"v:none").await.unwrap(), None);
    let long = vec![7; 100_000];
    for value in [&b""[..], b"\0\r\n\xff", b"12", &long] {
        let written = store
            .write(b"v:\0 k", value, Lifetime::Unlimited, Condition::Always)
            .await;
        assert!(written.unwrap().is_done());
        let read = store.read(b"v:\0 k").await.unwrap().unwrap();
        assert_eq!(&read.bytes[..], value);
    }
    assert!(store.remove(b"v:\0 k", Condition::Always).await.unwrap());
    assert!(!store.remove(b"v:\0 k", Condition::Always).await.unwrap());
    assert_eq!(store.read(b"v:\0 k").await.unwrap(), None);
}

async fn lifetimes(store: &impl StoreAdapter) {
    let key = b"l:k";
    let write = async |lifetime| {
        store
            .write(key, b"v", lifetime, Condition::Always)
            .await
            .unwrap();
    };
    assert_eq!(store.lifetime(key).await.unwrap(), None);
    assert!(!store.set_lifetime(key, Lifetime::For(LONG)).await.unwrap());
    assert!(!store.set_lifetime(key, Lifetime::Unlimited).await.unwrap());
    assert!(!store.set_lifetime(key, Lifetime::Keep).await.unwrap());
    write(Lifetime::Unlimited).await;
    assert_eq!(store.lifetime(key).await.unwrap(), Some(None));
    assert!(store.set_lifetime(key, Lifetime::For(LONG)).await.unwrap());
    let left = || async { store.lifetime(key).await.unwrap().unwrap().unwrap() };
    assert!(left().await > LONG - Duration::from_secs(10) && left().await <= LONG);
    write(Lifetime::Keep).await;
    assert!(left().await > LONG - Duration::from_secs(10));
    assert!(store.set_lifetime(key, Lifetime::Keep).await.unwrap());
    assert!(store.set_lifetime(key, Lifetime::Unlimited).await.unwrap());
    assert_eq!(store.lifetime(key).await.unwrap(), Some(None));
    // Less than a millisecond is not for ever, and less than a second not nothing.
    write(Lifetime::For(Duration::from_nanos(1))).await;
    gone(store, key).await;
    write(Lifetime::For(SHORT)).await;
    assert!(store.read(key).await.unwrap().is_some());
    gone(store, key).await;
    write(Lifetime::Unlimited).await;
    write(Lifetime::For(LONG)).await;
    write(Lifetime::Unlimited).await;
    assert_eq!(store.lifetime(key).await.unwrap(), Some(None));
}

/// Waits until a key has ended.
async fn gone(store: &impl StoreAdapter, key: &[u8]) {
    for _ in 0..1000 {
        if store.read(key).await.unwrap().is_none() {
            assert_eq!(store.lifetime(key).await.unwrap(), None);
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{}: the key does not end", store.name());
}

async fn conditions(store: &impl StoreAdapter) {
    let key = b"c:k";
    let write = async |value: &[u8], condition| {
        let written = store
            .write(key, value, Lifetime::Unlimited, condition)
            .await;
        written.unwrap().is_done()
    };
    assert!(!write(b"1", Condition::Present).await);
    assert!(!write(b"1", Condition::Equals(b"")).await);
    assert!(write(b"1", Condition::Absent).await);
    assert!(!write(b"2", Condition::Absent).await);
    assert!(write(b"2", Condition::Present).await);
    assert!(!write(b"3", Condition::Equals(b"1")).await);
    assert!(write(b"3", Condition::Equals(b"2")).await);
    let kept = store.write(key, b"4", Lifetime::For(LONG), Condition::Equals(b"3"));
    assert!(kept.await.unwrap().is_done());
    let kept = store.write(key, b"5", Lifetime::Keep, Condition::Equals(b"4"));
    assert!(kept.await.unwrap().is_done());
    assert!(store.lifetime(key).await.unwrap().unwrap().is_some());
    assert!(write(b"6", Condition::Equals(b"5")).await);
    assert_eq!(store.lifetime(key).await.unwrap(), Some(None));
    assert!(!store.remove(key, Condition::Equals(b"5")).await.unwrap());
    assert!(!store.remove(key, Condition::Absent).await.unwrap());
    assert!(store.remove(key, Condition::Equals(b"6")).await.unwrap());
    assert!(!store.remove(key, Condition::Equals(b"6")).await.unwrap());
}

async fn versions(store: &impl StoreAdapter) {
    let key = b"vs:k";
    store
        .write(key, b"1", Lifetime::Unlimited, Condition::Always)
        .await
        .unwrap();
    let first = store.read(key).await.unwrap().unwrap();
    let Some(version) = first.version else {
        let written = store
            .write(key, b"2", Lifetime::Unlimited, Condition::Version(1))
            .await;
        assert!(matches!(written, Err(StoreError::Unsupported { .. })));
        return;
    };
    let write = async |value: &[u8], version| {
        let condition = Condition::Version(version);
        let written = store
            .write(key, value, Lifetime::Unlimited, condition)
            .await;
        written.unwrap().is_done()
    };
    assert!(write(b"2", version).await);
    assert!(!write(b"3", version).await);
    assert!(
        !store
            .remove(key, Condition::Version(version))
            .await
            .unwrap()
    );
    let second = store.read(key).await.unwrap().unwrap();
    assert_eq!(&second.bytes[..], b"2");
    assert!(
        store
            .remove(key, Condition::Version(second.version.unwrap()))
            .await
            .unwrap()
    );
    // A key that comes again is another one.
    store
        .write(key, b"2", Lifetime::Unlimited, Condition::Always)
        .await
        .unwrap();
    assert!(!write(b"3", second.version.unwrap()).await);
}

async fn counters(store: &impl StoreAdapter) {
    let key = b"n:k";
    assert_eq!(store.add(key, &Increment::by(5)).await.unwrap(), (5, 5));
    assert_eq!(store.add(key, &Increment::by(-7)).await.unwrap(), (-2, -7));
    assert_eq!(&store.read(key).await.unwrap().unwrap().bytes[..], b"-2");
    let bounded = async |by, beyond| {
        let increment = Increment {
            bounds: Some((-10, 10)),
            beyond,
            ..Increment::by(by)
        };
        store.add(key, &increment).await.unwrap()
    };
    assert_eq!(bounded(12, Beyond::Refuse).await, (10, 12));
    assert_eq!(bounded(1, Beyond::Refuse).await, (10, 0));
    assert_eq!(bounded(1, Beyond::Saturate).await, (10, 0));
    assert_eq!(bounded(-15, Beyond::Saturate).await, (-5, -15));
    assert_eq!(bounded(-15, Beyond::Saturate).await, (-10, -5));
    assert_eq!(store.lifetime(key).await.unwrap(), Some(None));
    // The first change sets the end, later ones leave it.
    let key = b"n:window";
    for (ttl, value) in [(LONG, 1), (2 * LONG, 2)] {
        let increment = Increment {
            ttl: Some(ttl),
            ..Increment::by(1)
        };
        assert_eq!(store.add(key, &increment).await.unwrap(), (value, 1));
        assert!(store.lifetime(key).await.unwrap().unwrap().unwrap() <= LONG);
    }
    store.set("n:text", "abc", None).await.unwrap();
    for increment in [
        Increment::by(1),
        Increment {
            bounds: Some((0, 5)),
            ..Increment::by(1)
        },
    ] {
        let refused = store.add(b"n:text", &increment).await.unwrap_err();
        assert_eq!(refused.applied(), None, "{refused}");
        assert!(refused.to_string().contains("not an integer"), "{refused}");
    }
}

async fn buckets(store: &impl StoreAdapter) {
    // One token an hour: none comes back meanwhile.
    let limit = Limit::per(1, Duration::from_secs(3600), 5).unwrap();
    let consume = async |cost| store.consume(b"b:k", &limit, cost).await.unwrap();
    let look = consume(0).await;
    assert_eq!(
        (look.outcome, look.remaining, look.reset_after_ns),
        (Outcome::Allowed, 5, 0)
    );
    let taken = consume(2).await;
    assert_eq!((taken.outcome, taken.remaining), (Outcome::Allowed, 3));
    let denied = consume(4).await;
    assert_eq!((denied.outcome, denied.remaining), (Outcome::Denied, 3));
    let hour = Duration::from_secs(3600).as_nanos() as u64;
    assert!(denied.retry_after_ns <= hour && denied.retry_after_ns > hour - hour / 60);
    assert_eq!(consume(6).await.outcome, Outcome::Never);
    assert_eq!(consume(3).await.remaining, 0);
    assert_eq!(consume(1).await.outcome, Outcome::Denied);
    // Others have their own.
    assert!(
        store
            .consume(b"b:other", &limit, 5)
            .await
            .unwrap()
            .is_allowed()
    );
    // Tokens come back by the clock, also for those who ask too often: one every 10 ms.
    let fast = Limit::per(100, Duration::from_secs(1), 1).unwrap();
    let (start, mut allowed, mut last) = (Instant::now(), 0, None);
    while allowed < 20 {
        let asked = Instant::now();
        let is_due = last.is_none_or(|last| asked - last >= Duration::from_millis(11));
        let decision = store.consume(b"b:fast", &fast, 1).await.unwrap();
        if decision.is_allowed() {
            allowed += 1;
            last = Some(Instant::now());
        }
        let name = store.name();
        assert!(decision.is_allowed() || !is_due, "{name}: {allowed}");
        let most = start.elapsed().as_millis() as u32 / 10 + 1;
        assert!(allowed <= most, "{name}: {allowed} of {most}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn leases(store: &impl StoreAdapter) {
    let key = b"le:k";
    let lease = async |holder: &[u8], ttl| store.lease(key, holder, ttl).await.unwrap();
    let Leased::Held { fence } = lease(b"a:b", LONG).await else {
        panic!("not given");
    };
    assert_eq!(lease(b"a:b", LONG).await, Leased::Held { fence });
    let Leased::Taken { for_at_most } = lease(b"other", LONG).await else {
        panic!("given twice");
    };
    assert!(for_at_most <= LONG && for_at_most > LONG / 2);
    assert!(!store.renew(key, fence + 1, LONG).await.unwrap());
    assert!(store.renew(key, fence, 2 * LONG).await.unwrap());
    assert!(!store.release(key, fence + 1).await.unwrap());
    assert!(store.release(key, fence).await.unwrap());
    assert!(!store.release(key, fence).await.unwrap());
    assert!(!store.renew(key, fence, LONG).await.unwrap());
    let Leased::Held { fence: second } = lease(b"other", SHORT).await else {
        panic!("not free");
    };
    assert!(second > fence);
    for _ in 0..1000 {
        if let Leased::Held { fence: third } = lease(b"third", LONG).await {
            assert!(third > second);
            assert!(!store.renew(key, second, LONG).await.unwrap());
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the lease does not end");
}

async fn places(store: &impl StoreAdapter) {
    let key = b"p:k";
    let acquire = async |holder: &[u8], ttl| store.acquire(key, holder, 2, ttl).await.unwrap();
    assert_eq!(acquire(b"a", LONG).await, Acquired::Held { held: 1 });
    assert_eq!(acquire(b"b", SHORT).await, Acquired::Held { held: 2 });
    assert_eq!(acquire(b"a", LONG).await, Acquired::Held { held: 2 });
    let Acquired::Full { retry_after } = acquire(b"c", LONG).await else {
        panic!("too many");
    };
    assert!(retry_after.unwrap() <= SHORT);
    while acquire(b"c", LONG).await != (Acquired::Held { held: 2 }) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!store.give_back(key, b"b").await.unwrap());
    assert!(store.give_back(key, b"c").await.unwrap());
    assert_eq!(acquire(b"d", LONG).await, Acquired::Held { held: 2 });
    let none = store.acquire(b"p:none", b"a", 0, LONG).await.unwrap();
    assert_eq!(none, Acquired::Full { retry_after: None });
}

async fn scans(store: &impl StoreAdapter) {
    let mut expected = Vec::new();
    for number in 0..500 {
        let key = format!("s[*]:{number}").into_bytes();
        store
            .write(&key, b"", Lifetime::Unlimited, Condition::Always)
            .await
            .unwrap();
        expected.push(key);
    }
    store.set("s2", "", None).await.unwrap();
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let page = store.scan(b"s[*]:", from).await.unwrap();
        found.extend(page.keys.into_iter().map(|key| key.to_vec()));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    found.sort();
    found.dedup();
    expected.sort();
    assert_eq!(found, expected);
}

async fn wrong_types(store: &impl StoreAdapter) {
    store.acquire(b"w:p", b"a", 1, LONG).await.unwrap();
    let wrong = store.read(b"w:p").await.unwrap_err();
    assert!(matches!(wrong, StoreError::WrongType { .. }), "{wrong:?}");
    let wrong = store.add(b"w:p", &Increment::by(1)).await.unwrap_err();
    assert!(matches!(wrong, StoreError::WrongType { .. }), "{wrong:?}");
    assert!(store.remove(b"w:p", Condition::Always).await.unwrap());
}

async fn simple_calls(store: &impl StoreAdapter) {
    store.set("x", b"value", Some(LONG)).await.unwrap();
    assert_eq!(
        store.get("x").await.unwrap().as_deref(),
        Some(&b"value"[..])
    );
    assert!(store.exists("x").await.unwrap());
    assert!(store.ttl("x").await.unwrap().is_some());
    assert!(store.delete("x").await.unwrap());
    assert!(!store.exists("x").await.unwrap());
    assert_eq!(store.increment("x", 2).await.unwrap(), 2);
    assert!(store.try_consume("x:bucket", 5).await.unwrap());
    assert!(!store.try_consume("x:bucket", 96).await.unwrap());
}

#[tokio::test]
async fn memory_conforms() {
    conform(&MemoryStore::new()).await;
}

#[tokio::test]
async fn redis_conforms() {
    let server = Server::start(Flavor::Redis);
    let store = server.store("redis");
    assert_eq!(store.flavor().await.unwrap(), Flavor::Redis);
    conform(&store).await;
}

#[tokio::test]
async fn valkey_conforms() {
    let server = Server::start(Flavor::Valkey);
    let store = server.store("valkey");
    assert_eq!(store.flavor().await.unwrap(), Flavor::Valkey);
    conform(&store).await;
}

#[tokio::test]
async fn yggdrasil_conforms() {
    let server = Server::start(Flavor::Yggdrasil);
    let store = server.store("yggdrasil");
    assert_eq!(store.flavor().await.unwrap(), Flavor::Yggdrasil);
    conform(&store).await;
}

#[tokio::test]
async fn any_store_and_a_chain_of_them_conform() {
    let server = Server::start(Flavor::Redis);
    conform(&Store::from(server.store("redis"))).await;
    let server = Server::start(Flavor::Redis);
    let chain = [server.store("redis").into(), MemoryStore::new().into()];
    conform(&HybridStore::of(chain, HybridConfig::default()).unwrap()).await;
}
