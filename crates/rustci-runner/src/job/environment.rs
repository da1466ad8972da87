//! What a step finds in its environment. Nothing of the runner's own gets in by accident.

use std::collections::BTreeMap;

use rustci_pipeline::v1;
use serde_json::Value as Json;

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
    for (name, value) in facts(begin, spec, contexts, dir) {
        set(name, value);
    }
    env
}

/// The mark goes in last, over anything a job declares: it is how leftovers are found.
pub(crate) fn seal(env: &mut Environment, mark: &str) {
    env.insert(MARK.to_owned(), mark.to_owned());
}

fn facts(
    begin: &Begin,
    spec: &v1::JobSpec,
    contexts: &Json,
    dir: &JobDirectory,
) -> Vec<(&'static str, String)> {
    let attempt = begin.attempt.unwrap_or_default();
    let workspace = dir.workspace().to_string_lossy().into_owned();
    let text = |pointer: &str| contexts.pointer(pointer).map(plain).unwrap_or_default();
    vec![
        ("CI", "true".to_owned()),
        ("CI_SYSTEM", "rustci".to_owned()),
        ("CI_RUN", spec.run.to_string()),
        ("CI_PROJECT", text("/run/project")),
        ("CI_PIPELINE", spec.pipeline.clone()),
        ("CI_PIPELINE_FILE", text("/run/file")),
        ("CI_JOB", spec.job_key.clone()),
        ("CI_JOB_ID", spec.job_id.clone()),
        ("CI_JOB_NUMBER", attempt.job.to_string()),
        ("CI_ATTEMPT", attempt.number.to_string()),
        ("CI_WORKSPACE", workspace.clone()),
        ("CI_EVENT", text("/event/name")),
        ("CI_COMMIT", text("/git/commit")),
        ("CI_REF", text("/git/ref")),
        ("CI_BRANCH", text("/git/branch")),
        ("CI_TAG", text("/git/tag")),
        ("RUSTCI", "true".to_owned()),
        ("RUSTCI_VERSION", env!("CARGO_PKG_VERSION").to_owned()),
        ("RUSTCI_RUNNER", begin.runner.clone()),
        ("RUSTCI_WORKSPACE", workspace),
    ]
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
            ..Default::default()
        };
        let contexts =
            json!({"git": {"commit": "abc", "branch": "main"}, "event": {"name": "push"}});
        let env = base(&begin(), &spec, &contexts, &JobDirectory::new("/d"));
        let expected = [
            ("CI", "true"),
            ("CI_RUN", "3"),
            ("CI_JOB", "test (a)"),
            ("CI_ATTEMPT", "2"),
            ("CI_COMMIT", "abc"),
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
