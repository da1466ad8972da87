//! A matrix with values that come from expressions.
//!
//! It becomes one expression, whatever parts of it are in the file: the parts that are written out
//! are text that `format` fills the others into.

use std::rc::Rc;

use super::check::bare;
use super::draft::{DynamicDraft, FailFast};
use crate::diagnostic::Code;
use crate::limits::{MATRIX_MAX, STEPS_MAX};
use crate::report::Report;
use crate::shape::fields::{Fields, entries};
use crate::shape::values::{self, NameRule};
use crate::template::is_template;
use crate::yaml::{Node, NodeKind};

// `format` takes 255 arguments, its text among them.
const VALUES_MAX: usize = 254;
const _: () = assert!(VALUES_MAX < STEPS_MAX);

/// Whether there is an expression in a value.
pub(super) fn has_expression(node: &Node) -> bool {
    match &node.kind {
        NodeKind::Scalar(_) => is_expression(node),
        NodeKind::Sequence(items) => items.iter().any(|item| has_expression(item)),
        NodeKind::Mapping(entries) => entries.iter().any(|entry| has_expression(&entry.value)),
    }
}

fn is_expression(node: &Node) -> bool {
    node.text().is_some_and(is_template)
}

/// `matrix: ${{ .. }}`.
pub(super) fn whole(report: &mut Report<'_>, node: &Rc<Node>) -> Option<DynamicDraft> {
    check_expression(report, node)?;
    Some(DynamicDraft {
        expression: source(node),
        values: vec![Rc::clone(node)],
        names: None,
        fail_fast: FailFast::Yes,
        max_parallel: None,
    })
}

/// A matrix with its keys, some of whose values are expressions.
pub(super) fn parts(
    report: &mut Report<'_>,
    node: &Rc<Node>,
    fields: &Fields<'_>,
) -> Option<DynamicDraft> {
    let mut names = Some(Vec::new());
    if let Some(axes) = fields.get("axes") {
        check_axes(report, axes, &mut names)?;
    }
    for what in ["include", "exclude"] {
        if let Some(rows) = fields.get(what) {
            let mut own = check_rows(report, rows, what)?;
            if what == "include" {
                names = names.zip(own.take()).map(|(mut names, own)| {
                    names.extend(own);
                    names
                });
            }
        }
    }
    let mut text = Format::default();
    text.out.push_str("{{");
    let keys = ["axes", "include", "exclude"];
    let parts = keys.iter().filter_map(|key| Some((*key, fields.get(key)?)));
    for (index, (key, value)) in parts.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        text.out.push_str(&format!("{comma}\"{key}\":"));
        text.value(value);
    }
    text.out.push_str("}}");
    if text.values.len() > VALUES_MAX {
        let message = format!(
            "this matrix has {} values from expressions, at most {VALUES_MAX} are allowed",
            text.values.len()
        );
        report.error(Code::TOO_MANY, node.at.clone(), message);
        return None;
    }
    Some(DynamicDraft {
        expression: text.expression(),
        values: text.values,
        names,
        fail_fast: FailFast::Yes,
        max_parallel: None,
    })
}

/// A list of values or an expression for each axis, or an expression for all of them. `names`
/// becomes none when they are not in the file.
fn check_axes(
    report: &mut Report<'_>,
    node: &Rc<Node>,
    names: &mut Option<Vec<String>>,
) -> Option<()> {
    if is_expression(node) {
        *names = None;
        return check_expression(report, node);
    }
    for entry in entries(report, node, "`axes`")? {
        let name = values::name(report, &entry.key, "axis name", NameRule::Id)?;
        if let Some(names) = names {
            names.push(name);
        }
        match &entry.value.kind {
            NodeKind::Sequence(items) if items.is_empty() => {
                let message = "an axis without a value leaves no instance";
                report.error(Code::MATRIX, entry.key.at.clone(), message);
            }
            NodeKind::Sequence(_) => check_values(report, &entry.value)?,
            NodeKind::Scalar(_) if is_expression(&entry.value) => {
                check_expression(report, &entry.value)?;
            }
            _ => {
                let message = format!("an axis has to be a list, not {}", entry.value.kind_name());
                report.error(Code::TYPE, entry.value.at.clone(), message);
                return None;
            }
        }
    }
    Some(())
}

/// A list of mappings; the names in it, unless some are not in the file. The outer value is none
/// when there is a mistake.
fn check_rows(report: &mut Report<'_>, node: &Rc<Node>, what: &str) -> Option<Option<Vec<String>>> {
    if is_expression(node) {
        check_expression(report, node)?;
        return Some(None);
    }
    let NodeKind::Sequence(items) = &node.kind else {
        let message = format!("`{what}` has to be a list, not {}", node.kind_name());
        report.error(Code::TYPE, node.at.clone(), message);
        return None;
    };
    if items.len() > MATRIX_MAX {
        let message = format!("`{what}` has more than {MATRIX_MAX} entries");
        report.error(Code::TOO_MANY, node.at.clone(), message);
        return None;
    }
    let mut names = Some(Vec::new());
    for item in items {
        if is_expression(item) {
            check_expression(report, item)?;
            names = None;
            continue;
        }
        for entry in entries(report, item, &format!("an entry of `{what}`"))? {
            let name = values::name(report, &entry.key, "matrix name", NameRule::Id)?;
            if let Some(names) = &mut names {
                names.push(name);
            }
            check_values(report, &entry.value)?;
        }
    }
    Some(names)
}

/// Checks every expression in a value.
fn check_values(report: &mut Report<'_>, node: &Rc<Node>) -> Option<()> {
    match &node.kind {
        NodeKind::Scalar(_) if is_expression(node) => check_expression(report, node),
        NodeKind::Scalar(_) => Some(()),
        NodeKind::Sequence(items) => items
            .iter()
            .try_for_each(|item| check_values(report, item).ok_or(()))
            .ok(),
        NodeKind::Mapping(entries) => entries
            .iter()
            .try_for_each(|entry| check_values(report, &entry.value).ok_or(()))
            .ok(),
    }
}

/// A value is one expression, since its type is that of the result.
fn check_expression(report: &mut Report<'_>, node: &Rc<Node>) -> Option<()> {
    let text = node.text().unwrap_or_default();
    // An expression that cannot be read is told with all others.
    if bare(text).is_some() || crate::template::parse(text).is_err() {
        return Some(());
    }
    report
        .error(
            Code::MATRIX,
            node.at.clone(),
            "a value of a matrix has to be one expression, without text around it",
        )
        .help("put the text into it: `${{ format('app-{0}', needs.a.outputs.b) }}`");
    None
}

/// The expression of a value that is nothing but one.
fn source(node: &Node) -> String {
    let text = node.text().unwrap_or_default();
    bare(text).map_or_else(String::new, |(source, _)| source.trim().to_owned())
}

/// JSON as the text of a call of `format`, and what goes into it.
#[derive(Default)]
struct Format {
    out: String,
    values: Vec<Rc<Node>>,
}

impl Format {
    fn value(&mut self, node: &Rc<Node>) {
        match &node.kind {
            NodeKind::Scalar(_) if is_expression(node) => {
                self.out.push_str(&format!("{{{}}}", self.values.len()));
                self.values.push(Rc::clone(node));
            }
            NodeKind::Scalar(_) => self.text(&node.to_json().to_string()),
            NodeKind::Sequence(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.comma(index);
                    self.value(item);
                }
                self.out.push(']');
            }
            NodeKind::Mapping(entries) => {
                self.out.push_str("{{");
                for (index, entry) in entries.iter().enumerate() {
                    self.comma(index);
                    let name = entry.key.text().unwrap_or_default();
                    self.text(&serde_json::Value::from(name).to_string());
                    self.out.push(':');
                    self.value(&entry.value);
                }
                self.out.push_str("}}");
            }
        }
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.out.push(',');
        }
    }

    /// Adds text that `format` leaves as it is.
    fn text(&mut self, text: &str) {
        let text = text.replace('{', "{{").replace('}', "}}");
        self.out.push_str(&text.replace('\'', "''"));
    }

    /// `fromJSON(format('..', toJSON(..)))`.
    fn expression(&self) -> String {
        let values = self
            .values
            .iter()
            .map(|node| format!(", toJSON({})", source(node)));
        format!(
            "fromJSON(format('{}'{}))",
            self.out,
            values.collect::<String>()
        )
    }
}
