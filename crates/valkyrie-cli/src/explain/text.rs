//! A frame as lines for people.

use serde_json::Value;
use valkyrie_frame::{Correlation, MessageType, Priority, TraceByte};

use super::{Explained, Fields, flag_names};
use crate::style::Colour;

/// Columns in front of the details of a frame.
const INDENT: &str = "       ";
/// Columns of the names of fields, at least.
const NAME_COLUMNS: usize = 12;

/// The line that names a frame, without what the capture tells about it.
pub(crate) fn head(explained: &Explained, colour: Colour) -> String {
    let header = &explained.header;
    let mut line = colour.bold(&kind_name(header.kind));
    line.push_str(&format!("  stream {}", header.stream));
    if header.stream.0 != 0 {
        line.push_str(&format!(" ({})", header.stream.class()));
    }
    if header.correlation != Correlation::NONE {
        line.push_str(&format!("  #{}", header.correlation));
    }
    line.push_str(&format!("  {} B", header.length));
    for flag in flag_names(header.flags) {
        if flag != "extensions" {
            line.push_str(&colour.cyan(&format!("  {flag}")));
        }
    }
    line
}

/// The name that the specification gives a type.
fn kind_name(kind: MessageType) -> String {
    match kind.name() {
        "unknown" | "application" => kind.to_string(),
        name => name.to_ascii_uppercase(),
    }
}

/// The lines below it: what is unusual in the header, extensions, body, broken rules.
pub(crate) fn details(explained: &Explained, columns: usize, colour: Colour) -> String {
    let header = &explained.header;
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    if header.priority != Priority::NORMAL {
        row(
            "priority",
            format!("{} ({})", header.priority.0, header.priority.band()),
        );
    }
    if header.trace != TraceByte::NONE {
        row("trace", trace(header.trace));
    }
    if header.timestamp != 0 {
        row("sent", timestamp(header.timestamp));
    }
    for extension in &explained.extensions {
        let text = |name: &str| extension.get(name).map(one_line).unwrap_or_default();
        let critical = match extension.get("critical") {
            Some(Value::Bool(true)) => "  (critical)",
            _ => "",
        };
        row(&text("name"), text("value") + critical);
    }
    flatten("", &explained.body, &mut rows);
    let names = rows.iter().map(|(name, _)| name.chars().count());
    let wide = names.max().unwrap_or_default().max(NAME_COLUMNS);
    let room = columns.saturating_sub(INDENT.len() + wide + 2).max(20);
    let mut text = String::new();
    for (name, value) in rows {
        for (at, part) in wrap(&value, room).into_iter().enumerate() {
            let shown = if at == 0 { name.as_str() } else { "" };
            let name = colour.dim(&format!("{shown:<wide$}"));
            text.push_str(format!("{INDENT}{name}  {part}").trim_end());
            text.push('\n');
        }
    }
    for broken in &explained.broken {
        text.push_str(&violation(&broken.text, broken.rule, colour));
    }
    text
}

/// The line about a broken rule.
pub(crate) fn violation(text: &str, rule: &str, colour: Colour) -> String {
    format!("{INDENT}{}\n", colour.red(&format!("! {text} ({rule})")))
}

/// Rows of the fields; those of inner structures have the outer name in front.
fn flatten(prefix: &str, fields: &Fields, rows: &mut Vec<(String, String)>) {
    for (name, value) in fields {
        let name = match prefix {
            "" => name.clone(),
            prefix => format!("{prefix}.{name}"),
        };
        match value {
            Value::Object(inner) => flatten(&name, inner, rows),
            Value::Array(values) if values.iter().any(Value::is_object) => {
                rows.extend(values.iter().map(|value| (name.clone(), one_line(value))));
            }
            Value::Array(values) => {
                let values: Vec<String> = values.iter().map(scalar).collect();
                rows.push((name, values.join(", ")));
            }
            other => rows.push((name, scalar(other))),
        }
    }
}

/// A structure of a list as `name=value name=value`.
fn one_line(value: &Value) -> String {
    let Value::Object(fields) = value else {
        return scalar(value);
    };
    let pairs = fields.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text:?}"),
        other => format!("{name}={other}"),
    });
    pairs.collect::<Vec<_>>().join(" ")
}

fn scalar(value: &Value) -> String {
    match value {
        // Bytes of a peer must not reach the terminal as control sequences.
        Value::String(text) if text.chars().any(char::is_control) => format!("{text:?}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Pieces of a value that fit into `room` columns.
fn wrap(value: &str, room: usize) -> Vec<String> {
    let characters: Vec<char> = value.chars().collect();
    if characters.is_empty() {
        return vec![String::new()];
    }
    let pieces = characters.chunks(room);
    pieces.map(|piece| piece.iter().collect()).collect()
}

fn trace(trace: TraceByte) -> String {
    let mut words = vec![match trace.mode() {
        valkyrie_frame::TraceMode::None => "none",
        valkyrie_frame::TraceMode::Inherit => "inherited from the stream",
        valkyrie_frame::TraceMode::InFrame => "in this frame",
        valkyrie_frame::TraceMode::Reserved => "reserved mode",
    }];
    words.extend(trace.is_sampled().then_some("sampled"));
    words.extend(trace.is_random_id().then_some("random id"));
    words.join(", ")
}

fn timestamp(seconds: u32) -> String {
    match jiff::Timestamp::from_second(i64::from(seconds)) {
        Ok(time) => time.to_string(),
        Err(_) => seconds.to_string(),
    }
}
