//! `valkyrie capture`, and `decode` of what it wrote.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::Value;

use crate::world::{Running, World};

const TCP: &str = "valkyrie+tcp://127.0.0.1:0";

/// Starts a capture in front of `to`; gives it and where to connect.
fn capture(world: &World, to: &str, file: &str, more: &[&str]) -> (Running, String) {
    let start = [
        "capture", "--json", "--listen", TCP, "--to", to, "--write", file,
    ];
    let mut capture = world.start(&[&start, more].concat());
    let at = capture.json()["listen"].as_str().unwrap().to_owned();
    (capture, at)
}

fn types(lines: &[Value], from: &str) -> Vec<String> {
    lines
        .iter()
        .filter(|line| line["from"] == from)
        .filter_map(|line| line["type"].as_str())
        .map(str::to_owned)
        .collect()
}

#[test]
fn both_directions_are_recorded_whatever_carries_them() {
    for socket in [Some("server.sock"), None] {
        let world = World::new();
        let endpoint = socket.map_or(TCP.to_owned(), |name| world.unix(name));
        let (_server, to) = world.serve(&endpoint);
        let file = world.file("talk.pcapng");
        let (capture, at) = capture(&world, &to, &file, &[]);
        let said = world.run(&["call", &at, "demo.Echo/Say", "--data", "hello"]);
        assert_eq!(
            (said.out.as_str(), said.code),
            ("hello", Some(0)),
            "{said:?}"
        );
        capture.interrupt();
        let ended = capture.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.json()[0]["connections"], 1, "{ended:?}");

        let said = world.run(&["decode", "--json", &file]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let lines = said.json();
        assert_eq!(types(&lines, "initiator"), ["hello", "call", "close"]);
        let answers = types(&lines, "acceptor");
        assert_eq!(answers, ["hello_ack", "auth_success", "reply", "close"]);
        let reply = lines.iter().find(|line| line["type"] == "reply").unwrap();
        assert_eq!(reply["body"]["text"], "hello");
        assert!(reply["time"].as_str().unwrap().starts_with("20"), "{reply}");
    }
}

#[test]
fn a_capture_can_be_read_while_it_is_written() {
    let world = World::new();
    let (_server, to) = world.serve(&world.unix("server.sock"));
    let at = world.unix("tap.sock");
    let mut tap = world
        .command(&["capture", "--listen", &at, "--to", &to, "--write", "-"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = tap.stdout.take().unwrap();
    let mut decode = world.command(&["decode", "--json"]);
    let mut decode = decode.stdin(stdout).spawn().unwrap();
    while !world.path("tap.sock").exists() {
        std::thread::yield_now();
    }
    let said = world.run(&["call", &at, "demo.Echo/Say", "--data", "hello"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    // The frames are there although nothing has ended yet.
    let mut out = String::new();
    let mut buffer = [0; 4096];
    let stdout = decode.stdout.as_mut().unwrap();
    while !out.contains("\"reply\"") {
        let count = stdout.read(&mut buffer).unwrap();
        assert!(count > 0, "{out}");
        out.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    tap.kill().unwrap();
    tap.wait().unwrap();
    decode.wait().unwrap();
}

#[test]
fn a_server_that_is_not_there_ends_the_connection_and_is_named() {
    let world = World::new();
    let to = world.unix("nobody.sock");
    let (capture, at) = capture(&world, &to, &world.file("none.pcapng"), &[]);
    let said = world.run(&["call", &at, "demo.Echo/Say"]);
    assert_eq!(said.code, Some(5), "{said:?}");
    capture.interrupt();
    let ended = capture.wait();
    assert!(ended.err.contains("nobody.sock"), "{ended:?}");
    assert_eq!(ended.json()[0]["connections"], 0);
}

#[test]
fn the_file_stays_under_its_limit_and_the_connection_goes_on() {
    let world = World::new();
    let (_server, to) = world.serve(&world.unix("server.sock"));
    let file = world.file("short.pcapng");
    let (capture, at) = capture(&world, &to, &file, &["--max-size", "100K"]);
    let said = world.run(&["call", &at, "demo.Source/Get", "--data", "1000000"]);
    assert_eq!(said.out.len(), 1_000_000);
    capture.interrupt();
    let ended = capture.wait();
    let told = &ended.json()[0];
    assert_eq!(told["complete"], false, "{ended:?}");
    assert!(told["passed_bytes"].as_u64().unwrap() > 1_000_000);
    let length = std::fs::metadata(&file).unwrap().len();
    assert!(length < 200_000, "{length}");
    // It ends with a whole packet, and what is not there is told.
    let said = world.run(&["decode", &file]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("begin a frame that is not whole"),
        "{said:?}"
    );
}

#[test]
fn a_capture_ends_by_itself_after_its_time() {
    let world = World::new();
    let (_server, to) = world.serve(&world.unix("server.sock"));
    let (capture, _) = capture(&world, &to, &world.file("a.pcapng"), &["--for", "10ms"]);
    assert_eq!(capture.wait().code, Some(0));
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let world = World::new();
    let at = world.unix("tap.sock");
    let said = world.run(&[
        "capture",
        "--listen",
        &at,
        "--to",
        &at,
        "--write",
        "/nowhere/a.pcapng",
    ]);
    assert_eq!(said.code, Some(5));
    assert!(
        said.err
            .starts_with("error: cannot write /nowhere/a.pcapng: "),
        "{said:?}"
    );
}

/// What the program made of a conversation that begins like this.
fn recorded(world: &World, name: &str, bytes: &[u8]) -> String {
    let (_server, to) = world.serve(&world.unix(&format!("{name}.sock")));
    let file = world.file(&format!("{name}.pcapng"));
    let (capture, at) = capture(world, &to, &file, &[]);
    let address = at.strip_prefix("valkyrie+tcp://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // The server ends the connection.
    stream.read_to_end(&mut answer).unwrap();
    capture.interrupt();
    assert_eq!(capture.wait().code, Some(0));
    file
}

#[test]
fn a_peer_that_speaks_something_else_is_shown_with_the_answer_it_got() {
    let world = World::new();
    let file = recorded(&world, "http", b"GET / HTTP/1.1\r\n\r\n");
    let said = world.run(&["decode", "--json", &file]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let lines = said.json();
    let broken = lines.iter().find(|line| line["problem"] == "no_frame");
    assert_eq!(broken.unwrap()["rule"], "R-3.1", "{said:?}");
    let error = lines.iter().find(|line| line["type"] == "error").unwrap();
    assert_eq!(error["body"]["code_name"], "magic");
    assert_eq!(error["from"], "acceptor");
}

#[test]
fn frames_before_authentication_are_judged_by_the_rules_for_them() {
    let world = World::new();
    let ping = [
        b"\x52\x43\x02\x02\0\x80\0\0\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0".as_slice(),
        b"12345678",
    ];
    let file = recorded(&world, "early", &ping.concat());
    let said = world.run(&["decode", "--json", &file]);
    let lines = said.json();
    let ping = lines.iter().find(|line| line["type"] == "ping").unwrap();
    assert_eq!(ping["violations"][0]["rule"], "R-4.3", "{said:?}");
}

#[test]
fn damaged_captures_never_end_the_program_otherwise_than_with_an_error() {
    let world = World::new();
    let (_server, to) = world.serve(&world.unix("server.sock"));
    let file = world.file("whole.pcapng");
    let (capture, at) = capture(&world, &to, &file, &[]);
    world.run(&["call", &at, "demo.Echo/Say", "--data", "hello"]);
    capture.interrupt();
    capture.wait();
    let whole = std::fs::read(&file).unwrap();
    for seed in 0..24_usize {
        let mut damaged = whole.clone();
        if seed % 2 == 0 {
            damaged.truncate(whole.len() * seed / 24);
        }
        // Every second damaged file keeps its first block, or little more would be looked at.
        for hit in 0..seed % 5 {
            let at = (seed * 7_919 + hit * 104_729) % damaged.len().max(1);
            if let Some(byte) = damaged.get_mut(at.max(200)) {
                *byte ^= 1 << (seed % 8);
            }
        }
        let said = world.run(&["decode", "--json", &world.write("damaged.pcapng", &damaged)]);
        assert!(matches!(said.code, Some(0..=2)), "{seed}: {said:?}");
        assert!(!said.err.contains("panicked"), "{seed}: {said:?}");
    }
}
