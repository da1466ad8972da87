//! Pipelines for the dummy executor. Every job has an output of its own, so that a result that went
//! to the wrong job is found.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use anyhow::Result;
use rustci_pipeline::{PlanRequest, compile};
use rustci_scheduler::StoredPlan;
use rustci_server::api::view::{NewRun, PipelineText, Priority};
use rustci_server::engine::Submission;
use serde_json::Map;

/// The output that the job at `place` of plan `plan` has to have.
pub(crate) fn expected(plan: usize, place: usize) -> String {
    let digest = blake3::hash(format!("{plan}/{place}").as_bytes());
    digest.to_hex().as_str().to_owned()
}

/// Plan number `number` with independent jobs, compiled from text.
pub(crate) fn plan(number: usize, jobs: usize) -> Result<Arc<StoredPlan>> {
    let mut text = format!("version: 1\nname: bench-{number}\non: {{ manual: {{}} }}\njobs:\n");
    for place in 0..jobs {
        let digest = expected(number, place);
        writeln!(
            text,
            "  j{place}: {{ runs-on: executor=dummy, env: {{ DUMMY_OUTPUT: \"{digest}\" }}, \
             steps: [{{ run: work }}] }}"
        )?;
    }
    let request = PlanRequest {
        event: "manual".to_owned(),
        ..PlanRequest::default()
    };
    let planned = compile("bench.yaml", &text, &request)?;
    Ok(Arc::new(StoredPlan::new(planned.plan)))
}

/// A request to run `plan` for a project of its own.
pub(crate) fn submission_of(plan: &Arc<StoredPlan>, project: &str) -> Submission {
    let mut submission = submission(plan);
    submission.new.project = project.to_owned();
    submission
}

/// A request to run `plan`.
pub(crate) fn submission(plan: &Arc<StoredPlan>) -> Submission {
    Submission {
        plan: Arc::clone(plan),
        event: "manual".to_owned(),
        inputs: Map::new(),
        trace: None,
        new: NewRun {
            // The plan was made already; the server keeps only the file's name.
            pipeline: PipelineText {
                file: "bench.yaml".to_owned(),
                text: String::new(),
                includes: BTreeMap::new(),
            },
            event: Map::new(),
            inputs: Map::new(),
            source: None,
            project: "bench".to_owned(),
            env: Default::default(),
            git: Map::new(),
            jobs: Vec::new(),
            priority: Priority::Normal,
        },
    }
}
