//! What jobs left for people: summaries of steps, and the tests of their reports.
//!
//! A test is the same from run to run when its job, class, suite and name are. The tables keep what
//! lists and histories need; the rest of a report stays in its blob.

use std::io::Read as _;

use prost::Message;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use rustci_pipeline::v1;
use rustci_pipeline::v1::TestOutcome as Outcome;

use crate::api::view::{
    ReportView, SummaryList, SummaryView, TestList, TestOutcome, TestTotals, TestView,
};
use crate::blobs::{BlobDigest, Blobs};
use crate::catalogue::query::collect;
use crate::catalogue::results::Finished;
use crate::catalogue::{Catalogue, CatalogueError};
use crate::limits::{REPORT_BLOB_BYTES_MAX, SUMMARY_PAGE_BYTES_MAX};

pub(super) const TABLES: &str = "
CREATE TABLE summaries (
    run INTEGER NOT NULL,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    digest BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (job, attempt, step)
) STRICT, WITHOUT ROWID;
CREATE INDEX summaries_by_run ON summaries (run, job, step);
CREATE TABLE reports (
    run INTEGER NOT NULL,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    digest BLOB NOT NULL,
    tests INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    warnings TEXT NOT NULL,
    PRIMARY KEY (job, attempt, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX reports_by_run ON reports (run);
CREATE TABLE tests (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    job_key TEXT NOT NULL,
    class TEXT NOT NULL,
    name TEXT NOT NULL,
    suite TEXT NOT NULL,
    UNIQUE (project, job_key, class, name, suite)
) STRICT;
CREATE TABLE test_results (
    run INTEGER NOT NULL,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    number INTEGER NOT NULL,
    test INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    duration_us INTEGER NOT NULL,
    failed_tries INTEGER NOT NULL,
    flaky INTEGER NOT NULL,
    file TEXT NOT NULL,
    line INTEGER NOT NULL,
    message TEXT NOT NULL,
    details TEXT NOT NULL,
    output TEXT NOT NULL,
    ended_ms INTEGER NOT NULL,
    PRIMARY KEY (job, attempt, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX test_results_by_run ON test_results (run, job, number);
CREATE INDEX test_results_by_test ON test_results (test, run);
";

/// Takes over what an attempt left; what an earlier telling of it brought is replaced.
pub(super) fn project(
    transaction: &Transaction<'_>,
    finished: &Finished,
    blobs: Option<&Blobs>,
) -> Result<(), CatalogueError> {
    for table in ["summaries", "reports", "test_results"] {
        transaction
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE job = ?1 AND attempt = ?2"
            ))?
            .execute(params![finished.job, finished.attempt])?;
    }
    for summary in &finished.result.summaries {
        add_summary(transaction, finished, summary)?;
    }
    let mut tests = 0;
    for (number, report) in (0_u32..).zip(&finished.result.reports) {
        add_report(transaction, finished, number, report)?;
        for test in read_tests(report, blobs) {
            add_test(transaction, finished, tests, &test)?;
            tests += 1;
        }
    }
    Ok(())
}

fn add_summary(
    transaction: &Transaction<'_>,
    finished: &Finished,
    summary: &v1::StoredSummary,
) -> Result<(), CatalogueError> {
    let sql = "INSERT OR REPLACE INTO summaries VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    transaction.prepare_cached(sql)?.execute(params![
        finished.run,
        finished.job,
        finished.attempt,
        summary.step,
        summary.digest,
        signed(summary.bytes),
    ])?;
    Ok(())
}

fn add_report(
    transaction: &Transaction<'_>,
    finished: &Finished,
    number: u32,
    report: &v1::StoredReport,
) -> Result<(), CatalogueError> {
    let sql = "INSERT INTO reports VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    transaction.prepare_cached(sql)?.execute(params![
        finished.run,
        finished.job,
        finished.attempt,
        number,
        report.kind,
        report.digest,
        report.tests,
        report.failures,
        report.errors,
        report.skipped,
        signed(report.duration_ms),
        serde_json::to_string(&report.warnings)?,
    ])?;
    Ok(())
}

/// The tests of a report. One whose blob is gone or damaged keeps its numbers.
fn read_tests(report: &v1::StoredReport, blobs: Option<&Blobs>) -> Vec<v1::TestCase> {
    let Some(bytes) = blobs.and_then(|blobs| read_blob(blobs, &report.digest)) else {
        return Vec::new();
    };
    v1::TestReport::decode(bytes.as_slice())
        .map(|report| report.tests)
        .unwrap_or_default()
}

fn read_blob(blobs: &Blobs, digest: &[u8]) -> Option<Vec<u8>> {
    let digest = BlobDigest::try_from(digest).ok()?;
    let file = blobs.read(digest).ok()??;
    let mut bytes = Vec::new();
    file.take(REPORT_BLOB_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    (BlobDigest::of(&bytes) == digest).then_some(bytes)
}

fn add_test(
    transaction: &Transaction<'_>,
    finished: &Finished,
    number: u32,
    test: &v1::TestCase,
) -> Result<(), CatalogueError> {
    let known = test_id(transaction, finished, test)?;
    let sql = "INSERT INTO test_results
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    transaction.prepare_cached(sql)?.execute(params![
        finished.run,
        finished.job,
        finished.attempt,
        number,
        known,
        outcome(test.outcome()).as_str(),
        signed(test.duration_us),
        test.failed_tries,
        test.flaky,
        test.file,
        test.line,
        test.message,
        test.details,
        test.output,
        signed(finished.ended_ms),
    ])?;
    Ok(())
}

/// Journals hold what runners said; SQLite has signed numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn outcome(outcome: Outcome) -> TestOutcome {
    match outcome {
        Outcome::Passed => TestOutcome::Passed,
        Outcome::Failed => TestOutcome::Failed,
        Outcome::Skipped => TestOutcome::Skipped,
        Outcome::Errored | Outcome::Unspecified => TestOutcome::Errored,
    }
}

fn test_id(
    transaction: &Transaction<'_>,
    finished: &Finished,
    test: &v1::TestCase,
) -> Result<i64, CatalogueError> {
    let key = params![
        finished.project,
        finished.job_key,
        test.class,
        test.name,
        test.suite
    ];
    let find = "SELECT id FROM tests WHERE project = ?1 AND job_key = ?2 AND class = ?3
        AND name = ?4 AND suite = ?5";
    let known = transaction.prepare_cached(find)?;
    let known = { known }.query_row(key, |row| row.get(0)).optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    let insert = "INSERT INTO tests (project, job_key, class, name, suite)
        VALUES (?1, ?2, ?3, ?4, ?5)";
    transaction.prepare_cached(insert)?.execute(key)?;
    Ok(transaction.last_insert_rowid())
}

/// Whether a list of summaries has their texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    /// It has, as many as fit a page.
    With,
    /// Only their lengths.
    Without,
}

/// Which tests of a run a list shows.
#[derive(Debug, Clone)]
pub struct TestFilter {
    /// The run.
    pub run: u64,
    /// Only tests that came to this.
    pub outcome: Option<TestOutcome>,
    /// Entries that the pages before had.
    pub skip: u64,
    /// At most so many.
    pub limit: u32,
}

/// Results of the newest attempt of each job; `?1` is the run.
const NEWEST: &str = "test_results.run = ?1 AND test_results.attempt = (SELECT max(attempt)
    FROM reports WHERE reports.job = test_results.job)";

impl Catalogue {
    /// What the steps of a run wrote for people, in the order of jobs and steps, of the newest
    /// attempt of each job.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn summaries(
        &self,
        run: u64,
        skip: u64,
        limit: u32,
        texts: Texts,
    ) -> Result<SummaryList, CatalogueError> {
        let sql = "SELECT summaries.job, jobs.key, attempt, step, digest, bytes
            FROM summaries JOIN jobs ON jobs.id = summaries.job
            WHERE summaries.run = ?1 AND attempt = (SELECT max(attempt) FROM summaries AS newer
                WHERE newer.job = summaries.job)
            ORDER BY summaries.job, step LIMIT ?2 OFFSET ?3";
        let mut statement = self.connection().prepare_cached(sql)?;
        let rows = statement.query_map(params![signed(run), limit + 1, signed(skip)], |row| {
            let digest: Vec<u8> = row.get(4)?;
            Ok((summary(row)?, digest))
        })?;
        let found = collect(rows)?;
        let blobs = self.blobs().filter(|_| texts == Texts::With);
        let (mut summaries, mut bytes) = (Vec::new(), 0);
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        for (mut summary, digest) in found.iter().take(wanted).cloned() {
            let text = blobs.as_ref().and_then(|blobs| read_blob(blobs, &digest));
            summary.text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
            bytes += summary.text.as_ref().map_or(0, |_| summary.bytes);
            if bytes > SUMMARY_PAGE_BYTES_MAX && !summaries.is_empty() {
                break;
            }
            summaries.push(summary);
        }
        let has_more = found.len() > summaries.len();
        let next = has_more.then(|| (skip + summaries.len() as u64).to_string());
        Ok(SummaryList { summaries, next })
    }

    /// The tests of a run, those that failed first, with what they add up to.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn tests(&self, filter: &TestFilter) -> Result<TestList, CatalogueError> {
        let sql = format!(
            "SELECT {TEST_COLUMNS} FROM test_results JOIN tests ON tests.id = test
             WHERE {NEWEST} AND (?2 IS NULL OR outcome = ?2)
             ORDER BY {ORDER}, test_results.job, number LIMIT ?3 OFFSET ?4"
        );
        let wanted = filter.outcome.map(TestOutcome::as_str);
        let mut statement = self.connection().prepare_cached(&sql)?;
        let values = params![
            signed(filter.run),
            wanted,
            i64::from(filter.limit) + 1,
            signed(filter.skip)
        ];
        let mut tests = collect(statement.query_map(values, test)?)?;
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let has_more = tests.len() > limit;
        tests.truncate(limit);
        let reports = self.reports(filter.run)?;
        let flaky = self.flaky(filter.run)?;
        Ok(TestList {
            totals: totals(&reports, flaky),
            next: has_more.then(|| (filter.skip + u64::from(filter.limit)).to_string()),
            tests,
            reports,
        })
    }

    fn reports(&self, run: u64) -> Result<Vec<ReportView>, CatalogueError> {
        let sql = "SELECT reports.job, jobs.key, attempt, kind, tests, failures, errors, skipped,
            reports.duration_ms, warnings FROM reports JOIN jobs ON jobs.id = reports.job
            WHERE reports.run = ?1 AND attempt = (SELECT max(attempt) FROM reports AS newer
                WHERE newer.job = reports.job) ORDER BY reports.job, number";
        let mut statement = self.connection().prepare_cached(sql)?;
        let rows = statement.query_map([signed(run)], |row| {
            Ok(ReportView {
                job: row.get(0)?,
                job_key: row.get(1)?,
                attempt: row.get(2)?,
                kind: row.get(3)?,
                tests: row.get(4)?,
                failed: row.get(5)?,
                errored: row.get(6)?,
                skipped: row.get(7)?,
                duration_ms: row.get(8)?,
                warnings: serde_json::from_str(row.get_ref(9)?.as_str()?).unwrap_or_default(),
            })
        })?;
        collect(rows)
    }

    fn flaky(&self, run: u64) -> Result<u64, CatalogueError> {
        let sql = format!("SELECT count(*) FROM test_results WHERE {NEWEST} AND flaky = 1");
        let mut statement = self.connection().prepare_cached(&sql)?;
        Ok(statement.query_row([signed(run)], |row| row.get(0))?)
    }
}

/// What is wrong comes first.
const ORDER: &str = "CASE outcome WHEN 'failed' THEN 0 WHEN 'errored' THEN 1
    WHEN 'skipped' THEN 3 ELSE 2 END";

pub(super) const TEST_COLUMNS: &str = "test_results.run, test_results.job, tests.job_key, attempt,
    test, suite, class, name, outcome, duration_us, failed_tries, flaky, file, line, message,
    details, output, ended_ms";

pub(super) fn test(row: &Row<'_>) -> rusqlite::Result<TestView> {
    let text = |at: usize| row.get::<_, Option<String>>(at);
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let us: u64 = row.get(9)?;
    Ok(TestView {
        run: row.get(0)?,
        job: row.get(1)?,
        job_key: row.get(2)?,
        attempt: row.get(3)?,
        test: row.get(4)?,
        suite: row.get(5)?,
        class: row.get(6)?,
        name: row.get(7)?,
        outcome: TestOutcome::of(row.get_ref(8)?.as_str()?),
        duration_ms: us as f64 / 1e3,
        failed_tries: row.get(10)?,
        flaky: row.get(11)?,
        file: some(text(12)?),
        line: row
            .get::<_, u32>(13)
            .map(|line| Some(line).filter(|line| *line > 0))?,
        message: some(text(14)?),
        details: some(text(15)?),
        output: some(text(16)?),
        ended_ms: row.get(17)?,
    })
}

fn summary(row: &Row<'_>) -> rusqlite::Result<SummaryView> {
    Ok(SummaryView {
        job: row.get(0)?,
        job_key: row.get(1)?,
        attempt: row.get(2)?,
        step: row.get(3)?,
        bytes: row.get(5)?,
        text: None,
    })
}

fn totals(reports: &[ReportView], flaky: u64) -> TestTotals {
    let sum = |number: fn(&ReportView) -> u64| reports.iter().map(number).sum();
    let tests = sum(|report| report.tests);
    let [failed, errored, skipped] = [
        sum(|report| report.failed),
        sum(|report| report.errored),
        sum(|report| report.skipped),
    ];
    TestTotals {
        tests,
        passed: tests.saturating_sub(failed + errored + skipped),
        failed,
        errored,
        skipped,
        flaky,
        duration_ms: sum(|report| report.duration_ms),
    }
}
