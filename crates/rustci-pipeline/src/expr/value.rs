//! Values of expressions, with GitHub's coercions.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::canonical::{ecma_number, write_string};

/// A value of an expression. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Nothing; also what a missing property gives.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Every number is a double, as in JSON.
    Number(f64),
    /// Text.
    String(Arc<str>),
    /// A list.
    Array(Arc<Vec<Value>>),
    /// What `.*` gave: a list on which `.name` means the property of every item.
    Filtered(Arc<Vec<Value>>),
    /// Names to values, in order.
    Object(Arc<Object>),
}

/// Names to values, in order; found by exact name first, then without case.
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<(Arc<str>, Value)>);

impl Object {
    /// The value under `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let exact = self.0.iter().find(|(key, _)| **key == *name);
        let found = exact.or_else(|| self.0.iter().find(|(key, _)| same_text(key, name)));
        found.map(|(_, value)| value)
    }

    /// Sets `name`, replacing a value under exactly that name.
    pub fn set(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(key, _)| **key == *name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

impl<'a> FromIterator<(&'a str, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (&'a str, Value)>>(entries: I) -> Self {
        Self(
            entries
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
        )
    }
}

impl Value {
    /// A text value.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::String(text.into())
    }

    /// A list value.
    #[must_use]
    pub fn array(items: Vec<Self>) -> Self {
        Self::Array(Arc::new(items))
    }

    /// The kind as it is written in messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) | Self::Filtered(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// False for `false`, `0`, `NaN`, empty text and null; true for all else.
    #[must_use]
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(flag) => *flag,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::String(text) => !text.is_empty(),
            Self::Array(_) | Self::Filtered(_) | Self::Object(_) => true,
        }
    }

    /// The text that takes the place of `${{ }}`; `Array` and `Object` for those two.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(flag) => flag.to_string(),
            Self::Number(number) => number_text(*number),
            Self::String(text) => text.to_string(),
            Self::Array(_) | Self::Filtered(_) => "Array".to_owned(),
            Self::Object(_) => "Object".to_owned(),
        }
    }

    /// The number this counts as in comparisons; `NaN` when it is none.
    #[must_use]
    pub fn to_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(flag) => f64::from(u8::from(*flag)),
            Self::Number(number) => *number,
            Self::String(text) => parse_number(text.trim()),
            Self::Array(_) | Self::Filtered(_) | Self::Object(_) => f64::NAN,
        }
    }

    /// The value as JSON; `NaN` and the infinities become null, as JSON has none.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(flag) => Json::Bool(*flag),
            Self::Number(number) => json_number(*number),
            Self::String(text) => Json::String(text.to_string()),
            Self::Array(items) | Self::Filtered(items) => {
                Json::Array(items.iter().map(Self::to_json).collect())
            }
            Self::Object(object) => Json::Object(
                object
                    .iter()
                    .map(|(name, value)| (name.to_owned(), value.to_json()))
                    .collect(),
            ),
        }
    }
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Bool(*flag),
            Json::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Self::string(text),
            Json::Array(items) => Self::array(items.iter().map(Self::from).collect()),
            Json::Object(map) => Self::Object(Arc::new(
                map.iter()
                    .map(|(name, value)| (name.as_str(), Self::from(value)))
                    .collect(),
            )),
        }
    }
}

/// Whether two texts are the same when case does not count.
pub(crate) fn same_text(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.eq_ignore_ascii_case(b) || upper(a).eq(upper(b))
}

/// The characters in upper case, as comparisons see them.
pub(crate) fn upper(text: &str) -> impl Iterator<Item = char> + '_ {
    // The dotless i has an upper case that is an ASCII letter; GitHub leaves it alone.
    text.chars().flat_map(|c| {
        let keep = (c == 'ı').then_some(c);
        keep.into_iter()
            .chain((c != 'ı').then(|| c.to_uppercase()).into_iter().flatten())
    })
}

/// A number as it stands in a text.
fn number_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    if number.abs() >= 1e21 {
        return ecma_number(number);
    }
    // GitHub shows at most 15 places after the point: 0.1 + 0.2 would otherwise show its error.
    ecma_number(format!("{number:.15}").parse().unwrap_or(number))
}

fn json_number(number: f64) -> Json {
    // Whole numbers stay whole in JSON, so that 2 is not written as 2.0.
    let whole = format!("{number}").parse::<i64>();
    whole.map_or_else(|_| Json::from(number), Json::from)
}

/// Reads a number as GitHub does: decimal with exponent, `0x`, `0o`, `Infinity`; empty text is 0.
pub(crate) fn parse_number(text: &str) -> f64 {
    if text.is_empty() {
        return 0.0;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    match text {
        "Infinity" | "+Infinity" => return f64::INFINITY,
        "-Infinity" => return f64::NEG_INFINITY,
        _ => {}
    }
    let plain = text
        .chars()
        .all(|c| matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
    if plain {
        text.parse().unwrap_or(f64::NAN)
    } else {
        f64::NAN
    }
}

/// Digits of another base; `NaN` when there are none, or others.
fn radix(digits: &str, radix: u32) -> f64 {
    let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if !valid {
        return f64::NAN;
    }
    digits
        .chars()
        .filter_map(|c| c.to_digit(radix))
        .fold(0.0, |sum, digit| sum * f64::from(radix) + f64::from(digit))
}

/// Writes `value` as indented JSON, as `toJSON` gives it; stops soon after `limit` bytes.
pub(super) fn write_json(value: &Value, depth: usize, limit: usize, out: &mut String) {
    if out.len() > limit {
        return;
    }
    match value {
        Value::Number(number) if number.is_finite() => out.push_str(&ecma_number(*number)),
        Value::Null | Value::Number(_) => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::String(text) => write_string(text, out),
        Value::Array(items) | Value::Filtered(items) => {
            let items = items.iter().map(|item| (None, item));
            write_items('[', ']', items, depth, limit, out);
        }
        Value::Object(object) => {
            let items = object.iter().map(|(name, item)| (Some(name), item));
            write_items('{', '}', items, depth, limit, out);
        }
    }
}

/// Writes the items of a list or object, each on its own line.
fn write_items<'v>(
    open: char,
    close: char,
    items: impl Iterator<Item = (Option<&'v str>, &'v Value)>,
    depth: usize,
    limit: usize,
    out: &mut String,
) {
    out.push(open);
    let mut count = 0;
    for (name, item) in items {
        out.push_str(if count > 0 { ",\n" } else { "\n" });
        out.push_str(&"  ".repeat(depth + 1));
        if let Some(name) = name {
            write_string(name, out);
            out.push_str(": ");
        }
        write_json(item, depth + 1, limit, out);
        count += 1;
    }
    if count > 0 {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    }
    out.push(close);
}
