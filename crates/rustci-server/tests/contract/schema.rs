//! Checks JSON against the schemas of the document. A keyword it does not know fails the test: what
//! is written in the document is checked, or the test says that it is not.

use serde_json::{Map, Value};

/// Keywords that say nothing about a value.
const NOTES: &[&str] = &[
    "description",
    "default",
    "title",
    "example",
    "examples",
    "deprecated",
];

/// The findings of `value` against `schema`, each with its place; `document` resolves references.
pub(crate) fn findings(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check {
        document,
        findings: Vec::new(),
    };
    check.value(schema, value, "$");
    check.findings
}

/// Notes `$what` unless `$holds`.
macro_rules! must {
    ($check:expr, $holds:expr, $at:expr, $what:expr $(,)?) => {
        if !$holds {
            $check
                .findings
                .push(format!("{} {}: it is not", $at, $what));
        }
    };
}

struct Check<'d> {
    document: &'d Value,
    findings: Vec<String>,
}

impl Check<'_> {
    fn value(&mut self, schema: &Value, value: &Value, at: &str) {
        let Some(schema) = schema.as_object() else {
            must!(self, schema == &Value::Bool(true), at, "is allowed");
            return;
        };
        for (keyword, rule) in schema {
            self.keyword(schema, (keyword, rule), value, at);
        }
    }

    fn keyword(
        &mut self,
        schema: &Map<String, Value>,
        (keyword, rule): (&str, &Value),
        value: &Value,
        at: &str,
    ) {
        match keyword {
            "$ref" => self.reference(rule, value, at),
            "type" => self.kind(rule, value, at),
            "enum" => {
                must!(
                    self,
                    list(rule).contains(value),
                    at,
                    &format!("is one of {rule}")
                );
            }
            "const" => {
                must!(self, value == rule, at, &format!("is {rule}"));
            }
            "properties" => self.properties(rule, value, at),
            "required" => self.required(rule, value, at),
            "additionalProperties" => self.additional(schema, rule, value, at),
            "propertyNames" => {
                for name in value.as_object().into_iter().flat_map(Map::keys) {
                    self.value(rule, &Value::from(name.as_str()), at);
                }
            }
            "items" => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.value(rule, item, &format!("{at}[{place}]"));
                }
            }
            "oneOf" => self.alternatives(rule, value, at, |fits| fits == 1),
            "anyOf" => self.alternatives(rule, value, at, |fits| fits > 0),
            "allOf" => list(rule).iter().for_each(|one| self.value(one, value, at)),
            "minimum" | "maximum" | "minLength" | "maxLength" | "minItems" | "maxItems" => {
                self.bound((keyword, rule), value, at);
            }
            // The numbers are bounded by their own types; patterns are for what clients send.
            "format" | "pattern" => {}
            known if NOTES.contains(&known) => {}
            unknown => panic!("the document has a keyword that is not checked: {unknown}"),
        }
    }

    fn bound(&mut self, (keyword, rule): (&str, &Value), value: &Value, at: &str) {
        let size = match (keyword, value) {
            ("minimum" | "maximum", Value::Number(number)) => number.as_f64(),
            ("minLength" | "maxLength", Value::String(text)) => Some(text.chars().count() as f64),
            ("minItems" | "maxItems", Value::Array(items)) => Some(items.len() as f64),
            _ => None,
        };
        let bound = rule.as_f64().unwrap_or_default();
        let holds = match keyword.starts_with("min") {
            true => size.is_none_or(|size| size >= bound),
            false => size.is_none_or(|size| size <= bound),
        };
        must!(self, holds, at, format!("has {keyword} {rule}"));
    }

    fn reference(&mut self, to: &Value, value: &Value, at: &str) {
        let path = to.as_str().and_then(|to| to.strip_prefix('#')).unwrap();
        let document = self.document;
        let schema = document.pointer(path);
        self.value(
            schema.unwrap_or_else(|| panic!("{to} is not there")),
            value,
            at,
        );
    }

    fn kind(&mut self, rule: &Value, value: &Value, at: &str) {
        let kinds = match rule {
            Value::Array(kinds) => kinds.as_slice(),
            one => std::slice::from_ref(one),
        };
        let is = |kind: &Value| match kind.as_str().unwrap() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("there is no type {other}"),
        };
        must!(
            self,
            kinds.iter().any(is),
            at,
            &format!("is of type {rule}, not {value}"),
        );
    }

    fn properties(&mut self, rule: &Value, value: &Value, at: &str) {
        let Some(object) = value.as_object() else {
            return;
        };
        for (name, schema) in rule.as_object().unwrap() {
            if let Some(property) = object.get(name) {
                self.value(schema, property, &format!("{at}.{name}"));
            }
        }
    }

    fn required(&mut self, rule: &Value, value: &Value, at: &str) {
        let Some(object) = value.as_object() else {
            return;
        };
        for name in list(rule) {
            let name = name.as_str().unwrap();
            must!(self, object.contains_key(name), at, &format!("has {name}"));
        }
    }

    fn additional(&mut self, schema: &Map<String, Value>, rule: &Value, value: &Value, at: &str) {
        let known = schema.get("properties").and_then(Value::as_object);
        let others = value.as_object().into_iter().flatten();
        for (name, property) in others {
            if known.is_none_or(|known| !known.contains_key(name)) {
                self.value(rule, property, &format!("{at}.{name}"));
            }
        }
    }

    fn alternatives(&mut self, rule: &Value, value: &Value, at: &str, ok: fn(usize) -> bool) {
        let tried = list(rule)
            .iter()
            .map(|one| findings(self.document, one, value));
        let tried: Vec<_> = tried.collect();
        let fits = tried.iter().filter(|found| found.is_empty()).count();
        must!(
            self,
            ok(fits),
            at,
            &format!("fits the alternatives ({fits} do; {tried:?})"),
        );
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
