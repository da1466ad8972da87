//! `${NAME}` and `${NAME:-default}` outside of scripts, where no shell would replace them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::task::Task;
use crate::diagnostic::Code;
use crate::limits::FILE_BYTES_MAX;
use crate::report::Report;
use crate::shape::Binding;
use crate::shape::values::{self, NameRule};
use crate::yaml::Node;

/// Names that every job has in its environment, and their values.
pub(super) const INJECTED: [(&str, &str); 6] = [
    ("WORKSPACE_PATH", "${{ runner.workspace }}"),
    ("WORKING_DIR", "${{ runner.workspace }}"),
    ("SOURCE_DIR", "${{ runner.workspace }}"),
    ("BUILD_DIR", "${{ runner.workspace }}/build"),
    ("ARTIFACTS_DIR", "${{ runner.workspace }}/artifacts"),
    ("EXECUTION_ID", "${{ run.id }}"),
];

/// The names that are set around some text. Inner scopes begin as a copy.
#[derive(Clone)]
pub(super) struct Names {
    values: BTreeMap<String, String>,
    /// Bytes of text that may still be made: names that hold names could grow without an end.
    left: Rc<Cell<usize>>,
}

/// The variables of one mapping.
#[derive(Default)]
pub(super) struct Declared {
    /// Those whose values are known before the job runs.
    pub(super) plain: Vec<Binding>,
    /// Those whose values need the runner.
    pub(super) late: BTreeMap<String, String>,
    /// `TOKEN: ${TOKEN}`: environment name to the secret of the same name.
    pub(super) secrets: BTreeMap<String, String>,
}

impl Declared {
    /// Adds what a mapping further down declares.
    pub(super) fn add(&mut self, other: Self) {
        self.plain.extend(other.plain);
        self.late.extend(other.late);
        self.secrets.extend(other.secrets);
    }

    /// Puts all of it under the environment of a task. `node` is the mapping.
    pub(super) fn under(&self, task: &mut Task, node: &Rc<Node>) {
        let plain = self.plain.iter().map(|Binding { name, value }| Binding {
            name: name.clone(),
            value: Rc::clone(value),
        });
        let late = self.late.iter().map(|(name, value)| Binding {
            name: name.clone(),
            value: Node::text_at(value.clone(), node.at.clone()),
        });
        let own = std::mem::take(&mut task.env);
        task.env = plain.chain(late).chain(own).collect();
        for (name, secret) in &self.secrets {
            task.secrets.entry(name.clone()).or_insert(secret.clone());
        }
    }
}

impl Names {
    pub(super) fn new() -> Self {
        let injected = INJECTED.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            values: BTreeMap::from(injected),
            left: Rc::new(Cell::new(FILE_BYTES_MAX)),
        }
    }

    /// Adds the axes of a matrix.
    pub(super) fn add_axes<'n>(&mut self, names: impl IntoIterator<Item = &'n String>) {
        for name in names {
            let value = format!("${{{{ matrix.{name} }}}}");
            self.values.insert(name.clone(), value);
        }
    }

    /// Reads a mapping of names to texts; each sees those further up.
    pub(super) fn declare(
        &mut self,
        report: &mut Report<'_>,
        node: &Rc<Node>,
        what: &str,
    ) -> Declared {
        let mut declared = Declared::default();
        for Binding { name, value } in values::bindings(report, node, what, NameRule::Environment) {
            let text = value.text().unwrap_or_default();
            if text == format!("${{{name}}}") && !self.values.contains_key(&name) {
                declared.secrets.insert(name.clone(), name);
                continue;
            }
            let text = self.replace(report, &value, text);
            if is_late(&text) {
                declared.late.insert(name.clone(), text.clone());
            } else {
                let value = Node::text_at(text.clone(), value.at.clone());
                declared.plain.push(Binding {
                    name: name.clone(),
                    value,
                });
            }
            self.values.insert(name, text);
        }
        declared
    }

    /// The text with every name replaced.
    pub(super) fn text(&self, report: &mut Report<'_>, node: &Rc<Node>) -> Rc<Node> {
        let text = node.text().unwrap_or_default();
        if !text.contains("${") {
            return Rc::clone(node);
        }
        Node::text_at(self.replace(report, node, text), node.at.clone())
    }

    fn replace(&self, report: &mut Report<'_>, node: &Rc<Node>, text: &str) -> String {
        let mut out = String::new();
        for piece in pieces(text) {
            let text = match piece {
                Piece::Text(text) => text,
                Piece::Name { name, default } => match (self.values.get(name), default) {
                    (Some(value), Some(default)) if value.is_empty() => default,
                    (Some(value), _) => value,
                    (None, Some(default)) => default,
                    (None, None) => {
                        unknown(report, node, name);
                        ""
                    }
                },
            };
            if self.left.get() < text.len() {
                let message = "the names in this file come to too much text";
                report.error(Code::SIZE, node.at.clone(), message);
                return out;
            }
            self.left.set(self.left.get() - text.len());
            out.push_str(text);
        }
        out
    }

    /// Whether scripts can have this name with a value from the file.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

/// Whether a value has a part that only a job has.
fn is_late(text: &str) -> bool {
    ["runner.", "run.", "matrix."]
        .iter()
        .any(|context| text.contains(&format!("${{{{ {context}")))
}

fn unknown(report: &mut Report<'_>, node: &Rc<Node>, name: &str) {
    let message = format!("`${{{name}}}` is set nowhere in this file, so it is empty");
    report
        .warning(Code::UNKNOWN_VARIABLE, node.at.clone(), message)
        .help(format!(
            "give it a value in `variables` or `environment`, or a default: `${{{name}:-value}}`"
        ));
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Text(&'t str),
    Name {
        name: &'t str,
        default: Option<&'t str>,
    },
}

/// Takes a text apart. What is no name in braces stays text, expressions too.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(found) = rest.get(from..).and_then(|tail| tail.find("${")) {
        let open = from + found;
        let Some((name, default, end)) = name_at(rest, open) else {
            from = open + 2;
            continue;
        };
        let (before, after) = (rest.get(..open), rest.get(end..));
        pieces.push(Piece::Text(before.unwrap_or_default()));
        pieces.push(Piece::Name { name, default });
        rest = after.unwrap_or_default();
        from = 0;
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// The name in the braces that open at `open`, its default, and where the braces end.
fn name_at(text: &str, open: usize) -> Option<(&str, Option<&str>, usize)> {
    let inner = text.get(open + 2..)?;
    let length = inner
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(inner.len());
    let (name, tail) = inner.split_at(length);
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let close = tail.find('}')?;
    let default = tail.get(..close)?;
    let end = open + 2 + length + close + 1;
    match default {
        _ if !valid => None,
        "" => Some((name, None, end)),
        _ => default
            .strip_prefix(":-")
            .map(|default| (name, Some(default), end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_braces_are_found_and_nothing_else() {
        let name = |name, default| Piece::Name { name, default };
        let cases = [
            ("plain", vec![Piece::Text("plain")]),
            (
                "a-${B}.c",
                vec![Piece::Text("a-"), name("B", None), Piece::Text(".c")],
            ),
            (
                "${B:-x y}",
                vec![Piece::Text(""), name("B", Some("x y")), Piece::Text("")],
            ),
            ("${{ git.ref }}", vec![Piece::Text("${{ git.ref }}")]),
            ("$B ${1} ${B", vec![Piece::Text("$B ${1} ${B")]),
            ("${B%.*}", vec![Piece::Text("${B%.*}")]),
            (
                "${${é}${_a}",
                vec![Piece::Text("${${é}"), name("_a", None), Piece::Text("")],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(pieces(text), expected, "{text}");
        }
    }
}
