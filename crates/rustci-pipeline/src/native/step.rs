//! Steps.

use std::rc::Rc;

use super::draft::StepDraft;
use super::fields::Fields;
use super::job::retry;
use super::keys;
use super::values::{self, NameRule};
use crate::diagnostic::Code;
use crate::limits::{PARALLEL_STEPS_MAX, STEPS_MAX};
use crate::nearest::nearest;
use crate::plan::{Retry, RetryOn};
use crate::report::Report;
use crate::yaml::{Entry, Node, NodeKind};

/// The key of an item that is a group of steps.
const GROUP: &str = "parallel";

const SHELLS: [&str; 3] = ["bash", "sh", "python"];

/// The steps of a job.
pub(super) fn steps(report: &mut Report<'_>, node: &Rc<Node>) -> Vec<StepDraft> {
    let NodeKind::Sequence(items) = &node.kind else {
        let message = format!("`steps` has to be a list, not {}", node.kind_name());
        report
            .error(Code::TYPE, node.at.clone(), message)
            .help("begin each step with `- run: `");
        return Vec::new();
    };
    if items.is_empty() {
        report.error(Code::EMPTY, node.at.clone(), "`steps` is an empty list");
    }
    let places = places(report, items);
    if let Some((first_over, _)) = places.get(STEPS_MAX) {
        let message = format!(
            "a job has at most {STEPS_MAX} steps, this one has {}",
            places.len()
        );
        report.error(Code::TOO_MANY, first_over.at.clone(), message);
    }
    places
        .into_iter()
        .take(STEPS_MAX)
        .filter_map(|(item, parallel)| {
            Some(StepDraft {
                parallel,
                ..step(report, item)?
            })
        })
        .collect()
}

/// Where each step stands, with the number of its group.
fn places<'n>(report: &mut Report<'_>, items: &'n [Rc<Node>]) -> Vec<(&'n Rc<Node>, Option<u32>)> {
    let mut places = Vec::new();
    let mut groups = 0;
    for item in items {
        if item.get(GROUP).is_none() {
            places.push((item, None));
            continue;
        }
        groups += 1;
        let members = members(report, item).iter();
        let members = members.filter(|member| member.get(GROUP).is_none());
        places.extend(members.map(|member| (member, Some(groups))));
    }
    places
}

/// The steps of a group; none when it is not well made, which is told.
fn members<'n>(report: &mut Report<'_>, item: &'n Node) -> &'n [Rc<Node>] {
    let NodeKind::Mapping(entries) = &item.kind else {
        return &[];
    };
    let mut found: &[Rc<Node>] = &[];
    for Entry { key, value } in entries {
        let name = key.text().unwrap_or_default();
        if name == GROUP {
            found = group(report, key, value);
            continue;
        }
        let message = format!("`{name}` cannot stand beside `{GROUP}`");
        report
            .error(Code::UNKNOWN_KEY, key.at.clone(), message)
            .help("write it into the steps of the group that it is for");
    }
    found
}

/// The list under `parallel`.
fn group<'n>(report: &mut Report<'_>, key: &Node, value: &'n Node) -> &'n [Rc<Node>] {
    const LIST: &str = "list the steps that run at the same time, each with `run`";
    if value.is_null() {
        let message = format!("`{GROUP}` has no value");
        report
            .error(Code::EMPTY, key.at.clone(), message)
            .help(LIST);
        return &[];
    }
    let NodeKind::Sequence(members) = &value.kind else {
        let message = format!(
            "`{GROUP}` has to be a list of steps, not {}",
            value.kind_name()
        );
        report
            .error(Code::TYPE, value.at.clone(), message)
            .help(LIST);
        return &[];
    };
    match members.as_slice() {
        [] => {
            let message = format!("`{GROUP}` is an empty list");
            report
                .error(Code::EMPTY, value.at.clone(), message)
                .help(LIST);
        }
        [_] => {
            let message = format!("`{GROUP}` has one step, and nothing that runs beside it");
            report
                .error(Code::VALUE, value.at.clone(), message)
                .help("add another one, or write it as a step of its own");
        }
        _ => {}
    }
    if let Some(first_over) = members.get(PARALLEL_STEPS_MAX) {
        let (max, count) = (PARALLEL_STEPS_MAX, members.len());
        let message = format!("at most {max} steps run at the same time, here are {count}");
        report
            .error(Code::TOO_MANY, first_over.at.clone(), message)
            .help("make a second group of the rest");
    }
    for member in members {
        nested(report, member);
    }
    members
}

/// Reports a group inside of a group.
fn nested(report: &mut Report<'_>, member: &Node) {
    let NodeKind::Mapping(entries) = &member.kind else {
        return;
    };
    let inner = entries.iter().find(|entry| entry.key.text() == Some(GROUP));
    if let Some(inner) = inner {
        let message = format!("a group of `{GROUP}` cannot have another one in it");
        report
            .error(Code::UNKNOWN_KEY, inner.key.at.clone(), message)
            .help("write its steps into the outer group: they all start at the same time");
    }
}

/// Reads one step; none when there is nothing to run.
fn step(report: &mut Report<'_>, node: &Rc<Node>) -> Option<StepDraft> {
    if let Some(text) = node.text() {
        let first: String = text
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(40)
            .collect();
        report
            .error(
                Code::TYPE,
                node.at.clone(),
                "a step has to be a mapping, not text",
            )
            .help(format!("write `- run: {first}`"));
        return None;
    }
    let fields = Fields::read(report, node, &keys::STEP)?;
    let shell = fields
        .get("shell")
        .map(|node| shell(report, node))
        .unwrap_or_default();
    let id = fields
        .get("id")
        .filter(|id| values::name(report, id, "step id", NameRule::Id).is_some());
    let timeout_ms = fields
        .get("timeout")
        .and_then(|node| values::duration(report, node, "timeout"));
    let mut text = |name: &str| {
        fields
            .get(name)
            .and_then(|node| values::text(report, node, name))
    };
    let [name, run, condition] = ["name", "run", "if"].map(&mut text);
    let [working_directory, continue_on_error] =
        ["working-directory", "continue-on-error"].map(&mut text);
    let env = fields
        .get("env")
        .map(|node| values::bindings(report, node, "env", NameRule::Environment))
        .unwrap_or_default();
    let retry = fields
        .get("retry")
        .map(|node| step_retry(report, node))
        .unwrap_or_default();
    // A step of a later kind has its own finding, which stops the plan.
    let other_kind = fields.has("uses") || fields.has("image");
    if !fields.has("run") && !other_kind {
        report
            .error(Code::MISSING_KEY, node.at.clone(), "this step has no `run`")
            .help("a step needs a command: `run: make test`");
    }
    Some(StepDraft {
        id: id.cloned(),
        name,
        run: run?,
        shell,
        working_directory,
        env,
        condition,
        timeout_ms,
        continue_on_error,
        retry,
        parallel: None,
    })
}

/// The shell of a step; empty when there is none or a wrong one.
pub(super) fn shell(report: &mut Report<'_>, node: &Rc<Node>) -> String {
    let Some(value) = values::literal(report, node, "shell") else {
        return String::new();
    };
    if SHELLS.contains(&value) || value.contains("{0}") {
        return value.to_owned();
    }
    let message = format!("`{value}` is not a shell this version knows");
    report
        .error(Code::VALUE, node.at.clone(), message)
        .nearest(nearest(value, SHELLS))
        .help("bash, sh, python, or a command line with {0} where the script file goes");
    String::new()
}

/// Tries of a step are made where it runs, so only its own exit can be a cause.
fn step_retry(report: &mut Report<'_>, node: &Rc<Node>) -> Retry {
    let mut retry = retry(report, node);
    let own = |on: &RetryOn| matches!(on, RetryOn::Failure | RetryOn::ExitCode(_));
    if !retry.on.iter().all(own) {
        report
            .error(
                Code::VALUE,
                node.get("on")
                    .map_or_else(|| node.at.clone(), |on| on.at.clone()),
                "a step is only tried again after `failure` or an `exit_code`",
            )
            .help("other causes belong into the `retry` of the job");
    }
    // Any failure has every exit code in it.
    if retry.on.contains(&RetryOn::Failure) {
        retry.on.retain(|on| *on == RetryOn::Failure);
    }
    retry
}
