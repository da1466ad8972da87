//! Tests: those of a run, and how they come out over time.

use super::board::{Board, Mood};
use super::job::Look;
use super::style::{ago, duration};
use super::table::table;
use super::text::{Keep, clean, cut};
use crate::api::view::{
    HistoryEntry, TestHistory, TestList, TestOutcome, TestStats, TestTotals, TestVerdict, TestView,
};
use crate::failure::plural;

/// Failed tests shown at the end of a run; the others are in `rustci tests`.
const FAILED_MAX: usize = 10;

/// Characters of a commit that are enough to find it.
const COMMIT_CHARS: usize = 8;

/// What the end of a run says of its tests: what they add up to, and those that failed.
pub(super) fn of_run(board: &Board, look: Look) -> Vec<String> {
    let Some(list) = board.tests.as_ref().filter(|list| !list.reports.is_empty()) else {
        return Vec::new();
    };
    let mut lines = vec![String::new(), format!("  {}", verdict(list.totals, look))];
    let bad: Vec<&TestView> = list
        .tests
        .iter()
        .filter(|test| is_bad(test.outcome))
        .collect();
    for test in bad.iter().take(FAILED_MAX) {
        let name = look.paint(
            Mood::Bad,
            &format!("{} {}", symbol(test.outcome), full_name(test)),
        );
        lines.push(cut(&format!("    {name}"), look.columns).into_owned());
        let message = test.message.as_deref().map(|text| look.quoted(6, text));
        lines.extend(message);
    }
    let all = list.totals.failed + list.totals.errored;
    let rest = usize::try_from(all)
        .unwrap_or(usize::MAX)
        .saturating_sub(bad.len().min(FAILED_MAX));
    if rest > 0 {
        lines.push(format!("    and {rest} more"));
    }
    lines.extend(warnings(list, look));
    lines
}

/// The tests of a run as `rustci tests` shows them.
pub(crate) fn list(list: &TestList, look: Look) -> String {
    let mut lines = Vec::new();
    for test in &list.tests {
        let mood = mood(test.outcome);
        let flaky = if test.flaky { ", flaky" } else { "" };
        let took = duration(whole_ms(test.duration_ms));
        let head = look.paint(
            mood,
            &format!("{} {}", symbol(test.outcome), full_name(test)),
        );
        lines.push(format!(
            "  {head}  {}",
            look.colour.dim(&format!(
                "{}{flaky}, {took}",
                clean(&test.job_key, Keep::Text)
            ))
        ));
        let file = test.file.as_ref().map(|file| match test.line {
            Some(line) => format!("at {file}:{line}"),
            None => format!("at {file}"),
        });
        lines.extend(
            file.map(|place| format!("      {}", look.colour.dim(&clean(&place, Keep::Text)))),
        );
        if mood != Mood::Good {
            lines.extend(reasons(test).map(|line| look.quoted_whole(6, line)));
        }
    }
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.push(verdict(list.totals, look));
    lines.extend(warnings(list, look));
    lines.push(String::new());
    lines.join("\n")
}

/// Why a test failed: its message, unless that is the first line of the details, and these.
fn reasons(test: &TestView) -> impl Iterator<Item = &str> {
    let details = test.details.as_deref().unwrap_or_default();
    let message = test.message.as_deref().unwrap_or_default();
    let message = Some(message).filter(|message| !details.contains(*message));
    message.into_iter().chain(details.lines())
}

/// Statistics of tests, one line each.
pub(crate) fn stats(tests: &[TestStats], look: Look, now_ms: u64) -> String {
    let rows: Vec<Vec<String>> = tests
        .iter()
        .map(|test| {
            let failure = match (test.last_failure_run, test.last_failure_ms) {
                (Some(run), Some(at)) => format!("run {run}, {}", ago(at, now_ms)),
                _ => "never".to_owned(),
            };
            vec![
                clean(&joined(&test.class, &test.name), Keep::Text).into_owned(),
                clean(&test.job_key, Keep::Text).into_owned(),
                verdict_word(test.verdict).to_owned(),
                format!("{}/{}", test.failed, test.results),
                test.flaky.to_string(),
                duration(whole_ms(test.mean_ms)),
                failure,
            ]
        })
        .collect();
    let head = [
        "test",
        "job",
        "is",
        "failed",
        "flaky",
        "mean",
        "last failure",
    ];
    let mut lines = table(&head, &rows, look);
    lines.push(String::new());
    lines.join("\n")
}

/// The results of one test, newest first.
pub(crate) fn history(history: &TestHistory, look: Look, now_ms: u64) -> String {
    let name = joined(&history.class, &history.name);
    let mut lines = vec![
        look.colour.bold(&clean(&name, Keep::Text)),
        look.colour
            .dim(&format!("job {}", clean(&history.job_key, Keep::Text))),
    ];
    let rows: Vec<Vec<String>> = history
        .results
        .iter()
        .map(|entry| row(entry, look, now_ms))
        .collect();
    lines.extend(table(
        &["", "run", "commit", "took", "when", ""],
        &rows,
        look,
    ));
    lines.push(String::new());
    lines.join("\n")
}

fn row(entry: &HistoryEntry, look: Look, now_ms: u64) -> Vec<String> {
    let commit = entry.commit.as_deref().unwrap_or_default();
    let mut notes: Vec<String> = Vec::new();
    notes.extend((entry.attempt > 1).then(|| format!("attempt {}", entry.attempt)));
    notes.extend(entry.flaky.then(|| "passed after failing".to_owned()));
    notes.extend(
        entry
            .message
            .as_ref()
            .map(|text| clean(text, Keep::Text).into_owned()),
    );
    vec![
        look.paint(mood(entry.outcome), symbol(entry.outcome)),
        entry.run.to_string(),
        commit.chars().take(COMMIT_CHARS).collect(),
        duration(whole_ms(entry.duration_ms)),
        ago(entry.ended_ms, now_ms),
        notes.join(": "),
    ]
}

/// `✗ 2 of 120 tests failed, 3 skipped, 1 flaky`
fn verdict(totals: TestTotals, look: Look) -> String {
    let bad = totals.failed + totals.errored;
    let count = usize::try_from(totals.tests).unwrap_or(usize::MAX);
    let tests = format!("{} {}", totals.tests, plural(count, "test"));
    let head = match (bad, totals.tests) {
        (0, 0) => look.colour.yellow("no tests in the reports"),
        (0, _) => look.paint(Mood::Good, &format!("✓ {tests} passed or skipped")),
        _ => look.paint(Mood::Bad, &format!("✗ {bad} of {tests} failed")),
    };
    let others = [(totals.skipped, "skipped"), (totals.flaky, "flaky")];
    let others = others.iter().filter(|(n, _)| *n > 0);
    let others: String = others.map(|(n, word)| format!(", {n} {word}")).collect();
    format!("{head}{others}")
}

fn warnings<'l>(list: &'l TestList, look: Look) -> impl Iterator<Item = String> + 'l {
    list.reports.iter().flat_map(move |report| {
        report.warnings.iter().map(move |warning| {
            let text = format!("report of {}: {warning}", report.job_key);
            format!("  {}", look.colour.yellow(&clean(&text, Keep::Text)))
        })
    })
}

fn is_bad(outcome: TestOutcome) -> bool {
    matches!(outcome, TestOutcome::Failed | TestOutcome::Errored)
}

fn mood(outcome: TestOutcome) -> Mood {
    match outcome {
        TestOutcome::Passed => Mood::Good,
        TestOutcome::Skipped => Mood::Skipped,
        TestOutcome::Failed | TestOutcome::Errored => Mood::Bad,
    }
}

fn symbol(outcome: TestOutcome) -> &'static str {
    match outcome {
        TestOutcome::Passed => "✓",
        TestOutcome::Skipped => "–",
        TestOutcome::Failed | TestOutcome::Errored => "✗",
    }
}

fn verdict_word(verdict: TestVerdict) -> &'static str {
    match verdict {
        TestVerdict::Passing => "passing",
        TestVerdict::Failing => "failing",
        TestVerdict::Flaky => "flaky",
        TestVerdict::Skipped => "skipped",
    }
}

fn full_name(test: &TestView) -> String {
    clean(&joined(&test.class, &test.name), Keep::Text).into_owned()
}

fn joined(class: &str, name: &str) -> String {
    match class {
        "" => name.to_owned(),
        class => format!("{class} › {name}"),
    }
}

fn whole_ms(ms: f64) -> u64 {
    ms.round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::sample;
    use super::super::style::Sink;
    use super::*;
    use crate::api::view::ReportView;

    fn test(name: &str, outcome: TestOutcome) -> TestView {
        TestView {
            run: 7,
            job: 2,
            job_key: "test (a)".to_owned(),
            attempt: 1,
            test: 3,
            suite: "s".to_owned(),
            class: "shop::cart".to_owned(),
            name: name.to_owned(),
            outcome,
            duration_ms: 1204.4,
            failed_tries: 0,
            flaky: false,
            file: None,
            line: None,
            message: None,
            details: None,
            output: None,
            ended_ms: 0,
        }
    }

    fn sample_list() -> TestList {
        let failed = TestView {
            message: Some("left: 1\u{1b}]52;c;x\u{7}".to_owned()),
            details: Some("left: 1\nright: 2".to_owned()),
            file: Some("src/cart.rs".to_owned()),
            line: Some(9),
            ..test("adds", TestOutcome::Failed)
        };
        TestList {
            totals: TestTotals {
                tests: 9,
                passed: 7,
                failed: 1,
                errored: 0,
                skipped: 1,
                flaky: 2,
                duration_ms: 12,
            },
            reports: vec![ReportView {
                job: 2,
                job_key: "test (a)".to_owned(),
                attempt: 1,
                kind: "junit".to_owned(),
                tests: 9,
                failed: 1,
                errored: 0,
                skipped: 1,
                duration_ms: 12,
                warnings: vec!["b.xml: it is empty".to_owned()],
            }],
            tests: vec![failed, test("off", TestOutcome::Skipped)],
            next: None,
        }
    }

    /// The line in front stands at the margin, which keeps the indents of the others.
    #[track_caller]
    fn check(text: &str, expected: &Expect) {
        expected.assert_eq(&format!("---\n{text}"));
    }

    #[test]
    fn a_failed_test_is_shown_with_its_reason_and_obeys_no_escape() {
        check(
            &list(&sample_list(), sample::look(Sink::Stream)),
            &expect![[r#"
                ---
                  ✗ shop::cart › adds  test (a), 1.2s
                      at src/cart.rs:9
                      │ left: 1
                      │ left: 1
                      │ right: 2
                  – shop::cart › off  test (a), 1.2s

                ✗ 1 of 9 tests failed, 1 skipped, 2 flaky
                  report of test (a): b.xml: it is empty
            "#]],
        );
    }

    #[test]
    fn the_end_of_a_run_names_the_failed_tests() {
        let mut board = sample::failed();
        board.tests = Some(sample_list());
        board.summaries = 1;
        let lines = of_run(&board, sample::look(Sink::Terminal)).join("\n");
        check(
            &lines,
            &expect![[r#"
                ---

                  ✗ 1 of 9 tests failed, 1 skipped, 2 flaky
                    ✗ shop::cart › adds
                      │ left: 1
                  report of test (a): b.xml: it is empty"#]],
        );
    }

    #[test]
    fn statistics_and_histories_are_tables() {
        let stats_of = TestStats {
            class: "shop::cart".to_owned(),
            name: "adds".to_owned(),
            job_key: "test (a)".to_owned(),
            verdict: TestVerdict::Flaky,
            results: 8,
            failed: 2,
            flaky: 1,
            mean_ms: 1204.4,
            last_failure_run: Some(5),
            last_failure_ms: Some(0),
            ..TestStats::default()
        };
        let steady = TestStats {
            name: "steady".to_owned(),
            ..TestStats::default()
        };
        check(
            &stats(&[stats_of, steady], sample::look(Sink::Terminal), 7_200_000),
            &expect![[r#"
                ---
                  test               job       is       failed  flaky  mean  last failure
                  shop::cart › adds  test (a)  flaky    2/8     1      1.2s  run 5, 2h ago
                  steady                       passing  0/0     0      0ms   never
            "#]],
        );
        let entry = HistoryEntry {
            run: 5,
            job: 9,
            attempt: 2,
            outcome: TestOutcome::Failed,
            duration_ms: 20.0,
            failed_tries: 0,
            flaky: false,
            message: Some("left: 1".to_owned()),
            ended_ms: 0,
            commit: Some("0123456789abcdef".to_owned()),
            branch: None,
        };
        let all = TestHistory {
            test: 3,
            job_key: "test (a)".to_owned(),
            suite: String::new(),
            class: "shop::cart".to_owned(),
            name: "adds".to_owned(),
            results: vec![entry],
            next: None,
        };
        check(
            &history(&all, sample::look(Sink::Terminal), 7_200_000),
            &expect![[r#"
                ---
                shop::cart › adds
                job test (a)
                     run  commit    took  when
                  ✗  5    01234567  20ms  2h ago  attempt 2: left: 1
            "#]],
        );
    }
}
