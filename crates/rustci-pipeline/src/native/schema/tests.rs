use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::schema;
use crate::diagnostic::Code;
use crate::report::Report;
use crate::yaml::{self, Source};
use crate::{lint, native};

#[test]
fn every_key_of_the_parser_has_a_type_and_a_description() {
    let schema = schema();
    let definitions = schema["definitions"].as_object().unwrap();
    let mut keys = 0;
    for object in definitions.values().chain([&schema]) {
        let properties = object["properties"].as_object();
        for (name, property) in properties.into_iter().flatten() {
            let described = property.get("description").is_some();
            assert!(described, "{name} of {object:#}");
            keys += 1;
        }
    }
    assert!(keys > 80, "only {keys} keys");
}

#[test]
fn the_published_schema_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/pipeline.schema.json");
    let text = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        published, text,
        "UPDATE=1 writes spec/pipeline.schema.json anew"
    );
}

#[test]
fn good_files_fit_the_schema_and_files_of_a_wrong_shape_do_not() {
    let schema = schema();
    let mut counts = [0; 2];
    let mut wrongly = Vec::new();
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let Some(value) = native_value(&text) else {
            continue;
        };
        let found = lint("x.yaml", &text);
        let errors: Vec<_> = found.iter().filter(|found| found.is_error()).collect();
        let shape = errors.iter().find(|found| is_shape(found.code));
        let refused = within(&schema, &schema, &value, "");
        match (shape, &refused) {
            (Some(_), Err(_)) => counts[1] += 1,
            (None, Ok(())) => counts[0] += 1,
            // Some other mistakes are told by the schema too.
            (None, Err(_)) if !errors.is_empty() => {}
            (None, Err(why)) => wrongly.push(format!("{}: refused: {why}", path.display())),
            (Some(found), Ok(())) => {
                wrongly.push(format!("{}: fits: {}", path.display(), found.message));
            }
        }
    }
    assert!(wrongly.is_empty(), "{}", wrongly.join("\n"));
    assert!(counts[0] > 20 && counts[1] > 15, "{counts:?}");
}

/// Whether a finding is about a shape that a schema always tells.
fn is_shape(code: Code) -> bool {
    let shapes = [
        Code::UNKNOWN_KEY,
        Code::MISSING_KEY,
        Code::TYPE,
        Code::RANGE,
        Code::EMPTY,
        Code::NOT_YET,
    ];
    shapes.contains(&code)
}

/// Every pipeline file of the tests and the examples.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open = vec![root.join("tests"), root.join("../../examples")];
    let mut files = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml") {
                files.push(path);
            }
        }
    }
    files.push(root.join("../../.rustci.yaml"));
    files.sort();
    files
}

/// The file as JSON; none when it is no YAML or of the older format.
fn native_value(text: &str) -> Option<Value> {
    let source = Source::new("x.yaml", text);
    let mut report = Report::new(source);
    let root = yaml::load(&mut report).ok()?;
    let (found, _) = report.finish();
    let sound = found.is_empty() && !native::tiers::fits(&root);
    sound.then(|| root.to_json())
}

/// As much of JSON Schema as the schema uses; anything else fails the test.
fn within(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(rules) = schema.as_object() else {
        return match schema {
            Value::Bool(false) => Err(format!("{at}: not allowed")),
            _ => Ok(()),
        };
    };
    for (rule, with) in rules {
        let part = |with: &Value, value: &Value, at: &str| within(root, with, value, at);
        match rule.as_str() {
            "$schema" | "$id" | "title" | "description" | "definitions" | "properties" => {}
            "additionalProperties" => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    let own = schema["properties"].get(name).unwrap_or(with);
                    part(own, item, &format!("{at}.{name}"))?;
                }
            }
            "$ref" => {
                let pointer = with.as_str().unwrap().strip_prefix('#').unwrap();
                part(root.pointer(pointer).expect(pointer), value, at)?;
            }
            _ => parts(rule, with, value, at, &part)?,
        }
    }
    Ok(())
}

/// The rules that look at a value through other schemas; `part` does that.
fn parts(
    rule: &str,
    with: &Value,
    value: &Value,
    at: &str,
    part: &dyn Fn(&Value, &Value, &str) -> Result<(), String>,
) -> Result<(), String> {
    let list = || with.as_array().unwrap().iter();
    match rule {
        "allOf" => list().try_for_each(|with| part(with, value, at)),
        "anyOf" => {
            let mut results = list().map(|with| part(with, value, at));
            results
                .find(Result::is_ok)
                .unwrap_or_else(|| Err(format!("{at}: fits none of {with}")))
        }
        "not" => match part(with, value, at) {
            Ok(()) => Err(format!("{at}: is {with}")),
            Err(_) => Ok(()),
        },
        "items" => {
            let mut items = value.as_array().into_iter().flatten();
            items.try_for_each(|item| part(with, item, at))
        }
        "propertyNames" => {
            let mut names = value.as_object().into_iter().flat_map(|map| map.keys());
            names.try_for_each(|name| part(with, &Value::from(name.as_str()), at))
        }
        _ if fits(rule, with, value) => Ok(()),
        _ => Err(format!("{at}: {rule} {with}")),
    }
}

/// The rules that look at nothing but the value.
fn fits(rule: &str, with: &Value, value: &Value) -> bool {
    let items = value.as_array().map(Vec::len);
    let properties = value.as_object().map(serde_json::Map::len);
    match rule {
        "const" => value == with,
        "enum" => with.as_array().unwrap().contains(value),
        "type" => match with {
            Value::Array(types) => types.iter().any(|name| is_type(value, name)),
            name => is_type(value, name),
        },
        "pattern" => value.as_str().is_none_or(|text| matches(with, text)),
        "maxLength" => value.as_str().is_none_or(|text| text.len() <= size(with)),
        "minimum" => value
            .as_f64()
            .is_none_or(|number| number >= with.as_f64().unwrap()),
        "maximum" => value
            .as_f64()
            .is_none_or(|number| number <= with.as_f64().unwrap()),
        "minItems" => items.is_none_or(|count| count >= size(with)),
        "maxItems" => items.is_none_or(|count| count <= size(with)),
        "minProperties" => properties.is_none_or(|count| count >= size(with)),
        "maxProperties" => properties.is_none_or(|count| count <= size(with)),
        "required" => value.as_object().is_none_or(|map| {
            let needed = with.as_array().unwrap();
            needed
                .iter()
                .all(|name| map.contains_key(name.as_str().unwrap()))
        }),
        other => panic!("the schema uses `{other}`"),
    }
}

fn size(with: &Value) -> usize {
    usize::try_from(with.as_u64().unwrap()).unwrap()
}

fn is_type(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other}"),
    }
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(['/', '~']) && !text.contains(['@', ':'])
}

/// The few patterns there are, each by hand.
fn matches(pattern: &Value, text: &str) -> bool {
    let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    match pattern.as_str().unwrap() {
        "\\$\\{\\{" => text.contains("${{"),
        "\\{0\\}" => text.contains("{0}"),
        "^[A-Za-z_][A-Za-z0-9_]*$" => {
            begins(text) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        }
        "^[A-Za-z_][A-Za-z0-9_-]*$" => {
            begins(text)
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        }
        "^ *([0-9]+(ms|s|m|h|d) *)+$" => crate::duration::parse_ms(text).is_some(),
        "^[^/~@:][^@:]*$" => is_path(text),
        "^[^/~@:#][^@:#]*#[A-Za-z_][A-Za-z0-9_-]*$" => text
            .split_once('#')
            .is_some_and(|(path, job)| is_path(path) && begins(job)),
        other => panic!("the schema has the pattern {other}"),
    }
}
