//! The catalogue from outside: what was sent is what is read.

use rustci_pipeline::Plan;
use rustci_scheduler::StoredPlan;

use super::*;
use crate::api::view::{EventView, GitView, Priority, RunEvent};
use crate::health::HealthCell;

fn summary(id: u64, status: Status) -> RunSummary {
    RunSummary {
        id,
        project: "demo".into(),
        pipeline: "ci".into(),
        file: ".rustci/ci.yaml".into(),
        status,
        conclusion: (status == Status::Finished).then_some(Conclusion::Success),
        digest: "00".repeat(32),
        event: EventView {
            name: "manual".into(),
        },
        git: GitView {
            commit: Some("c0ffee".into()),
            ..GitView::default()
        },
        priority: Priority::High,
        rerun_of: (id > 1).then_some(1),
        created_ms: 10 + id,
        started_ms: None,
        finished_ms: (status == Status::Finished).then_some(99),
    }
}

pub(super) fn new_run(id: u64) -> Change {
    let job = NewJob {
        id: id * 10,
        key: "test (a)".into(),
        job_id: "test".into(),
        name: "test".into(),
        needs: vec!["lint".into()],
        steps: vec![
            PlannedStep::Alone("build".into()),
            PlannedStep::Beside {
                name: "check".into(),
                parallel: 1,
            },
        ],
        carried_from: None,
    };
    Change::NewRun {
        run: summary(id, Status::Queued),
        jobs: vec![job],
        origin: Origin {
            plan: Arc::new(StoredPlan::new(Plan::default())),
            meta: vec![1],
            expanded: vec![],
            idempotency_key: None,
            request_digest: vec![],
        },
    }
}

fn job(run: u64, status: Status, attempts: u32) -> Change {
    let attempts = (1..=attempts).map(|number| AttemptView {
        number,
        runner: "r1".into(),
        status,
        cause: None,
        started_ms: Some(20),
        finished_ms: None,
        log_bytes: 0,
    });
    Change::Job(JobState {
        run,
        id: run * 10,
        status,
        conclusion: None,
        allowed: false,
        reason: Some("waits".into()),
        approval: Some(ApprovalView {
            environment: "production".into(),
            from: vec!["ops".into()],
            asked_ms: 1,
            until_ms: 2,
            answer: None,
        }),
        attempts: attempts.collect(),
        outputs: [("version".to_owned(), "1.2".to_owned())].into(),
        queued_ms: Some(11),
        started_ms: None,
        finished_ms: None,
    })
}

fn step(run: u64, attempt: u32, index: u32, status: Status) -> Change {
    let step = StepView {
        status,
        tries: 1,
        ..StepView::queued(index, format!("ran {index}"))
    };
    Change::Step {
        run,
        job: run * 10,
        attempt,
        step,
    }
}

fn open() -> (tempfile::TempDir, Catalogue) {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::open(&dir.path().join("catalogue.sqlite")).unwrap();
    (dir, catalogue)
}

#[test]
fn rebuilding_from_final_states_equals_following_every_change() {
    let ((_a, mut followed), (_b, mut rebuilt)) = (open(), open());
    for (at, change) in [
        new_run(1),
        job(1, Status::Queued, 0),
        new_run(2),
        job(1, Status::Running, 1),
        step(1, 1, 0, Status::Running),
        step(1, 1, 0, Status::Finished),
        job(1, Status::Running, 2),
        step(1, 2, 0, Status::Running),
        Change::Run(summary(1, Status::Running)),
        Change::Run(summary(2, Status::Finished)),
    ]
    .into_iter()
    .enumerate()
    {
        followed.apply(&[change], at as u64 + 1).unwrap();
    }
    let finals = [
        new_run(1),
        new_run(2),
        Change::Run(summary(1, Status::Running)),
        Change::Run(summary(2, Status::Finished)),
        job(1, Status::Running, 2),
        step(1, 2, 0, Status::Running),
    ];
    rebuilt.apply(&finals, 10).unwrap();
    assert_eq!(followed.applied().unwrap(), rebuilt.applied().unwrap());
    for id in [1, 2] {
        assert_eq!(
            followed.run(id).unwrap().unwrap(),
            rebuilt.run(id).unwrap().unwrap()
        );
    }
}

#[test]
fn sending_everything_again_changes_nothing() {
    let (_dir, mut catalogue) = open();
    let all = [
        new_run(1),
        job(1, Status::Running, 1),
        step(1, 1, 1, Status::Finished),
    ];
    catalogue.apply(&all, 7).unwrap();
    let before = catalogue.run(1).unwrap();
    catalogue.apply(&all, 7).unwrap();
    assert_eq!(catalogue.run(1).unwrap(), before);
}

#[test]
fn steps_of_the_newest_attempt_lie_over_those_of_the_plan() {
    let (_dir, mut catalogue) = open();
    let changes = [
        new_run(1),
        job(1, Status::Running, 1),
        step(1, 1, 1, Status::Finished),
        job(1, Status::Running, 2),
        step(1, 2, 0, Status::Running),
    ];
    catalogue.apply(&changes, 1).unwrap();
    let run = catalogue.run(1).unwrap().unwrap();
    let steps: Vec<_> = run.jobs[0]
        .steps
        .iter()
        .map(|step| (step.name.as_str(), step.status, step.parallel))
        .collect();
    assert_eq!(
        steps,
        [
            ("ran 0", Status::Running, None),
            ("check", Status::Queued, Some(1))
        ]
    );
}

#[test]
fn pages_end_where_the_next_begins() {
    let (_dir, mut catalogue) = open();
    let runs: Vec<_> = (1..=5).map(new_run).collect();
    catalogue.apply(&runs, 5).unwrap();
    catalogue
        .apply(&[Change::Run(summary(3, Status::Finished))], 6)
        .unwrap();
    let ids = |filter: RunFilter| {
        let list = catalogue.runs(&filter).unwrap();
        (
            list.runs.iter().map(|run| run.id).collect::<Vec<_>>(),
            list.next,
        )
    };
    let page = || RunFilter::newest(2);
    assert_eq!(ids(page()), (vec![5, 4], Some("4".into())));
    assert_eq!(
        ids(RunFilter {
            before: Some(4),
            ..page()
        }),
        (vec![3, 2], Some("2".into()))
    );
    assert_eq!(
        ids(RunFilter {
            before: Some(2),
            ..page()
        }),
        (vec![1], None)
    );
    assert_eq!(
        ids(RunFilter {
            status: Some(Status::Finished),
            ..page()
        }),
        (vec![3], None)
    );
}

#[test]
fn a_follower_sees_each_state_after_the_one_it_has() {
    let (_dir, mut catalogue) = open();
    catalogue
        .apply(&[new_run(1), job(1, Status::Queued, 0)], 1)
        .unwrap();
    let seen = catalogue.changes(1, 0).unwrap().unwrap();
    assert_eq!(
        seen.events
            .iter()
            .map(|(_, event)| event.name())
            .collect::<Vec<_>>(),
        ["run", "job"]
    );
    let last = seen.events.last().unwrap().0;
    assert!(
        catalogue
            .changes(1, last)
            .unwrap()
            .unwrap()
            .events
            .is_empty()
    );
    catalogue
        .apply(&[new_run(2), step(1, 1, 0, Status::Running)], 2)
        .unwrap();
    let seen = catalogue.changes(1, last).unwrap().unwrap();
    assert!(matches!(
        &seen.events[..],
        [(_, RunEvent::Step { job: 10, .. })]
    ));
    // A number from a catalogue that was lost: everything again.
    assert_eq!(
        catalogue
            .changes(1, 1_000_000)
            .unwrap()
            .unwrap()
            .events
            .len(),
        3
    );
    assert!(catalogue.changes(9, 0).unwrap().is_none());
}

#[test]
fn another_process_reads_while_one_writes() {
    let (dir, mut catalogue) = open();
    catalogue.apply(&[new_run(1)], 1).unwrap();
    let reader = Catalogue::open_read_only(dir.path()).unwrap();
    catalogue.apply(&[new_run(2)], 2).unwrap();
    assert!(reader.run(2).unwrap().is_some());
}

#[tokio::test]
async fn a_question_is_answered_behind_the_changes_before_it() {
    let (_dir, catalogue) = open();
    let thread = CatalogueThread::start(catalogue, HealthCell::default()).unwrap();
    let (queries, updates) = (thread.queries(), thread.updates());
    let mut follower = queries.subscriptions().follow(1);
    let mut changes = vec![new_run(1)];
    assert_eq!(updates.send(&mut changes, 1), Handed::Over);
    assert!(changes.is_empty());
    let run = queries.ask(|catalogue| catalogue.run(1)).await.unwrap();
    assert_eq!(run.unwrap().jobs.len(), 1);
    follower.changed().await.unwrap();
    updates.checkpoint();
    queries.ask(|_| Ok(())).await.unwrap();
    assert_eq!(updates.durable(), 1);
}

#[tokio::test]
async fn after_a_lost_change_nothing_is_taken_until_the_next_start() {
    let (_dir, catalogue) = open();
    let health = HealthCell::default();
    let thread = CatalogueThread::start(catalogue, health.clone()).unwrap();
    let (queries, updates) = (thread.queries(), thread.updates());
    let writable = |is: bool| {
        queries.ask(move |catalogue| {
            let connection = catalogue.connection();
            Ok(connection.pragma_update(None, "query_only", !is)?)
        })
    };
    writable(false).await.unwrap();
    updates.send(&mut vec![new_run(1)], 1);
    assert!(health.failed().await.contains("catalogue"));
    writable(true).await.unwrap();
    updates.send(&mut vec![new_run(2)], 2);
    let applied = queries.ask(|catalogue| catalogue.applied()).await;
    assert_eq!(applied.unwrap(), 0, "the journal is read again from here");
}

#[test]
fn what_a_run_was_made_from_is_kept() {
    let (_dir, mut catalogue) = open();
    catalogue.apply(&[new_run(1), new_run(2)], 1).unwrap();
    let origin = catalogue.origin(2).unwrap().unwrap();
    assert_eq!(origin.plan_json, Plan::default().to_canonical_json());
    assert_eq!(origin.meta, [1]);
    assert_eq!(catalogue.origin(3).unwrap(), None);
}
