//! Several servers that share keys.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::AsyncCommands;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use resp::Reply;
use yggdrasil_service::{ClusterConfig, Membership, PersistConfig, Server, ServerConfig};

use crate::peer::Peer;

const TIMEOUT: Duration = Duration::from_millis(600);

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Nodes of a cluster, by their names.
struct Nodes {
    ports: BTreeMap<String, u16>,
    servers: BTreeMap<String, Server>,
    dir: tempfile::TempDir,
}

impl Nodes {
    /// A cluster of these.
    fn start(names: &[&str]) -> Self {
        let ports = names.iter().map(|name| ((*name).to_owned(), free_port()));
        let mut nodes = Self {
            ports: ports.collect(),
            servers: BTreeMap::new(),
            dir: tempfile::tempdir().unwrap(),
        };
        let all: Vec<_> = names.iter().map(|name| (*name, 1)).collect();
        let membership = nodes.membership(1, &all);
        for name in names {
            nodes.start_one(name, &membership);
        }
        nodes.serves(names);
        nodes
    }

    fn membership(&self, epoch: u64, nodes: &[(&str, u32)]) -> Membership {
        let mut text = format!("epoch {epoch}\n");
        for (name, weight) in nodes {
            text += &format!("node {name} 127.0.0.1:{} {weight}\n", self.ports[*name]);
        }
        text.parse().unwrap()
    }

    fn start_one(&mut self, name: &str, membership: &Membership) {
        let port = *self.ports.entry(name.to_owned()).or_insert_with(free_port);
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let server = Server::start(ServerConfig {
            listen: vec![([127, 0, 0, 1], port).into()],
            buckets: 10_000,
            threads: 2,
            persist: Some(PersistConfig::new(dir.join("data"))),
            cluster: Some(ClusterConfig {
                timeout: TIMEOUT,
                file: Some(dir.join("cluster")),
                ..ClusterConfig::new(name, membership.clone())
            }),
            ..ServerConfig::default()
        });
        self.servers.insert(name.to_owned(), server.unwrap());
    }

    fn address(&self, name: &str) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[name]).into()
    }

    fn ask(&self, name: &str, args: &[&str]) -> Reply {
        Peer::connect(self.address(name)).command(args)
    }

    fn text(&self, name: &str, args: &[&str]) -> String {
        match self.ask(name, args) {
            Reply::Bulk(bytes) => String::from_utf8(bytes).unwrap(),
            other => format!("{other:?}"),
        }
    }

    /// Waits until all of these serve and nothing is on its way.
    fn serves(&self, names: &[&str]) {
        let began = Instant::now();
        for name in names {
            loop {
                let status = self.text(name, &["YGG.CLUSTER", "STATUS"]);
                if status.contains("which serves;") && status.contains("nothing is on its way") {
                    break;
                }
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "{name}: {status}"
                );
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn set(&self, by: &str, membership: &Membership) {
        let text = membership.to_string();
        let began = Instant::now();
        loop {
            match self.ask(by, &["YGG.CLUSTER", "SET", &text]) {
                Reply::Simple(_) => break,
                other => assert!(began.elapsed() < Duration::from_secs(20), "{other:?}"),
            }
            thread::sleep(Duration::from_millis(20));
        }
        // All others hear of it.
        for node in membership.nodes() {
            while self.text(&node.id, &["YGG.CLUSTER", "GET"]) != text {
                assert!(began.elapsed() < Duration::from_secs(20), "{}", node.id);
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    async fn client(&self) -> ClusterConnection {
        let urls = self.servers.keys();
        let urls = urls.map(|name| format!("redis://127.0.0.1:{}", self.ports[name]));
        let client = ClusterClient::builder(urls)
            .retries(64)
            .min_retry_wait(5)
            .max_retry_wait(50)
            .build();
        client.unwrap().get_async_connection().await.unwrap()
    }

    fn count(&self) -> i64 {
        let size = |name: &String| match self.ask(name, &["DBSIZE"]) {
            Reply::Integer(size) => size,
            other => panic!("{other:?}"),
        };
        self.servers.keys().map(size).sum()
    }
}

fn run(program: &str, args: &[&str], install: &str) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; install: {install}"));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn clients_of_clusters_find_their_keys() {
    let nodes = Nodes::start(&["a", "b", "c"]);
    let mut client = nodes.client().await;
    for number in 0..600 {
        let () = client.set(format!("key:{number}"), number).await.unwrap();
    }
    for number in 0..600 {
        let value: i64 = client.get(format!("key:{number}")).await.unwrap();
        assert_eq!(value, number);
    }
    let sizes: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| nodes.ask(name, &["DBSIZE"]))
        .collect();
    assert!(
        sizes
            .iter()
            .all(|size| matches!(size, Reply::Integer(100..))),
        "{sizes:?}"
    );
    assert_eq!(nodes.count(), 600);
    let port = nodes.ports["a"].to_string();
    let install = "apt-get install redis-tools";
    let cli = |args: &[&str]| run("redis-cli", &[&["-c", "-p", &port], args].concat(), install);
    assert_eq!(cli(&["set", "{t}1", "x"]), "OK\n");
    assert_eq!(cli(&["mget", "{t}1", "{t}2"]), "x\n\n");
    assert!(cli(&["cluster", "info"]).contains("cluster_state:ok"));
    assert_eq!(cli(&["cluster", "keyslot", "somekey"]), "11058\n");
    let info = cli(&["info"]);
    assert!(info.contains("redis_mode:cluster\r\n") && info.contains("cluster_enabled:1\r\n"));
    let load = [
        "--cluster",
        "-p",
        &port,
        "-n",
        "3000",
        "-r",
        "1000",
        "-t",
        "set,get",
        "-q",
    ];
    let load = run("redis-benchmark", &load, install);
    assert!(
        load.contains("GET") && load.contains("Cluster has 3 master nodes"),
        "{load}"
    );
}

/// What clients look for is said in the words of Redis.
#[test]
fn keys_of_other_nodes_are_refused_with_where_they_are() {
    let nodes = Nodes::start(&["a", "b", "c"]);
    let moved = |name: &str| match nodes.ask(name, &["GET", "foo"]) {
        Reply::Error(text) => Some(text),
        _ => None,
    };
    let answers: Vec<_> = ["a", "b", "c"]
        .iter()
        .filter_map(|name| moved(name))
        .collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(answers[0], answers[1]);
    let at = answers[0].strip_prefix("MOVED 12182 127.0.0.1:").unwrap();
    let (owner, _) = nodes
        .ports
        .iter()
        .find(|(_, port)| port.to_string() == at)
        .unwrap();
    let mut peer = Peer::connect(nodes.address(owner));
    let error = |reply| match reply {
        Reply::Error(text) => text,
        other => format!("{other:?}"),
    };
    let cross = "CROSSSLOT Keys in request don't hash to the same slot";
    assert_eq!(error(peer.command(&["MGET", "foo", "bar"])), cross);
    assert_eq!(
        peer.command(&["SET", "foo", "1"]),
        Reply::Simple("OK".to_owned())
    );
    peer.command(&["MULTI"]);
    assert_eq!(
        peer.command(&["INCR", "foo"]),
        Reply::Simple("QUEUED".to_owned())
    );
    assert_eq!(
        peer.command(&["EXEC"]),
        Reply::Array(vec![Reply::Integer(2)])
    );
    peer.command(&["MULTI"]);
    let far = (0..100).map(|number| format!("far:{number}"));
    let mut refused = far.map(|key| error(peer.command(&["INCR", &key])));
    assert!(refused.any(|text| text.starts_with("MOVED ")));
    assert!(error(peer.command(&["EXEC"])).starts_with("EXECABORT"));
    let plain = Server::start(ServerConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ..ServerConfig::default()
    });
    let plain = plain.unwrap();
    let mut peer = Peer::connect(plain.addresses()[0]);
    let disabled = "ERR This instance has cluster support disabled";
    assert_eq!(error(peer.command(&["CLUSTER", "SLOTS"])), disabled);
}

/// Counters that are added to all the time, so that a lost or doubled change shows.
struct Counting {
    stops: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<BTreeMap<String, i64>>>,
    done: Arc<AtomicU64>,
}

impl Counting {
    async fn start(nodes: &Nodes) -> Self {
        let (stops, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut tasks = Vec::new();
        for task in 0..8 {
            let mut client = nodes.client().await;
            let (stops, done) = (Arc::clone(&stops), Arc::clone(&done));
            tasks.push(tokio::spawn(async move {
                let mut known: BTreeMap<String, i64> = BTreeMap::new();
                let mut step = 0_u64;
                while !stops.load(Ordering::Acquire) {
                    step += 1;
                    let key = format!("n:{task}:{}", step * 7919 % 50);
                    let expected = known.entry(key.clone()).or_default();
                    let value: i64 = client.incr(&key, 1).await.unwrap();
                    *expected += 1;
                    assert_eq!(value, *expected, "{key}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
                known
            }));
        }
        Self { stops, tasks, done }
    }

    async fn end(self, nodes: &Nodes) {
        let before = self.done.load(Ordering::Relaxed);
        let began = Instant::now();
        while self.done.load(Ordering::Relaxed) < before + 500 {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "nothing is counted"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.stops.store(true, Ordering::Release);
        let mut client = nodes.client().await;
        for task in self.tasks {
            for (key, expected) in task.await.unwrap() {
                let value: i64 = client.get(&key).await.unwrap();
                assert_eq!(value, expected, "{key}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_and_go_while_everything_counts() {
    let mut nodes = Nodes::start(&["a", "b", "c"]);
    let mut client = nodes.client().await;
    for number in 0..2000 {
        let key = format!("key:{number}");
        let () = client.set_ex(key, number, 1000 + number).await.unwrap();
    }
    let counting = Counting::start(&nodes).await;
    // A node that comes begins as one that knows the others.
    let now = nodes.membership(1, &[("a", 1), ("b", 1), ("c", 1)]);
    nodes.start_one("d", &now);
    let four = nodes.membership(2, &[("a", 1), ("b", 1), ("c", 1), ("d", 2)]);
    nodes.set("a", &four);
    nodes.serves(&["a", "b", "c", "d"]);
    assert!(matches!(nodes.ask("d", &["DBSIZE"]), Reply::Integer(500..)));
    // A node that goes gives everything away first.
    let leaving = nodes.membership(3, &[("a", 1), ("b", 0), ("c", 1), ("d", 2)]);
    let removed = nodes
        .membership(3, &[("a", 1), ("c", 1), ("d", 2)])
        .to_string();
    let refused = nodes.ask("a", &["YGG.CLUSTER", "SET", &removed]);
    assert!(
        format!("{refused:?}").contains("give it weight 0 first"),
        "{refused:?}"
    );
    nodes.set("c", &leaving);
    nodes.serves(&["a", "b", "c", "d"]);
    assert_eq!(nodes.ask("b", &["DBSIZE"]), Reply::Integer(0));
    let gone = nodes.membership(4, &[("a", 1), ("c", 1), ("d", 2)]);
    nodes.set("d", &gone);
    nodes.servers.remove("b");
    nodes.serves(&["a", "c", "d"]);
    counting.end(&nodes).await;
    let mut client = nodes.client().await;
    for number in 0..2000 {
        let key = format!("key:{number}");
        let (value, ttl): (u64, u64) = (
            client.get(&key).await.unwrap(),
            client.ttl(&key).await.unwrap(),
        );
        assert_eq!(value, number);
        assert!((900 + number..=1000 + number).contains(&ttl), "{key} {ttl}");
    }
}

/// A node that is gone for good: its slots begin empty elsewhere, after it has stopped for sure; the
/// others are not disturbed, and when it comes back it has nothing to say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_node_is_replaced_and_stays_away() {
    let mut nodes = Nodes::start(&["a", "b", "c"]);
    let mut client = nodes.client().await;
    for number in 0..300 {
        let () = client.set(format!("key:{number}"), number).await.unwrap();
    }
    let Reply::Integer(lost) = nodes.ask("b", &["DBSIZE"]) else {
        panic!()
    };
    nodes.servers.remove("b");
    let began = Instant::now();
    let two = nodes.membership(2, &[("a", 1), ("c", 1)]);
    while nodes
        .text("a", &["YGG.CLUSTER", "STATUS"])
        .matches("does not answer")
        .count()
        < 1
    {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    nodes.set("a", &two);
    let taken = Instant::now();
    nodes.serves(&["a", "c"]);
    assert!(taken.elapsed() >= TIMEOUT, "{:?}", taken.elapsed());
    assert_eq!(nodes.count(), 300 - lost);
    let mut client = nodes.client().await;
    for number in 0..300 {
        let () = client.set(format!("key:{number}"), -1).await.unwrap();
    }
    // It comes back with what it knew and the keys that it kept.
    let one = nodes.membership(1, &[("a", 1), ("b", 1), ("c", 1)]);
    nodes.start_one("b", &one);
    let began = Instant::now();
    while nodes.text("b", &["YGG.CLUSTER", "GET"]) != two.to_string()
        || nodes.ask("b", &["DBSIZE"]) != Reply::Integer(0)
    {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // And gets its slots again, with what they hold now.
    let three = nodes.membership(3, &[("a", 1), ("b", 1), ("c", 1)]);
    nodes.set("c", &three);
    nodes.serves(&["a", "b", "c"]);
    let mut client = nodes.client().await;
    for number in 0..300 {
        let value: i64 = client.get(format!("key:{number}")).await.unwrap();
        assert_eq!(value, -1);
    }
}

/// A node that no majority answers serves nothing any more, so that nobody else is contradicted.
#[test]
fn node_alone_serves_nothing() {
    let mut nodes = Nodes::start(&["a", "b", "c"]);
    let owner = ["a", "b", "c"]
        .into_iter()
        .find(|name| !matches!(nodes.ask(name, &["SET", "foo", "1"]), Reply::Error(_)));
    let owner = owner.unwrap();
    let others: Vec<String> = nodes
        .servers
        .keys()
        .filter(|name| *name != owner)
        .cloned()
        .collect();
    for other in &others {
        nodes.servers.remove(other);
    }
    let began = Instant::now();
    let down = Reply::Error("CLUSTERDOWN The cluster is down".to_owned());
    while nodes.ask(owner, &["GET", "foo"]) != down {
        assert!(began.elapsed() < 3 * TIMEOUT, "it serves alone");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(
        nodes.ask(owner, &["CL.THROTTLE", "foo", "1", "1", "1"]),
        down
    );
    let next = nodes.membership(2, &[(owner, 1)]).to_string();
    assert_eq!(nodes.ask(owner, &["YGG.CLUSTER", "SET", &next]), down);
    // With one of the others there is a majority again, with what was kept.
    let now = nodes.membership(1, &[("a", 1), ("b", 1), ("c", 1)]);
    nodes.start_one(&others[0], &now);
    let began = Instant::now();
    while nodes.ask(owner, &["GET", "foo"]) != Reply::Bulk(b"1".to_vec()) {
        assert!(began.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Any node gives tokens of a hot bucket, and all together not many more than its limit lets through.
#[test]
fn hot_buckets_are_near() {
    let nodes = Nodes::start(&["a", "b", "c"]);
    let far = ["a", "b", "c"].into_iter().filter(|name| {
        matches!(
            nodes.ask(name, &["YGG.CONSUME", "hot", "1", "1", "0"]),
            Reply::Error(_)
        )
    });
    let far: Vec<_> = far.collect();
    assert_eq!(far.len(), 2);
    let (burst, emission_ns) = (1600_u32, 1_000_000_u64);
    let began = Instant::now();
    let given: u32 = thread::scope(|scope| {
        let take = |name: &str| {
            let mut peer = Peer::connect(nodes.address(name));
            peer.command(&["YGG.NEAR", "ON"]);
            let limit = [emission_ns.to_string(), burst.to_string()];
            let mut given = 0;
            while began.elapsed() < Duration::from_secs(2) {
                let reply = peer.command(&["YGG.CONSUME", "hot", &limit[0], &limit[1], "1"]);
                match reply {
                    Reply::Array(parts) => given += u32::from(parts[0] == Reply::Integer(0)),
                    Reply::Error(text) => assert!(text.starts_with("MOVED "), "{text}"),
                    other => panic!("{other:?}"),
                }
            }
            given
        };
        let tasks: Vec<_> = far
            .iter()
            .map(|name| scope.spawn(move || take(name)))
            .collect();
        let given: Vec<u32> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
        assert!(given.iter().all(|given| *given >= burst / 16), "{given:?}");
        given.iter().sum()
    });
    let refilled = (began.elapsed().as_nanos() / u128::from(emission_ns)) as u32;
    let overshoot = burst / 16 * 2;
    assert!(
        given <= burst + refilled + overshoot,
        "{given} of {}",
        burst + refilled
    );
}
