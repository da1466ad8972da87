//! Pipeline files beside what comes out of them. `UPDATE=1 cargo test` writes the results anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use rustci_pipeline::{
    Colour, Diagnostic, Files, PlanRequest, compile, compile_with, diagnostic, habits, lint,
    lint_with, parse,
};

fn files(directory: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(directory);
    let entries = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files
}

/// Compares `got` with the file beside `path`, or writes that file.
fn expect(path: &Path, ending: &str, got: &str) -> Result<(), String> {
    let beside = path.with_extension(ending);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&beside, got).unwrap();
        return Ok(());
    }
    let wanted = fs::read_to_string(&beside).unwrap_or_default();
    if wanted == got {
        return Ok(());
    }
    Err(format!(
        "{}\n--- expected\n{wanted}\n--- got\n{got}",
        beside.display()
    ))
}

/// A pipeline file of a test, with the files in the directory of the same name beside it.
struct Case {
    path: PathBuf,
    name: String,
    text: String,
    files: Files,
}

impl Case {
    fn read(path: &Path) -> Self {
        let mut files = Files::new();
        let directory = path.with_extension("");
        if directory.is_dir() {
            for entry in fs::read_dir(&directory)
                .unwrap()
                .map(|entry| entry.unwrap())
            {
                let name = entry.file_name().into_string().unwrap();
                files.insert(name, fs::read_to_string(entry.path()).unwrap());
            }
        }
        Self {
            path: path.to_owned(),
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            text: fs::read_to_string(path).unwrap(),
            files,
        }
    }

    fn lint(&self) -> Vec<Diagnostic> {
        lint_with(&self.name, &self.text, &self.files)
    }

    fn render(&self, found: &[Diagnostic]) -> String {
        let text = |file: &str| self.files.get(file).unwrap_or(&self.text).as_str();
        diagnostic::render_files(found, text, Colour::Off)
    }
}

fn check_all(directory: &str, check: impl Fn(&Case) -> Result<(), String>) -> usize {
    let files = files(directory);
    let failures: Vec<String> = files
        .iter()
        .filter_map(|path| check(&Case::read(path)).err())
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    files.len()
}

#[test]
fn every_bad_file_has_exactly_these_findings() {
    let count = check_all("bad", |case| {
        let found = case.lint();
        assert!(!found.is_empty(), "{} has no finding", case.name);
        expect(&case.path, "expected", &case.render(&found))
    });
    assert!(count >= 60, "only {count} bad files");
}

#[test]
fn every_bad_habit_is_told_where_it_stands_and_nothing_else() {
    check_all("habits", |case| {
        let wrong = case.lint();
        let errors = wrong.iter().filter(|found| found.is_error());
        assert_eq!(errors.count(), 0, "{}: {wrong:?}", case.name);
        let found = habits(&case.name, &case.text, &case.files);
        expect(&case.path, "expected", &case.render(&found))
    });
}

#[test]
fn every_code_is_seen_in_a_bad_file() {
    let mut seen: Vec<_> = files("bad")
        .iter()
        .flat_map(|path| Case::read(path).lint())
        .map(|found| found.code)
        .collect();
    seen.sort();
    let others = files("habits");
    let others = others
        .iter()
        .flat_map(|path| habits("x", &fs::read_to_string(path).unwrap(), &Files::new()));
    seen.extend(others.map(|found| found.code));
    seen.sort();
    // A file of that size is made by a test; a run's inputs are no part of a file.
    let elsewhere = [diagnostic::Code::SIZE, diagnostic::Code::INPUT_VALUE];
    let known = diagnostic::Code::ALL.iter().map(|(code, _)| *code);
    let missing: Vec<_> = known
        .filter(|code| !seen.contains(code) && !elsewhere.contains(code))
        .collect();
    assert!(missing.is_empty(), "no bad file has {missing:?}");
}

#[test]
fn every_good_file_has_exactly_this_plan() {
    check_all("good", |case| {
        let name = &case.name;
        let request = PlanRequest {
            event: "manual".to_owned(),
            ..PlanRequest::default()
        };
        let planned = compile_with(name, &case.text, &case.files, &request)
            .map_err(|refused| case.render(&refused.into_diagnostics()))?;
        let errors: Vec<&Diagnostic> = planned
            .diagnostics
            .iter()
            .filter(|found| found.is_error())
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        let json = planned.plan.to_canonical_json();
        let again = rustci_pipeline::Plan::from_json(&json).unwrap();
        assert_eq!(
            again.digest(),
            planned.plan.digest(),
            "{name} changes when it is stored"
        );
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let shown = format!("{}\n{:#}\n", planned.plan.digest(), value);
        expect(&case.path, "plan", &shown)
    });
}

#[test]
fn a_finding_survives_json() {
    let found = lint("x.yaml", "jobs: {a: {stepz: []}}");
    let json = serde_json::to_string(&found).unwrap();
    assert!(
        json.contains("\"code\":\"RC0101\",\"severity\":\"error\""),
        "{json}"
    );
    assert_eq!(
        serde_json::from_str::<Vec<Diagnostic>>(&json).unwrap(),
        found
    );
}

#[test]
fn the_plan_does_not_depend_on_the_event_or_on_layout() {
    let one =
        "on: [push, manual]\njobs:\n  a:\n    steps:\n      - run: x\n        env: {B: 1, A: 2}\n";
    let two = "# c\njobs: {a: {steps: [{env: {A: '2', B: '1'}, run: x}]}}\non: push\n";
    let plan = |text, event: &str| {
        let request = PlanRequest {
            event: event.to_owned(),
            ..PlanRequest::default()
        };
        compile("ci.yaml", text, &request).unwrap().plan.digest()
    };
    assert_eq!(plan(one, "push"), plan(two, "manual"));
    assert_ne!(
        plan(one, "push"),
        plan("jobs: {a: {steps: [{run: x}]}}", "push")
    );
    assert!(parse("ci.yaml", one).diagnostics.is_empty());
}

#[test]
fn every_code_is_in_the_documentation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pipelines.md");
    let documentation = fs::read_to_string(path).unwrap();
    for (code, text) in diagnostic::Code::ALL {
        let row = format!("| `{code}` | {text} |");
        assert!(
            documentation.contains(&row),
            "docs/pipelines.md lacks the row {row}"
        );
    }
}

#[test]
fn every_example_has_no_finding() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut checked = 0;
    for example in fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        let inside = fs::read_dir(example.join(".rustci")).into_iter().flatten();
        let inside = inside.map(|entry| entry.unwrap().path());
        for path in inside
            .chain([example.join(".rustci.yaml")])
            .filter(|path| path.is_file())
        {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.to_string_lossy();
            let mut found = lint(&name, &text);
            found.extend(habits(&name, &text, &Files::new()));
            assert!(
                found.is_empty(),
                "{}",
                diagnostic::render_all(&found, &text, Colour::Off)
            );
            checked += 1;
        }
    }
    assert!(checked > 0, "no example has a pipeline");
}
