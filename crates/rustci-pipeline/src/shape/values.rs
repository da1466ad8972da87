//! Values of the simple types, with their checks.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Binding;
use super::fields::entries;
use crate::diagnostic::Code;
use crate::duration;
use crate::limits::{NAME_CHARS_MAX, TIMEOUT_MS_MAX};
use crate::nearest::nearest;
use crate::report::Report;
use crate::template::is_template;
use crate::yaml::{Core, Node, NodeKind, Scalar};

/// A scalar with some content, as it is written; templates are fine.
pub(crate) fn text(report: &mut Report<'_>, node: &Rc<Node>, what: &str) -> Option<Rc<Node>> {
    if node.scalar().is_none() {
        let message = format!("`{what}` has to be text, not {}", node.kind_name());
        report.error(Code::TYPE, node.at.clone(), message);
        return None;
    }
    if node.text().is_none_or(|text| text.trim().is_empty()) {
        report.error(Code::EMPTY, node.at.clone(), format!("`{what}` is empty"));
        return None;
    }
    Some(Rc::clone(node))
}

/// A scalar without expressions.
pub(crate) fn literal<'n>(
    report: &mut Report<'_>,
    node: &'n Rc<Node>,
    what: &str,
) -> Option<&'n str> {
    text(report, node, what)?;
    let value = node.text()?;
    if is_template(value) {
        let message = format!("`{what}` cannot have expressions");
        report.error(Code::VALUE, node.at.clone(), message);
        return None;
    }
    Some(value)
}

/// One of the words given.
pub(crate) fn word(
    report: &mut Report<'_>,
    node: &Rc<Node>,
    what: &str,
    words: &[&'static str],
) -> Option<&'static str> {
    let value = literal(report, node, what)?;
    let found = words.iter().find(|word| **word == value);
    if found.is_none() {
        let message = format!("`{value}` is not a value of `{what}`");
        report
            .error(Code::VALUE, node.at.clone(), message)
            .nearest(nearest(value, words.iter().copied()))
            .help(format!("one of: {}", words.join(", ")));
    }
    found.copied()
}

/// A boolean.
pub(crate) fn boolean(report: &mut Report<'_>, node: &Node, what: &str) -> Option<bool> {
    match node.scalar().map(|scalar| scalar.core) {
        Some(Core::Bool(flag)) => Some(flag),
        _ => {
            let shown = shown(node);
            let message = format!("`{what}` has to be true or false, not {shown}");
            report.error(Code::TYPE, node.at.clone(), message);
            None
        }
    }
}

/// A whole number in a range.
pub(crate) fn integer(
    report: &mut Report<'_>,
    node: &Node,
    what: &str,
    range: std::ops::RangeInclusive<i64>,
) -> Option<i64> {
    let Some(Core::Integer(number)) = node.scalar().map(|scalar| scalar.core) else {
        let shown = shown(node);
        let message = format!("`{what}` has to be a whole number, not {shown}");
        report.error(Code::TYPE, node.at.clone(), message);
        return None;
    };
    if !range.contains(&number) {
        let message = format!(
            "`{what}` is {number}, outside {} to {}",
            range.start(),
            range.end()
        );
        report.error(Code::RANGE, node.at.clone(), message);
        return None;
    }
    Some(number)
}

/// A duration that is not zero, in milliseconds, at most [`TIMEOUT_MS_MAX`].
pub(crate) fn duration(report: &mut Report<'_>, node: &Rc<Node>, what: &str) -> Option<u64> {
    duration_to(report, node, what, TIMEOUT_MS_MAX)
}

/// A duration that is not zero, in milliseconds.
pub(crate) fn duration_to(
    report: &mut Report<'_>,
    node: &Rc<Node>,
    what: &str,
    max_ms: u64,
) -> Option<u64> {
    let value = literal(report, node, what)?;
    let (message, help) = match duration::parse_ms(value) {
        Some(0) => (
            format!("`{what}` is zero, so nothing could ever run"),
            "give it time, or remove the key for the default".to_owned(),
        ),
        Some(ms) if ms > max_ms => (
            format!("`{what}` is longer than {}", duration::show_ms(max_ms)),
            "choose a shorter one".to_owned(),
        ),
        Some(ms) => return Some(ms),
        None => (
            format!("`{value}` is not a duration"),
            "write a number with its unit, such as 90s, 20m or 1h30m".to_owned(),
        ),
    };
    report
        .error(Code::DURATION, node.at.clone(), message)
        .help(help);
    None
}

/// A text or a list of texts.
pub(crate) fn texts(report: &mut Report<'_>, node: &Rc<Node>, what: &str) -> Vec<Rc<Node>> {
    match &node.kind {
        NodeKind::Scalar(_) => text(report, node, what).into_iter().collect(),
        NodeKind::Sequence(items) => {
            if items.is_empty() {
                report.error(
                    Code::EMPTY,
                    node.at.clone(),
                    format!("`{what}` is an empty list"),
                );
            }
            let texts = items.iter().filter_map(|item| text(report, item, what));
            texts.collect()
        }
        NodeKind::Mapping(_) => {
            let message = format!("`{what}` has to be text or a list of texts, not a mapping");
            report.error(Code::TYPE, node.at.clone(), message);
            Vec::new()
        }
    }
}

/// Names to templates; an empty value is an empty text.
pub(crate) fn bindings(
    report: &mut Report<'_>,
    node: &Rc<Node>,
    what: &str,
    valid: NameRule,
) -> Vec<Binding> {
    let mut bindings = Vec::new();
    for entry in entries(report, node, &format!("`{what}`")).unwrap_or_default() {
        let named = name(report, &entry.key, &format!("`{what}` name"), valid);
        if entry.value.scalar().is_none() {
            let message = format!(
                "a value in `{what}` has to be text, not {}",
                entry.value.kind_name()
            );
            report.error(Code::TYPE, entry.value.at.clone(), message);
        } else if let Some(name) = named {
            bindings.push(Binding {
                name,
                value: Rc::clone(&entry.value),
            });
        }
    }
    bindings
}

/// Environment names to names of secrets, from a mapping or from a list of names that are both.
pub(crate) fn secrets(report: &mut Report<'_>, node: &Rc<Node>) -> BTreeMap<String, String> {
    if let NodeKind::Mapping(entries) = &node.kind {
        let pairs = entries.iter().filter_map(|entry| {
            let variable = name(
                report,
                &entry.key,
                "environment name",
                NameRule::Environment,
            )?;
            let secret = name(report, &entry.value, "secret name", NameRule::Id)?;
            Some((variable, secret))
        });
        return pairs.collect();
    }
    let names = texts(report, node, "secrets");
    let names = names.iter().filter_map(|item| {
        let variable = name(report, item, "environment name", NameRule::Environment)?;
        Some((variable.clone(), variable))
    });
    names.collect()
}

/// What a name may consist of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// Letters, digits and `_`, no digit first.
    Environment,
    /// As for the environment, and `-` behind the first character.
    Id,
}

impl NameRule {
    /// Whether a name has only what it may have, however long it is.
    fn takes(self, name: &str) -> bool {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let inner =
            |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == '-' && self == Self::Id);
        name.starts_with(first) && name.chars().all(inner)
    }
}

/// Whether a name can be that of a variable in the environment of a job: letters, digits and `_`,
/// no digit first, and at most [`NAME_CHARS_MAX`] of them.
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    name.len() <= NAME_CHARS_MAX && NameRule::Environment.takes(name)
}

/// A name; reports one that is none.
pub(crate) fn name(
    report: &mut Report<'_>,
    node: &Node,
    what: &str,
    rule: NameRule,
) -> Option<String> {
    let value = node.text().unwrap_or_default();
    let valid = rule.takes(value);
    if valid && value.len() <= NAME_CHARS_MAX {
        return Some(value.to_owned());
    }
    let message = if valid {
        format!("{what} is longer than {NAME_CHARS_MAX} characters")
    } else {
        format!("`{value}` is not a valid {what}")
    };
    let signs = match rule {
        NameRule::Environment => "letters, digits and `_`",
        NameRule::Id => "letters, digits, `_` and `-`",
    };
    report
        .error(Code::NAME, node.at.clone(), message)
        .help(format!("use {signs}, beginning with a letter or `_`"));
    None
}

/// A value for a message about its type: in the quotes that make it text, where they do.
fn shown(node: &Node) -> String {
    let Some(scalar) = node.scalar() else {
        return node.kind_name().to_owned();
    };
    if Scalar::plain(scalar.text.clone()).core == scalar.core {
        return quoted(&scalar.text);
    }
    quoted(&format!("\"{}\"", scalar.text))
}

/// The beginning of a text, for a message.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("`{}`", short.lines().next().unwrap_or_default())
}
