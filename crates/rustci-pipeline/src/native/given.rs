//! The inputs of a template and what is put in their places.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use serde_json::Value;

use super::check::bare;
use super::inputs;
use super::taint;
use crate::diagnostic::Code;
use crate::expr::{self, Contexts, Expr, ExprKind, Function};
use crate::limits::{INCLUDED_NODES_MAX, INCLUDED_TEXT_BYTES_MAX};
use crate::nearest::nearest;
use crate::pipeline::{Input, InputKind};
use crate::report::Report;
use crate::shape::fields::entries;
use crate::template::{self, Piece, is_template};
use crate::yaml::{Entry, Node, NodeKind, Scalar};

/// The value of an input.
#[derive(Clone, Debug)]
enum Given {
    /// Written in a file.
    Constant(Value),
    /// An expression of whoever includes the file; it keeps its meaning and its taint.
    Expression(String),
}

/// The inputs of one inclusion.
pub(super) struct Inputs {
    values: BTreeMap<String, Given>,
}

/// What all inclusions together may still cost.
pub(super) struct Budget {
    nodes: usize,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            nodes: INCLUDED_NODES_MAX,
            bytes: INCLUDED_TEXT_BYTES_MAX,
        }
    }
}

impl Budget {
    /// Takes the values of a file that is included; none when they are more than there may be.
    pub(super) fn pay(&mut self, report: &mut Report<'_>, user: &Node, root: &Node) -> Option<()> {
        let mut count = 0;
        self.nodes = if count_nodes(root, self.nodes, &mut count) {
            self.nodes - count
        } else {
            0
        };
        if self.nodes > 0 {
            return Some(());
        }
        let message = format!("included files have more than {INCLUDED_NODES_MAX} values in all");
        report.error(Code::INCLUDE_LIMIT, user.at.clone(), message);
        None
    }

    /// Takes what a text costs; false when that is more than there is.
    fn take(&mut self, bytes: usize) -> bool {
        match self.bytes.checked_sub(bytes) {
            Some(bytes) => {
                self.bytes = bytes;
                true
            }
            None => false,
        }
    }
}

/// Counts values; false as soon as there are more than `limit`.
fn count_nodes(node: &Node, limit: usize, count: &mut usize) -> bool {
    *count += 1;
    *count <= limit
        && match &node.kind {
            NodeKind::Scalar(_) => true,
            NodeKind::Sequence(items) => items.iter().all(|item| count_nodes(item, limit, count)),
            NodeKind::Mapping(entries) => {
                *count += entries.len();
                entries
                    .iter()
                    .all(|entry| count_nodes(&entry.value, limit, count))
            }
        }
}

/// Inputs declared by `declared`, with the values that `with` gives. `user` is where the file is
/// used, for what is missing. None when the file declares none: it then is a part of the pipeline
/// and sees the pipeline's own inputs.
pub(super) fn read(
    report: &mut Report<'_>,
    declared: Option<&Rc<Node>>,
    with: Option<&Rc<Node>>,
    user: &Node,
) -> Option<Inputs> {
    let known = declared.map(|node| inputs::inputs(report, node));
    let known = known.unwrap_or_default();
    let mut values = BTreeMap::new();
    for entry in with
        .and_then(|node| entries(report, node, "`with`"))
        .unwrap_or_default()
    {
        let name = entry.key.text().unwrap_or_default();
        match known.get(name) {
            Some(input) => {
                if let Some(value) = given(report, name, input, &entry.value) {
                    values.insert(name.to_owned(), value);
                }
            }
            None if report.is_full() => break,
            None => {
                let message = format!("the file has no input `{name}`");
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                let finding = report
                    .error(Code::TEMPLATE_INPUT, entry.key.at.clone(), message)
                    .nearest(nearest(name, names.iter().copied()));
                finding.help(match names.as_slice() {
                    [] => "it declares none: add `inputs:` to it".to_owned(),
                    names => format!("inputs: {}", names.join(", ")),
                });
            }
        }
    }
    declared?;
    let tried = |name: &str| with.is_some_and(|with| with.get(name).is_some());
    for (name, input) in &known {
        if values.contains_key(name) {
            continue;
        }
        if input.required && input.default.is_none() && !tried(name) {
            let message = format!("input `{name}` of the file is required");
            report
                .error(Code::TEMPLATE_INPUT, user.at.clone(), message)
                .help(format!("give it: `with: {{ {name}: .. }}`"));
        }
        let value = input.default.clone().unwrap_or_else(|| input.kind.empty());
        values.insert(name.clone(), Given::Constant(value));
    }
    Some(Inputs { values })
}

/// Inputs with their defaults, empty values, or examples where one has to be given, for a file that
/// is looked at by itself.
pub(super) fn examples(report: &mut Report<'_>, declared: &Rc<Node>) -> Inputs {
    let known = if declared.is_null() {
        BTreeMap::new()
    } else {
        inputs::inputs(report, declared)
    };
    let value = |name: &str, input: Input| match (input.default, &input.kind) {
        (Some(default), _) => default,
        (None, InputKind::String) if input.required => Value::from(name),
        (None, InputKind::Number) if input.required => Value::from(1),
        (None, kind) => kind.empty(),
    };
    let values = known.into_iter().map(|(name, input)| {
        let value = value(&name, input);
        (name, Given::Constant(value))
    });
    Inputs {
        values: values.collect(),
    }
}

/// The value that `with` gives to one input.
fn given(report: &mut Report<'_>, name: &str, input: &Input, node: &Rc<Node>) -> Option<Given> {
    let text = node.text().unwrap_or_default();
    if node.scalar().is_some() && is_template(text) {
        return expression(text).map(Given::Expression).or_else(|| {
            // The same words as for any other text with an expression that cannot be read.
            let error = template::parse(text).err();
            let message = error.map_or_else(String::new, |error| error.message);
            report.error(Code::EXPRESSION, node.at.clone(), message);
            None
        });
    }
    // `version: 1.10` for a text means these four characters.
    let value = match (&input.kind, node.scalar()) {
        (InputKind::String | InputKind::Choice(_), Some(_)) => Value::from(text),
        _ => node.to_json(),
    };
    match input.kind.check(&value) {
        Ok(value) => Some(Given::Constant(value)),
        Err(message) => {
            let message = format!("input `{name}` {message}");
            report.error(Code::TEMPLATE_INPUT, node.at.clone(), message);
            None
        }
    }
}

/// A text with expressions as one expression.
fn expression(text: &str) -> Option<String> {
    if let Some((source, _)) = bare(text) {
        return Some(source.trim().to_owned());
    }
    let mut pattern = String::new();
    let mut arguments = String::new();
    let mut count = 0;
    for piece in template::parse(text).ok()? {
        match piece {
            Piece::Text(text) => {
                let text = text.replace('{', "{{").replace('}', "}}");
                pattern.push_str(&text.replace('\'', "''"));
            }
            Piece::Expr { source, .. } => {
                pattern.push_str(&format!("{{{count}}}"));
                arguments.push_str(&format!(", {}", source.trim()));
                count += 1;
            }
        }
    }
    Some(format!("format('{pattern}'{arguments})"))
}

impl Inputs {
    /// The tree with the inputs in their places. What has none in it is shared.
    pub(super) fn fill(
        &self,
        report: &mut Report<'_>,
        budget: &mut Budget,
        node: &Rc<Node>,
    ) -> Rc<Node> {
        let mut filler = Filler {
            inputs: self,
            report,
            budget,
            spent: false,
        };
        filler.node(node, Conditions::Read)
    }
}

/// Whether a key `if` has a condition, or is a name like any other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conditions {
    Read,
    Names,
}

/// Mappings whose keys are names that people choose.
const OF_NAMES: [&str; 6] = ["env", "secrets", "outputs", "with", "axes", "inputs"];

struct Filler<'i, 'r, 't> {
    inputs: &'i Inputs,
    report: &'r mut Report<'t>,
    budget: &'r mut Budget,
    /// Whether the budget is used up, which is told once.
    spent: bool,
}

impl Filler<'_, '_, '_> {
    fn node(&mut self, node: &Rc<Node>, conditions: Conditions) -> Rc<Node> {
        if self.spent {
            return Rc::clone(node);
        }
        match &node.kind {
            NodeKind::Scalar(_) => self.scalar(node),
            NodeKind::Sequence(items) => {
                let filled: Vec<Rc<Node>> = items
                    .iter()
                    .map(|item| self.node(item, conditions))
                    .collect();
                if items
                    .iter()
                    .zip(&filled)
                    .all(|(old, new)| Rc::ptr_eq(old, new))
                {
                    return Rc::clone(node);
                }
                Node::instead(NodeKind::Sequence(filled), node.at.clone())
            }
            NodeKind::Mapping(entries) => self.mapping(node, entries, conditions),
        }
    }

    fn mapping(&mut self, node: &Rc<Node>, entries: &[Entry], conditions: Conditions) -> Rc<Node> {
        let mut filled = Vec::with_capacity(entries.len());
        let mut names = HashSet::new();
        let mut changed = false;
        for entry in entries {
            let key = self.key(&entry.key);
            let name = entry.key.text().unwrap_or_default();
            let value = if name == "if" && conditions == Conditions::Read {
                self.condition(&entry.value)
            } else if OF_NAMES.contains(&name) {
                self.node(&entry.value, Conditions::Names)
            } else {
                self.node(&entry.value, conditions)
            };
            if !Rc::ptr_eq(&key, &entry.key) {
                changed = true;
            }
            changed |= !Rc::ptr_eq(&value, &entry.value);
            if names.insert(key.text().unwrap_or_default().to_owned()) {
                filled.push(Entry { key, value });
            } else {
                let message = format!(
                    "key `{}` stands twice in this mapping",
                    key.text().unwrap_or_default()
                );
                self.report
                    .error(Code::DUPLICATE_KEY, key.at.clone(), message);
            }
        }
        if changed {
            Node::instead(NodeKind::Mapping(filled), node.at.clone())
        } else {
            Rc::clone(node)
        }
    }

    /// A key, which only takes what is written in the files.
    fn key(&mut self, node: &Rc<Node>) -> Rc<Node> {
        let filled = self.scalar(node);
        if !Rc::ptr_eq(node, &filled) && filled.text().is_some_and(is_template) {
            self.report
                .error(
                    Code::TEMPLATE_INPUT,
                    node.at.clone(),
                    "a key cannot have an input that is given by an expression",
                )
                .help("give the input a value that is written in the file");
        }
        filled
    }

    fn scalar(&mut self, node: &Rc<Node>) -> Rc<Node> {
        let text = node.text().filter(|text| is_template(text));
        // What cannot be read is told when all texts are checked.
        let Some((text, pieces)) = text.and_then(|text| Some((text, template::parse(text).ok()?)))
        else {
            return Rc::clone(node);
        };
        if let [
            Piece::Expr {
                expr,
                source,
                start,
            },
        ] = pieces.as_slice()
        {
            return match self.expression(node, expr, source, *start) {
                None => Rc::clone(node),
                Some(Filled::Value(value)) => self.instead(node, scalar_of(&value)),
                Some(Filled::Source(source)) => {
                    self.instead(node, Scalar::text(format!("${{{{ {source} }}}}")))
                }
            };
        }
        let mut out = String::with_capacity(text.len());
        let mut changed = false;
        for piece in &pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Expr {
                    expr,
                    source,
                    start,
                } => match self.expression(node, expr, source, *start) {
                    None => out.push_str(&format!("${{{{{source}}}}}")),
                    Some(filled) => {
                        changed = true;
                        match filled {
                            Filled::Value(value) => out.push_str(&value.to_text()),
                            Filled::Source(source) => {
                                out.push_str(&format!("${{{{ {source} }}}}"));
                            }
                        }
                    }
                },
            }
            if !self.take(node, out.len()) {
                return Rc::clone(node);
            }
        }
        if changed {
            self.instead(node, Scalar::text(out))
        } else {
            Rc::clone(node)
        }
    }

    /// A condition, which is an expression with or without braces.
    fn condition(&mut self, node: &Rc<Node>) -> Rc<Node> {
        let Some(text) = node.text().filter(|text| !is_template(text)) else {
            return self.scalar(node);
        };
        let Ok(expr) = expr::parse(text) else {
            return Rc::clone(node);
        };
        match self.expression(node, &expr, text, 0) {
            None => Rc::clone(node),
            Some(Filled::Value(value)) => {
                let text = literal(&value.to_json());
                self.instead(node, Scalar::text(text))
            }
            Some(Filled::Source(source)) => self.instead(node, Scalar::text(source)),
        }
    }

    fn instead(&mut self, node: &Rc<Node>, scalar: Scalar) -> Rc<Node> {
        if !self.take(node, scalar.text.len()) {
            return Rc::clone(node);
        }
        Node::instead(NodeKind::Scalar(scalar), node.at.clone())
    }

    /// One expression with the inputs in their places; none when it has none. `start` is where it
    /// begins in the text of `node`.
    fn expression(
        &mut self,
        node: &Rc<Node>,
        expr: &Expr,
        source: &str,
        start: usize,
    ) -> Option<Filled> {
        let mut found = Vec::new();
        uses(expr, &mut found);
        if found.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(source.len());
        let mut at = 0;
        for (range, name) in found {
            out.push_str(source.get(at..range.start).unwrap_or_default());
            match name.and_then(|name| self.find(name)) {
                Some(Given::Constant(value)) => out.push_str(&literal(value)),
                Some(Given::Expression(given)) if range.len() == source.trim().len() => {
                    out.push_str(given);
                }
                Some(Given::Expression(given)) => out.push_str(&format!("({given})")),
                None => {
                    let place = range.start + start..range.end + start;
                    self.unknown(node, place, name);
                    out.push_str("null");
                }
            }
            at = range.end;
        }
        out.push_str(source.get(at..).unwrap_or_default());
        if !self.take(node, out.len()) {
            return None;
        }
        let out = out.trim().to_owned();
        Some(constant(&out).map_or(Filled::Source(out), Filled::Value))
    }

    fn find(&self, name: &str) -> Option<&Given> {
        let mut all = self.inputs.values.iter();
        all.find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, given)| given)
    }

    fn unknown(&mut self, node: &Node, part: Range<usize>, name: Option<&str>) {
        let at = self.report.within(node, part);
        let names: Vec<&str> = self.inputs.values.keys().map(String::as_str).collect();
        let message = match name {
            Some(name) => format!("this file has no input `{name}`"),
            None => "the inputs of an included file are used one by one".to_owned(),
        };
        self.report
            .error(Code::UNKNOWN_PROPERTY, at, message)
            .nearest(name.and_then(|name| nearest(name, names.iter().copied())))
            .help(format!("inputs: {}", names.join(", ")));
    }

    /// Takes from the budget; reports when it is used up.
    fn take(&mut self, node: &Node, bytes: usize) -> bool {
        if self.spent {
            return false;
        }
        if self.budget.take(bytes) {
            return true;
        }
        self.spent = true;
        let message = format!(
            "inputs bring more than {INCLUDED_TEXT_BYTES_MAX} bytes of text into included files"
        );
        self.report
            .error(Code::INCLUDE_LIMIT, node.at.clone(), message);
        false
    }
}

/// An expression with its inputs.
enum Filled {
    /// Nothing in it is left open.
    Value(expr::Value),
    /// Still an expression.
    Source(String),
}

/// The places of `inputs.NAME` in an expression, in order; no name where it is computed.
fn uses<'e>(expr: &'e Expr, found: &mut Vec<(Range<usize>, Option<&'e str>)>) {
    match &expr.kind {
        ExprKind::Literal(_) => {}
        ExprKind::Context(name) => {
            if name.eq_ignore_ascii_case("inputs") {
                found.push((expr.at.clone(), None));
            }
        }
        ExprKind::Index(of, index) => {
            let of_inputs = taint::access(of).is_some_and(|access| {
                access.path.is_empty() && access.context.eq_ignore_ascii_case("inputs")
            });
            match index.literal_text().filter(|_| of_inputs) {
                Some(name) => found.push((expr.at.clone(), Some(name))),
                None => {
                    uses(of, found);
                    uses(index, found);
                }
            }
        }
        ExprKind::Star(inner) | ExprKind::Not(inner) => uses(inner, found),
        ExprKind::Compare(_, left, right) => {
            uses(left, found);
            uses(right, found);
        }
        ExprKind::And(items) | ExprKind::Or(items) | ExprKind::Call(_, items) => {
            items.iter().for_each(|item| uses(item, found));
        }
    }
}

/// The value of an expression that depends on nothing.
fn constant(source: &str) -> Option<expr::Value> {
    let expr = expr::parse(source).ok()?;
    let mut open = false;
    expr.walk(&mut |part| {
        open |= match &part.kind {
            ExprKind::Context(_) => true,
            ExprKind::Call(function, _) => function.is_status() || *function == Function::HashFiles,
            _ => false,
        };
    });
    let value = (!open).then(|| expr::evaluate(&expr, &Contexts::new()).ok())??;
    // A result that looks like an expression must not become one.
    let single = !matches!(
        value,
        expr::Value::Array(_) | expr::Value::Object(_) | expr::Value::Filtered(_)
    );
    (single && !is_template(&value.to_text())).then_some(value)
}

/// A value as an expression.
fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Null => "null".to_owned(),
        other => expr::Value::from(other).to_text(),
    }
}

/// A value that stands alone keeps its type.
fn scalar_of(value: &expr::Value) -> Scalar {
    match value {
        expr::Value::Bool(_) | expr::Value::Number(_) => Scalar::plain(value.to_text()),
        other => Scalar::text(other.to_text()),
    }
}
