//! The specification's own tables, held against the constants.

use std::{collections::BTreeSet, fs, path::Path};

use serde::Deserialize;
use valkyrie_frame::{ErrorCode, MessageType, SecurityMode, limits};

use crate::load;

fn protocol() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/protocol.md");
    fs::read_to_string(path).unwrap()
}

/// The cells of every table row of one chapter.
fn rows(text: &str, chapter: &str) -> Vec<Vec<String>> {
    let start = text.find(&format!("\n## {chapter}")).unwrap() + 1;
    let body = &text[start..];
    let end = body[3..].find("\n## ").map_or(body.len(), |end| end + 3);
    let lines = body[..end]
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines
        .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn message_types_are_those_of_chapter_4() {
    let text = protocol();
    let listed: Vec<_> = rows(&text, "4. ")
        .into_iter()
        .filter_map(|row| {
            let value = u8::from_str_radix(row[0].trim_matches('`'), 16).ok()?;
            Some((value, row[1].to_lowercase()))
        })
        .collect();
    let known: Vec<_> = MessageType::ALL
        .iter()
        .map(|kind| (kind.0, kind.name().to_owned()))
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn error_codes_are_those_of_chapter_15() {
    let text = protocol();
    let pairs = rows(&text, "15. ").into_iter().filter(|row| row.len() == 5);
    let listed: BTreeSet<_> = pairs
        .flat_map(|row| {
            [
                (row[0].clone(), row[1].clone()),
                (row[3].clone(), row[4].clone()),
            ]
        })
        .filter_map(|(code, name)| Some((code.parse::<u16>().ok()?, name)))
        .collect();
    let named = ErrorCode::ALL
        .iter()
        .filter(|code| **code != ErrorCode::NONE);
    let known: BTreeSet<_> = named.map(|code| (code.0, code.name().to_owned())).collect();
    assert_eq!(listed, known);
}

#[test]
fn security_modes_are_those_of_chapter_7() {
    let text = protocol();
    for row in rows(&text, "7. ") {
        if let (Ok(mode), true) = (row[0].parse::<u32>(), row[1].starts_with('`')) {
            assert_eq!(SecurityMode(mode).name(), row[1].trim_matches('`'));
        }
    }
}

#[test]
fn defaults_are_those_of_chapter_21() {
    let text = protocol();
    let default = |what: &str| {
        let row = rows(&text, "21. ").into_iter().find(|row| row[0] == what);
        let row = row.unwrap_or_else(|| panic!("no row {what}"));
        row[1]
            .split(' ')
            .next()
            .unwrap()
            .replace(',', "")
            .parse::<u64>()
            .unwrap()
    };
    let [system, jobs, data, logs] = limits::CLASS_WINDOW_BYTES.map(u64::from);
    assert_eq!(
        (system, jobs),
        (default("`class_window` system, jobs"), system)
    );
    assert_eq!(
        (data, logs),
        (
            default("`class_window` data"),
            default("`class_window` logs")
        )
    );
    for (what, value) in [
        (
            "frame payload before AUTH_SUCCESS",
            limits::PRE_AUTH_PAYLOAD_BYTES_MAX,
        ),
        (
            "frame payload on stream 0",
            limits::CONTROL_PAYLOAD_BYTES_MAX,
        ),
        (
            "`frame_max`, frame payload",
            limits::FRAME_PAYLOAD_BYTES_MAX,
        ),
        ("`message_max`", limits::MESSAGE_BYTES_MAX),
        ("`connection_window`", limits::CONNECTION_WINDOW_BYTES),
        ("`streams_max`", limits::STREAMS_MAX),
        ("`calls_max`", limits::CALLS_MAX),
    ] {
        assert_eq!(default(what), u64::from(value), "{what}");
    }
    for (what, value) in [
        ("extension block", limits::EXTENSIONS_BYTES_MAX),
        ("method in extensions, node", limits::METHOD_BYTES_MAX),
        ("STREAM_OPEN metadata", limits::METADATA_MAX),
        ("ERROR text", limits::ERROR_TEXT_BYTES_MAX),
        ("file name", limits::FILE_NAME_BYTES_MAX),
        ("log record", limits::LOG_RECORD_BYTES_MAX),
    ] {
        assert_eq!(default(what), value as u64, "{what}");
    }
}

#[derive(Deserialize)]
struct Ruled {
    name: String,
    rule: String,
}

#[test]
fn rules_are_numbered_once_and_vectors_name_existing_ones() {
    let text = protocol();
    let mut rules = BTreeSet::new();
    for line in text.lines() {
        if let Some((rule, _)) = line
            .strip_prefix("- **R-")
            .and_then(|rest| rest.split_once("**"))
        {
            assert!(rules.insert(format!("R-{rule}")), "R-{rule} is there twice");
        }
    }
    for vector in load::<Ruled>("invalid.json") {
        assert!(
            rules.contains(&vector.rule),
            "{}: no rule {}",
            vector.name,
            vector.rule
        );
    }
}
