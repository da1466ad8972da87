//! A pipeline file that was read without an error.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use crate::cron::Cron;
use crate::diagnostic::{Diagnostic, Span};
use crate::glob::{Glob, list_fits};
use crate::plan::Plan;

/// A pipeline file that was read without an error. [`plan`](crate::plan()) makes a plan of it.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Everything that does not depend on the event.
    pub(crate) plan: Plan,
    /// When it runs.
    pub(crate) triggers: Triggers,
    /// What a person can give.
    pub(crate) inputs: BTreeMap<String, Input>,
    /// Findings that matter when it is to be run: keys that this version cannot do.
    pub(crate) planning: Vec<Diagnostic>,
    /// What only an older file says.
    pub(crate) older: Option<Older>,
    /// By job id, the file and line where each step begins.
    pub(crate) step_places: BTreeMap<String, Vec<(String, u32)>>,
}

impl Pipeline {
    /// The pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// What an older file says of itself for people.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.older.as_ref()?.description.as_deref()
    }

    /// The tier of an older file: `minimal`, `simple`, `standard` or `advanced`.
    #[must_use]
    pub fn tier(&self) -> Option<&'static str> {
        Some(self.older.as_ref()?.tier)
    }

    /// The repository that an older file is about, and its branch.
    #[must_use]
    pub fn repository(&self) -> Option<(&str, Option<&str>)> {
        let older = self.older.as_ref()?;
        Some((older.repository.as_deref()?, older.branch.as_deref()))
    }

    /// The times at which it runs, in the order of the file.
    #[must_use]
    pub fn crons(&self) -> &[Cron] {
        &self.triggers.cron
    }

    /// The file and the line, from 1, where a step begins. It is not part of the plan, whose
    /// digest must not change when lines move.
    #[must_use]
    pub fn step_place(&self, job_id: &str, step: usize) -> Option<(&str, u32)> {
        let (file, line) = self.step_places.get(job_id)?.get(step)?;
        Some((file, *line))
    }
}

/// What only an older file says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Older {
    pub(crate) tier: &'static str,
    pub(crate) description: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) branch: Option<String>,
}

/// The events that start a pipeline; none where an event does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Triggers {
    pub(crate) push: Option<Filters>,
    pub(crate) pull_request: Option<Filters>,
    /// Patterns; empty for every tag.
    pub(crate) tag: Option<Vec<Glob>>,
    pub(crate) manual: bool,
    /// Times; unlike the others none of them means that there are none.
    pub(crate) cron: Vec<Cron>,
}

/// What of a push or pull request counts. All that are there have to agree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    pub(crate) branches: Option<Vec<Glob>>,
    pub(crate) branches_ignore: Option<Vec<Glob>>,
    pub(crate) paths: Option<Vec<Glob>>,
    pub(crate) paths_ignore: Option<Vec<Glob>>,
}

impl Triggers {
    /// What a file without `on` reacts to.
    pub(crate) fn every() -> Self {
        Self {
            push: Some(Filters::default()),
            pull_request: Some(Filters::default()),
            tag: Some(Vec::new()),
            manual: true,
            cron: Vec::new(),
        }
    }

    /// Whether a time starts it.
    pub(crate) fn has_cron(&self) -> bool {
        !self.cron.is_empty()
    }

    /// Reacts to nothing.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Whether an event starts the pipeline: an error is why it does not.
    pub(crate) fn admit(
        &self,
        event: &str,
        git_ref: Option<&str>,
        paths: Option<&[String]>,
    ) -> Result<(), String> {
        let wanted = match event {
            "push" => self
                .push
                .as_ref()
                .map(|filters| filters.admit("push", git_ref, paths)),
            "pull_request" => self
                .pull_request
                .as_ref()
                .map(|filters| filters.admit("pull_request", git_ref, paths)),
            "tag" => self.tag.as_ref().map(|globs| admit_tag(globs, git_ref)),
            "manual" => self.manual.then_some(Ok(())),
            "cron" => (!self.cron.is_empty()).then_some(Ok(())),
            _ => None,
        };
        wanted.unwrap_or_else(|| Err(format!("`on` does not name the event `{event}`")))
    }
}

impl Filters {
    fn admit(
        &self,
        event: &str,
        git_ref: Option<&str>,
        paths: Option<&[String]>,
    ) -> Result<(), String> {
        let branch = git_ref.map(|name| name.strip_prefix("refs/heads/").unwrap_or(name));
        if let Some(branch) = branch {
            let fits =
                |globs: &Option<Vec<Glob>>| globs.as_ref().map(|globs| list_fits(globs, branch));
            if fits(&self.branches) == Some(false) {
                return Err(format!("`on.{event}.branches` does not fit `{branch}`"));
            }
            if fits(&self.branches_ignore) == Some(true) {
                return Err(format!("`on.{event}.branches-ignore` fits `{branch}`"));
            }
        }
        let Some(paths) = paths else {
            return Ok(());
        };
        let fits = |globs: &[Glob], path: &String| list_fits(globs, path);
        if let Some(globs) = &self.paths
            && !paths.iter().any(|path| fits(globs, path))
        {
            return Err(format!("no changed path fits `on.{event}.paths`"));
        }
        if let Some(globs) = &self.paths_ignore
            && paths.iter().all(|path| fits(globs, path))
        {
            return Err(format!("every changed path fits `on.{event}.paths-ignore`"));
        }
        Ok(())
    }
}

/// Whether a tag fits the patterns; an error is why not.
fn admit_tag(globs: &[Glob], git_ref: Option<&str>) -> Result<(), String> {
    let Some(tag) = git_ref.map(|name| name.strip_prefix("refs/tags/").unwrap_or(name)) else {
        return Ok(());
    };
    if globs.is_empty() || list_fits(globs, tag) {
        return Ok(());
    }
    Err(format!("`on.tag` does not fit `{tag}`"))
}

/// A value that a person can give to a run.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) kind: InputKind,
    pub(crate) required: bool,
    pub(crate) default: Option<Value>,
    pub(crate) span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum InputKind {
    String,
    Number,
    Boolean,
    Choice(Vec<String>),
}

impl InputKind {
    /// The value in its own type; text is read as it, since forms and command lines only have text.
    /// An error completes the sentence that begins with the value's name.
    pub(crate) fn check(&self, given: &Value) -> Result<Value, String> {
        let text = match given {
            Value::String(text) => text.clone(),
            Value::Array(_) | Value::Object(_) | Value::Null => {
                return Err("has to be a single value".to_owned());
            }
            other => other.to_string(),
        };
        match self {
            Self::String => Ok(Value::String(text)),
            Self::Number => number(&text).ok_or_else(|| format!("is `{text}`, not a number")),
            Self::Boolean => match text.as_str() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(format!("is `{text}`, not true or false")),
            },
            Self::Choice(options) if options.contains(&text) => Ok(Value::String(text)),
            Self::Choice(options) => {
                Err(format!("is `{text}`, not one of: {}", options.join(", ")))
            }
        }
    }

    /// What an input is that nobody gave and that has no default.
    pub(crate) fn empty(&self) -> Value {
        match self {
            Self::String => Value::String(String::new()),
            Self::Choice(options) => Value::from(options.first().cloned().unwrap_or_default()),
            Self::Number => Value::from(0),
            Self::Boolean => Value::Bool(false),
        }
    }
}

/// A text as a number, a whole one where it is.
fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Value::from(whole));
    }
    text.parse()
        .ok()
        .and_then(Number::from_f64)
        .map(Value::Number)
}
