//! Why jobs wait or ended.

use super::board::Mood;
use super::job::Look;
use super::style::{ago, duration};
use super::text::{Keep, clean, wrap};
use crate::api::view::{Conclusion, Explanation, JobExplanation, Priority, Status};
use crate::failure::plural;

/// Columns before a reason.
const INDENT: usize = 6;

/// Everything that is known, for a screen of `look.columns` columns.
pub(crate) fn explain(explained: &Explanation, look: Look, now_ms: u64) -> String {
    let mut lines = head(explained, look, now_ms);
    let (told, fine): (Vec<_>, Vec<_>) = explained.jobs.iter().partition(|job| is_worth_it(job));
    let told = if told.is_empty() && fine.len() == 1 {
        &fine
    } else {
        &told
    };
    for job in told {
        lines.push(String::new());
        lines.extend(job_lines(job, look, now_ms));
    }
    let rest = explained.jobs.len() - told.len();
    if rest > 0 {
        lines.push(String::new());
        let words = format!("{rest} {} succeeded", plural(rest, "job"));
        lines.push(look.colour.dim(&format!("  {words}")));
    }
    if explained.left_out > 0 {
        lines.push(
            look.colour
                .dim(&format!("  {} more jobs are not shown", explained.left_out)),
        );
    }
    lines.push(String::new());
    lines.join("\n")
}

fn head(explained: &Explanation, look: Look, now_ms: u64) -> Vec<String> {
    let name = format!(
        "run {}  {} · {}",
        explained.run,
        clean(&explained.project, Keep::Text),
        clean(&explained.pipeline, Keep::Text)
    );
    let mood = Mood::of(explained.status, explained.conclusion);
    let ended = explained.conclusion.map(Conclusion::as_str);
    let result = ended.unwrap_or(explained.status.as_str()).replace('_', " ");
    let mut more = vec![format!("started {}", ago(explained.created_ms, now_ms))];
    if explained.priority != Priority::Normal {
        more.push(format!("priority {}", explained.priority.as_str()));
    }
    let end = explained.estimated_finish_ms;
    if let Some(end) = end.filter(|_| explained.status != Status::Finished) {
        more.push(format!(
            "done in about {}",
            duration(end.saturating_sub(now_ms))
        ));
    }
    vec![
        format!("{}  {}", look.colour.bold(&name), look.paint(mood, &result)),
        look.colour.dim(&more.join(", ")),
    ]
}

/// A job that did what it should needs no explanation.
fn is_worth_it(job: &JobExplanation) -> bool {
    job.conclusion != Some(Conclusion::Success)
}

fn job_lines(job: &JobExplanation, look: Look, now_ms: u64) -> Vec<String> {
    let mood = Mood::of(job.status, job.conclusion);
    let key = look.colour.bold(&clean(&job.key, Keep::Text));
    let code = look.colour.dim(&job.code);
    let mut lines = vec![format!("  {} {key}  {code}", look.symbol(mood, None))];
    lines.extend(indented(&clean(&job.reason, Keep::Text), look));
    let more = [missing(job), last_attempt(job), forecast(job, now_ms)];
    for text in more.into_iter().flatten() {
        let wrapped = indented(&clean(&text, Keep::Text), look);
        lines.extend(wrapped.iter().map(|line| look.colour.dim(line)));
    }
    lines
}

fn indented(text: &str, look: Look) -> Vec<String> {
    let room = look.columns.saturating_sub(INDENT).max(20);
    let pieces = wrap(text, room).into_iter();
    pieces
        .map(|piece| format!("{:INDENT$}{piece}", ""))
        .collect()
}

/// What to do about labels that nobody has.
fn missing(job: &JobExplanation) -> Option<String> {
    let labels = &job.details.missing;
    (!labels.is_empty()).then(|| {
        format!(
            "start a runner with {}, or mend `runs-on`",
            labels
                .iter()
                .map(|label| format!("--label {label}"))
                .collect::<Vec<_>>()
                .join(" ")
        )
    })
}

/// That a job which waits has been tried before.
fn last_attempt(job: &JobExplanation) -> Option<String> {
    let waits = matches!(job.status, Status::Blocked | Status::Queued);
    let cause = job.details.last_cause.as_deref().filter(|_| waits)?;
    let runner = job.details.runner.as_deref().unwrap_or("a runner");
    let number = job.details.attempts.unwrap_or(1);
    let cause = cause.replace('_', " ");
    Some(format!("attempt {number} on {runner} ended: {cause}"))
}

/// When it starts and ends, as far as that is known.
fn forecast(job: &JobExplanation, now_ms: u64) -> Option<String> {
    let in_about = |at: u64| match at.saturating_sub(now_ms) {
        0..1_000 => "now".to_owned(),
        left => format!("in about {}", duration(left)),
    };
    let mut words = Vec::new();
    if job.status == Status::Queued {
        words.extend(
            job.queued_ms
                .map(|since| format!("waits for {}", duration(now_ms.saturating_sub(since)))),
        );
    }
    words.extend(
        job.estimated_start_ms
            .map(|at| format!("starts {}", in_about(at))),
    );
    words.extend(
        job.estimated_finish_ms
            .map(|at| format!("ends {}", in_about(at))),
    );
    let open = job.status != Status::Finished;
    words.extend(
        job.typical_ms
            .filter(|_| open)
            .map(|typical| match job.samples {
                1 => format!("took {} before", duration(typical)),
                times => format!("usually takes {} ({times} times before)", duration(typical)),
            }),
    );
    (!words.is_empty()).then(|| words.join(", "))
}
