//! Reports that the programs of a job wrote: tests in `JUnit` XML.
//!
//! A report comes from a program that nobody here wrote and may be anything: [`junit`] gives what
//! it can make sense of and says in one line what it could not, and never fails a job. Every text
//! is masked while it is read, before it is cut, so no half of a secret stays.

pub mod junit;
mod text;
mod times;

use std::rc::Rc;

use rustci_pipeline::v1;
use rustci_pipeline::v1::TestOutcome;

use crate::limits::{REPORT_BYTES_MAX, REPORT_TESTS_MAX};
use crate::log::Patterns;

/// The tests of one job, as they come out of its files.
pub struct Report {
    patterns: Rc<Patterns>,
    tests: Vec<v1::TestCase>,
    /// Bytes of names and texts that are still to be had.
    room: usize,
    totals: Totals,
    left_out: u32,
}

/// What the tests add up to, those that were left out included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All tests.
    pub tests: u32,
    /// Tests that said no.
    pub failures: u32,
    /// Tests that could not be run to their end.
    pub errors: u32,
    /// Tests that were not run.
    pub skipped: u32,
    /// Tests that passed after failing.
    pub flaky: u32,
    /// Their times together, in microseconds.
    pub duration_us: u64,
}

impl Report {
    /// Without any tests yet. What is read is masked with `patterns`.
    #[must_use]
    pub fn new(patterns: Rc<Patterns>) -> Self {
        Self {
            patterns,
            tests: Vec::new(),
            room: REPORT_BYTES_MAX,
            totals: Totals::default(),
            left_out: 0,
        }
    }

    /// What the tests add up to.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Tests that are only counted, because there were too many or their texts too long.
    #[must_use]
    pub fn left_out(&self) -> u32 {
        self.left_out
    }

    /// The tests in the order of the files.
    #[must_use]
    pub fn tests(&self) -> &[v1::TestCase] {
        &self.tests
    }

    /// The report as it is stored.
    #[must_use]
    pub fn into_message(self) -> v1::TestReport {
        v1::TestReport { tests: self.tests }
    }

    fn patterns(&self) -> &Rc<Patterns> {
        &self.patterns
    }

    fn add(&mut self, mut test: v1::TestCase) {
        self.totals.add(&test);
        if test.outcome() == TestOutcome::Passed {
            test.output.clear();
        }
        if size(&test) > self.room {
            test.details.clear();
            test.output.clear();
        }
        if size(&test) > self.room || self.tests.len() >= REPORT_TESTS_MAX {
            self.left_out += 1;
            return;
        }
        self.room -= size(&test);
        self.tests.push(test);
    }
}

impl Totals {
    fn add(&mut self, test: &v1::TestCase) {
        self.tests += 1;
        match test.outcome() {
            TestOutcome::Failed => self.failures += 1,
            TestOutcome::Errored => self.errors += 1,
            TestOutcome::Skipped => self.skipped += 1,
            TestOutcome::Passed | TestOutcome::Unspecified => {}
        }
        self.flaky += u32::from(test.flaky);
        self.duration_us = self.duration_us.saturating_add(test.duration_us);
    }
}

fn size(test: &v1::TestCase) -> usize {
    [
        &test.suite,
        &test.class,
        &test.name,
        &test.file,
        &test.message,
        &test.details,
        &test.output,
    ]
    .into_iter()
    .map(String::len)
    .sum()
}
