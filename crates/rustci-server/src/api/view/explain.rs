//! Why jobs wait, and how long they will.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Conclusion, JobView, Priority, RunView, Status};

/// Why the jobs of a run wait, do not run or ended, and when they will be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The run.
    pub run: u64,
    /// Its project.
    pub project: String,
    /// Name of its pipeline.
    pub pipeline: String,
    /// Where it is.
    pub status: Status,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// How soon it gets runners.
    pub priority: Priority,
    /// When it was accepted.
    pub created_ms: u64,
    /// When its last job is expected to end; none while that is not known.
    pub estimated_finish_ms: Option<u64>,
    /// The jobs, those that wait first.
    pub jobs: Vec<JobExplanation>,
    /// Jobs that did not fit into the answer.
    pub left_out: u64,
}

/// Why one job waits, does not run or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobExplanation {
    /// Its number.
    pub job: u64,
    /// Its key in the run.
    pub key: String,
    /// Where it is.
    pub status: Status,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// The reason as a word: `capacity`, `needs`, `no_suitable_runner`, ... while it waits,
    /// `running`, or its conclusion.
    pub code: String,
    /// The reason as a sentence.
    pub reason: String,
    /// What the sentence says, in figures and names.
    pub details: Details,
    /// When it was put into the queue.
    pub queued_ms: Option<u64>,
    /// When it is expected to start; none when that is not known, and once it has.
    pub estimated_start_ms: Option<u64>,
    /// When it is expected to end; none when that is not known, and once it has.
    pub estimated_finish_ms: Option<u64>,
    /// How long this job took of late, when it succeeded.
    pub typical_ms: Option<u64>,
    /// How many earlier times of it are known.
    pub samples: u32,
}

/// What a reason is about. Only what fits the reason is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Details {
    /// Keys of the jobs it waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Labels that no runner has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// A label that a runner has and that was perhaps meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Nearest>,
    /// The bound that was reached: of the matrix, or of the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Connected runners that suit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runners: Option<u64>,
    /// Those of them that rest for a moment because they refused a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resting: Option<u64>,
    /// Jobs that these run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u64>,
    /// Jobs of the same project that go before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead_own: Option<u64>,
    /// Jobs of other projects that go before it, if the queue stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead_others: Option<u64>,
    /// The concurrency group whose slot it or its run waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who holds that slot: a run, or a job of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// How many others get it before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u64>,
    /// The environment for which somebody has to approve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Who is asked; nobody named means anybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// When it ends as blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// The runner that has it, or had it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// Attempts so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// Why the last attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_cause: Option<String>,
}

/// A label that a runner has and that was perhaps meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nearest {
    /// What was written.
    pub wanted: String,
    /// What there is.
    pub label: String,
}

impl From<&RunView> for Explanation {
    /// What is known without an engine: what was recorded.
    fn from(run: &RunView) -> Self {
        Self {
            run: run.id,
            project: run.project.clone(),
            pipeline: run.pipeline.clone(),
            status: run.status,
            conclusion: run.conclusion,
            priority: run.priority,
            created_ms: run.created_ms,
            estimated_finish_ms: None,
            jobs: run.jobs.iter().map(JobExplanation::from).collect(),
            left_out: 0,
        }
    }
}

impl JobExplanation {
    /// Whether a number or key means this job.
    #[must_use]
    pub fn is_called(&self, job: &str) -> bool {
        self.key == job || job.parse() == Ok(self.job)
    }
}

impl From<&JobView> for JobExplanation {
    fn from(job: &JobView) -> Self {
        let last = job.attempts.last();
        let (code, fallback) = match (job.status, job.conclusion) {
            (Status::Finished, ended) => recorded(ended.unwrap_or(Conclusion::Error)),
            (Status::Running, _) => ("running", "it runs"),
            (Status::Blocked | Status::Queued, _) => {
                ("no_server", "no server process owns the data directory")
            }
        };
        Self {
            job: job.id,
            key: job.key.clone(),
            status: job.status,
            conclusion: job.conclusion,
            code: code.to_owned(),
            reason: job.reason.clone().unwrap_or_else(|| fallback.to_owned()),
            details: Details {
                runner: last.map(|attempt| attempt.runner.clone()),
                attempts: last.map(|attempt| u64::from(attempt.number)),
                last_cause: last.and_then(|attempt| attempt.cause.clone()),
                ..Details::default()
            },
            queued_ms: job.queued_ms,
            estimated_start_ms: None,
            estimated_finish_ms: None,
            typical_ms: None,
            samples: 0,
        }
    }
}

/// The word and the sentence for a job that is over, where nothing else was recorded.
pub(crate) fn recorded(ended: Conclusion) -> (&'static str, &'static str) {
    let sentence = match ended {
        Conclusion::Success => "it succeeded",
        Conclusion::Failure => "one of its steps failed",
        Conclusion::Error => "it could not be run to its end",
        Conclusion::Killed => "a signal from outside ended it",
        Conclusion::Canceled => "it was canceled",
        Conclusion::Skipped => "it was skipped",
        Conclusion::Blocked => "nobody approved it in time",
        Conclusion::Declined => "its approval was declined",
        Conclusion::TimedOut => "its time was up",
    };
    (ended.as_str(), sentence)
}
