//! The queue, quotas and runners.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Priority;

/// The queue in figures, and a page of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// No job is handed out.
    pub paused: bool,
    /// Jobs that wait for a runner.
    pub queued: u64,
    /// Jobs that runners have.
    pub running: u64,
    /// Since when the job waits for a runner that does so longest.
    pub oldest_ms: Option<u64>,
    /// How many jobs wait for what: `capacity`, `no_suitable_runner`, `quota`, `needs`, ...
    pub reasons: BTreeMap<String, u64>,
    /// Queued jobs by what their runner must have, at most 100, the most first.
    pub classes: Vec<ClassView>,
    /// Projects with open jobs, at most 100, those with the most queued jobs first.
    pub projects: Vec<ProjectLoad>,
    /// Jobs that wait for a runner, by priority and age. Between projects the fair share decides.
    pub jobs: Vec<QueuedJob>,
    /// Cursor of the next page; none on the last.
    pub next: Option<String>,
}

/// Queued jobs with the same requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassView {
    /// Labels a runner must have, all of them.
    pub all: Vec<String>,
    /// Labels of which it must have one.
    pub any: Vec<String>,
    /// Jobs that wait.
    pub queued: u64,
    /// Connected runners that suit.
    pub runners: u64,
    /// Jobs that these run at once.
    pub slots: u64,
    /// Jobs that they would take now.
    pub free: u64,
}

/// What a project has, and what holds for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectLoad {
    /// Its name.
    pub project: String,
    /// Its jobs that wait for a runner.
    pub queued: u64,
    /// Its jobs that runners have.
    pub running: u64,
    /// Its jobs that have not ended and do not run.
    pub waiting: u64,
    /// Its share of the runners relative to others.
    pub weight: u32,
}

/// A job that waits for a runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueuedJob {
    /// Its number.
    pub job: u64,
    /// Its run.
    pub run: u64,
    /// Its key in the run.
    pub key: String,
    /// The project.
    pub project: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// How soon the run gets runners.
    pub priority: Priority,
    /// Since when it waits.
    pub queued_ms: Option<u64>,
    /// Why, as a word.
    pub code: String,
    /// Why, as a sentence.
    pub reason: String,
}

/// Whether the queue is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueState {
    /// No job is handed out.
    pub paused: bool,
}

/// Body of `PUT /api/v1/projects/{project}/quota`: what is not given has no bound of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewQuota {
    /// Jobs that run at once.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub running: Option<u32>,
    /// Jobs that have not ended and do not run.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub queued: Option<u32>,
    /// Share of the runners relative to other projects.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    pub weight: Option<u32>,
}

/// What a project may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaView {
    /// The project; `_default` for all that have nothing of their own.
    pub project: String,
    /// What was set for it.
    pub own: NewQuota,
    /// Jobs that run at once; none without a bound.
    pub running: Option<u32>,
    /// Jobs that have not ended and do not run; none without a bound.
    pub queued: Option<u32>,
    /// Share of the runners relative to other projects.
    pub weight: u32,
    /// For `If-Match`: names what was set.
    pub etag: String,
    /// Jobs of it that run now.
    pub running_now: u64,
    /// Jobs of it that have not ended and do not run now.
    pub waiting_now: u64,
}

/// Answer of `GET /api/v1/quotas`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaList {
    /// By project; the default of all comes first.
    pub quotas: Vec<QuotaView>,
    /// Cursor of the next page; none on the last.
    pub next: Option<String>,
}

/// Whether a runner gets jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunnerState {
    /// It is connected and gets jobs.
    Connected,
    /// It is connected, ends what it has and gets nothing new.
    Draining,
    /// It is not connected.
    Away,
}

impl RunnerState {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Draining => "draining",
            Self::Away => "away",
        }
    }
}

/// A runner that is connected, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunnerView {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether it gets jobs.
    pub state: RunnerState,
    /// An operator wants it to get nothing new, also when it comes back.
    pub drained: bool,
    /// What it announced; empty until it has been seen by this server process.
    pub labels: Vec<String>,
    /// Jobs it runs at once; 0 until it has been seen by this server process.
    pub capacity: u32,
    /// Jobs it has now.
    pub running: u32,
    /// Numbers of these jobs.
    pub jobs: Vec<u64>,
    /// How full it is, 0 to 100.
    pub load_percent: u32,
    /// Its version; empty until it has been seen by this server process.
    pub version: String,
    /// When its connection ended; none while it is connected, and when this server process has not
    /// seen it.
    pub last_seen_ms: Option<u64>,
}

/// A runner that is connected to another server with the same store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunnerElsewhere {
    /// Its name, which a runner here may have too.
    pub name: String,
    /// Where the API of its server is, or else which server it is.
    pub server: String,
    /// When its server last said that it is connected, in Unix milliseconds; every 5 seconds.
    pub seen_ms: u64,
}

/// Answer of `GET /api/v1/runners`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunnerList {
    /// By name.
    pub runners: Vec<RunnerView>,
    /// Cursor of the next page; none on the last.
    pub next: Option<String>,
    /// Those of other servers with the same store, by name, at most 1,000; only where `elsewhere=true`
    /// asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Vec<RunnerElsewhere>>,
}
