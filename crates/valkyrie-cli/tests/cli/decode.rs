//! `valkyrie decode` against the vectors of the specification, and with input that is none.

use expect_test::{Expect, expect};
use serde_json::Value;
use valkyrie_frame::{Header, MessageType, StreamId};

use crate::world::World;

fn vectors(name: &str) -> Vec<Value> {
    let path = format!(
        "{}/../../spec/vectors/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).unwrap()).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// A frame around a body, on a stream where its type belongs.
fn frame(kind: MessageType, payload: &[u8], flags: u8) -> Vec<u8> {
    let stream = match kind.0 {
        0x30..=0x37 => 1001,
        0x41 => 10001,
        0x60..=0x63 | 0x80 => 1,
        _ => 0,
    };
    let length = u32::try_from(payload.len()).unwrap();
    let mut header = Header::new(kind, StreamId(stream), length);
    header.flags.0 = flags;
    let mut frame = header.to_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

#[test]
fn every_valid_frame_has_the_fields_of_its_vector() {
    let vectors = vectors("headers");
    let frames = vectors
        .iter()
        .map(|vector| vector["frame"].as_str().unwrap());
    let input = frames.collect::<Vec<_>>().join("\n");
    let lines = World::new()
        .feed(&["decode", "--json"], input.as_bytes())
        .json();
    assert_eq!(lines.len(), vectors.len());
    for (line, vector) in lines.iter().zip(&vectors) {
        for (ours, theirs) in [
            ("type", "type_name"),
            ("type_code", "type"),
            ("flags", "flag_names"),
            ("priority", "priority"),
            ("stream", "stream"),
            ("length", "length"),
            ("correlation", "correlation"),
            ("timestamp", "timestamp"),
        ] {
            // Types without a name have none in their vectors.
            if !vector[theirs].is_null() {
                assert_eq!(line[ours], vector[theirs], "{ours} of {vector}");
            }
        }
    }
}

#[test]
fn every_invalid_vector_is_named_by_its_rule() {
    let world = World::new();
    let mut checked = 0;
    for vector in vectors("invalid") {
        let given = bytes(vector["bytes"].as_str().unwrap());
        let input = match vector["input"].as_str().unwrap() {
            // A limit of the handshake shows only in a connection.
            "frame" if vector["payload_bytes_max"] != 262_144 => continue,
            "frame" => given,
            "extensions" => frame(MessageType(0x80), &given, 1 << 7),
            "compressed" => frame(MessageType::STREAM_DATA, &given, 1 << 3),
            name => {
                let name = name.replace("file_", "file_transfer_");
                let known = MessageType::ALL.iter().find(|kind| kind.name() == name);
                frame(*known.unwrap_or_else(|| panic!("{name}")), &given, 0)
            }
        };
        let said = world.feed(&["decode", "--json", "--format", "raw"], &input);
        let rules: Vec<Value> = said
            .json()
            .iter()
            .flat_map(|line| {
                let inside = line["violations"].as_array().cloned().unwrap_or_default();
                [vec![line.clone()], inside].concat()
            })
            .filter(|broken| broken["rule"] == vector["rule"] && broken["code"] == vector["code"])
            .collect();
        assert_eq!(rules.len(), 1, "{vector}: {said:?}");
        assert_eq!(said.code, Some(1), "{vector}");
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn structured_bodies_have_the_fields_of_their_vectors() {
    let world = World::new();
    let hello = &vectors("hello")[0];
    let both = format!("{}{}", hello["hello_frame"], hello["ack_frame"]).replace('"', "");
    let said = world.feed(&["decode", "--json"], both.as_bytes());
    let lines = said.json();
    assert_eq!(lines[0]["body"]["node"], "runner-1");
    assert_eq!(lines[0]["body"]["role"], "runner");
    assert_eq!(lines[0]["body"]["version_max"], "2.0");
    assert_eq!(lines[0]["body"]["limits"]["frame_max"], 262_144);
    assert_eq!(lines[1]["body"]["mode"], "plaintext");
    assert_eq!(lines[1]["offset"], 130);
    assert_eq!(said.code, Some(0));
}

fn check(input: &[u8], args: &[&str], expected: Expect) {
    let args = [&["decode"], args].concat();
    let said = World::new().feed(&args, input);
    expected.assert_eq(&format!(
        "{}{}code {}\n",
        said.out,
        said.err,
        said.code.unwrap()
    ));
}

#[test]
fn text_says_what_is_in_a_frame() {
    let mut input = frame(MessageType::STREAM_ACK, &[0; 16], 0);
    let mut call = vec![0, 31, 9, 0, 13];
    call.extend_from_slice(b"demo.Echo/Say");
    call.extend_from_slice(&[4, 0, 4, 0, 0, 19, 136, 0xFF, 0, 2, 1, 2, 3, 0, 0]);
    call.extend_from_slice(b"hello");
    let mut header = Header::new(MessageType::CALL, StreamId(1), 38);
    header.flags.0 = 1 << 7 | 1 << 6;
    header.correlation.0 = 1 << 12 | 5;
    header.timestamp = 1_795_000_000;
    input.extend_from_slice(&header.to_bytes());
    input.extend_from_slice(&call);
    check(
        &input,
        &[],
        expect![[r#"
                1  STREAM_ACK  stream 1001 (data)  16 B
                   consumed      0
                   limit         0
                2  CALL  stream 1 (system)  #5.1  38 B  urgent
                   sent          2026-11-18T11:06:40Z
                   method        demo.Echo/Say
                   deadline      5000
                   unknown(127)  0102  (critical)
                   baggage
                   bytes         5
                   text          hello
                   ! extension 127 is critical and not known (R-5.5)
            2 frames, 1 violation
            code 1
        "#]],
    );
}

#[test]
fn what_is_no_frame_is_named_with_its_place() {
    let mut input = frame(MessageType::PING, b"12345678", 0);
    input.extend_from_slice(b"GET / HTTP/1.1\r\n");
    check(
        &input,
        &["--brief"],
        expect![[r#"
                1  PING  stream 0  8 B
                   ! at byte 32: byte 0 of the frame is 0x47, not the magic 52 43 (R-3.1)
                   at byte 32: 16 bytes were not looked at, since no frame precedes them
            1 frame, 1 violation
            code 1
        "#]],
    );
}

#[test]
fn filters_choose_frames_by_stream_and_type() {
    let input = [
        frame(MessageType::PING, b"12345678", 0),
        frame(MessageType::STREAM_ACK, &[0; 16], 0),
        frame(MessageType::STREAM_DATA, b"x", 0),
    ]
    .concat();
    check(
        &input,
        &["--brief", "--stream", "1001", "--type", "stream_data"],
        expect![[r#"
                3  STREAM_DATA  stream 1001 (data)  1 B
            3 frames, 1 shown, no rule broken
            code 0
        "#]],
    );
}

#[test]
fn input_that_is_nothing_is_refused_with_a_hint() {
    check(
        b"What is this?",
        &[],
        expect![[r#"
            error: -: neither a capture nor frames nor hexadecimal
            hint: --format raw looks at the bytes all the same
            code 2
        "#]],
    );
    check(
        b"5243 02zz",
        &["--format", "hex"],
        expect![[r#"
            error: -: line 1: 'z' is not a hexadecimal digit
            hint: `xxd -p` writes hexadecimal that is read
            code 2
        "#]],
    );
    check(
        b"5243 0202 0080",
        &[],
        expect![[r#"
                   at byte 0: 6 bytes begin a frame that is not whole
            0 frames, 1 violation
            code 1
        "#]],
    );
}

#[test]
fn control_characters_of_a_peer_do_not_reach_the_terminal() {
    let mut error = vec![1, 0x91, 0, 0, 0, 0, 0, 0];
    error.extend_from_slice(b"\x1b[2Jgone");
    let input = frame(MessageType::ERROR, &error, 0);
    let said = World::new().feed(&["decode", "--color", "never"], &input);
    assert!(said.out.contains(r"\u{1b}[2Jgone"), "{said:?}");
    assert!(!said.out.contains('\u{1b}'), "{said:?}");
}
