//! Dynamic matrices: instances that are known only while the run goes on.

use rustci_pipeline::Job;
use rustci_scheduler::{AttemptResult, Effect, RunId, record::Conclusion};

use crate::world::{JobExt, World, job, output};

const MATRIX: &str = "fromJSON(needs.plan.outputs.matrix)";

fn jobs() -> [Job; 4] {
    [
        job("plan"),
        job("test").needs(&["plan"]).dynamic(MATRIX),
        job("after").needs(&["test"]),
        job("other"),
    ]
}

/// A run whose first job said what the matrix is.
fn world(matrix: &str, jobs: impl IntoIterator<Item = Job>) -> (World, RunId) {
    let mut world = World::default();
    let run = world.submit(jobs);
    world.submit([job("x"), job("y")]);
    world.up("r", 1);
    let lease = world.assigned_one();
    let result = AttemptResult {
        outcome: Conclusion::Success,
        outputs: vec![output("matrix", matrix)],
        ..AttemptResult::default()
    };
    world.finish_with(lease, result);
    (world, run)
}

#[test]
fn a_job_behind_a_large_matrix_says_how_many_it_waits_for() {
    let (world, run) = world(r#"{"os":["linux","mac","bsd","hurd"]}"#, jobs());
    assert_eq!(world.waiting(run, "after"), "waits for 4 jobs of test");
}

#[test]
fn instances_are_jobs_like_others() {
    let (mut world, run) = world(r#"{"os":["linux","mac","bsd"]}"#, jobs());
    assert!(world.effects.contains(&Effect::JobsAdded { run }));
    let keys = "plan=success test (linux)=active after=blocked other=queued test (mac)=queued test (bsd)=queued";
    assert_eq!(world.jobs(run), keys);
    let expected = "waits for test (linux), test (mac), test (bsd)";
    assert_eq!(world.waiting(run, "after"), expected);
    assert_eq!(
        world.waiting(run, "test (bsd)"),
        "at most 2 jobs of its matrix run at once"
    );
    assert_eq!(
        world.job_id(run, "test (mac)").0,
        7,
        "behind the jobs of run 2"
    );
    let before = world.scheduler.run(run).unwrap().submitted_plan.digest();
    world.restart();
    let after = world.scheduler.run(run).unwrap();
    assert_eq!(after.submitted_plan.digest(), before);
    assert_ne!(after.plan.digest(), before);
    world.up("r", 3);
    world.run_all(&[]);
    assert_eq!(world.conclusion(run), "success");
    world.handle(rustci_scheduler::Command::ForgetRun { run });
    let gone = rustci_scheduler::JobId(8);
    assert!(world.scheduler.job(gone).is_none());
    world.restart();
}

#[test]
fn an_instance_that_fails_stops_the_others_and_what_needs_them() {
    let (mut world, run) = world(r#"["a","b","c"]"#.replace("\"", "").as_str(), jobs());
    assert!(world.reason(run, "test").contains("cannot be evaluated"));
    world.run_all(&[]);
    assert_eq!(
        world.jobs(run),
        "plan=success test=failure after=skipped other=success"
    );

    let (mut world, run) = self::world(r#"[{"n":1},{"n":2},{"n":3}]"#, jobs());
    world.run_all(&["test (1)"]);
    assert_eq!(
        world.jobs(run),
        "plan=success test (1)=failure after=skipped other=success test (2)=canceled test (3)=canceled"
    );
}

#[test]
fn a_matrix_may_be_empty() {
    let (mut world, run) = world("[]", jobs());
    assert_eq!(world.reason(run, "test"), "its matrix is empty");
    world.run_all(&[]);
    assert_eq!(
        world.jobs(run),
        "plan=success test=skipped after=skipped other=success"
    );
}

#[test]
fn what_is_no_matrix_fails_the_job_with_the_reason() {
    for (matrix, reason) in [
        ("linux", "cannot be evaluated"),
        ("7", "has the wrong shape"),
        (r#"{"os":"linux"}"#, "axis \"os\" is text"),
    ] {
        let (world, run) = world(matrix, jobs());
        let found = world.reason(run, "test");
        assert!(
            found.starts_with("its matrix ") && found.contains(reason),
            "{found}"
        );
        assert!(world.jobs(run).contains("test=failure after=skipped"));
    }
    let many: Vec<_> = (0..300).map(|n| serde_json::json!({"n": n})).collect();
    let (world, run) = world(&serde_json::json!(many).to_string(), jobs());
    assert!(world.reason(run, "test").contains("300 instances"));
}

#[test]
fn conditions_labels_and_needs_are_those_of_each_instance() {
    let picky = job("test")
        .needs(&["plan"])
        .dynamic(MATRIX)
        .when("matrix.n != 2")
        .labels(&["os=${{ matrix.os }}"]);
    let matrix = r#"[{"n":1,"os":"linux"},{"n":2,"os":"linux"},{"n":3,"os":"mac"}]"#;
    let (mut world, run) = world(matrix, [job("plan"), picky]);
    world.run_all(&[]);
    assert_eq!(
        world.jobs(run),
        "plan=success test (1, linux)=success test (2, linux)=skipped test (3, mac)=queued"
    );
}

#[test]
fn a_skipped_matrix_is_not_looked_at() {
    let skipped = job("test").needs(&["plan"]).dynamic(MATRIX).when("false");
    let (world, run) = world("nonsense", [job("plan"), skipped]);
    assert_eq!(world.jobs(run), "plan=success test=skipped");
}
