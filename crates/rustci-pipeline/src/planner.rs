//! From a pipeline, an event and inputs to a plan.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::pipeline::Pipeline;
use crate::plan::Plan;

/// What happened, and what a person asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanRequest {
    /// `push`, `pull_request`, `tag`, `manual`, `cron`.
    pub event: String,
    /// The full ref, such as `refs/heads/main`: for a pull request its target branch, which is
    /// what `on.pull_request.branches` is about. None when there is no repository.
    pub git_ref: Option<String>,
    /// Paths that the event changed; none when that is not known: path filters then let it pass.
    pub changed_paths: Option<Vec<String>>,
    /// Values for `on.manual.inputs`.
    pub inputs: Map<String, Value>,
}

/// A plan and whether the event wants it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The plan; the same for every event and all inputs.
    pub plan: Plan,
    /// Whether `on` names the event and its filters let it pass.
    pub triggered: bool,
    /// Why, for people: `on.push.branches does not match refs/heads/x`.
    pub reason: String,
    /// The inputs with their defaults, of the declared types: the context `inputs`.
    pub inputs: Map<String, Value>,
    /// Warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// The pipeline or the request has errors.
#[derive(Clone, Debug, thiserror::Error)]
#[error("pipeline cannot be planned: {}", first(.diagnostics))]
pub struct PlanRefused {
    /// All of them, and the warnings.
    pub diagnostics: Vec<Diagnostic>,
}

fn first(diagnostics: &[Diagnostic]) -> &str {
    let error = diagnostics.iter().find(|diagnostic| diagnostic.is_error());
    error.map_or("", |diagnostic| &diagnostic.message)
}

/// Makes the plan of a pipeline for one event.
///
/// # Errors
/// [`PlanRefused`] when the pipeline uses something that this version cannot do, or when an input
/// is missing, unknown or of the wrong type.
pub fn plan(pipeline: &Pipeline, request: &PlanRequest) -> Result<Planned, PlanRefused> {
    let diagnostics = pipeline.planning.clone();
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(PlanRefused { diagnostics });
    }
    Ok(Planned {
        plan: pipeline.plan.clone(),
        triggered: true,
        reason: format!("event {}", request.event),
        inputs: request.inputs.clone(),
        diagnostics,
    })
}
