//! What needs the whole file: needs, ids, and every expression.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::data::{self, DataDraft};
use super::draft::{Binding, Draft, DynamicDraft, JobDraft, Matrix, StepDraft};
use super::gates::{self, ConcurrencyDraft};
use super::names::Found;
use super::needs;
use super::scope::{Origin, Place, Scope};
use super::taint;
use crate::diagnostic::Code;
use crate::expr::{self, ExprError, ExprErrorKind};
use crate::report::Report;
use crate::template::{self, Piece, is_template};
use crate::yaml::{Core, Node};

/// Checks a draft, reporting everything found.
pub(super) fn draft(report: &mut Report<'_>, draft: &Draft) {
    needs::check(report, draft);
    let jobs: HashMap<&str, &JobDraft> = draft
        .jobs
        .iter()
        .map(|job| (job.id.as_str(), job))
        .collect();
    let mut scope = Scope::of_pipeline(draft);
    if let Some(slot) = &draft.concurrency {
        slot_names(report, scope.at(Place::PipelineSlot), slot);
    }
    bindings(report, &mut scope, Place::PipelineEnv, &draft.env);
    data::check(report, draft, &jobs);
    gates::check(report, draft);
    for job in &draft.jobs {
        let tainted = scope.tainted.clone();
        let mut scope = Scope {
            tainted,
            ..Scope::of_job(draft, &jobs, job)
        };
        check_job(report, &mut scope, job);
    }
}

/// Checks every expression of a job, in the order in which they are evaluated.
fn check_job<'d>(report: &mut Report<'_>, scope: &mut Scope<'d>, job: &'d JobDraft) {
    let mut place = Place::JobCondition;
    if let Matrix::Dynamic(matrix) = &job.matrix {
        place = Place::EarlyCondition;
        dynamic_matrix(report, scope, job, matrix);
    }
    if let Some(node) = &job.condition {
        condition(report, scope.at(place), node);
    }
    optional(report, scope.at(Place::JobName), job.name.as_ref());
    scope.at(Place::JobField);
    for label in job.runs_on.all.iter().chain(&job.runs_on.any) {
        text(report, scope, &label.node);
    }
    flag(
        report,
        scope,
        job.continue_on_error.as_ref(),
        "continue-on-error",
    );
    if let Some(slot) = &job.concurrency {
        slot_names(report, scope, slot);
    }
    optional(report, scope, job.environment.as_ref().map(|it| &it.name));
    bindings(report, scope, Place::JobField, &job.env);
    check_data(report, scope, &job.data);
    step_ids(report, job);
    let ids: Vec<&str> = job
        .steps
        .iter()
        .map(StepDraft::id)
        .filter(|id| !id.is_empty())
        .collect();
    scope.later_steps.clone_from(&ids);
    for together in job.steps.chunk_by(StepDraft::is_beside) {
        let ids = || together.iter().map(StepDraft::id);
        let ids: Vec<&str> = ids().filter(|id| !id.is_empty()).collect();
        for step in together {
            scope.beside = ids.iter().copied().filter(|id| *id != step.id()).collect();
            check_step(report, scope, step);
        }
        scope.later_steps.retain(|id| !ids.contains(id));
        scope.steps.extend(ids);
    }
    scope.beside.clear();
    scope.at(Place::JobOutput);
    for output in &job.outputs {
        text(report, scope, &output.value);
    }
    for artifact in &job.data.artifacts {
        text(report, scope, &artifact.name);
    }
}

/// Checks the names and paths of what a job takes and leaves, but for the names of artifacts.
fn check_data(report: &mut Report<'_>, scope: &mut Scope<'_>, data: &DataDraft) {
    scope.at(Place::BeforeSteps);
    for cache in &data.caches {
        text(report, scope, &cache.key);
        for key in &cache.restore_keys {
            text(report, scope, key);
        }
    }
    for download in &data.downloads {
        text(report, scope, &download.name);
    }
    scope.at(Place::Path);
    for path in data.paths() {
        text(report, scope, path);
    }
}

/// Checks a concurrency group.
fn slot_names(report: &mut Report<'_>, scope: &Scope<'_>, slot: &ConcurrencyDraft) {
    text(report, scope, &slot.group);
    let cancel = slot.cancel_in_progress.as_ref();
    flag(report, scope, cancel, "cancel-in-progress");
}

/// Checks a matrix with values from expressions, and notes whether strangers control them.
fn dynamic_matrix(
    report: &mut Report<'_>,
    scope: &mut Scope<'_>,
    job: &JobDraft,
    matrix: &DynamicDraft,
) {
    scope.at(Place::Matrix);
    let before = report.errors();
    for node in &matrix.values {
        if text(report, scope, node) == Origin::Stranger {
            scope.matrix_origin = Origin::Stranger;
        }
    }
    // The parts were fine, so only their number or length can be too much.
    if report.errors() == before
        && let Err(error) = expr::parse(&matrix.expression)
    {
        let message = format!(
            "the matrix is too large for an expression: {}",
            error.message
        );
        let at = job.key.at.clone();
        report
            .error(Code::TOO_MANY, at, message)
            .help("let a job put all of it together, and write `matrix: ${{ fromJSON(..) }}`");
    }
}

/// Checks a step. What its `env` makes of names ends with it.
fn check_step<'d>(report: &mut Report<'_>, scope: &mut Scope<'d>, step: &'d StepDraft) {
    let outside = scope.tainted.clone();
    if let Some(node) = &step.condition {
        condition(report, scope.at(Place::StepCondition), node);
    }
    scope.at(Place::StepField);
    optional(report, scope, step.name.as_ref());
    optional(report, scope, step.working_directory.as_ref());
    flag(
        report,
        scope,
        step.continue_on_error.as_ref(),
        "continue-on-error",
    );
    bindings(report, scope, Place::StepField, &step.env);
    text(report, scope.at(Place::Script), &step.run);
    scope.tainted = outside;
}

/// Reports ids that two steps of a job share.
fn step_ids(report: &mut Report<'_>, job: &JobDraft) {
    let mut seen = HashSet::new();
    for id in job.steps.iter().filter_map(|step| step.id.as_ref()) {
        let name = id.text().unwrap_or_default();
        if !seen.insert(name) {
            let message = format!("two steps of `{}` have the id `{name}`", job.id);
            report.error(Code::DUPLICATE_ID, id.at.clone(), message);
        }
    }
}

/// Checks the values of an `env`, and notes which names strangers control from here on.
fn bindings<'d>(
    report: &mut Report<'_>,
    scope: &mut Scope<'d>,
    place: Place,
    bindings: &'d [Binding],
) {
    scope.at(place);
    let mut tainted = BTreeSet::new();
    for binding in bindings {
        if text(report, scope, &binding.value) == Origin::Stranger {
            tainted.insert(binding.name.as_str());
        }
    }
    scope
        .tainted
        .retain(|name| bindings.iter().all(|binding| binding.name != *name));
    scope.tainted.extend(tainted);
}

/// Checks a text that may be missing.
fn optional(report: &mut Report<'_>, scope: &Scope<'_>, node: Option<&Rc<Node>>) {
    if let Some(node) = node {
        text(report, scope, node);
    }
}

/// Checks a text with `${{ }}` in it.
fn text(report: &mut Report<'_>, scope: &Scope<'_>, node: &Rc<Node>) -> Origin {
    let Some(value) = node.text().filter(|value| is_template(value)) else {
        return Origin::File;
    };
    if report.is_full() {
        return Origin::File;
    }
    let pieces = match template::parse(value) {
        Ok(pieces) => pieces,
        Err(error) => {
            unreadable(report, node, &error);
            return Origin::File;
        }
    };
    let mut origin = Origin::File;
    for piece in &pieces {
        if let Piece::Expr { expr, start, .. } = piece {
            let found = Found {
                node,
                start: *start,
            };
            found.expression(report, scope, expr);
            if !taint::sources(expr, scope).is_empty() {
                origin = Origin::Stranger;
            }
        }
    }
    origin
}

/// Checks an `if`.
fn condition(report: &mut Report<'_>, scope: &Scope<'_>, node: &Rc<Node>) {
    let value = node.text().unwrap_or_default();
    let (source, start) = match bare(value) {
        Some(found) => found,
        None => {
            // A mistake inside the braces is the better thing to tell.
            if let Err(error) = template::parse(value) {
                return unreadable(report, node, &error);
            }
            report
                .error(
                    Code::CONSTANT_CONDITION,
                    node.at.clone(),
                    "this condition is always true",
                )
                .help("it is text with values in it; put all of it into one `${{ }}`, or none");
            return;
        }
    };
    match expr::parse(source) {
        Ok(expr) => Found { node, start }.expression(report, scope, &expr),
        Err(error) => unreadable(report, node, &error.shifted(start)),
    }
}

/// Checks a key that is true, false or an expression.
fn flag(report: &mut Report<'_>, scope: &Scope<'_>, node: Option<&Rc<Node>>, name: &str) {
    let Some(node) = node else {
        return;
    };
    let boolean = node
        .scalar()
        .is_some_and(|scalar| matches!(scalar.core, Core::Bool(_)));
    if boolean {
        return;
    }
    if node.text().is_some_and(is_template) {
        return condition(report, scope, node);
    }
    report
        .error(
            Code::TYPE,
            node.at.clone(),
            format!("`{name}` has to be true or false"),
        )
        .help("or an expression in `${{ }}`");
}

/// The bare expression of a condition and where it begins; none when there is text around it.
pub(super) fn bare(text: &str) -> Option<(&str, usize)> {
    if !is_template(text) {
        return Some((text, 0));
    }
    let pieces = template::parse(text).ok()?;
    let mut only = None;
    for piece in pieces {
        match piece {
            Piece::Text(text) if text.trim().is_empty() => {}
            Piece::Expr { source, start, .. } if only.is_none() => only = Some((source, start)),
            _ => return None,
        }
    }
    only
}

/// Reports an expression that cannot be read.
fn unreadable(report: &mut Report<'_>, node: &Node, error: &ExprError) {
    let code = match error.kind {
        ExprErrorKind::UnknownFunction => Code::UNKNOWN_FUNCTION,
        _ => Code::EXPRESSION,
    };
    let at = report.within(node, error.at.clone());
    report
        .error(code, at, error.message.clone())
        .nearest(error.nearest);
}
