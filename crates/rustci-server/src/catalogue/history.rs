//! How tests of a project came out from run to run.

use rusqlite::{OptionalExtension, params};

use crate::api::view::{
    HistoryEntry, TestHistory, TestOrder, TestOutcome, TestStats, TestStatsList, TestVerdict,
};
use crate::catalogue::query::collect;
use crate::catalogue::{Catalogue, CatalogueError};

/// Which tests of a project a list shows.
#[derive(Debug, Clone)]
pub struct HistoryFilter {
    /// The project.
    pub project: String,
    /// Only tests whose name, class or suite has this text.
    pub text: Option<String>,
    /// Only tests with this verdict.
    pub verdict: Option<TestVerdict>,
    /// What comes first.
    pub order: TestOrder,
    /// How many of the newest runs with tests count.
    pub runs: u32,
    /// Entries that the pages before had.
    pub skip: u64,
    /// At most so many.
    pub limit: u32,
}

/// One result, as much of it as statistics need.
struct Sample {
    test: i64,
    outcome: TestOutcome,
    duration_us: u64,
    flaky: bool,
    commit: Option<String>,
    run: u64,
    ended_ms: u64,
}

/// What the results of one test add up to. Results come by commit.
#[derive(Default)]
struct Tally {
    stats: TestStats,
    total_us: u64,
    commit: Option<String>,
    /// Of the commit that is being read: whether it passed, whether it failed.
    seen: (bool, bool),
}

impl Tally {
    fn take(&mut self, sample: &Sample) {
        if sample.commit.is_none() || sample.commit != self.commit {
            self.seen = (false, false);
            self.commit.clone_from(&sample.commit);
        }
        let stats = &mut self.stats;
        stats.results += 1;
        let (passed, failed) = &mut self.seen;
        let both = *passed && *failed;
        match sample.outcome {
            TestOutcome::Passed => (stats.passed, *passed) = (stats.passed + 1, true),
            TestOutcome::Failed | TestOutcome::Errored => {
                (stats.failed, *failed) = (stats.failed + 1, true);
                if stats.last_failure_run <= Some(sample.run) {
                    stats.last_failure_run = Some(sample.run);
                    stats.last_failure_ms = Some(sample.ended_ms);
                }
            }
            TestOutcome::Skipped => stats.skipped += 1,
        }
        let turned = *passed && *failed && !both && sample.commit.is_some();
        stats.flaky += u64::from(sample.flaky) + u64::from(turned);
        if stats.last_run <= sample.run {
            (stats.last_run, stats.last_outcome) = (sample.run, sample.outcome);
        }
        let ms = sample.duration_us as f64 / 1e3;
        stats.slowest_ms = stats.slowest_ms.max(ms);
        self.total_us = self.total_us.saturating_add(sample.duration_us);
    }

    fn finish(mut self) -> TestStats {
        let ran = self.stats.results.saturating_sub(self.stats.skipped).max(1);
        self.stats.mean_ms = self.total_us as f64 / 1e3 / ran as f64;
        self.stats
    }
}

impl TestStats {
    fn verdict(&self) -> TestVerdict {
        match (self.flaky, self.last_outcome) {
            (1.., _) => TestVerdict::Flaky,
            (0, TestOutcome::Failed | TestOutcome::Errored) => TestVerdict::Failing,
            (0, TestOutcome::Skipped) => TestVerdict::Skipped,
            (0, TestOutcome::Passed) => TestVerdict::Passing,
        }
    }
}

impl Catalogue {
    /// How the tests of a project came out in its newest runs.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn test_stats(&self, filter: &HistoryFilter) -> Result<TestStatsList, CatalogueError> {
        let mut all: Vec<TestStats> = Vec::new();
        let mut tally: Option<Tally> = None;
        self.samples(filter, |sample| {
            if tally
                .as_ref()
                .is_none_or(|tally| tally.stats.test != sample.test)
            {
                all.extend(tally.take().map(Tally::finish));
                tally = Some(Tally::default());
            }
            if let Some(tally) = &mut tally {
                tally.stats.test = sample.test;
                tally.take(&sample);
            }
        })?;
        all.extend(tally.map(Tally::finish));
        for stats in &mut all {
            stats.verdict = stats.verdict();
        }
        all.retain(|stats| {
            filter
                .verdict
                .is_none_or(|verdict| verdict == stats.verdict)
        });
        sort(&mut all, filter.order);
        let (skip, limit) = (place(filter.skip), place(filter.limit.into()));
        let has_more = all.len() > skip.saturating_add(limit);
        let mut tests: Vec<TestStats> = all.into_iter().skip(skip).take(limit).collect();
        for stats in &mut tests {
            self.name(stats)?;
        }
        let next = has_more.then(|| (filter.skip + u64::from(filter.limit)).to_string());
        Ok(TestStatsList { tests, next })
    }

    /// The results of one test, the newest first; `None` when the project has no such test.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn test_history(
        &self,
        project: &str,
        test: i64,
        skip: u64,
        limit: u32,
    ) -> Result<Option<TestHistory>, CatalogueError> {
        let mut stats = TestStats {
            test,
            ..TestStats::default()
        };
        if self.project_of(test)?.as_deref() != Some(project) {
            return Ok(None);
        }
        self.name(&mut stats)?;
        let sql = "SELECT run, job, attempt, outcome, duration_us, failed_tries, flaky, message,
            ended_ms, runs.git_commit, runs.git_branch
            FROM test_results JOIN runs ON runs.id = run WHERE test = ?1
            ORDER BY run DESC, attempt DESC, number LIMIT ?2 OFFSET ?3";
        let mut statement = self.connection().prepare_cached(sql)?;
        let values = params![
            test,
            i64::from(limit) + 1,
            i64::try_from(skip).unwrap_or(i64::MAX)
        ];
        let mut results = collect(statement.query_map(values, entry)?)?;
        let has_more = results.len() > place(limit.into());
        results.truncate(place(limit.into()));
        Ok(Some(TestHistory {
            test,
            job_key: stats.job_key,
            suite: stats.suite,
            class: stats.class,
            name: stats.name,
            results,
            next: has_more.then(|| (skip + u64::from(limit)).to_string()),
        }))
    }

    fn samples(
        &self,
        filter: &HistoryFilter,
        mut take: impl FnMut(Sample),
    ) -> Result<(), CatalogueError> {
        let sql = "SELECT test, outcome, duration_us, flaky, runs.git_commit, run, ended_ms
            FROM test_results JOIN runs ON runs.id = run
            WHERE run IN (SELECT id FROM runs WHERE project = ?1
                    AND EXISTS (SELECT 1 FROM reports WHERE reports.run = runs.id)
                    ORDER BY id DESC LIMIT ?2)
                AND (?3 IS NULL OR test IN (SELECT id FROM tests WHERE project = ?1
                    AND (instr(name, ?3) OR instr(class, ?3) OR instr(suite, ?3))))
            ORDER BY test, runs.git_commit, run, attempt";
        let mut statement = self.connection().prepare_cached(sql)?;
        let mut rows = statement.query(params![filter.project, filter.runs, filter.text])?;
        while let Some(row) = rows.next()? {
            take(Sample {
                test: row.get(0)?,
                outcome: TestOutcome::of(row.get_ref(1)?.as_str().unwrap_or_default()),
                duration_us: row.get(2)?,
                flaky: row.get(3)?,
                commit: row.get(4)?,
                run: row.get(5)?,
                ended_ms: row.get(6)?,
            });
        }
        Ok(())
    }

    fn project_of(&self, test: i64) -> Result<Option<String>, CatalogueError> {
        let mut statement = self
            .connection()
            .prepare_cached("SELECT project FROM tests WHERE id = ?1")?;
        Ok(statement.query_row([test], |row| row.get(0)).optional()?)
    }

    fn name(&self, stats: &mut TestStats) -> Result<(), CatalogueError> {
        let sql = "SELECT job_key, suite, class, name FROM tests WHERE id = ?1";
        let mut statement = self.connection().prepare_cached(sql)?;
        let names = statement.query_row([stats.test], |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
        })?;
        [stats.job_key, stats.suite, stats.class, stats.name] = names;
        Ok(())
    }
}

fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<HistoryEntry> {
    let us: u64 = row.get(4)?;
    let message: String = row.get(7)?;
    Ok(HistoryEntry {
        run: row.get(0)?,
        job: row.get(1)?,
        attempt: row.get(2)?,
        outcome: TestOutcome::of(row.get_ref(3)?.as_str().unwrap_or_default()),
        duration_ms: us as f64 / 1e3,
        failed_tries: row.get(5)?,
        flaky: row.get(6)?,
        message: Some(message).filter(|message| !message.is_empty()),
        ended_ms: row.get(8)?,
        commit: row.get(9)?,
        branch: row.get(10)?,
    })
}

/// Ties go by number, so that pages do not overlap.
fn sort(all: &mut [TestStats], order: TestOrder) {
    match order {
        TestOrder::Slowest => all.sort_by(|a, b| b.mean_ms.total_cmp(&a.mean_ms)),
        TestOrder::Flaky => all.sort_by_key(|stats| std::cmp::Reverse(stats.flaky)),
        TestOrder::Failures => all.sort_by_key(|stats| std::cmp::Reverse(stats.failed)),
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
