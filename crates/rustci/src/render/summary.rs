//! The last word on a run: how its jobs ended, why one failed, and what to do next.

use std::collections::BTreeMap;

use super::board::{Board, Mood, elapsed, failed_step, word};
use super::job::{Look, Row, mood, note, step_note};
use super::reports;
use super::style::{ago, duration};
use super::text::{Keep, clean};
use crate::api::view::{Conclusion, JobView, RunView, Status};
use crate::failure::plural;

/// Failed jobs whose last lines are shown; the others are in their logs.
const TAILS_MAX: usize = 4;

/// Where to go from here; all ready to be typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Next {
    /// What `rustci runs` needs to find the run: ` --project examples/tour`, or nothing.
    pub(crate) place: String,
    /// What `rustci run` was told to run: ` examples/tour`, or nothing; none if it was not asked.
    pub(crate) again: Option<String>,
    /// The directory with the log files, when they are on this machine.
    pub(crate) files: Option<String>,
    /// The directory with the kept workspaces, if they are kept.
    pub(crate) workspaces: Option<String>,
    /// Where each step begins, as `file:line`, by job id and number of the step.
    pub(crate) step_places: BTreeMap<(String, u32), String>,
}

/// Whether the last lines of failed steps are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tails {
    /// They are.
    Repeat,
    /// They have just been printed.
    Omit,
}

/// All jobs, the failed ones with their steps and last lines, the verdict and the way on.
pub(crate) fn summary(board: &Board, look: Look, next: &Next, tails: Tails) -> String {
    let run = &board.run;
    let now_ms = run.finished_ms.unwrap_or(run.created_ms);
    let row = Row::for_run(run, look, now_ms, None);
    let mut lines = Vec::new();
    for job in &run.jobs {
        lines.extend(row.job_in_full(job));
        if matches!(mood(job, run), Mood::Bad | Mood::Tolerated) {
            lines.extend(steps(job, row));
        }
    }
    if tails == Tails::Repeat {
        lines.extend(failures(board, look, next));
    }
    lines.extend(reports::of_run(board, look));
    lines.push(String::new());
    lines.push(verdict(run, look));
    lines.extend(way_on(board, look, next));
    lines.push(String::new());
    lines.join("\n")
}

/// Everything about a run that a person may want to know: each job with its steps.
pub(crate) fn describe(board: &Board, look: Look, next: &Next, now_ms: u64) -> String {
    let run = &board.run;
    let row = Row::for_run(run, look, now_ms, None);
    let mut lines = vec![
        look.colour.bold(&clean(&run.pipeline, Keep::Text)),
        format!(
            "{}, {} event, project {}, made {}",
            clean(&run.file, Keep::Text),
            run.event.name,
            clean(&run.project, Keep::Text),
            ago(run.created_ms, now_ms)
        ),
        look.colour.dim(&format!("plan sha256:{}", run.digest)),
        String::new(),
    ];
    for job in &run.jobs {
        lines.extend(row.job_in_full(job));
        lines.extend(answer(job, look));
        lines.extend(steps(job, row));
        let outputs = job.outputs.iter();
        lines.extend(outputs.map(|(name, value)| row.output(name, value)));
    }
    lines.extend(failures(board, look, next));
    lines.extend(reports::of_run(board, look));
    lines.push(String::new());
    lines.push(verdict(run, look));
    lines.extend(way_on(board, look, next));
    lines.push(String::new());
    lines.join("\n")
}

/// Who let a job run or kept it from running, and what they said.
fn answer(job: &JobView, look: Look) -> Vec<String> {
    let Some(approval) = &job.approval else {
        return Vec::new();
    };
    let Some(answer) = &approval.answer else {
        return Vec::new();
    };
    let (mood, word) = match answer.approved {
        true => (Mood::Good, "approved"),
        false => (Mood::Bad, "declined"),
    };
    let by = Some(answer.by.as_str()).filter(|by| !by.is_empty());
    let by = by.unwrap_or("somebody who gave no name");
    let said = match answer.comment.as_str() {
        "" => String::new(),
        comment => format!(": {comment}"),
    };
    let text = format!("{word} for {} by {by}{said}", approval.environment);
    let rows = look.rows(&clean(&text, Keep::Text), 8);
    let first = look.symbol(mood, None);
    rows.iter()
        .enumerate()
        .map(|(at, row)| match at {
            0 => format!("      {first} {row}"),
            _ => format!("        {row}"),
        })
        .collect()
}

/// The steps of a job, if it ever began.
fn steps<'j>(job: &'j JobView, row: Row<'j>) -> impl Iterator<Item = String> + 'j {
    let began = !job.attempts.is_empty();
    job.steps
        .iter()
        .filter(move |_| began)
        .map(move |step| row.step(step))
}

/// `✗ run 3 failed in 2.3s: 1 of 4 jobs failed, 1 skipped`
pub(crate) fn verdict(run: &RunView, look: Look) -> String {
    let jobs = counts(run);
    let mood = Mood::of(run.status, run.conclusion);
    let state = match (run.status, run.conclusion) {
        (Status::Finished, Some(conclusion)) => word(conclusion),
        (Status::Running, _) => "is running",
        _ => "is waiting",
    };
    let took = elapsed(
        run.started_ms.or(Some(run.created_ms)),
        run.finished_ms,
        run.created_ms,
    );
    let time = match took.filter(|_| run.finished_ms.is_some()) {
        Some(ms) => match run.conclusion {
            Some(Conclusion::Success | Conclusion::Failure) => format!(" in {}", duration(ms)),
            // Nobody did anything in that time, or not all of it.
            _ => format!(" after {}", duration(ms)),
        },
        None => String::new(),
    };
    let head = look.paint(
        mood,
        &format!("{} run {} {state}", mood.symbol(None), run.id),
    );
    format!("{head}{time}: {jobs}")
}

/// `1 of 4 jobs failed, 1 skipped`
fn counts(run: &RunView) -> String {
    let of = |wanted: Mood| {
        run.jobs
            .iter()
            .filter(|job| mood(job, run) == wanted)
            .count()
    };
    let total = run.jobs.len();
    let canceled = run
        .jobs
        .iter()
        .filter(|job| job.conclusion == Some(Conclusion::Canceled))
        .count();
    let mut words = match of(Mood::Bad) - canceled.min(of(Mood::Bad)) {
        0 => vec![format!("{total} {}", plural(total, "job"))],
        // One of one is no comparison.
        bad if bad == total => vec![format!("{total} {} failed", plural(total, "job"))],
        bad => vec![format!("{bad} of {total} {} failed", plural(total, "job"))],
    };
    let others = [
        (of(Mood::Tolerated), "failed as allowed"),
        (canceled, "canceled"),
        (of(Mood::Skipped), "skipped"),
        (of(Mood::Running), "running"),
        (of(Mood::Waiting), "waiting"),
    ];
    words.extend(
        others
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, text)| format!("{n} {text}")),
    );
    words.join(", ")
}

/// The last lines of the steps at which jobs failed.
fn failures(board: &Board, look: Look, next: &Next) -> Vec<String> {
    let run = &board.run;
    let bad: Vec<&JobView> = run
        .jobs
        .iter()
        .filter(|job| failed_on_its_own(job, run))
        .collect();
    let shown = bad.iter().take(TAILS_MAX);
    let mut lines: Vec<String> = shown
        .flat_map(|job| failure(board, job, look, next))
        .collect();
    if bad.len() > TAILS_MAX {
        let rest = bad.len() - TAILS_MAX;
        lines.push(format!(
            "\n  and {rest} more failed {}",
            plural(rest, "job")
        ));
    }
    lines
}

/// Where a job failed, and the last lines of that step.
fn failure(board: &Board, job: &JobView, look: Look, next: &Next) -> Vec<String> {
    let step = failed_step(job);
    let what = match step {
        Some(step) => format!("{} › {}: {}", job.key, step.name, step_note(step)),
        None => format!("{}: {}", job.key, note(job, &board.run)),
    };
    let rows = look.rows(&clean(&what, Keep::Text), 2);
    let rows = rows
        .iter()
        .map(|row| look.colour.bold(&look.colour.red(row)));
    let mut lines = vec![String::new()];
    lines.extend(rows.map(|row| format!("  {row}")));
    let place = step.and_then(|step| next.step_places.get(&(job.job_id.clone(), step.index)));
    lines.extend(place.map(|place| format!("  {}", look.colour.dim(&format!("at {place}")))));
    // The reason stands above; the log repeats it as its last line.
    let said = step.map_or("", |step| step.message.as_str());
    let index = step.and_then(|step| u16::try_from(step.index).ok());
    let tail = board.tail(job.id, index).filter(|text| *text != said);
    lines.extend(tail.map(|text| look.quoted_whole(2, text)));
    lines
}

fn failed_on_its_own(job: &JobView, run: &RunView) -> bool {
    mood(job, run) == Mood::Bad && job.conclusion != Some(Conclusion::Canceled)
}

/// Commands to type next.
fn way_on(board: &Board, look: Look, next: &Next) -> Vec<String> {
    let run = &board.run;
    let bad = run.jobs.iter().find(|job| failed_on_its_own(job, run));
    let place = &next.place;
    let mut rows = Vec::new();
    match bad {
        Some(job) => {
            let key = shell_word(&job.key);
            rows.push((
                "whole log",
                format!("rustci runs logs {} {key}{place}", run.id),
            ));
            if let Some(again) = &next.again {
                let id = shell_word(&job.job_id);
                rows.push(("run again", format!("rustci run{again} --job {id}")));
            }
        }
        None if run.status == Status::Finished => {
            rows.push(("logs", format!("rustci runs logs {}{place}", run.id)));
        }
        None => rows.push(("follow", format!("rustci runs watch {}{place}", run.id))),
    }
    rows.extend(results(board, place));
    rows.extend(
        next.files
            .as_ref()
            .map(|files| ("log files", files.clone())),
    );
    rows.extend(workspace(run, next).map(|path| ("workspace", path)));
    let lines = rows
        .iter()
        .map(|(what, how)| format!("  {}  {how}", look.colour.dim(&format!("{what:<9}"))));
    lines.collect()
}

/// Where to read more of what the run left for people.
fn results<'p>(board: &Board, place: &str) -> impl Iterator<Item = (&'p str, String)> {
    let run = board.run.id;
    let totals = board
        .tests
        .as_ref()
        .map(|list| list.totals)
        .unwrap_or_default();
    let tests = (totals.failed + totals.errored > 0)
        .then(|| ("tests", format!("rustci tests {run}{place}")));
    let summary =
        (board.summaries > 0).then(|| ("summary", format!("rustci runs summary {run}{place}")));
    tests.into_iter().chain(summary)
}

/// The kept workspace of the failed job, or where all are.
fn workspace(run: &RunView, next: &Next) -> Option<String> {
    let root = next.workspaces.as_ref()?;
    let bad = run.jobs.iter().find(|job| failed_on_its_own(job, run));
    let attempt = bad.and_then(|job| Some((job.id, job.attempts.last()?.number)));
    Some(match attempt {
        Some((job, attempt)) => format!("{root}/{job}.{attempt}"),
        None => root.clone(),
    })
}

/// `text` as one word of a shell command line.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+~".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", clean(text, Keep::Text).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::sample;
    use super::super::style::Sink;
    use super::*;

    fn check(sink: Sink, tails: Tails, expected: &Expect) {
        let next = Next {
            place: " --project shop".to_owned(),
            again: Some(" shop".to_owned()),
            files: Some("~/.local/state/rustci/local/shop-0123abcd/logs/7".to_owned()),
            workspaces: Some("~/kept".to_owned()),
            step_places: [(("test".to_owned(), 1), "shop/.rustci/ci.yaml:12".to_owned())].into(),
        };
        expected.assert_eq(&summary(
            &sample::failed(),
            sample::look(sink),
            &next,
            tails,
        ));
    }

    #[test]
    fn a_failed_run_says_what_failed_and_what_to_do() {
        check(
            Sink::Terminal,
            Tails::Repeat,
            &expect![[r#"
                  ✓ lint                                                                    0.7s
                  ✗ test (stable, postgres)  `unit tests`: exit code 101                    3.0s
                      ✓ build                                                               0.9s
                      ✗ unit tests  exit code 101                                           2.0s
                      – upload  skipped
                  ✓ test (beta, 漢字)        `unit tests` passed on try 2                   3.5s
                  – build
                      skipped: needs `test`, of which `test (stable, postgres)` failed; nothing
                      else stands in its way

                  test (stable, postgres) › unit tests: exit code 101
                  at shop/.rustci/ci.yaml:12
                  │ running 3 tests
                  │ test a ... ok
                  │ test b ... FAILED

                ✗ run 7 failed in 4.5s: 1 of 4 jobs failed, 1 skipped
                  whole log  rustci runs logs 7 'test (stable, postgres)' --project shop
                  run again  rustci run shop --job test
                  log files  ~/.local/state/rustci/local/shop-0123abcd/logs/7
                  workspace  ~/kept/2.1
            "#]],
        );
    }

    #[test]
    fn in_a_file_nothing_is_cut() {
        check(
            Sink::Stream,
            Tails::Omit,
            &expect![[r#"
                  ✓ lint                                                                    0.7s
                  ✗ test (stable, postgres)  `unit tests`: exit code 101                    3.0s
                      ✓ build                                                               0.9s
                      ✗ unit tests  exit code 101                                           2.0s
                      – upload  skipped
                  ✓ test (beta, 漢字)        `unit tests` passed on try 2                   3.5s
                  – build                    skipped: needs `test`, of which `test (stable, postgres)` failed; nothing else stands in its way

                ✗ run 7 failed in 4.5s: 1 of 4 jobs failed, 1 skipped
                  whole log  rustci runs logs 7 'test (stable, postgres)' --project shop
                  run again  rustci run shop --job test
                  log files  ~/.local/state/rustci/local/shop-0123abcd/logs/7
                  workspace  ~/kept/2.1
            "#]],
        );
    }

    #[test]
    fn a_running_run_has_no_duration_yet() {
        let board = sample::running();
        expect!["● run 7 is running: 5 jobs, 1 running, 3 waiting"]
            .assert_eq(&verdict(&board.run, sample::look(Sink::Stream)));
    }

    #[test]
    fn words_are_quoted_for_the_shell_when_they_need_it() {
        assert_eq!(shell_word("build"), "build");
        assert_eq!(shell_word("test (a, b)"), "'test (a, b)'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
