//! Concurrency groups: one holder, the order of creation, no waiting for ever.

use rustci_pipeline::Concurrency;
use rustci_scheduler::{
    Command,
    record::{Conclusion, RunMeta},
};

use crate::world::{JobExt, World, group, job, newest};

#[test]
fn runs_of_a_group_go_one_after_the_other() {
    let mut world = World::default();
    let runs = [(); 3].map(|()| world.submit_in(group("deploy"), [job("a"), job("b")]));
    world.up("r", 10);
    assert_eq!(world.jobs(runs[0]), "a=active b=active");
    assert_eq!(world.jobs(runs[1]), "a=blocked b=blocked");
    assert_eq!(
        world.waiting(runs[2], "b"),
        "its run waits for the slot of `deploy`, which run 1 holds; one other is ahead"
    );
    world.restart();
    world.up("r", 10);
    world.run_all(&[]);
    let ended = runs.map(|run| world.scheduler.run(run).unwrap().finished.unwrap());
    assert!(ended.is_sorted());
}

#[test]
fn groups_of_other_projects_are_others() {
    let mut world = World::default();
    let mut submit = |project: &str| {
        let project = project.to_owned();
        let meta = RunMeta {
            project,
            ..RunMeta::default()
        };
        world.submit_with([job("a").slot(group("deploy"))], meta)
    };
    let runs = [submit("x"), submit("y"), submit("x")];
    world.up("r", 10);
    let jobs = runs.map(|run| world.jobs(run));
    assert_eq!(jobs, ["a=active", "a=active", "a=blocked"]);
    assert_eq!(
        world.waiting(runs[2], "a"),
        "waits for the slot of `deploy`, which `a` of run 1 holds"
    );
}

#[test]
fn a_slot_goes_to_the_oldest_run_that_is_ready_for_it() {
    let mut world = World::default();
    let late = || [job("build"), job("ship").needs(&["build"]).slot(group("g"))];
    let first = world.submit(late());
    let second = world.submit([job("ship").slot(group("g"))]);
    let third = world.submit([job("ship").slot(group("g"))]);
    world.up("r", 10);
    let leases = world.assigned();
    assert_eq!(world.jobs(second), "ship=active", "nothing is reserved");
    world.finish(leases[0], Conclusion::Success);
    assert_eq!(world.jobs(first), "build=success ship=blocked");
    world.finish(leases[1], Conclusion::Success);
    assert_eq!(
        world.jobs(first),
        "build=success ship=active",
        "before run 3"
    );
    assert_eq!(world.jobs(third), "ship=blocked");
}

#[test]
fn jobs_that_name_the_group_of_their_run_do_not_wait_for_it() {
    let mut world = World::default();
    let jobs = || [job("a").slot(group("g")), job("b").slot(group("g"))];
    let run = world.submit_in(group("g"), jobs());
    let next = world.submit_in(group("g"), jobs());
    world.up("r", 10);
    assert_eq!(world.jobs(run), "a=active b=blocked", "one after the other");
    world.run_all(&[]);
    assert_eq!(world.jobs(run), "a=success b=success");
    assert_eq!(world.jobs(next), "a=success b=success");
}

#[test]
fn a_wait_that_would_never_end_is_refused() {
    let mut world = World::default();
    let one = world.submit_in(
        group("x"),
        [job("a"), job("b").needs(&["a"]).slot(group("y"))],
    );
    let two = world.submit_in(
        group("y"),
        [job("a"), job("b").needs(&["a"]).slot(group("x"))],
    );
    world.up("r", 10);
    world.run_all(&[]);
    assert_eq!(world.jobs(one), "a=success b=success");
    assert_eq!(world.jobs(two), "a=success b=error");
    assert_eq!(
        world.reason(two, "b"),
        "it would wait for ever: the slot of `x` is held by run 1, which waits for this run"
    );
}

#[test]
fn a_newcomer_cancels_holder_and_waiters() {
    let mut world = World::default();
    world.up("r", 10);
    let one = world.submit_in(newest("g"), [job("a"), job("b").needs(&["a"])]);
    let lease = world.assigned_one();
    world.start(lease);
    let two = world.submit_in(newest("g"), [job("a")]);
    let three = world.submit_in(newest("g"), [job("a")]);
    assert_eq!(world.jobs(one), "a=active b=canceled");
    assert_eq!(world.conclusion(two), "canceled");
    let reason = "the run was canceled: run 3, which is newer, wants the slot of `g`";
    assert_eq!(world.reason(two, "a"), reason);
    assert_eq!(
        world.jobs(three),
        "a=blocked",
        "until the holder has stopped"
    );
    world.finish(lease, Conclusion::Canceled);
    assert_eq!(world.jobs(three), "a=active");
}

#[test]
fn a_newcomer_that_does_not_cancel_waits() {
    let mut world = World::default();
    let when = |text: &str| Concurrency {
        cancel_in_progress: text.to_owned(),
        ..group("g")
    };
    world.up("r", 10);
    let one = world.submit_in(when("event.name == 'x'"), [job("a")]);
    let two = world.submit_in(when("event.name == 'x'"), [job("a")]);
    assert_eq!(world.jobs(one), "a=active");
    assert_eq!(world.jobs(two), "a=blocked");
    let three = world.submit_in(when("nonsense("), [job("a")]);
    assert_eq!(world.conclusion(three), "error");
    let reason = world.reason(three, "a");
    assert!(
        reason.starts_with("`concurrency` cannot be evaluated: "),
        "{reason}"
    );
}

#[test]
fn who_comes_late_to_a_newer_one_gives_way() {
    let mut world = World::default();
    let one = world.submit([job("a"), job("b").needs(&["a"]).slot(newest("g"))]);
    let two = world.submit([job("b").slot(newest("g"))]);
    world.up("r", 10);
    let lease = world.assigned()[0];
    world.finish(lease, Conclusion::Success);
    assert_eq!(world.jobs(one), "a=success b=canceled");
    assert_eq!(
        world.reason(one, "b"),
        "run 2, which is newer, has the slot of `g` or waits for it"
    );
    assert_eq!(world.jobs(two), "b=active");
}

#[test]
fn instances_of_a_matrix_leave_each_other_alone() {
    let mut world = World::default();
    let instance = |key| job(key).in_matrix("m", None).slot(newest("g"));
    let run = world.submit([instance("m1"), instance("m2"), instance("m3")]);
    world.up("r", 10);
    assert_eq!(world.jobs(run), "m1=active m2=blocked m3=blocked");
    world.run_all(&[]);
    assert_eq!(world.conclusion(run), "success");
}

#[test]
fn a_full_queue_loses_the_oldest() {
    let mut world = World::default();
    let short = Concurrency {
        queue: Some(2),
        ..group("g")
    };
    let runs: Vec<_> = (0..5)
        .map(|_| world.submit_in(short.clone(), [job("a")]))
        .collect();
    let ended = runs.iter().map(|run| world.conclusion(*run));
    assert_eq!(
        ended.collect::<Vec<_>>(),
        ["open", "canceled", "canceled", "open", "open"]
    );
    let reason = "the run was canceled: more than 2 waited for the slot of `g`";
    assert_eq!(world.reason(runs[1], "a"), reason);
    world.up("r", 10);
    world.run_all(&[]);
    assert_eq!(world.conclusion(runs[4]), "success");
}

#[test]
fn a_slot_is_held_over_retries_and_given_back_by_a_cancel() {
    let mut world = World::default();
    let one = world.submit([job("a").retry(1, &[]).slot(group("g"))]);
    let two = world.submit([job("a").slot(group("g"))]);
    world.up("r", 10);
    let lease = world.assigned_one();
    world.finish(lease, Conclusion::Failure);
    assert_eq!(world.jobs(one), "a=active");
    assert_eq!(world.jobs(two), "a=blocked");
    let reason = String::new();
    world.handle(Command::CancelRun { run: two, reason });
    let three = world.submit([job("a").slot(group("g"))]);
    let lease = world.assigned_one();
    world.finish(lease, Conclusion::Failure);
    assert_eq!(world.jobs(three), "a=active");
}

#[test]
fn an_empty_group_is_none() {
    let mut world = World::default();
    let some = |name: &str| Concurrency {
        group: name.to_owned(),
        ..group("")
    };
    let runs = [(); 2].map(|()| world.submit_in(some("${{ '' }}"), [job("a").slot(some(""))]));
    world.up("r", 10);
    assert_eq!(runs.map(|run| world.jobs(run)), ["a=active", "a=active"]);
    world.restart();
}

#[test]
fn groups_see_the_contexts_of_their_run_and_job() {
    let mut world = World::default();
    let contexts_json = r#"{"git":{"branch":"main"}}"#.to_owned();
    let meta = || RunMeta {
        contexts_json: contexts_json.clone(),
        ..RunMeta::default()
    };
    let by = "${{ git.branch }}-${{ needs.a.outputs.by }}";
    let jobs = || [job("a"), job("b").needs(&["a"]).slot(group(by))];
    let _first = world.submit_with(jobs(), meta());
    let second = world.submit_with(jobs(), meta());
    world.up("r", 2);
    for lease in world.assigned() {
        let mut result = rustci_scheduler::AttemptResult {
            outcome: Conclusion::Success,
            ..Default::default()
        };
        result.outputs.push(crate::world::output("by", "7"));
        world.finish_with(lease, result);
    }
    assert_eq!(
        world.waiting(second, "b"),
        "waits for the slot of `main-7`, which `b` of run 1 holds"
    );
}
