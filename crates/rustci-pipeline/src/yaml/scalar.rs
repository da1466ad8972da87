//! Plain text to null, booleans and numbers, by the core schema (YAML 1.2.2, 10.3.2).

use serde_json::{Number, Value};

/// A single value: its text, and what the core schema takes it for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) core: Core,
}

/// What the core schema takes a scalar for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Core {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text,
}

impl Scalar {
    /// A scalar without quotes.
    pub(crate) fn plain(text: String) -> Self {
        Self {
            core: resolve(&text),
            text,
        }
    }

    /// A scalar that is text because it is quoted, a block, or tagged.
    pub(crate) fn text(text: String) -> Self {
        Self {
            core: Core::Text,
            text,
        }
    }

    /// The value in JSON's types.
    pub(super) fn to_json(&self) -> Value {
        match self.core {
            Core::Null => Value::Null,
            Core::Bool(flag) => Value::Bool(flag),
            Core::Integer(number) => Value::Number(number.into()),
            // JSON has no infinity; the text says what was meant.
            Core::Float(number) => Number::from_f64(number)
                .map_or_else(|| Value::String(self.text.clone()), Value::Number),
            Core::Text => Value::String(self.text.clone()),
        }
    }
}

/// What plain text means.
fn resolve(text: &str) -> Core {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Core::Null,
        "true" | "True" | "TRUE" => return Core::Bool(true),
        "false" | "False" | "FALSE" => return Core::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Core::Float(f64::NAN),
        _ => {}
    }
    integer(text).or_else(|| float(text)).unwrap_or(Core::Text)
}

/// Decimal, `0x` or `0o`.
fn integer(text: &str) -> Option<Core> {
    let radix = |digits: &str, radix| {
        let valid = digits.chars().all(|c| c.is_digit(radix));
        if valid {
            i64::from_str_radix(digits, radix).ok()
        } else {
            None
        }
    };
    let number = match text.split_at_checked(2) {
        Some(("0x", digits)) => radix(digits, 16),
        Some(("0o", digits)) => radix(digits, 8),
        _ => {
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if decimal { text.parse().ok() } else { None }
        }
    };
    number.map(Core::Integer)
}

/// Decimal with point or exponent, or an infinity.
fn float(text: &str) -> Option<Core> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Some(Core::Float(sign * f64::INFINITY));
    }
    let number = digits
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
        && digits.starts_with(|c: char| c == '.' || c.is_ascii_digit());
    if !number {
        return None;
    }
    digits
        .parse()
        .ok()
        .map(|number: f64| Core::Float(sign * number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_follows_the_core_schema() {
        let cases = [
            ("on", Core::Text),
            ("yes", Core::Text),
            ("off", Core::Text),
            ("~", Core::Null),
            ("", Core::Null),
            ("True", Core::Bool(true)),
            ("tRue", Core::Text),
            ("12", Core::Integer(12)),
            ("-012", Core::Integer(-12)),
            ("0x1F", Core::Integer(31)),
            ("0o17", Core::Integer(15)),
            ("1e3", Core::Float(1000.0)),
            (".5", Core::Float(0.5)),
            ("-.inf", Core::Float(f64::NEG_INFINITY)),
            ("1.2.3", Core::Text),
            ("1_000", Core::Text),
            ("12:30", Core::Text),
            ("-", Core::Text),
            (".", Core::Text),
            ("99999999999999999999", Core::Float(1e20)),
        ];
        for (text, core) in cases {
            assert_eq!(Scalar::plain(text.to_owned()).core, core, "{text}");
        }
    }
}
