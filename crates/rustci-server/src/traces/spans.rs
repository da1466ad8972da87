//! The spans of one run.

use std::borrow::Cow;

use telemetry::otlp::{Span, SpanKind, SpanStatus, Value};
use telemetry::{Work, span_id};

use crate::api::view::{AttemptView, Conclusion, JobView, RunView, StepView};
use crate::traces::RunTrace;

const NS_PER_MS: u64 = 1_000_000;

/// All spans of a run that has ended, the run's own first; none when its trace is not sampled.
pub(crate) fn of(run: &RunView, trace: &RunTrace) -> Vec<Span> {
    if !trace.is_sampled() {
        return Vec::new();
    }
    let maker = Maker {
        run,
        trace_id: trace.trace_id,
    };
    let mut spans = vec![maker.run(trace.parent_id)];
    for job in &run.jobs {
        for attempt in &job.attempts {
            spans.extend(maker.attempt(job, attempt));
        }
        // Only the newest attempt's steps are kept.
        if let Some(attempt) = job.attempts.last() {
            spans.extend(
                job.steps
                    .iter()
                    .filter_map(|step| maker.step(job, attempt, step)),
            );
        }
    }
    spans
}

struct Maker<'a> {
    run: &'a RunView,
    trace_id: [u8; 16],
}

impl Maker<'_> {
    fn run(&self, parent_id: Option<[u8; 8]>) -> Span {
        let run = self.run;
        let mut attributes: Vec<(&'static str, Value)> = vec![
            ("cicd.pipeline.name", run.pipeline.clone().into()),
            ("cicd.pipeline.action.name", "RUN".into()),
            ("cicd.pipeline.run.id", run.id.to_string().into()),
            ("rustci.project", run.project.clone().into()),
            ("rustci.event", run.event.name.clone().into()),
            ("rustci.plan.digest", run.digest.clone().into()),
        ];
        attributes.extend(
            run.conclusion
                .map(|ended| ("cicd.pipeline.result", result(ended).into())),
        );
        attributes.extend(run.conclusion.and_then(error_type));
        Span {
            trace_id: self.trace_id,
            span_id: span_id(&self.trace_id, Work::Run(run.id)),
            parent_id,
            name: format!("RUN {}", run.pipeline),
            kind: SpanKind::Server,
            start_ns: run.created_ms.saturating_mul(NS_PER_MS),
            end_ns: run
                .finished_ms
                .unwrap_or(run.created_ms)
                .saturating_mul(NS_PER_MS),
            attributes: named(attributes),
            status: status(run.conclusion, ""),
        }
    }

    /// An attempt that never started has no time of its own and no span.
    fn attempt(&self, job: &JobView, attempt: &AttemptView) -> Option<Span> {
        let started = attempt.started_ms?;
        let cause = attempt.cause.as_deref().unwrap_or_default();
        let last = job
            .attempts
            .last()
            .is_some_and(|last| last.number == attempt.number);
        let ended = job.conclusion.filter(|_| last);
        let result = ended.map_or("error", result);
        let mut attributes: Vec<(&'static str, Value)> = vec![
            ("cicd.pipeline.task.name", job.key.clone().into()),
            (
                "cicd.pipeline.task.run.id",
                format!("{}.{}", job.id, attempt.number).into(),
            ),
            ("cicd.pipeline.task.run.result", result.into()),
            ("cicd.worker.name", attempt.runner.clone().into()),
            ("rustci.attempt", u64::from(attempt.number).into()),
            ("rustci.attempt.cause", cause.into()),
        ];
        if let Some(queued) = job.queued_ms.filter(|_| last) {
            attributes.push((
                "rustci.queue.duration_ms",
                started.saturating_sub(queued).into(),
            ));
        }
        match ended {
            Some(ended) => attributes.extend(error_type(ended)),
            // It was repeated, so what ended it was an error of its own.
            None => attributes.push(("error.type", cause.into())),
        }
        let reason = job.reason.as_deref().filter(|_| last).unwrap_or(cause);
        let work = Work::Attempt {
            job: job.id,
            attempt: attempt.number,
        };
        Some(Span {
            trace_id: self.trace_id,
            span_id: span_id(&self.trace_id, work),
            parent_id: Some(span_id(&self.trace_id, Work::Run(self.run.id))),
            name: job.job_id.clone(),
            kind: SpanKind::Internal,
            start_ns: started.saturating_mul(NS_PER_MS),
            end_ns: attempt
                .finished_ms
                .unwrap_or(started)
                .saturating_mul(NS_PER_MS),
            attributes: named(attributes),
            status: match ended {
                Some(ended) => status(Some(ended), reason),
                None => SpanStatus::Error(reason.to_owned()),
            },
        })
    }

    fn step(&self, job: &JobView, attempt: &AttemptView, step: &StepView) -> Option<Span> {
        let started = step.started_ms?;
        let (job_id, number) = (job.id, attempt.number);
        let mut attributes: Vec<(&'static str, Value)> = vec![
            ("cicd.pipeline.task.name", step.name.clone().into()),
            (
                "cicd.pipeline.task.run.id",
                format!("{job_id}.{number}.{}", step.index).into(),
            ),
            ("rustci.step.tries", u64::from(step.tries).into()),
        ];
        if let Some(ended) = step.conclusion {
            attributes.push(("cicd.pipeline.task.run.result", result(ended).into()));
            attributes.extend(error_type(ended));
        }
        attributes.extend(
            step.exit_code
                .map(|code| ("process.exit.code", Value::Int(code.into()))),
        );
        let parent = Work::Attempt {
            job: job_id,
            attempt: number,
        };
        let parent = span_id(&self.trace_id, parent);
        let work = Work::Step {
            attempt: parent,
            step: step.index,
        };
        let end = started.saturating_add(step.duration_ms.unwrap_or(0));
        Some(Span {
            trace_id: self.trace_id,
            span_id: span_id(&self.trace_id, work),
            parent_id: Some(parent),
            name: step.name.clone(),
            kind: SpanKind::Internal,
            start_ns: started.saturating_mul(NS_PER_MS),
            end_ns: end.saturating_mul(NS_PER_MS),
            attributes: named(attributes),
            status: status(step.conclusion, &step.message),
        })
    }
}

/// Attributes whose names are those of the program.
fn named(attributes: Vec<(&'static str, Value)>) -> Vec<(Cow<'static, str>, Value)> {
    let own = attributes.into_iter();
    own.map(|(name, value)| (Cow::Borrowed(name), value))
        .collect()
}

/// A conclusion in the words of the semantic conventions.
fn result(ended: Conclusion) -> &'static str {
    match ended {
        Conclusion::Success => "success",
        Conclusion::Failure | Conclusion::Declined | Conclusion::Blocked => "failure",
        Conclusion::Error | Conclusion::Killed => "error",
        Conclusion::Canceled => "cancellation",
        Conclusion::Skipped => "skip",
        Conclusion::TimedOut => "timeout",
    }
}

fn error_type(ended: Conclusion) -> Option<(&'static str, Value)> {
    is_bad(ended).then(|| ("error.type", ended.as_str().into()))
}

fn is_bad(ended: Conclusion) -> bool {
    !matches!(
        ended,
        Conclusion::Success | Conclusion::Skipped | Conclusion::Canceled
    )
}

fn status(ended: Option<Conclusion>, message: &str) -> SpanStatus {
    match ended {
        Some(ended) if is_bad(ended) && message.is_empty() => {
            SpanStatus::Error(ended.as_str().to_owned())
        }
        Some(ended) if is_bad(ended) => SpanStatus::Error(message.to_owned()),
        _ => SpanStatus::Unset,
    }
}
