//! `rustci store`.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::remote::{Remote, remote_with};
use crate::world::World;

/// A server of another project that ends with the test.
struct Peer {
    child: Child,
    port: u16,
}

impl Peer {
    fn start(program: &str, install: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let child = Command::new(program)
            .args(["--save", "", "--bind", "127.0.0.1", "--port"])
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{program}: {error}; install: {install}"));
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "no {program}");
            thread::sleep(Duration::from_millis(5));
        }
        Self { child, port }
    }

    fn ask(&self, args: &[&str]) -> String {
        let port = self.port.to_string();
        let mut client = Command::new("redis-cli");
        let output = client.args(["-p", &port]).args(args).output();
        let output = output.expect("apt-get install redis-tools");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn everything_moves_while_a_server_counts() {
    let redis = Peer::start("redis-server", "apt-get install redis-server");
    let valkey = Peer::start("valkey-server", "scripts/install-valkey.sh");
    let from = format!("redis://127.0.0.1:{}", redis.port);
    let to = format!("valkey://127.0.0.1:{}", valkey.port);
    for number in 0..300 {
        redis.ask(&["set", &format!("key:{number}"), &format!("value {number}")]);
    }
    let world = World::new();
    let mut server = world.start(&[
        "serve",
        "--http",
        "127.0.0.1:0",
        "--store",
        &from,
        "--store-migrate-to",
        &to,
    ]);
    server.wait_for("http://");
    let pair = ["--from", &from, "--to", &to];
    let status = |args: &[&str]| {
        let all = [&["store", "status"], &pair[..], args].concat();
        world.rustci(&all).ended_with(0)
    };
    let began = Instant::now();
    loop {
        let said = status(&["--json"]).json().remove(0);
        assert_eq!(said["phase"], "off");
        if said["members"].as_array().unwrap().len() == 1 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{said}");
    }
    let migrate = |args: &[&str]| {
        let quick = ["--hold", "100ms", "--lease-max", "500ms"];
        world.rustci(&[&["store", "migrate"], &pair[..], &quick, args].concat())
    };
    let said = migrate(&["--until", "read-new"]).ended_with(0);
    said.says("300 keys copied");
    said.says("In phase read_new: the new store is read.");
    status(&[]).says("read_new: the new store is read");
    assert_eq!(valkey.ask(&["get", "key:7"]), "value 7");
    let said = migrate(&["--roll-back"]).ended_with(0);
    said.says("In phase rolled_back");
    status(&[]).says("cause: somebody asked for it");
    let lines = migrate(&["--json", "--until", "done"]).ended_with(0).json();
    let last = lines.last().unwrap();
    assert_eq!(last["report"]["phase"], "done");
    assert_eq!(last["report"]["mismatched"], 0);
    assert_eq!(status(&["--json"]).json()[0]["members"][0]["lost"], 0);
    migrate(&["--roll-back"])
        .ended_with(2)
        .complains("migrate the other way instead");
    drop(valkey);
    let said = migrate(&["--until", "done"]).ended_with(5);
    said.complains("a store does not answer");
    let said = world.rustci(&["store", "status", "--from", "nowhere", "--to", &to]);
    said.ended_with(2).complains("'nowhere' is no URL");
}

#[test]
fn changes_of_keys_are_shown() {
    let redis = Peer::start("redis-server", "apt-get install redis-server");
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let world = World::new();
    let said = world.rustci(&["store", "watch", &url]);
    said.ended_with(2)
        .complains("CONFIG SET notify-keyspace-events KA");
    redis.ask(&["config", "set", "notify-keyspace-events", "KA"]);
    for more in [&[][..], &["--json"]] {
        let args = [&["store", "watch", &url, "k", "--count", "2"], more].concat();
        let mut command = world.command(&args);
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while !redis.ask(&["client", "list"]).contains("psub=1") {
            assert!(began.elapsed() < Duration::from_secs(20), "nobody watches");
            thread::sleep(Duration::from_millis(5));
        }
        redis.ask(&["set", "other", "v"]);
        redis.ask(&["set", "k\u{1b}", "v"]);
        redis.ask(&["del", "k\u{1b}"]);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        match more.is_empty() {
            true => assert_eq!(text, "set      k\\u{1b}\nremoved  k\\u{1b}\n"),
            false => {
                let lines: Vec<serde_json::Value> = text
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
                assert_eq!(lines[0]["event"], "set");
                assert_eq!(lines[1]["event"], "removed");
                assert_eq!(lines[1]["key"], "k\u{1b}");
            }
        }
    }
}

/// Asks until `rustci doctor` counts runners of other servers.
fn until_counted(remote: &Remote) -> String {
    until_doctor(remote, |line| line.is_some())
}

fn until_doctor(remote: &Remote, is_so: fn(&Option<&str>) -> bool) -> String {
    let began = Instant::now();
    loop {
        let said = remote.world.rustci(&["doctor", "--server", &remote.url]);
        let line = said
            .out
            .lines()
            .find(|line| line.contains("runners_elsewhere"));
        if is_so(&line) {
            return line.unwrap_or_default().to_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{}", said.out);
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn servers_with_one_store_show_each_others_runners_until_one_is_gone() {
    let redis = Peer::start("redis-server", "apt-get install redis-server");
    let store = format!("redis://127.0.0.1:{}", redis.port);
    let pipeline = "jobs: { a: { steps: [{ run: echo }] } }\n";
    let [mut one, other] = [0, 1].map(|_| remote_with(pipeline, &["--store", &store]));
    let [line, back] = [until_counted(&other), until_counted(&one)];
    assert!(
        line.contains(&format!("1 connected to {}", one.url)),
        "{line}"
    );
    assert!(
        back.contains(&format!("1 connected to {}", other.url)),
        "{back}"
    );
    // Nobody says farewell.
    one.server.kill();
    until_doctor(&other, |line| line.is_none());
}
