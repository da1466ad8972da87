//! What is submitted.

use std::sync::Arc;

use rustci_pipeline::{
    Approval, Concurrency, DynamicMatrix, Environment, Job, MatrixGroup, Plan, Retry,
};
use rustci_scheduler::{AttemptToken, StoredPlan, record::NamedText};

use crate::rng::Rng;

/// Projects that runs belong to.
pub(crate) const PROJECTS: [&str; 3] = ["p", "q", "r"];

/// What jobs hand on for dynamic matrices: some values, one that is empty, one that is none.
const MATRICES: [&str; 5] = [
    r#"{"n":[1,2,3]}"#,
    r#"[{"n":1}]"#,
    "[]",
    r#"{"n":[1,2],"m":["a","b"]}"#,
    "?",
];

/// The output of an attempt.
pub(crate) fn matrix_of(token: AttemptToken) -> NamedText {
    let place = usize::try_from(token.job.0).unwrap_or(0) % MATRICES.len();
    NamedText {
        name: "m".to_owned(),
        value: MATRICES.get(place).copied().unwrap_or("[]").to_owned(),
    }
}

/// Some pipelines with every kind of edge and gate.
pub(crate) fn plan_of(rng: &mut Rng) -> Arc<StoredPlan> {
    let jobs = match rng.below(10) {
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
        5 => vec![job("a", &[]), dynamic("m", &["a"]), job("z", &["m"])],
        6 => vec![job("a", &[]), asking("b", &["a"]), job("c", &["b"])],
        7 => vec![
            job("a", &[]),
            in_group("b", &["a"], group(rng)),
            in_group("c", &["a"], group(rng)),
        ],
        8 => vec![
            job("a", &[]),
            Job {
                concurrency: group(rng),
                ..dynamic("m", &["a"])
            },
            Job {
                concurrency: group(rng),
                ..asking("d", &["m"])
            },
        ],
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
        concurrency: rng.chance(30).then(|| group(rng)).flatten(),
        jobs,
    }))
}

/// One of few groups, so that runs and jobs meet in them.
fn group(rng: &mut Rng) -> Option<Concurrency> {
    Some(Concurrency {
        group: rng.pick(&["x", "y"]).unwrap_or("x").to_owned(),
        cancel_in_progress: rng.chance(30).to_string(),
        queue: rng.pick(&[None, None, Some(0), Some(2)]).flatten(),
    })
}

fn in_group(key: &str, needs: &[&str], concurrency: Option<Concurrency>) -> Job {
    Job {
        concurrency,
        ..job(key, needs)
    }
}

fn asking(key: &str, needs: &[&str]) -> Job {
    let approval = Approval {
        from: Vec::new(),
        timeout_ms: 40_000,
    };
    Job {
        environment: Some(Environment {
            name: "production".to_owned(),
            approval: Some(approval),
        }),
        ..job(key, needs)
    }
}

fn dynamic(key: &str, needs: &[&str]) -> Job {
    Job {
        dynamic: Some(DynamicMatrix {
            matrix: "fromJSON(needs.a.outputs.m)".to_owned(),
            fail_fast: true,
            max_parallel: Some(2),
        }),
        ..job(key, needs)
    }
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
