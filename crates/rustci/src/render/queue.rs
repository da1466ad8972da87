//! The queue, quotas and runners.

use super::board::Mood;
use super::job::Look;
use super::style::{ago, duration};
use super::table::table;
use super::text::{Keep, clean};
use crate::api::view::{
    ClassView, Priority, QueueView, QueuedJob, QuotaView, RunnerState, RunnerView,
};
use crate::failure::plural;

/// The queue: how much, for what it waits, whose it is, what is in front.
pub(crate) fn queue(queue: &QueueView, look: Look, now_ms: u64) -> String {
    let mut lines = vec![head(queue, look, now_ms)];
    if !queue.reasons.is_empty() {
        let reasons = queue.reasons.iter();
        let words = reasons.map(|(code, count)| format!("{count} {}", code.replace('_', " ")));
        let words = words.collect::<Vec<_>>().join(", ");
        lines.push(look.colour.dim(&format!("waiting: {words}")));
    }
    if !queue.classes.is_empty() {
        lines.push(String::new());
        let rows: Vec<_> = queue.classes.iter().map(class_row).collect();
        let head = ["QUEUED", "RUNNERS", "SLOTS", "FREE", "RUNS ON"];
        lines.extend(table(&head, &rows, look));
    }
    if queue.projects.len() > 1 {
        lines.push(String::new());
        let rows = queue.projects.iter().map(|load| {
            vec![
                clean(&load.project, Keep::Text).into_owned(),
                load.queued.to_string(),
                load.running.to_string(),
                load.weight.to_string(),
            ]
        });
        let head = ["PROJECT", "QUEUED", "RUNNING", "WEIGHT"];
        lines.extend(table(&head, &rows.collect::<Vec<_>>(), look));
    }
    if !queue.jobs.is_empty() {
        lines.push(String::new());
        let rows: Vec<_> = queue.jobs.iter().map(|job| job_row(job, now_ms)).collect();
        let head = ["JOB", "PROJECT", "PRIORITY", "WAITS", "REASON"];
        lines.extend(table(&head, &rows, look));
    }
    if let Some(next) = &queue.next {
        let hint = format!("more with --cursor {next}");
        lines.extend([String::new(), look.colour.dim(&hint)]);
    }
    lines.push(String::new());
    lines.join("\n")
}

fn head(queue: &QueueView, look: Look, now_ms: u64) -> String {
    let state = match queue.paused {
        true => look.colour.yellow("paused"),
        false => look.colour.green("open"),
    };
    let count = usize::try_from(queue.queued).unwrap_or(usize::MAX);
    let jobs = plural(count, "job");
    let oldest = queue.oldest_ms.map(|since| {
        let waited = duration(now_ms.saturating_sub(since));
        format!(", the oldest for {waited}")
    });
    format!(
        "{}  {state}, {count} {jobs} queued, {} running{}",
        look.colour.bold("queue"),
        queue.running,
        oldest.unwrap_or_default()
    )
}

fn class_row(class: &ClassView) -> Vec<String> {
    let any = match class.any.as_slice() {
        [] => None,
        any => Some(format!("({})", any.join(" or "))),
    };
    let labels = class.all.iter().cloned().chain(any);
    let labels = labels.collect::<Vec<_>>().join(" + ");
    vec![
        class.queued.to_string(),
        class.runners.to_string(),
        class.slots.to_string(),
        class.free.to_string(),
        clean(&labels, Keep::Text).into_owned(),
    ]
}

fn job_row(job: &QueuedJob, now_ms: u64) -> Vec<String> {
    let waits = job.queued_ms.map(|since| now_ms.saturating_sub(since));
    vec![
        clean(&format!("{}/{}", job.run, job.key), Keep::Text).into_owned(),
        clean(&job.project, Keep::Text).into_owned(),
        match job.priority {
            Priority::Normal => "-".to_owned(),
            other => other.as_str().to_owned(),
        },
        waits.map(duration).unwrap_or_default(),
        clean(&job.reason, Keep::Text).into_owned(),
    ]
}

/// What projects may have. A figure that is the default's is in brackets.
pub(crate) fn quotas(quotas: &[QuotaView], look: Look) -> String {
    let figure = |holds: Option<u32>, own: Option<u32>| match (holds, own) {
        (None, _) => "-".to_owned(),
        (Some(figure), None) => format!("({figure})"),
        (Some(figure), Some(_)) => figure.to_string(),
    };
    let rows = quotas.iter().map(|quota| {
        vec![
            clean(&quota.project, Keep::Text).into_owned(),
            figure(quota.running, quota.own.running),
            figure(quota.queued, quota.own.queued),
            figure(Some(quota.weight), quota.own.weight),
            quota.running_now.to_string(),
            quota.waiting_now.to_string(),
        ]
    });
    let head = [
        "PROJECT",
        "RUNNING",
        "QUEUED",
        "WEIGHT",
        "RUNS NOW",
        "WAITS NOW",
    ];
    let mut lines = table(&head, &rows.collect::<Vec<_>>(), look);
    lines.push(String::new());
    lines.join("\n")
}

/// Runners, one line each.
pub(crate) fn runners(runners: &[RunnerView], look: Look, now_ms: u64) -> String {
    let rows: Vec<_> = runners
        .iter()
        .map(|runner| runner_row(runner, look, now_ms))
        .collect();
    let head = ["ID", "RUNNER", "STATE", "JOBS", "VERSION", "SEEN", "LABELS"];
    let mut lines = table(&head, &rows, look);
    lines.push(String::new());
    lines.join("\n")
}

fn runner_row(runner: &RunnerView, look: Look, now_ms: u64) -> Vec<String> {
    let mood = match runner.state {
        RunnerState::Connected => Mood::Good,
        RunnerState::Draining => Mood::Tolerated,
        RunnerState::Away => Mood::Waiting,
    };
    let mut state = runner.state.as_str().to_owned();
    if runner.drained && runner.state == RunnerState::Away {
        state.push_str(", drained");
    }
    let seen = match runner.state {
        RunnerState::Away => runner.last_seen_ms.map(|seen| ago(seen, now_ms)),
        _ => Some("now".to_owned()),
    };
    let or_dash = |text: &str| match text {
        "" => "-".to_owned(),
        text => clean(text, Keep::Text).into_owned(),
    };
    vec![
        runner.id.to_string(),
        clean(&runner.name, Keep::Text).into_owned(),
        look.paint(mood, &state),
        format!("{}/{}", runner.running, runner.capacity),
        or_dash(&runner.version),
        seen.unwrap_or_else(|| "-".to_owned()),
        or_dash(&runner.labels.join(" ")),
    ]
}
