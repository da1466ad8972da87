//! The value of a dynamic matrix, and which part of it is to blame when there is none.

use crate::expr::{self, Contexts, Expr, ExprError, ExprKind, Function};
use crate::plan::DynamicMatrix;

/// Why a matrix has no value. The text completes "the matrix of job `x` ..".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixError {
    /// ``axis `os` ``; none when the matrix is one expression.
    part: Option<String>,
    /// The expression as it stands in the file.
    source: String,
    error: ExprError,
}

impl std::error::Error for MatrixError {}

impl std::fmt::Display for MatrixError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            part,
            source,
            error,
        } = self;
        match part {
            Some(part) => write!(
                f,
                "has {part}, whose `{source}` cannot be evaluated: {error}"
            ),
            None => write!(f, "`{source}` cannot be evaluated: {error}"),
        }
    }
}

/// Evaluates a dynamic matrix.
///
/// # Errors
/// [`MatrixError`] with the expression of the file that has no value.
pub fn matrix_value(
    dynamic: &DynamicMatrix,
    contexts: &Contexts,
) -> Result<serde_json::Value, MatrixError> {
    let source = dynamic.matrix.as_str();
    let whole = |error: ExprError| MatrixError {
        part: None,
        source: source.to_owned(),
        error,
    };
    let expr = expr::parse(source).map_err(whole)?;
    match expr::evaluate(&expr, contexts) {
        Ok(value) => Ok(value.to_json()),
        Err(error) => Err(blamed(source, &expr, contexts).unwrap_or_else(|| whole(error))),
    }
}

/// The first value of a matrix made of parts that cannot be evaluated.
fn blamed(source: &str, matrix: &Expr, contexts: &Contexts) -> Option<MatrixError> {
    let (pattern, values) = parts(matrix)?;
    values.into_iter().enumerate().find_map(|(index, value)| {
        let error = expr::evaluate(value, contexts).err()?;
        Some(MatrixError {
            part: Some(part_of(pattern, index)?),
            source: source.get(value.at.clone())?.to_owned(),
            error,
        })
    })
}

/// Text and values of `fromJSON(format('..', toJSON(a), toJSON(b)))`, which is what a matrix with
/// some expressions in it becomes.
fn parts(matrix: &Expr) -> Option<(&str, Vec<&Expr>)> {
    let [format] = arguments(matrix, Function::FromJson)? else {
        return None;
    };
    let (pattern, values) = arguments(format, Function::Format)?.split_first()?;
    let value = |value| match arguments(value, Function::ToJson)? {
        [value] => Some(value),
        _ => None,
    };
    let values: Option<Vec<&Expr>> = values.iter().map(value).collect();
    Some((pattern.literal_text()?, values?))
}

fn arguments(expr: &Expr, wanted: Function) -> Option<&[Expr]> {
    match &expr.kind {
        ExprKind::Call(function, arguments) if *function == wanted => Some(arguments),
        _ => None,
    }
}

/// Where the value with this number goes: the axis, or the key of the matrix.
fn part_of(pattern: &str, index: usize) -> Option<String> {
    // JSON with a text in the value's place that no pipeline file can have.
    let mut json = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mark = format!("\"\\u0000{index}\"");
    while let Some(at) = rest.find(['{', '}']) {
        json.push_str(rest.get(..at)?);
        let tail = rest.get(at..)?;
        rest = if let Some(tail) = tail.strip_prefix("{{") {
            json.push('{');
            tail
        } else if let Some(tail) = tail.strip_prefix("}}") {
            json.push('}');
            tail
        } else {
            let (number, tail) = tail.strip_prefix('{')?.split_once('}')?;
            let own = number.parse() == Ok(index);
            json.push_str(if own { &mark } else { "null" });
            tail
        };
    }
    json.push_str(rest);
    let matrix: serde_json::Value = serde_json::from_str(&json).ok()?;
    let mark = serde_json::from_str(&mark).ok()?;
    let (key, value) = holding(&matrix, &mark)?;
    match holding(value, &mark).filter(|_| key == "axes") {
        Some((axis, _)) => Some(format!("the axis `{axis}`")),
        None => Some(format!("`{key}`")),
    }
}

/// The entry of a mapping with `mark` somewhere in its value.
fn holding<'v>(
    map: &'v serde_json::Value,
    mark: &serde_json::Value,
) -> Option<(&'v str, &'v serde_json::Value)> {
    let mut entries = map.as_object()?.iter();
    let found = entries.find(|(_, value)| holds(value, mark))?;
    Some((found.0.as_str(), found.1))
}

fn holds(value: &serde_json::Value, mark: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Array(items) => items.iter().any(|item| holds(item, mark)),
        serde_json::Value::Object(map) => map.values().any(|item| holds(item, mark)),
        value => value == mark,
    }
}
