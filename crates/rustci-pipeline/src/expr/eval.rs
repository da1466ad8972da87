//! Evaluation. Every evaluation has a budget of operations and of text it may build.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value as Json;

use super::ast::{Comparison, Expr, ExprKind};
use super::context::{Contexts, Status};
use super::error::{ExprError, ExprErrorKind};
use super::function::Function;
use super::value::{Value, upper};
use crate::limits::{EXPRESSION_STEPS_MAX, EXPRESSION_TEXT_BYTES_MAX};

/// Evaluates an expression. A context that is not there is null.
///
/// # Errors
/// [`ExprError`] when a function refuses its arguments, when status functions or `hashFiles` are
/// used and `contexts` has no answer for them, or when a limit is reached.
pub fn evaluate(expr: &Expr, contexts: &Contexts) -> Result<Value, ExprError> {
    evaluate_within(expr, contexts, &mut Budget::default())
}

/// The same for one of several expressions that share a budget.
pub(crate) fn evaluate_within(expr: &Expr, contexts: &Contexts, budget: &mut Budget) -> Evaluated {
    Evaluation { contexts, budget }.value(expr)
}

/// What is left to spend: operations, and bytes of text to build.
pub(crate) struct Budget {
    steps: u32,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            steps: EXPRESSION_STEPS_MAX,
            bytes: EXPRESSION_TEXT_BYTES_MAX,
        }
    }
}

struct Evaluation<'c, 'b> {
    contexts: &'c Contexts,
    budget: &'b mut Budget,
}

type Evaluated = Result<Value, ExprError>;

/// How much text is as dear to look at as one operation.
const BYTES_PER_STEP: usize = 256;

impl Evaluation<'_, '_> {
    fn value(&mut self, expr: &Expr) -> Evaluated {
        self.spend(1, &expr.at)?;
        match &expr.kind {
            ExprKind::Literal(value) => Ok(value.clone()),
            ExprKind::Context(name) => Ok(self.contexts.get(name).cloned().unwrap_or_default()),
            ExprKind::Index(of, index) => self.index(of, index),
            ExprKind::Star(of) => self.star(of),
            ExprKind::Not(inner) => Ok(Value::Bool(!self.value(inner)?.is_truthy())),
            ExprKind::And(items) => self.first(items, Stop::AtFalse),
            ExprKind::Or(items) => self.first(items, Stop::AtTrue),
            ExprKind::Compare(comparison, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.read([&left, &right], &expr.at)?;
                Ok(Value::Bool(compare(*comparison, &left, &right)))
            }
            ExprKind::Call(function, arguments) => self.call(*function, arguments, &expr.at),
        }
    }

    /// Takes operations off the budget.
    fn spend(&mut self, steps: usize, at: &Range<usize>) -> Result<(), ExprError> {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.budget.steps = self.budget.steps.checked_sub(steps).ok_or_else(|| {
            let message = format!("expression takes more than {EXPRESSION_STEPS_MAX} operations");
            ExprError::new(ExprErrorKind::Limit, at.clone(), message)
        })?;
        Ok(())
    }

    /// Pays for looking at texts, so that a long one compared often is not free.
    fn read(&mut self, values: [&Value; 2], at: &Range<usize>) -> Result<(), ExprError> {
        let bytes = values.iter().map(|value| match value {
            Value::String(text) => text.len(),
            _ => 0,
        });
        self.spend(bytes.sum::<usize>() / BYTES_PER_STEP, at)
    }

    /// A text that was built, paid for.
    fn text(&mut self, text: String, at: &Range<usize>) -> Evaluated {
        self.reserve(text.len(), at)?;
        Ok(Value::String(text.into()))
    }

    /// Takes bytes of text off the budget, before they are built where that is known.
    fn reserve(&mut self, bytes: usize, at: &Range<usize>) -> Result<(), ExprError> {
        self.budget.bytes = self.budget.bytes.checked_sub(bytes).ok_or_else(|| {
            let message =
                format!("expression builds more than {EXPRESSION_TEXT_BYTES_MAX} bytes of text");
            ExprError::new(ExprErrorKind::Limit, at.clone(), message)
        })?;
        Ok(())
    }

    /// The operand of `&&` or `||` that decides, without evaluating those behind it.
    fn first(&mut self, items: &[Expr], stop: Stop) -> Evaluated {
        let mut result = Value::Null;
        for item in items {
            result = self.value(item)?;
            if result.is_truthy() == (stop == Stop::AtTrue) {
                break;
            }
        }
        Ok(result)
    }

    /// `.*`: the items of a list, the values of an object, nothing of all else.
    fn star(&mut self, of: &Expr) -> Evaluated {
        let items = match self.value(of)? {
            Value::Array(items) => items,
            Value::Filtered(items) => {
                self.spend(items.len(), &of.at)?;
                Arc::new(items.iter().flat_map(children).collect())
            }
            object @ Value::Object(_) => Arc::new(children(&object)),
            _ => Arc::default(),
        };
        self.spend(items.len(), &of.at)?;
        Ok(Value::Filtered(items))
    }

    /// A property; of a filtered list the property of every item that has it.
    fn index(&mut self, of: &Expr, index: &Expr) -> Evaluated {
        let index = self.value(index)?;
        let of_value = self.value(of)?;
        let Value::Filtered(items) = of_value else {
            return Ok(property(&of_value, &index).unwrap_or_default());
        };
        self.spend(items.len(), &of.at)?;
        let found = items
            .iter()
            .filter_map(|item| property(item, &index))
            .collect();
        Ok(Value::Filtered(Arc::new(found)))
    }

    fn call(&mut self, function: Function, arguments: &[Expr], at: &Range<usize>) -> Evaluated {
        if function.is_status() {
            return self.status(function, at);
        }
        let values: Vec<Value> = arguments
            .iter()
            .map(|argument| self.value(argument))
            .collect::<Result<_, _>>()?;
        let first = values.first().cloned().unwrap_or_default();
        let second = values.get(1);
        self.read([&first, second.unwrap_or(&Value::Null)], at)?;
        match function {
            Function::Contains => self.contains(&first, second, at),
            Function::StartsWith => Ok(Value::Bool(affix(&first, second, |a, b| a.starts_with(b)))),
            Function::EndsWith => Ok(Value::Bool(affix(&first, second, |a, b| a.ends_with(b)))),
            Function::Format => self.format(&first.to_text(), values.get(1..).unwrap_or(&[]), at),
            Function::Join => self.join(&first, second, at),
            Function::ToJson => self.show_json(&first, at),
            Function::FromJson => self.read_json(&first, at),
            Function::Case => case(&values, at),
            _ => self.hash_files(&values, at),
        }
    }

    /// Answers `success()` and its like.
    fn status(&self, function: Function, at: &Range<usize>) -> Evaluated {
        let status = self.contexts.status().ok_or_else(|| {
            ExprError::evaluation(at, format!("`{}()` only works in `if`", function.name()))
        })?;
        Ok(Value::Bool(match function {
            Function::Success => Status::success(status),
            Function::Failure => status.failure(),
            Function::Cancelled => status.cancelled(),
            _ => true,
        }))
    }

    /// A text in a text without case, or a value equal to an item of a list.
    fn contains(&mut self, of: &Value, item: Option<&Value>, at: &Range<usize>) -> Evaluated {
        let item = item.cloned().unwrap_or_default();
        let found = match of {
            Value::Array(items) | Value::Filtered(items) => {
                self.spend(items.len(), at)?;
                items
                    .iter()
                    .any(|other| compare(Comparison::Equal, &item, other))
            }
            Value::Object(_) => false,
            _ if is_primitive(&item) => of
                .to_text()
                .to_lowercase()
                .contains(&item.to_text().to_lowercase()),
            _ => false,
        };
        Ok(Value::Bool(found))
    }

    /// The items of a list as texts; a single value is a list of one.
    fn join(&mut self, of: &Value, separator: Option<&Value>, at: &Range<usize>) -> Evaluated {
        let items = match of {
            Value::Array(items) | Value::Filtered(items) => items,
            Value::Object(_) => return Ok(Value::string("")),
            _ => return self.text(of.to_text(), at),
        };
        let separator = separator.filter(|value| is_primitive(value));
        let separator = separator.map_or_else(|| ",".to_owned(), Value::to_text);
        self.spend(items.len(), at)?;
        let mut out = String::new();
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(&separator);
            }
            out.push_str(&item.to_text());
            if out.len() > self.budget.bytes {
                break;
            }
        }
        self.text(out, at)
    }

    /// A text with `{0}` and the like replaced; doubled braces are single ones.
    fn format(&mut self, pattern: &str, values: &[Value], at: &Range<usize>) -> Evaluated {
        let mut out = String::new();
        let mut rest = pattern;
        while let Some(index) = rest.find(['{', '}']) {
            let (before, braces) = rest.split_at(index);
            out.push_str(before);
            let doubled = braces.starts_with("{{") || braces.starts_with("}}");
            rest = if doubled {
                out.push_str(braces.get(..1).unwrap_or_default());
                braces.get(2..).unwrap_or_default()
            } else {
                let (value, rest) = placeholder(braces, values, at)?;
                out.push_str(&value);
                rest
            };
            if out.len() > self.budget.bytes {
                break;
            }
        }
        out.push_str(rest);
        self.text(out, at)
    }

    fn show_json(&mut self, value: &Value, at: &Range<usize>) -> Evaluated {
        let mut out = String::new();
        super::value::write_json(value, 0, self.budget.bytes, &mut out);
        self.text(out, at)
    }

    fn read_json(&mut self, value: &Value, at: &Range<usize>) -> Evaluated {
        let text = value.to_text();
        // Reading costs as much as writing: without a price a loop of both would be free.
        self.reserve(text.len(), at)?;
        let json: Json = serde_json::from_str(&text).map_err(|error| {
            ExprError::evaluation(at, format!("`fromJSON` got text that is not JSON: {error}"))
        })?;
        Ok(Value::from(&json))
    }

    /// Asks whoever evaluates for the hash of files.
    fn hash_files(&self, patterns: &[Value], at: &Range<usize>) -> Evaluated {
        let patterns: Vec<String> = patterns.iter().map(Value::to_text).collect();
        let hash = self.contexts.hash_files().ok_or_else(|| {
            ExprError::evaluation(at, "`hashFiles` only works in steps, where there are files")
        })?;
        let hex = hash(&patterns).map_err(|message| ExprError::evaluation(at, message))?;
        Ok(Value::string(&hex))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    AtTrue,
    AtFalse,
}

/// Whether a value is a single one: no list, no object.
fn is_primitive(value: &Value) -> bool {
    !matches!(
        value,
        Value::Array(_) | Value::Filtered(_) | Value::Object(_)
    )
}

/// What `.*` finds under a value.
fn children(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) | Value::Filtered(items) => items.to_vec(),
        Value::Object(object) => object.iter().map(|(_, value)| value.clone()).collect(),
        _ => Vec::new(),
    }
}

/// A property of an object by name, or an item of a list by number.
fn property(of: &Value, index: &Value) -> Option<Value> {
    match of {
        Value::Object(object) if is_primitive(index) => object.get(&index.to_text()).cloned(),
        Value::Array(items) | Value::Filtered(items) => {
            let number = index.to_number();
            // The cast saturates, and a list never has that many items.
            (number >= 0.0)
                .then(|| items.get(number.floor() as usize).cloned())
                .flatten()
        }
        _ => None,
    }
}

/// The value behind the first condition that is true.
fn case(values: &[Value], at: &Range<usize>) -> Evaluated {
    for pair in values.chunks_exact(2) {
        let [condition, value] = pair else { continue };
        match condition {
            Value::Bool(true) => return Ok(value.clone()),
            Value::Bool(false) => {}
            other => {
                let message = format!("`case` needs booleans as conditions, not {}", other.kind());
                return Err(ExprError::evaluation(at, message));
            }
        }
    }
    Ok(values.last().cloned().unwrap_or_default())
}

/// Whether a text begins or ends with another, without case.
fn affix(text: &Value, part: Option<&Value>, test: fn(&str, &str) -> bool) -> bool {
    let part = part.cloned().unwrap_or_default();
    let fold = |value: &Value| upper(&value.to_text()).collect::<String>();
    is_primitive(text) && is_primitive(&part) && test(&fold(text), &fold(&part))
}

/// The value for the `{N}` that `braces` begins with, and what comes after it.
fn placeholder<'t>(
    braces: &'t str,
    values: &[Value],
    at: &Range<usize>,
) -> Result<(String, &'t str), ExprError> {
    let inner = braces
        .strip_prefix('{')
        .and_then(|rest| rest.split_once('}'));
    let Some((inner, rest)) =
        inner.filter(|(inner, _)| inner.starts_with(|c: char| c.is_ascii_digit()))
    else {
        let message = "`format` has a lone brace; write `{{` for `{` and `}}` for `}`";
        return Err(ExprError::evaluation(at, message));
    };
    let digits = inner
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(inner.len());
    let index: Option<usize> = inner.get(..digits).and_then(|digits| digits.parse().ok());
    let value = index.and_then(|index| values.get(index)).ok_or_else(|| {
        let message = format!("`format` uses {{{inner}}} and has {} values", values.len());
        ExprError::evaluation(at, message)
    })?;
    Ok((value.to_text(), rest))
}

/// Compares two values: of different kinds as numbers, texts without case, lists and objects by
/// identity.
fn compare(comparison: Comparison, left: &Value, right: &Value) -> bool {
    let equal = || order(left, right) == Some(std::cmp::Ordering::Equal) || same(left, right);
    let ordered = |wanted| order(left, right) == Some(wanted);
    match comparison {
        Comparison::Equal => equal(),
        Comparison::NotEqual => !equal(),
        Comparison::Less => ordered(std::cmp::Ordering::Less),
        Comparison::LessOrEqual => ordered(std::cmp::Ordering::Less) || equal(),
        Comparison::Greater => ordered(std::cmp::Ordering::Greater),
        Comparison::GreaterOrEqual => ordered(std::cmp::Ordering::Greater) || equal(),
    }
}

/// Equality of what has no order.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Array(a), Value::Array(b)) => Arc::ptr_eq(a, b),
        (Value::Object(a), Value::Object(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// The order of two values, where they have one.
fn order(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Value::Null, Value::Null) => None,
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(utf16(a).cmp(utf16(b))),
        _ if is_primitive(left) && is_primitive(right) => {
            left.to_number().partial_cmp(&right.to_number())
        }
        _ => None,
    }
}

// GitHub orders texts by UTF-16 units of their upper case.
fn utf16(text: &str) -> impl Iterator<Item = u16> + '_ {
    upper(text).flat_map(|c| {
        let mut units = [0; 2];
        let len = c.encode_utf16(&mut units).len();
        units.into_iter().take(len)
    })
}
