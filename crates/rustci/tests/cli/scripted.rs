//! Clients of a server that does not do its part: scripts in its place.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::World;

const EVENTS: &str = "/api/v1/runs/1/events";
const STORAGE: &str = "the server stopped accepting work: journal: no space left";

/// What a script says to a request.
enum Answer {
    Json(u16, Value),
    /// Events, and the end of the connection.
    Events(String),
    /// Events, and nothing more.
    Silence(String),
}

/// A request: its first line up to the version, and its `Last-Event-ID`.
struct Request {
    line: String,
    last: Option<String>,
}

/// Serves `script` for the rest of the test; gives the URL.
fn serve(script: impl Fn(&Request) -> Answer + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let script = script.clone();
            std::thread::spawn(move || answer(stream.unwrap(), script));
        }
    });
    url
}

fn answer(mut stream: TcpStream, script: impl Fn(&Request) -> Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let lines = reader.by_ref().lines();
    let head: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let header = |name| head.iter().find_map(|line| line.strip_prefix(name));
    // A connection that is closed with something unread is reset, and the client may lose the answer.
    let length = header("content-length: ").map_or(0, |length| length.parse().unwrap());
    std::io::copy(&mut reader.take(length), &mut std::io::sink()).unwrap();
    let last = header("last-event-id: ");
    let request = Request {
        line: head[0].replace(" HTTP/1.1", ""),
        last: last.map(str::to_owned),
    };
    let (status, kind, body, stays) = match script(&request) {
        Answer::Json(status, body) => (status, "application/json", body.to_string(), false),
        Answer::Events(events) => (200, "text/event-stream", events, false),
        Answer::Silence(events) => (200, "text/event-stream", events, true),
    };
    // Without a length the body ends with the connection.
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
    // A client that has gone away is part of some scripts.
    let _ = stream.write_all((head + &body).as_bytes());
    if stays {
        std::thread::sleep(Duration::from_secs(20));
    }
}

fn problem() -> Value {
    json!({
        "type": "urn:rustci:problem:storage_failed", "title": "Storage failed", "status": 503,
        "detail": STORAGE, "code": "storage_failed", "hint": "free the disk",
    })
}

fn summary(status: &str, conclusion: Option<&str>) -> Value {
    json!({
        "id": 1, "project": "p", "pipeline": "ci", "file": ".rustci.yaml", "digest": "", "event": {"name": "manual"},
        "status": status, "conclusion": conclusion,
        "created_ms": 1, "started_ms": 2, "finished_ms": conclusion.map(|_| 3),
    })
}

fn run(status: &str, conclusion: Option<&str>) -> Value {
    let mut run = summary(status, conclusion);
    run["jobs"] = json!([]);
    run
}

fn event(name: &str, id: u64, data: &Value) -> String {
    format!("id: {id}\nevent: {name}\ndata: {data}\n\n")
}

/// What is the same in all scripts: the run, that goes on, and its submission.
fn usual(request: &Request) -> Answer {
    let running = || run("running", None);
    match request.line.as_str() {
        "GET /api/v1/runs?limit=1" => Answer::Json(
            200,
            json!({"runs": [summary("running", None)], "next": null}),
        ),
        "GET /api/v1/runs/1" => Answer::Json(200, running()),
        "POST /api/v1/runs" => Answer::Json(201, json!({"run": running()})),
        line if line.starts_with("HEAD /api/v1/blobs/") => Answer::Json(200, json!({})),
        _ => Answer::Json(404, problem()),
    }
}

#[test]
fn an_error_event_ends_every_way_to_follow() {
    let url = serve(|request| match request.line.split_once(' ') {
        Some((_, EVENTS)) => Answer::Silence(event("error", 0, &problem())),
        _ => usual(request),
    });
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: echo }] } }\n");
    let commands: [&[&str]; 3] = [
        &["run"],
        &["runs", "watch", "1"],
        &["runs", "logs", "-f", "1"],
    ];
    for command in commands {
        let args = [command, &["--server", &url, "--token", "t"]].concat();
        let said = world.rustci(&args).ended_with(5);
        said.complains(&format!("error: {url} failed: {STORAGE}"));
        said.complains("hint: free the disk");
    }
}

#[test]
fn a_cancel_that_is_refused_ends_the_command() {
    let (canceled, cancels) = channel();
    let url = serve(move |request| match request.line.as_str() {
        "GET /api/v1/runs/1/events" => Answer::Silence(": nothing happens\n\n".to_owned()),
        "POST /api/v1/runs/1/cancel" => {
            canceled.send(()).unwrap();
            Answer::Json(503, problem())
        }
        _ => usual(request),
    });
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: echo }] } }\n");
    let mut run = world.start(&["run", "--server", &url, "--token", "t"]);
    run.wait_for("ci");
    run.signal("INT");
    run.wait_for("canceling");
    let (code, rest) = run.finish();
    assert_eq!(code, Some(5), "{rest}");
    assert_eq!(count(&cancels), 1, "a refusal is not asked for again");
}

#[test]
fn a_stream_that_is_cut_off_goes_on_behind_its_last_event() {
    let (asked, requests) = channel();
    let url = serve(move |request| match request.line.split_once(' ') {
        Some((_, EVENTS)) => {
            asked.send(request.last.clone()).unwrap();
            Answer::Events(match request.last.as_deref() {
                None => event(
                    "run",
                    7,
                    &json!({"kind": "run", "run": summary("running", None)}),
                ),
                Some("7") => event("end", 8, &json!({"kind": "end", "conclusion": "success"})),
                Some(other) => panic!("nobody was told {other}"),
            })
        }
        _ => usual(request),
    });
    let world = World::new();
    let args = ["runs", "logs", "-f", "1", "--server", &url, "--token", "t"];
    world.rustci(&args).ended_with(0);
    let asked: Vec<_> = requests.try_iter().collect();
    assert_eq!(asked, [None, Some("7".to_owned())]);
}

fn count<T>(sent: &Receiver<T>) -> usize {
    sent.try_iter().count()
}
