//! What is submitted.

use std::sync::Arc;

use rustci_pipeline::{Job, MatrixGroup, Plan, Retry};
use rustci_scheduler::StoredPlan;

/// Shapes of pipelines that there are.
pub(crate) const SHAPES: u64 = 6;

/// Some pipelines with every kind of edge.
pub(crate) fn plan_of(shape: u64) -> Arc<StoredPlan> {
    let jobs = match shape {
        0 => vec![job("a", &[])],
        1 => vec![
            job("a", &[]),
            job("b", &["a"]),
            job("c", &["a"]),
            job("d", &["b", "c"]),
        ],
        2 => matrix(5, Some(2)),
        3 => {
            let mut jobs = matrix(3, None);
            jobs.push(Job {
                condition: Some("always()".to_owned()),
                ..job("z", &["m"])
            });
            jobs
        }
        4 => vec![Job {
            retry: Retry {
                max: 2,
                on: Vec::new(),
            },
            ..job("a", &[])
        }],
        _ => (0..8)
            .map(|number| job(&format!("j{number}"), &[]))
            .collect(),
    };
    let (name, file) = ("ci".to_owned(), "ci.yaml".to_owned());
    Arc::new(StoredPlan::new(Plan {
        version: 1,
        name,
        file,
        env: Default::default(),
        jobs,
        ..Plan::default()
    }))
}

fn matrix(instances: usize, max_parallel: Option<u32>) -> Vec<Job> {
    let group = MatrixGroup {
        id: "m".to_owned(),
        fail_fast: max_parallel.is_none(),
        max_parallel,
    };
    let instance = |number| Job {
        id: "m".to_owned(),
        group: Some(group.clone()),
        ..job(&format!("m ({number})"), &[])
    };
    (0..instances).map(instance).collect()
}

fn job(key: &str, needs: &[&str]) -> Job {
    Job {
        key: key.to_owned(),
        id: key.to_owned(),
        name: key.to_owned(),
        matrix: serde_json::Map::new(),
        group: None,
        needs: needs.iter().map(|id| (*id).to_owned()).collect(),
        condition: None,
        runs_on: Default::default(),
        env: Default::default(),
        secrets: Default::default(),
        outputs: Default::default(),
        timeout_ms: 120_000,
        retry: Retry::default(),
        continue_on_error: String::new(),
        ..Job::default()
    }
}
