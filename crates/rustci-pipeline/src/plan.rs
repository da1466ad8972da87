//! The plan: what a pipeline file comes down to, for every dialect the same.
//!
//! A plan knows neither the event nor the inputs nor any secret value. Its strings may still hold
//! `${{ }}`: the scheduler evaluates what belongs to a job (`condition`, `runs_on`,
//! `continue_on_error`) once the needs have ended, the runner what belongs to a step.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::canonical;

/// The version of the stored plan format that this code writes.
pub const PLAN_VERSION: u32 = 1;

/// A pipeline ready to be run: jobs, edges, conditions. A stored format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`] of the writer.
    pub version: u32,
    /// The pipeline's name; the file's stem when the file gives none.
    pub name: String,
    /// Path of the file in its repository.
    pub file: String,
    /// Environment of every job; values are templates.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The slot that a whole run of it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// In the order of the file, the instances of a matrix next to each other.
    pub jobs: Vec<Job>,
}

/// One job, or one instance of a matrix job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Unique in the plan: the id, with matrix values in brackets: `test (stable, sqlite)`.
    pub key: String,
    /// The id in the file; the instances of a matrix share it.
    pub id: String,
    /// For people; a template.
    pub name: String,
    /// The instance's matrix values; empty without a matrix.
    #[serde(default)]
    pub matrix: Map<String, Value>,
    /// The matrix this is an instance of.
    #[serde(default)]
    pub group: Option<MatrixGroup>,
    /// Ids of jobs that have to end first; the id of a matrix means all its instances.
    #[serde(default)]
    pub needs: Vec<String>,
    /// A bare expression; none means `success()`.
    #[serde(default)]
    pub condition: Option<String>,
    /// The labels a runner needs.
    #[serde(default)]
    pub runs_on: RunsOn,
    /// Environment of every step, over the plan's; values are templates.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Environment name to secret name.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Output name to a template over `steps`.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// Limit of one attempt, never 0.
    pub timeout_ms: u64,
    /// Further attempts on other leases.
    #[serde(default)]
    pub retry: Retry,
    /// `true`, `false` or a bare expression; see [`condition::flag`](crate::condition::flag).
    pub continue_on_error: String,
    /// A matrix that is known only when the needs have ended; see [`DynamicMatrix`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<DynamicMatrix>,
    /// The slot that the job holds while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Where it acts, and who has to agree first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// What the job's token may do: scope to access. Empty means nothing but reading the source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, Access>,
    /// Whether the workspace begins with the source.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub checkout: bool,
    /// Directories kept between runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<Cache>,
    /// Artifacts of jobs it needs, put into the workspace before the first step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub downloads: Vec<Download>,
    /// Files kept after the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// Files read as reports after the last step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<Report>,
    /// At least one.
    pub steps: Vec<Step>,
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_yes(value: &bool) -> bool {
    *value
}

/// A slot that one holder has at a time, by name, in one project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// The slot's name; a template.
    pub group: String,
    /// `true`, `false` or a bare expression: whether a newcomer cancels who holds or waits.
    pub cancel_in_progress: String,
    /// How many wait at most; the oldest one that waits is canceled for a newcomer. None means no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
}

/// A matrix whose axes or instances come from an output of another job.
///
/// The job stands in the plan once, under its id; when its needs have ended
/// [`expand`](crate::expand) makes the instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicMatrix {
    /// A bare expression, such as `fromJSON(needs.plan.outputs.matrix)`. Its value is a mapping of
    /// axes to lists, with `include` and `exclude`, or a list of mappings (the instances).
    pub matrix: String,
    /// Whether the first failure cancels the others.
    pub fail_fast: bool,
    /// How many instances run at once; none means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
}

/// Where a job acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// `production`; a template.
    pub name: String,
    /// Who has to agree before the job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// An agreement that a job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Names of people or `team/NAME`; empty means anybody who may approve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// How long it waits; then the job ends as blocked.
    pub timeout_ms: u64,
}

/// What a token may do in one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Access {
    /// Nothing.
    None,
    /// Look.
    Read,
    /// Change.
    Write,
}

/// When something is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum When {
    /// The steps succeeded.
    #[default]
    Success,
    /// They did not.
    Failure,
    /// However they ended, unless the job was canceled.
    Always,
}

/// Directories that a later run finds again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// A template with the runner's contexts: `cargo-${{ hashFiles('Cargo.lock') }}`.
    pub key: String,
    /// Beginnings of other keys, tried in order; the newest entry wins. Templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore_keys: Vec<String>,
    /// Files or directories in the workspace, or under `~/`.
    pub paths: Vec<String>,
    /// Whether it is restored, saved, or both.
    #[serde(default)]
    pub policy: CachePolicy,
    /// When it is saved.
    #[serde(default)]
    pub when: When,
}

/// What happens to a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CachePolicy {
    /// Restored before the steps, saved after them when the key was not hit.
    #[default]
    PullPush,
    /// Restored only.
    Pull,
    /// Saved only.
    Push,
}

/// Files kept after a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Unique in the run; a template.
    pub name: String,
    /// Patterns in the workspace; `!` in front takes away.
    pub paths: Vec<String>,
    /// When it is kept.
    #[serde(default)]
    pub when: When,
    /// How long it is kept; none means the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_ms: Option<u64>,
    /// What to do when no file fits.
    #[serde(default)]
    pub if_missing: IfMissing,
}

/// What to do when no file fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IfMissing {
    /// A line in the log.
    #[default]
    Warn,
    /// The job fails.
    Error,
    /// Nothing.
    Ignore,
}

/// An artifact of a job before this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// The artifact's name; a template.
    pub name: String,
    /// Where in the workspace; empty means the workspace itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// Files read as reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Their format.
    pub kind: ReportKind,
    /// Patterns in the workspace.
    pub paths: Vec<String>,
}

/// Formats of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReportKind {
    /// `JUnit` XML, and what calls itself that.
    Junit,
}

impl Default for Job {
    /// A job without steps that begins with the source and may take an hour.
    fn default() -> Self {
        Self {
            key: String::new(),
            id: String::new(),
            name: String::new(),
            matrix: Map::new(),
            group: None,
            needs: Vec::new(),
            condition: None,
            runs_on: RunsOn::default(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            outputs: BTreeMap::new(),
            timeout_ms: 3_600_000,
            retry: Retry::default(),
            continue_on_error: "false".to_owned(),
            dynamic: None,
            concurrency: None,
            environment: None,
            permissions: BTreeMap::new(),
            checkout: true,
            caches: Vec::new(),
            downloads: Vec::new(),
            artifacts: Vec::new(),
            reports: Vec::new(),
            steps: Vec::new(),
        }
    }
}

/// One command line or script of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the job; empty when the file gives none.
    #[serde(default)]
    pub id: String,
    /// For people; a template. The first line of `run` when the file gives none.
    pub name: String,
    /// The script; a template.
    pub run: String,
    /// `bash`, `sh`, `python`, or a command line with `{0}`; empty means the default.
    #[serde(default)]
    pub shell: String,
    /// A template relative to the workspace; empty means the workspace.
    #[serde(default)]
    pub working_directory: String,
    /// Over the job's; values are templates.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// A bare expression; none means `success()`.
    #[serde(default)]
    pub condition: Option<String>,
    /// Limit of one try; none means that only the job's limit holds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// `true`, `false` or a bare expression.
    pub continue_on_error: String,
    /// Further tries on the same runner.
    #[serde(default)]
    pub retry: Retry,
    /// Steps next to each other with the same number start together, and the step behind them when
    /// all of them have ended. None for a step that runs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
}

/// What the instances of one matrix share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixGroup {
    /// The job's id in the file.
    pub id: String,
    /// Whether the first failure cancels the others.
    pub fail_fast: bool,
    /// How many instances run at once; none means no limit.
    #[serde(default)]
    pub max_parallel: Option<u32>,
}

/// Labels a runner must have: all of `all`, and one of `any` unless that is empty.
///
/// Labels are templates until the scheduler evaluates them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsOn {
    /// Every one is needed.
    #[serde(default)]
    pub all: Vec<String>,
    /// One is enough.
    #[serde(default)]
    pub any: Vec<String>,
}

/// How often, and after what, something is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Further tries after the first; 0 means none.
    pub max: u32,
    /// What is tried again; empty means any failure.
    #[serde(default)]
    pub on: Vec<RetryOn>,
}

/// A reason for another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RetryOn {
    /// A step ended with any code but 0.
    Failure,
    /// RustCI could not do its part.
    Error,
    /// The runner went away.
    RunnerLost,
    /// The time was up.
    Timeout,
    /// A signal from outside ended it.
    Killed,
    /// An image could not be fetched.
    ImagePull,
    /// A step ended with this code.
    ExitCode(i32),
}

/// What runs the steps of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Executor {
    /// Processes on the runner's machine.
    #[default]
    Native,
    /// No processes: results come from the environment, for tests.
    Dummy,
}

impl Executor {
    /// The name on the wire and in labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Dummy => "dummy",
        }
    }
}

impl Job {
    /// The steps in the order in which they start: those of a group together, every other one alone.
    pub fn together(&self) -> impl Iterator<Item = &[Step]> {
        let beside =
            |one: &Step, next: &Step| one.parallel.is_some() && one.parallel == next.parallel;
        self.steps.chunk_by(beside)
    }

    /// The executor asked for by a label `executor=NAME`; native when there is none.
    #[must_use]
    pub fn executor(&self) -> Executor {
        let labels = self.runs_on.all.iter().chain(&self.runs_on.any);
        let dummy = labels
            .into_iter()
            .any(|label| label.eq_ignore_ascii_case("executor=dummy"));
        if dummy {
            Executor::Dummy
        } else {
            Executor::Native
        }
    }
}

impl Plan {
    /// The plan as RFC 8785 JSON: the same bytes for the same plan, everywhere.
    #[must_use]
    pub fn to_canonical_json(&self) -> String {
        canonical::to_string(&serde_json::to_value(self).unwrap_or(Value::Null))
    }

    /// Reads what [`to_canonical_json`](Self::to_canonical_json) wrote.
    ///
    /// # Errors
    /// [`PlanError`] when the text is not a plan, or one of a newer version.
    pub fn from_json(text: &str) -> Result<Self, PlanError> {
        let plan: Self = serde_json::from_str(text)?;
        if plan.version > PLAN_VERSION {
            return Err(PlanError::Version {
                found: plan.version,
            });
        }
        Ok(plan)
    }

    /// SHA-256 of [`to_canonical_json`](Self::to_canonical_json).
    #[must_use]
    pub fn digest(&self) -> PlanDigest {
        PlanDigest(Sha256::digest(self.to_canonical_json()).into())
    }
}

/// Why a stored plan cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The bytes are damaged, or were never a plan.
    #[error("stored plan is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a newer program.
    #[error("stored plan has version {found}, this program knows up to {PLAN_VERSION}; update it")]
    Version {
        /// The version found.
        found: u32,
    },
}

/// SHA-256 of a plan's canonical form. Shows as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlanDigest(pub [u8; 32]);

impl fmt::Display for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlanDigest({self})")
    }
}
