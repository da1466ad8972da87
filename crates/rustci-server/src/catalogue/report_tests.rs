//! Reports and summaries from the result of an attempt to lists and histories.

use std::sync::Arc;

use prost::Message;
use rustci_pipeline::v1;
use rustci_pipeline::v1::TestOutcome::{Errored, Failed, Passed, Skipped};

use super::tests::new_run;
use super::*;
use crate::api::view::{TestOrder, TestOutcome, TestVerdict};
use crate::blobs::{BlobDigest, Blobs};

struct World {
    catalogue: Catalogue,
    blobs: Arc<Blobs>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::open(&dir.path().join("blobs")).unwrap());
        let catalogue = Catalogue::open(&dir.path().join("catalogue.sqlite")).unwrap();
        Self {
            catalogue: catalogue.with_blobs(Arc::clone(&blobs)),
            blobs,
            _dir: dir,
        }
    }

    fn store(&self, bytes: &[u8]) -> Vec<u8> {
        let digest = BlobDigest::of(bytes);
        let mut upload = self.blobs.upload(digest).unwrap();
        upload.write(bytes).unwrap();
        upload.finish().unwrap();
        digest.as_bytes().to_vec()
    }

    /// A run of one job, whose attempt brought these tests.
    fn run(&mut self, run: u64, attempt: u32, tests: &[v1::TestCase]) {
        let count = |outcome| {
            tests
                .iter()
                .filter(|test| test.outcome() == outcome)
                .count() as u32
        };
        let report = v1::TestReport {
            tests: tests.to_vec(),
        };
        let report = v1::StoredReport {
            kind: "junit".to_owned(),
            digest: self.store(&report.encode_to_vec()),
            tests: tests.len() as u32,
            failures: count(Failed),
            errors: count(Errored),
            skipped: count(Skipped),
            duration_ms: 7,
            warnings: vec!["b.xml: it is empty".to_owned()],
            ..Default::default()
        };
        let summary = v1::StoredSummary {
            step: 1,
            digest: self.store(b"# Done"),
            bytes: 6,
        };
        let finished = Change::Finished(Box::new(Finished {
            run,
            job: run * 10,
            job_key: "test (a)".to_owned(),
            attempt,
            project: "demo".to_owned(),
            file: "ci.yaml".to_owned(),
            scope: "trusted".to_owned(),
            ended_ms: 1000 + run,
            result: v1::JobResult {
                reports: vec![report],
                summaries: vec![summary],
                ..Default::default()
            },
        }));
        self.catalogue
            .apply(&[new_run(run), finished], run)
            .unwrap();
    }

    fn stats(
        &self,
        order: TestOrder,
        change: impl FnOnce(&mut HistoryFilter),
    ) -> Vec<(String, TestVerdict)> {
        let mut filter = HistoryFilter {
            project: "demo".to_owned(),
            text: None,
            verdict: None,
            order,
            runs: 30,
            skip: 0,
            limit: 20,
        };
        change(&mut filter);
        let list = self.catalogue.test_stats(&filter).unwrap();
        list.tests
            .into_iter()
            .map(|stats| (stats.name, stats.verdict))
            .collect()
    }
}

fn test(name: &str, outcome: v1::TestOutcome, ms: u64) -> v1::TestCase {
    let message = match outcome {
        Failed | Errored => "because",
        _ => "",
    };
    v1::TestCase {
        class: "unit".to_owned(),
        name: name.to_owned(),
        outcome: outcome.into(),
        duration_us: ms * 1000,
        message: message.to_owned(),
        ..Default::default()
    }
}

fn filter(run: u64) -> TestFilter {
    TestFilter {
        run,
        outcome: None,
        skip: 0,
        limit: 2,
    }
}

#[test]
fn the_tests_of_a_run_begin_with_what_failed_and_come_in_pages() {
    let mut world = World::new();
    world.run(1, 1, &[test("a", Failed, 1)]);
    world.run(
        1,
        2,
        &[
            test("a", Passed, 1),
            test("b", Skipped, 0),
            test("c", Errored, 2),
        ],
    );
    // A restart may tell it again.
    world.run(
        1,
        2,
        &[
            test("a", Passed, 1),
            test("b", Skipped, 0),
            test("c", Errored, 2),
        ],
    );
    let first = world.catalogue.tests(&filter(1)).unwrap();
    let names: Vec<&str> = first.tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!((names, first.next.as_deref()), (vec!["c", "a"], Some("2")));
    assert_eq!(first.tests[0].message.as_deref(), Some("because"));
    let totals = first.totals;
    assert_eq!((totals.tests, totals.passed, totals.errored), (3, 1, 1));
    assert_eq!(first.reports[0].warnings, ["b.xml: it is empty"]);
    let rest = TestFilter {
        skip: 2,
        ..filter(1)
    };
    let rest = world.catalogue.tests(&rest).unwrap();
    assert_eq!((rest.tests[0].name.as_str(), rest.next), ("b", None));
    let errored = TestFilter {
        outcome: Some(TestOutcome::Errored),
        ..filter(1)
    };
    assert_eq!(world.catalogue.tests(&errored).unwrap().tests.len(), 1);
    assert!(
        world
            .catalogue
            .tests(&filter(2))
            .unwrap()
            .reports
            .is_empty()
    );
}

#[test]
fn summaries_come_with_their_text() {
    let mut world = World::new();
    world.run(3, 1, &[]);
    let list = world.catalogue.summaries(3, 0, 20, Texts::With).unwrap();
    let summary = &list.summaries[0];
    assert_eq!((summary.text.as_deref(), summary.step), (Some("# Done"), 1));
    assert_eq!((summary.job_key.as_str(), list.next), ("test (a)", None));
}

/// All runs of `new_run` are of one commit.
#[test]
fn a_test_that_changes_its_mind_about_one_commit_is_flaky() {
    let mut world = World::new();
    let retried = v1::TestCase {
        flaky: true,
        failed_tries: 1,
        ..test("retried", Passed, 50)
    };
    let steady = |outcome| {
        [
            test("steady", Passed, 9),
            test("broken", Failed, 3),
            test("off", Skipped, 0),
            test("moody", outcome, 5),
        ]
    };
    world.run(1, 1, &steady(Failed));
    world.run(2, 1, &steady(Passed));
    world.run(3, 1, &[retried]);
    let named = |all: &[(&str, TestVerdict)]| -> Vec<(String, TestVerdict)> {
        all.iter()
            .map(|(name, verdict)| ((*name).to_owned(), *verdict))
            .collect()
    };
    let flaky = world.stats(TestOrder::Flaky, |filter| {
        filter.verdict = Some(TestVerdict::Flaky)
    });
    assert_eq!(
        flaky,
        named(&[
            ("moody", TestVerdict::Flaky),
            ("retried", TestVerdict::Flaky)
        ])
    );
    let slow = world.stats(TestOrder::Slowest, |filter| filter.limit = 2);
    assert_eq!(
        slow,
        named(&[
            ("retried", TestVerdict::Flaky),
            ("steady", TestVerdict::Passing)
        ])
    );
    let failing = world.stats(TestOrder::Failures, |filter| filter.limit = 1);
    assert_eq!(failing, named(&[("broken", TestVerdict::Failing)]));
    let found = world.stats(TestOrder::Failures, |filter| {
        filter.text = Some("of".to_owned())
    });
    assert_eq!(found, named(&[("off", TestVerdict::Skipped)]));
    let newest = world.stats(TestOrder::Failures, |filter| filter.runs = 1);
    assert_eq!(newest.len(), 1, "only the newest run counts");
    let other = world.stats(TestOrder::Failures, |filter| {
        filter.project = "other".to_owned()
    });
    assert!(other.is_empty());
}

#[test]
fn the_history_of_a_test_is_that_of_its_own_project() {
    let mut world = World::new();
    world.run(1, 1, &[test("a", Failed, 1)]);
    world.run(2, 1, &[test("a", Passed, 2)]);
    let id = world.catalogue.tests(&filter(2)).unwrap().tests[0].test;
    let history = world
        .catalogue
        .test_history("demo", id, 0, 1)
        .unwrap()
        .unwrap();
    assert_eq!((history.name.as_str(), history.results[0].run), ("a", 2));
    assert_eq!(history.results[0].commit.as_deref(), Some("c0ffee"));
    assert_eq!(history.next.as_deref(), Some("1"));
    let older = world
        .catalogue
        .test_history("demo", id, 1, 1)
        .unwrap()
        .unwrap();
    assert_eq!(older.results[0].message.as_deref(), Some("because"));
    assert!(
        world
            .catalogue
            .test_history("other", id, 0, 1)
            .unwrap()
            .is_none()
    );
}
