//! Bodies of requests about runs that are there: repeating them, answering their questions.

use serde::{Deserialize, Serialize};

/// Body of `POST /api/v1/runs/{id}/rerun`. Without anything in it all jobs run again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RerunRequest {
    /// Only jobs that did not succeed, and those that need one of them.
    pub failed: bool,
    /// Only these jobs, by id or key, and those that need one of them.
    #[schema(max_items = 1000)]
    pub jobs: Vec<String>,
}

/// Body of `POST /api/v1/runs/{id}/jobs/{job}/approve` and `decline`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerRequest {
    /// Who answers, for the record. Nothing checks it.
    pub by: String,
    /// What they have to say.
    pub comment: String,
}
