//! Who goes next: fairness between projects, priorities, quotas, and what is said about it.

use std::{collections::BTreeMap, time::Duration};

use rustci_pipeline::Job;
use rustci_scheduler::{
    AttemptToken, Command, JobId, Pause, Quota, Refused, RunId, RunnerId, SchedulerConfig,
    record::{Conclusion, Priority, RunMeta},
};

use crate::world::{JobExt, World, job};

type Lease = (RunnerId, AttemptToken);

impl World {
    fn submit_for(&mut self, project: &str, jobs: impl IntoIterator<Item = Job>) -> RunId {
        self.submit_with(jobs, meta(project, Priority::Normal))
    }

    fn set_quota(&mut self, project: &str, quota: Quota) {
        self.handle(Command::SetQuota {
            project: project.to_owned(),
            quota,
        });
    }

    fn project_of(&self, job: JobId) -> String {
        self.scheduler.job(job).unwrap().0.meta.project.clone()
    }

    /// Ends `count` jobs, the oldest lease first, each `took(project)` after its lease; gives the
    /// projects in the order in which their jobs were leased.
    fn serve(&mut self, count: usize, took: impl Fn(&str) -> Duration) -> Vec<String> {
        let (mut running, mut order): (BTreeMap<Duration, Vec<Lease>>, _) =
            (BTreeMap::new(), Vec::new());
        let mut clock = Duration::ZERO;
        while order.len() < count || !running.is_empty() {
            // What is assigned after that is left for the next call.
            let enough = order.len() >= count;
            let leases = if enough { Vec::new() } else { self.assigned() };
            for lease in leases {
                let project = self.project_of(lease.1.job);
                let end = clock + took(&project);
                running.entry(end).or_default().push(lease);
                order.push(project);
            }
            let Some(end) = running.keys().next().copied() else {
                break;
            };
            self.pass(end - clock);
            clock = end;
            for lease in running.remove(&end).unwrap_or_default() {
                self.finish(lease, Conclusion::Success);
            }
        }
        order
    }
}

/// A world in which no runner has to say that it is alive.
fn patient() -> World {
    World::new(SchedulerConfig {
        lease: Duration::from_secs(1_000_000),
        ..SchedulerConfig::default()
    })
}

fn meta(project: &str, priority: Priority) -> RunMeta {
    RunMeta {
        project: project.to_owned(),
        priority: priority.into(),
        ..RunMeta::default()
    }
}

fn jobs(count: usize) -> Vec<Job> {
    (0..count)
        .map(|number| job(&format!("j{number}")))
        .collect()
}

fn count(order: &[String], project: &str) -> usize {
    order.iter().filter(|name| *name == project).count()
}

fn second(_: &str) -> Duration {
    Duration::from_secs(1)
}

#[test]
fn a_project_with_ten_times_the_jobs_gets_no_more_than_the_others() {
    let mut world = patient();
    world.submit_for("flood", jobs(500));
    for project in ["a", "b", "c"] {
        world.submit_for(project, jobs(50));
    }
    world.up("red", 4);
    let order = world.serve(160, second);
    for project in ["flood", "a", "b", "c"] {
        let served = count(&order, project);
        assert!((37..=43).contains(&served), "{project}: {served}");
    }
}

#[test]
fn a_newcomer_gets_its_turn_at_once_and_no_more_than_that() {
    let mut world = patient();
    world.submit_for("old", jobs(300));
    world.up("red", 1);
    world.serve(100, second);
    world.submit_for("new", jobs(300));
    let order = world.serve(40, second);
    let first = order.iter().position(|name| name == "new").unwrap();
    assert!(first <= 2, "{order:?}");
    let served = count(&order, "new");
    assert!((18..=22).contains(&served), "{served} of {}", order.len());
}

#[test]
fn absence_earns_no_credit() {
    let mut world = patient();
    world.submit_for("rare", jobs(1));
    world.submit_for("busy", jobs(400));
    world.up("red", 1);
    world.serve(200, second);
    world.submit_for("rare", jobs(100));
    let order = world.serve(40, second);
    let served = count(&order, "rare");
    assert!((18..=22).contains(&served), "{served} of {}", order.len());
}

#[test]
fn a_job_that_no_runner_suits_earns_no_credit() {
    let mut world = patient();
    world.submit_for("typo", [job("lost").labels(&["os=linus"])]);
    world.submit_for("busy", jobs(400));
    world.up("red", 1);
    world.serve(200, second);
    world.submit_for("typo", jobs(100));
    let order = world.serve(40, second);
    let served = count(&order, "typo");
    assert!((18..=22).contains(&served), "{served} of {}", order.len());
}

#[test]
fn weights_divide_the_runners() {
    let mut world = patient();
    let weight = |weight| Quota {
        weight,
        ..Quota::default()
    };
    world.set_quota("", weight(2));
    world.set_quota("large", weight(6));
    world.submit_for("large", jobs(300));
    world.submit_for("small", jobs(300));
    world.up("red", 2);
    let order = world.serve(200, second);
    let served = count(&order, "large");
    assert!((146..=154).contains(&served), "{served}");
}

#[test]
fn projects_share_time_and_not_jobs() {
    let mut world = patient();
    world.submit_for("long", jobs(400));
    world.submit_for("short", jobs(2_000));
    world.up("red", 4);
    let took = |project: &str| Duration::from_secs(if project == "long" { 50 } else { 5 });
    // The first jobs tell how long they take; that is not what is measured.
    world.serve(40, took);
    let order = world.serve(1_100, took);
    let (long, short) = (count(&order, "long") * 50, count(&order, "short") * 5);
    let ratio = long as f64 / short as f64;
    assert!((0.8..1.25).contains(&ratio), "{long} s against {short} s");
}

#[test]
fn many_requirements_give_no_larger_share() {
    let mut world = patient();
    let labels = ["os=linux", "a", "b", "c", "d"];
    let spread = (0..300).map(|number| {
        job(&format!("j{number}")).labels(&["os=linux", labels[number % labels.len()]])
    });
    world.submit_for("spread", spread);
    world.submit_for("plain", jobs(300));
    world.up_with("red", 1, &labels, &[], &[]);
    let order = world.serve(100, second);
    let served = count(&order, "plain");
    assert!((47..=53).contains(&served), "{served}");
}

#[test]
fn a_project_that_is_busy_elsewhere_still_gets_its_share_here() {
    let mut world = World::default();
    let gpu = |count: usize| {
        let all = jobs(count).into_iter();
        all.map(|job| job.labels(&["gpu"])).collect::<Vec<_>>()
    };
    world.submit_for("both", jobs(600));
    world.submit_for("both", gpu(100));
    world.submit_for("gpu", gpu(100));
    world.up("red", 10);
    world.up_with("blue", 1, &["gpu"], &[], &[]);
    let mut on_gpu = Vec::new();
    while on_gpu.len() < 40 {
        world.pass(Duration::from_secs(1));
        let leases = world.assigned();
        assert!(!leases.is_empty());
        for lease in leases {
            if world.key(lease.1.job).is_empty() {
                continue;
            }
            let (run, place, _) = world.scheduler.job(lease.1.job).unwrap();
            if run.plan.plan().jobs[place].runs_on.all == ["gpu"] {
                on_gpu.push(run.meta.project.clone());
            }
            world.finish(lease, Conclusion::Success);
        }
    }
    let served = count(&on_gpu, "both");
    assert!((17..=23).contains(&served), "{served} of {}", on_gpu.len());
}

#[test]
fn priorities_order_the_jobs_of_a_project_and_low_ones_age() {
    let mut world = World::default();
    for (key, priority) in [
        ("low", Priority::Low),
        ("normal", Priority::Normal),
        ("high", Priority::High),
        ("critical", Priority::Critical),
    ] {
        world.submit_with([job(key)], meta("p", priority));
    }
    world.pass(Duration::from_secs(7_000));
    world.submit_with([job("late-high")], meta("p", Priority::High));
    world.pass(Duration::from_secs(300));
    world.submit_with([job("later-high")], meta("p", Priority::High));
    world.submit_with([job("late-normal")], meta("p", Priority::Normal));
    world.submit_with([job("late-critical")], meta("p", Priority::Critical));
    world.up("red", 1);
    let mut order = Vec::new();
    while let [lease] = world.assigned()[..] {
        order.push(world.key(lease.1.job));
        world.finish(lease, Conclusion::Success);
    }
    let wanted = "critical late-critical high normal late-high low later-high late-normal";
    assert_eq!(order.join(" "), wanted);
}

#[test]
fn no_project_runs_more_than_its_quota_and_the_rest_of_the_runners_is_for_others() {
    let mut world = World::default();
    let bound = |running| Quota {
        running,
        ..Quota::default()
    };
    world.set_quota("", bound(3));
    world.set_quota("few", bound(1));
    world.submit_for("few", jobs(4));
    world.submit_for("many", jobs(6));
    world.up("red", 8);
    let leases = world.assigned();
    assert_eq!(leases.len(), 4, "1 and 3");
    let run = world.scheduler.runs().next().unwrap().id;
    assert_eq!(
        world.waiting(run, "j3"),
        "its project may run 1 job at once"
    );
    assert_eq!(world.scheduler.reasons()["quota"], 6);
    world.restart();
    assert_eq!(world.assigned().len(), 0, "the leases of before count");
    world.set_quota("few", Quota::default());
    assert_eq!(world.scheduler.quota("few").running, 3);
    assert_eq!(world.scheduler.project("few").unwrap().queued, 3);
    let held: Vec<_> = leases.iter().map(|(_, token)| *token).collect();
    world.up_with("red", 8, &["os=linux"], &held, &[]);
    assert_eq!(world.assigned().len(), 2, "the default lets two more in");
    world.set_quota("", Quota::default());
    assert_eq!(world.assigned().len(), 2, "only the runner bounds now");
}

#[test]
fn a_run_over_the_bound_of_waiting_jobs_is_refused_whole() {
    let mut world = World::default();
    let quota = Quota {
        queued: 3,
        ..Quota::default()
    };
    world.set_quota("", quota);
    world.submit_for("p", [job("a"), job("b").needs(&["a"])]);
    let plan = crate::world::plan(jobs(2));
    let submit = Command::Submit {
        plan,
        meta: meta("p", Priority::Normal),
    };
    let refused = world.try_handle(submit.clone()).unwrap_err();
    let wanted = Refused::QuotaExceeded {
        waiting: 2,
        jobs: 2,
        max: 3,
    };
    assert_eq!(refused, wanted);
    world.submit_for("q", jobs(3));
    world.restart();
    assert_eq!(world.try_handle(submit.clone()), Err(wanted));
    world.up("red", 1);
    world.handle(submit);
}

#[test]
fn what_is_in_front_is_counted_over_projects() {
    let mut world = World::default();
    let own = world.submit_for("p", jobs(1_000));
    world.submit_for("q", jobs(5));
    world.submit_for("r", jobs(1_000));
    world.up("red", 1);
    let ahead = |world: &World, key: &str| {
        let ahead = world.scheduler.ahead(world.job_id(own, key)).unwrap();
        (ahead.own, ahead.others)
    };
    let (before, others) = ahead(&world, "j500");
    assert!((499..=500).contains(&before), "{before}");
    assert!((500..=510).contains(&others), "{others}");
    world.handle(Command::Pause(Pause::On));
    assert_eq!(world.waiting(own, "j500"), "the queue is paused");
    world.handle(Command::Pause(Pause::Off));
    let text = world.waiting(own, "j999");
    assert!(
        text.starts_with("the only suitable runner is busy; "),
        "{text}"
    );
}

#[test]
fn the_queue_comes_in_pages() {
    let mut world = World::default();
    world.submit_for("p", jobs(40));
    world.submit_for("q", jobs(40));
    let typo = |job: Job| job.labels(&["os=linus"]);
    world.submit_for("p", jobs(20).into_iter().map(typo));
    let all = world.scheduler.queue_page((0, JobId(0)), None, 1_000);
    assert_eq!(all.len(), 100);
    assert!(all.is_sorted());
    let mut paged: Vec<(u64, JobId)> = Vec::new();
    loop {
        let after = paged.last().copied().unwrap_or((0, JobId(0)));
        let page = world.scheduler.queue_page(after, None, 7);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let own = world.scheduler.queue_page((0, JobId(0)), Some("q"), 1_000);
    assert_eq!(own.len(), 40);
    let queue = world.scheduler.queue(10);
    assert_eq!(
        (queue.queued, queue.running, queue.classes.len()),
        (100, 0, 2)
    );
    assert!(queue.oldest.is_some());
    assert_eq!(world.scheduler.reasons()["no_runners"], 100);
}

#[test]
fn only_a_runner_that_is_away_and_idle_is_forgotten() {
    let mut world = World::default();
    world.submit_for("p", jobs(1));
    let runner = world.up("red", 1);
    let lease = world.assigned_one();
    let forget = Command::ForgetRunner { runner };
    assert_eq!(
        world.try_handle(forget.clone()),
        Err(Refused::RunnerInUse(runner))
    );
    world.handle(Command::RunnerDown { runner });
    assert_eq!(
        world.try_handle(forget.clone()),
        Err(Refused::RunnerInUse(runner))
    );
    world.finish(lease, Conclusion::Success);
    world.handle(forget.clone());
    assert_eq!(
        world.try_handle(forget),
        Err(Refused::UnknownRunner(runner))
    );
    world.restart();
    assert_eq!(world.scheduler.runners().count(), 0);
    assert_ne!(world.up("red", 1), runner);
}
