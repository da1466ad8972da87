//! A run as plain lines, `job | text`, in an order that tells the story of each job.
//!
//! Events and log lines reach us on different ways. A step's result is therefore held back until
//! the log has gone past the step, or has ended; and lines of a step until the results of those
//! before it are there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use super::board::{Board, Channel, LogLine, Mood, elapsed, word};
use super::job::{Look, mood, note, step_mood, step_note};
use super::style::{Colour, duration};
use super::text::{Keep, clean, cut};
use crate::api::view::{JobView, Status, StepView};

/// Widest name of a step before its lines.
const TAG_COLUMNS_MAX: usize = 30;

/// Lines that wait for the result of an earlier step. When there are more, that result is not on
/// its way, and they are shown without it.
const EARLY_LINES_MAX: usize = 200;

/// What stands before each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// The job's key.
    Job,
    /// Nothing: there is one job only.
    Nothing,
}

/// What has been printed so far.
#[derive(Debug)]
pub(crate) struct Plain {
    look: Look,
    prefix: Prefix,
    jobs: BTreeMap<u64, Printed>,
    /// What was waited for, so that it is said once.
    waits: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Printed {
    attempt: u32,
    /// Step that the log is in.
    step: Option<u16>,
    /// Steps whose result was printed or is not needed any more.
    results: u32,
    logs_ended: usize,
    ended: bool,
    /// Steps that run beside others and have their heading.
    headed: BTreeSet<u16>,
    /// Lines that came before the results of the steps in front of theirs.
    early: VecDeque<LogLine>,
    /// A line of RustCI's own that the result of its step may be about to repeat.
    held: Option<(Option<u16>, String)>,
}

impl Plain {
    /// Nothing has been printed yet.
    pub(crate) fn new(look: Look, prefix: Prefix) -> Self {
        Self {
            look,
            prefix,
            jobs: BTreeMap::new(),
            waits: BTreeSet::new(),
        }
    }

    /// The first line.
    pub(crate) fn header(&self, board: &Board) -> String {
        let run = &board.run;
        let jobs = board.run.jobs.len();
        format!(
            "{}: run {}, {} event, {jobs} {}, {}\n",
            self.look.colour.bold(&clean(&run.pipeline, Keep::Text)),
            run.id,
            run.event.name,
            crate::failure::plural(jobs, "job"),
            clean(&run.file, Keep::Text),
        )
    }

    /// What is new in the state of the run.
    pub(crate) fn update(&mut self, board: &Board) -> String {
        let mut out = String::new();
        for job in &board.run.jobs {
            self.started(board, job, &mut out);
            self.advance(board, job, &mut out);
        }
        out
    }

    /// What the run waits for while nothing goes on, as for a runner; each reason once.
    pub(crate) fn waiting(&mut self, board: &Board) -> String {
        let mut out = String::new();
        let jobs = &board.run.jobs;
        for job in jobs {
            self.show_early(board, job, &mut out);
        }
        if jobs.iter().any(|job| job.status == Status::Running) {
            return out;
        }
        for job in jobs.iter().filter(|job| is_held(job, jobs)) {
            let why = note(job, &board.run);
            if self.waits.insert(why.clone()) {
                let text = format!("{} {why}", Mood::Waiting.symbol(None));
                self.line(job, &self.look.paint(Mood::Waiting, &text), &mut out);
            }
        }
        out
    }

    /// A line of a log, below the heading of its step.
    pub(crate) fn log(&mut self, board: &Board, line: &LogLine) -> String {
        let mut out = String::new();
        let Some(job) = board.job(line.job) else {
            return out;
        };
        self.started(board, job, &mut out);
        let printed = self.jobs.entry(job.id).or_default();
        printed.early.push_back(line.clone());
        if printed.early.len() > EARLY_LINES_MAX {
            self.show_early(board, job, &mut out);
        }
        self.show_due(board, job, &mut out);
        out
    }

    /// Prints all that is in its turn.
    fn advance(&mut self, board: &Board, job: &JobView, out: &mut String) {
        self.settle(board, job, out);
        self.show_due(board, job, out);
        self.settle(board, job, out);
    }

    /// Shows the lines that no result is due before any more.
    fn show_due(&mut self, board: &Board, job: &JobView, out: &mut String) {
        loop {
            let printed = self.jobs.entry(job.id).or_default();
            let is_due = |line: &LogLine| {
                let first = first_beside(job, line.step);
                let open = |step: &StepView| {
                    step.status != Status::Finished
                        && (printed.results..first).contains(&step.index)
                };
                let over =
                    job.status == Status::Finished && printed.logs_ended >= job.attempts.len();
                over || !job.steps.iter().any(open)
            };
            let Some(line) = printed.early.front().filter(|line| is_due(line)).cloned() else {
                return;
            };
            self.show(board, job, &line, out);
            // Only now: the result of its step is not due before it.
            self.jobs.entry(job.id).or_default().early.pop_front();
        }
    }

    /// Shows all lines that are there.
    fn show_early(&mut self, board: &Board, job: &JobView, out: &mut String) {
        while let Some(line) = self.jobs.entry(job.id).or_default().early.front().cloned() {
            self.show(board, job, &line, out);
            self.jobs.entry(job.id).or_default().early.pop_front();
        }
    }

    fn show(&mut self, board: &Board, job: &JobView, line: &LogLine, out: &mut String) {
        if line.step == self.jobs.entry(job.id).or_default().step {
            self.release(job, None, out);
        }
        let printed = self.jobs.entry(job.id).or_default();
        if let Some(step) = line.step.filter(|step| Some(*step) != printed.step) {
            printed.step = line.step;
            // What runs beside others has its name before each line, and one heading.
            let is_new = tag(job, line.step).is_none() || printed.headed.insert(step);
            self.settle(board, job, out);
            self.release(job, None, out);
            if is_new {
                self.heading(job, line.step, out);
            }
        }
        let keep = match self.look.colour {
            Colour::On => Keep::Colours,
            Colour::Off => Keep::Text,
        };
        let text = clean(&line.text, keep);
        match line.channel {
            Channel::Stdout | Channel::Stderr => self.step_line(job, line.step, &text, out),
            Channel::System if line.step.is_none() => {
                self.line(job, &self.look.colour.dim(&text), out);
            }
            Channel::System => {
                let held = Some((line.step, text.into_owned()));
                self.jobs.entry(job.id).or_default().held = held;
            }
            // A step without a name is called by its command, and the heading has said it.
            Channel::Command if Some(line.text.as_str()) == name_of(job, line.step) => {}
            Channel::Command => {
                let text = self.look.colour.dim(&format!("$ {text}"));
                self.step_line(job, line.step, &text, out);
            }
        }
    }

    /// Prints the line that was held back, unless `result` says the same. One of another step than
    /// `result` goes on being held: its own result may be the next.
    fn release(&mut self, job: &JobView, result: Option<&StepView>, out: &mut String) {
        let Some(printed) = self.jobs.get_mut(&job.id) else {
            return;
        };
        let due = |held: &mut (Option<u16>, String)| {
            result.is_none_or(|result| held.0.map(u32::from) == Some(result.index))
        };
        let Some((step, text)) = printed.held.take_if(due) else {
            return;
        };
        if result.is_none_or(|result| result.message != text) {
            self.step_line(job, step, &self.look.colour.yellow(&text), out);
        }
    }

    /// The log of one attempt has ended.
    pub(crate) fn log_ended(&mut self, board: &Board, job: u64) -> String {
        let mut out = String::new();
        self.jobs.entry(job).or_default().logs_ended += 1;
        if let Some(job) = board.job(job) {
            self.advance(board, job, &mut out);
        }
        out
    }

    /// Nothing more will come from the logs of this job.
    pub(crate) fn all_ended(&mut self, board: &Board, job: &JobView) -> String {
        let mut out = String::new();
        self.show_early(board, job, &mut out);
        self.jobs.entry(job.id).or_default().logs_ended = usize::MAX;
        self.settle(board, job, &mut out);
        out
    }

    /// The log of an attempt is over, and another attempt came after it.
    pub(crate) fn attempt_ended(&mut self, board: &Board, job: &JobView) -> String {
        let mut out = String::new();
        self.show_early(board, job, &mut out);
        self.release(job, None, &mut out);
        if let Some(attempt) = job.attempts.last() {
            let cause = attempt.cause.as_deref().unwrap_or("it was given up");
            let took = elapsed(attempt.started_ms, attempt.finished_ms, 0);
            let time = took.map_or_else(String::new, |ms| format!(" ({})", duration(ms)));
            let symbol = Mood::Bad.symbol(None);
            let text = format!("{symbol} attempt {} ended: {cause}", attempt.number);
            let text = clean(&text, Keep::Text);
            self.line(
                job,
                &format!("{}{time}", self.look.paint(Mood::Bad, &text)),
                &mut out,
            );
        }
        out
    }

    fn started(&mut self, board: &Board, job: &JobView, out: &mut String) {
        let Some(attempt) = job.attempts.last() else {
            return;
        };
        let printed = self.jobs.entry(job.id).or_default();
        if printed.attempt >= attempt.number {
            return;
        }
        self.show_early(board, job, out);
        let printed = self.jobs.entry(job.id).or_default();
        let first = printed.attempt == 0;
        *printed = Printed {
            attempt: attempt.number,
            logs_ended: printed.logs_ended,
            ended: printed.ended,
            ..Printed::default()
        };
        if !first || attempt.number > 1 {
            let cause = job
                .attempts
                .iter()
                .rev()
                .nth(1)
                .and_then(|last| last.cause.as_deref());
            let because = cause
                .map(|cause| format!(" after {cause}"))
                .unwrap_or_default();
            let text = format!("attempt {} on {}{because}", attempt.number, attempt.runner);
            self.line(
                job,
                &self.look.colour.yellow(&clean(&text, Keep::Text)),
                out,
            );
        }
    }

    fn heading(&self, job: &JobView, step: Option<u16>, out: &mut String) {
        let name = name_of(job, step).unwrap_or_default();
        let text = format!("▸ {}", clean(name, Keep::Text));
        self.line(job, &self.look.colour.bold(&text), out);
    }

    /// Prints the results that nothing in the log can come before any more.
    fn settle(&mut self, board: &Board, job: &JobView, out: &mut String) {
        let printed = self.jobs.entry(job.id).or_default();
        // The news of a step can overtake that of its attempt; a job without any is over only when
        // it says so, as a skipped one does.
        let begun = !job.attempts.is_empty() || job.status == Status::Finished;
        let early = printed.early.front().map(|line| line.step);
        let log_done = begun && printed.logs_ended >= job.attempts.len() && early.is_none();
        let at = early.unwrap_or(printed.step);
        let (results, current) = (printed.results, first_beside(job, at));
        let past = |step: &&StepView| {
            step.status == Status::Finished && (log_done || step.index < current)
        };
        let due: Vec<&StepView> = job
            .steps
            .iter()
            .filter(|step| step.index >= results)
            .take_while(past)
            .collect();
        printed.results += u32::try_from(due.len()).unwrap_or(u32::MAX);
        let ends = log_done && job.status == Status::Finished && !printed.ended;
        printed.ended |= ends;
        for step in due {
            self.release(job, Some(step), out);
            self.line(job, &self.step_result(step), out);
        }
        if ends {
            self.release(job, None, out);
            self.line(job, &self.job_result(board, job), out);
        }
    }

    fn step_result(&self, step: &StepView) -> String {
        let mood = step_mood(step);
        let name = clean(&step.name, Keep::Text);
        let note = match step_note(step) {
            note if note.is_empty() => note,
            note => format!(": {note}"),
        };
        let head = self
            .look
            .paint(mood, &format!("{} {name}{note}", mood.symbol(None)));
        match step.duration_ms.filter(|_| mood != Mood::Skipped) {
            Some(ms) => format!("{head} ({})", duration(ms)),
            None => head,
        }
    }

    fn job_result(&self, board: &Board, job: &JobView) -> String {
        let run = &board.run;
        let mood = mood(job, run);
        let what = match (mood, job.conclusion) {
            (Mood::Good, _) | (_, None) => "job succeeded".to_owned(),
            (Mood::Skipped, _) => note(job, run),
            (_, Some(conclusion)) => format!("job {}: {}", word(conclusion), note(job, run)),
        };
        let took = elapsed(job.started_ms, job.finished_ms, 0).filter(|_| mood != Mood::Skipped);
        let time = took
            .map(|ms| format!(" ({})", duration(ms)))
            .unwrap_or_default();
        format!(
            "{}{time}",
            self.look
                .paint(mood, &format!("{} {what}", mood.symbol(None)))
        )
    }

    /// A line of a step, with its name where others run at the same time.
    fn step_line(&self, job: &JobView, step: Option<u16>, text: &str, out: &mut String) {
        match tag(job, step) {
            None => self.line(job, text, out),
            Some(name) => {
                let name = self.look.colour.cyan(&name);
                self.line(job, &format!("{name} | {text}"), out);
            }
        }
    }

    fn line(&self, job: &JobView, text: &str, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = match self.prefix {
            Prefix::Job => {
                let key = self.look.colour.cyan(&clean(&job.key, Keep::Text));
                writeln!(out, "{key} | {text}")
            }
            Prefix::Nothing => writeln!(out, "{text}"),
        };
    }
}

fn view_of(job: &JobView, step: Option<u16>) -> Option<&StepView> {
    let index = step.map(u32::from);
    job.steps.iter().find(|step| Some(step.index) == index)
}

fn name_of(job: &JobView, step: Option<u16>) -> Option<&str> {
    view_of(job, step).map(|step| step.name.as_str())
}

/// The name of a step that runs beside others, short enough to stand before each of its lines.
fn tag(job: &JobView, step: Option<u16>) -> Option<String> {
    let step = view_of(job, step).filter(|step| step.parallel.is_some())?;
    Some(cut(&clean(&step.name, Keep::Text), TAG_COLUMNS_MAX).into_owned())
}

/// The first of the steps that run at the same time as `step`: while the log is in one of them, it
/// is not past any of them.
fn first_beside(job: &JobView, step: Option<u16>) -> u32 {
    let Some(view) = view_of(job, step) else {
        return step.map_or(0, u32::from);
    };
    let beside = |other: &&StepView| view.parallel.is_some() && other.parallel == view.parallel;
    let first = job.steps.iter().find(beside);
    first.map_or(view.index, |first| first.index)
}

/// Whether a job waits for something else than the jobs it needs.
fn is_held(job: &JobView, jobs: &[JobView]) -> bool {
    let open = |need: &String| {
        let mut needed = jobs.iter().filter(|other| other.job_id == *need);
        needed.any(|other| other.status != Status::Finished)
    };
    match job.status {
        Status::Queued => true,
        Status::Blocked => job.reason.is_some() && !job.needs.iter().any(open),
        Status::Running | Status::Finished => false,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::sample;
    use super::super::style::Sink;
    use super::*;
    use crate::api::view::Conclusion;

    #[test]
    fn results_wait_for_the_log_and_escapes_are_gone() {
        let board = sample::running();
        let mut plain = Plain::new(sample::look(Sink::Stream), Prefix::Job);
        let mut out = plain.header(&board);
        out += &plain.update(&board);
        for (step, channel, text) in [
            (0, Channel::Command, "make"),
            (0, Channel::Stdout, "cc -o a"),
            (1, Channel::Command, "make check"),
            (
                1,
                Channel::Stderr,
                "\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}text",
            ),
        ] {
            let line = LogLine {
                job: 2,
                step: Some(step),
                channel,
                unix_ns: 0,
                text: text.to_owned(),
            };
            out += &plain.log(&board, &line);
        }
        let board = sample::failed();
        out += &plain.update(&board);
        for job in [1, 2, 3] {
            out += &plain.log_ended(&board, job);
        }
        expect![[r#"
            ci: run 7, manual event, 5 jobs, .rustci/ci.yaml
            test (stable, postgres) | ▸ build
            test (stable, postgres) | $ make
            test (stable, postgres) | cc -o a
            test (stable, postgres) | ✓ build (0.9s)
            test (stable, postgres) | ▸ unit tests
            test (stable, postgres) | $ make check
            test (stable, postgres) | red text
            build | – skipped: needs `test`, of which `test (stable, postgres)` failed; nothing else stands in its way
            lint | ✓ cargo fmt --check (0.7s)
            lint | ✓ job succeeded (0.7s)
            test (stable, postgres) | ✗ unit tests: exit code 101 (2.0s)
            test (stable, postgres) | – upload: skipped
            test (stable, postgres) | ✗ job failed: `unit tests`: exit code 101 (3.0s)
            test (beta, 漢字) | ✓ unit tests: passed on try 2 (3.4s)
            test (beta, 漢字) | ✓ job succeeded (3.5s)
        "#]].assert_eq(&out);
        assert!(!out.contains('\u{1b}'));
    }

    #[test]
    fn a_step_that_is_told_before_its_attempt_waits_for_the_log() {
        let mut early = sample::failed();
        for job in &mut early.run.jobs {
            job.attempts.clear();
            job.status = Status::Running;
        }
        let mut plain = Plain::new(sample::look(Sink::Stream), Prefix::Job);
        assert_eq!(plain.update(&early), "");
    }

    #[test]
    fn what_a_run_waits_for_is_said_once() {
        let mut board = sample::running();
        let mut plain = Plain::new(sample::look(Sink::Stream), Prefix::Job);
        assert_eq!(plain.waiting(&board), "", "something runs");
        board.run.jobs.retain(|job| job.status != Status::Running);
        expect![[r#"
            test (beta, 漢字) | ○ no runner has the label `gpu`; connected runners: 1
        "#]]
        .assert_eq(&plain.waiting(&board));
        assert_eq!(plain.waiting(&board), "");
    }

    #[test]
    fn lines_of_steps_that_run_at_the_same_time_say_whose_they_are() {
        let board = sample::together();
        let mut plain = Plain::new(sample::look(Sink::Stream), Prefix::Job);
        let mut out = plain.update(&board);
        let own = |step, channel, text| LogLine {
            channel,
            ..sample::line_of(step, text)
        };
        for line in [
            sample::line_of(0, "fetched"),
            own(1, Channel::Command, "make lint"),
            own(2, Channel::Command, "docs"),
            own(3, Channel::Command, "make unit"),
            sample::line_of(3, "test a"),
            sample::line_of(1, "linting a"),
            own(2, Channel::System, "exit code 3"),
            sample::line_of(3, "test b"),
        ] {
            out += &plain.log(&board, &line);
        }
        let mut over = board;
        for step in &mut over.run.jobs[0].steps[..4] {
            step.status = Status::Finished;
            let failed = step.exit_code == Some(3);
            step.conclusion = step
                .conclusion
                .filter(|_| failed)
                .or(Some(Conclusion::Success));
        }
        out += &plain.update(&over);
        out += &plain.log(&over, &sample::line_of(4, "published"));
        expect![[r#"
            check | ▸ fetch
            check | fetched
            check | ✓ fetch (0.5s)
            check | ▸ lint
            check | lint | $ make lint
            check | ▸ docs
            check | ▸ unit tests
            check | unit tests | $ make unit
            check | unit tests | test a
            check | lint | linting a
            check | docs | exit code 3
            check | unit tests | test b
            check | ✓ lint
            check | ✗ docs: exit code 3 (0.9s)
            check | ✓ unit tests
            check | ▸ publish
            check | published
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn a_line_waits_for_the_results_of_the_steps_before_its_own() {
        let over = sample::failed();
        let mut open = sample::failed();
        for job in &mut open.run.jobs {
            job.status = Status::Running;
            job.steps
                .iter_mut()
                .for_each(|step| step.status = Status::Running);
        }
        let line = sample::line_of;
        let mut plain = Plain::new(sample::look(Sink::Stream), Prefix::Nothing);
        let out = plain.log(&open, &line(0, "cc")) + &plain.log(&open, &line(1, "test a"));
        assert_eq!(out, "▸ build\ncc\n", "how `build` ended is not known yet");
        open.run.jobs[1].steps[0] = over.job(2).unwrap().steps[0].clone();
        assert_eq!(
            plain.update(&open),
            "✓ build (0.9s)\n▸ unit tests\ntest a\n"
        );

        let mut plain = Plain::new(sample::look(Sink::Stream), Prefix::Nothing);
        open.run.jobs[1].steps[0].status = Status::Running;
        let _ = plain.log(&open, &line(0, "cc")) + &plain.log(&open, &line(1, "test a"));
        let out = plain.log_ended(&open, 2);
        assert_eq!(out, "", "the log can be over before its steps are told");
        let out = plain.update(&over);
        assert!(
            out.starts_with("✓ build (0.9s)\n▸ unit tests\ntest a\n✗ unit tests"),
            "{out}"
        );

        let mut plain = Plain::new(sample::look(Sink::Stream), Prefix::Nothing);
        let lines = (0..=EARLY_LINES_MAX).map(|_| plain.log(&open, &line(1, "x")));
        let out: String = lines.collect();
        assert_eq!(out.lines().count(), EARLY_LINES_MAX + 2, "with its heading");
    }

    #[test]
    fn an_attempt_that_another_came_after_has_an_end_of_its_own() {
        let board = sample::failed();
        let mut job = board.job(2).unwrap().clone();
        job.attempts[0].cause = Some("runner_lost".to_owned());
        job.attempts[0].finished_ms = job.attempts[0].started_ms.map(|at| at + 1_500);
        let mut plain = Plain::new(sample::look(Sink::Stream), Prefix::Nothing);
        assert_eq!(
            plain.attempt_ended(&board, &job),
            "✗ attempt 1 ended: runner_lost (1.5s)\n"
        );
    }

    #[test]
    fn one_job_alone_needs_no_prefix() {
        let board = sample::failed();
        let mut plain = Plain::new(sample::look(Sink::Stream), Prefix::Nothing);
        let out = plain.log(&board, &sample::line("test a ... ok"));
        expect![[r#"
            ✓ build (0.9s)
            ▸ unit tests
            test a ... ok
        "#]]
        .assert_eq(&out);
    }
}
