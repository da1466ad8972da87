//! `serve`, `runner`, `run --server` and `runs` over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::world::{Running, Said, World};

pub(crate) struct Remote {
    pub(crate) world: World,
    pub(crate) url: String,
    pub(crate) runner: Running,
    pub(crate) server: Running,
    pub(crate) socket: String,
}

impl Remote {
    /// Kills the server and starts it again at the same address.
    pub(crate) fn kill_and_restart(&mut self) {
        self.server.kill();
        let http = self.url.trim_start_matches("http://");
        let args = [
            "serve",
            "--json",
            "--http",
            http,
            "--valkyrie",
            &self.socket,
        ];
        let mut server = self.world.start(&args);
        server.wait_for("http");
        self.server = server;
    }
}

/// A server and a runner that have found each other.
pub(crate) fn remote(pipeline: &str) -> Remote {
    remote_with(pipeline, &[])
}

/// The same with more arguments for the server.
pub(crate) fn remote_with(pipeline: &str, more: &[&str]) -> Remote {
    let world = World::with_pipeline(pipeline);
    let socket = format!("valkyrie+unix://{}", world.path("rustci.sock").display());
    let args = [
        "serve",
        "--json",
        "--http",
        "127.0.0.1:0",
        "--valkyrie",
        &socket,
    ];
    let args = [&args[..], more].concat();
    let mut server = world.start(&args);
    let ready: serde_json::Value = serde_json::from_str(&server.wait_for("http")).unwrap();
    let url = ready["http"].as_str().unwrap().to_owned();
    let mut runner = world.start(&[
        "runner",
        "--connect",
        &socket,
        "--name",
        "one",
        "--capacity",
        "2",
    ]);
    runner.wait_for("one");
    Remote {
        world,
        url,
        runner,
        server,
        socket,
    }
}

impl Remote {
    /// What the server answers to a POST with its own token.
    pub(crate) fn post(&self, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let token = self.world.path("state/rustci/server/token");
        let token = std::fs::read_to_string(token).unwrap();
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            token.trim(),
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

#[test]
fn a_run_on_a_server_shows_the_same_as_one_here() {
    let remote = remote("jobs: { a: { steps: [{ run: echo hello from afar }] } }\n");
    let world = &remote.world;
    let said = world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(0);
    said.has_lines(&["a | hello from afar"]);
    said.says(&format!("rustci runs logs 1 --server {}", remote.url));
    let server = ["--server", remote.url.as_str()];
    let runs = |args: &[&str]| world.rustci(&[&["runs"], args, &server].concat());
    runs(&["list"]).ended_with(0).says("✓ success");
    runs(&["view", "1"]).ended_with(0).says("✓ run 1 succeeded");
    runs(&["logs", "1", "a"])
        .ended_with(0)
        .has_lines(&["hello from afar"]);
    runs(&["watch", "1"])
        .ended_with(0)
        .has_lines(&["a | hello from afar"]);
    let view = runs(&["view", "1", "--json"]).ended_with(0).json();
    assert_eq!(view[0]["jobs"][0]["attempts"][0]["runner"], "one");
    runs(&["view", "9"])
        .ended_with(2)
        .complains("hint: the newest is 1");
    runs(&["cancel", "1"]).ended_with(2).complains("run 1");
}

#[test]
fn a_run_that_waits_says_for_what() {
    let remote = remote("jobs: { a: { runs-on: gpu, steps: [{ run: echo } ] } }\n");
    let mut run = remote.world.start(&["run", "--server", &remote.url]);
    run.wait_for("a | ○ no runner has the label gpu");
    run.signal("INT");
    let (code, rest) = run.finish();
    assert_eq!(code, Some(130), "{rest}");
    assert!(rest.contains("the run was canceled\n"), "{rest}");
}

#[test]
fn a_wrong_token_is_a_matter_of_its_own() {
    let remote = remote("jobs: { a: { steps: [{ run: echo } ] } }\n");
    let args = ["runs", "list", "--server", &remote.url, "--token", "guess"];
    let said = remote.world.rustci(&args).ended_with(4);
    said.complains("refused the token");
    said.complains("hint: pass --token or set RUSTCI_TOKEN");
}

#[test]
fn a_run_on_a_server_is_followed_and_canceled() {
    let remote = remote("jobs: { a: { steps: [{ run: echo begun; sleep 64.5 }] } }\n");
    let world = &remote.world;
    let server = ["--server", remote.url.as_str()];
    let mut run = world.start(&[&["run"][..], &server].concat());
    run.wait_for("a | begun");
    let mut logs = world.start(&[&["runs", "logs", "-f", "1", "a"][..], &server].concat());
    logs.wait_for("begun");
    world
        .rustci(&[&["runs", "cancel", "1"][..], &server].concat())
        .ended_with(0)
        .says("canceling run 1");
    let (code, rest) = run.finish();
    assert_eq!(code, Some(3), "{rest}");
    assert_eq!(logs.finish().0, Some(0));
}

#[test]
fn a_cancel_reaches_a_server_that_was_killed() {
    check_cancel_after_restart("KILL");
}

#[test]
fn a_cancel_reaches_a_server_that_was_restarted() {
    check_cancel_after_restart("TERM");
}

fn check_cancel_after_restart(signal: &str) {
    let remote = remote("jobs: { a: { steps: [{ run: echo begun; sleep 64.5 }] } }\n");
    let world = &remote.world;
    let mut run = world.start(&["run", "--server", &remote.url]);
    run.wait_for("a | begun");
    remote.server.signal(signal);
    run.wait_for("the server cannot be reached");
    run.signal("INT");
    run.wait_for("canceling");
    let http = remote.url.trim_start_matches("http://");
    let mut server = world.start(&[
        "serve",
        "--json",
        "--http",
        http,
        "--valkyrie",
        &remote.socket,
    ]);
    server.wait_for("http");
    let (code, rest) = run.finish();
    assert_eq!(code, Some(130), "{rest}");
    assert!(rest.contains("the server is back"), "{rest}");
    assert!(rest.contains("run 1 was canceled"), "{rest}");
}

#[test]
fn what_to_type_next_names_the_server_and_never_the_token() {
    let remote = remote("jobs: { a: { steps: [{ run: exit 1 } ] } }\n");
    let token = remote.world.path("state/rustci/server/token");
    let token = std::fs::read_to_string(token).unwrap();
    let none = ["runs", "view", "--server", &remote.url];
    let said = remote.world.rustci(&none).ended_with(2);
    said.complains(&format!("`rustci run --server {}` makes one", remote.url));
    let args = ["run", "--server", &remote.url, "--token", token.trim()];
    let said = remote.world.rustci(&args).ended_with(1);
    said.says("1 job failed");
    said.says(&format!("rustci run --server {} --job a", remote.url));
    assert!(!said.out.contains(token.trim()), "{}", said.out);
}

#[test]
fn a_token_that_was_not_found_is_not_one_that_was_refused() {
    let remote = remote("jobs: { a: { steps: [{ run: echo } ] } }\n");
    let mut command = remote
        .world
        .command(&["runs", "list", "--server", &remote.url]);
    command.env("XDG_STATE_HOME", remote.world.path("elsewhere"));
    let said = Said::from(command.output().unwrap()).ended_with(4);
    said.complains("wants a token, and none was found");
    said.complains("elsewhere/rustci/server/token");
}
