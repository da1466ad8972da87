//! What the API says, as types: written by the server, read by the CLI.
//!
//! Times are Unix milliseconds. A field that is not known yet is `null`.

mod again;
mod artifact;
mod explain;
mod operations;
mod pipeline;
mod queue;
mod secret;
mod test;

use std::collections::BTreeMap;

use rustci_pipeline::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub use again::{AnswerRequest, RerunRequest};
pub use artifact::{ArtifactFiles, ArtifactList, ArtifactView, CacheList, CacheView, FileView};
pub(crate) use explain::recorded as explain_recorded;
pub use explain::{Details, Explanation, JobExplanation, Nearest};
pub use operations::StateView;
pub use pipeline::{
    NewPipeline, NewTrigger, PipelineList, PipelineSource, PipelineView, ScheduleView,
};
pub use queue::{
    ClassView, NewQuota, ProjectLoad, QueueState, QueueView, QueuedJob, QuotaList, QuotaView,
    RunnerElsewhere, RunnerList, RunnerState, RunnerView,
};
pub use secret::{NewSecret, Rekeyed, SecretList, SecretView};
pub use test::{
    HistoryEntry, ReportView, SummaryList, SummaryView, TestHistory, TestList, TestOrder,
    TestOutcome, TestStats, TestStatsList, TestTotals, TestVerdict, TestView,
};

/// Where a run, a job, an attempt or a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A job that waits for other jobs of its run.
    Blocked,
    /// Not begun: a job waits for a runner, a run for the first of its jobs.
    Queued,
    /// Under way.
    Running,
    /// Over.
    Finished,
}

impl Status {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
        }
    }
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// It did what it should.
    Success,
    /// The user's commands said no.
    Failure,
    /// RustCI could not do its part.
    Error,
    /// A signal from outside ended it.
    Killed,
    /// Somebody cancelled it.
    Canceled,
    /// Its condition, or a job it needs, kept it from running.
    Skipped,
    /// It waits for an approval that was not given.
    Blocked,
    /// An approval was refused.
    Declined,
    /// Its time was up.
    TimedOut,
}

impl Conclusion {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Killed => "killed",
            Self::Canceled => "canceled",
            Self::Skipped => "skipped",
            Self::Blocked => "blocked",
            Self::Declined => "declined",
            Self::TimedOut => "timed_out",
        }
    }
}

/// What started a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// `manual`, `push`, ...
    pub name: String,
}

/// What a run was started for, as far as whoever started it said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GitView {
    /// `refs/heads/main`, `refs/tags/v1`, ...
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// Name of the branch.
    pub branch: Option<String>,
    /// Full commit id.
    pub commit: Option<String>,
}

/// How soon a run gets runners, compared with others.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After everything else.
    Low,
    /// In its turn.
    #[default]
    Normal,
    /// Before what is normal.
    High,
    /// Before everything else.
    Critical,
}

impl Priority {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// An agreement that a job waits for, or waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    /// Where the job acts.
    pub environment: String,
    /// Who is asked; empty means anybody.
    #[serde(default)]
    pub from: Vec<String>,
    /// Since when it waits.
    pub asked_ms: u64,
    /// When it ends as blocked.
    pub until_ms: u64,
    /// What was answered.
    #[serde(default)]
    pub answer: Option<AnswerView>,
}

/// The answer to a question for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnswerView {
    /// Whether the job may run.
    pub approved: bool,
    /// Who answered, as they called themselves.
    pub by: String,
    /// What they said.
    pub comment: String,
    /// When.
    pub at_ms: u64,
}

/// A run without its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// Its number, from 1.
    pub id: u64,
    /// The project it belongs to.
    pub project: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Path of the pipeline file.
    pub file: String,
    /// Where it is.
    pub status: Status,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// SHA-256 of the plan, 64 hex digits.
    pub digest: String,
    /// What started it.
    pub event: EventView,
    /// The commit it was started for.
    #[serde(default)]
    pub git: GitView,
    /// How soon it gets runners, compared with others.
    #[serde(default)]
    pub priority: Priority,
    /// The run that it repeats.
    #[serde(default)]
    pub rerun_of: Option<u64>,
    /// When it was accepted.
    pub created_ms: u64,
    /// When its first job started.
    pub started_ms: Option<u64>,
    /// When its last job ended.
    pub finished_ms: Option<u64>,
}

/// A run with everything in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// Its number, from 1.
    pub id: u64,
    /// The project it belongs to.
    pub project: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Path of the pipeline file.
    pub file: String,
    /// Where it is.
    pub status: Status,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// SHA-256 of the plan, 64 hex digits.
    pub digest: String,
    /// What started it.
    pub event: EventView,
    /// The commit it was started for.
    #[serde(default)]
    pub git: GitView,
    /// How soon it gets runners, compared with others.
    #[serde(default)]
    pub priority: Priority,
    /// The run that it repeats.
    #[serde(default)]
    pub rerun_of: Option<u64>,
    /// When it was accepted.
    pub created_ms: u64,
    /// When its first job started.
    pub started_ms: Option<u64>,
    /// When its last job ended.
    pub finished_ms: Option<u64>,
    /// Its jobs in the order of the plan.
    pub jobs: Vec<JobView>,
}

impl RunSummary {
    /// The same run with its jobs.
    #[must_use]
    pub fn with_jobs(self, jobs: Vec<JobView>) -> RunView {
        RunView {
            id: self.id,
            project: self.project,
            pipeline: self.pipeline,
            file: self.file,
            status: self.status,
            conclusion: self.conclusion,
            digest: self.digest,
            event: self.event,
            git: self.git,
            priority: self.priority,
            rerun_of: self.rerun_of,
            created_ms: self.created_ms,
            started_ms: self.started_ms,
            finished_ms: self.finished_ms,
            jobs,
        }
    }
}

/// One job of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its number, unique on the server.
    pub id: u64,
    /// Unique in the run, with matrix values: `test (stable, sqlite)`.
    pub key: String,
    /// The id in the pipeline file: `test`.
    pub job_id: String,
    /// For people.
    pub name: String,
    /// Ids of the jobs it waits for.
    pub needs: Vec<String>,
    /// Where it is.
    pub status: Status,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// It failed and was allowed to, by its `continue-on-error`.
    #[serde(default)]
    pub allowed: bool,
    /// Why it waits, or why it ended as it did; one line for people.
    pub reason: Option<String>,
    /// The agreement that it waits for, or waited for.
    #[serde(default)]
    pub approval: Option<ApprovalView>,
    /// The run in which it really ran, where a rerun took it over.
    #[serde(default)]
    pub carried_from: Option<u64>,
    /// Its attempts, the first one first.
    pub attempts: Vec<AttemptView>,
    /// Its steps as they are in the newest attempt.
    pub steps: Vec<StepView>,
    /// What it handed on; values of secrets are masked.
    pub outputs: BTreeMap<String, String>,
    /// When it became ready to run.
    pub queued_ms: Option<u64>,
    /// When its newest attempt started.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
}

/// One try of a job on one runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// From 1.
    pub number: u32,
    /// Name of the runner.
    pub runner: String,
    /// Where it is.
    pub status: Status,
    /// Why it ended, as a word: `success`, `failure`, `runner_lost`, ...
    pub cause: Option<String>,
    /// When the runner started it.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
    /// Length of its log; 0 until it is over.
    pub log_bytes: u64,
}

/// One step of the newest attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// From 0.
    pub index: u32,
    /// For people.
    pub name: String,
    /// Where it is.
    pub status: Status,
    /// How it ended, after `continue-on-error`.
    pub conclusion: Option<Conclusion>,
    /// Exit code of its process.
    pub exit_code: Option<i32>,
    /// When it started.
    pub started_ms: Option<u64>,
    /// How long it ran.
    pub duration_ms: Option<u64>,
    /// One line for people, empty when there is nothing to say.
    pub message: String,
    /// How often it was tried.
    pub tries: u32,
    /// The group of the job whose steps run at the same time; absent for a step that runs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
}

impl StepView {
    /// A step that was not begun.
    #[must_use]
    pub fn queued(index: u32, name: String) -> Self {
        Self {
            index,
            name,
            status: Status::Queued,
            conclusion: None,
            exit_code: None,
            started_ms: None,
            duration_ms: None,
            message: String::new(),
            tries: 0,
            parallel: None,
        }
    }
}

/// Answer of `GET /api/v1/runs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunList {
    /// Newest first.
    pub runs: Vec<RunSummary>,
    /// Cursor of the next page; none on the last.
    pub next: Option<String>,
}

/// Answer of `POST /api/v1/runs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunCreated {
    /// The run, durable.
    pub run: RunView,
}

/// One line of `GET .../log`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Offset of the record in the log.
    pub offset: u64,
    /// Offset behind it: where to go on.
    pub next: u64,
    /// When the line was read from the process, in Unix nanoseconds.
    pub unix_ns: u64,
    /// The step it belongs to, from 0; none for the job itself.
    pub step: Option<u16>,
    /// `stdout`, `stderr`, `system` or `command`.
    pub channel: String,
    /// The text without its newline; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether the line goes on in the next record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

/// One event of `GET .../events`. The event's name is that of the variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunEvent {
    /// The run changed.
    Run {
        /// Its new state.
        run: RunSummary,
    },
    /// A job changed: it, one of its attempts, or one of its steps.
    Job {
        /// Its new state.
        job: JobView,
    },
    /// A step of a job changed.
    Step {
        /// The job's number.
        job: u64,
        /// Number of the attempt.
        attempt: u32,
        /// The step's new state.
        step: StepView,
    },
    /// The run has ended and nothing will follow.
    End {
        /// How it ended.
        conclusion: Conclusion,
    },
}

impl RunEvent {
    /// The event's name on the stream.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run { .. } => "run",
            Self::Job { .. } => "job",
            Self::Step { .. } => "step",
            Self::End { .. } => "end",
        }
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamEvent {
    /// What kind it is; the description of the route lists them.
    pub event: Option<String>,
    /// JSON.
    pub data: Option<String>,
    /// Where to go on: the client sends it back in `Last-Event-ID`.
    pub id: Option<String>,
    /// Milliseconds to wait before coming back.
    pub retry: Option<u32>,
}

/// Body of `POST /api/v1/runs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// What to run.
    pub pipeline: PipelineText,
    /// What happened: an object with a `name`, which is `manual`, `push`, `pull_request`, `tag` or
    /// `cron`; `manual` without it.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub event: Map<String, Value>,
    /// Values for the inputs of a manual run.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub inputs: Map<String, Value>,
    /// Where the job's workspace comes from; none for an empty one.
    #[serde(default)]
    pub source: Option<NewSource>,
    /// The project; names the run in lists.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$"
    )]
    pub project: String,
    /// Environment of every job, over the pipeline's own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The `git` context: `ref`, `branch`, `commit`, ...
    #[serde(default)]
    #[schema(value_type = Object)]
    pub git: Map<String, Value>,
    /// Ids or keys: only these jobs and the jobs they need. Empty means all.
    #[serde(default)]
    pub jobs: Vec<String>,
    /// How soon it gets runners, compared with other runs of the project.
    #[serde(default)]
    pub priority: Priority,
}

/// A pipeline file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineText {
    /// Its path in the project, without `..`: for names and diagnostics.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$"
    )]
    pub file: String,
    /// What is in it.
    pub text: String,
    /// The texts of the files that it includes, by their paths from the project's root.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub includes: BTreeMap<String, String>,
}

/// Where the files of a workspace come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NewSource {
    /// A tar archive that was uploaded as a blob.
    Snapshot {
        /// BLAKE3 of the archive, 64 hex digits.
        #[schema(pattern = "^[0-9a-f]{64}$")]
        digest: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A commit the runner fetches.
    Git {
        /// Where from.
        url: String,
        /// Full commit id.
        #[schema(pattern = "^([0-9a-fA-F]{40}|[0-9a-fA-F]{64})$")]
        commit: String,
        /// Ref it was found on; empty when unknown.
        #[serde(rename = "ref", default)]
        reference: String,
    },
}

/// Answer of `/livez`, `/startupz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// `ok`, `started` or `ready`.
    pub status: String,
    /// The parts that were asked, each with `ok`; a store that is left alone with why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, String>,
}

/// Answer of `/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// `rustci`.
    pub name: String,
    /// The version.
    pub version: String,
}

/// An error as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:rustci:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem it is.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What exactly went wrong.
    pub detail: String,
    /// Stable word to match on; listed in `docs/api.md`.
    pub code: String,
    /// What to do.
    pub hint: String,
    /// All findings in a pipeline file; only with code `invalid_pipeline`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = crate::api::document::diagnostics)]
    pub diagnostics: Vec<Diagnostic>,
    /// The request, as the server's log names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}
