//! `on`.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::fields::Fields;
use super::{inputs, keys, schedules, values};
use crate::diagnostic::Code;
use crate::glob::Glob;
use crate::nearest::nearest;
use crate::pipeline::{Filters, Input, Triggers};
use crate::report::Report;
use crate::yaml::{Node, NodeKind};

/// Reads `on`. Without it every event but a timed one starts the pipeline.
pub(super) fn triggers(
    report: &mut Report<'_>,
    node: Option<&Rc<Node>>,
) -> (Triggers, BTreeMap<String, Input>) {
    let Some(node) = node else {
        return (Triggers::every(), BTreeMap::new());
    };
    if !matches!(node.kind, NodeKind::Mapping(_)) {
        return (from_names(report, node), BTreeMap::new());
    }
    let mut triggers = Triggers::none();
    let mut declared = BTreeMap::new();
    let Some(fields) = Fields::read(report, node, &keys::ON) else {
        return (triggers, declared);
    };
    if fields.has("push") {
        triggers.push = Some(filters(report, fields.get("push"), "push"));
    }
    if fields.has("pull_request") {
        triggers.pull_request = Some(filters(report, fields.get("pull_request"), "pull_request"));
    }
    if fields.has("tag") {
        let patterns = fields.get("tag").map(|node| globs(report, node, "tag"));
        triggers.tag = Some(patterns.unwrap_or_default());
    }
    triggers.manual = fields.has("manual");
    if let Some(node) = fields.get("cron") {
        triggers.cron = schedules::schedules(report, node);
    } else if fields.has("cron") {
        no_schedule(report, node);
    }
    if let Some(manual) = fields.get("manual") {
        let manual = Fields::read(report, manual, &keys::MANUAL);
        let node = manual.and_then(|fields| fields.get("inputs"));
        declared = node
            .map(|node| inputs::inputs(report, node))
            .unwrap_or_default();
    }
    (triggers, declared)
}

/// `on: push` and `on: [push, tag]`.
fn from_names(report: &mut Report<'_>, node: &Rc<Node>) -> Triggers {
    let mut triggers = Triggers::none();
    for item in values::texts(report, node, "on") {
        if report.is_full() {
            break;
        }
        let name = item.text().unwrap_or_default();
        match name {
            "push" => triggers.push = Some(Filters::default()),
            "pull_request" => triggers.pull_request = Some(Filters::default()),
            "tag" => triggers.tag = Some(Vec::new()),
            "manual" => triggers.manual = true,
            "cron" => no_schedule(report, &item),
            _ => {
                report
                    .error(
                        Code::TRIGGER,
                        item.at.clone(),
                        format!("unknown event `{name}`"),
                    )
                    .nearest(keys::ON.nearest(name).or_else(|| nearest(name, ["push"])))
                    .help(format!("events: {}", keys::ON.known.join(", ")));
            }
        }
    }
    triggers
}

/// A time has to be said.
fn no_schedule(report: &mut Report<'_>, node: &Node) {
    report
        .error(Code::CRON, node.at.clone(), "`cron` does not say when")
        .help("write `on: { cron: [{ name: nightly, schedule: \"17 3 * * *\" }] }`");
}

/// Reads the filters of an event.
fn filters(report: &mut Report<'_>, node: Option<&Rc<Node>>, what: &str) -> Filters {
    let fields = node.and_then(|node| Fields::read(report, node, &keys::FILTERS));
    let Some(fields) = fields else {
        return Filters::default();
    };
    for (one, other) in [("branches", "branches-ignore"), ("paths", "paths-ignore")] {
        if let (Some(_), Some(node)) = (fields.get(one), fields.get(other)) {
            let message = format!("`{what}` has both `{one}` and `{other}`");
            report
                .error(Code::PATTERN, node.at.clone(), message)
                .help(format!(
                    "use `{one}` alone, with `!` in front of what is left out"
                ));
        }
    }
    let mut list = |name: &str| fields.get(name).map(|node| globs(report, node, name));
    Filters {
        branches: list("branches"),
        branches_ignore: list("branches-ignore"),
        paths: list("paths"),
        paths_ignore: list("paths-ignore"),
    }
}

/// Reads a list of patterns.
fn globs(report: &mut Report<'_>, node: &Rc<Node>, what: &str) -> Vec<Glob> {
    let mut globs = Vec::new();
    for item in values::texts(report, node, what) {
        let Some(pattern) = values::literal(report, &item, what) else {
            continue;
        };
        match Glob::parse(pattern) {
            Ok(glob) => globs.push(glob),
            Err(message) => {
                report.error(Code::PATTERN, item.at.clone(), message);
            }
        }
    }
    if !globs.is_empty() && globs.iter().all(Glob::is_negative) {
        let message = format!("`{what}` only says what does not fit, so nothing ever fits");
        report
            .error(Code::PATTERN, node.at.clone(), message)
            .help("begin the list with what fits, such as \"**\"");
    }
    globs
}
