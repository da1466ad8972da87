//! Values that strangers control: titles, messages, branch names, texts that people type in.
//!
//! Put into a script they become commands. Through the environment they stay data.

use super::scope::{Origin, Scope};
use crate::expr::{Expr, ExprKind, Function};
use crate::pipeline::InputKind;

/// Properties of `git` that nobody can choose; `sha` is no property, and told as such elsewhere.
const SAFE_GIT: [&str; 2] = ["commit", "sha"];
/// Properties of `event` that only the forge or this server decides.
const SAFE_EVENT: [&str; 1] = ["name"];

/// The parts of `expr` whose text may come from a stranger and would be in its result.
pub(super) fn sources<'e>(expr: &'e Expr, scope: &Scope<'_>) -> Vec<&'e Expr> {
    let mut found = Vec::new();
    collect(expr, scope, &mut found);
    found
}

/// Follows the parts of an expression that can end up in its result.
fn collect<'e>(expr: &'e Expr, scope: &Scope<'_>, found: &mut Vec<&'e Expr>) {
    match &expr.kind {
        // Their result is a boolean, whatever is in them.
        ExprKind::Literal(_) | ExprKind::Not(_) | ExprKind::Compare(..) => {}
        ExprKind::Context(_) | ExprKind::Index(..) | ExprKind::Star(_) => match access(expr) {
            Some(path) if is_tainted(&path, scope) => found.push(expr),
            Some(_) => {}
            None => collect_parts(expr, scope, found),
        },
        // The left side of `&&` is only the result when it is false or empty.
        ExprKind::And(items) => {
            items
                .last()
                .into_iter()
                .for_each(|item| collect(item, scope, found));
        }
        ExprKind::Or(items) => items.iter().for_each(|item| collect(item, scope, found)),
        ExprKind::Call(function, items) => {
            if carries_text(*function) {
                items.iter().for_each(|item| collect(item, scope, found));
            }
        }
    }
}

/// The same for a property of something computed.
fn collect_parts<'e>(expr: &'e Expr, scope: &Scope<'_>, found: &mut Vec<&'e Expr>) {
    match &expr.kind {
        ExprKind::Index(of, _) | ExprKind::Star(of) => collect(of, scope, found),
        _ => {}
    }
}

/// Whether a function's arguments show in its result.
fn carries_text(function: Function) -> bool {
    matches!(
        function,
        Function::Format | Function::Join | Function::ToJson | Function::FromJson | Function::Case
    )
}

/// A context and the first property of it that is used, as `git.ref`.
pub(super) struct Access<'e> {
    pub(super) context: &'e str,
    pub(super) path: Vec<Option<&'e str>>,
}

/// The access that an expression is; properties that are computed are none.
pub(super) fn access(expr: &Expr) -> Option<Access<'_>> {
    match &expr.kind {
        ExprKind::Context(name) => Some(Access {
            context: name,
            path: Vec::new(),
        }),
        ExprKind::Index(of, index) => {
            let mut access = access(of)?;
            access.path.push(index.literal_text());
            Some(access)
        }
        ExprKind::Star(of) => {
            let mut access = access(of)?;
            access.path.push(None);
            Some(access)
        }
        _ => None,
    }
}

/// Whether strangers control what is found there.
fn is_tainted(access: &Access<'_>, scope: &Scope<'_>) -> bool {
    let first = access
        .path
        .first()
        .copied()
        .flatten()
        .map(str::to_lowercase);
    let first = first.as_deref();
    match access.context.to_lowercase().as_str() {
        "git" => first.is_none_or(|name| !SAFE_GIT.contains(&name)),
        "event" => first.is_none_or(|name| !SAFE_EVENT.contains(&name)),
        "inputs" => is_tainted_input(first, scope),
        "matrix" => scope.matrix_origin == Origin::Stranger,
        "env" => match first {
            Some(name) => scope
                .tainted
                .iter()
                .any(|tainted| tainted.eq_ignore_ascii_case(name)),
            None => !scope.tainted.is_empty(),
        },
        _ => false,
    }
}

// A number, a boolean and a choice are checked when they come in; only text is free.
fn is_tainted_input(name: Option<&str>, scope: &Scope<'_>) -> bool {
    let is_text = |kind: &InputKind| *kind == InputKind::String;
    match name {
        Some(name) => scope
            .inputs
            .iter()
            .find(|(input, _)| input.eq_ignore_ascii_case(name))
            .is_some_and(|(_, input)| is_text(&input.kind)),
        None => scope.inputs.values().any(|input| is_text(&input.kind)),
    }
}
