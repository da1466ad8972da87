//! What a job may do, and what it waits for: permissions, environment, concurrency.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::draft::Draft;
use super::keys;
use crate::diagnostic::Code;
use crate::limits::{APPROVAL_MS_DEFAULT, APPROVERS_MAX, NAME_CHARS_MAX, WAITING_MAX};
use crate::nearest::nearest;
use crate::plan::{Access, Approval};
use crate::report::Report;
use crate::shape::fields::{Fields, entries};
use crate::shape::values;
use crate::yaml::{Node, NodeKind};

/// Scopes of a job's token.
pub(super) const SCOPES: [&str; 8] = [
    "contents",
    "statuses",
    "checks",
    "id-token",
    "artifacts",
    "caches",
    "runs",
    "packages",
];

pub(super) struct ConcurrencyDraft {
    pub(super) group: Rc<Node>,
    pub(super) cancel_in_progress: Option<Rc<Node>>,
    pub(super) queue: Option<u32>,
}

pub(super) struct EnvironmentDraft {
    pub(super) name: Rc<Node>,
    pub(super) approval: Option<Approval>,
}

/// `concurrency`: the slot's name, or a mapping.
pub(super) fn concurrency(report: &mut Report<'_>, node: &Rc<Node>) -> Option<ConcurrencyDraft> {
    if let NodeKind::Scalar(_) = node.kind {
        return Some(ConcurrencyDraft {
            group: values::text(report, node, "concurrency")?,
            cancel_in_progress: None,
            queue: None,
        });
    }
    let fields = Fields::read(report, node, &keys::CONCURRENCY)?;
    if !fields.has("group") {
        report
            .error(
                Code::MISSING_KEY,
                node.at.clone(),
                "`concurrency` has no `group`",
            )
            .help("name the slot that one run has at a time: `group: deploy`");
    }
    let mut text = |name: &str| {
        fields
            .get(name)
            .and_then(|node| values::text(report, node, name))
    };
    let [group, cancel_in_progress] = ["group", "cancel-in-progress"].map(&mut text);
    let queue = fields
        .get("queue")
        .and_then(|node| values::integer(report, node, "queue", 1..=i64::from(WAITING_MAX)));
    Some(ConcurrencyDraft {
        group: group?,
        cancel_in_progress,
        queue: queue.and_then(|number| u32::try_from(number).ok()),
    })
}

/// `environment`: its name, or a mapping.
pub(super) fn environment(report: &mut Report<'_>, node: &Rc<Node>) -> Option<EnvironmentDraft> {
    if let NodeKind::Scalar(_) = node.kind {
        return Some(EnvironmentDraft {
            name: values::text(report, node, "environment")?,
            approval: None,
        });
    }
    let fields = Fields::read(report, node, &keys::ENVIRONMENT)?;
    if !fields.has("name") {
        report
            .error(
                Code::MISSING_KEY,
                node.at.clone(),
                "`environment` has no `name`",
            )
            .help("say where the job acts: `name: production`. Variables belong into `env`");
    }
    let approval = fields
        .get("approval")
        .and_then(|node| approval(report, node));
    let name = fields
        .get("name")
        .and_then(|node| values::text(report, node, "name"))?;
    Some(EnvironmentDraft { name, approval })
}

/// `approval` of an environment.
fn approval(report: &mut Report<'_>, node: &Rc<Node>) -> Option<Approval> {
    let fields = Fields::read(report, node, &keys::APPROVAL)?;
    let timeout_ms = fields
        .get("timeout")
        .and_then(|node| values::duration(report, node, "timeout"));
    let from = fields
        .get("from")
        .map(|node| approvers(report, node))
        .unwrap_or_default();
    Some(Approval {
        from,
        timeout_ms: timeout_ms.unwrap_or(APPROVAL_MS_DEFAULT),
    })
}

/// People and teams.
fn approvers(report: &mut Report<'_>, node: &Rc<Node>) -> Vec<String> {
    let listed = values::texts(report, node, "from");
    if let Some(over) = listed.get(APPROVERS_MAX) {
        let message = format!("`from` has more than {APPROVERS_MAX} names");
        report
            .error(Code::TOO_MANY, over.at.clone(), message)
            .help("name a team: `team/ops`");
    }
    let mut names = Vec::new();
    for item in listed.iter().take(APPROVERS_MAX) {
        let Some(name) = values::literal(report, item, "from") else {
            continue;
        };
        let bare = name.strip_prefix("team/").unwrap_or(name);
        let plain = |c: char| c.is_alphanumeric() || "-_.@+".contains(c);
        if bare.is_empty() || !bare.chars().all(plain) || bare.chars().count() > NAME_CHARS_MAX {
            report
                .error(
                    Code::NAME,
                    item.at.clone(),
                    format!("`{name}` is neither a person nor a team"),
                )
                .help("write the name of an account, or `team/NAME`");
        } else if names.iter().any(|known| known == name) {
            let message = format!("`{name}` stands twice in `from`");
            report.error(Code::DUPLICATE_ID, item.at.clone(), message);
        } else {
            names.push(name.to_owned());
        }
    }
    names
}

/// `permissions`: scope to access.
pub(super) fn permissions(report: &mut Report<'_>, node: &Rc<Node>) -> BTreeMap<String, Access> {
    let mut permissions = BTreeMap::new();
    for entry in entries(report, node, "`permissions`").unwrap_or_default() {
        let scope = entry.key.text().unwrap_or_default();
        if !SCOPES.contains(&scope) {
            report
                .error(
                    Code::UNKNOWN_KEY,
                    entry.key.at.clone(),
                    format!("there is no permission `{scope}`"),
                )
                .nearest(nearest(scope, SCOPES))
                .help(format!("permissions: {}", SCOPES.join(", ")));
            continue;
        }
        let words = ["read", "write", "none"];
        let access = match values::word(report, &entry.value, scope, &words) {
            Some("read") => Access::Read,
            Some("write") => Access::Write,
            Some(_) => Access::None,
            None => continue,
        };
        permissions.insert(scope.to_owned(), access);
    }
    permissions
}

/// Reports a job that waits for what its own run holds until the job has ended.
pub(super) fn check(report: &mut Report<'_>, draft: &Draft) {
    let Some(held) = draft.concurrency.as_ref().map(|slot| slot.group.text()) else {
        return;
    };
    let slots = draft.jobs.iter().filter_map(|job| job.concurrency.as_ref());
    for slot in slots.filter(|slot| slot.group.text() == held) {
        let message = "the whole run holds this group, so the job would wait for its own run";
        report
            .error(Code::SLOT, slot.group.at.clone(), message)
            .help("give the job's group another name, or remove one of the two");
    }
}
