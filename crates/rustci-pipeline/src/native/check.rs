//! What needs the whole file: needs, ids, and every expression.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use super::draft::{Binding, Draft, JobDraft, StepDraft};
use super::needs;
use super::scope::{Place, Scope, is_context};
use super::taint::{self, Access};
use crate::diagnostic::Code;
use crate::expr::{self, Expr, ExprError, ExprErrorKind, ExprKind};
use crate::nearest::nearest;
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
    bindings(report, &mut scope, Place::PipelineEnv, &draft.env);
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
    optional(report, scope.at(Place::JobName), job.name.as_ref());
    if let Some(node) = &job.condition {
        condition(report, scope.at(Place::JobCondition), node);
    }
    scope.at(Place::JobField);
    for label in job.runs_on.all.iter().chain(&job.runs_on.any) {
        text(report, scope, &label.node);
    }
    flag(report, scope, job.continue_on_error.as_ref());
    bindings(report, scope, Place::JobField, &job.env);
    step_ids(report, job);
    let ids: Vec<&str> = job
        .steps
        .iter()
        .map(StepDraft::id)
        .filter(|id| !id.is_empty())
        .collect();
    scope.later_steps.clone_from(&ids);
    for step in &job.steps {
        check_step(report, scope, step);
        if !step.id().is_empty() {
            scope.steps.push(step.id());
            scope.later_steps.retain(|id| *id != step.id());
        }
    }
    scope.at(Place::JobOutput);
    for output in &job.outputs {
        text(report, scope, &output.value);
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
    flag(report, scope, step.continue_on_error.as_ref());
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

/// Whose words a text has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    File,
    Stranger,
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

/// Checks a `continue-on-error`.
fn flag(report: &mut Report<'_>, scope: &Scope<'_>, node: Option<&Rc<Node>>) {
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
            "`continue-on-error` has to be true or false",
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
    let at = report.source().within(node, error.at.clone());
    report
        .error(code, at, error.message.clone())
        .nearest(error.nearest);
}

/// An expression in the text of a node.
struct Found<'n> {
    node: &'n Node,
    start: usize,
}

impl Found<'_> {
    /// Where a part of the expression stands in the file.
    fn place(&self, report: &Report<'_>, expr: &Expr) -> Range<usize> {
        let at = expr.at.start + self.start..expr.at.end + self.start;
        report.source().within(self.node, at)
    }

    /// Checks an expression; in a script also where its words come from.
    fn expression(&self, report: &mut Report<'_>, scope: &Scope<'_>, expr: &Expr) {
        if report.is_full() {
            return;
        }
        self.names(report, scope, expr);
        if scope.place != Place::Script {
            return;
        }
        for source in taint::sources(expr, scope) {
            self.untrusted(report, source);
        }
    }

    /// Reports a value that strangers control, with the way around it.
    fn untrusted(&self, report: &mut Report<'_>, source: &Expr) {
        let at = self.place(report, source);
        let range = source.at.start + self.start..source.at.end + self.start;
        let name = self
            .node
            .text()
            .and_then(|text| text.get(range))
            .unwrap_or_default();
        let access = taint::access(source);
        let variable = access.filter(|access| access.context.eq_ignore_ascii_case("env"));
        let variable = variable.and_then(|access| access.path.first().copied().flatten());
        let help = match variable {
            Some(variable) => format!("it is in the environment: write \"${variable}\" instead"),
            None => format!("write `env: {{ VALUE: \"${{{{ {name} }}}}\" }}` and use \"$VALUE\""),
        };
        let message = format!("`{name}` can hold anything a stranger types, also commands");
        report.error(Code::UNTRUSTED, at, message).help(help);
    }

    /// Checks every context, property and function in an expression.
    fn names(&self, report: &mut Report<'_>, scope: &Scope<'_>, expr: &Expr) {
        if let Some(access) = taint::access(expr) {
            self.access(report, scope, expr, &access);
            return self.computed(report, scope, expr);
        }
        match &expr.kind {
            ExprKind::Literal(_) | ExprKind::Context(_) => {}
            ExprKind::Star(inner) | ExprKind::Not(inner) => self.names(report, scope, inner),
            ExprKind::Index(left, right) | ExprKind::Compare(_, left, right) => {
                self.names(report, scope, left);
                self.names(report, scope, right);
            }
            ExprKind::And(items) | ExprKind::Or(items) => {
                items
                    .iter()
                    .for_each(|item| self.names(report, scope, item));
            }
            ExprKind::Call(function, items) => {
                self.function(report, scope, expr, *function);
                items
                    .iter()
                    .for_each(|item| self.names(report, scope, item));
            }
        }
    }

    /// The expressions inside the brackets of an access.
    fn computed(&self, report: &mut Report<'_>, scope: &Scope<'_>, expr: &Expr) {
        match &expr.kind {
            ExprKind::Index(of, index) => {
                if index.literal_text().is_none() {
                    self.names(report, scope, index);
                }
                self.computed(report, scope, of);
            }
            ExprKind::Star(of) => self.computed(report, scope, of),
            _ => {}
        }
    }

    /// Reports a function that has no meaning where it is called.
    fn function(
        &self,
        report: &mut Report<'_>,
        scope: &Scope<'_>,
        expr: &Expr,
        function: expr::Function,
    ) {
        let name = function.name();
        let at = self.place(report, expr);
        let place = scope.place.name();
        if function.is_status() && !scope.place.is_condition() {
            let message = format!("`{name}()` only works in `if`, not in {place}");
            report.error(Code::UNKNOWN_FUNCTION, at, message);
        } else if function == expr::Function::HashFiles && !scope.place.has_files() {
            let message = format!("`hashFiles` only works in steps, not in {place}");
            report
                .error(Code::UNKNOWN_FUNCTION, at, message)
                .help("there are no files before the job runs");
        }
    }

    /// Checks the context of an access, then its properties.
    fn access(&self, report: &mut Report<'_>, scope: &Scope<'_>, expr: &Expr, access: &Access<'_>) {
        let at = self.place(report, expr);
        let name = access.context.to_lowercase();
        let known = scope.place.contexts();
        if name == "secrets" {
            report
                .error(
                    Code::SECRET_IN_TEXT,
                    at,
                    "secrets are not available in expressions",
                )
                .help(
                    "name it in the job's `secrets: { NAME: secret_name }` and use $NAME in `run`",
                );
        } else if known.contains(&name.as_str()) {
            self.property(report, scope, at, access);
        } else if is_context(&name) {
            let message = format!("`{name}` is not known yet in {}", scope.place.name());
            report
                .error(Code::UNKNOWN_CONTEXT, at, message)
                .help(format!("contexts here: {}", known.join(", ")));
        } else {
            let meant = if name == "github" { Some("git") } else { None };
            report
                .error(
                    Code::UNKNOWN_CONTEXT,
                    at,
                    format!("there is no context `{name}`"),
                )
                .nearest(meant.or_else(|| nearest(&name, known.iter().copied())))
                .help(format!("contexts here: {}", known.join(", ")));
        }
    }

    /// Checks the properties of those contexts whose names are in the file.
    fn property(
        &self,
        report: &mut Report<'_>,
        scope: &Scope<'_>,
        at: Range<usize>,
        access: &Access<'_>,
    ) {
        let path = |index: usize| access.path.get(index).copied().flatten();
        let Some(first) = path(0) else {
            return;
        };
        match access.context.to_lowercase().as_str() {
            "git" => {
                let meant = if first.eq_ignore_ascii_case("sha") {
                    "commit"
                } else {
                    first
                };
                unknown_git(report, at, first, meant);
            }
            "inputs" => {
                let names: Vec<&str> = scope.inputs.keys().map(String::as_str).collect();
                unknown(report, at, first, &names, "there is no input");
            }
            "matrix" => {
                if let Some(names) = scope.matrix {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    unknown(report, at, first, &names, "the matrix has no");
                }
            }
            "needs" => need_property(report, scope, at, first, [path(1), path(2)]),
            "steps" => step_property(report, scope, at, first, path(1)),
            _ => {}
        }
    }
}

/// What a run knows of its repository.
const GIT: [&str; 4] = ["ref", "branch", "tag", "commit"];

/// Reports a property that `git` does not have.
fn unknown_git(report: &mut Report<'_>, at: Range<usize>, name: &str, meant: &str) {
    if GIT.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return;
    }
    report
        .error(Code::UNKNOWN_PROPERTY, at, format!("`git` has no `{name}`"))
        .nearest(nearest(meant, GIT))
        .help(format!("known here: {}", list(&GIT)));
}

/// Reports a name that is not among those known; true when it is.
fn unknown(
    report: &mut Report<'_>,
    at: Range<usize>,
    name: &str,
    known: &[&str],
    what: &str,
) -> bool {
    if known.iter().any(|other| other.eq_ignore_ascii_case(name)) {
        return true;
    }
    let found = report
        .error(Code::UNKNOWN_PROPERTY, at, format!("{what} `{name}`"))
        .nearest(nearest(name, known.iter().copied()));
    if !known.is_empty() {
        found.help(format!("known here: {}", list(known)));
    }
    false
}

/// The first few names, for a message.
fn list(names: &[&str]) -> String {
    let shown = names
        .iter()
        .take(10)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > 10 {
        format!("{shown}, ..")
    } else {
        shown
    }
}

/// Checks `needs.JOB.PROPERTY.OUTPUT`.
fn need_property(
    report: &mut Report<'_>,
    scope: &Scope<'_>,
    at: Range<usize>,
    job: &str,
    [property, output]: [Option<&str>; 2],
) {
    let names: Vec<&str> = scope.needs.keys().copied().collect();
    if !unknown(report, at.clone(), job, &names, "this job has no need") {
        return;
    }
    let known = property.is_none_or(|name| {
        unknown(
            report,
            at.clone(),
            name,
            &["result", "outputs"],
            "a need has no",
        )
    });
    let declared = scope
        .needs
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(job));
    if let (true, Some("outputs"), Some(output), Some((_, outputs))) =
        (known, property, output, declared)
    {
        let outputs: Vec<&str> = outputs.iter().copied().collect();
        unknown(
            report,
            at,
            output,
            &outputs,
            &format!("job `{job}` has no output"),
        );
    }
}

/// Checks `steps.ID.PROPERTY`.
fn step_property(
    report: &mut Report<'_>,
    scope: &Scope<'_>,
    at: Range<usize>,
    step: &str,
    property: Option<&str>,
) {
    if scope
        .later_steps
        .iter()
        .any(|id| id.eq_ignore_ascii_case(step))
    {
        let message = format!("step `{step}` has not ended yet when this is evaluated");
        report
            .error(Code::UNKNOWN_PROPERTY, at, message)
            .help("only steps further up can be used");
        return;
    }
    if unknown(
        report,
        at.clone(),
        step,
        &scope.steps,
        "there is no step with the id",
    ) && let Some(name) = property
    {
        unknown(
            report,
            at,
            name,
            &["outputs", "outcome", "conclusion"],
            "a step has no",
        );
    }
}
