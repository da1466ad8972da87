//! Yggdrasil over Valkyrie.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use valkyrie_store::credentials::{self, Environment, SecretSource};
use valkyrie_store::{
    Applied, Change, Condition, Event, HybridStore, Increment, Leased, Lifetime, Limit,
    MigratingStore, MigrationConfig, RedisConfig, RedisStore, SecretString, Store, StoreAdapter,
    StoreConfig, StoreError, Together, TokenRequest, Transaction, ValkyrieConfig, ValkyrieStore,
};
use yggdrasil_service::{Secret, Server, ServerConfig, SourceLimit, StartError, ValkyrieListen};

use crate::conformance::conform;
use crate::watch::{back, command, ensure_slow_watcher_loses, eventually, next, tells, until};

const LONG: Duration = Duration::from_secs(1000);

/// A server with a Unix socket, shared memory and TCP, and TCP for clients of Redis.
struct Over {
    server: Option<Server>,
    dir: TempDir,
}

fn listen(url: &str) -> ValkyrieListen {
    ValkyrieListen {
        endpoint: url.parse().unwrap(),
        idle: valkyrie::Idle::Park,
    }
}

fn start(dir: &Path, config: ServerConfig) -> Server {
    let dir = dir.display();
    Server::start(ServerConfig {
        listen: vec![([127, 0, 0, 1], 0).into()],
        valkyrie: vec![
            listen(&format!("valkyrie+unix://{dir}/unix")),
            listen(&format!("valkyrie+shm://{dir}/shm")),
            listen("valkyrie+tcp://127.0.0.1:0"),
        ],
        buckets: 10_000,
        threads: 1,
        ..config
    })
    .unwrap()
}

impl Over {
    fn start(config: ServerConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            server: Some(start(dir.path(), config)),
            dir,
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn stop(&mut self) {
        self.server.take().unwrap().stop();
    }

    fn again(&mut self, config: ServerConfig) {
        self.server = Some(start(self.dir.path(), config));
    }

    /// Unix, shared memory, TCP.
    fn config(&self, number: usize) -> ValkyrieConfig {
        let endpoint = self.server().endpoints().nth(number).unwrap();
        ValkyrieConfig {
            url: endpoint.to_string(),
            // Debug builds on busy machines are slow.
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            ..ValkyrieConfig::default()
        }
    }

    fn store(&self, number: usize) -> ValkyrieStore {
        ValkyrieStore::new(&self.config(number)).unwrap()
    }

    fn redis(&self) -> RedisStore {
        RedisStore::new(&RedisConfig {
            url: format!("redis://{}", self.server().addresses().first().unwrap()),
            ..RedisConfig::default()
        })
        .unwrap()
    }
}

/// A file that only its owner can read.
fn keep_to_oneself(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn hourly(burst: u32) -> Limit {
    Limit::per(1, Duration::from_secs(3600), burst).unwrap()
}

#[tokio::test]
async fn unix_conforms() {
    let over = Over::start(ServerConfig::default());
    conform(&over.store(0)).await;
}

#[tokio::test]
async fn shared_memory_conforms() {
    let over = Over::start(ServerConfig::default());
    conform(&over.store(1)).await;
}

#[tokio::test]
async fn tcp_conforms() {
    let over = Over::start(ServerConfig::default());
    conform(&over.store(2)).await;
}

#[tokio::test]
async fn several_connections_that_spin_and_a_chain_conform() {
    let over = Over::start(ServerConfig::default());
    let config = ValkyrieConfig {
        connections: 3,
        idle: valkyrie::Idle::LowLatency,
        ..over.config(1)
    };
    conform(&Store::from(ValkyrieStore::new(&config).unwrap())).await;
    let url = &over.config(0).url;
    let text = format!("store:\n  mode: yggdrasil\n  yggdrasil: {{ url: '{url}' }}\n");
    let store = HybridStore::new(StoreConfig::from_text(&text).unwrap()).await;
    assert_eq!(store.unwrap().status()[0].name, "yggdrasil");
}

#[tokio::test]
async fn all_ways_see_the_same_keys_and_buckets() {
    let over = Over::start(ServerConfig::default());
    let redis = over.redis();
    redis.set("k", "of redis", None).await.unwrap();
    for number in 0..3 {
        let store = over.store(number);
        assert_eq!(store.get("k").await.unwrap().unwrap(), b"of redis");
        store.set(format!("of {number}"), "v", None).await.unwrap();
        assert!(redis.exists(format!("of {number}")).await.unwrap());
        assert_eq!(store.increment("n", 1).await.unwrap(), number as i64 + 1);
        let decision = store.consume(b"b", &hourly(4), 1).await.unwrap();
        assert_eq!(decision.remaining, 3 - number as u32);
    }
    assert!(
        redis
            .consume(b"b", &hourly(4), 1)
            .await
            .unwrap()
            .is_allowed()
    );
    assert!(
        !redis
            .consume(b"b", &hourly(4), 1)
            .await
            .unwrap()
            .is_allowed()
    );
    let Leased::Held { .. } = redis.lease(b"l", b"a", LONG).await.unwrap() else {
        panic!("not given");
    };
    let taken = over.store(1).lease(b"l", b"b", LONG).await.unwrap();
    assert!(matches!(taken, Leased::Taken { .. }));
}

#[tokio::test]
async fn many_buckets_go_into_one_message() {
    let over = Over::start(ServerConfig::default());
    let store = over.store(1);
    let request = |key, cost| TokenRequest {
        key,
        limit: hourly(3),
        cost,
    };
    let requests = [request(b"a", 2), request(b"b", 3), request(b"a", 2)];
    let decisions = store.consume_many(&requests, Together::Each).await.unwrap();
    let seen: Vec<_> = decisions
        .iter()
        .map(|it| (it.is_allowed(), it.remaining))
        .collect();
    assert_eq!(seen, [(true, 1), (true, 0), (false, 1)]);
}

#[tokio::test]
async fn what_is_too_long_or_senseless_is_rejected_and_nothing_else() {
    let over = Over::start(ServerConfig::default());
    let always = Condition::Always;
    for number in 0..3 {
        let store = over.store(number);
        let longest = vec![1; 1 << 20];
        store.set("v", &longest, None).await.unwrap();
        assert_eq!(store.get("v").await.unwrap().unwrap(), longest);
        // One byte more than the server keeps, and more than it lets a message have.
        for length in [(1 << 20) + 1, 4 << 20] {
            let long = vec![1; length];
            let refused = store.write(b"v", &long, Lifetime::Unlimited, always).await;
            let refused = refused.unwrap_err();
            assert!(
                matches!(refused, StoreError::Rejected { .. }),
                "{refused:?}"
            );
        }
        let long = vec![1; (64 << 10) + 1];
        let refused = store.write(&long, b"", Lifetime::Unlimited, always).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, StoreError::Rejected { .. }),
            "{refused:?}"
        );
        let nothing = Increment {
            bounds: Some((5, -5)),
            ..Increment::by(1)
        };
        let refused = store.add(b"n", &nothing).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Rejected { .. }),
            "{refused:?}"
        );
        // The connection goes on.
        assert_eq!(store.get("v").await.unwrap().unwrap(), longest);
        store.delete("v").await.unwrap();
    }
}

#[tokio::test]
async fn password_comes_first() {
    let config = ServerConfig {
        password: Some(Secret::new(b"right")),
        ..ServerConfig::default()
    };
    let over = Over::start(config);
    for number in 0..3 {
        for (user, password) in [
            (None, None),
            (None, Some("wrong")),
            (Some("other"), Some("right")),
        ] {
            let store = ValkyrieStore::new(&ValkyrieConfig {
                username: user.map(str::to_owned),
                password: password.map(SecretString::from),
                ..over.config(number)
            });
            let store = store.unwrap();
            for _ in 0..2 {
                let refused = store.increment("k", 1).await.unwrap_err();
                assert!(refused.is_not_applied(), "{refused:?}");
                assert!(refused.to_string().contains("password"), "{refused}");
            }
            let refused = store.try_consume("b", 1).await.unwrap_err();
            assert!(refused.is_not_applied(), "{refused:?}");
            assert!(store.ping().await.is_err());
        }
        for user in [None, Some("default")] {
            let config = ValkyrieConfig {
                username: user.map(str::to_owned),
                password: Some("right".into()),
                ..over.config(number)
            };
            assert!(!format!("{config:?}").contains("right"));
            let store = ValkyrieStore::new(&config).unwrap();
            assert!(store.increment("k", 1).await.unwrap() <= 6);
        }
    }
}

#[tokio::test]
async fn users_may_do_what_their_rules_say_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    let rules = "user ann on >secret ~a:* +get +set +del +ygg.consume +scan\n";
    keep_to_oneself(&users, rules);
    let over = Over::start(ServerConfig {
        users: Some(users),
        ..ServerConfig::default()
    });
    let store = ValkyrieStore::new(&ValkyrieConfig {
        username: Some("ann".to_owned()),
        password: Some("secret".into()),
        ..over.config(0)
    });
    let store = store.unwrap();
    store.set("a:k", "v", None).await.unwrap();
    assert!(
        store
            .consume(b"a:b", &hourly(1), 1)
            .await
            .unwrap()
            .is_allowed()
    );
    assert_eq!(store.scan(b"", None).await.unwrap().keys.len(), 1);
    let equals = Condition::Equals(b"v");
    let request = |key| TokenRequest {
        key,
        limit: hourly(1),
        cost: 1,
    };
    let both = [request(b"a:b"), request(b"b:b")];
    let refused = [
        store.set("b:k", "v", None).await.err(),
        store.get("b:k").await.err(),
        store.remove(b"a:k", equals).await.err(),
        store.consume_many(&both, Together::Each).await.err(),
        store.read_many(&[b"a:k", b"b:k"]).await.err(),
        store
            .transact(&Transaction::new().remove(b"a:k"))
            .await
            .err(),
        store.lease(b"a:l", b"me", LONG).await.err(),
        store.increment("a:n", 1).await.err(),
    ];
    for refused in refused {
        let refused = refused.expect("it is not allowed");
        assert!(
            matches!(refused, StoreError::Rejected { .. }),
            "{refused:?}"
        );
        assert!(refused.to_string().contains("ann may not"), "{refused}");
    }
    let url = format!("redis://{}", over.server().addresses().first().unwrap());
    let admin = redis::Client::open(url).unwrap();
    let mut admin = admin.get_multiplexed_async_connection().await.unwrap();
    let mut acl = async |words: &[&str]| -> String {
        let done = redis::cmd("ACL").arg(words).query_async(&mut admin).await;
        redis::from_redis_value::<redis::Value>(done.unwrap())
            .map(|value| format!("{value:?}"))
            .unwrap()
    };
    assert!(acl(&["LOG"]).await.contains("lib-name=valkyrie"));
    acl(&["SETUSER", "ann", "+ygg.lease"]).await;
    store.lease(b"a:l", b"me", LONG).await.unwrap();
    acl(&["DELUSER", "ann"]).await;
    for _ in 0..3 {
        let refused = store.get("a:k").await.unwrap_err();
        assert!(refused.is_not_applied(), "{refused:?}");
    }
}

#[tokio::test]
async fn password_is_read_again_when_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let write = |password: &str| keep_to_oneself(&file, password);
    let guarded = |password: &str| ServerConfig {
        password: Some(Secret::new(password.as_bytes())),
        ..ServerConfig::default()
    };
    let mut over = Over::start(guarded("one"));
    write("one");
    let source = SecretSource::File(file.clone());
    let store = ValkyrieStore::new(&ValkyrieConfig {
        password_from: Some(credentials::Secret::new(source, Environment::process())),
        ..over.config(1)
    });
    let store = store.unwrap();
    store.ping().await.unwrap();
    over.stop();
    over.again(guarded("two"));
    let refused = store.ping().await.unwrap_err();
    assert!(refused.applied().is_some(), "{refused:?}");
    write("two");
    store.ping().await.unwrap();
}

#[tokio::test]
async fn addresses_that_come_too_often_are_not_served() {
    let over = Over::start(ServerConfig {
        sources: SourceLimit::Here {
            limit: Some(hourly(3)),
            bans: Vec::new(),
        },
        ..ServerConfig::default()
    });
    let store = over.store(2);
    // The connection and two calls; what is refused ends it, and the next one is not let in.
    assert_eq!(store.increment("n", 1).await.unwrap(), 1);
    assert_eq!(store.increment("n", 1).await.unwrap(), 2);
    for _ in 0..3 {
        let refused = store.increment("n", 1).await.unwrap_err();
        assert!(refused.is_not_applied(), "{refused:?}");
    }
    // Clients of this machine's sockets have no limit.
    assert_eq!(over.store(0).increment("n", 0).await.unwrap(), 2);
    assert_eq!(over.store(1).increment("n", 0).await.unwrap(), 2);
}

#[test]
fn server_does_not_start_in_the_open_or_where_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let start = |url: &str| {
        Server::start(ServerConfig {
            listen: Vec::new(),
            valkyrie: vec![listen("valkyrie+tcp://127.0.0.1:0"), listen(url)],
            password: Some(Secret::new(b"p")),
            ..ServerConfig::default()
        })
    };
    let nowhere = format!("valkyrie+unix://{}/none/socket", dir.path().display());
    for url in [
        "valkyrie+tcp://0.0.0.0:0",
        "valkyrie+tcp://[::]:0",
        &nowhere,
    ] {
        let refused = start(url);
        assert!(
            matches!(refused, Err(StartError::Valkyrie(_))),
            "{refused:?}"
        );
    }
    let server = start(&nowhere.replace("none/", "")).unwrap();
    assert_eq!(server.endpoints().count(), 2);
}

#[tokio::test]
async fn server_that_comes_back_is_found_again() {
    let mut over = Over::start(ServerConfig::default());
    for number in 0..2 {
        let store = over.store(number);
        store.set("k", "v", None).await.unwrap();
        over.stop();
        // Whatever the first call after the end meets, later ones are certain.
        let _ = store.increment("n", 1).await;
        let gone = store.increment("n", 1).await.unwrap_err();
        assert_eq!(gone.applied(), Some(Applied::No), "{gone}");
        over.again(ServerConfig::default());
        assert_eq!(store.increment("n", 1).await.unwrap(), 1);
        // Not one call is lost where nobody called meanwhile.
        over.stop();
        over.again(ServerConfig::default());
        while store.increment("n", 0).await.is_err() {}
        assert_eq!(store.increment("n", 1).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn keys_are_there_after_a_restart() {
    let kept = tempfile::tempdir().unwrap();
    let config = || ServerConfig {
        persist: Some(yggdrasil_service::PersistConfig {
            sync: yggdrasil_service::Sync::Always,
            ..yggdrasil_service::PersistConfig::new(kept.path().to_owned())
        }),
        ..ServerConfig::default()
    };
    let mut over = Over::start(config());
    let store = over.store(0);
    let sets = (0..100).map(|number| store.set(format!("k{number}"), "v", None));
    for set in futures_util::future::join_all(sets).await {
        set.unwrap();
    }
    assert_eq!(store.increment("n", 7).await.unwrap(), 7);
    let Leased::Held { fence } = store.lease(b"l", b"a", LONG).await.unwrap() else {
        panic!("not given");
    };
    over.stop();
    over.again(config());
    let store = over.store(1);
    for number in 0..100 {
        assert!(
            store.exists(format!("k{number}")).await.unwrap(),
            "{number}"
        );
    }
    assert_eq!(store.increment("n", 1).await.unwrap(), 8);
    assert!(store.renew(b"l", fence, LONG).await.unwrap());
}

#[tokio::test]
async fn nobody_there_is_certain_and_settings_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let config = |url: String| ValkyrieConfig {
        url,
        ..ValkyrieConfig::default()
    };
    for transport in ["unix", "shm"] {
        let url = format!("valkyrie+{transport}://{}/none", dir.path().display());
        let store = ValkyrieStore::new(&config(url)).unwrap();
        let gone = store.ping().await.unwrap_err();
        assert_eq!(gone.applied(), Some(Applied::No), "{gone}");
    }
    for url in [
        "redis://localhost:1",
        "valkyrie+unix://relative",
        "valkyrie+tcp://nowhere",
    ] {
        let wrong = ValkyrieStore::new(&config(url.to_owned())).unwrap_err();
        assert!(matches!(wrong, StoreError::Config(_)), "{wrong:?}");
    }
    let clustered = Store::open(&RedisConfig {
        url: "valkyrie+unix:///run/yggdrasil.sock".to_owned(),
        topology: valkyrie_store::Topology::Cluster,
        ..RedisConfig::default()
    });
    assert!(matches!(clustered, Err(StoreError::Config(_))));
}

#[tokio::test]
async fn a_store_over_valkyrie_can_be_moved_to() {
    let over = Over::start(ServerConfig::default());
    let old = Store::from(valkyrie_store::MemoryStore::new());
    old.set("k", "v", None).await.unwrap();
    let config = MigrationConfig::default();
    let moving = MigratingStore::new(old, over.store(1), config).unwrap();
    assert_eq!(moving.get("k").await.unwrap().unwrap(), b"v");
}

/// Calls that are told changes, as the server says.
async fn watching(over: &Over) -> usize {
    let address = over.server().addresses().first().unwrap();
    let admin = RedisConfig {
        url: format!("redis://{address}"),
        ..RedisConfig::default()
    };
    let info = command(&admin, "INFO clients").await;
    let info: String = redis::from_redis_value(info).unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("watching_calls:"));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn changes_are_told_on_all_ways() {
    let dir = tempfile::tempdir().unwrap();
    let over = Over::start(ServerConfig {
        persist: Some(yggdrasil_service::PersistConfig::new(
            dir.path().join("data"),
        )),
        ..ServerConfig::default()
    });
    for number in 0..3 {
        tells(&over.store(number)).await;
    }
    ensure_slow_watcher_loses(&over.store(0)).await;
    // Those of others, too.
    let mut watch = over.store(1).watch(b"k").await.unwrap();
    over.redis().set("k", "v", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
}

#[tokio::test]
async fn a_watch_that_is_dropped_ends_at_the_server() {
    let over = Over::start(ServerConfig::default());
    let store = over.store(0);
    let watches = [store.watch(b"a").await, store.watch(b"b").await].map(Result::unwrap);
    assert_eq!(watching(&over).await, 2);
    drop(watches);
    eventually("it has not ended", async || watching(&over).await == 0).await;
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_that_starts_again_is_lost_and_told_on() {
    let mut over = Over::start(ServerConfig::default());
    let store = over.store(0);
    let mut watch = store.watch(b"k").await.unwrap();
    over.stop();
    assert_eq!(next(&mut watch).await, Event::Lost);
    assert!(!watch.is_live());
    over.again(ServerConfig::default());
    back(&mut watch).await;
    store.set("k", "w", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
}

#[tokio::test]
async fn a_user_that_may_not_watch_any_more_is_told_nothing() {
    let over = Over::start(ServerConfig::default());
    let address = over.server().addresses().first().unwrap();
    let admin = RedisConfig {
        url: format!("redis://{address}"),
        ..RedisConfig::default()
    };
    command(&admin, "ACL SETUSER app on >secret ~k* +@all").await;
    let store = ValkyrieStore::new(&ValkyrieConfig {
        username: Some("app".to_owned()),
        password: Some("secret".into()),
        ..over.config(0)
    });
    let store = store.unwrap();
    let refused = store.watch(b"other").await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Rejected { .. }),
        "{refused:?}"
    );
    let mut watch = store.watch(b"k").await.unwrap();
    store.set("k", "v", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
    command(&admin, "ACL SETUSER app resetkeys ~other").await;
    over.redis().set("k", "w", None).await.unwrap();
    assert_eq!(next(&mut watch).await, Event::Lost);
    assert!(!watch.is_live());
    command(&admin, "ACL SETUSER app ~k*").await;
    back(&mut watch).await;
    over.redis().set("k", "w", None).await.unwrap();
    until(&mut watch, "k", Change::Set).await;
}
