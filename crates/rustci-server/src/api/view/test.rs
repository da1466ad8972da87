//! What the API says of tests and of summaries.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a test came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestOutcome {
    /// It said yes.
    #[default]
    Passed,
    /// It said no.
    Failed,
    /// It could not be run to its end.
    Errored,
    /// It was not run.
    Skipped,
}

impl TestOutcome {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Errored => "errored",
            Self::Skipped => "skipped",
        }
    }

    /// The outcome with this word.
    pub(crate) fn of(word: &str) -> Self {
        match word {
            "passed" => Self::Passed,
            "failed" => Self::Failed,
            "skipped" => Self::Skipped,
            _ => Self::Errored,
        }
    }
}

/// A test of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestView {
    /// The run.
    pub run: u64,
    /// The job that ran it.
    pub job: u64,
    /// That job's key.
    pub job_key: String,
    /// The attempt of the job.
    pub attempt: u32,
    /// Number of the test in its project, the same in every run.
    pub test: i64,
    /// Names of the suites around it.
    pub suite: String,
    /// Its class; may be empty.
    pub class: String,
    /// Its name.
    pub name: String,
    /// How it came out.
    pub outcome: TestOutcome,
    /// How long it took.
    pub duration_ms: f64,
    /// Tries that failed, beside the one that counts.
    pub failed_tries: u32,
    /// It passed after tries that failed.
    pub flaky: bool,
    /// Where it is written.
    pub file: Option<String>,
    /// The line there.
    pub line: Option<u32>,
    /// Why it failed or was skipped, in one line.
    pub message: Option<String>,
    /// What its failures said.
    pub details: Option<String>,
    /// What it printed; only of tests that did not pass.
    pub output: Option<String>,
    /// When its job ended.
    pub ended_ms: u64,
}

/// What tests add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestTotals {
    /// All tests.
    pub tests: u64,
    /// Those that passed.
    pub passed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that could not be run to their end.
    pub errored: u64,
    /// Those that were not run.
    pub skipped: u64,
    /// Those that passed after failing.
    pub flaky: u64,
    /// Their times together.
    pub duration_ms: u64,
}

/// A report of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportView {
    /// The job.
    pub job: u64,
    /// Its key.
    pub job_key: String,
    /// The attempt of the job.
    pub attempt: u32,
    /// `junit`.
    pub kind: String,
    /// All tests.
    pub tests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that could not be run to their end.
    pub errored: u64,
    /// Those that were not run.
    pub skipped: u64,
    /// Their times together.
    pub duration_ms: u64,
    /// What could not be read, one line each.
    pub warnings: Vec<String>,
}

/// A page of the tests of a run, those that failed first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestList {
    /// What all tests of the run add up to.
    pub totals: TestTotals,
    /// The reports they come from.
    pub reports: Vec<ReportView>,
    /// The tests.
    pub tests: Vec<TestView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// Markdown that a step wrote for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SummaryView {
    /// The job.
    pub job: u64,
    /// Its key.
    pub job_key: String,
    /// The attempt of the job.
    pub attempt: u32,
    /// Place of the step, from 0.
    pub step: u32,
    /// Length of the text.
    pub bytes: u64,
    /// The Markdown, secrets masked; `null` when the server does not have it any more.
    pub text: Option<String>,
}

/// A page of the summaries of a run, in the order of jobs and steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SummaryList {
    /// The summaries.
    pub summaries: Vec<SummaryView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// What to think of a test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestVerdict {
    /// It passed the last time, and always for the same commit.
    #[default]
    Passing,
    /// It failed the last time.
    Failing,
    /// It passed and failed for one commit, or passed after failing.
    Flaky,
    /// It was not run the last time.
    Skipped,
}

/// What comes first in a list of tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestOrder {
    /// The most failures.
    #[default]
    Failures,
    /// The longest mean time.
    Slowest,
    /// The most changes of mind.
    Flaky,
}

/// How a test came out in the newest runs of its project.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestStats {
    /// Number of the test in its project.
    pub test: i64,
    /// Key of the job that runs it.
    pub job_key: String,
    /// Names of the suites around it.
    pub suite: String,
    /// Its class; may be empty.
    pub class: String,
    /// Its name.
    pub name: String,
    /// What to think of it.
    pub verdict: TestVerdict,
    /// Results counted.
    pub results: u64,
    /// Those that passed.
    pub passed: u64,
    /// Those that failed or broke off.
    pub failed: u64,
    /// Those that were not run.
    pub skipped: u64,
    /// How often it passed after failing, in one job or for one commit.
    pub flaky: u64,
    /// Mean time of the results that ran.
    pub mean_ms: f64,
    /// The longest time.
    pub slowest_ms: f64,
    /// The newest run that has it.
    pub last_run: u64,
    /// How it came out there.
    pub last_outcome: TestOutcome,
    /// The newest run in which it failed.
    pub last_failure_run: Option<u64>,
    /// When that was.
    pub last_failure_ms: Option<u64>,
}

/// A page of the tests of a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestStatsList {
    /// The tests.
    pub tests: Vec<TestStats>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// One result of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    /// The run.
    pub run: u64,
    /// The job.
    pub job: u64,
    /// The attempt of the job.
    pub attempt: u32,
    /// How it came out.
    pub outcome: TestOutcome,
    /// How long it took.
    pub duration_ms: f64,
    /// Tries that failed, beside the one that counts.
    pub failed_tries: u32,
    /// It passed after tries that failed.
    pub flaky: bool,
    /// Why it failed or was skipped, in one line.
    pub message: Option<String>,
    /// When its job ended.
    pub ended_ms: u64,
    /// The commit that was tested.
    pub commit: Option<String>,
    /// Its branch.
    pub branch: Option<String>,
}

/// The results of one test, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestHistory {
    /// Number of the test in its project.
    pub test: i64,
    /// Key of the job that runs it.
    pub job_key: String,
    /// Names of the suites around it.
    pub suite: String,
    /// Its class; may be empty.
    pub class: String,
    /// Its name.
    pub name: String,
    /// A page of results.
    pub results: Vec<HistoryEntry>,
    /// The cursor of the next page.
    pub next: Option<String>,
}
