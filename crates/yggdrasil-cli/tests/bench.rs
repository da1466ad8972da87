//! What `yggdrasil bench` measures and says.

#![cfg(test)]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A server that is killed at the end.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn yggdrasil() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_yggdrasil"))
            .args(["serve", "--listen", "127.0.0.1:0", "--threads", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let address = line.split_whitespace().nth(2).unwrap().to_owned();
        Self { child, address }
    }

    fn redis() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        drop(free);
        let child = Command::new("redis-server")
            .args(["--port", &port, "--save", ""])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server; install it with: apt-get install redis-server");
        let address = format!("127.0.0.1:{port}");
        let start = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, address }
    }

    fn bench(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_yggdrasil"));
        command.args(["bench", &self.address]).args(arguments);
        command.output().unwrap()
    }

    fn keys(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_yggdrasil"));
        let out = command.args(["inspect", "--json", &self.address]).output();
        let view: Value = serde_json::from_slice(&out.unwrap().stdout).unwrap();
        view["keys"].to_string()
    }
}

fn lines(out: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{out:?}");
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn every_task_is_measured_and_leaves_nothing() {
    let server = Server::yggdrasil();
    let out = server.bench(&["--for", "200ms", "--json", "--clients", "3"]);
    let lines = lines(&out);
    let tasks: Vec<_> = lines.iter().map(|line| line["task"].clone()).collect();
    assert_eq!(tasks, ["consume", "set", "get", "incr"]);
    for line in &lines {
        assert_eq!(line["errors"], 0, "{line}");
        assert!(line["requests"].as_u64() > Some(100), "{line}");
        let quantile = |name: &str| line[name].as_f64().unwrap();
        assert!(quantile("p50_ms") > 0.0 && quantile("p50_ms") <= quantile("p99_ms"));
        assert!(quantile("p99_ms") <= quantile("max_ms"), "{line}");
    }
    assert_eq!(server.keys(), "0");
    let out = server.bench(&["set", "--for", "200ms", "--pipeline", "32"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("each asks for 32 at once"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("set ")), "{text}");
    assert!(!text.contains("errors"), "{text}");
}

/// Requests are due at a rate, whatever the server does, and those that wait for it say so.
#[test]
fn a_server_that_stands_still_shows_in_every_request_that_was_due() {
    let server = Server::yggdrasil();
    let pid = server.child.id().to_string();
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    };
    let out = std::thread::scope(|scope| {
        let out = scope.spawn(|| {
            server.bench(&[
                "get", "--rate", "1000", "--for", "2s", "--json", "--keys", "10",
            ])
        });
        std::thread::sleep(Duration::from_millis(700));
        signal("-STOP");
        std::thread::sleep(Duration::from_millis(600));
        signal("-CONT");
        out.join().unwrap()
    });
    let line = lines(&out).remove(0);
    // Each client begins a little later than the one before.
    let requests = line["requests"].as_u64().unwrap();
    assert!((1984..=2000).contains(&requests), "{line}");
    assert!(line["max_ms"].as_f64() >= Some(550.0), "{line}");
    // A quarter of all was due while it stood still; a client that waits for answers would have 16.
    assert!(line["p90_ms"].as_f64() >= Some(250.0), "{line}");
    assert!(line["p50_ms"].as_f64() < Some(200.0), "{line}");
}

#[test]
fn other_servers_are_measured_and_errors_are_told() {
    let server = Server::redis();
    let out = server.bench(&["incr", "--for", "200ms", "--json"]);
    assert_eq!(lines(&out).len(), 1);
    let out = server.bench(&["consume", "--for", "100ms", "--clients", "1"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("redis ") && text.contains("errors"), "{text}");
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains("unknown command"), "{text}");
    let out = server.bench(&["set", "--rate", "10", "--pipeline", "2"]);
    assert_eq!(out.status.code(), Some(2), "{out:?}");
}
