//! Every metric family moves when what it counts happens, on a real server with a real runner.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::http::Http;
use crate::openmetrics::{self, Family};
use crate::world::{Running, World};

/// What happens, and the families that it moves.
const MOVES: &[(Event, &[&str])] = &[
    (
        Event::RunnerConnects,
        &[
            "rustci_runners_connected",
            "valkyrie_connections_active",
            "valkyrie_flow_control_window_bytes",
            "valkyrie_flow_control_window_size",
            "valkyrie_handshake_duration_seconds",
            "valkyrie_insecure_connections_active",
            "valkyrie_message_size_bytes",
            "valkyrie_messages_received",
            "valkyrie_messages_sent",
            "valkyrie_metrics_reports",
            "peer_process_resident_memory_bytes",
            "peer_valkyrie_messages_sent",
        ],
    ),
    (
        Event::RunSucceeds,
        &[
            "rustci_cache_lookups",
            "rustci_content_received_bytes",
            "rustci_dispatch_seconds",
            "rustci_jobs_finished",
            "rustci_journal_sync_seconds",
            "rustci_log_bytes",
            "rustci_log_lines",
            "rustci_runs",
            "valkyrie_message_latency_seconds",
            "valkyrie_stream_bytes",
            "valkyrie_stream_throughput_bytes_per_second",
            "valkyrie_streams_active",
        ],
    ),
    (
        Event::JobWaits,
        &[
            "rustci_jobs",
            "rustci_jobs_waiting",
            "rustci_queue_depth",
            "rustci_queue_oldest_seconds",
            "rustci_runs_active",
        ],
    ),
    (
        Event::SomebodyFollows,
        &[
            "rustci_event_streams_open",
            "rustci_http_request_duration_seconds",
            "rustci_http_requests",
        ],
    ),
    (
        Event::NoFrames,
        &["rustci_connection_rejects", "valkyrie_errors"],
    ),
    (
        Event::RunnerDies,
        &[
            "valkyrie_connection_duration_seconds",
            "valkyrie_disconnections",
            "valkyrie_retries",
        ],
    ),
];

/// Families that are true from the start.
const THERE: &[&str] = &[
    "process_cpu_seconds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
    "rustci_build",
];

/// Families whose events take hours or another program, each with the test that has them.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "rustci_content_blobs",
        "counted by each sweep, which has tests of its own",
    ),
    ("rustci_content_freed_bytes", "counted by each sweep"),
    ("rustci_content_removed", "counted by each sweep"),
    ("rustci_content_stored_bytes", "counted by each sweep"),
    (
        "rustci_http_requests_limited",
        "rate.rs of the server: addresses of this machine are not limited",
    ),
    ("rustci_store_failures", "rate.rs of the server"),
    ("rustci_store_fallbacks", "rate.rs of the server"),
    ("rustci_store_operations", "rate.rs of the server"),
    ("rustci_store_up", "rate.rs of the server"),
    ("rustci_traces", "traces.rs, with a collector"),
    (
        "valkyrie_alerts",
        "the suite of the engine, with a peer that alerts",
    ),
];

#[derive(Debug, Clone, Copy)]
enum Event {
    RunnerConnects,
    RunSucceeds,
    JobWaits,
    SomebodyFollows,
    NoFrames,
    RunnerDies,
}

const PIPELINE: &str = "\
version: 1
name: moves
on: { manual: {} }
jobs:
  a:
    cache: { key: one, paths: [kept] }
    artifacts: { name: made, paths: [made] }
    steps:
      - run: mkdir kept && head -c 100000 /dev/urandom > kept/k && cp kept/k made
      - run: for i in 1 2 3; do echo line $i; sleep 0.5; done
";
const WAITS: &str = "\
version: 1
name: waits
on: { manual: {} }
jobs:
  a: { runs-on: [nowhere=yes], steps: [{ run: echo }] }
";
const LONG: &str = "\
version: 1
name: long
on: { manual: {} }
jobs:
  a: { runs-on: [executor=dummy], env: { DUMMY_SLEEP_MS: '60000' }, steps: [{ run: x }] }
";

struct Watched {
    world: World,
    http: Http,
    socket: String,
    runner: Option<Running>,
    followers: Vec<TcpStream>,
    _server: Running,
}

type Scrape = BTreeMap<String, Family>;

impl Watched {
    fn start() -> Self {
        let world = World::new();
        let socket = world.path("rustci.sock").display().to_string();
        let endpoint = format!("valkyrie+unix://{socket}");
        let args = [
            "serve",
            "--json",
            "--http",
            "127.0.0.1:0",
            "--lease",
            "1s",
            "--valkyrie",
            &endpoint,
        ];
        let mut server = world.start(&args);
        let ready: serde_json::Value = serde_json::from_str(&server.wait_for("http")).unwrap();
        let token = std::fs::read_to_string(world.path("state/rustci/server/token")).unwrap();
        let http = Http {
            url: ready["http"].as_str().unwrap().to_owned(),
            token: token.trim().to_owned(),
        };
        Self {
            world,
            http,
            socket,
            runner: None,
            followers: Vec::new(),
            _server: server,
        }
    }

    #[track_caller]
    fn scrape(&self) -> Scrape {
        let (status, text) = self.http.ask("GET", "/metrics", "").unwrap();
        assert_eq!(status, 200);
        let text = String::from_utf8(text).unwrap();
        openmetrics::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn connect(&mut self, name: &str) {
        let endpoint = format!("valkyrie+unix://{}", self.socket);
        let mut runner = self
            .world
            .start(&["runner", "--connect", &endpoint, "--name", name]);
        runner.wait_for(name);
        self.runner = Some(runner);
    }

    fn submit(&self, text: &str) -> u64 {
        let body = serde_json::json!({
            "project": "p", "pipeline": { "file": "ci.yaml", "text": text }, "event": { "name": "manual" },
        });
        let run = self.http.json("POST", "/api/v1/runs", &body.to_string());
        run["run"]["id"].as_u64().unwrap()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::RunnerConnects => self.connect("one"),
            Event::RunSucceeds => {
                self.submit(PIPELINE);
            }
            Event::JobWaits => {
                self.submit(WAITS);
            }
            Event::SomebodyFollows => self.follow("/api/v1/runs/2/events"),
            Event::NoFrames => {
                let mut peer = UnixStream::connect(&self.socket).unwrap();
                peer.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
                    .unwrap();
                // The server says why and closes.
                let _ = peer.read_to_end(&mut Vec::new());
            }
            Event::RunnerDies => {
                let run = self.submit(LONG);
                let path = format!("/api/v1/runs/{run}");
                while self.http.json("GET", &path, "")["status"] != "running" {
                    std::thread::yield_now();
                }
                self.runner.as_mut().unwrap().kill();
                self.connect("two");
            }
        }
    }

    fn follow(&mut self, path: &str) {
        let address = self.http.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        let token = &self.http.token;
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        self.followers.push(stream);
    }
}

#[test]
fn every_family_moves_when_what_it_counts_happens() {
    let mut server = Watched::start();
    let mut before = server.scrape();
    for name in THERE {
        let samples = &before[*name].samples;
        assert!(samples.values().any(|value| *value > 0.0), "{name}");
    }
    for (event, families) in MOVES {
        server.happen(*event);
        let mut still: BTreeSet<&str> = families.iter().copied().collect();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !still.is_empty() {
            let now = server.scrape();
            still.retain(|name| now.get(*name) == before.get(*name));
            assert!(
                Instant::now() < deadline,
                "{event:?} did not move {still:?}"
            );
            std::thread::yield_now();
        }
        before = server.scrape();
    }
    let moved = MOVES
        .iter()
        .flat_map(|(_, families)| families.iter().copied());
    let known: BTreeSet<&str> = moved
        .chain(THERE.iter().copied())
        .chain(ELSEWHERE.iter().map(|(name, _)| *name))
        .collect();
    let seen = before.keys().map(String::as_str);
    // What runners report has the names of families that are known.
    let own = |name: &&str| !known.contains(name.strip_prefix("peer_").unwrap_or(name));
    let unknown: Vec<&str> = seen.filter(own).collect();
    assert!(unknown.is_empty(), "in no table of this test: {unknown:?}");
    bounded(&before);
}

/// Labels have few values: no ids, names of runs, paths or peers.
fn bounded(scrape: &Scrape) {
    for (name, family) in scrape {
        assert!(
            family.samples.len() < 2_000,
            "{name} has {} series",
            family.samples.len()
        );
        for key in family.samples.keys() {
            let peer = ["rustci.sock", "127.0.0.1", "/runs/1", "ci.yaml"];
            assert!(!peer.iter().any(|word| key.contains(word)), "{key}");
        }
    }
}
