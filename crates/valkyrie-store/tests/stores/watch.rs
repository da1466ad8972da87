//! Changes of keys are told, and what may have been missed is told as lost.

use std::time::Duration;

use futures_util::StreamExt;
use valkyrie_store::{
    Acquired, Change, Condition, Event, Flavor, HybridConfig, HybridStore, Lifetime, MemoryStore,
    MigratingStore, MigrationConfig, MigrationPace, Phase, RedisConfig, RedisStore, Store,
    StoreAdapter, StoreError, Transaction, WATCH_EVENTS_MAX, Watch,
};

use crate::server::{Server, free_port};

const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(40);
const LONG: Duration = Duration::from_secs(1000);
/// What makes Redis and Valkey tell changes.
const TELLS: [&str; 2] = ["--notify-keyspace-events", "KA"];

/// Waits for what comes next.
pub(crate) async fn next(watch: &mut Watch) -> Event {
    let next = tokio::time::timeout(PATIENCE, watch.next()).await;
    next.expect("nothing is told").expect("the watch has ended")
}

/// Waits until a key is told with this change. Redis tells some changes as several.
pub(crate) async fn until(watch: &mut Watch, key: &str, change: Change) -> Option<u64> {
    loop {
        match next(watch).await {
            Event::Changed {
                key: told,
                change: became,
                version,
            } => {
                assert_eq!(told, key, "{became:?}");
                if became == change {
                    return version;
                }
                assert_eq!(became, Change::Set, "{key}");
            }
            Event::Lost => panic!("{key}: lost"),
        }
    }
}

/// Waits until a key is told with this change, whatever is told of other keys before.
async fn until_told(watch: &mut Watch, name: &str, became: Change) {
    loop {
        match next(watch).await {
            Event::Changed { key, change, .. } if key == name && change == became => return,
            Event::Changed { .. } => {}
            Event::Lost => panic!("{name}: lost"),
        }
    }
}

/// Waits until something may have been missed; what is told before that does not matter.
async fn lost(watch: &mut Watch) {
    while next(watch).await != Event::Lost {}
}

/// Waits until changes are told again, and takes what was told by then.
pub(crate) async fn back(watch: &mut Watch) {
    while !watch.is_live() {
        lost(watch).await;
    }
    // More may have come since.
    while let Ok(Some(_)) = tokio::time::timeout(SHORT, watch.next()).await {}
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let look = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, look).await;
    seen.unwrap_or_else(|_| panic!("{what}"));
}

async fn server_answers(store: &RedisStore) {
    eventually("no answer", async || store.ping().await.is_ok()).await;
}

/// Everything that is done to a key under a prefix is told, in its order, and nothing else.
pub(crate) async fn tells(store: &impl StoreAdapter) {
    tells_values(store).await;
    let mut watch = store.watch(b"w[*]?:").await.unwrap();
    let key = "w[*]?:p";
    let places = store.acquire(key.as_bytes(), b"a", 2, LONG).await;
    assert_eq!(places.unwrap(), Acquired::Held { held: 1 });
    until(&mut watch, key, Change::Set).await;
    store.delete(key).await.unwrap();
    until(&mut watch, key, Change::Removed).await;
}

async fn tells_values(store: &impl StoreAdapter) {
    assert!(store.caps().watch);
    let mut watch = store.watch(b"w[*]?:").await.unwrap();
    let mut all = store.watch(b"").await.unwrap();
    assert!(watch.is_live() && all.is_live());
    for key in ["w", "wx?:k", "w[*]", "other"] {
        store.set(key, "v", None).await.unwrap();
        until_told(&mut all, key, Change::Set).await;
    }
    let key = "w[*]?:k";
    store.set(key, "1", None).await.unwrap();
    let first = until(&mut watch, key, Change::Set).await;
    store.set(key, "2", None).await.unwrap();
    let second = until(&mut watch, key, Change::Set).await;
    let has_versions = store.read(key.as_bytes()).await.unwrap().unwrap().version;
    assert_eq!(second.is_some(), has_versions.is_some());
    assert!(second > first || second.is_none(), "{first:?} {second:?}");
    let long = Lifetime::For(LONG);
    assert!(store.set_lifetime(key.as_bytes(), long).await.unwrap());
    until(&mut watch, key, Change::Set).await;
    assert!(store.delete(key).await.unwrap());
    until(&mut watch, key, Change::Removed).await;
    until_told(&mut all, key, Change::Removed).await;
    let key = "w[*]?:\0\r\n*";
    store.set(key, "v", Some(SHORT)).await.unwrap();
    until(&mut watch, key, Change::Expired).await;
    until_told(&mut all, key, Change::Expired).await;
    let key = "w[*]?:n";
    store.increment(key, 2).await.unwrap();
    until(&mut watch, key, Change::Set).await;
    store.delete(key).await.unwrap();
    until(&mut watch, key, Change::Removed).await;
    let key = "w[*]?:t";
    let together = Transaction::new()
        .when(key.as_bytes(), Condition::Absent)
        .set(key.as_bytes(), b"v", Lifetime::Unlimited);
    store.transact(&together).await.unwrap();
    until(&mut watch, key, Change::Set).await;
    store.delete(key).await.unwrap();
    until(&mut watch, key, Change::Removed).await;
    // One that ends leaves the other.
    drop(all);
    store.set("w[*]?:last", "v", None).await.unwrap();
    let event = tokio::time::timeout(PATIENCE, StreamExt::next(&mut watch)).await;
    let event = event.unwrap().unwrap();
    assert!(
        matches!(&event, Event::Changed { key, .. } if key == "w[*]?:last"),
        "{event:?}"
    );
}

/// Whoever does not take events finds one loss in their place.
pub(crate) async fn ensure_slow_watcher_loses(store: &impl StoreAdapter) {
    let mut watch = store.watch(b"slow:").await.unwrap();
    let mut quick = store.watch(b"slow:").await.unwrap();
    let set = |number: usize| async move { store.set(format!("slow:{number}"), "v", None).await };
    for number in 0..3 * WATCH_EVENTS_MAX {
        set(number).await.unwrap();
        until(&mut quick, &format!("slow:{number}"), Change::Set).await;
    }
    // Its connection may be a little behind that of the other.
    tokio::time::sleep(10 * SHORT).await;
    assert_eq!(next(&mut watch).await, Event::Lost);
    let last = format!("slow:{}", 3 * WATCH_EVENTS_MAX - 1);
    let mut told = 0;
    let ends = |event| matches!(event, Event::Changed { key, .. } if key == last);
    while !ends(next(&mut watch).await) {
        told += 1;
    }
    assert!(told < WATCH_EVENTS_MAX, "{told}");
    set(0).await.unwrap();
    until(&mut watch, "slow:0", Change::Set).await;
}

fn start(flavor: Flavor) -> Server {
    match flavor {
        Flavor::Yggdrasil => Server::start(flavor),
        _ => Server::start_at(flavor, free_port(), &TELLS),
    }
}

pub(crate) async fn command(store: &RedisConfig, words: &str) -> redis::Value {
    let client = redis::Client::open(store.url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query_async(&mut connection).await.unwrap()
}

/// How many connections a server has besides the one that asks.
async fn connections(server: &Server) -> usize {
    let list = command(&server.config("admin"), "CLIENT LIST").await;
    let list: String = redis::from_redis_value(list).unwrap();
    list.lines().count() - 1
}

#[tokio::test]
async fn memory_tells() {
    let store = MemoryStore::new();
    tells(&store).await;
    ensure_slow_watcher_loses(&store).await;
}

#[tokio::test]
async fn servers_tell() {
    for flavor in [Flavor::Redis, Flavor::Valkey, Flavor::Yggdrasil] {
        let server = start(flavor);
        tells(&server.store("store")).await;
        tells(&Store::from(server.store("store"))).await;
        ensure_slow_watcher_loses(&server.store("store")).await;
        let chain = [server.store("store").into(), MemoryStore::new().into()];
        tells(&HybridStore::of(chain, HybridConfig::default()).unwrap()).await;
    }
}

#[tokio::test]
async fn a_watch_that_is_dropped_ends_at_the_server() {
    for flavor in [Flavor::Redis, Flavor::Yggdrasil] {
        let server = start(flavor);
        let store = RedisStore::new(&RedisConfig {
            connections: 1,
            ..server.config("store")
        });
        let store = store.unwrap();
        store.ping().await.unwrap();
        assert_eq!(connections(&server).await, 1);
        let watches = [store.watch(b"a").await, store.watch(b"b").await].map(Result::unwrap);
        assert_eq!(connections(&server).await, 3);
        drop(watches);
        eventually("it has not ended", async || connections(&server).await == 1).await;
    }
}

#[tokio::test]
async fn a_server_that_starts_again_is_lost_and_told_on() {
    for flavor in [Flavor::Redis, Flavor::Yggdrasil] {
        let port = free_port();
        let again = || {
            Server::start_at(
                flavor,
                port,
                if flavor == Flavor::Redis { &TELLS } else { &[] },
            )
        };
        let server = again();
        let store = server.store("store");
        let mut watch = store.watch(b"k").await.unwrap();
        store.set("k", "v", None).await.unwrap();
        until(&mut watch, "k", Change::Set).await;
        drop(server);
        assert_eq!(next(&mut watch).await, Event::Lost);
        assert!(!watch.is_live());
        let _server = again();
        back(&mut watch).await;
        // The connection of operations broke, too.
        server_answers(&store).await;
        store.set("k", "w", None).await.unwrap();
        until(&mut watch, "k", Change::Set).await;
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed() {
    let server = start(Flavor::Redis);
    let store = server.store("store");
    let mut watch = store.watch(b"k").await.unwrap();
    server.signal("STOP");
    assert_eq!(next(&mut watch).await, Event::Lost);
    assert!(!watch.is_live());
    server.signal("CONT");
    back(&mut watch).await;
    server_answers(&store).await;
    store.set("k", "w", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
}

#[tokio::test]
async fn a_server_that_tells_nothing_is_an_error_that_says_what_to_set() {
    for setting in ["", "KEx", "EA"] {
        let server = Server::start_at(
            Flavor::Redis,
            free_port(),
            &["--notify-keyspace-events", setting],
        );
        let error = server.store("cache").watch(b"k").await.unwrap_err();
        assert!(matches!(error, StoreError::Config(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("cache: 127.0.0.1"), "{text}");
        assert!(
            text.contains("CONFIG SET notify-keyspace-events "),
            "{text}"
        );
    }
    // What it names is enough.
    let server = Server::start(Flavor::Redis);
    let store = server.store("store");
    let text = store.watch(b"k").await.unwrap_err().to_string();
    let (_, rest) = text.split_once("Set it with: ").unwrap();
    let (words, _) = rest.split_once(',').unwrap();
    command(&server.config("admin"), words).await;
    tells(&store).await;
    // Where it is taken away while somebody watches, that is told.
    let mut watch = store.watch(b"k").await.unwrap();
    command(
        &server.config("admin"),
        "CONFIG SET notify-keyspace-events Ex",
    )
    .await;
    assert_eq!(next(&mut watch).await, Event::Lost);
    assert!(!watch.is_live());
    command(&server.config("admin"), words).await;
    back(&mut watch).await;
    store.set("k", "w", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
}

#[tokio::test]
async fn keys_that_go_with_all_others_are_told() {
    let server = start(Flavor::Redis);
    let store = server.store("store");
    let mut watch = store.watch(b"k").await.unwrap();
    for words in ["FLUSHALL", "FLUSHDB ASYNC"] {
        store.set("k", "v", None).await.unwrap();
        until(&mut watch, "k", Change::Set).await;
        command(&server.config("admin"), words).await;
        assert_eq!(next(&mut watch).await, Event::Lost, "{words}");
        assert!(watch.is_live());
    }
    let server = start(Flavor::Yggdrasil);
    let store = server.store("store");
    let mut watch = store.watch(b"k").await.unwrap();
    store.set("k", "v", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
    command(&server.config("admin"), "FLUSHALL").await;
    until(&mut watch, "k", Change::Removed).await;
}

#[tokio::test]
async fn another_database_is_another_store() {
    let server = start(Flavor::Redis);
    let of = |db: u8| {
        RedisStore::new(&RedisConfig {
            url: format!("redis://127.0.0.1:{}/{db}", server.port),
            ..server.config("store")
        })
        .unwrap()
    };
    let (zero, three) = (of(0), of(3));
    let mut watch = three.watch(b"k").await.unwrap();
    zero.set("k0", "v", None).await.unwrap();
    three.set("k3", "v", None).await.unwrap();
    until(&mut watch, "k3", Change::Set).await;
}

#[tokio::test]
async fn users_watch_with_what_they_need_alone() {
    let server = start(Flavor::Redis);
    let admin = server.config("admin");
    let rules = "ACL SETUSER may on >secret ~k* &__keyspace@0__:k* +hello +info +ping +get +set \
                 +client +psubscribe";
    command(&admin, rules).await;
    command(&admin, "ACL SETUSER not on >secret ~k* resetchannels +@all").await;
    let of = |user: &str| {
        RedisStore::new(&RedisConfig {
            username: Some(user.to_owned()),
            password: Some("secret".into()),
            ..server.config("store")
        })
        .unwrap()
    };
    let store = of("may");
    let mut watch = store.watch(b"k").await.unwrap();
    store.set("k", "v", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
    let error = of("not").watch(b"k").await.unwrap_err();
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
    // Another user takes the place of one that is gone.
    command(&admin, "ACL SETUSER next on >third ~* &* +@all").await;
    store
        .set_credentials(Some("next"), "third".into())
        .await
        .unwrap();
    command(&admin, "ACL DELUSER may").await;
    assert_eq!(next(&mut watch).await, Event::Lost);
    back(&mut watch).await;
    store.set("k", "w", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_cannot_be_watched() {
    let store = RedisStore::new(&RedisConfig {
        url: format!("redis://127.0.0.1:{}", free_port()),
        ..RedisConfig::default()
    });
    let error = store.unwrap().watch(b"k").await.unwrap_err();
    assert!(error.is_not_applied(), "{error:?}");
}

#[tokio::test]
async fn a_chain_says_when_another_store_is_asked() {
    let port = free_port();
    let server = Server::start_at(Flavor::Redis, port, &TELLS);
    let chain = [server.store("store").into(), MemoryStore::new().into()];
    let chain = HybridStore::of(chain, HybridConfig::default()).unwrap();
    let mut watch = chain.watch(b"k").await.unwrap();
    chain.set("k", "v", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
    drop(server);
    chain.set("k", "w", None).await.unwrap();
    assert_eq!(chain.fell_back(), 1);
    lost(&mut watch).await;
    assert!(!watch.is_live());
    let _server = Server::start_at(Flavor::Redis, port, &TELLS);
    eventually("the first store is not asked", async || {
        let before = chain.fell_back();
        chain.set("k", "x", None).await.unwrap();
        chain.fell_back() == before
    })
    .await;
    back(&mut watch).await;
    chain.set("k", "y", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
}

#[tokio::test]
async fn a_watch_moves_with_a_migration() {
    let server = start(Flavor::Redis);
    let (old, new) = (MemoryStore::new(), server.store("new"));
    let config = MigrationConfig {
        refresh: Duration::from_millis(20),
        fresh: Duration::from_millis(1000),
        lease_max: Duration::from_millis(300),
        sample: 1,
        ..MigrationConfig::default()
    };
    let store = MigratingStore::open(old.clone(), new.clone(), config);
    let store = store.await.unwrap();
    tells_values(&store).await;
    let mut watch = store.watch(b"").await.unwrap();
    old.set("k", "v", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
    let pace = MigrationPace {
        hold: Duration::from_millis(300),
        ..MigrationPace::default()
    };
    let report = store.migrate(Phase::WriteNew, &pace, &mut |_| {}).await;
    assert_eq!(report.unwrap().state.phase, Phase::WriteNew);
    lost(&mut watch).await;
    back(&mut watch).await;
    // What the other store holds is told now.
    new.set("of new", "v", None).await.unwrap();
    until_told(&mut watch, "of new", Change::Set).await;
    tells_values(&store).await;
    let report = store.roll_back("a test", &pace, &mut |_| {}).await;
    assert_eq!(report.unwrap().state.phase, Phase::RolledBack);
    lost(&mut watch).await;
    back(&mut watch).await;
    old.set("of old", "v", None).await.unwrap();
    until_told(&mut watch, "of old", Change::Set).await;
    store.leave().await;
    let end = async { while watch.next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, end).await.unwrap();
    assert!(!watch.is_live());
}

#[tokio::test]
async fn a_migration_that_is_not_seen_is_lost() {
    let server = start(Flavor::Redis);
    let config = MigrationConfig {
        refresh: Duration::from_millis(20),
        fresh: Duration::from_millis(1000),
        ..MigrationConfig::default()
    };
    let new = MemoryStore::new();
    let store = MigratingStore::open(server.store("old"), new.clone(), config);
    let store = store.await.unwrap();
    let pace = MigrationPace {
        hold: Duration::from_millis(300),
        ..MigrationPace::default()
    };
    let report = store.migrate(Phase::ReadNew, &pace, &mut |_| {}).await;
    assert_eq!(report.unwrap().state.phase, Phase::ReadNew);
    let mut watch = store.watch(b"k").await.unwrap();
    // How far it is stands in the store that hangs.
    server.signal("STOP");
    assert_eq!(next(&mut watch).await, Event::Lost);
    assert!(!watch.is_live());
    server.signal("CONT");
    back(&mut watch).await;
    store.set("k", "v", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
}
