//! No input makes this crate panic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use rustci_pipeline::expr::{self, Contexts, Status};
use rustci_pipeline::{Colour, Plan, PlanRequest, compile, condition, diagnostic, lint, template};

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
    "jobs:", "steps:", "run:", "a:", "b:", "\n", "\n  ", "\n    ", "\n      ", "- ", " ", ": ",
    "{", "}", "[", "]", ",", "&x ", "*x", "<<: ", "|", ">", "\"", "'", "#", "!!str ", "!t ",
    "---\n", "...", "matrix:", "axes:", "include:", "exclude:", "needs:", "on:", "push", "manual:",
    "inputs:", "env:", "if:", "timeout:", "retry:", "${{ ", " }}", "event.x", "git.ref", "1", "~",
    "true", "? ", "\t", "\r\n", "\u{feff}", "é",
];

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
