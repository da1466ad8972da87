//! What expressions of a job can see.

use rustci_pipeline::condition::Outcome;
use serde_json::{Map, Value, json};

use crate::{Run, state::Job};

/// The contexts of the job at `place`: those the run was started with, `matrix`, and `needs` with
/// `result` and `outputs` of each job it names.
#[must_use]
pub fn contexts_json(run: &Run, place: usize) -> Map<String, Value> {
    let given = serde_json::from_str(&run.meta.contexts_json);
    let mut contexts: Map<String, Value> = given.unwrap_or_default();
    if let Some(job) = run.plan.job(place) {
        contexts.insert("matrix".to_owned(), Value::Object(job.matrix.clone()));
        contexts.insert(
            "needs".to_owned(),
            Value::Object(needs(run, place, &job.needs)),
        );
    }
    contexts
}

fn needs(run: &Run, place: usize, ids: &[String]) -> Map<String, Value> {
    let mut needs = Map::new();
    for id in ids {
        let of_id = |need: &&usize| run.plan.job(**need).is_some_and(|job| job.id == *id);
        let jobs = run.plan.needs(place).iter().filter(of_id);
        let jobs: Vec<&Job> = jobs.filter_map(|need| run.jobs.get(*need)).collect();
        needs.insert(id.clone(), need(&jobs));
    }
    needs
}

/// One need; of the instances of a matrix the worst result, and the outputs of the last to set
/// each.
fn need(jobs: &[&Job]) -> Value {
    let mut outputs = Map::new();
    for output in jobs.iter().flat_map(|job| &job.outputs) {
        outputs.insert(output.name.clone(), Value::String(output.value.clone()));
    }
    let has = |outcome| jobs.iter().any(|job| job.outcome() == Some(outcome));
    let result = if has(Outcome::Failure) {
        "failure"
    } else if has(Outcome::Cancelled) {
        "cancelled"
    } else if has(Outcome::Success) {
        "success"
    } else {
        "skipped"
    };
    json!({"result": result, "outputs": outputs})
}
