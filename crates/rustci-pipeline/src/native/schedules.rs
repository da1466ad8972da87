//! `on.cron`.

use std::ops::Range;
use std::rc::Rc;

use super::fields::Fields;
use super::keys;
use super::values::{self, NameRule};
use crate::cron::{Cron, CronError, ZONE_DEFAULT, Zone};
use crate::diagnostic::Code;
use crate::limits::CRONS_MAX;
use crate::report::Report;
use crate::yaml::{Node, NodeKind};

/// Reads one schedule or a list of them.
pub(super) fn schedules(report: &mut Report<'_>, node: &Rc<Node>) -> Vec<Cron> {
    let NodeKind::Sequence(items) = &node.kind else {
        return schedule(report, node).into_iter().collect();
    };
    if items.is_empty() {
        report.error(Code::EMPTY, node.at.clone(), "`cron` is an empty list");
    }
    if let Some(over) = items.get(CRONS_MAX) {
        let message = format!("a pipeline has at most {CRONS_MAX} schedules");
        report.error(Code::TOO_MANY, over.at.clone(), message);
    }
    let mut crons: Vec<Cron> = Vec::new();
    for item in items.iter().take(CRONS_MAX) {
        let Some(cron) = schedule(report, item) else {
            continue;
        };
        if crons.iter().any(|other| other.name() == cron.name()) {
            let at = item
                .get("name")
                .map_or_else(|| item.at.clone(), |name| name.at.clone());
            let message = format!("two schedules are called `{}`", cron.name());
            report.error(Code::DUPLICATE_ID, at, message);
        }
        crons.push(cron);
    }
    crons
}

/// Reads a schedule that has no name and no zone of its own.
pub(super) fn unnamed(report: &mut Report<'_>, node: &Rc<Node>, name: &str) -> Option<Cron> {
    let text = values::literal(report, node, "schedule")?;
    let cron = Cron::parse(name, text, Zone::find(ZONE_DEFAULT).ok()?);
    cron.map_err(|error| told(report, node, &error)).ok()
}

/// Reads one schedule.
fn schedule(report: &mut Report<'_>, node: &Rc<Node>) -> Option<Cron> {
    let fields = Fields::read(report, node, &keys::CRON)?;
    for name in ["name", "schedule"] {
        if !fields.has(name) {
            let message = format!("this entry of `cron` has no `{name}`");
            report
                .error(Code::MISSING_KEY, node.at.clone(), message)
                .help("such as `{ name: nightly, schedule: \"17 3 * * *\" }`");
        }
    }
    let name = fields
        .get("name")
        .and_then(|node| values::name(report, node, "schedule name", NameRule::Id));
    let zone = match fields.get("timezone") {
        Some(node) => zone(report, node),
        None => Zone::find(ZONE_DEFAULT).ok(),
    };
    let times = fields.get("schedule")?;
    let text = values::literal(report, times, "schedule")?;
    // The schedule is looked at even when its zone is wrong.
    let looked_at = zone.clone().or_else(|| Zone::find(ZONE_DEFAULT).ok())?;
    let cron = Cron::parse(name.as_deref().unwrap_or_default(), text, looked_at);
    match cron {
        Ok(cron) => zone.and(name).map(|_| cron),
        Err(error) => {
            told(report, times, &error);
            None
        }
    }
}

fn zone(report: &mut Report<'_>, node: &Rc<Node>) -> Option<Zone> {
    let text = values::literal(report, node, "timezone")?;
    match Zone::find(text) {
        Ok(zone) => Some(zone),
        Err(error) => {
            told(report, node, &error);
            None
        }
    }
}

fn told(report: &mut Report<'_>, node: &Node, error: &CronError) {
    let at: Range<usize> = if error.at.is_empty() {
        node.at.clone()
    } else {
        report.within(node, error.at.clone())
    };
    report
        .error(Code::CRON, at, error.message.clone())
        .nearest(error.nearest.as_deref());
}
