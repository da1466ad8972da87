//! Which events start a pipeline, and what people can give to it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use rustci_pipeline::{Code, PlanRefused, PlanRequest, Planned, compile, parse};
use serde_json::{Value, json};

const JOBS: &str = "\njobs: {a: {steps: [{run: x}]}}\n";

fn request(event: &str, git_ref: &str, paths: Option<&[&str]>) -> PlanRequest {
    PlanRequest {
        event: event.to_owned(),
        git_ref: (!git_ref.is_empty()).then(|| git_ref.to_owned()),
        changed_paths: paths.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect()),
        ..PlanRequest::default()
    }
}

/// Empty when the event starts the pipeline, else why not.
fn reason(on: &str, request: &PlanRequest) -> String {
    let planned = compile("ci.yaml", &format!("{on}{JOBS}"), request).unwrap();
    assert_eq!(planned.triggered, planned.reason.is_empty());
    planned.reason
}

#[test]
fn events_are_matched_by_name_and_filters() {
    let main = "refs/heads/main";
    let cases: &[(&str, PlanRequest, &str)] = &[
        ("", request("push", main, None), ""),
        ("", request("manual", "", None), ""),
        (
            "",
            request("cron", "", None),
            "`on` does not name the event `cron`",
        ),
        ("on: push", request("push", main, None), ""),
        (
            "on: push",
            request("manual", "", None),
            "`on` does not name the event `manual`",
        ),
        (
            "on: [tag, manual]",
            request("tag", "refs/tags/v1", None),
            "",
        ),
        ("on: {push: }", request("push", main, None), ""),
        (
            "on: {push: {branches: [main]}}",
            request("push", main, None),
            "",
        ),
        (
            "on: {push: {branches: [main]}}",
            request("push", "", None),
            "",
        ),
        (
            "on: {push: {branches: ['release/**', '!release/**-rc']}}",
            request("push", "refs/heads/release/1-rc", None),
            "`on.push.branches` does not fit `release/1-rc`",
        ),
        (
            "on: {pull_request: {branches-ignore: ['wip-*']}}",
            request("pull_request", "refs/heads/wip-x", None),
            "`on.pull_request.branches-ignore` fits `wip-x`",
        ),
        (
            "on: {push: {paths: ['src/**']}}",
            request("push", main, Some(&["a", "src/b"])),
            "",
        ),
        (
            "on: {push: {paths: ['src/**']}}",
            request("push", main, None),
            "",
        ),
        (
            "on: {push: {paths: ['src/**', '!src/doc/**']}}",
            request("push", main, Some(&["src/doc/x", "README.md"])),
            "no changed path fits `on.push.paths`",
        ),
        (
            "on: {push: {paths-ignore: ['*.md']}}",
            request("push", main, Some(&["a.md", "b"])),
            "",
        ),
        (
            "on: {push: {paths-ignore: ['*.md']}}",
            request("push", main, Some(&["a.md", "b.md"])),
            "every changed path fits `on.push.paths-ignore`",
        ),
        ("on: {tag: v*}", request("tag", "refs/tags/v1.2", None), ""),
        (
            "on: {tag: [v*]}",
            request("tag", "refs/tags/x", None),
            "`on.tag` does not fit `x`",
        ),
    ];
    for (on, request, expected) in cases {
        assert_eq!(reason(on, request), *expected, "{on} {request:?}");
    }
}

const INPUTS: &str = "on:
  manual:
    inputs:
      target: { type: choice, options: [staging, prod], default: prod }
      first: { options: [a, b] }
      count: { type: number, default: 3 }
      dry: { type: boolean }
      note:
      reason: { required: true }
";

fn give(inputs: Value) -> Result<Planned, PlanRefused> {
    let Value::Object(inputs) = inputs else {
        panic!("an object")
    };
    let request = PlanRequest {
        inputs,
        ..request("manual", "", None)
    };
    compile("ci.yaml", &format!("{INPUTS}{JOBS}"), &request)
}

#[test]
fn inputs_have_defaults_and_types() {
    let planned = give(json!({"reason": 5, "dry": "true", "count": "1.5"})).unwrap();
    assert_eq!(
        Value::Object(planned.inputs),
        json!({
            "target": "prod", "first": "a", "count": 1.5, "dry": true, "note": "", "reason": "5",
        })
    );
}

#[test]
fn only_a_person_has_to_give_what_is_required() {
    let missing = give(json!({})).unwrap_err().into_diagnostics();
    assert_eq!(missing[0].message, "input `reason` is required");
    for event in ["", "push", "pull_request", "tag", "cron"] {
        let planned = compile(
            "ci.yaml",
            &format!("{INPUTS}{JOBS}"),
            &request(event, "", None),
        );
        assert_eq!(planned.unwrap().inputs["reason"], "", "{event}");
    }
}

#[test]
fn an_unknown_input_lists_the_others() {
    let refused = give(json!({"reason": 1, "zzzzzz": 1})).unwrap_err();
    let found = refused.into_diagnostics();
    assert_eq!(
        (found[0].span.line, found[0].nearest.as_deref()),
        (4, None),
        "where the first input stands"
    );
    assert_eq!(
        found[0].help.as_deref(),
        Some("inputs: count, dry, first, note, reason, target")
    );
    let text = format!("on: manual{JOBS}");
    let given = PlanRequest {
        inputs: [("a".to_owned(), json!(1))].into_iter().collect(),
        ..request("manual", "", None)
    };
    let found = compile("ci.yaml", &text, &given).unwrap_err();
    let found = found.into_diagnostics();
    assert!(found[0].help.as_deref().unwrap().contains("has none"));
}

#[test]
fn wrong_inputs_are_all_told() {
    let refused =
        give(json!({"target": "live", "count": "many", "dry": 1, "note": [], "cuont": 1}))
            .unwrap_err();
    let diagnostics = refused.into_diagnostics();
    let mut messages: Vec<&str> = diagnostics
        .iter()
        .map(|found| found.message.as_str())
        .collect();
    messages.sort_unstable();
    assert_eq!(
        messages,
        [
            "input `count` is `many`, not a number",
            "input `dry` is `1`, not true or false",
            "input `note` has to be a single value",
            "input `reason` is required",
            "input `target` is `live`, not one of: staging, prod",
            "there is no input `cuont`",
        ]
    );
    assert!(
        diagnostics
            .iter()
            .all(|found| found.code == Code::INPUT_VALUE)
    );
    assert!(
        diagnostics
            .iter()
            .any(|found| found.nearest.as_deref() == Some("count"))
    );
}

#[test]
fn a_pipeline_that_cannot_be_done_is_refused_at_planning() {
    let text = |keys: &str| format!("jobs: {{a: {{{keys}, steps: [{{run: x}}]}}}}\n");
    let push = request("push", "", None);
    let refused = compile("ci.yaml", &text("image: x, provenance: slsa"), &push).unwrap_err();
    let found = refused.into_diagnostics();
    let codes: Vec<Code> = found.iter().map(|found| found.code).collect();
    assert_eq!(codes, [Code::NOT_YET, Code::IGNORED]);
    let parsed = parse("ci.yaml", &text("image: x, timeout: never"));
    let codes: Vec<Code> = parsed.diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(
        codes,
        [Code::NOT_YET, Code::DURATION],
        "nothing is left to plan, so that is told as well"
    );
    let warned = compile("ci.yaml", &text("provenance: slsa"), &push);
    assert_eq!(warned.unwrap().diagnostics.len(), 1);
}

#[test]
fn a_commit_can_ask_not_to_be_run() {
    let cases = [
        ("push", "wip [skip ci]", Some("[skip ci]")),
        (
            "pull_request",
            "docs\n\nlong text\n[CI Skip]\n",
            Some("[ci skip]"),
        ),
        ("push", "[no ci] x", Some("[no ci]")),
        ("push", "x [skip rustci]", Some("[skip rustci]")),
        ("push", "skip ci", None),
        ("manual", "[skip ci]", None),
        ("cron", "[skip ci]", None),
        ("tag", "[skip ci]", None),
    ];
    for (event, message, expected) in cases {
        let request = PlanRequest {
            message: Some(message.to_owned()),
            ..request(event, "", None)
        };
        let marker = match compile("ci.yaml", JOBS, &request) {
            Err(PlanRefused::Skipped { marker }) => Some(marker),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        };
        assert_eq!(marker, expected, "{event} {message}");
    }
}
