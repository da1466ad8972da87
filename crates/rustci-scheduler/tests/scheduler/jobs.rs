//! What becomes of jobs: needs, conditions, matrices, retries, conclusions.

use std::time::Duration;

use crate::world::{JobExt, World, job, output};
use rustci_pipeline::RetryOn;
use rustci_scheduler::{
    AttemptResult, Command, Effect, contexts_json,
    record::{Cause, Conclusion, RunMeta, StopReason},
};

#[test]
fn needs_hold_a_job_back_and_carry_outputs() {
    let mut world = World::default();
    let run = world.submit([job("a"), job("b").needs(&["a"])]);
    assert_eq!(world.waiting(run, "b"), "waits for a");
    world.up("r", 2);
    let lease = world.assigned_one();
    assert_eq!(world.jobs(run), "a=active b=blocked");
    let result = AttemptResult {
        outcome: Conclusion::Success,
        outputs: vec![output("version", "1.2")],
        ..AttemptResult::default()
    };
    world.finish_with(lease, result);
    assert_eq!(world.jobs(run), "a=success b=active");
    let contexts = contexts_json(world.scheduler.run(run).unwrap(), 1);
    let expected = serde_json::json!({"a": {"result": "success", "outputs": {"version": "1.2"}}});
    assert_eq!(contexts["needs"], expected);
}

#[test]
fn conditions_decide_after_a_failure() {
    let mut world = World::default();
    let run = world.submit([
        job("a"),
        job("plain").needs(&["a"]),
        job("always").needs(&["a"]).when("always()"),
        job("never").when("false"),
        job("far").needs(&["plain"]).when("failure()"),
        job("behind").needs(&["always"]),
        job("broken").when("nonsense("),
    ]);
    world.up("r", 10);
    world.run_all(&["a"]);
    assert_eq!(
        world.jobs(run),
        "a=failure plain=skipped always=success never=skipped far=success behind=success broken=error"
    );
    let reasons = world
        .scheduler
        .run(run)
        .unwrap()
        .jobs
        .iter()
        .map(|job| job.reason.as_str());
    let reasons: Vec<_> = reasons.collect();
    assert_eq!(reasons[1], "it needs `a`, which failed");
    assert_eq!(reasons[3], "its condition `false` is false");
    assert!(
        reasons[6].starts_with("`if` cannot be evaluated: "),
        "{}",
        reasons[6]
    );
    assert_eq!(world.conclusion(run), "error");
}

#[test]
fn conditions_and_labels_see_the_event_and_the_needs() {
    let mut world = World::default();
    let contexts_json = r#"{"event":{"name":"push"},"git":{"branch":"main"}}"#.to_owned();
    let meta = RunMeta {
        contexts_json,
        ..RunMeta::default()
    };
    let jobs = [
        job("a"),
        job("b")
            .needs(&["a"])
            .when("event.name == 'push' && needs.a.outputs.by == 'a'"),
        job("c")
            .labels(&["branch=${{ git.branch }}"])
            .tolerate("git.branch == 'main'"),
    ];
    let run = world.submit_with(jobs, meta);
    world.up("r", 10);
    world.run_all(&[]);
    assert_eq!(world.jobs(run), "a=success b=success c=queued");
    assert_eq!(
        world.waiting(run, "c"),
        "no runner has the label branch=main"
    );
    world.up_with("s", 1, &["branch=main"], &[], &[]);
    world.run_all(&["c"]);
    assert_eq!(world.conclusion(run), "success", "{}", world.jobs(run));
}

#[test]
fn fail_fast_stops_the_rest_of_a_matrix() {
    let mut world = World::default();
    let in_matrix = |key: &str| job(key).in_matrix("m", None).fail_fast();
    let run = world.submit([in_matrix("m1"), in_matrix("m2"), in_matrix("m3")]);
    world.up("r", 2);
    let leases = world.assigned();
    world.finish(leases[0], Conclusion::Failure);
    assert_eq!(world.jobs(run), "m1=failure m2=active m3=canceled");
    let (runner, token) = leases[1];
    let cancel = Effect::Cancel {
        runner,
        token,
        reason: StopReason::FailFast,
    };
    assert!(world.effects.contains(&cancel));
    world.finish(leases[1], Conclusion::Failure);
    assert_eq!(world.jobs(run), "m1=failure m2=canceled m3=canceled");
    assert_eq!(world.conclusion(run), "failure");
}

#[test]
fn max_parallel_bounds_what_runs_even_over_requeues() {
    let mut world = World::default();
    let in_matrix = |key: &str| job(key).in_matrix("m", Some(2));
    let run = world.submit(["m1", "m2", "m3", "m4"].map(in_matrix));
    world.up("r", 4);
    let leases = world.assigned();
    assert_eq!(world.jobs(run), "m1=active m2=active m3=queued m4=queued");
    assert_eq!(
        world.waiting(run, "m3"),
        "at most 2 jobs of its matrix run at once"
    );
    world.fail(leases[0], Cause::Workspace);
    assert_eq!(world.jobs(run), "m1=active m2=active m3=queued m4=queued");
    world.finish(leases[1], Conclusion::Failure);
    assert_eq!(world.jobs(run), "m1=active m2=failure m3=active m4=queued");
    world.restart();
    world.up("r", 4);
    assert_eq!(world.jobs(run), "m1=active m2=failure m3=active m4=queued");
}

#[test]
fn retry_follows_cause_outcome_and_exit_code() {
    use Conclusion::{Failure, Killed, TimedOut};
    let cases: [(&[RetryOn], Conclusion, Option<i32>, u32); 9] = [
        (&[], Failure, Some(1), 3),
        (&[], TimedOut, None, 3),
        (&[], Conclusion::Success, Some(0), 1),
        (&[], Conclusion::Canceled, None, 1),
        (&[RetryOn::Failure], Killed, None, 1),
        (&[RetryOn::Killed], Killed, None, 3),
        (&[RetryOn::ExitCode(101)], Failure, Some(101), 3),
        (&[RetryOn::ExitCode(101)], Failure, Some(1), 1),
        (&[RetryOn::Timeout], Failure, Some(1), 1),
    ];
    for (on, outcome, exit_code, attempts) in cases {
        let mut world = World::default();
        let run = world.submit([job("a").retry(2, on)]);
        world.up("r", 1);
        while let [lease] = world.assigned()[..] {
            world.finish_with(
                lease,
                AttemptResult {
                    outcome,
                    exit_code,
                    ..Default::default()
                },
            );
        }
        let job = &world.scheduler.run(run).unwrap().jobs[0];
        assert_eq!(
            job.attempts.len(),
            attempts as usize,
            "{on:?} {outcome:?} {exit_code:?}"
        );
        assert_eq!(job.conclusion, Some(outcome));
    }
}

#[test]
fn causes_of_the_system_have_their_own_limit() {
    for (cause, attempts) in [
        (Cause::Workspace, 4),
        (Cause::RunnerRestarted, 4),
        (Cause::Source, 1),
        (Cause::RunnerError, 1),
    ] {
        let mut world = World::default();
        let run = world.submit([job("a").retry(2, &[RetryOn::ExitCode(9)])]);
        world.up("r", 1);
        while let [lease] = world.assigned()[..] {
            world.fail(lease, cause);
        }
        let job = &world.scheduler.run(run).unwrap().jobs[0];
        assert_eq!(job.attempts.len(), attempts, "{cause:?}");
        assert_eq!(world.conclusion(run), "error");
    }
}

#[test]
fn tolerated_failure_counts_as_success_for_needs_and_run() {
    let mut world = World::default();
    let run = world.submit([job("a").tolerate("true"), job("b").needs(&["a"])]);
    world.up("r", 1);
    world.run_all(&["a"]);
    assert_eq!(world.jobs(run), "a=failure b=success");
    assert_eq!(world.conclusion(run), "success");
}

#[test]
fn cancel_ends_queued_jobs_at_once_and_running_ones_when_they_report() {
    let mut world = World::default();
    let run = world.submit([job("a"), job("b"), job("c").needs(&["a"]).when("always()")]);
    world.up("r", 1);
    let lease = world.assigned_one();
    world.start(lease);
    world.handle(Command::CancelRun {
        run,
        reason: "by hand".to_owned(),
    });
    assert_eq!(world.jobs(run), "a=active b=canceled c=canceled");
    let (runner, token) = lease;
    let cancel = Effect::Cancel {
        runner,
        token,
        reason: StopReason::Canceled,
    };
    assert!(world.effects.contains(&cancel));
    world.finish(lease, Conclusion::Killed);
    assert_eq!(world.jobs(run), "a=canceled b=canceled c=canceled");
    assert_eq!(world.conclusion(run), "canceled");
    assert_eq!(
        world.scheduler.run(run).unwrap().jobs[1].reason,
        "the run was canceled: by hand"
    );
}

#[test]
fn attempt_that_does_not_stop_is_fenced_off() {
    let mut world = World::default();
    let run = world.submit([job("a")]);
    world.up("r", 1);
    let lease = world.assigned_one();
    world.handle(Command::CancelRun {
        run,
        reason: "by hand".to_owned(),
    });
    for _ in 0..12 {
        world.pass(Duration::from_secs(5));
        let _ = world.try_handle(Command::Renew {
            runner: lease.0,
            token: lease.1,
        });
    }
    assert_eq!(world.jobs(run), "a=canceled");
    let fenced = Effect::Fenced {
        runner: lease.0,
        token: lease.1,
    };
    assert!(world.effects.contains(&fenced));
}

#[test]
fn timeout_counts_from_the_start_and_may_be_retried() {
    let mut world = World::default();
    let run = world.submit([job("a").retry(1, &[RetryOn::Timeout])]);
    world.up("r", 1);
    let lease = world.assigned_one();
    world.pass(Duration::from_secs(10));
    world.start(lease);
    let keep_alive = |world: &mut World, seconds: u64| {
        for _ in 0..seconds {
            world.pass(Duration::from_secs(1));
            world.handle(Command::Renew {
                runner: lease.0,
                token: lease.1,
            });
        }
    };
    keep_alive(&mut world, 59);
    assert!(
        !world
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Cancel { .. }))
    );
    keep_alive(&mut world, 2);
    let (runner, token) = lease;
    let cancel = Effect::Cancel {
        runner,
        token,
        reason: StopReason::TimedOut,
    };
    assert!(world.effects.contains(&cancel));
    world.finish(lease, Conclusion::Killed);
    let second = world.assigned_one();
    assert_eq!(second.1.attempt, 2);
    world.finish(second, Conclusion::TimedOut);
    assert_eq!(world.conclusion(run), "timed_out");
}

#[test]
fn run_ends_as_its_worst_job() {
    let cases = [
        (vec![], "success"),
        (vec![job("a").when("false")], "skipped"),
        (vec![job("a"), job("b").when("false")], "success"),
        (vec![job("a"), job("bad")], "failure"),
        (vec![job("bad").tolerate("true")], "success"),
    ];
    for (jobs, expected) in cases {
        let mut world = World::default();
        let run = world.submit(jobs);
        world.up("r", 5);
        world.run_all(&["bad"]);
        assert_eq!(world.conclusion(run), expected, "{}", world.jobs(run));
    }
}
