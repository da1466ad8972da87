//! Text with `${{ }}` in it.

use std::ops::Range;

use crate::expr::{self, Budget, Contexts, Expr, ExprError, ExprErrorKind, Value};
use crate::limits::TEXT_BYTES_MAX;

/// A piece of a template.
#[derive(Clone, Debug)]
pub enum Piece<'t> {
    /// Stays as it is.
    Text(&'t str),
    /// `${{ expression }}`; positions in it count from the template's start.
    Expr {
        /// The expression.
        expr: Expr,
        /// Its text between the braces.
        source: &'t str,
        /// Where that text begins in the template.
        start: usize,
    },
}

/// Splits a template into its pieces.
///
/// # Errors
/// [`ExprError`] for the first expression that cannot be read or that does not end; its place is
/// in bytes of the template.
pub fn parse(template: &str) -> Result<Vec<Piece<'_>>, ExprError> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(open) = find(template, at, "${{") {
        let inner = open + 3;
        let close = closing(template, inner).ok_or_else(|| {
            let at = open..template.len();
            ExprError::new(ExprErrorKind::Parsing, at, "`${{` has no closing `}}`")
        })?;
        if open > at {
            pieces.push(Piece::Text(slice(template, at..open)));
        }
        let source = slice(template, inner..close);
        if source.trim().is_empty() {
            let message = "there is no expression inside `${{ }}`";
            return Err(ExprError::new(
                ExprErrorKind::Parsing,
                open..close + 2,
                message,
            ));
        }
        let expr = expr::parse(source).map_err(|error| error.shifted(inner))?;
        pieces.push(Piece::Expr {
            expr,
            source,
            start: inner,
        });
        at = close + 2;
    }
    if at < template.len() {
        pieces.push(Piece::Text(slice(template, at..template.len())));
    }
    Ok(pieces)
}

/// Evaluates every `${{ }}` of a template and puts the texts in their places.
///
/// All expressions of a template share the limits of one.
///
/// # Errors
/// As [`parse`] and [`expr::evaluate`]; also when the result is over 1 MiB.
pub fn render(template: &str, contexts: &Contexts) -> Result<String, ExprError> {
    if !is_template(template) {
        return Ok(template.to_owned());
    }
    let mut out = String::with_capacity(template.len());
    let mut budget = Budget::default();
    for piece in parse(template)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Expr { expr, start, .. } => {
                let value = expr::evaluate_within(&expr, contexts, &mut budget);
                let value = value.map_err(|error| error.shifted(start))?;
                out.push_str(&value.to_text());
            }
        }
        if out.len() > TEXT_BYTES_MAX.max(template.len()) {
            let message = format!("text with its values is longer than {TEXT_BYTES_MAX} bytes");
            return Err(ExprError::new(
                ExprErrorKind::Limit,
                0..template.len(),
                message,
            ));
        }
    }
    Ok(out)
}

/// The value of a template that is nothing but one `${{ }}`; its text otherwise.
///
/// # Errors
/// As [`render`].
pub fn value(template: &str, contexts: &Contexts) -> Result<Value, ExprError> {
    match parse(template)?.as_slice() {
        [Piece::Expr { expr, start, .. }] => {
            expr::evaluate(expr, contexts).map_err(|error| error.shifted(*start))
        }
        _ => render(template, contexts).map(|text| Value::string(&text)),
    }
}

/// Whether there is a `${{` in the text.
#[must_use]
pub fn is_template(text: &str) -> bool {
    text.contains("${{")
}

/// Where `what` begins, from some byte on.
fn find(text: &str, from: usize, what: &str) -> Option<usize> {
    text.get(from..)?.find(what).map(|index| from + index)
}

fn slice(text: &str, range: Range<usize>) -> &str {
    text.get(range).unwrap_or_default()
}

/// Where the `}}` stands that ends an expression; one inside a text literal does not count.
fn closing(template: &str, from: usize) -> Option<usize> {
    let rest = template.get(from..)?;
    let mut quoted = false;
    for (index, byte) in rest.bytes().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            b'}' if !quoted && rest.as_bytes().get(index + 1) == Some(&b'}') => {
                return Some(from + index);
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn contexts() -> Contexts {
        let mut contexts = Contexts::new();
        contexts.set("matrix", &json!({"os": "linux", "n": 3}));
        contexts
    }

    #[test]
    fn expressions_are_replaced_and_other_text_stays() {
        let cases = [
            ("plain", "plain"),
            ("$HOME ${X} {{}}", "$HOME ${X} {{}}"),
            ("a ${{ matrix.os }}-${{matrix.n}} b", "a linux-3 b"),
            ("${{ 'a }} b' }}", "a }} b"),
            ("${{ 'it''s' }}", "it's"),
            ("${{ matrix.missing }}", ""),
            ("ü${{ matrix.os }}ü", "ülinuxü"),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template, &contexts()).unwrap(), expected);
        }
    }

    #[test]
    fn a_mistake_is_placed_in_the_template() {
        let error = render("ab ${{ matrix. }}", &contexts()).unwrap_err();
        assert_eq!(error.at, 13..14);
        let error = render("ab ${{ matrix", &contexts()).unwrap_err();
        assert_eq!(
            (error.at.clone(), error.to_string().as_str()),
            (3..13, "`${{` has no closing `}}`")
        );
        let error = render("ab ${{ }}", &contexts()).unwrap_err();
        assert_eq!(error.at, 3..9);
    }

    #[test]
    fn a_single_expression_keeps_its_kind() {
        assert!(matches!(
            value("${{ 1 < 2 }}", &contexts()),
            Ok(Value::Bool(true))
        ));
        assert!(matches!(
            value(" ${{ 1 < 2 }}", &contexts()),
            Ok(Value::String(_))
        ));
    }
}
