//! Other passwords while operations go on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use valkyrie_store::credentials::{Environment, Secret, SecretSource};
use valkyrie_store::{
    Flavor, HybridConfig, HybridStore, MemoryStore, RedisConfig, RedisStore, StoreAdapter,
    StoreError,
};

use crate::server::{Server, free_port};

const WRITERS: usize = 8;

/// Says commands to a server as its administrator.
struct Admin(redis::Connection);

impl Admin {
    fn new(server: &Server, username: &str, password: &str) -> Self {
        let url = format!("redis://{username}:{password}@127.0.0.1:{}", server.port);
        Self(redis::Client::open(url).unwrap().get_connection().unwrap())
    }

    fn does(&mut self, words: &str) {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.exec(&mut self.0).unwrap();
    }
}

/// Tasks that count on until they are told to stop, and stop at no error.
struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<(i64, Vec<StoreError>)>>,
}

impl Writers {
    fn start(store: &RedisStore) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let task = |number: usize| {
            let (store, stop, done) = (store.clone(), Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let (key, mut counted, mut errors) = (format!("n{number}"), 0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match store.increment(&key, 1).await {
                        Ok(_) => counted += 1,
                        Err(error) => errors.push(error),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                (counted, errors)
            })
        };
        let tasks = (0..WRITERS).map(task).collect();
        Self { stop, done, tasks }
    }

    /// Waits until so many operations more are done.
    async fn go_on(&self, more: u64) {
        let until = self.done.load(Ordering::Relaxed) + more;
        while self.done.load(Ordering::Relaxed) < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Nothing failed, and what was counted is there.
    async fn ensure_nothing_lost(self, store: &RedisStore) {
        self.stop.store(true, Ordering::Relaxed);
        for (number, task) in self.tasks.into_iter().enumerate() {
            let (counted, errors) = task.await.unwrap();
            assert!(errors.is_empty(), "{number}: {errors:?}");
            let stored = store.increment(format!("n{number}"), 0).await.unwrap();
            assert_eq!(stored, counted);
        }
    }
}

fn patient(server: &Server) -> RedisConfig {
    RedisConfig {
        connections: 3,
        timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
        ..server.config("store")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_change_without_a_failed_operation() {
    for flavor in [Flavor::Redis, Flavor::Valkey] {
        let server = Server::start_at(flavor, free_port(), &["--requirepass", "first"]);
        let store = RedisStore::new(&RedisConfig {
            password: Some("first".into()),
            ..patient(&server)
        });
        let store = store.unwrap();
        let mut admin = Admin::new(&server, "default", "first");
        let writers = Writers::start(&store);
        writers.go_on(500).await;
        for password in ["second", "third"] {
            admin.does(&format!("CONFIG SET requirepass {password}"));
            store.set_credentials(None, password.into()).await.unwrap();
            writers.go_on(500).await;
        }
        writers.ensure_nothing_lost(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_user_can_be_removed_when_the_change_is_over() {
    for flavor in [Flavor::Redis, Flavor::Valkey] {
        let server = Server::start_at(flavor, free_port(), &[]);
        let mut admin = Admin::new(&server, "", "");
        admin.does("ACL SETUSER app1 on >first ~* &* +@all");
        let store = RedisStore::new(&RedisConfig {
            username: Some("app1".to_owned()),
            password: Some("first".into()),
            ..patient(&server)
        });
        let store = store.unwrap();
        let writers = Writers::start(&store);
        writers.go_on(500).await;
        // Another password of the same user, then another user. Who is removed loses all connections.
        admin.does("ACL SETUSER app1 >second");
        store
            .set_credentials(Some("app1"), "second".into())
            .await
            .unwrap();
        admin.does("ACL SETUSER app1 <first");
        writers.go_on(500).await;
        admin.does("ACL SETUSER app2 on >third ~* &* +@all");
        store
            .set_credentials(Some("app2"), "third".into())
            .await
            .unwrap();
        admin.does("ACL DELUSER app1");
        writers.go_on(500).await;
        writers.ensure_nothing_lost(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_change_nothing() {
    let server = Server::start_at(Flavor::Redis, free_port(), &["--requirepass", "right"]);
    let store = RedisStore::new(&RedisConfig {
        password: Some("right".into()),
        ..patient(&server)
    });
    let store = store.unwrap();
    let writers = Writers::start(&store);
    writers.go_on(200).await;
    for (username, password) in [(None, "canary"), (Some("nobody"), "right")] {
        let error = store.set_credentials(username, password.into()).await;
        let error = error.unwrap_err();
        assert!(error.is_not_applied(), "{error}");
        assert!(
            error.to_string().contains("refuses the connection"),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        writers.go_on(200).await;
    }
    writers.ensure_nothing_lost(&store).await;
}

fn write(path: &Path, password: &str) {
    fs::write(path, format!("{password}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn of_file(server: &Server, path: &Path, connections: usize) -> RedisStore {
    let source = SecretSource::File(path.to_owned());
    let config = RedisConfig {
        password_from: Some(Secret::new(source, Environment::process())),
        connections,
        ..patient(server)
    };
    RedisStore::new(&config).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_read_again_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    write(&path, "first");
    let server = Server::start_at(Flavor::Valkey, free_port(), &["--requirepass", "first"]);
    let mut admin = Admin::new(&server, "default", "first");
    let store = of_file(&server, &path, 3);
    let chain = [store.clone().into(), MemoryStore::new().into()];
    let chain = HybridStore::of(chain, HybridConfig::default()).unwrap();
    let writers = Writers::start(&store);
    assert!(chain.reload_credentials().await.unwrap().is_empty());
    admin.does("CONFIG SET requirepass second");
    write(&path, "second");
    assert_eq!(chain.reload_credentials().await.unwrap(), ["store"]);
    // One that the server does not know is not used.
    write(&path, "canary");
    let error = chain.reload_credentials().await.unwrap_err();
    assert!(error.is_not_applied(), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
    // Nor one that others can read.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = chain.reload_credentials().await.unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    admin.does("CONFIG SET requirepass third");
    chain.rotate("store", None, "third".into()).await.unwrap();
    for unknown in ["other", "memory"] {
        let error = chain.rotate(unknown, None, "x".into()).await.unwrap_err();
        assert!(error.to_string().contains(unknown), "{error}");
    }
    writers.go_on(100).await;
    writers.ensure_nothing_lost(&store).await;
}

#[tokio::test]
async fn refused_password_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    write(&path, "first");
    let server = Server::start_at(Flavor::Redis, free_port(), &["--requirepass", "first"]);
    let mut admin = Admin::new(&server, "default", "first");
    let store = of_file(&server, &path, 1);
    store.set("k", "v", None).await.unwrap();
    admin.does("CONFIG SET requirepass second");
    admin.does("CLIENT KILL TYPE normal SKIPME yes");
    // What is known is wrong, and the file says nothing new.
    loop {
        let error = store.get("k").await.unwrap_err();
        if error.to_string().contains("refuses the connection") {
            assert!(error.is_not_applied(), "{error}");
            break;
        }
    }
    write(&path, "second");
    assert_eq!(store.get("k").await.unwrap().as_deref(), Some(&b"v"[..]));
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What libraries log that know no spans.
impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}\n", record.target(), record.args());
        self.0.lock().unwrap().extend_from_slice(line.as_bytes());
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn passwords_are_neither_shown_nor_logged() {
    let log = Log::default();
    let writer = log.clone();
    // There is one for all tests, and what theirs log has no canary either.
    log::set_boxed_logger(Box::new(log.clone())).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    write(&path, "canary-1");
    let server = Server::start_at(Flavor::Redis, free_port(), &["--requirepass", "canary-1"]);
    let mut admin = Admin::new(&server, "default", "canary-1");
    let source = SecretSource::File(path.clone());
    let config = RedisConfig {
        password: Some("canary-0".into()),
        password_from: Some(Secret::new(source, Environment::process())),
        connections: 1,
        ..patient(&server)
    };
    let store = RedisStore::new(&config).unwrap();
    let chain = HybridStore::of([store.clone().into()], HybridConfig::default()).unwrap();
    let mut said = vec![format!("{config:?} {store:?} {chain:?}")];
    // The one in the file is right.
    chain.set("k", "v", None).await.unwrap();
    write(&path, "canary-2");
    let refused = chain.reload_credentials().await.unwrap_err();
    said.push(format!("{refused} {refused:?}"));
    admin.does("CONFIG SET requirepass canary-2");
    chain.reload_credentials().await.unwrap();
    admin.does("CONFIG SET requirepass canary-3");
    admin.does("CLIENT KILL TYPE normal SKIPME yes");
    for _ in 0..3 {
        let refused = chain.get("k").await.unwrap_err();
        said.push(format!("{refused} {refused:?}"));
    }
    fs::write(&path, [0xFF]).unwrap();
    said.push(format!("{:?}", chain.get("k").await.unwrap_err()));
    said.push(format!("{chain:?} {:?}", chain.status()));
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("password cannot be read again"), "{log}");
    said.push(log);
    for text in said {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_get_another_password_themselves() {
    let server = Server::start_at(Flavor::Valkey, free_port(), &["--requirepass", "canary-0"]);
    let mut admin = Admin::new(&server, "default", "canary-0");
    admin.does("ACL SETUSER app on >canary-0 ~* &* +@all");
    admin.does("ACL SETUSER any on nopass ~* &* +@all");
    admin.does("ACL SETUSER weak on >canary-0 ~* &* +@all -acl");
    let store = |username: Option<&str>, password: &str| {
        let config = RedisConfig {
            username: username.map(str::to_owned),
            password: Some(password.into()),
            ..patient(&server)
        };
        RedisStore::new(&config).unwrap()
    };
    for user in [Some("app"), Some("any"), None] {
        admin.does("FLUSHALL");
        let of_user = store(user, "canary-0");
        let writers = Writers::start(&of_user);
        writers.go_on(100).await;
        of_user.change_password("canary-1".into()).await.unwrap();
        writers.go_on(100).await;
        writers.ensure_nothing_lost(&of_user).await;
        store(user, "canary-1").ping().await.unwrap();
        let old = store(user, "canary-0").ping().await.unwrap_err();
        assert!(old.is_not_applied(), "{old}");
    }
    // One that may not, and what stays as it was.
    let weak = store(Some("weak"), "canary-0");
    let error = weak.change_password("canary-1".into()).await.unwrap_err();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    weak.ping().await.unwrap();
    let none = server.store("none").change_password("x".into()).await;
    assert!(none.unwrap_err().to_string().contains("no password"));
}

#[tokio::test]
async fn password_of_yggdrasil_is_fixed() {
    let port = free_port();
    let _server = yggdrasil_service::Server::start(yggdrasil_service::ServerConfig {
        listen: vec![([127, 0, 0, 1], port).into()],
        password: Some(yggdrasil_service::Secret::new(b"first")),
        buckets: 1000,
        threads: 1,
        ..yggdrasil_service::ServerConfig::default()
    });
    let store = RedisStore::new(&RedisConfig {
        name: "own".to_owned(),
        url: format!("yggdrasil://127.0.0.1:{port}"),
        password: Some("first".into()),
        ..RedisConfig::default()
    });
    let store = store.unwrap();
    let error = store.change_password("second".into()).await.unwrap_err();
    assert!(error.to_string().contains("--password-file"), "{error}");
    store.ping().await.unwrap();
}
