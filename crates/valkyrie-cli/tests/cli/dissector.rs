//! The Wireshark dissector shows what `decode` shows.

use std::process::Command;

use serde_json::Value;

use crate::world::World;

const TCP: &str = "valkyrie+tcp://127.0.0.1:0";

/// What tshark says of a capture with the dissector.
fn tshark(file: &str, args: &[&str]) -> String {
    let script = format!(
        "lua_script:{}/../../spec/valkyrie.lua",
        env!("CARGO_MANIFEST_DIR")
    );
    let output = Command::new("tshark")
        .args(["-X", &script, "-r", file])
        .args(args)
        .output()
        .expect("tshark runs; install it with: apt-get install -y tshark");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    assert!(!errors.contains("valkyrie.lua"), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("Lua Error"), "{text}");
    text
}

/// The values of some fields, packet by packet; those of several frames in one are joined.
fn fields(file: &str, names: &[&str]) -> Vec<Vec<String>> {
    let mut args = vec!["-Y", "valkyrie", "-T", "fields", "-E", "separator=|"];
    names.iter().for_each(|name| args.extend(["-e", name]));
    let lines = tshark(file, &args);
    let cells = |line: &str| line.split('|').map(str::to_owned).collect();
    lines.lines().map(cells).collect()
}

/// Records `talk`, a list of arguments for the program, each to the address of the capture.
fn record(world: &World, talk: &[&[&str]]) -> String {
    let (_server, to) = world.serve(&world.unix("server.sock"));
    let file = world.file("talk.pcapng");
    let start = [
        "capture", "--json", "--listen", TCP, "--to", &to, "--write", &file,
    ];
    let mut capture = world.start(&start);
    let at = capture.json()["listen"].as_str().unwrap().to_owned();
    for args in talk {
        let (command, rest) = args.split_first().unwrap();
        let said = world.run(&[&[*command, at.as_str()], rest].concat());
        assert!(matches!(said.code, Some(0 | 1)), "{said:?}");
    }
    capture.interrupt();
    assert_eq!(capture.wait().code, Some(0));
    file
}

#[test]
fn every_frame_is_dissected_as_decode_explains_it() {
    let world = World::new();
    let file = record(
        &world,
        &[
            &["call", "demo.Echo/Say", "--data", "hello"],
            // In several segments each, and in fragments.
            &["call", "demo.Source/Get", "--data", "300000"],
            &["call", "demo.Nothing/Here"],
            &["call", "demo.Sink/Put", "--message", "--data", "gone"],
            &["ping", "-c", "2", "-i", "100ms"],
        ],
    );
    let names = ["type", "stream", "length", "correlation"];
    let wanted = names.map(|name| format!("valkyrie.{name}"));
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mut dissected: Vec<[String; 4]> = Vec::new();
    for packet in fields(&file, &wanted) {
        let mut columns: Vec<_> = packet.iter().map(|cell| cell.split(',')).collect();
        while let Some(kind) = columns[0].next() {
            let kind = u8::from_str_radix(kind.trim_start_matches("0x"), 16).unwrap();
            let [stream, length, correlation] =
                [1, 2, 3].map(|at| columns[at].next().unwrap().to_owned());
            dissected.push([kind.to_string(), stream, length, correlation]);
        }
    }
    let explained: Vec<[String; 4]> = world
        .run(&["decode", "--json", &file])
        .json()
        .iter()
        .filter(|line| line.get("frame").is_some())
        .map(|line| {
            ["type_code", "stream", "length", "correlation"].map(|name| line[name].to_string())
        })
        .collect();
    assert!(explained.len() > 20, "{explained:?}");
    let sorted = |mut frames: Vec<[String; 4]>| {
        frames.sort();
        frames
    };
    assert_eq!(sorted(dissected), sorted(explained));
    // Nothing in it is wrong but the call of a method that is not there.
    let experts = tshark(
        &file,
        &["-Y", "valkyrie", "-T", "fields", "-e", "_ws.expert.message"],
    );
    let experts: Vec<&str> = experts.lines().filter(|line| !line.is_empty()).collect();
    let [error] = experts.as_slice() else {
        panic!("{experts:?}");
    };
    assert!(
        error.starts_with("unexpected: there is no method demo.Nothing/Here"),
        "{error}"
    );
}

#[test]
fn fields_have_names_to_filter_by() {
    let world = World::new();
    let call = [
        "call",
        "demo.Echo/Say",
        "--data",
        "hello",
        "--metadata",
        "who=me",
    ];
    let file = record(&world, &[&call]);
    let one = |filter: &str, field: &str| {
        let found = tshark(&file, &["-Y", filter, "-T", "fields", "-e", field]);
        found.trim().to_owned()
    };
    assert_eq!(
        one("valkyrie.type == 0x60", "valkyrie.method"),
        "demo.Echo/Say"
    );
    assert_eq!(
        one("valkyrie.type == 0x60", "valkyrie.deadline_ms"),
        "30000"
    );
    assert_eq!(one("valkyrie.type == 0x60", "valkyrie.metadata"), "who");
    assert_eq!(
        one("valkyrie.hello.version_max", "valkyrie.hello.version_max"),
        "512"
    );
    assert!(one("valkyrie.hello.node", "valkyrie.hello.node").starts_with("valkyrie-cli/"));
    assert_eq!(one("valkyrie.type == 1", "valkyrie.hello_ack.mode"), "1");
    // The answer names its call, and the call its answer.
    let call = one("valkyrie.type == 0x60", "frame.number");
    assert_eq!(one("valkyrie.type == 0x61", "valkyrie.call_in"), call);
    let reply = one("valkyrie.type == 0x61", "frame.number");
    let later = tshark(
        &file,
        &[
            "-2",
            "-Y",
            "valkyrie.type == 0x60",
            "-T",
            "fields",
            "-e",
            "valkyrie.reply_in",
        ],
    );
    assert_eq!(later.trim(), reply);
    let info = one("valkyrie.type == 0x60", "_ws.col.Info");
    assert_eq!(info, "CALL [1000] demo.Echo/Say");
}

/// A capture of one direction with these bytes, through the program's own reader of text.
fn packets(world: &World, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
    let dump = world.write("bytes.txt", format!("000000 {hex}\n"));
    let file = world.file("bytes.pcapng");
    let output = Command::new("text2pcap")
        .args(["-q", "-T", "40000,7443", &dump, &file])
        .output()
        .expect("text2pcap runs; install it with: apt-get install -y tshark");
    assert!(output.status.success(), "{output:?}");
    file
}

#[test]
fn every_invalid_frame_of_the_vectors_has_its_rule_in_an_expert_info() {
    let world = World::new();
    let path = format!(
        "{}/../../spec/vectors/invalid.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let vectors: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut checked = 0;
    for vector in vectors.iter().filter(|vector| vector["input"] == "frame") {
        let hex = vector["bytes"].as_str().unwrap();
        // One byte tells nothing to a dissector, and a limit of the handshake shows only there.
        if hex.len() < 4 || vector["payload_bytes_max"] != 262_144 {
            continue;
        }
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let file = packets(&world, &bytes);
        let experts = tshark(&file, &["-T", "fields", "-e", "_ws.expert.message"]);
        let rule = format!("({})", vector["rule"].as_str().unwrap());
        assert!(experts.contains(&rule), "{vector}: {experts}");
        checked += 1;
    }
    assert!(checked > 10, "{checked}");
}
