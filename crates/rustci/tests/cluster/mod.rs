//! A server and two runners as real processes, and a client that remembers what was acknowledged.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use journal::{FileJournal, JournalConfig};
use prost::Message;
use rustci_scheduler::record::{Next, Record, record::Kind};
use serde_json::{Value, json};

/// SplitMix64: small, seeded, good enough to choose victims.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

pub(crate) enum Victim {
    Server,
    Runner(usize),
    Both(usize),
}

pub(crate) struct Cluster {
    home: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
    runners: [Option<Child>; 2],
}

const MARK: &str = "KILL_LOOP_MARK";

impl Cluster {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let home = tempfile::tempdir().unwrap();
        let mut cluster = Self {
            home,
            port,
            server: None,
            runners: [None, None],
        };
        cluster.revive();
        cluster.wait_ready();
        cluster
    }

    /// Value of the environment variable that every process of this cluster inherits from the
    /// server or a runner; jobs see it through `env` in the pipeline only, so it marks daemons too.
    pub(crate) fn mark(&self) -> String {
        self.home.path().display().to_string()
    }

    fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn command(&self, log: &str) -> Command {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.home.path().join(log))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustci"));
        command
            .env(MARK, self.mark())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        command
    }

    /// Starts whatever is not running.
    pub(crate) fn revive(&mut self) {
        let endpoint = format!(
            "valkyrie+unix://{}",
            self.data_dir().join("rustci.sock").display()
        );
        if self.server.is_none() {
            let child = self
                .command("server.log")
                .args([
                    "serve",
                    "--lease",
                    "2s",
                    "--requeues",
                    "100",
                    "--http",
                    &format!("127.0.0.1:{}", self.port),
                ])
                .args(["--valkyrie", &endpoint])
                .arg("--data-dir")
                .arg(self.data_dir())
                .spawn()
                .unwrap();
            self.server = Some(child);
        }
        for index in 0..self.runners.len() {
            if self.runners[index].is_none() {
                let child = self
                    .command(&format!("runner{index}.log"))
                    .args([
                        "runner",
                        "--connect",
                        &endpoint,
                        "--name",
                        &format!("r{index}"),
                    ])
                    .args(["--capacity", "4", "--state-dir"])
                    .arg(self.home.path().join(format!("runner{index}")))
                    .spawn()
                    .unwrap();
                self.runners[index] = Some(child);
            }
        }
    }

    fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self
            .request("GET", "/readyz", None)
            .is_none_or(|(status, _)| status != 200)
        {
            assert!(
                Instant::now() < deadline,
                "server not ready: {}",
                self.tail("server.log")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn tail(&self, log: &str) -> String {
        let text = std::fs::read(self.home.path().join(log)).unwrap_or_default();
        let from = text.len().saturating_sub(4000);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }

    pub(crate) fn kill(&mut self, victim: Victim) {
        let (server, runner) = match victim {
            Victim::Server => (true, None),
            Victim::Runner(index) => (false, Some(index)),
            Victim::Both(index) => (true, Some(index)),
        };
        if server {
            end(&mut self.server);
        }
        if let Some(index) = runner {
            end(&mut self.runners[index]);
        }
    }

    /// Submits until the server is up and acknowledges. What it did not acknowledge may exist too,
    /// and is load.
    pub(crate) fn submit_until_acknowledged(&self, pipeline: &str) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(run) = self.submit(pipeline) {
                return run;
            }
            assert!(
                Instant::now() < deadline,
                "nothing accepted: {}",
                self.tail("server.log")
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Submits a run; `None` when the server did not acknowledge it.
    pub(crate) fn submit(&self, pipeline: &str) -> Option<u64> {
        let body = json!({
            "pipeline": { "file": ".rustci.yaml", "text": pipeline },
            "event": { "name": "manual" },
            "inputs": {},
            "source": null,
            "project": "kill-loop",
        });
        let (status, answer) = self.request("POST", "/api/v1/runs", Some(&body.to_string()))?;
        assert!(
            status == 201 || status == 503,
            "{status} {}",
            String::from_utf8_lossy(&answer)
        );
        let answer: Value = serde_json::from_slice(&answer).ok()?;
        answer["run"]["id"].as_u64()
    }

    /// Approves a job; the status of the answer, or `None` when none came.
    pub(crate) fn approve(&self, run: u64, job: &str) -> Option<u16> {
        let path = format!("/api/v1/runs/{run}/jobs/{job}/approve");
        let answer = self.request("POST", &path, Some(r#"{"by":"kill-loop"}"#));
        answer.map(|(status, _)| status)
    }

    /// Waits until all runs are finished and returns their views.
    pub(crate) fn wait_all(&self, runs: &[u64], deadline: Instant) -> Vec<Value> {
        runs.iter()
            .map(|run| {
                loop {
                    let answer = self.request("GET", &format!("/api/v1/runs/{run}"), None);
                    let view = answer
                        .filter(|(status, _)| *status == 200)
                        .and_then(|(_, body)| serde_json::from_slice::<Value>(&body).ok());
                    if let Some(view) = &view
                        && view["status"] == "finished"
                    {
                        return view.clone();
                    }
                    assert!(
                        Instant::now() < deadline,
                        "run {run} did not end: {view:#?}\nserver: {}\nrunner 0: {}\nrunner 1: {}",
                        self.tail("server.log"),
                        self.tail("runner0.log"),
                        self.tail("runner1.log")
                    );
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
            .collect()
    }

    pub(crate) fn raw_log(&self, run: u64, job: u64, attempt: u64) -> Vec<u8> {
        let path = format!("/api/v1/runs/{run}/jobs/{job}/log?attempt={attempt}");
        let (status, body) = self
            .request("GET", &path, None)
            .expect("the server answers");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        body
    }

    fn request(&self, method: &str, path: &str, body: Option<&str>) -> Option<(u16, Vec<u8>)> {
        let token = std::fs::read_to_string(self.data_dir().join("token")).unwrap_or_default();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let body = body.unwrap_or_default();
        let accept = if path.contains("/log?") {
            "application/octet-stream"
        } else {
            "application/json"
        };
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Accept: {accept}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            token.trim(),
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
        Some((status, answer[end + 4..].to_vec()))
    }

    /// Kills everything, then counts the end records of every job in the journal.
    pub(crate) fn stop_and_count_job_ends(&mut self) -> BTreeMap<u64, usize> {
        end(&mut self.server);
        for runner in &mut self.runners {
            end(runner);
        }
        count_job_ends(&self.data_dir().join("journal"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        end(&mut self.server);
        for runner in &mut self.runners {
            end(runner);
        }
    }
}

/// SIGKILL, and reap.
fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// End records by job, read from the journal itself.
fn count_job_ends(journal: &Path) -> BTreeMap<u64, usize> {
    let (_journal, recovered) = FileJournal::open(journal, JournalConfig::default()).unwrap();
    assert!(
        recovered.snapshot().is_none(),
        "the records of earlier runs are still there"
    );
    let mut ends = BTreeMap::new();
    for (_, bytes) in recovered.records() {
        let ended = match Record::decode(bytes).unwrap().kind.unwrap() {
            Kind::AttemptEnded(end) if end.next() == Next::End => end.job,
            Kind::JobEnded(end) => end.job,
            _ => continue,
        };
        *ends.entry(ended).or_default() += 1;
    }
    ends
}

/// Lines of channel 0 in raw log records.
pub(crate) fn stdout_lines(log: &[u8]) -> Vec<String> {
    let mut rest = log;
    let mut lines = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<15>() {
        let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
        let (text, next) = tail.split_at(length);
        if head[14] & 0x0f == 0 {
            lines.push(String::from_utf8_lossy(text).into_owned());
        }
        rest = next;
    }
    assert!(
        rest.is_empty(),
        "{} bytes after the last whole record",
        rest.len()
    );
    lines
}

/// Waits up to five seconds for every process that carries the mark to be gone.
pub(crate) fn assert_no_survivors(mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let alive = marked(mark);
        if alive.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "processes survived their job: {alive:#?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn marked(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            // A job's working directory and HOME lie below the cluster's directory.
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environ
                .windows(mark.len())
                .any(|window| window == mark.as_bytes())
        })
        .filter(|entry| entry.file_name() != std::process::id().to_string().as_str())
        .map(|entry| {
            let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            format!(
                "{:?} {}",
                entry.file_name(),
                String::from_utf8_lossy(&cmdline).replace('\0', " ")
            )
        })
        .collect()
}
