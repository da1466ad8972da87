//! Several servers with one store: a Redis between two servers in this process.

#![cfg(test)]

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use rustci_pipeline::Executor;
use rustci_runner::{RunnerConfig, Stop};
use rustci_server::{Server, ServerConfig};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;
use valkyrie::{Endpoint, Shard};
use valkyrie_store::{
    BreakerConfig, HybridConfig, HybridStore, MemoryStore, RedisConfig, RedisStore, Store,
};

const PIPELINE: &str = "\
version: 1
name: ci
on: { manual: {} }
jobs:
  a: { runs-on: [nowhere=yes], steps: [{ run: x }] }
";

/// A Redis that ends with the test.
struct Redis {
    child: Option<Child>,
    port: u16,
}

impl Redis {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut redis = Self { child: None, port };
        redis.again();
        redis
    }

    /// Starts it where it was; it knows nothing any more.
    fn again(&mut self) {
        let child = Command::new("redis-server")
            .args(["--save", "", "--bind", "127.0.0.1", "--port"])
            .arg(self.port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("redis-server: {error}; install: apt-get install redis-server")
        });
        self.child = Some(child);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "no redis-server");
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn ask(&self, args: &[&str]) -> String {
        let port = self.port.to_string();
        let mut client = Command::new("redis-cli");
        let output = client.args(["-p", &port]).args(args).output();
        let output = output.expect("apt-get install redis-tools");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A chain as `rustci serve --store` makes it.
    fn chain(&self) -> HybridStore {
        let redis = RedisStore::new(&RedisConfig {
            name: "redis-1".to_owned(),
            url: format!("redis://127.0.0.1:{}", self.port),
            ..RedisConfig::default()
        });
        let breaker = BreakerConfig {
            open_for: Duration::from_millis(10),
            ..BreakerConfig::default()
        };
        let config = HybridConfig {
            breaker,
            ..HybridConfig::default()
        };
        let stores: [Store; 2] = [redis.unwrap().into(), MemoryStore::new().into()];
        HybridStore::of(stores, config).unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

fn start(dir: &Path, store: Option<HybridStore>, runners: Option<Endpoint>) -> Server {
    let config = ServerConfig {
        valkyrie: runners.into_iter().collect(),
        store,
        ..ServerConfig::new(dir.join("data"))
    };
    Server::start(config).unwrap()
}

async fn call(server: &Server, method: &str, path: &str, key: &str, body: &Value) -> Answer {
    let token = format!("Bearer {}", server.token().expose());
    let mut request = Request::builder().method(method).uri(path);
    request = request.header("authorization", token);
    if !key.is_empty() {
        request = request.header("idempotency-key", key);
    }
    let body = match method {
        "GET" => Body::empty(),
        _ => {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        }
    };
    let response = server.router().oneshot(request.body(body).unwrap()).await;
    let (parts, body) = response.unwrap().into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }
}

async fn get(server: &Server, path: &str) -> Value {
    let answer = call(server, "GET", path, "", &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

async fn run(server: &Server, key: &str) -> Answer {
    let run =
        json!({ "project": "demo", "pipeline": { "file": ".rustci.yaml", "text": PIPELINE } });
    call(server, "POST", "/api/v1/runs", key, &run).await
}

async fn runs(server: &Server) -> usize {
    let list = get(server, "/api/v1/runs").await;
    list["runs"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_key_begins_one_run_among_servers_that_share_a_store() {
    let redis = Redis::start();
    let [a_dir, b_dir] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let a = start(a_dir.path(), Some(redis.chain()), None);
    let b = start(b_dir.path(), Some(redis.chain()), None);
    let first = run(&a, "k1").await;
    assert_eq!(first.status, 201, "{}", first.body);
    let refused = run(&b, "k1").await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.body["code"], "idempotency_elsewhere");
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("the key \"k1\" was first used at server "),
        "{detail}"
    );
    assert_eq!((runs(&a).await, runs(&b).await), (1, 0));
    // The same request again, and every other request that has a key.
    let again = run(&a, "k1").await;
    assert_eq!(
        (again.status, &again.body["run"]["id"]),
        (201, &first.body["run"]["id"])
    );
    assert_eq!(run(&b, "k2").await.status, 201);
    let cancelled = call(&a, "POST", "/api/v1/runs/1/cancel", "", &json!({})).await;
    assert_eq!(cancelled.status, 202, "{}", cancelled.body);
    while get(&a, "/api/v1/runs/1").await["status"] != "finished" {
        tokio::task::yield_now().await;
    }
    let rerun = call(&a, "POST", "/api/v1/runs/1/rerun", "k2", &json!({})).await;
    assert_eq!(
        rerun.body["code"], "idempotency_elsewhere",
        "{}",
        rerun.body
    );
    assert_eq!(run(&b, "").await.status, 201);
    // As long as the engine knows it, under a name that does not show it.
    let keys = redis.ask(&["--scan", "--pattern", "rustci:idempotency:*"]);
    assert_eq!(keys.lines().count(), 2, "{keys}");
    assert!(!keys.contains("k1"));
    let life: u64 = redis
        .ask(&["ttl", keys.lines().next().unwrap()])
        .parse()
        .unwrap();
    assert!((86_000..=86_400).contains(&life), "{life}");
    // A server is the same one after a restart.
    drop(a);
    let a = start(a_dir.path(), Some(redis.chain()), None);
    let again = run(&a, "k1").await;
    assert_eq!(
        (again.status, &again.body["run"]["id"]),
        (201, &first.body["run"]["id"])
    );
    assert_eq!(run(&b, "k1").await.status, 409);
}

#[tokio::test]
async fn of_servers_that_get_a_key_at_once_one_has_it() {
    let redis = Redis::start();
    let dirs = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let servers = dirs
        .each_ref()
        .map(|dir| start(dir.path(), Some(redis.chain()), None));
    let [a, b] = &servers;
    for key in 0..20 {
        let key = format!("key-{key}");
        let (one, two, three, four) =
            tokio::join!(run(a, &key), run(b, &key), run(a, &key), run(b, &key));
        let mut by_server = [(one.status, three.status), (two.status, four.status)];
        by_server.sort_unstable();
        assert_eq!(by_server, [(201, 201), (409, 409)], "{key}");
    }
    let all = get(a, "/api/v1/runs?limit=200").await["runs"]
        .as_array()
        .unwrap()
        .len()
        + get(b, "/api/v1/runs?limit=200").await["runs"]
            .as_array()
            .unwrap()
            .len();
    assert_eq!(all, 20);
}

#[tokio::test]
async fn without_its_store_a_server_refuses_keys_and_nothing_else() {
    let mut redis = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), Some(redis.chain()), None);
    assert_eq!(run(&server, "k1").await.status, 201);
    redis.stop();
    // Both while it is asked and while it is left alone.
    for _ in 0..8 {
        let refused = run(&server, "k2").await;
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert_eq!(refused.body["code"], "store_unavailable");
        assert_eq!(refused.headers["retry-after"], "1");
        assert_eq!(run(&server, "").await.status, 201);
        assert_eq!(get(&server, "/readyz").await["status"], "ready");
    }
    let elsewhere = "/api/v1/runners?elsewhere=true";
    let refused = call(&server, "GET", elsewhere, "", &Value::Null).await;
    assert_eq!(refused.body["code"], "store_unavailable");
    get(&server, "/api/v1/runners").await;
    assert_eq!(runs(&server).await, 9);
    redis.again();
    let began = Instant::now();
    while run(&server, "k3").await.status != 201 {
        assert!(began.elapsed() < Duration::from_secs(60), "not trusted");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn servers_without_a_shared_store_have_their_own_keys() {
    let dirs = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let memory = HybridStore::of([MemoryStore::new().into()], HybridConfig::default()).unwrap();
    for (dir, store) in dirs.iter().zip([None, Some(memory)]) {
        let server = start(dir.path(), store, None);
        assert_eq!(run(&server, "k1").await.status, 201);
        assert_eq!(run(&server, "k1").await.status, 201);
        assert_eq!(runs(&server).await, 1);
        let list = get(&server, "/api/v1/runners?elsewhere=true").await;
        assert_eq!(list["elsewhere"], json!([]));
        assert!(
            get(&server, "/api/v1/runners")
                .await
                .get("elsewhere")
                .is_none()
        );
    }
}

#[tokio::test]
async fn runners_of_a_server_are_seen_at_the_others_until_they_leave() {
    let redis = Redis::start();
    let [a_dir, b_dir, runner_dir] = [0, 1, 2].map(|_| tempfile::tempdir().unwrap());
    let endpoint = Endpoint::Mem {
        name: "presence".to_owned(),
    };
    let a = start(a_dir.path(), Some(redis.chain()), Some(endpoint.clone()));
    let b = start(b_dir.path(), Some(redis.chain()), None);
    let config = RunnerConfig {
        executors: vec![Executor::Dummy],
        ..RunnerConfig::new("builder", endpoint, runner_dir.path().to_owned())
    };
    let (stop, stopped) = watch::channel(Stop::No);
    let runner = Shard::spawn("runner", move || rustci_runner::run(config, stopped)).unwrap();
    let seen = until_seen(&b, 1).await;
    assert_eq!(seen[0]["name"], "builder");
    let server = seen[0]["server"].as_str().unwrap();
    assert!(server.starts_with("server "), "{server}");
    // It is its server's own, and that of the others is nobody.
    assert_eq!(until_seen(&a, 0).await, json!([]));
    let key = redis.ask(&["--scan", "--pattern", "rustci:runner:*"]);
    assert!(key.ends_with(":builder"), "{key}");
    let life: u64 = redis.ask(&["pttl", &key]).parse().unwrap();
    assert!((1..=15_000).contains(&life), "{life}");
    // Others may write what they like.
    redis.ask(&["set", "rustci:runner:other:thing", "{"]);
    redis.ask(&["set", "rustci:runner:other", ""]);
    assert_eq!(until_seen(&b, 1).await[0]["name"], "builder");

    stop.send_replace(Stop::Drain);
    runner.join().unwrap().unwrap();
    until_seen(&b, 0).await;
    assert_eq!(redis.ask(&["exists", &key]), "0");
}

#[tokio::test]
async fn a_server_that_ends_takes_its_runners_back() {
    let redis = Redis::start();
    let [dir, runner_dir] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let endpoint = Endpoint::Mem {
        name: "farewell".to_owned(),
    };
    let server = start(dir.path(), Some(redis.chain()), Some(endpoint.clone()));
    let config = RunnerConfig {
        executors: vec![Executor::Dummy],
        ..RunnerConfig::new("builder", endpoint, runner_dir.path().to_owned())
    };
    let (stop, stopped) = watch::channel(Stop::No);
    let runner = Shard::spawn("runner", move || rustci_runner::run(config, stopped)).unwrap();
    let began = Instant::now();
    while redis.ask(&["dbsize"]) != "1" {
        assert!(began.elapsed() < Duration::from_secs(60), "not told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(server);
    assert_eq!(redis.ask(&["dbsize"]), "0");
    stop.send_replace(Stop::Now);
    let _ = runner.join();
}

/// The runners of other servers, when there are so many.
async fn until_seen(server: &Server, count: usize) -> Value {
    let began = Instant::now();
    loop {
        let list = get(server, "/api/v1/runners?elsewhere=true").await;
        let seen = &list["elsewhere"];
        if seen.as_array().unwrap().len() == count {
            return seen.clone();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{list}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
