//! From a registered pipeline to a run.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::git;
use super::registered::Registered;
use crate::api::ApiError;
use crate::api::view::{NewRun, NewSource, PipelineSource, Priority};

/// What starts a run of a registered pipeline.
#[derive(Debug, Default)]
pub(crate) struct Trigger {
    /// The event with its `name`.
    pub(crate) event: Map<String, Value>,
    pub(crate) inputs: Map<String, Value>,
    pub(crate) env: BTreeMap<String, String>,
    /// A branch, tag or commit instead of the registered one.
    pub(crate) reference: Option<String>,
    pub(crate) priority: Priority,
}

/// The run that a trigger asks for; the ref is looked up now.
///
/// # Errors
/// [`ApiError::SourceUnreachable`].
pub(crate) async fn new_run(registered: &Registered, trigger: Trigger) -> Result<NewRun, ApiError> {
    let mut git_context = Map::new();
    let mut source = None;
    if let Some(registered) = &registered.source {
        let wanted = PipelineSource {
            url: registered.url.clone(),
            reference: trigger.reference.unwrap_or(registered.reference.clone()),
        };
        wanted.check()?;
        let found = git::resolve(&wanted).await?;
        let mut set = |name: &str, value: &str| {
            git_context.insert(name.to_owned(), Value::from(value));
        };
        set("commit", &found.commit);
        if !found.reference.is_empty() {
            set("ref", &found.reference);
        }
        if let Some(branch) = found.reference.strip_prefix("refs/heads/") {
            set("branch", branch);
        }
        if let Some(tag) = found.reference.strip_prefix("refs/tags/") {
            set("tag", tag);
        }
        source = Some(NewSource::Git {
            url: wanted.url,
            commit: found.commit,
            reference: Some(found.reference)
                .filter(|reference| !reference.is_empty())
                .unwrap_or_default(),
        });
    } else if let Some(reference) = trigger.reference {
        git_context.insert("ref".to_owned(), Value::from(reference));
    }
    let mut env = registered.env.clone();
    env.extend(trigger.env);
    Ok(NewRun {
        pipeline: registered.pipeline.clone(),
        event: trigger.event,
        inputs: trigger.inputs,
        source,
        project: registered.project.clone(),
        env,
        git: git_context,
        jobs: Vec::new(),
        priority: trigger.priority,
    })
}
