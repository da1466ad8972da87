//! Repeating a run: which jobs run again, and what the others bring along.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message;
use rustci_scheduler::StoredPlan;
use rustci_scheduler::record::{CarriedJob, ExpandedMatrix, NamedText, RunMeta};

use crate::api::ApiError;
use crate::api::view::{Conclusion, JobView, RunView};
use crate::catalogue::StoredOrigin;
use crate::engine::Again;
use crate::engine::recorded_conclusion;

/// Which jobs run again; those that need one of them do, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Those that did not succeed, unless that was their own condition.
    Failed,
    /// Ids or keys.
    Jobs(Vec<String>),
}

/// Makes the run that repeats `run`, which has ended.
///
/// # Errors
/// [`ApiError`]: `NothingToRerun` when no job is meant, `Invalid` for a job that is not there.
pub(crate) fn again(
    run: &RunView,
    origin: &StoredOrigin,
    which: &Which,
) -> Result<Again, ApiError> {
    let submitted = StoredPlan::from_json(&origin.plan_json).map_err(|error| unreadable(&error))?;
    let submitted = Arc::new(submitted);
    let meta = decode(&origin.meta)?;
    let mut matrices = meta.expanded.clone();
    matrices.extend(decode(&origin.expanded)?.expanded);
    let plan = with_matrices(&submitted, &matrices)?;
    let places = repeated(run, &plan, which)?;
    let stays = |matrix: &ExpandedMatrix| {
        let place = usize::try_from(matrix.place).unwrap_or(usize::MAX);
        which != &Which::All && !plan.needs(place).iter().any(|need| places.contains(need))
    };
    let expanded: Vec<_> = matrices.into_iter().filter(stays).collect();
    let next = with_matrices(&submitted, &expanded)?;
    let kept = run.jobs.iter().enumerate();
    let kept = kept.filter(|(place, _)| !places.contains(place));
    let carried = kept.filter_map(|(_, job)| carried(run.id, job, &next));
    let meta = RunMeta {
        rerun_of: run.id,
        carried: carried.collect(),
        expanded,
        idempotency_key: String::new(),
        request_digest: Vec::new(),
        ..meta
    };
    Ok(Again {
        plan: submitted,
        meta,
    })
}

/// Places of the jobs that run again.
fn repeated(run: &RunView, plan: &StoredPlan, which: &Which) -> Result<BTreeSet<usize>, ApiError> {
    let wanted: BTreeSet<usize> = match which {
        Which::All => (0..run.jobs.len()).collect(),
        Which::Failed => {
            let failed = run.jobs.iter().enumerate().filter(|(_, job)| failed(job));
            failed.map(|(place, _)| place).collect()
        }
        Which::Jobs(names) => named(run, names)?,
    };
    if wanted.is_empty() {
        return Err(ApiError::NothingToRerun(run.id));
    }
    Ok(with_dependents(wanted, plan))
}

fn failed(job: &JobView) -> bool {
    !matches!(
        job.conclusion,
        Some(Conclusion::Success | Conclusion::Skipped)
    )
}

fn named(run: &RunView, names: &[String]) -> Result<BTreeSet<usize>, ApiError> {
    let mut places = BTreeSet::new();
    for name in names {
        let is_called = |job: &JobView| job.key == *name || job.job_id == *name;
        let found: Vec<_> = (0..)
            .zip(&run.jobs)
            .filter(|(_, job)| is_called(job))
            .map(|(place, _)| place)
            .collect();
        if found.is_empty() {
            let what = format!("run {}", run.id);
            let name = name.clone();
            return Err(ApiError::UnknownJob { what, name });
        }
        places.extend(found);
    }
    Ok(places)
}

/// The jobs at `places` and all that need one of them, however far.
fn with_dependents(mut places: BTreeSet<usize>, plan: &StoredPlan) -> BTreeSet<usize> {
    loop {
        let before = places.len();
        let all = 0..plan.plan().jobs.len();
        let needs_one = |place: &usize| plan.needs(*place).iter().any(|need| places.contains(need));
        let more: Vec<_> = all.filter(needs_one).collect();
        places.extend(more);
        if places.len() == before {
            return places;
        }
    }
}

/// What a job brings along that does not run again.
fn carried(run: u64, job: &JobView, plan: &StoredPlan) -> Option<CarriedJob> {
    let jobs = &plan.plan().jobs;
    let place = jobs.iter().position(|planned| planned.key == job.key)?;
    let outputs = job.outputs.iter().map(|(name, value)| NamedText {
        name: name.clone(),
        value: value.clone(),
    });
    Some(CarriedJob {
        place: u32::try_from(place).ok()?,
        conclusion: recorded_conclusion(job.conclusion?).into(),
        outputs: outputs.collect(),
        from_run: job.carried_from.unwrap_or(run),
        tolerated: job.allowed,
    })
}

fn decode(meta: &[u8]) -> Result<RunMeta, ApiError> {
    RunMeta::decode(meta).map_err(|error| unreadable(&error))
}

fn with_matrices(
    plan: &Arc<StoredPlan>,
    matrices: &[ExpandedMatrix],
) -> Result<Arc<StoredPlan>, ApiError> {
    let plan = plan.with_matrices(matrices);
    plan.map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::Internal(format!(
        "what the run was made from is not readable: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use rustci_pipeline::{DynamicMatrix, Job, Plan};

    use super::*;

    fn job(id: &str, needs: &[&str]) -> Job {
        Job {
            key: id.to_owned(),
            id: id.to_owned(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            ..Job::default()
        }
    }

    /// `gen -> test (dynamic) -> ship`, and `lint`.
    fn origin() -> StoredOrigin {
        let mut test = job("test", &["gen"]);
        test.dynamic = Some(DynamicMatrix {
            matrix: "x".to_owned(),
            fail_fast: false,
            max_parallel: None,
        });
        let plan = Plan {
            version: 1,
            jobs: vec![
                job("gen", &[]),
                test,
                job("ship", &["test"]),
                job("lint", &[]),
            ],
            ..Plan::default()
        };
        let expanded = RunMeta {
            expanded: vec![ExpandedMatrix {
                place: 1,
                matrix_json: r#"[{"n":1},{"n":2}]"#.to_owned(),
            }],
            ..RunMeta::default()
        };
        StoredOrigin {
            plan_json: plan.to_canonical_json(),
            meta: RunMeta::default().encode_to_vec(),
            expanded: expanded.encode_to_vec(),
        }
    }

    fn run(ends: [&str; 5]) -> RunView {
        let keys = ["gen", "test (1)", "ship", "lint", "test (2)"];
        let jobs = keys.iter().zip(ends).map(|(key, end)| {
            serde_json::json!({
                "id": 1, "key": key, "job_id": key.split(' ').next(), "name": key, "needs": [],
                "status": "finished", "conclusion": end, "reason": null, "attempts": [],
                "steps": [], "outputs": {"by": key}, "queued_ms": null, "started_ms": null,
                "finished_ms": null,
            })
        });
        let run = serde_json::json!({
            "id": 7, "project": "p", "pipeline": "ci", "file": "f", "status": "finished",
            "conclusion": "failure", "digest": "d", "event": {"name": "push"}, "created_ms": 1,
            "started_ms": null, "finished_ms": null, "jobs": jobs.collect::<Vec<_>>(),
        });
        serde_json::from_value(run).unwrap()
    }

    const ENDS: [&str; 5] = ["success", "success", "skipped", "success", "failure"];

    /// Keys of what a rerun takes over, and how many matrices it brings.
    fn carried_of(which: &Which) -> (Vec<String>, usize) {
        let again = again(&run(ENDS), &origin(), which).unwrap();
        assert_eq!(again.meta.rerun_of, 7);
        let plan = again.plan.with_matrices(&again.meta.expanded).unwrap();
        let key = |job: &CarriedJob| plan.plan().jobs[job.place as usize].key.clone();
        (
            again.meta.carried.iter().map(key).collect(),
            again.meta.expanded.len(),
        )
    }

    #[test]
    fn all_begins_anew() {
        assert_eq!(carried_of(&Which::All), (vec![], 0));
    }

    #[test]
    fn failed_jobs_run_again_with_what_was_skipped_because_of_them() {
        let (carried, matrices) = carried_of(&Which::Failed);
        assert_eq!(carried, ["gen", "test (1)", "lint"]);
        assert_eq!(matrices, 1);
    }

    #[test]
    fn a_matrix_is_made_anew_when_what_made_it_runs_again() {
        let which = Which::Jobs(vec!["gen".to_owned()]);
        assert_eq!(carried_of(&which), (vec!["lint".to_owned()], 0));
    }

    #[test]
    fn named_jobs_take_those_that_need_them_along() {
        let which = Which::Jobs(vec!["test".to_owned()]);
        let (carried, matrices) = carried_of(&which);
        assert_eq!(carried, ["gen", "lint"]);
        assert_eq!(matrices, 1);
        let which = Which::Jobs(vec!["nope".to_owned()]);
        let error = again(&run(ENDS), &origin(), &which).unwrap_err();
        assert_eq!(error.to_string(), "run 7 has no job \"nope\"");
    }

    #[test]
    fn a_run_without_failures_has_nothing_to_repeat() {
        let ends = ["success", "success", "skipped", "success", "success"];
        let error = again(&run(ends), &origin(), &Which::Failed).unwrap_err();
        assert!(matches!(error, ApiError::NothingToRerun(7)));
    }
}
