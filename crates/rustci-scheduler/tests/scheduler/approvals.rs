//! Approvals: asked once, answered once, and an end when nobody answers.

use std::time::Duration;

use rustci_scheduler::{Command, JobId, Refused, Verdict};

use crate::world::{JobExt, World, group, job};

const DAY: Duration = Duration::from_secs(86_400);

fn world() -> (World, rustci_scheduler::RunId) {
    let mut world = World::default();
    let ship = job("ship").needs(&["build"]).approval("production", DAY);
    let run = world.submit([job("build"), ship, job("after").needs(&["ship"])]);
    world.up("r", 10);
    (world, run)
}

#[test]
fn a_job_is_approved_after_its_needs_and_then_runs() {
    let (mut world, run) = world();
    let early = world.answer(run, "ship", Verdict::Approved).unwrap_err();
    assert_eq!(early, Refused::NotAsking(world.job_id(run, "ship")));
    world.run_all(&[]);
    assert_eq!(world.jobs(run), "build=success ship=blocked after=blocked");
    let waiting = "waits for somebody to approve it for `production`";
    assert_eq!(world.waiting(run, "ship"), waiting);
    world.restart();
    world.up("r", 10);
    world.answer(run, "ship", Verdict::Approved).unwrap();
    let second = world.answer(run, "ship", Verdict::Declined).unwrap_err();
    assert!(matches!(second, Refused::NotAsking(_)));
    world.run_all(&[]);
    assert_eq!(world.jobs(run), "build=success ship=success after=success");
    let (_, _, ship) = world.scheduler.job(world.job_id(run, "ship")).unwrap();
    let answer = ship.approval.as_ref().unwrap().answer.as_ref().unwrap();
    assert_eq!((answer.by.as_str(), answer.comment.as_str()), ("ann", "go"));
}

#[test]
fn a_declined_job_fails_what_needs_it() {
    let (mut world, run) = world();
    world.run_all(&[]);
    world.answer(run, "ship", Verdict::Declined).unwrap();
    assert_eq!(world.jobs(run), "build=success ship=declined after=skipped");
    assert_eq!(
        world.reason(run, "ship"),
        "declined for `production` by ann: go"
    );
    assert_eq!(world.conclusion(run), "declined");
    world.restart();
}

#[test]
fn without_an_answer_it_ends_as_blocked_in_time() {
    let (mut world, run) = world();
    world.run_all(&[]);
    world.pass(DAY / 2);
    world.restart();
    world.pass(DAY / 2 - Duration::from_secs(1));
    assert_eq!(world.jobs(run), "build=success ship=blocked after=blocked");
    assert_eq!(world.conclusion(run), "open");
    world.pass(Duration::from_secs(2));
    let reason = "nobody approved it for `production` in time";
    assert_eq!(world.reason(run, "ship"), reason);
    assert_eq!(world.conclusion(run), "blocked");
    assert_eq!(world.scheduler.next_deadline(), None);
}

#[test]
fn a_canceled_run_asks_no_more() {
    let (mut world, run) = world();
    world.run_all(&[]);
    let reason = String::new();
    world.handle(Command::CancelRun { run, reason });
    assert!(world.answer(run, "ship", Verdict::Approved).is_err());
    assert_eq!(world.scheduler.next_deadline(), None);
    assert_eq!(world.conclusion(run), "canceled");
}

#[test]
fn answers_to_what_is_not_there_are_refused() {
    let (mut world, run) = world();
    let other = world.submit([job("x")]);
    let job = world.job_id(other, "x");
    let answer = |run, job| Command::Answer {
        run,
        job,
        verdict: Verdict::Approved,
        by: String::new(),
        comment: String::new(),
    };
    let refused = world.try_handle(answer(run, job)).unwrap_err();
    assert_eq!(refused, Refused::UnknownJob { run, job });
    let refused = world.try_handle(answer(run, JobId(99))).unwrap_err();
    assert!(matches!(refused, Refused::UnknownJob { .. }));
    let run = rustci_scheduler::RunId(99);
    let refused = world.try_handle(answer(run, job)).unwrap_err();
    assert_eq!(refused, Refused::UnknownRun(run));
}

#[test]
fn a_job_takes_no_slot_before_it_is_approved() {
    let mut world = World::default();
    let ship = || job("ship").approval("production", DAY).slot(group("g"));
    let one = world.submit([ship()]);
    let two = world.submit([ship()]);
    world.up("r", 10);
    world.answer(two, "ship", Verdict::Approved).unwrap();
    assert_eq!(world.jobs(two), "ship=active");
    world.answer(one, "ship", Verdict::Approved).unwrap();
    assert_eq!(
        world.waiting(one, "ship"),
        "waits for the slot of `g`, which `ship` of run 2 holds"
    );
}
