//! Whether a job whose needs have ended runs, and where.

use std::sync::Arc;

use rustci_pipeline::{
    RunsOn,
    condition::{self, Outcome, Status},
    expr::{Contexts, ExprError},
    template,
};

use super::Turn;
use crate::{
    JobId, Run,
    contexts::contexts_json,
    plan::Requirement,
    record::{Conclusion, JobQueued, record::Kind},
};

/// What becomes of a job whose needs have ended.
enum Decision {
    Queue {
        requirement: Requirement,
        tolerated: bool,
    },
    End {
        conclusion: Conclusion,
        reason: String,
    },
}

impl Turn<'_> {
    /// Decides about a job whose needs have ended.
    pub(super) fn decide(&mut self, id: JobId) {
        let Some((run, place, job)) = self.scheduler.state.job(id) else {
            return;
        };
        if !job.is_undecided() {
            return;
        }
        match decision(run, place) {
            Decision::Queue {
                requirement,
                tolerated,
            } => {
                self.record(Kind::JobQueued(JobQueued {
                    job: id.0,
                    all_labels: requirement.all,
                    any_labels: requirement.any,
                    tolerated,
                }));
            }
            Decision::End { conclusion, reason } => self.end_job(id, conclusion, reason),
        }
    }
}

impl Run {
    /// What a runner must have for the job at `place`.
    pub(crate) fn requirement(&self, place: usize) -> Option<Arc<Requirement>> {
        let own = self.jobs.get(place)?.labels.clone();
        own.or_else(|| self.plan.edges(place)?.requirement.clone())
    }

    /// The matrix of the job at `place`.
    pub(crate) fn group(&self, place: usize) -> Option<usize> {
        self.plan.edges(place)?.group
    }

    /// The matrix of the job at `place` and how many of its instances run at once.
    pub(crate) fn parallel_limit(&self, place: usize) -> Option<(usize, u32)> {
        let max = self.plan.job(place)?.group.as_ref()?.max_parallel?;
        Some((self.group(place)?, max))
    }

    /// How things stand for the job at `place`, whose needs have ended.
    fn status(&self, place: usize) -> Status {
        let needs = self.plan.needs(place).iter();
        let needs = needs.filter_map(|need| self.jobs.get(*need)?.outcome());
        let needs: Vec<Outcome> = needs.collect();
        // Of all jobs further away only a failure counts, and one is as good as many.
        let failed = self.jobs.get(place).is_some_and(|job| job.failed_before);
        let ancestors: &[Outcome] = if failed { &[Outcome::Failure] } else { &[] };
        Status::of_needs(&needs, ancestors)
    }
}

fn decision(run: &Run, place: usize) -> Decision {
    if let Some(reason) = &run.cancel_reason {
        let reason = super::run::cancel_text(reason);
        return Decision::End {
            conclusion: Conclusion::Canceled,
            reason,
        };
    }
    let evaluated = evaluate(run, place);
    evaluated.unwrap_or_else(|(what, error)| Decision::End {
        conclusion: Conclusion::Error,
        reason: format!("{what} cannot be evaluated: {error}"),
    })
}

fn evaluate(run: &Run, place: usize) -> Result<Decision, (&'static str, ExprError)> {
    let Some(job) = run.plan.job(place) else {
        return Ok(skipped(String::new()));
    };
    let status = run.status(place);
    if job.condition.is_none() && !status.success() {
        return Ok(skipped(unmet_need(run, place)));
    }
    let contexts = Contexts::from_json(&contexts_json(run, place)).with_status(status);
    let condition = condition::evaluate(job.condition.as_deref(), &contexts);
    if !condition.map_err(|error| ("`if`", error))? {
        let condition = job.condition.as_deref().unwrap_or("success()");
        let reason = if status.success() {
            format!("its condition `{condition}` is false")
        } else {
            format!(
                "{}, and its condition is `{condition}`",
                unmet_need(run, place)
            )
        };
        return Ok(skipped(reason));
    }
    let runs_on = render(&job.runs_on, &contexts).map_err(|error| ("`runs-on`", error))?;
    let tolerated = condition::flag(&job.continue_on_error, &contexts);
    let tolerated = tolerated.map_err(|error| ("`continue-on-error`", error))?;
    Ok(Decision::Queue {
        requirement: Requirement::new(&runs_on),
        tolerated,
    })
}

fn render(runs_on: &RunsOn, contexts: &Contexts) -> Result<RunsOn, ExprError> {
    let all = |labels: &[String]| -> Result<Vec<String>, ExprError> {
        labels
            .iter()
            .map(|label| template::render(label, contexts))
            .collect()
    };
    Ok(RunsOn {
        all: all(&runs_on.all)?,
        any: all(&runs_on.any)?,
    })
}

fn skipped(reason: String) -> Decision {
    Decision::End {
        conclusion: Conclusion::Skipped,
        reason,
    }
}

/// Names the first need that did not succeed.
fn unmet_need(run: &Run, place: usize) -> String {
    let unmet = run.plan.needs(place).iter().find_map(|need| {
        let outcome = run.jobs.get(*need)?.outcome()?;
        let word = match outcome {
            Outcome::Success => return None,
            Outcome::Failure => "failed",
            Outcome::Cancelled => "was canceled",
            Outcome::Skipped => "was skipped",
        };
        Some(format!(
            "it needs `{}`, which {word}",
            run.plan.job(*need)?.key
        ))
    });
    unmet.unwrap_or_else(|| "not all jobs before it succeeded".to_owned())
}
