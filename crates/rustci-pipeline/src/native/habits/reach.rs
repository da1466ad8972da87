//! Jobs and steps that can never run.

use std::collections::HashSet;
use std::rc::Rc;

use crate::diagnostic::Code;
use crate::expr::{self, Comparison, Contexts, Expr, ExprKind, Function};
use crate::native::check::bare;
use crate::native::draft::{Draft, JobDraft};
use crate::pipeline::Triggers;
use crate::report::Report;
use crate::yaml::Node;

/// Reports conditions that are never true, and jobs that wait for such ones.
pub(super) fn check(report: &mut Report<'_>, draft: &Draft) {
    let events = Events::of(&draft.triggers);
    if events.names.is_empty() {
        let at = draft.jobs.first().map_or(0..0, |job| job.key.at.clone());
        report
            .warning(Code::UNREACHABLE, at, "no event starts this pipeline")
            .help("name one in `on`");
    }
    let mut dead: HashSet<&str> = HashSet::new();
    for job in &draft.jobs {
        if never(report, &events, job.condition.as_ref(), "job") {
            dead.insert(&job.id);
        }
        for step in &job.steps {
            never(report, &events, step.condition.as_ref(), "step");
        }
    }
    // A job is found dead after one that it needs; as often as there may be jobs in a chain.
    for _ in 0..draft.jobs.len() {
        let before = dead.len();
        for job in &draft.jobs {
            let need = job
                .needs
                .iter()
                .find(|need| need.text().is_some_and(|id| dead.contains(id)));
            let Some(need) = need.filter(|_| !dead.contains(job.id.as_str()) && !looks(job)) else {
                continue;
            };
            let message = format!(
                "`{}` never runs, because `{}` never does",
                job.id,
                text(need)
            );
            report
                .warning(Code::UNREACHABLE, need.at.clone(), message)
                .help("`if: always()` lets a job run after one that was skipped");
            dead.insert(&job.id);
        }
        if dead.len() == before {
            break;
        }
    }
}

fn text(node: &Rc<Node>) -> &str {
    node.text().unwrap_or_default()
}

/// Whether a job decides by itself what a skipped need means for it.
fn looks(job: &JobDraft) -> bool {
    let condition = job.condition.as_ref().and_then(|node| bare(node.text()?));
    let parsed = condition.and_then(|(source, _)| expr::parse(source).ok());
    parsed.is_some_and(|expr| expr.uses_status())
}

/// Reports a condition that is never true.
fn never(
    report: &mut Report<'_>,
    events: &Events,
    condition: Option<&Rc<Node>>,
    what: &str,
) -> bool {
    // What inputs make of a condition differs from one use of the file to the next.
    let Some(node) = condition.filter(|node| !node.filled) else {
        return false;
    };
    let Some(expr) = bare(text(node)).and_then(|(source, _)| expr::parse(source).ok()) else {
        return false;
    };
    if events.truth(&expr) != Some(false) {
        return false;
    }
    let mut about_events = false;
    expr.walk(&mut |part| about_events |= is_event_name(part));
    let found = report.warning(
        Code::UNREACHABLE,
        node.at.clone(),
        format!("this condition is never true, so the {what} never runs"),
    );
    if about_events {
        let names = events.names.join(", ");
        found.help(format!("the events of `on` are: {names}"));
    } else {
        found.help(format!("remove the {what}, or the condition"));
    }
    true
}

/// The events that start a pipeline.
struct Events {
    names: Vec<&'static str>,
}

impl Events {
    fn of(triggers: &Triggers) -> Self {
        let names = [
            ("push", triggers.push.is_some()),
            ("pull_request", triggers.pull_request.is_some()),
            ("tag", triggers.tag.is_some()),
            ("manual", triggers.manual),
            ("cron", triggers.has_cron()),
        ];
        let names = names.into_iter().filter(|(_, there)| *there);
        Self {
            names: names.map(|(name, _)| name).collect(),
        }
    }

    /// Whether an expression is always true or always false; none when that is open.
    fn truth(&self, expr: &Expr) -> Option<bool> {
        match &expr.kind {
            ExprKind::Literal(value) => Some(value.is_truthy()),
            ExprKind::Not(inner) => self.truth(inner).map(|truth| !truth),
            ExprKind::And(items) => self.decided(items, Some(false)),
            ExprKind::Or(items) => self.decided(items, Some(true)),
            ExprKind::Compare(kind, left, right) => self.compare(*kind, left, right),
            ExprKind::Call(Function::Always, _) => Some(true),
            _ => None,
        }
    }

    /// What parts come to, of which one that is `decisive` decides.
    fn decided(&self, items: &[Expr], decisive: Option<bool>) -> Option<bool> {
        let truths: Vec<Option<bool>> = items.iter().map(|item| self.truth(item)).collect();
        if truths.contains(&decisive) {
            return decisive;
        }
        let other = decisive.map(|truth| !truth);
        other.filter(|_| truths.iter().all(|truth| *truth == other))
    }

    fn compare(&self, kind: Comparison, left: &Expr, right: &Expr) -> Option<bool> {
        if is_literal(left) && is_literal(right) {
            let expr = Expr {
                kind: ExprKind::Compare(kind, Box::new(left.clone()), Box::new(right.clone())),
                at: 0..0,
            };
            let value = expr::evaluate(&expr, &Contexts::new()).ok()?;
            return Some(value.is_truthy());
        }
        let name = match (is_event_name(left), is_event_name(right)) {
            (true, _) => right.literal_text()?,
            (_, true) => left.literal_text()?,
            _ => return None,
        };
        let there = self
            .names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name));
        match kind {
            Comparison::Equal if !there => Some(false),
            Comparison::NotEqual if !there => Some(true),
            Comparison::Equal if self.names.len() == 1 => Some(true),
            Comparison::NotEqual if self.names.len() == 1 => Some(false),
            _ => None,
        }
    }
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Literal(_))
}

/// Whether an expression is `event.name`.
fn is_event_name(expr: &Expr) -> bool {
    let ExprKind::Index(of, index) = &expr.kind else {
        return false;
    };
    let context = matches!(&of.kind, ExprKind::Context(name) if name.eq_ignore_ascii_case("event"));
    context
        && index
            .literal_text()
            .is_some_and(|name| name.eq_ignore_ascii_case("name"))
}
