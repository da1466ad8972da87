//! What a run cannot do without, looked at before anything is made of it.

use std::collections::BTreeMap;

use rustci_pipeline::{EVENTS, is_variable_name};
use serde_json::{Map, Value};

use crate::api::problem::ApiError;
use crate::api::view::{NewRun, NewSource, PipelineText};
use crate::limits::NAME_CHARS_MAX;
use crate::pipelines::git::is_commit;

/// Checks a request for a run.
///
/// # Errors
/// [`ApiError::Name`] and [`ApiError::Unusable`] for what could never run.
pub(crate) fn run(new: &NewRun) -> Result<(), ApiError> {
    name("project", &new.project)?;
    file(&new.pipeline)?;
    event(&new.event)?;
    env(&new.env)?;
    source(new.source.as_ref())
}

/// Checks the path of a pipeline file: it names the pipeline, and lies in the project.
pub(crate) fn file(pipeline: &PipelineText) -> Result<(), ApiError> {
    let path = &pipeline.file;
    name("pipeline.file", path)?;
    let inside = !path.starts_with('/') && path.split('/').all(|part| part != "..");
    inside.then_some(()).ok_or_else(|| {
        ApiError::Unusable(format!(
            "pipeline.file {path:?} is not a path in the project, such as .rustci/ci.yaml"
        ))
    })
}

/// Checks an environment by the rules that hold in pipeline files.
pub(crate) fn env(env: &BTreeMap<String, String>) -> Result<(), ApiError> {
    for (name, value) in env {
        if !is_variable_name(name) {
            return Err(ApiError::Unusable(format!(
                "{name:?} in env is not the name of a variable: letters, digits and `_`, and no \
                 digit first"
            )));
        }
        if value.contains('\0') {
            return Err(ApiError::Unusable(format!(
                "the value of {name} in env has a NUL, which no environment can have"
            )));
        }
    }
    Ok(())
}

fn name(what: &'static str, name: &str) -> Result<(), ApiError> {
    let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
    if !fits || name.chars().any(char::is_control) {
        return Err(ApiError::Name(what));
    }
    Ok(())
}

/// Without a name it is `manual`.
fn event(event: &Map<String, Value>) -> Result<(), ApiError> {
    let Some(name) = event.get("name") else {
        return Ok(());
    };
    if name.as_str().is_some_and(|name| EVENTS.contains(&name)) {
        return Ok(());
    }
    Err(ApiError::Unusable(format!(
        "event.name is {name}; it has to be one of {}",
        EVENTS.join(", ")
    )))
}

fn source(source: Option<&NewSource>) -> Result<(), ApiError> {
    match source {
        Some(NewSource::Git { commit, .. }) if !is_commit(commit) => Err(ApiError::Unusable(
            format!("source.git.commit {commit:?} is not the full id of a commit"),
        )),
        _ => Ok(()),
    }
}
