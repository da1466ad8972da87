//! Runners: placement, leases, fencing, coming back, restarts of the control plane.

use std::time::Duration;

use crate::world::{JobExt, World, job};
use rustci_scheduler::{
    AttemptResult, AttemptToken, Command, Drain, Effect, Fence, JobId, Pause, Refused, Reply,
    RunnerId, Scheduler, SchedulerConfig,
    record::{Cause, Conclusion, record::Kind},
};

fn second() -> Duration {
    Duration::from_secs(1)
}

#[test]
fn least_loaded_runner_gets_the_job_and_ties_go_to_the_oldest() {
    let mut world = World::default();
    let (small, large) = (world.up("small", 1), world.up("large", 4));
    world.submit(["a", "b", "c", "d", "e", "f"].map(job));
    let runners: Vec<_> = world.assigned().iter().map(|(runner, _)| *runner).collect();
    assert_eq!(runners, [small, large, large, large, large]);
    assert_eq!(world.scheduler.queued(), 1);
}

#[test]
fn queue_goes_by_run_and_then_by_place_in_the_plan() {
    let mut world = World::default();
    world.submit([job("a"), job("b")]);
    world.submit([job("c"), job("d")]);
    world.up("r", 1);
    let mut order = String::new();
    while let [lease] = world.assigned()[..] {
        let key = world.key(lease.1.job);
        // A lost job goes back to its place at the front.
        if key == "a" && lease.1.attempt == 1 {
            world.fail(lease, Cause::Workspace);
        } else {
            world.finish(lease, Conclusion::Success);
        }
        order.push_str(&key);
    }
    assert_eq!(order, "aabcd");
}

#[test]
fn a_runner_that_leaves_gets_nothing_until_it_registers_again() {
    let mut world = World::default();
    let runner = world.up("r", 2);
    world.handle(Command::RunnerLeaving { runner });
    let run = world.submit([job("a")]);
    assert_eq!(world.assigned(), []);
    assert_eq!(
        world.waiting(run, "a"),
        "the only suitable runner takes no jobs now"
    );
    world.up("r", 2);
    world.assigned_one();
}

#[test]
fn labels_capacity_pause_and_drain_explain_why_a_job_waits() {
    let mut world = World::default();
    let run = world.submit([job("a").labels(&["os=linx"]), job("b"), job("c")]);
    assert_eq!(world.waiting(run, "a"), "no runner is connected");
    let runner = world.up("r", 1);
    assert_eq!(
        world.waiting(run, "a"),
        "no runner has the label os=linx; there is `os=linux`, was that meant by `os=linx`?"
    );
    assert_eq!(world.waiting(run, "c"), "the only suitable runner is busy");
    world.handle(Command::RunnerDrain {
        runner,
        drain: Drain::On,
    });
    assert_eq!(
        world.waiting(run, "c"),
        "the only suitable runner takes no jobs now"
    );
    world.handle(Command::Pause(Pause::On));
    assert_eq!(world.waiting(run, "c"), "the queue is paused");
    let lease = world.assigned_one();
    world.finish(lease, Conclusion::Success);
    world.handle(Command::RunnerDrain {
        runner,
        drain: Drain::Off,
    });
    assert_eq!(world.assigned(), []);
    world.handle(Command::Pause(Pause::Off));
    assert_eq!(
        world.key(world.scheduler.runners().next().unwrap().jobs[0]),
        "c"
    );
}

#[test]
fn job_without_an_executor_label_needs_a_native_runner() {
    let mut world = World::default();
    let run = world.submit([job("a"), job("b").labels(&["executor=dummy"])]);
    let up = rustci_scheduler::RunnerUp {
        name: "dummy".to_owned(),
        labels: vec![],
        capacity: 5,
        executors: vec!["dummy".to_owned()],
        held: vec![],
        lost: vec![],
    };
    world.handle(Command::RunnerUp(up));
    assert_eq!(world.jobs(run), "a=queued b=active");
}

#[test]
fn lease_ends_without_messages_and_the_job_goes_elsewhere() {
    let mut world = World::default();
    world.submit([job("a")]);
    let first = world.up("first", 1);
    let lease = world.assigned_one();
    world.handle(Command::RunnerDown { runner: first });
    let second_runner = world.up("second", 1);
    for _ in 0..20 {
        world.pass(second());
        world.handle(Command::Renew {
            runner: first,
            token: lease.1,
        });
    }
    assert_eq!(world.assigned(), [], "messages renew the lease");
    world.pass(Duration::from_secs(14));
    assert_eq!(world.assigned(), []);
    world.pass(Duration::from_secs(2));
    let (runner, token) = world.assigned_one();
    assert_eq!((runner, token.attempt), (second_runner, 2));
    assert!(token.fence > lease.1.fence);
    assert_eq!(
        world.try_handle(Command::Renew {
            runner: first,
            token: lease.1
        }),
        Err(Refused::Stale(lease.1))
    );
}

#[test]
fn job_that_loses_every_runner_ends_with_an_error() {
    let mut world = World::default();
    let run = world.submit([job("a")]);
    world.up("r", 1);
    for attempt in 1..=4 {
        assert_eq!(world.assigned_one().1.attempt, attempt);
        world.pass(Duration::from_secs(16));
    }
    assert_eq!(world.conclusion(run), "error");
}

/// Every message about an attempt, with a token.
fn messages(runner: RunnerId, token: AttemptToken) -> [Command; 6] {
    let result = AttemptResult {
        outcome: Conclusion::Success,
        ..AttemptResult::default()
    };
    [
        Command::Accepted { runner, token },
        Command::Rejected {
            runner,
            token,
            reason: String::new(),
        },
        Command::Started { runner, token },
        Command::Renew { runner, token },
        Command::Finished {
            runner,
            token,
            result,
        },
        Command::Failed {
            runner,
            token,
            cause: Cause::Source,
            message: String::new(),
            log_bytes: 0,
        },
    ]
}

/// Worlds with a job in every state in which an old lease can name it.
fn worlds() -> Vec<(&'static str, World, RunnerId, AttemptToken)> {
    let mut worlds = Vec::new();
    let states = [
        "queued",
        "leased",
        "started",
        "stopping",
        "ended",
        "forgotten",
    ];
    for state in states {
        let mut world = World::default();
        let run = world.submit([job("a")]);
        let runner = world.up("old", 1);
        let old = world.assigned_one().1;
        world.handle(Command::RunnerDown { runner });
        world.pass(Duration::from_secs(16));
        assert_eq!(world.jobs(run), "a=queued");
        if state != "queued" {
            world.up("new", 1);
            let lease = world.assigned_one();
            if state != "leased" {
                world.start(lease);
            }
            if state == "stopping" {
                world.handle(Command::CancelRun {
                    run,
                    reason: String::new(),
                });
            }
            if state == "ended" || state == "forgotten" {
                world.finish(lease, Conclusion::Success);
            }
            if state == "forgotten" {
                world.handle(Command::ForgetRun { run });
            }
        }
        worlds.push((state, world, runner, old));
    }
    worlds
}

#[test]
fn stale_token_is_refused_on_every_message_in_every_state() {
    for (state, mut world, runner, old) in worlds() {
        let digest = world.scheduler.digest();
        for message in messages(runner, old) {
            let refused = world.try_handle(message.clone());
            assert_eq!(refused, Err(Refused::Stale(old)), "{state}: {message:?}");
        }
        assert_eq!(world.scheduler.digest(), digest);
    }
}

#[test]
fn forged_tokens_are_refused() {
    let mut world = World::default();
    world.submit([job("a")]);
    let runner = world.up("r", 1);
    let other = world.up("other", 1);
    let token = world.assigned_one().1;
    let forged = [
        (other, token),
        (
            runner,
            AttemptToken {
                fence: Fence(token.fence.0 + 1),
                ..token
            },
        ),
        (
            runner,
            AttemptToken {
                attempt: 0,
                ..token
            },
        ),
        (
            runner,
            AttemptToken {
                attempt: 2,
                ..token
            },
        ),
        (
            runner,
            AttemptToken {
                job: JobId(99),
                ..token
            },
        ),
    ];
    for (runner, token) in forged {
        for message in messages(runner, token) {
            assert_eq!(world.try_handle(message), Err(Refused::Stale(token)));
        }
    }
}

#[test]
fn completion_counts_once_and_is_acknowledged_each_time() {
    let mut world = World::default();
    let run = world.submit([job("a")]);
    world.up("r", 1);
    let (runner, token) = world.assigned_one();
    world.finish((runner, token), Conclusion::Success);
    let records = world.journal.len();
    world.effects.clear();
    world.finish((runner, token), Conclusion::Failure);
    assert_eq!(world.journal.len(), records);
    assert_eq!(world.effects, [Effect::Settled { runner, token }]);
    assert_eq!(world.jobs(run), "a=success");
    let late = Command::Renew { runner, token };
    assert_eq!(world.try_handle(late), Err(Refused::Stale(token)));
}

#[test]
fn returning_runner_keeps_what_it_holds_and_loses_the_rest() {
    let mut world = World::default();
    let run = world.submit(["held", "lost", "unknown"].map(job));
    let runner = world.up("r", 3);
    let tokens: Vec<_> = world
        .assigned()
        .into_iter()
        .map(|(_, token)| token)
        .collect();
    let foreign = AttemptToken {
        job: JobId(77),
        ..tokens[0]
    };
    let held = [tokens[0], foreign];
    let (again, keep) = world.up_with("r", 3, &["os=linux"], &held, &[tokens[1]]);
    assert_eq!((again, keep), (runner, vec![tokens[0]]));
    let reassigned: Vec<_> = world
        .assigned()
        .into_iter()
        .map(|(_, token)| token)
        .collect();
    assert_eq!(reassigned.len(), 2);
    assert!(reassigned.iter().all(|token| token.attempt == 2));
    let causes = world
        .scheduler
        .run(run)
        .unwrap()
        .jobs
        .iter()
        .map(|job| job.attempts[0].end.as_ref().map(|end| end.cause));
    let causes: Vec<_> = causes.collect();
    assert_eq!(
        causes,
        [None, Some(Cause::RunnerRestarted), Some(Cause::RunnerLost)]
    );
}

#[test]
fn runner_that_refuses_a_job_rests() {
    let mut world = World::default();
    world.submit([job("a")]);
    let refusing = world.up("refusing", 1);
    let (runner, token) = world.assigned_one();
    world.handle(Command::Rejected {
        runner,
        token,
        reason: "full".to_owned(),
    });
    assert_eq!(world.assigned(), []);
    let other = world.up("other", 1);
    assert_eq!(world.assigned_one().0, other);
    world.submit([job("b")]);
    assert_eq!(world.assigned(), []);
    world.pass(second());
    assert_eq!(world.assigned_one().0, refusing);
}

#[test]
fn restart_resumes_every_run_where_it_was() {
    let mut world = World::default();
    let run = world.submit([job("a"), job("b").needs(&["a"]), job("c").when("always()")]);
    let runner = world.up("r", 1);
    let lease = world.assigned_one();
    world.start(lease);
    world.restart();
    assert_eq!(world.jobs(run), "a=active b=blocked c=queued");
    assert_eq!(world.assigned(), [], "its runner has a lease to come back");
    let (again, keep) = world.up_with("r", 1, &["os=linux"], &[lease.1], &[]);
    assert_eq!((again, keep), (runner, vec![lease.1]));
    world.finish(lease, Conclusion::Success);
    world.run_all(&[]);
    assert_eq!(world.conclusion(run), "success");
    let fences = world
        .journal
        .iter()
        .filter_map(|record| match &record.kind {
            Some(Kind::Leased(leased)) => Some(leased.fence),
            _ => None,
        });
    assert!(fences.is_sorted_by(|one, next| one < next));
}

#[test]
fn restart_keeps_the_time_that_was_left() {
    let mut world = World::default();
    world.submit([job("a")]);
    world.up("r", 1);
    let lease = world.assigned_one();
    world.start(lease);
    for _ in 0..50 {
        world.pass(second());
        world.handle(Command::Renew {
            runner: lease.0,
            token: lease.1,
        });
    }
    world.restart();
    world.up_with("r", 1, &["os=linux"], &[lease.1], &[]);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.effects.len(), 0);
    world.pass(second());
    assert!(
        matches!(world.effects[0], Effect::Cancel { .. }),
        "{:?}",
        world.effects
    );
}

#[test]
fn every_cut_of_the_journal_can_be_resumed() {
    let mut world = World::default();
    let in_matrix = |key: &str| job(key).in_matrix("m", Some(1)).fail_fast();
    world.submit([
        job("a"),
        job("b").needs(&["a"]).when("failure()"),
        job("c").needs(&["b"]),
        in_matrix("m1"),
        in_matrix("m2"),
    ]);
    let canceled = world.submit([job("x"), job("y").needs(&["x"]).when("always()")]);
    world.up("r", 2);
    world.handle(Command::CancelRun {
        run: canceled,
        reason: String::new(),
    });
    world.run_all(&["a", "m1"]);
    let journal = world.journal.clone();
    for cut in 0..=journal.len() {
        let mut scheduler = Scheduler::new(SchedulerConfig::default());
        journal[..cut]
            .iter()
            .for_each(|record| scheduler.replay(record).unwrap());
        let mut world = World::default();
        world.journal = journal[..cut].to_vec();
        world.resume(scheduler);
        world.up("r", 2);
        world.run_all(&["a", "m1"]);
        let open = world
            .scheduler
            .runs()
            .filter(|run| run.conclusion.is_none())
            .count();
        assert_eq!(open, 0, "cut after {cut} records");
        world.restart();
    }
}

#[test]
fn forgotten_run_is_gone_and_an_open_one_stays() {
    let mut world = World::default();
    let run = world.submit([job("a")]);
    assert_eq!(
        world.try_handle(Command::ForgetRun { run }),
        Err(Refused::NotEnded(run))
    );
    world.up("r", 1);
    world.run_all(&[]);
    assert_eq!(world.handle(Command::ForgetRun { run }), Reply::Done);
    assert!(world.scheduler.run(run).is_none());
    assert_eq!(
        world.try_handle(Command::ForgetRun { run }),
        Err(Refused::UnknownRun(run))
    );
    let next = world.submit([job("a")]);
    assert!(next > run);
    world.restart();
    assert_eq!(world.jobs(next), "a=active");
}
