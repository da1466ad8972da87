//! The JSON Schema of the native file, made from the same tables of keys that reading checks.
//!
//! It knows shapes, not meanings: what needs the whole file (needs, expressions) only
//! [`lint`](crate::lint) finds. A value that may have expressions is any single value.

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::gates::SCOPES;
use super::job::CAUSES;
use super::keys;
use crate::limits::{
    DATA_ENTRIES_MAX, JOBS_MAX, PARALLEL_STEPS_MAX, RETRY_MAX, STEPS_MAX, WAITING_MAX,
};
use crate::shape::Keys;

/// A path from the project's root.
const PATH: &str = "^[^/~@:][^@:]*$";
/// A job of a file.
const USES: &str = "^[^/~@:#][^@:#]*#[A-Za-z_][A-Za-z0-9_-]*$";

/// Where the schema is published, relative to the project's own pages.
const ID: &str = "https://rustci.dev/spec/pipeline.schema.json";

/// The JSON Schema (draft 7) of a native pipeline file.
#[must_use]
pub fn schema() -> Value {
    let mut root = either(object(&keys::PIPELINE, &[]), ["jobs", "include"]);
    let head = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": ID,
        "title": "RustCI pipeline",
        "description": "A native pipeline file: .rustci.yaml or .rustci/*.yaml",
    });
    let mut schema = match head {
        Value::Object(head) => head,
        _ => Map::new(),
    };
    if let Value::Object(root) = &mut root {
        schema.append(root);
    }
    schema.insert("definitions".to_owned(), definitions());
    Value::Object(schema)
}

/// Every table of keys and the property of each key in the schema, for tests and for readers.
fn tables() -> Vec<(&'static str, Value)> {
    vec![
        ("include", object(&keys::INCLUDE, &["local"])),
        ("defaults", object(&keys::DEFAULTS, &[])),
        ("job", either(object(&keys::JOB, &[]), ["steps", "uses"])),
        ("step", object(&keys::STEP, &["run"])),
        ("parallel", object(&keys::PARALLEL, &["parallel"])),
        ("matrix", object(&keys::MATRIX, &[])),
        ("runs-on", object(&keys::RUNS_ON, &[])),
        ("retry", object(&keys::RETRY, &["max"])),
        ("concurrency", object(&keys::CONCURRENCY, &["group"])),
        ("environment", object(&keys::ENVIRONMENT, &["name"])),
        ("approval", object(&keys::APPROVAL, &[])),
        ("cache", object(&keys::CACHE, &["key", "paths"])),
        ("download", object(&keys::DOWNLOAD, &["name"])),
        ("artifact", object(&keys::ARTIFACT, &["name", "paths"])),
        ("reports", object(&keys::REPORTS, &[])),
        ("on", object(&keys::ON, &[])),
        ("cron", object(&keys::CRON, &["name", "schedule"])),
        ("filters", object(&keys::FILTERS, &[])),
        ("manual", object(&keys::MANUAL, &[])),
        ("input", object(&keys::INPUT, &[])),
    ]
}

/// The shapes that others refer to.
fn definitions() -> Value {
    let simple = json!({
        "text": { "type": ["string", "number", "boolean"], "not": { "const": "" } },
        "texts": { "anyOf": [reference("text"), list(&reference("text"))] },
        "flag": { "anyOf": [{ "type": "boolean" }, reference("expression")] },
        "expression": { "type": "string", "pattern": "\\$\\{\\{" },
        "duration": { "type": "string", "pattern": "^ *([0-9]+(ms|s|m|h|d) *)+$" },
        "environment-values": {
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 100 },
            "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
        },
        "named-values": {
            "type": "object",
            "propertyNames": id(),
            "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
        },
        "path": { "type": "string", "pattern": PATH },
        "when": { "enum": ["success", "failure", "always"] },
        "permissions": {
            "type": "object",
            "propertyNames": { "enum": SCOPES },
            "additionalProperties": { "enum": ["read", "write", "none"] },
        },
        "cause": {
            "anyOf": [
                { "enum": CAUSES.map(|(name, _)| name) },
                {
                    "type": "object",
                    "required": ["exit_code"],
                    "properties": {
                        "exit_code": { "type": "integer", "minimum": 0, "maximum": 255 },
                    },
                },
            ],
        },
        "rows": { "anyOf": [
            reference("expression"),
            { "type": "array", "items": { "anyOf": [reference("expression"), {
                "type": "object", "minProperties": 1, "propertyNames": id(),
            }] } },
        ] },
    });
    let mut definitions = match simple {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    for (name, table) in tables() {
        definitions.insert(name.to_owned(), table);
    }
    Value::Object(definitions)
}

/// A mapping with the keys of a table.
fn object(keys: &Keys, required: &[&str]) -> Value {
    let mut properties = Map::new();
    for name in keys.known {
        let property = property(keys.of, name).unwrap_or(Value::Bool(true));
        properties.insert((*name).to_owned(), property);
    }
    for later in keys.later.iter().filter(|later| !later.is_error()) {
        let text = format!(
            "left out with a warning: this version has no {}",
            later.what
        );
        properties.insert(later.name.to_owned(), json!({ "description": text }));
    }
    let mut object = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if let (Some(map), false) = (object.as_object_mut(), required.is_empty()) {
        map.insert("required".to_owned(), json!(required));
    }
    object
}

/// The same with one of two keys at least.
fn either(mut object: Value, keys: [&str; 2]) -> Value {
    if let Some(map) = object.as_object_mut() {
        let needed = keys.map(|key| json!({ "required": [key] }));
        map.insert("anyOf".to_owned(), json!(needed));
    }
    object
}

/// The value of a key, with a line on it for editors; none for a key that is not in the tables.
fn property(of: &str, name: &str) -> Option<Value> {
    let found = match of {
        "pipeline" => of_pipeline(name),
        "defaults" => of_defaults(name),
        "job" => of_job(name).or_else(|| of_job_data(name)),
        "step" => of_step(name),
        "parallel" => of_group(name),
        "matrix" => of_matrix(name),
        "on" | "filter" | "manual" | "input" | "cron" => of_triggers(of, name),
        "cache" | "downloads" | "artifacts" | "reports" => of_files(of, name),
        _ => of_settings(of, name),
    };
    let (mut value, description) = found?;
    // Beside `$ref` draft 7 takes no notice of anything.
    if let Some(reference) = value.get("$ref").cloned() {
        value = json!({ "allOf": [{ "$ref": reference }] });
    }
    if let Some(map) = value.as_object_mut() {
        map.insert("description".to_owned(), Value::from(description));
    }
    Some(value)
}

type Property = Option<(Value, &'static str)>;

fn of_pipeline(name: &str) -> Property {
    // A time has to be said, so it has no short form.
    let events: Vec<_> = keys::ON
        .known
        .iter()
        .filter(|name| **name != "cron")
        .collect();
    Some(match name {
        "version" => (json!({ "const": 1 }), "of the format"),
        "name" => (reference("text"), "of the pipeline; else the file's name"),
        "on" => (
            json!({ "anyOf": [
                { "enum": events },
                list(&json!({ "enum": events })),
                reference("on"),
            ] }),
            "which events start it; without it every event but a timed one",
        ),
        "concurrency" => (slot(), "the slot that a whole run holds"),
        "permissions" => (reference("permissions"), "what the tokens of jobs may do"),
        "include" => (
            json!({ "anyOf": [included(), list(&included())] }),
            "files whose jobs are jobs of this pipeline too",
        ),
        "defaults" => (reference("defaults"), "for what says nothing else"),
        "env" => (reference("environment-values"), "environment of every job"),
        "jobs" => (
            json!({
                "type": "object",
                "minProperties": 1,
                "maxProperties": JOBS_MAX,
                "propertyNames": id(),
                "additionalProperties": reference("job"),
            }),
            "ids to jobs",
        ),
        _ => return None,
    })
}

fn of_defaults(name: &str) -> Property {
    match name {
        "timeout" | "retry" | "runs-on" => of_job(name),
        "shell" | "working-directory" => of_step(name),
        _ => None,
    }
}

fn of_job(name: &str) -> Property {
    Some(match name {
        "name" => (
            reference("text"),
            "for people; only `matrix` can be used in it",
        ),
        "needs" => (reference("texts"), "ids of jobs that end first"),
        "runs-on" => (
            json!({ "anyOf": [reference("texts"), reference("runs-on")] }),
            "labels the runner needs",
        ),
        "matrix" => (
            json!({ "anyOf": [reference("expression"), reference("matrix")] }),
            "runs the job once for each combination of values",
        ),
        "if" => (reference("text"), "a condition"),
        "env" => (reference("environment-values"), "over the pipeline's"),
        "secrets" => (
            json!({ "anyOf": [reference("texts"), {
                "type": "object",
                "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 100 },
                "additionalProperties": id(),
            }] }),
            "environment names to names of secrets",
        ),
        "outputs" => (reference("named-values"), "names to texts, for later jobs"),
        "timeout" => (reference("duration"), "of one attempt; one hour by default"),
        "retry" => (retry(), "further attempts"),
        "continue-on-error" => (reference("flag"), "a failure counts as success for others"),
        "steps" => (
            json!({
                "type": "array",
                "minItems": 1,
                "maxItems": STEPS_MAX,
                "items": { "anyOf": [reference("step"), reference("parallel")] },
            }),
            "what it runs, in this order",
        ),
        _ => return None,
    })
}

fn of_job_data(name: &str) -> Property {
    Some(match name {
        "concurrency" => (slot(), "the slot that the job holds while it runs"),
        "environment" => (
            json!({ "anyOf": [reference("text"), reference("environment")] }),
            "where the job acts, and who has to agree first",
        ),
        "permissions" => (reference("permissions"), "what the job's token may do"),
        "checkout" => (json!({ "type": "boolean" }), "false for an empty workspace"),
        "cache" => (one_or_more(&reference("cache")), "files kept between runs"),
        "downloads" => (
            one_or_more(&json!({ "anyOf": [reference("text"), reference("download")] })),
            "artifacts of jobs before this one",
        ),
        "artifacts" => (
            one_or_more(&reference("artifact")),
            "files kept after the job",
        ),
        "reports" => (reference("reports"), "files read as reports"),
        "uses" => (
            json!({ "type": "string", "pattern": USES }),
            "a job of another file: FILE#JOB",
        ),
        "with" => (reference("named-values"), "inputs for `uses`"),
        _ => return None,
    })
}

fn of_step(name: &str) -> Property {
    Some(match name {
        "run" => (reference("text"), "the script"),
        "name" => (
            reference("text"),
            "for people; else the first line of `run`",
        ),
        "id" => (id(), "to use its results later"),
        "shell" => (
            json!({ "anyOf": [
                { "enum": ["bash", "sh", "python"] },
                { "type": "string", "pattern": "\\{0\\}" },
            ] }),
            "bash, sh, python, or a command line with {0} where the script file goes",
        ),
        "working-directory" => (reference("text"), "in the workspace"),
        "env" => (reference("environment-values"), "over the job's"),
        "if" => (reference("text"), "a condition"),
        "timeout" => (reference("duration"), "of one try"),
        "retry" => (retry(), "further tries on the same runner"),
        "continue-on-error" => (reference("flag"), "the job goes on as if it had succeeded"),
        _ => return None,
    })
}

fn of_group(name: &str) -> Property {
    let steps = json!({
        "type": "array",
        "minItems": 2,
        "maxItems": PARALLEL_STEPS_MAX,
        "items": reference("step"),
    });
    (name == "parallel").then_some((steps, "steps that run at the same time"))
}

fn of_matrix(name: &str) -> Property {
    Some(match name {
        "axes" => (
            json!({ "anyOf": [reference("expression"), {
                "type": "object",
                "propertyNames": id(),
                "additionalProperties": { "anyOf": [
                    reference("expression"), { "type": "array", "minItems": 1 },
                ] },
            }] }),
            "names to lists of values",
        ),
        "include" => (reference("rows"), "adds values, or instances of their own"),
        "exclude" => (reference("rows"), "leaves combinations out"),
        "fail-fast" => (
            json!({ "type": "boolean" }),
            "cancel the others when one fails",
        ),
        "max-parallel" => (count(1, JOBS_MAX), "how many run at once"),
        _ => return None,
    })
}

fn of_triggers(of: &str, name: &str) -> Property {
    let maybe = |shape: &str| json!({ "anyOf": [{ "type": "null" }, reference(shape)] });
    Some(match (of, name) {
        ("on", "push") => (maybe("filters"), "a push to a branch"),
        ("on", "pull_request") => (maybe("filters"), "`branches` is where it goes into"),
        ("on", "tag") => (maybe("texts"), "a tag that fits one of the patterns"),
        ("on", "manual") => (maybe("manual"), "a person"),
        ("filter", "branches") => (reference("texts"), "patterns; one has to fit"),
        ("filter", "branches-ignore") => (reference("texts"), "patterns; none may fit"),
        ("filter", "paths") => (reference("texts"), "one changed path has to fit"),
        ("filter", "paths-ignore") => (reference("texts"), "one changed path must not fit"),
        ("on", "cron") => (one_or_more(&reference("cron")), "times"),
        ("cron", "name") => (id(), "unique in the pipeline"),
        ("cron", "schedule") => (
            reference("text"),
            "minute, hour, day of the month, month, day of the week",
        ),
        ("cron", "timezone") => (reference("text"), "of the IANA database; UTC by default"),
        ("manual", "inputs") => (
            json!({
                "type": "object",
                "propertyNames": id(),
                "additionalProperties": maybe("input"),
            }),
            "what a person can give",
        ),
        ("input", "type") => (
            json!({ "enum": ["string", "number", "boolean", "choice"] }),
            "string by default",
        ),
        ("input", "description") => (reference("text"), "for people"),
        ("input", "required") => (json!({ "type": "boolean" }), "whether it has to be given"),
        ("input", "default") => (reference("text"), "what it is when nobody gives it"),
        ("input", "options") => (reference("texts"), "what can be chosen"),
        _ => return None,
    })
}

fn of_files(of: &str, name: &str) -> Property {
    Some(match (of, name) {
        ("cache", "key") => (reference("text"), "what it is found under"),
        ("cache", "restore-keys") => (reference("texts"), "beginnings of other keys, in order"),
        ("cache", "paths") => (reference("texts"), "in the workspace, or under ~/"),
        ("cache", "policy") => (
            json!({ "enum": ["pull-push", "pull", "push"] }),
            "restored, saved, or both",
        ),
        ("cache" | "artifacts", "when") => (reference("when"), "after which steps it is kept"),
        ("downloads", "name") => (reference("text"), "the artifact's"),
        ("downloads", "path") => (reference("text"), "where in the workspace"),
        ("artifacts", "name") => (reference("text"), "unique in the run"),
        ("artifacts", "paths") => (reference("texts"), "patterns; ! in front takes away"),
        ("artifacts", "expire") => (reference("duration"), "how long it is kept"),
        ("artifacts", "if-missing") => (
            json!({ "enum": ["warn", "error", "ignore"] }),
            "when no file fits",
        ),
        ("reports", "junit") => (reference("texts"), "patterns of JUnit files"),
        _ => return None,
    })
}

fn of_settings(of: &str, name: &str) -> Property {
    Some(match (of, name) {
        ("include entry", "local") => (reference("path"), "from the project's root"),
        ("include entry", "with") => (reference("named-values"), "its inputs"),
        ("runs-on", "os") => (reference("text"), "the label os=.."),
        ("runs-on", "arch") => (reference("text"), "the label arch=.."),
        ("runs-on", "all") => (reference("texts"), "every one is needed"),
        ("runs-on", "any") => (reference("texts"), "one is enough"),
        ("retry", "max") => (count(0, RETRY_MAX as usize), "tries after the first"),
        ("retry", "on") => (
            json!({ "anyOf": [reference("cause"), list(&reference("cause"))] }),
            "what is tried again; without it any failure",
        ),
        ("concurrency", "group") => (reference("text"), "the slot's name"),
        ("concurrency", "cancel-in-progress") => (
            reference("flag"),
            "whether a newcomer cancels who holds or waits",
        ),
        ("concurrency", "queue") => (count(1, WAITING_MAX as usize), "how many wait at most"),
        ("environment", "name") => (reference("text"), "such as production"),
        ("environment", "approval") => (reference("approval"), "who has to agree first"),
        ("approval", "from") => (reference("texts"), "people, or team/NAME"),
        ("approval", "timeout") => (reference("duration"), "7 days by default"),
        _ => return None,
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

/// A list with at least one item.
fn list(item: &Value) -> Value {
    json!({ "type": "array", "minItems": 1, "items": item })
}

/// A value, or a list of them.
fn one_or_more(item: &Value) -> Value {
    json!({ "anyOf": [item, {
        "type": "array", "minItems": 1, "maxItems": DATA_ENTRIES_MAX, "items": item,
    }] })
}

fn id() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$", "maxLength": 100 })
}

fn count(min: usize, max: usize) -> Value {
    json!({ "type": "integer", "minimum": min, "maximum": max })
}

fn retry() -> Value {
    json!({ "anyOf": [count(0, RETRY_MAX as usize), reference("retry")] })
}

fn included() -> Value {
    json!({ "anyOf": [reference("path"), reference("include")] })
}

fn slot() -> Value {
    json!({ "anyOf": [reference("text"), reference("concurrency")] })
}
