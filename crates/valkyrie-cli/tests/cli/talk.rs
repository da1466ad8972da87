//! `serve`, `ping` and `call` with each other.

use std::net::TcpListener;

use serde_json::Value;

use crate::world::{Said, World};

const TCP: &str = "valkyrie+tcp://127.0.0.1:0";

/// A test with a server on each transport.
fn everywhere(test: impl Fn(&World, &str)) {
    let world = World::new();
    for endpoint in [TCP, &world.unix("server.sock")] {
        let (server, at) = world.serve(endpoint);
        test(&world, &at);
        server.interrupt();
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

fn first_lines(said: &Said) -> Vec<&str> {
    said.err.lines().collect()
}

#[test]
fn pings_are_answered_and_summed_up() {
    everywhere(|world, at| {
        let said = world.run(&["ping", at, "-c", "3", "-i", "100ms", "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let lines = said.json();
        assert_eq!(lines.len(), 5, "{said:?}");
        assert_eq!(lines[0]["version"], "2.0");
        assert!(lines[0]["connected_us"].as_f64() <= lines[0]["ready_us"].as_f64());
        let end = lines.last().unwrap();
        assert_eq!(
            (&end["sent"], &end["answered"], &end["lost"]),
            (&3.into(), &3.into(), &0.into())
        );
        assert!(end["rtt_us"]["min"].as_f64() <= end["rtt_us"]["p99"].as_f64());
    });
}

#[test]
fn health_is_told_by_word_and_exit_code() {
    everywhere(|world, at| {
        for (service, word, code) in [
            (None, "serving\n", 0),
            (Some("demo.Echo"), "serving\n", 0),
            (Some("demo.Nothing"), "unknown\n", 1),
        ] {
            let args: Vec<&str> = ["health", at].into_iter().chain(service).collect();
            let said = world.run(&args);
            assert_eq!(
                (said.out.as_str(), said.code),
                (word, Some(code)),
                "{said:?}"
            );
        }
    });
}

#[test]
fn ctrl_c_ends_a_ping_with_its_sum() {
    let world = World::new();
    let (_server, at) = world.serve(TCP);
    let mut ping = world.start(&["ping", &at, "-i", "100ms"]);
    while !ping.line().starts_with("pong 1") {}
    ping.interrupt();
    let said = ping.wait();
    assert!(said.out.contains(" answered, "), "{said:?}");
    assert!(said.out.contains("min "), "{said:?}");
    assert!(matches!(said.code, Some(0 | 1)), "{said:?}");
}

#[test]
fn calls_answer_with_the_body_as_it_is() {
    everywhere(|world, at| {
        let said = world.run(&["call", at, "demo.Echo/Say", "--data", "hello"]);
        assert_eq!(
            (said.out.as_str(), said.code),
            ("hello", Some(0)),
            "{said:?}"
        );
        let said = world.run(&["call", at, "demo.Echo/Say", "--hex", "00 ff", "--json"]);
        let answer = &said.json()[0];
        assert_eq!(
            (&answer["hex"], &answer["bytes"]),
            (&"00ff".into(), &2.into())
        );
        let said = world.feed(&["call", at, "demo.Sink/Put", "--file", "-"], &[7; 100_000]);
        assert_eq!(said.out, "100000");
        let said = world.run(&["call", at, "demo.Source/Get", "--data", "5000000"]);
        assert_eq!(said.out.len(), 5_000_000);
        let said = world.run(&["call", at, "demo.Sink/Put", "--data", "x", "--message"]);
        assert_eq!((said.out.as_str(), said.code), ("", Some(0)), "{said:?}");
    });
}

#[test]
fn streams_carry_bytes_both_ways() {
    everywhere(|world, at| {
        let stream = |method: &str, input: &[u8], more: &[&str]| {
            let args = ["call", at, method, "--stream", "--file", "-"];
            world.feed(&[&args, more].concat(), input)
        };
        let said = stream("demo.Echo/Stream", &[b'x'; 3_000_000], &[]);
        assert_eq!((said.out.len(), said.code), (3_000_000, Some(0)));
        assert_eq!(stream("demo.Sink/Put", &[0; 700_000], &[]).out, "700000");
        let source = ["--metadata", "bytes=2000000"];
        assert_eq!(stream("demo.Source/Get", b"", &source).out.len(), 2_000_000);
        let said = stream("demo.Echo/Stream", b"hi", &["--json"]);
        let lines = said.json();
        assert_eq!(lines[0]["text"], "hi", "{said:?}");
        assert_eq!(lines.last().unwrap()["code"], 0);
        let said = stream("demo.Nothing/Here", b"", &[]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(
            said.err.contains("104 unexpected: there is no method"),
            "{said:?}"
        );
    });
}

#[test]
fn a_bench_checks_what_arrived() {
    everywhere(|world, at| {
        let said = world.run(&["bench", at, "--for", "100ms", "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let lines = said.json();
        let names: Vec<&Value> = lines.iter().map(|line| &line["bench"]).collect();
        assert_eq!(names, ["latency", "calls", "messages", "bulk"]);
        assert!(lines[1]["per_second"].as_f64().unwrap() > 0.0);
        assert!(lines[3]["bytes"].as_u64().unwrap() > 0);
    });
}

#[test]
fn top_shows_the_connections_of_a_server() {
    everywhere(|world, at| {
        let _other = world.start(&["ping", at, "-i", "100ms"]);
        let args = ["top", at, "--once", "--interval", "300ms"];
        let said = world.run(&[&args[..], &["--json"]].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        let look = &said.json()[0];
        assert!(look["connections_open"].as_u64().unwrap() >= 1, "{look}");
        let rows = look["connections"].as_array().unwrap();
        assert!(
            rows.iter()
                .all(|row| row["node"].as_str().unwrap().starts_with("valkyrie-cli/"))
        );
        assert!(
            rows[0]["flow"]["send_limit"].as_u64().unwrap() > 0,
            "{look}"
        );
        let said = world.run(&args);
        let heading = said.out.lines().nth(3).unwrap();
        assert!(
            heading.contains("CONN") && heading.contains("QUEUED"),
            "{said:?}"
        );
        assert!(
            said.out.lines().all(|line| line.chars().count() <= 80),
            "{said:?}"
        );
    });
}

#[test]
fn calls_speak_json_where_there_is_a_schema() {
    let world = World::new();
    let (_server, at) = world.serve(TCP);
    let proto = world.write(
        "echo.proto",
        "syntax = \"proto3\"; package demo; message Words { string text = 1; uint32 times = 2; }
         service Echo { rpc Say(Words) returns (Words); }",
    );
    let data = r#"{"text":"hi","times":3}"#;
    let call = ["call", &at, "demo.Echo/Say", "--proto", &proto, "--data"];
    let said = world.run(&[&call, &[data, "--json"][..]].concat());
    assert_eq!(
        said.json()[0]["body"],
        serde_json::from_str::<Value>(data).unwrap()
    );
    let said = world.run(&[&call, &[r#"{"word":"hi"}"#][..]].concat());
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("not the JSON of demo.Words"), "{said:?}");
}

#[test]
fn failures_of_a_call_have_words_and_codes() {
    everywhere(|world, at| {
        let said = world.run(&["call", at, "demo.Nothing/Here"]);
        assert_eq!(said.code, Some(1), "{said:?}");
        let expected = "error: 104 unexpected: there is no method demo.Nothing/Here here (R-10.8)";
        assert_eq!(first_lines(&said), [expected]);
        let wait = [
            "call",
            at,
            "demo.Clock/Wait",
            "--data",
            "60000",
            "--deadline",
            "50ms",
        ];
        let said = world.run(&wait);
        assert_eq!(said.code, Some(7), "{said:?}");
        assert_eq!(
            first_lines(&said)[0],
            "error: demo.Clock/Wait took longer than 50ms"
        );
        let said = world.run(&["call", at, "demo.Echo/Say", "--metadata", "Who=me"]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.starts_with("error: --metadata Who: "), "{said:?}");
        let said = world.run(&["call", at, "demo.Clock/Wait", "--data", "soon"]);
        assert_eq!(said.code, Some(1), "{said:?}");
    });
}

#[test]
fn ctrl_c_cancels_a_call() {
    let world = World::new();
    let (server, at) = world.serve(TCP);
    let call = world.start(&["call", &at, "demo.Clock/Wait", "--data", "60000"]);
    // The call is on its way when the server has answered another one of a later connection.
    world.run(&["call", &at, "demo.Echo/Say"]);
    call.interrupt();
    assert_eq!(call.wait().code, Some(130));
    server.interrupt();
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn wrong_endpoints_say_how_to_write_them() {
    let world = World::new();
    for (endpoint, problem) in [
        ("localhost:7443", "does not begin with valkyrie+tcp://"),
        ("valkyrie+tcp://localhost", "the port is missing"),
        ("valkyrie+unix://relative", "the path is not absolute"),
    ] {
        let said = world.run(&["ping", endpoint]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(problem), "{said:?}");
    }
    let said = world.run(&["ping", "valkyrie+mem://x"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("inside one process"), "{said:?}");
}

#[test]
fn nobody_there_is_told_with_the_reason() {
    let world = World::new();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let at = format!("valkyrie+tcp://{free}");
    let said = world.run(&["ping", &at]);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(
        said.err
            .starts_with(&format!("error: cannot connect to {at}: ")),
        "{said:?}"
    );
    assert!(
        said.err.contains("hint: nobody listens there now"),
        "{said:?}"
    );
    let said = world.run(&["call", &world.unix("none.sock"), "demo.Echo/Say"]);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(
        said.err.contains("hint: there is no socket at this path"),
        "{said:?}"
    );
}

#[test]
fn a_server_that_is_silent_or_no_server_is_told() {
    let world = World::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("valkyrie+tcp://{}", silent.local_addr().unwrap());
    let said = world.run(&["ping", &at, "--timeout", "50ms"]);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.err.contains("does not answer within 50ms"), "{said:?}");
    let http = std::thread::spawn(move || {
        // The first connection is the one that was given up above.
        drop(silent.accept().unwrap());
        let (mut stream, _) = silent.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        std::io::Read::read_to_end(&mut stream, &mut Vec::new()).ok();
    });
    let said = world.run(&["ping", &at]);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(
        said.err
            .contains("hint: does a Valkyrie server listen there?"),
        "{said:?}"
    );
    http.join().unwrap();
}

#[test]
fn a_place_that_is_taken_is_told() {
    let world = World::new();
    let (_server, at) = world.serve(&world.unix("server.sock"));
    let said = world.run(&["serve", &at]);
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(
        said.err.contains("is in use by another listener"),
        "{said:?}"
    );
}

#[test]
fn completions_are_for_the_program() {
    let said = World::new().run(&["completions", "bash"]);
    assert_eq!(said.code, Some(0));
    assert!(said.out.contains("_valkyrie"), "{said:?}");
}
