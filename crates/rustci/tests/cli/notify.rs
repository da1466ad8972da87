//! `rustci notify`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::remote::remote_with;
use crate::world::{Said, World};

/// A receiver that takes everything, and hands out the bodies.
pub(crate) fn receiver() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            reader.get_mut().write_all(answer).unwrap();
            if sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, bodies)
}

#[test]
fn test_message_goes_to_everybody_and_each_answer_is_printed() {
    let world = World::new();
    let (url, bodies) = receiver();
    let file = format!(
        "notifications:\n  adapters:\n    - {{ type: console, enabled: true }}\n    \
         - {{ type: webhook, enabled: true, url: '{url}/hook' }}\n    \
         - {{ type: slack, enabled: true, url_env: SLACK_URL }}\n    \
         - {{ type: slack, url_env: UNUSED }}\n"
    );
    std::fs::write(world.path("notify.yaml"), file).unwrap();
    let path = world.path("notify.yaml").display().to_string();
    let run = |more: &[&str]| {
        let mut command = world.command(&["notify", "test", "--config", &path]);
        // Port 9 is discard: nobody listens there.
        command
            .args(more)
            .env("SLACK_URL", "http://127.0.0.1:9/canary");
        Said::from(command.output().unwrap())
    };
    let said = run(&[]).ended_with(1);
    said.has_lines(&[
        "  ok   console  written to the log",
        "  ok   webhook  200 OK",
    ]);
    said.says("  FAIL slack    slack: 127.0.0.1 cannot be reached");
    said.complains("RustCI test notification");
    assert!(!format!("{}{}", said.out, said.err).contains("canary"));
    let body = bodies.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(body["title"], "RustCI test notification");
    assert_eq!(body["severity"], "info");
    assert_eq!(body["tags"], serde_json::json!(["test"]));

    let said = run(&["--json"]).ended_with(1);
    let adapters = said.json()[0]["adapters"].clone();
    assert_eq!(adapters[1]["adapter"], "webhook");
    assert_eq!(
        (&adapters[1]["ok"], &adapters[2]["ok"]),
        (&true.into(), &false.into())
    );
}

#[test]
fn file_that_cannot_be_used_is_refused_with_what_to_do() {
    let world = World::new();
    let path = world.path("notify.yaml").display().to_string();
    let test = |text: &str| {
        std::fs::write(&path, text).unwrap();
        world
            .rustci(&["notify", "test", "--config", &path])
            .ended_with(2)
    };
    test("notifications: { adapters: [{ type: console }] }").complains("no adapter is enabled");
    test("notifications: { adapters: [{ type: slack, enabled: true, url_env: NO_SUCH }] }")
        .complains("needs the environment variable NO_SUCH, which is not set");
    test("notifications: [").complains("notify.yaml");
    world
        .rustci(&["notify", "test", "--config", "/nowhere"])
        .ended_with(2);
}

#[test]
fn server_tells_of_failed_runs_and_lost_runners() {
    let (url, bodies) = receiver();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notify.yaml");
    let text = format!(
        "notifications: {{ adapters: [{{ type: webhook, enabled: true, url: '{url}/hook' }}] }}"
    );
    std::fs::write(&file, text).unwrap();
    let pipeline = "name: shop\njobs: { a: { steps: [{ run: exit 3 }] } }\n";
    let more = ["--notify", file.to_str().unwrap(), "--lease", "1s"];
    let mut remote = remote_with(pipeline, &more);
    let next = || bodies.recv_timeout(Duration::from_secs(30)).unwrap();
    remote
        .world
        .rustci(&["run", "--server", &remote.url])
        .ended_with(1);
    let body = next();
    assert_eq!(body["title"], "Run 1 of shop failed");
    assert_eq!(body["severity"], "error");
    assert_eq!(body["tags"], serde_json::json!(["ci", "run_failed"]));

    let slow = "name: slow\njobs: { a: { steps: [{ run: sleep 600 }] } }\n";
    remote.world.write(".rustci.yaml", slow);
    let mut run = remote.world.start(&["run", "--server", &remote.url]);
    run.wait_for("sleep 600");
    remote.runner.kill();
    let body = next();
    assert_eq!(body["title"], "Runner one was lost");
    assert_eq!(body["severity"], "warning");
    run.kill();
}
