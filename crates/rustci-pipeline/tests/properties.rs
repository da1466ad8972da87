//! No input makes this crate panic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use rustci_pipeline::expr::{self, Contexts, Status};
use rustci_pipeline::{
    Colour, Files, Plan, PlanRequest, compile, condition, diagnostic, habits, lint, template,
};

/// Text made of the pieces that pipelines are made of, in any order.
fn pieces(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(words).prop_map(str::to_owned),
        1 => "[a-zA-Z0-9_.-]{1,6}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

const YAML: &[&str] = &[
    "jobs:",
    "steps:",
    "run:",
    "a:",
    "b:",
    "\n",
    "\n  ",
    "\n    ",
    "\n      ",
    "- ",
    " ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&x ",
    "*x",
    "<<: ",
    "|",
    ">",
    "\"",
    "'",
    "#",
    "!!str ",
    "!t ",
    "---\n",
    "...",
    "matrix:",
    "axes:",
    "include:",
    "exclude:",
    "needs:",
    "on:",
    "push",
    "manual:",
    "inputs:",
    "env:",
    "if:",
    "timeout:",
    "retry:",
    "parallel:",
    "${{ ",
    " }}",
    "event.x",
    "git.ref",
    "1",
    "~",
    "true",
    "? ",
    "\t",
    "\r\n",
    "\u{feff}",
    "é",
];

const OLDER: &[&str] = &[
    "type: ",
    "simple",
    "minimal",
    "stages:",
    "steps:",
    "jobs:",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "\n      ",
    "name: ",
    "run: ",
    "step_type: ",
    "shell",
    "config: ",
    "command: ",
    "script: ",
    "stage: ",
    "matrix: ",
    "{a: [1, 2]}",
    "[a, b]",
    "cache: ",
    "{paths: [x], key: \"${A}\"}",
    "variables: ",
    "environment: ",
    "{A: \"${B:-x}${A}\"}",
    "triggers: ",
    "trigger_type: ",
    "git_push",
    "schedule",
    "include: ",
    "local: ",
    "server: ",
    "repo: ",
    "u@h",
    "timeout: ",
    "retry_count: ",
    "1",
    "condition: ",
    "parallel: true",
    "'${A}'",
    "${{ git.ref }}",
    "é",
    "~",
];

/// A value of any shape, with the keys of both dialects.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i32>().prop_map(serde_json::Value::from),
        prop::sample::select(OLDER).prop_map(serde_json::Value::from),
        prop::sample::select(&["make", "${A}", "a", "b", "shell", "git_push", "pull", "10s"][..])
            .prop_map(serde_json::Value::from),
    ];
    let key = prop::sample::select(
        &[
            "jobs",
            "steps",
            "run",
            "a",
            "b",
            "A",
            "on",
            "push",
            "needs",
            "matrix",
            "axes",
            "env",
            "if",
            "name",
            "stages",
            "stage",
            "script",
            "step_type",
            "config",
            "command",
            "type",
            "server",
            "host",
            "repo",
            "variables",
            "environment",
            "cache",
            "paths",
            "key",
            "policy",
            "include",
            "local",
            "triggers",
            "trigger_type",
            "timeout",
            "retry_count",
            "condition",
            "parallel",
            "continue_on_error",
            "working_directory",
            "cron_expression",
            "events",
            "branch_patterns",
        ][..],
    );
    leaf.prop_recursive(6, 120, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..8).prop_map(|map| {
                let map = map.into_iter().map(|(key, value)| (key.to_owned(), value));
                serde_json::Value::Object(map.collect())
            }),
        ]
    })
}

const EXPRESSION: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    ".",
    "*",
    ",",
    " ",
    "!",
    "==",
    "!=",
    "<",
    ">=",
    "&&",
    "||",
    "'a'",
    "''",
    "'",
    "1",
    "-1",
    "0x1f",
    ".5",
    "NaN",
    "Infinity",
    "true",
    "null",
    "git",
    "ref",
    "list",
    "object",
    "contains(",
    "startsWith(",
    "format(",
    "join(",
    "toJSON(",
    "fromJSON(",
    "case(",
    "success()",
    "always()",
    "hashFiles(",
    "'{0}{1}'",
    "'{{'",
    "'[1,2]'",
];

fn contexts() -> Contexts {
    let mut contexts = Contexts::new().with_status(Status::SUCCESS);
    contexts.set(
        "git",
        &serde_json::json!({"ref": "refs/heads/é", "sha": "0"}),
    );
    contexts.set(
        "list",
        &serde_json::json!([1, "two", {"three": [null, false]}]),
    );
    contexts.set("object", &serde_json::json!({"a": {"b": 1}, "c": {"b": 2}}));
    contexts
}

fn read(text: &str) {
    let found = lint("x.yaml", text);
    let shown = diagnostic::render_all(&found, text, Colour::On);
    assert_eq!(shown.is_empty(), found.is_empty());
    let _ = diagnostic::render_all(&habits("x.yaml", text, &Files::new()), text, Colour::On);
    let request = PlanRequest {
        event: "push".to_owned(),
        ..PlanRequest::default()
    };
    if let Ok(planned) = compile("x.yaml", text, &request) {
        let json = planned.plan.to_canonical_json();
        assert_eq!(Plan::from_json(&json).unwrap(), planned.plan);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_yaml_is_read(text in pieces(YAML)) {
        read(&text);
    }

    #[test]
    fn any_job_is_read(text in pieces(YAML)) {
        read(&format!("jobs:\n  a:\n    {text}\n    steps:\n      - run: x\n"));
    }

    #[test]
    fn any_older_file_is_read(text in pieces(OLDER)) {
        read(&text);
        read(&format!("type: advanced\n{text}"));
        read(&format!("stages:\n  - name: a\n    steps:\n      - name: b\n        {text}\n"));
        read(&format!("jobs:\n  a:\n    script: x\n    {text}\n"));
    }

    #[test]
    fn any_tree_is_read(tree in value()) {
        read(&tree.to_string());
        let steps = serde_json::json!({"steps": tree, "stages": null});
        read(&steps.to_string());
        read(&serde_json::json!({"stages": [{"name": "a", "steps": [tree]}]}).to_string());
        read(&serde_json::json!({"stages": ["a"], "jobs": {"a": tree}}).to_string());
        read(&serde_json::json!({"jobs": {"a": {"steps": [tree]}}}).to_string());
        let group = serde_json::json!({"parallel": [tree, {"run": "x"}]});
        read(&serde_json::json!({"jobs": {"a": {"steps": [group]}}}).to_string());
    }

    #[test]
    fn any_expression_is_evaluated(text in pieces(EXPRESSION)) {
        if let Ok(expr) = expr::parse(&text) {
            let _ = expr::evaluate(&expr, &contexts());
        }
        let _ = condition::evaluate(Some(&text), &contexts());
        let _ = template::render(&format!("a ${{{{ {text} }}}} b"), &contexts());
        read(&format!("jobs: {{a: {{steps: [{{run: x, if: {text:?}}}]}}}}"));
    }

    #[test]
    fn json_comes_back_through_an_expression(number in any::<f64>(), text in ".{0,20}") {
        let mut contexts = Contexts::new();
        let json = serde_json::json!({"n": number, "t": text, "l": [number, text]});
        contexts.set("x", &json);
        let expr = expr::parse("fromJSON(toJSON(x))").unwrap();
        let back = expr::evaluate(&expr, &contexts).unwrap();
        prop_assert_eq!(expr::Value::from(&json).to_json(), back.to_json());
    }
}
