//! What the API says of registered pipelines.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{PipelineText, Priority};
use crate::api::ApiError;
use crate::limits::NAME_BYTES_MAX;

/// A pipeline to keep on the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPipeline {
    /// Unique on the server; made of the pipeline's own name without it. `PUT` takes the one in
    /// its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    pub name: Option<String>,
    /// The project of its runs; the name without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub project: Option<String>,
    /// The file, native or older, with those that it includes.
    pub pipeline: PipelineText,
    /// Where the files of a run come from; `repo` of an older file, else an empty workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PipelineSource>,
    /// Environment of every run, over the pipeline's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Whether its schedules are left out.
    #[serde(default)]
    pub paused: bool,
}

/// A repository and what to take of it. The commit is looked up when a run is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineSource {
    /// As git takes it.
    #[schema(min_length = 1, max_length = 2048)]
    pub url: String,
    /// A branch, a tag or a commit.
    #[serde(rename = "ref", default = "main_branch")]
    #[schema(min_length = 1, max_length = 255)]
    pub reference: String,
}

fn main_branch() -> String {
    "main".to_owned()
}

impl PipelineSource {
    /// Refuses what git would take for something else than an address and a ref.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let plain = |text: &str, max: usize| {
            !text.is_empty()
                && text.len() <= max
                && !text.starts_with('-')
                && !text.contains(|c: char| c.is_control() || c.is_whitespace())
        };
        if !plain(&self.url, 2048) || self.url.contains("::") {
            return Err(ApiError::Invalid(
                "source.url is not the address of a git repository".to_owned(),
            ));
        }
        if !plain(&self.reference, NAME_BYTES_MAX)
            || self.reference.contains(['*', '^', ':', '?', '['])
        {
            return Err(ApiError::Invalid(
                "source.ref is not a branch, tag or commit".to_owned(),
            ));
        }
        Ok(())
    }
}

/// A registered pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PipelineView {
    /// Unique on the server.
    pub name: String,
    /// What the file calls it.
    pub title: String,
    /// The project of its runs.
    pub project: String,
    /// The file's path in the project.
    pub file: String,
    /// Where the files of a run come from.
    pub source: Option<PipelineSource>,
    /// Environment of every run.
    pub env: BTreeMap<String, String>,
    /// Whether its schedules are left out.
    pub paused: bool,
    /// When it runs by itself.
    pub schedules: Vec<ScheduleView>,
    /// When it was registered.
    pub created_ms: u64,
    /// When it was last changed.
    pub updated_ms: u64,
    /// For `If-Match`: names this state of it.
    pub etag: String,
    /// The file; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The files that it includes; not in lists.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub includes: BTreeMap<String, String>,
}

/// One of its schedules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    /// Unique in the pipeline.
    pub name: String,
    /// Five fields.
    pub schedule: String,
    /// Of the IANA database.
    pub timezone: String,
    /// When it comes next; never while the pipeline is paused.
    pub next_ms: Option<u64>,
}

/// A page of registered pipelines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PipelineList {
    /// By name.
    pub pipelines: Vec<PipelineView>,
    /// The cursor of the next page.
    pub next: Option<String>,
}

/// Asks for a run of a registered pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewTrigger {
    /// Name of the event: `manual` without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub event: Option<String>,
    /// Values for the inputs.
    #[schema(value_type = Object)]
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<String, Value>,
    /// Environment of this run, over the registered one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// A branch, tag or commit instead of the registered one.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255)]
    pub reference: Option<String>,
    /// How soon it gets runners.
    pub priority: Priority,
}
