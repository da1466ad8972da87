//! What a step finds in its environment. Nothing of the runner's own gets in by accident.

use std::collections::BTreeMap;

use rustci_pipeline::v1;
use serde_json::Value as Json;

use super::contexts::arch;
use super::directory::JobDirectory;
use super::message::Begin;
use crate::process::MARK;

/// `PATH` where the runner has none to give.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Environment of one process: names to values.
pub(crate) type Environment = BTreeMap<String, String>;

/// What all steps of a job share: the machine's part and the facts about the run.
pub(crate) fn base(
    begin: &Begin,
    spec: &v1::JobSpec,
    contexts: &Json,
    dir: &JobDirectory,
) -> Environment {
    let mut env = Environment::new();
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            env.insert(name.to_owned(), value);
        }
    };
    set("PATH", DEFAULT_PATH.to_owned());
    set("USER", "ci".to_owned());
    set("LANG", "C.UTF-8".to_owned());
    for binding in &begin.host_env {
        set(&binding.name, binding.value.clone());
    }
    set("HOME", dir.home().to_string_lossy().into_owned());
    set("TMPDIR", dir.temporary().to_string_lossy().into_owned());
    set("TRACEPARENT", spec.traceparent.clone());
    for (name, value) in facts(begin, spec, dir).into_iter().chain(told(contexts)) {
        set(name, value);
    }
    for (name, value) in matrix(contexts) {
        set(&name, value);
    }
    env
}

/// The mark goes in last, over anything a job declares: it is how leftovers are found.
pub(crate) fn seal(env: &mut Environment, mark: &str) {
    env.insert(MARK.to_owned(), mark.to_owned());
}

/// What the attempt itself knows.
fn facts(begin: &Begin, spec: &v1::JobSpec, dir: &JobDirectory) -> Vec<(&'static str, String)> {
    let attempt = begin.attempt.unwrap_or_default();
    let workspace = dir.workspace().to_string_lossy().into_owned();
    vec![
        ("CI", "true".to_owned()),
        ("CI_SYSTEM", "rustci".to_owned()),
        ("CI_RUN", spec.run.to_string()),
        ("CI_PIPELINE", spec.pipeline.clone()),
        ("CI_JOB", spec.job_key.clone()),
        ("CI_JOB_ID", spec.job_id.clone()),
        ("CI_JOB_NUMBER", attempt.job.to_string()),
        ("CI_ATTEMPT", attempt.number.to_string()),
        ("CI_ENVIRONMENT", spec.environment.clone()),
        ("CI_WORKSPACE", workspace.clone()),
        ("CI_TEMP", dir.temporary().to_string_lossy().into_owned()),
        ("CI_RUNNER", begin.runner.clone()),
        ("CI_RUNNER_OS", "linux".to_owned()),
        ("CI_RUNNER_ARCH", arch().to_owned()),
        ("CI_RUNNER_VERSION", env!("CARGO_PKG_VERSION").to_owned()),
        ("RUSTCI", "true".to_owned()),
        ("RUSTCI_VERSION", env!("CARGO_PKG_VERSION").to_owned()),
        ("RUSTCI_RUNNER", begin.runner.clone()),
        ("RUSTCI_WORKSPACE", workspace),
    ]
}

/// Variables for what the server told about the run, each with its place in the contexts.
const TOLD: &[(&str, &str)] = &[
    ("CI_PROJECT", "/run/project"),
    ("CI_PIPELINE_FILE", "/run/file"),
    ("CI_EVENT", "/event/name"),
    ("CI_ACTOR", "/event/actor"),
    ("CI_PULL_REQUEST", "/event/number"),
    ("CI_TARGET_BRANCH", "/event/base"),
    ("CI_COMMIT", "/git/commit"),
    ("CI_COMMIT_MESSAGE", "/git/message"),
    ("CI_REF", "/git/ref"),
    ("CI_BRANCH", "/git/branch"),
    ("CI_TAG", "/git/tag"),
    ("CI_REPOSITORY", "/git/url"),
];

fn told(contexts: &Json) -> impl Iterator<Item = (&'static str, String)> {
    let text = |pointer: &str| contexts.pointer(pointer).map(plain).unwrap_or_default();
    let commit = text("/git/commit");
    let short = commit.get(..8).unwrap_or_default().to_owned();
    let told = TOLD
        .iter()
        .map(move |(name, pointer)| (*name, text(pointer)));
    told.chain([("CI_COMMIT_SHORT", short)])
}

/// The values of the matrix: one by one, and all of them as JSON.
fn matrix(contexts: &Json) -> Vec<(String, String)> {
    let Some(values) = contexts.get("matrix").and_then(Json::as_object) else {
        return Vec::new();
    };
    if values.is_empty() {
        return Vec::new();
    }
    let variable = |name: &str| format!("CI_MATRIX_{}", name.to_uppercase().replace('-', "_"));
    let single = values
        .iter()
        .map(|(name, value)| (variable(name), plain(value)));
    let whole = Json::Object(values.clone()).to_string();
    single.chain([("CI_MATRIX".to_owned(), whole)]).collect()
}

fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use valkyrie_frame::v2;

    fn begin() -> Begin {
        Begin {
            attempt: Some(v2::Attempt {
                job: 7,
                number: 2,
                fence: 9,
            }),
            runner: "r1".to_owned(),
            host_env: vec![v1::Binding {
                name: "PATH".to_owned(),
                value: "/bin".to_owned(),
            }],
            ..Begin::default()
        }
    }

    #[test]
    fn a_job_sees_the_facts_and_nothing_of_the_runner() {
        let spec = v1::JobSpec {
            run: 3,
            job_key: "test (a)".to_owned(),
            environment: "staging".to_owned(),
            ..Default::default()
        };
        let contexts = json!({"git": {"commit": "0123456789abcdef", "branch": "main"}, "event": {"name": "push"},
                "matrix": {"rust-version": 1.9, "db": "sqlite"}});
        let env = base(&begin(), &spec, &contexts, &JobDirectory::new("/d"));
        let expected = [
            ("CI", "true"),
            ("CI_RUN", "3"),
            ("CI_JOB", "test (a)"),
            ("CI_ATTEMPT", "2"),
            ("CI_COMMIT", "0123456789abcdef"),
            ("CI_COMMIT_SHORT", "01234567"),
            ("CI_MATRIX_RUST_VERSION", "1.9"),
            ("CI_MATRIX", r#"{"rust-version":1.9,"db":"sqlite"}"#),
            ("CI_ENVIRONMENT", "staging"),
            ("CI_BRANCH", "main"),
            ("CI_EVENT", "push"),
            ("HOME", "/d/home"),
            ("PATH", "/bin"),
            ("TMPDIR", "/d/tmp"),
        ];
        for (name, value) in expected {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!env.contains_key("CARGO_MANIFEST_DIR") && !env.contains_key("CI_TAG"));
    }
}
