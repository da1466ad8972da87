//! Pipelines of several files: what is read, what it may cost, and that nothing makes it panic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::time::Duration;

use proptest::prelude::*;
use rustci_pipeline::{
    Code, Colour, Files, Plan, PlanRequest, compile_with, diagnostic, habits, included,
    is_template, lint_template, lint_with, parse_with,
};

fn files<'t>(texts: impl IntoIterator<Item = (&'t str, String)>) -> Files {
    let texts = texts.into_iter();
    texts.map(|(name, text)| (name.to_owned(), text)).collect()
}

#[test]
fn the_files_that_a_text_names_are_told() {
    let text = "
include: [{ local: ./a.yaml }, b.yaml, { local: ../x.yaml }, { git: x }, https://x, b.yaml]
jobs:
  one: { uses: dir//c.yaml#job }
  two: { uses: a.yaml#job }
  three: { uses: nothing }
  four: { uses: [] }
";
    assert_eq!(included(text), ["a.yaml", "b.yaml", "dir/c.yaml"]);
    assert!(included("include: [").is_empty());
    assert!(included("- a").is_empty());
}

#[test]
fn a_pipeline_can_use_jobs_of_its_own_file() {
    let text = "
jobs:
  build: { env: { LEVEL: low }, steps: [{ run: make }] }
  release: { uses: ci.yaml#build, env: { LEVEL: high }, needs: [build] }
";
    let request = PlanRequest::default();
    let plan = compile_with("ci.yaml", text, &Files::new(), &request)
        .unwrap()
        .plan;
    let levels: Vec<&str> = plan
        .jobs
        .iter()
        .map(|job| job.env["LEVEL"].as_str())
        .collect();
    assert_eq!(levels, ["low", "high"]);
    assert_eq!(plan.jobs[1].steps, plan.jobs[0].steps);
}

#[test]
fn the_digest_is_that_of_the_same_jobs_in_one_file() {
    let whole = "
env: { A: one }
jobs:
  test: { timeout: 5m, steps: [{ run: cargo +stable test }] }
";
    let template = "
inputs: { toolchain: , limit: { default: 5m } }
env: { A: one }
jobs:
  test: { timeout: \"${{ inputs.limit }}\", steps: [{ run: \"cargo +${{ inputs.toolchain }} test\" }] }
";
    let files = files([("t.yaml", template.to_owned())]);
    let text = "include: { local: t.yaml, with: { toolchain: stable } }";
    let request = PlanRequest::default();
    let digest = |text, files: &Files| {
        let planned = compile_with("ci.yaml", text, files, &request);
        planned.unwrap().plan.digest()
    };
    assert_eq!(digest(text, &files), digest(whole, &Files::new()));
}

#[test]
fn steps_have_their_place_in_the_file_they_are_in() {
    let template =
        "inputs: { x: }\njobs:\n  a:\n    steps:\n      - run: one\n      - run: ${{ inputs.x }}\n";
    let files = files([("t.yaml", template.to_owned())]);
    let text =
        "jobs:\n  own: { steps: [{ run: make }] }\n  used: { uses: t.yaml#a, with: { x: two } }\n";
    let pipeline = parse_with("ci.yaml", text, &files).pipeline.unwrap();
    assert_eq!(pipeline.step_place("own", 0), Some(("ci.yaml", 2)));
    assert_eq!(pipeline.step_place("used", 1), Some(("t.yaml", 6)));
    assert_eq!(pipeline.step_place("used", 2), None);
}

// See `bombs.rs`.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 4000 } else { 200 });

fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn check(name: &str, text: &str, files: &Files, code: Option<Code>) {
    let start = processor_time();
    let found = lint_with("ci.yaml", text, files);
    let took = processor_time() - start;
    let codes: Vec<String> = found.iter().map(|found| found.code.to_string()).collect();
    match code {
        Some(code) => assert!(
            found.iter().any(|found| found.code == code),
            "{name}: {code} not in {codes:?}"
        ),
        None => assert!(found.is_empty(), "{name}: {found:?}"),
    }
    assert!(took < LIMIT, "{name} took {took:?}");
}

#[test]
fn inclusions_cannot_be_made_to_cost() {
    // Each level brings the text of the next one ten times.
    let ten = "${{ inputs.x }}".repeat(10);
    let level = |next: usize| {
        format!("inputs: {{ x: }}\ninclude: {{ local: f{next}.yaml, with: {{ x: \"{ten}\" }} }}\n")
    };
    let names: Vec<String> = (0..8).map(|n| format!("f{n}.yaml")).collect();
    let texts = names
        .iter()
        .enumerate()
        .map(|(n, name)| (name.as_str(), level(n + 1)));
    let laughs = files(texts.chain([("f8.yaml", "env: {}\n".to_owned())]));
    let long = format!(
        "include: {{ local: f0.yaml, with: {{ x: {} }} }}",
        "lol".repeat(1000)
    );
    check("text", &long, &laughs, Some(Code::INCLUDE_LIMIT));
    let expression = "include: { local: f0.yaml, with: { x: \"${{ event.x }}\" } }";
    check("expression", expression, &laughs, Some(Code::INCLUDE_LIMIT));

    // A template of many values, used often.
    let steps = "      - run: make ${{ inputs.x }}\n".repeat(1000);
    let job = format!("inputs: {{ x: }}\njobs:\n  a:\n    steps:\n{steps}");
    let large = files([("t.yaml", job)]);
    let uses = |count: usize| -> String {
        let jobs =
            (0..count).map(|n| format!("  j{n}: {{ uses: t.yaml#a, with: {{ x: {n} }} }}\n"));
        format!("jobs:\n{}", jobs.collect::<String>())
    };
    check("uses", &uses(1000), &large, Some(Code::INCLUDE_LIMIT));
    let plain = format!(
        "jobs:\n  a:\n    steps:\n{}",
        "      - run: make\n".repeat(1000)
    );
    let jobs: String = (0..1000)
        .map(|n| format!("  j{n}: {{ uses: t.yaml#a }}\n"))
        .collect();
    let plain = files([("t.yaml", plain)]);
    check(
        "plain uses",
        &format!("jobs:\n{jobs}"),
        &plain,
        Some(Code::INCLUDE_LIMIT),
    );

    // Many small ones are fine.
    let small = "inputs: { x: }\njobs: { a: { steps: [{ run: \"echo ${{ inputs.x }}\" }] } }\n";
    let small = files([("t.yaml", small.to_owned())]);
    check("small", &uses(900), &small, None);
}

#[test]
fn files_are_counted() {
    // One file that includes itself in many ways.
    let list: String = (0..3000)
        .map(|n| format!("{{ local: s.yaml, with: {{ x: {n} }} }}, "))
        .collect();
    let itself = files([("s.yaml", format!("inputs: {{ x: }}\ninclude: [{list}]\n"))]);
    check(
        "itself",
        "include: s.yaml",
        &itself,
        Some(Code::INCLUDE_CYCLE),
    );
    let many: Vec<(String, String)> = (0..70)
        .map(|n| (format!("m{n}.yaml"), "env: {}".to_owned()))
        .collect();
    let names: Vec<&str> = many.iter().map(|(name, _)| name.as_str()).collect();
    let text = format!("include: [{}]\njobs: {{}}", names.join(", "));
    check(
        "files",
        &text,
        &many.iter().cloned().collect(),
        Some(Code::INCLUDE_LIMIT),
    );
    let big = format!("# {}\nenv: {{}}", "x".repeat(900_000));
    let big: Files = (0..6)
        .map(|n| (format!("b{n}.yaml"), big.clone()))
        .collect();
    let names: Vec<&str> = big.keys().map(String::as_str).collect();
    let text = format!("include: [{}]\njobs: {{}}", names.join(", "));
    check("bytes", &text, &big, Some(Code::INCLUDE_LIMIT));
}

#[test]
fn large_matrices_from_expressions_are_refused() {
    let values: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    let text = format!(
        "jobs: {{ a: {{ matrix: {{ axes: {{ x: [{}, \"${{{{ git.ref }}}}\"] }} }}, steps: [{{ run: x }}] }} }}",
        values.join(",")
    );
    check("static part", &text, &Files::new(), Some(Code::TOO_MANY));
    let values = "\"${{ git.ref }}\", ".repeat(5000);
    let text = format!(
        "jobs: {{ a: {{ matrix: {{ axes: {{ x: [{values}] }} }}, steps: [{{ run: x }}] }} }}"
    );
    check("values", &text, &Files::new(), Some(Code::TOO_MANY));
    let downloads: String = (0..100).map(|n| format!("artifact-{n}, ")).collect();
    let jobs: String = (0..400)
        .map(|n| {
            format!(
                "  j{n}: {{ needs: [j{}], downloads: [{downloads}], steps: [{{ run: x }}], artifacts: {{ name: a{n}, paths: x }} }}\n",
                (n + 399) % 400
            )
        })
        .collect();
    check(
        "downloads",
        &format!("jobs:\n{jobs}"),
        &Files::new(),
        Some(Code::DOWNLOAD),
    );
}

/// Trees made of the keys of the native format, more or less where they belong.
fn tree() -> impl Strategy<Value = serde_json::Value> {
    let scalar = prop::sample::select(
        &[
            "a",
            "b.yaml",
            "b.yaml#a",
            "a.yaml#b",
            "ci.yaml#a",
            "${{ inputs.x }}",
            "${{ inputs.y }}-z",
            "${{ fromJSON(needs.a.outputs.x) }}",
            "${{ event.title }}",
            "inputs.x == 'a'",
            "17 3 * * *",
            "* * 30 2 *",
            "Europe/Berlin",
            "5m",
            "always",
            "failure",
            "write",
            "~/x",
            "../x",
            "x/**",
            "!x",
            "",
            "${{",
            "cron",
            "choice",
        ][..],
    );
    let leaf = prop_oneof![
        6 => scalar.prop_map(serde_json::Value::from),
        1 => any::<bool>().prop_map(serde_json::Value::from),
        1 => (-2i64..300).prop_map(serde_json::Value::from),
        1 => Just(serde_json::Value::Null),
        1 => ".{0,8}".prop_map(serde_json::Value::from),
    ];
    let key = prop::sample::select(
        &[
            "a",
            "b",
            "x",
            "y",
            "jobs",
            "steps",
            "run",
            "on",
            "cron",
            "name",
            "schedule",
            "timezone",
            "include",
            "local",
            "with",
            "inputs",
            "uses",
            "type",
            "default",
            "options",
            "required",
            "env",
            "defaults",
            "needs",
            "matrix",
            "axes",
            "exclude",
            "if",
            "outputs",
            "cache",
            "key",
            "restore-keys",
            "paths",
            "policy",
            "when",
            "artifacts",
            "downloads",
            "path",
            "expire",
            "if-missing",
            "reports",
            "junit",
            "checkout",
            "environment",
            "approval",
            "from",
            "timeout",
            "permissions",
            "contents",
            "concurrency",
            "group",
            "cancel-in-progress",
            "queue",
            "retry",
            "max",
            "secrets",
            "runs-on",
            "max-parallel",
            "${{ inputs.x }}",
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

/// A file whose jobs and other keys are trees.
fn file() -> impl Strategy<Value = String> {
    let job =
        || prop::collection::btree_map(prop::sample::select(&["a", "b", "x"][..]), tree(), 1..3);
    let top =
        prop::sample::select(&["include", "inputs", "on", "env", "defaults", "concurrency"][..]);
    (prop::collection::btree_map(top, tree(), 0..3), job()).prop_map(|(top, jobs)| {
        let mut file = serde_json::json!({ "jobs": jobs });
        for (key, value) in top {
            file.as_object_mut().unwrap().insert(key.to_owned(), value);
        }
        file.to_string()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_files_are_read_and_give_the_same_twice(root in file(), a in file(), b in file()) {
        let files = files([("a.yaml", a), ("b.yaml", b)]);
        let found = lint_with("ci.yaml", &root, &files);
        prop_assert_eq!(&found, &lint_with("ci.yaml", &root, &files));
        prop_assert!(found.iter().all(|found| found.span.line > 0 && found.span.column > 0));
        let text = |name: &str| files.get(name).map_or(root.as_str(), String::as_str);
        let _ = diagnostic::render_files(&found, text, Colour::Off);
        let _ = habits("ci.yaml", &root, &files);
        let parsed = parse_with("ci.yaml", &root, &files);
        let failed = parsed.diagnostics.iter().any(|found| found.is_error());
        prop_assert_eq!(parsed.pipeline.is_none(), failed);
        let request = PlanRequest { event: "cron".to_owned(), ..PlanRequest::default() };
        if let Ok(planned) = compile_with("ci.yaml", &root, &files, &request) {
            let again = compile_with("ci.yaml", &root, &files, &request).unwrap().plan;
            prop_assert_eq!(planned.plan.digest(), again.digest());
            let json = planned.plan.to_canonical_json();
            prop_assert_eq!(Plan::from_json(&json).unwrap(), again);
        }
    }
}

#[test]
fn a_template_is_looked_at_by_itself() {
    let template = "inputs:
  where: { required: true }
  times: { type: number, required: true }
defaults: { runs-on: \"${{ inputs.where }}\" }
jobs:
  \"test-${{ inputs.where }}\":
    needs: [build]
    timeout: ${{ inputs.times }}m
    steps: [{ run: x }]
";
    let file = ".rustci/templates/t.yaml";
    assert_eq!(lint_template(file, template, &Files::new()), []);
    assert!(is_template(template) && !is_template("jobs: {}\n"));
    assert_eq!(
        lint_template(file, "inputs: {a: }\nenv: {A: b}\n", &Files::new()),
        []
    );
    let wrong =
        "inputs: {a: }\non: push\njobs: {t: {neds: a, steps: [{run: \"echo ${{ inputs.b }}\"}]}}\n";
    let found = lint_template(file, wrong, &Files::new());
    let codes: Vec<Code> = found.iter().map(|found| found.code).collect();
    assert_eq!(
        codes,
        [Code::TEMPLATE, Code::UNKNOWN_KEY, Code::UNKNOWN_PROPERTY]
    );
    let help = |file: &str| {
        lint_with(file, template, &Files::new())[0]
            .help
            .clone()
            .unwrap()
    };
    assert_eq!(help(file), "name the pipeline that includes it");
    assert!(help(".rustci/t.yaml").starts_with("keep it in a directory below"));
}
