//! `triggers`.

use std::rc::Rc;

use super::keys;
use crate::diagnostic::Code;
use crate::glob::Glob;
use crate::native::schedules;
use crate::pipeline::{Filters, Triggers};
use crate::report::Report;
use crate::shape::fields::Fields;
use crate::shape::values;
use crate::yaml::{Node, NodeKind};

const TYPES: [&str; 6] = [
    "manual",
    "webhook",
    "schedule",
    "scheduled",
    "git_push",
    "pull_request",
];

/// Reads `triggers`. A person can always start an older pipeline; without the key every event but
/// a timed one does.
pub(super) fn triggers(report: &mut Report<'_>, node: Option<&Rc<Node>>) -> Triggers {
    let Some(node) = node else {
        return Triggers::every();
    };
    let mut triggers = Triggers {
        manual: true,
        ..Triggers::none()
    };
    let NodeKind::Sequence(items) = &node.kind else {
        let message = format!("`triggers` has to be a list, not {}", node.kind_name());
        report
            .error(Code::TYPE, node.at.clone(), message)
            .help("begin each trigger with `- trigger_type: `");
        return triggers;
    };
    for item in items {
        trigger(report, item, &mut triggers);
    }
    triggers
}

/// Adds one trigger.
fn trigger(report: &mut Report<'_>, node: &Rc<Node>, triggers: &mut Triggers) -> Option<()> {
    let fields = Fields::read(report, node, &keys::TRIGGER)?;
    if !fields.has("trigger_type") {
        let message = "this trigger has no `trigger_type`";
        report
            .error(Code::MISSING_KEY, node.at.clone(), message)
            .help(format!("one of: {}", TYPES.join(", ")));
    }
    let kind = values::word(report, fields.get("trigger_type")?, "trigger_type", &TYPES);
    let config = fields
        .get("config")
        .and_then(|node| Some((node, Fields::read(report, node, &keys::TRIGGER_CONFIG)?)));
    let config = config.as_ref().map(|(_, fields)| fields);
    let branches = branches(report, config);
    let filters = |branches| Filters {
        branches,
        ..Filters::default()
    };
    match kind? {
        "git_push" => add(&mut triggers.push, filters(branches)),
        "pull_request" => add(&mut triggers.pull_request, filters(branches)),
        "webhook" => webhook(report, config, triggers, &filters(branches)),
        "schedule" | "scheduled" => schedule(report, node, config, triggers),
        _ => {}
    }
    Some(())
}

/// Two triggers of one kind add up; one without patterns takes every branch.
fn add(slot: &mut Option<Filters>, filters: Filters) {
    let Some(known) = slot else {
        *slot = Some(filters);
        return;
    };
    known.branches = match (known.branches.take(), filters.branches) {
        (Some(mut one), Some(two)) => {
            one.extend(two);
            Some(one)
        }
        _ => None,
    };
}

/// The branches that a trigger is about.
fn branches(report: &mut Report<'_>, config: Option<&Fields<'_>>) -> Option<Vec<Glob>> {
    let node = config?.get("branch_patterns")?;
    let mut globs = Vec::new();
    for item in values::texts(report, node, "branch_patterns") {
        match Glob::parse(item.text().unwrap_or_default()) {
            Ok(glob) => globs.push(glob),
            Err(message) => {
                report.error(Code::PATTERN, item.at.clone(), message);
            }
        }
    }
    Some(globs)
}

/// What a forge tells about: the events that it names, pushes when it names none.
fn webhook(
    report: &mut Report<'_>,
    config: Option<&Fields<'_>>,
    triggers: &mut Triggers,
    filters: &Filters,
) {
    let node = config.and_then(|fields| fields.get("events"));
    let Some(node) = node else {
        return add(&mut triggers.push, filters.clone());
    };
    for item in values::texts(report, node, "events") {
        match values::word(report, &item, "events", &["push", "pull_request", "tag"]) {
            Some("push") => add(&mut triggers.push, filters.clone()),
            Some("pull_request") => add(&mut triggers.pull_request, filters.clone()),
            Some(_) => triggers.tag = Some(Vec::new()),
            None => {}
        }
    }
}

/// A time; the key has two names.
fn schedule(
    report: &mut Report<'_>,
    node: &Rc<Node>,
    config: Option<&Fields<'_>>,
    triggers: &mut Triggers,
) {
    let expression =
        config.and_then(|fields| fields.get("cron_expression").or_else(|| fields.get("cron")));
    let Some(expression) = expression else {
        report
            .error(
                Code::MISSING_KEY,
                node.at.clone(),
                "this trigger has no `cron_expression`",
            )
            .help("write `config: { cron_expression: \"0 2 * * *\" }`");
        return;
    };
    let name = format!("schedule-{}", triggers.cron.len() + 1);
    triggers
        .cron
        .extend(schedules::unnamed(report, expression, &name));
}
