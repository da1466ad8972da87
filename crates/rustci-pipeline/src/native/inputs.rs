//! `on.manual.inputs`.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::fields::{Fields, entries};
use super::keys;
use super::values::{self, NameRule};
use crate::diagnostic::Code;
use crate::pipeline::{Input, InputKind};
use crate::report::Report;
use crate::yaml::{Entry, Node};

/// Reads the inputs that a person can give.
pub(super) fn inputs(report: &mut Report<'_>, node: &Rc<Node>) -> BTreeMap<String, Input> {
    let mut inputs = BTreeMap::new();
    for entry in entries(report, node, "`inputs`").unwrap_or_default() {
        let name = values::name(report, &entry.key, "input name", NameRule::Id);
        if let Some((name, input)) = name.zip(input(report, entry)) {
            inputs.insert(name, input);
        }
    }
    inputs
}

/// Reads one input.
fn input(report: &mut Report<'_>, entry: &Entry) -> Option<Input> {
    let span = report
        .source_of(entry.key.at.start)
        .span(entry.key.at.clone());
    // `inputs: { target: }` is a text without a default.
    if entry.value.is_null() {
        return Some(Input {
            kind: InputKind::String,
            required: false,
            default: None,
            span,
        });
    }
    let fields = Fields::read(report, &entry.value, &keys::INPUT)?;
    let words = ["string", "number", "boolean", "choice"];
    let kind = match fields.get("type") {
        None if fields.has("options") => "choice",
        None => "string",
        Some(node) => values::word(report, node, "type", &words)?,
    };
    let options = fields
        .get("options")
        .map(|node| values::texts(report, node, "options"));
    let options: Vec<String> = options
        .unwrap_or_default()
        .iter()
        .filter_map(|node| node.text().map(str::to_owned))
        .collect();
    let kind = match kind {
        "number" => InputKind::Number,
        "boolean" => InputKind::Boolean,
        "choice" => InputKind::Choice(options),
        _ => InputKind::String,
    };
    check_options(report, entry, &fields, &kind);
    let required = fields
        .get("required")
        .and_then(|node| values::boolean(report, node, "required"));
    let default = fields
        .get("default")
        .and_then(|node| default(report, node, &kind));
    Some(Input {
        kind,
        required: required.unwrap_or(false),
        default,
        span,
    })
}

/// Reports options that are missing, or that fit nothing.
fn check_options(report: &mut Report<'_>, entry: &Entry, fields: &Fields<'_>, kind: &InputKind) {
    match kind {
        InputKind::Choice(options) if options.is_empty() => {
            report
                .error(
                    Code::INPUT,
                    entry.key.at.clone(),
                    "an input of type choice needs `options`",
                )
                .help("list what can be chosen: `options: [staging, prod]`");
        }
        InputKind::Choice(_) => {}
        _ => {
            if let Some(node) = fields.get("options") {
                report
                    .error(
                        Code::INPUT,
                        node.at.clone(),
                        "`options` only fits an input of type choice",
                    )
                    .help("write `type: choice`");
            }
        }
    }
}

/// The default, which has to be of the input's own type.
fn default(report: &mut Report<'_>, node: &Rc<Node>, kind: &InputKind) -> Option<Value> {
    // An empty text is a text like any other.
    let empty = *kind == InputKind::String && node.text() == Some("");
    if !empty {
        values::literal(report, node, "default")?;
    }
    // `default: 1.10` of a text input means these four characters.
    let given = match kind {
        InputKind::String | InputKind::Choice(_) => Value::from(node.text().unwrap_or_default()),
        InputKind::Number | InputKind::Boolean => node.to_json(),
    };
    match kind.check(&given) {
        Ok(value) => Some(value),
        Err(message) => {
            report.error(Code::INPUT, node.at.clone(), format!("`default` {message}"));
            None
        }
    }
}
