//! Whether a job whose needs have ended runs, and where.

use std::{sync::Arc, time::Duration};

use rustci_pipeline::{
    DynamicMatrix, Job as PlannedJob, RunsOn,
    condition::{self, Outcome, Status},
    expr::{Contexts, ExprError},
    template,
};

use super::{Turn, approval::declined, slot::Wish};
use crate::{
    Job, JobId, Run, SlotUse, Verdict,
    contexts::contexts_json,
    limits::RUN_JOBS_MAX,
    plan::Requirement,
    record::{Conclusion, JobQueued, MatrixExpanded, record::Kind},
    state::Taker,
};

/// What happens next to a job whose needs have ended.
enum Decision {
    /// It ends without an attempt.
    End {
        conclusion: Conclusion,
        reason: String,
    },
    /// Its matrix is made into instances.
    Expand { matrix_json: String },
    /// Somebody is asked.
    Ask {
        environment: String,
        patience: Duration,
    },
    /// It asks for its slot.
    Want(Wish),
    /// What it waits for decides about it again.
    Wait,
    Queue {
        requirement: Requirement,
        tolerated: bool,
    },
}

impl Decision {
    fn end(conclusion: Conclusion, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::End { conclusion, reason }
    }
}

impl Turn<'_> {
    /// Takes a job whose needs have ended one step further.
    pub(super) fn decide(&mut self, id: JobId) {
        let Some((run, place, job)) = self.scheduler.state.job(id) else {
            return;
        };
        if !job.is_undecided() || !run.is_released() {
            return;
        }
        let taker = Taker {
            run: run.id,
            job: Some(id),
        };
        match decision(run, place, job) {
            Decision::End { conclusion, reason } => self.end_job(id, conclusion, reason),
            Decision::Expand { matrix_json } => self.expand(id, matrix_json),
            Decision::Ask {
                environment,
                patience,
            } => self.ask(id, environment, patience),
            Decision::Want(wish) => self.want(taker, &wish),
            Decision::Wait => {}
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
        }
    }

    /// Makes the instances of a dynamic matrix, or says why there are none.
    fn expand(&mut self, id: JobId, matrix_json: String) {
        let Some((run, place, _)) = self.scheduler.state.job(id) else {
            return;
        };
        match run.plan.expand(place, &matrix_json) {
            Ok(Some(plan)) if plan.plan().jobs.len() <= RUN_JOBS_MAX => {
                let added = plan.plan().jobs.len() - run.jobs.len();
                self.scheduler.pool.opened(&run.meta.project, added);
                let first_job = self.scheduler.state.next_job().0;
                self.record(Kind::MatrixExpanded(MatrixExpanded {
                    job: id.0,
                    first_job,
                    matrix_json,
                }));
            }
            Ok(Some(plan)) => {
                let jobs = plan.plan().jobs.len();
                let reason = format!(
                    "its matrix makes {jobs} jobs of the run; at most {RUN_JOBS_MAX} are allowed"
                );
                self.end_job(id, Conclusion::Failure, reason);
            }
            Ok(None) => {
                let reason = "its matrix is empty".to_owned();
                self.end_job(id, Conclusion::Skipped, reason);
            }
            Err(error) => self.end_job(id, Conclusion::Failure, format!("its matrix {error}")),
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

fn decision(run: &Run, place: usize, job: &Job) -> Decision {
    if let Some(reason) = &run.cancel_reason {
        return Decision::end(Conclusion::Canceled, super::run::cancel_text(reason));
    }
    let Some(planned) = run.plan.job(place) else {
        return Decision::end(Conclusion::Skipped, "");
    };
    let status = run.status(place);
    let contexts = Contexts::from_json(&contexts_json(run, place)).with_status(status);
    // The condition may speak of values that only the instances have.
    let early = planned.dynamic.is_some()
        && status.success()
        && planned
            .condition
            .as_deref()
            .is_some_and(|text| text.contains("matrix"));
    if !early && let Err(end) = condition_holds(run, place, planned, &contexts) {
        return end;
    }
    if let Some(dynamic) = &planned.dynamic {
        return matrix_of(dynamic, &contexts);
    }
    let passed =
        pass_approval(planned, job, &contexts).and_then(|()| pass_slot(planned, job, &contexts));
    match passed {
        Ok(()) => queue(planned, &contexts),
        Err(other) => other,
    }
}

/// Goes on when the job's condition holds.
fn condition_holds(
    run: &Run,
    place: usize,
    planned: &PlannedJob,
    contexts: &Contexts,
) -> Result<(), Decision> {
    let success = contexts.status().is_none_or(Status::success);
    if planned.condition.is_none() && !success {
        return Err(Decision::end(Conclusion::Skipped, unmet_need(run, place)));
    }
    let condition = condition::evaluate(planned.condition.as_deref(), contexts);
    if condition.map_err(|error| unreadable("`if`", &error))? {
        return Ok(());
    }
    let condition = planned.condition.as_deref().unwrap_or("success()");
    let reason = if success {
        format!("its condition `{condition}` is false")
    } else {
        let need = unmet_need(run, place);
        format!("{need}, and its condition is `{condition}`")
    };
    Err(Decision::end(Conclusion::Skipped, reason))
}

fn matrix_of(dynamic: &DynamicMatrix, contexts: &Contexts) -> Decision {
    match rustci_pipeline::matrix_value(dynamic, contexts) {
        Ok(value) => Decision::Expand {
            matrix_json: value.to_string(),
        },
        Err(error) => Decision::end(Conclusion::Failure, format!("its matrix {error}")),
    }
}

/// Goes on when nobody has to agree, or somebody has.
fn pass_approval(planned: &PlannedJob, job: &Job, contexts: &Contexts) -> Result<(), Decision> {
    let Some(environment) = &planned.environment else {
        return Ok(());
    };
    let Some(wanted) = &environment.approval else {
        return Ok(());
    };
    let Some(asked) = &job.approval else {
        let name = template::render(&environment.name, contexts);
        return Err(Decision::Ask {
            environment: name.map_err(|error| unreadable("`environment`", &error))?,
            patience: Duration::from_millis(wanted.timeout_ms),
        });
    };
    match asked.answer.as_ref().map(|answer| answer.verdict) {
        Some(Verdict::Approved) => Ok(()),
        Some(Verdict::Declined) => Err(Decision::end(Conclusion::Declined, declined(asked))),
        None => Err(Decision::Wait),
    }
}

/// Goes on when the job needs no slot, or has it.
fn pass_slot(planned: &PlannedJob, job: &Job, contexts: &Contexts) -> Result<(), Decision> {
    let Some(concurrency) = &planned.concurrency else {
        return Ok(());
    };
    match &job.slot {
        SlotUse::Held { .. } => Ok(()),
        SlotUse::Waiting { .. } => Err(Decision::Wait),
        SlotUse::None => Err(match Wish::new(concurrency, contexts) {
            Ok(wish) => Decision::Want(wish),
            Err(reason) => Decision::end(Conclusion::Error, reason),
        }),
    }
}

fn queue(planned: &PlannedJob, contexts: &Contexts) -> Decision {
    let runs_on = match render(&planned.runs_on, contexts) {
        Ok(runs_on) => runs_on,
        Err(error) => return unreadable("`runs-on`", &error),
    };
    match condition::flag(&planned.continue_on_error, contexts) {
        Ok(tolerated) => Decision::Queue {
            requirement: Requirement::new(&runs_on),
            tolerated,
        },
        Err(error) => unreadable("`continue-on-error`", &error),
    }
}

fn unreadable(what: &str, error: &ExprError) -> Decision {
    let reason = format!("{what} cannot be evaluated: {error}");
    Decision::end(Conclusion::Error, reason)
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
