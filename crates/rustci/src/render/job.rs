//! One line about a job or a step: symbol, name, what there is to say, time.

use super::board::{Mood, elapsed, failed_step, word};
use super::style::{Colour, Sink, duration};
use super::text::{Keep, clean, cut, fit, spread, width, wrap};
use crate::api::view::{Conclusion, JobView, RunView, Status, StepView};

/// Widest column for names of jobs.
const NAME_COLUMNS_MAX: usize = 40;
/// Widest name of a step inside a sentence.
const QUOTED_COLUMNS_MAX: usize = 30;

/// Colours and columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Whether colours are written.
    pub(crate) colour: Colour,
    /// Columns of the terminal, or those that times are aligned to in a file.
    pub(crate) columns: usize,
    /// Lines are cut for a terminal and never for a file.
    pub(crate) sink: Sink,
}

impl Look {
    /// What a job printed, behind a bar at column `indent`, in one row of a picture.
    pub(crate) fn quoted(self, indent: usize, text: &str) -> String {
        cut(&self.quoted_whole(indent, text), self.columns).into_owned()
    }

    /// The same however long it is: where it stays on the screen, every word of it may matter.
    pub(crate) fn quoted_whole(self, indent: usize, text: &str) -> String {
        let keep = match self.colour {
            Colour::On => Keep::Colours,
            Colour::Off => Keep::Text,
        };
        let bar = self.colour.dim("│");
        format!("{:indent$}{bar} {}", "", clean(text, keep))
    }

    /// `text` in as many lines as it needs behind `indent` columns; in a file in one.
    pub(crate) fn rows(self, text: &str, indent: usize) -> Vec<String> {
        match self.sink {
            Sink::Terminal => wrap(text, self.columns.saturating_sub(indent)),
            Sink::Stream => vec![text.to_owned()],
        }
    }

    /// `left`, and `right` at the right edge.
    fn spread(self, left: &str, right: &str) -> String {
        let fits = width(left) + 1 + width(right) <= self.columns;
        match self.sink {
            Sink::Stream if !fits => format!("{left}  {right}"),
            _ => spread(left, right, self.columns),
        }
    }

    /// A symbol in its colour.
    pub(crate) fn symbol(self, mood: Mood, tick: Option<usize>) -> String {
        self.paint(mood, &mood.symbol(tick).to_string())
    }

    /// `text` in the colour of `mood`.
    pub(crate) fn paint(self, mood: Mood, text: &str) -> String {
        match mood {
            Mood::Running => self.colour.cyan(text),
            Mood::Bad => self.colour.red(text),
            Mood::Tolerated => self.colour.yellow(text),
            Mood::Waiting | Mood::Skipped => self.colour.dim(text),
            Mood::Good => self.colour.green(text),
        }
    }
}

/// What the lines of one run share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    run: &'a RunView,
    look: Look,
    name_columns: usize,
    now_ms: u64,
    tick: Option<usize>,
}

impl<'a> Row<'a> {
    /// Measures the names of the run's jobs.
    pub(crate) fn for_run(run: &'a RunView, look: Look, now_ms: u64, tick: Option<usize>) -> Self {
        let longest = run
            .jobs
            .iter()
            .map(|job| width(&job.key))
            .max()
            .unwrap_or(0);
        let name_columns = match look.sink {
            Sink::Terminal => longest
                .min(NAME_COLUMNS_MAX)
                .min((look.columns / 2).saturating_sub(4)),
            Sink::Stream => longest,
        };
        Self {
            run,
            look,
            name_columns,
            now_ms,
            tick,
        }
    }

    /// A job's line.
    pub(crate) fn job(&self, job: &JobView) -> String {
        let mood = mood(job, self.run);
        let name = fit(&clean(&job.key, Keep::Text), self.name_columns);
        let note = match mood {
            Mood::Bad | Mood::Tolerated => self.look.paint(mood, &note(job, self.run)),
            _ => self.look.colour.dim(&note(job, self.run)),
        };
        let left = format!("  {} {name}  {note}", self.look.symbol(mood, self.tick));
        self.with_time(&left, job.started_ms, job.finished_ms)
    }

    /// A job's line, followed by what is too long to stand in it.
    pub(crate) fn job_in_full(&self, job: &JobView) -> Vec<String> {
        let room = self.look.columns.saturating_sub(self.name_columns + 14);
        let note = note(job, self.run);
        if self.look.sink == Sink::Stream || width(&note) <= room {
            return vec![self.job(job)];
        }
        let mood = mood(job, self.run);
        let left = format!(
            "  {} {}",
            self.look.symbol(mood, self.tick),
            clean(&job.key, Keep::Text)
        );
        let mut lines = vec![self.with_time(&left, job.started_ms, job.finished_ms)];
        for line in wrap(&note, self.look.columns.saturating_sub(6)) {
            lines.push(format!("      {}", self.look.paint(mood, &line)));
        }
        lines
    }

    /// A step's line, below its job's.
    pub(crate) fn step(&self, step: &StepView) -> String {
        let mood = step_mood(step);
        let note = step_note(step);
        let note = if note.is_empty() {
            note
        } else {
            format!("  {note}")
        };
        let left = format!(
            "      {} {}{}",
            self.look.symbol(mood, self.tick),
            clean(&step.name, Keep::Text),
            self.look.paint(mood, &note)
        );
        let end = step
            .started_ms
            .zip(step.duration_ms)
            .map(|(start, took)| start + took);
        self.with_time(&left, step.started_ms, end)
    }

    /// A job's output, below its steps.
    pub(crate) fn output(&self, name: &str, value: &str) -> String {
        let first = value.lines().next().unwrap_or_default();
        let text = format!("{name} = {}", clean(first, Keep::Text));
        let text = match self.look.sink {
            Sink::Terminal => cut(&text, self.look.columns.saturating_sub(8)).into_owned(),
            Sink::Stream => text,
        };
        format!(
            "      {} {}",
            self.look.colour.dim("→"),
            clean(&text, Keep::Text)
        )
    }

    fn with_time(&self, left: &str, started_ms: Option<u64>, finished_ms: Option<u64>) -> String {
        let time = elapsed(started_ms, finished_ms, self.now_ms)
            .map(duration)
            .unwrap_or_default();
        self.look.spread(left, &time).trim_end().to_owned()
    }
}

/// How a job stands in its run: one that failed in a run that succeeded was allowed to.
pub(crate) fn mood(job: &JobView, run: &RunView) -> Mood {
    match Mood::of(job.status, job.conclusion) {
        Mood::Bad if job.allowed || run.conclusion == Some(Conclusion::Success) => Mood::Tolerated,
        mood => mood,
    }
}

/// How a step stands. One that failed and was allowed to is not the same as a success.
pub(crate) fn step_mood(step: &StepView) -> Mood {
    match Mood::of(step.status, step.conclusion) {
        // A step can fail after its process did well: by what it wrote to $CI_OUTPUT or $CI_ENV.
        Mood::Good if failed_code(step).is_some() || !step.message.is_empty() => Mood::Tolerated,
        mood => mood,
    }
}

/// What there is to say about a job beside its name; may be empty.
pub(crate) fn note(job: &JobView, run: &RunView) -> String {
    let reason = || {
        job.reason
            .as_deref()
            .map(|text| clean(text, Keep::Text).into_owned())
    };
    match (job.status, mood(job, run)) {
        (Status::Blocked, _) => {
            reason().unwrap_or_else(|| format!("needs {}", job.needs.join(", ")))
        }
        (Status::Queued, _) => reason().unwrap_or_else(|| "waits for a runner".to_owned()),
        (_, Mood::Skipped) => match reason() {
            Some(reason) => format!("skipped: {reason}"),
            None => "skipped".to_owned(),
        },
        (_, Mood::Bad) => failure(job),
        (_, Mood::Tolerated) => format!("{} (allowed)", failure(job)),
        _ => again(job).unwrap_or_default(),
    }
}

/// Why a job failed, in one line.
fn failure(job: &JobView) -> String {
    if let Some(step) = failed_step(job) {
        return format!("{}: {}", quote(&step.name), step_note(step));
    }
    match &job.reason {
        Some(reason) => clean(reason, Keep::Text).into_owned(),
        None => job.conclusion.map_or("ended", word).to_owned(),
    }
}

/// What was tried more than once.
fn again(job: &JobView) -> Option<String> {
    let attempt = job
        .attempts
        .iter()
        .map(|attempt| attempt.number)
        .max()
        .unwrap_or(1);
    if attempt > 1 {
        return Some(format!("attempt {attempt}"));
    }
    let step = job
        .steps
        .iter()
        .find(|step| step.tries > 1 && step.status == Status::Finished)?;
    Some(format!(
        "{} passed on try {}",
        quote(&step.name),
        step.tries
    ))
}

/// How a step ended, where it did not simply succeed.
pub(crate) fn step_note(step: &StepView) -> String {
    let message = clean(&step.message, Keep::Text);
    match (step_mood(step), step.conclusion, failed_code(step)) {
        (Mood::Skipped, ..) => "skipped".to_owned(),
        (Mood::Tolerated, _, Some(code)) => format!("exit code {code} (allowed)"),
        (Mood::Tolerated, _, None) => format!("{message} (allowed)"),
        (Mood::Bad, Some(Conclusion::Failure), Some(code)) => format!("exit code {code}"),
        (Mood::Bad, _, _) if !message.is_empty() => message.into_owned(),
        (Mood::Bad, Some(conclusion), _) => word(conclusion).to_owned(),
        (Mood::Good, ..) if step.tries > 1 => format!("passed on try {}", step.tries),
        (Mood::Running, ..) if step.tries > 1 => format!("try {}", step.tries),
        _ => String::new(),
    }
}

/// The exit code by which a step failed.
fn failed_code(step: &StepView) -> Option<i32> {
    step.exit_code.filter(|code| *code != 0)
}

fn quote(name: &str) -> String {
    format!("`{}`", cut(&clean(name, Keep::Text), QUOTED_COLUMNS_MAX))
}
