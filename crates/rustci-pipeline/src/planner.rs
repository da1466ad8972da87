//! From a pipeline, an event and inputs to a plan.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Parsed;
use crate::diagnostic::{Code, Diagnostic, Severity, Span};
use crate::native::{Files, parse_with};
use crate::nearest::nearest;
use crate::pipeline::{Input, Pipeline};
use crate::plan::Plan;

/// The events that `on` can name.
pub const EVENTS: [&str; 5] = ["manual", "push", "pull_request", "tag", "cron"];

/// What happened, and what a person asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanRequest {
    /// One of [`EVENTS`]; empty when nothing is asked to run.
    pub event: String,
    /// The full ref, such as `refs/heads/main`: for a pull request its target branch, which is
    /// what `on.pull_request.branches` is about. None when there is no repository: branch and tag
    /// filters then let the event pass.
    pub git_ref: Option<String>,
    /// Paths that the event changed; none when that is not known: path filters then let it pass.
    pub changed_paths: Option<Vec<String>>,
    /// Values for `on.manual.inputs`; those that are required are only for `manual`.
    pub inputs: Map<String, Value>,
    /// The message of the commit that was pushed, or that the pull request ends with; none when
    /// that is not known. [`skip_marker`] says what in it keeps the pipeline from running.
    pub message: Option<String>,
}

/// A plan and whether the event wants it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The plan; the same for every event and all inputs.
    pub plan: Plan,
    /// Whether `on` names the event and its filters let it pass.
    pub triggered: bool,
    /// Why it is not triggered, for people; empty when it is.
    pub reason: String,
    /// The inputs with their defaults, of the declared types: the context `inputs`.
    pub inputs: Map<String, Value>,
    /// Warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why there is no plan.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanRefused {
    /// The pipeline or the request has errors.
    #[error("pipeline cannot be run: {}", first(.diagnostics))]
    Invalid {
        /// All of them, and the warnings.
        diagnostics: Vec<Diagnostic>,
    },
    /// The commit asks not to be run.
    #[error("the commit's message has `{marker}`, so nothing is run for it")]
    Skipped {
        /// The words in the message.
        marker: &'static str,
    },
}

impl PlanRefused {
    /// What is wrong with the pipeline or the request; nothing when the commit is skipped.
    #[must_use]
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        match self {
            Self::Invalid { diagnostics } => diagnostics,
            Self::Skipped { .. } => Vec::new(),
        }
    }
}

const SKIP_MARKERS: [&str; 4] = ["[skip ci]", "[ci skip]", "[no ci]", "[skip rustci]"];

/// The words in the message of a commit by which it asks that nothing is run for it, in any case.
///
/// Only pushes and pull requests are skipped: who starts a run, sets a tag or a time means it.
#[must_use]
pub fn skip_marker(event: &str, message: &str) -> Option<&'static str> {
    if !matches!(event, "push" | "pull_request") {
        return None;
    }
    let message = message.to_ascii_lowercase();
    SKIP_MARKERS
        .into_iter()
        .find(|marker| message.contains(marker))
}

fn first(diagnostics: &[Diagnostic]) -> &str {
    let error = diagnostics.iter().find(|diagnostic| diagnostic.is_error());
    error.map_or("", |diagnostic| &diagnostic.message)
}

/// Makes the plan of a pipeline for one event.
///
/// # Errors
/// [`PlanRefused`] when the commit asks to be skipped, when the pipeline uses something that this
/// version cannot do, or when an input is unknown, of the wrong type, or missing though a person
/// starts the run.
pub fn plan(pipeline: &Pipeline, request: &PlanRequest) -> Result<Planned, PlanRefused> {
    let message = request.message.as_deref().unwrap_or_default();
    if let Some(marker) = skip_marker(&request.event, message) {
        return Err(PlanRefused::Skipped { marker });
    }
    let mut diagnostics = pipeline.planning.clone();
    let inputs = Inputs {
        pipeline,
        start: Start::of(&request.event),
        found: &mut diagnostics,
    }
    .values(&request.inputs);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(PlanRefused::Invalid { diagnostics });
    }
    let admitted = pipeline.triggers.admit(
        &request.event,
        request.git_ref.as_deref(),
        request.changed_paths.as_deref(),
    );
    Ok(Planned {
        plan: pipeline.plan.clone(),
        triggered: admitted.is_ok(),
        reason: admitted.err().unwrap_or_default(),
        inputs,
        diagnostics,
    })
}

/// Reads a file and makes its plan: `parse` and [`plan`] in one, with all findings of both.
///
/// # Errors
/// [`PlanRefused`] as [`plan`], and for everything that is wrong with the file.
pub fn compile(file: &str, text: &str, request: &PlanRequest) -> Result<Planned, PlanRefused> {
    compile_with(file, text, &Files::new(), request)
}

/// The same for a file that includes others.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    file: &str,
    text: &str,
    files: &Files,
    request: &PlanRequest,
) -> Result<Planned, PlanRefused> {
    let Parsed {
        pipeline,
        mut diagnostics,
    } = parse_with(file, text, files);
    let Some(pipeline) = pipeline else {
        return Err(PlanRefused::Invalid { diagnostics });
    };
    match plan(&pipeline, request) {
        Ok(planned) => {
            diagnostics.extend(planned.diagnostics);
            Ok(Planned {
                diagnostics,
                ..planned
            })
        }
        Err(PlanRefused::Invalid { diagnostics: more }) => {
            diagnostics.extend(more);
            Err(PlanRefused::Invalid { diagnostics })
        }
        Err(skipped) => Err(skipped),
    }
}

const FIRST_PLACE: Span = Span {
    line: 1,
    column: 1,
    len: 1,
};

/// Who a run begins with. Only a person can be asked for an input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Person,
    Other,
}

impl Start {
    fn of(event: &str) -> Self {
        match event {
            "manual" => Self::Person,
            _ => Self::Other,
        }
    }
}

/// Checks what was given against what the file declares.
struct Inputs<'p> {
    pipeline: &'p Pipeline,
    start: Start,
    found: &'p mut Vec<Diagnostic>,
}

impl Inputs<'_> {
    /// The value of every input that is declared.
    fn values(mut self, given: &Map<String, Value>) -> Map<String, Value> {
        for name in given
            .keys()
            .filter(|name| !self.pipeline.inputs.contains_key(*name))
        {
            self.unknown(name);
        }
        let mut values = Map::new();
        for (name, input) in &self.pipeline.inputs {
            if let Some(value) = self.value(name, input, given.get(name)) {
                values.insert(name.clone(), value);
            }
        }
        values
    }

    /// The value of one input: given, default, or empty.
    fn value(&mut self, name: &str, input: &Input, given: Option<&Value>) -> Option<Value> {
        let Some(given) = given else {
            let needed = input.required && self.start == Start::Person;
            if needed && input.default.is_none() {
                self.refuse(input.span, format!("input `{name}` is required"));
            }
            return Some(input.default.clone().unwrap_or_else(|| input.kind.empty()));
        };
        match input.kind.check(given) {
            Ok(value) => Some(value),
            Err(message) => {
                self.refuse(input.span, format!("input `{name}` {message}"));
                None
            }
        }
    }

    /// Refuses a value for an input that is not declared.
    fn unknown(&mut self, name: &str) {
        let inputs = &self.pipeline.inputs;
        let known: Vec<&str> = inputs.keys().map(String::as_str).collect();
        // What was given has no place in the file; the first declaration, or the first line, has.
        let declared = inputs.values().map(|input| input.span);
        let span = declared.min_by_key(|span| (span.line, span.column));
        let help = match known.as_slice() {
            [] => "the pipeline has none; they are declared under `on.manual.inputs`".to_owned(),
            known => format!("inputs: {}", known.join(", ")),
        };
        let diagnostic = Diagnostic {
            help: Some(help),
            nearest: nearest(name, known.iter().copied()).map(str::to_owned),
            ..self.error(
                span.unwrap_or(FIRST_PLACE),
                format!("there is no input `{name}`"),
            )
        };
        self.found.push(diagnostic);
    }

    /// Adds an error about an input that is declared.
    fn refuse(&mut self, span: Span, message: String) {
        let diagnostic = self.error(span, message);
        self.found.push(diagnostic);
    }

    fn error(&self, span: Span, message: String) -> Diagnostic {
        Diagnostic {
            code: Code::INPUT_VALUE,
            severity: Severity::Error,
            file: self.pipeline.plan.file.clone(),
            span,
            message,
            help: None,
            nearest: None,
        }
    }
}
