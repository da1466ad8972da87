//! Reruns: jobs that are taken over from a run before, and matrices that are known already.

use rustci_scheduler::{
    Command, Refused, Reply, contexts_json,
    record::{CarriedJob, Conclusion, ExpandedMatrix, RunMeta},
};

use crate::world::{JobExt, World, group, job, output, plan, plan_with};

fn carried(place: u32, conclusion: Conclusion) -> CarriedJob {
    CarriedJob {
        place,
        conclusion: conclusion.into(),
        outputs: vec![output("by", "before")],
        from_run: 1,
        tolerated: false,
    }
}

#[test]
fn carried_jobs_never_run_and_what_needs_them_goes_on() {
    let mut world = World::default();
    let jobs = [
        job("a"),
        job("b").needs(&["a"]),
        job("c")
            .needs(&["b"])
            .when("needs.b.outputs.by == 'before'"),
    ];
    let meta = RunMeta {
        rerun_of: 1,
        carried: vec![
            carried(0, Conclusion::Success),
            carried(1, Conclusion::Success),
        ],
        ..RunMeta::default()
    };
    let run = world.submit_with(jobs, meta);
    world.up("r", 10);
    assert_eq!(world.jobs(run), "a=success b=success c=active");
    let state = world.scheduler.run(run).unwrap();
    assert_eq!(state.jobs[0].carried_from.unwrap().0, 1);
    assert!(state.jobs[0].attempts.is_empty());
    let needs = &contexts_json(state, 2)["needs"];
    assert_eq!(needs["b"]["outputs"]["by"], "before");
    world.restart();
    world.up("r", 10);
    world.run_all(&[]);
    assert_eq!(world.conclusion(run), "success");
}

#[test]
fn a_carried_failure_counts_like_one_of_this_run() {
    let mut world = World::default();
    let jobs = [
        job("mid").needs(&["first"]),
        job("first"),
        job("last").needs(&["mid"]).when("failure()"),
    ];
    let meta = RunMeta {
        carried: vec![
            carried(0, Conclusion::Skipped),
            carried(1, Conclusion::Failure),
        ],
        ..RunMeta::default()
    };
    let run = world.submit_with(jobs, meta);
    world.up("r", 1);
    world.run_all(&[]);
    assert_eq!(world.jobs(run), "mid=skipped first=failure last=success");
    assert_eq!(world.conclusion(run), "failure");
    world.restart();
}

#[test]
fn a_rerun_of_nothing_ends_at_once_and_takes_no_slot() {
    let mut world = World::default();
    let meta = RunMeta {
        carried: vec![carried(0, Conclusion::Success)],
        ..RunMeta::default()
    };
    let plan = plan_with(group("g"), [job("a")]);
    let Reply::Run(run) = world.handle(Command::Submit { plan, meta }) else {
        panic!("no run");
    };
    assert_eq!(world.conclusion(run), "success");
    let next = world.submit_in(group("g"), [job("a")]);
    world.up("r", 1);
    assert_eq!(world.jobs(next), "a=active");
}

#[test]
fn expanded_matrices_come_with_the_rerun() {
    let mut world = World::default();
    let jobs = || {
        [
            job("p"),
            job("m")
                .needs(&["p"])
                .dynamic("fromJSON(needs.p.outputs.m)"),
        ]
    };
    let matrix = |matrix_json: &str| ExpandedMatrix {
        place: 1,
        matrix_json: matrix_json.to_owned(),
    };
    let meta = RunMeta {
        expanded: vec![matrix(r#"[{"n":1},{"n":2}]"#)],
        carried: vec![
            carried(0, Conclusion::Success),
            carried(1, Conclusion::Success),
        ],
        ..RunMeta::default()
    };
    let run = world.submit_with(jobs(), meta);
    let digest = world.scheduler.run(run).unwrap().submitted_plan.digest();
    assert_eq!(digest, plan(jobs()).digest());
    world.restart();
    world.up("r", 10);
    world.run_all(&[]);
    assert_eq!(world.jobs(run), "p=success m (1)=success m (2)=success");

    let meta = RunMeta {
        expanded: vec![matrix("7")],
        ..RunMeta::default()
    };
    let plan = plan(jobs());
    let refused = world.try_handle(Command::Submit { plan, meta });
    assert_eq!(refused.unwrap_err(), Refused::Matrices);
}
