//! The tree of an expression.

use std::ops::Range;

use super::function::Function;
use super::value::Value;

/// An expression, or a part of one.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands, in bytes of the text.
    pub at: Range<usize>,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// `null`, `true`, a number or a text.
    Literal(Value),
    /// The name of a context: `git`.
    Context(String),
    /// `a.b` and `a['b']`.
    Index(Box<Expr>, Box<Expr>),
    /// `a.*` and `a[*]`.
    Star(Box<Expr>),
    /// `!a`.
    Not(Box<Expr>),
    /// `a && b && c`: the first that is false, else the last.
    And(Vec<Expr>),
    /// `a || b || c`: the first that is true, else the last.
    Or(Vec<Expr>),
    /// `a == b` and its like.
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// `contains(a, b)`.
    Call(Function, Vec<Expr>),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Expr {
    /// Calls `visit` with this part and all parts below it, outer ones first.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        match &self.kind {
            ExprKind::Literal(_) | ExprKind::Context(_) => {}
            ExprKind::Star(inner) | ExprKind::Not(inner) => inner.walk(visit),
            ExprKind::Index(left, right) | ExprKind::Compare(_, left, right) => {
                left.walk(visit);
                right.walk(visit);
            }
            ExprKind::And(items) | ExprKind::Or(items) | ExprKind::Call(_, items) => {
                items.iter().for_each(|item| item.walk(visit));
            }
        }
    }

    /// Whether `success()`, `failure()`, `always()` or `cancelled()` is called somewhere.
    #[must_use]
    pub fn uses_status(&self) -> bool {
        let mut found = false;
        self.walk(&mut |part| {
            found |= matches!(part.kind, ExprKind::Call(function, _) if function.is_status());
        });
        found
    }

    /// The text, when this is a literal text.
    pub(crate) fn literal_text(&self) -> Option<&str> {
        match &self.kind {
            ExprKind::Literal(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}
