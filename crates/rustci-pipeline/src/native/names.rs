//! The names in an expression: contexts, their properties, functions.

use std::collections::HashSet;
use std::ops::Range;

use super::scope::{Place, Scope, is_context};
use super::taint::{self, Access};
use crate::diagnostic::Code;
use crate::expr::{self, Expr, ExprKind};
use crate::nearest::nearest;
use crate::report::Report;
use crate::yaml::Node;

/// An expression in the text of a node.
pub(super) struct Found<'n> {
    pub(super) node: &'n Node,
    /// Where it begins in that text.
    pub(super) start: usize,
}

impl Found<'_> {
    /// Where a part of the expression stands in the file.
    fn place(&self, report: &Report<'_>, expr: &Expr) -> Range<usize> {
        let at = expr.at.start + self.start..expr.at.end + self.start;
        report.within(self.node, at)
    }

    /// Checks an expression; in a script also where its words come from.
    pub(super) fn expression(&self, report: &mut Report<'_>, scope: &Scope<'_>, expr: &Expr) {
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

/// Names that a message lists; the others are only said to be there.
const LISTED_MAX: usize = 10;

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

/// The first few names, each once, for a message.
fn list(names: &[&str]) -> String {
    let mut seen = HashSet::new();
    let names = names.iter().copied().filter(|name| seen.insert(*name));
    let names: Vec<&str> = names.take(LISTED_MAX + 1).collect();
    let shown = names.iter().take(LISTED_MAX).copied();
    let shown = shown.collect::<Vec<_>>().join(", ");
    if names.len() > LISTED_MAX {
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
    let Some(needs) = &scope.needs else {
        return;
    };
    let names: Vec<&str> = needs.keys().copied().collect();
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
    let declared = needs
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
    let is_among = |ids: &[&str]| ids.iter().any(|id| id.eq_ignore_ascii_case(step));
    if is_among(&scope.later_steps) {
        let message = format!("step `{step}` has not ended yet when this is evaluated");
        let help = if is_among(&scope.beside) {
            "it runs at the same time; only steps above the group can be used"
        } else {
            "only steps further up can be used"
        };
        report.error(Code::UNKNOWN_PROPERTY, at, message).help(help);
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
