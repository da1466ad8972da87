//! A pipeline as it stands in the file, with places.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::data::DataDraft;
use super::gates::{ConcurrencyDraft, EnvironmentDraft};
use super::include::Missing;
use crate::pipeline::{Input, Triggers};
use crate::plan::{Access, Retry};
pub(super) use crate::shape::Binding;
use crate::yaml::Node;

/// A pipeline whose shape is right.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) env: Vec<Binding>,
    pub(super) triggers: Triggers,
    pub(super) inputs: BTreeMap<String, Input>,
    pub(super) concurrency: Option<ConcurrencyDraft>,
    pub(super) jobs: Vec<JobDraft>,
    /// Whether there would be more jobs.
    pub(super) missing: Missing,
}

/// Settings that hold for all jobs that say nothing else.
#[derive(Clone, Default)]
pub(super) struct Defaults {
    pub(super) permissions: Option<BTreeMap<String, Access>>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) retry: Option<Retry>,
    pub(super) runs_on: Option<RunsOnDraft>,
    pub(super) shell: String,
    pub(super) working_directory: Option<Rc<Node>>,
}

impl Defaults {
    /// These, and `others` where these say nothing.
    pub(super) fn over(self, others: Self) -> Self {
        Self {
            permissions: self.permissions.or(others.permissions),
            timeout_ms: self.timeout_ms.or(others.timeout_ms),
            retry: self.retry.or(others.retry),
            runs_on: self.runs_on.or(others.runs_on),
            shell: if self.shell.is_empty() {
                others.shell
            } else {
                self.shell
            },
            working_directory: self.working_directory.or(others.working_directory),
        }
    }
}

#[derive(Default)]
pub(super) struct JobDraft {
    pub(super) id: String,
    /// The key in `jobs`.
    pub(super) key: Rc<Node>,
    pub(super) name: Option<Rc<Node>>,
    pub(super) needs: Vec<Rc<Node>>,
    pub(super) condition: Option<Rc<Node>>,
    pub(super) runs_on: RunsOnDraft,
    pub(super) matrix: Matrix,
    pub(super) env: Vec<Binding>,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) outputs: Vec<Binding>,
    pub(super) timeout_ms: u64,
    pub(super) retry: Retry,
    pub(super) continue_on_error: Option<Rc<Node>>,
    pub(super) concurrency: Option<ConcurrencyDraft>,
    pub(super) environment: Option<EnvironmentDraft>,
    pub(super) permissions: BTreeMap<String, Access>,
    pub(super) checkout: Checkout,
    pub(super) data: DataDraft,
    pub(super) steps: Vec<StepDraft>,
}

/// Whether a workspace begins with the source.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Checkout {
    #[default]
    Yes,
    No,
}

/// A label is a template with an optional `name=` in front.
#[derive(Clone, Default)]
pub(super) struct RunsOnDraft {
    pub(super) all: Vec<Label>,
    pub(super) any: Vec<Label>,
}

#[derive(Clone)]
pub(super) struct Label {
    pub(super) prefix: &'static str,
    pub(super) node: Rc<Node>,
}

#[derive(Default)]
pub(super) enum Matrix {
    #[default]
    None,
    /// It has a mistake.
    Unknown,
    Known(MatrixDraft),
    Dynamic(DynamicDraft),
}

/// A matrix with values from expressions.
pub(super) struct DynamicDraft {
    /// All of it as one expression.
    pub(super) expression: String,
    /// The expressions as they stand in the file.
    pub(super) values: Vec<Rc<Node>>,
    /// Names that instances can have; none when they are not in the file.
    pub(super) names: Option<Vec<String>>,
    pub(super) fail_fast: FailFast,
    pub(super) max_parallel: Option<u32>,
}

pub(super) struct MatrixDraft {
    /// In the order of keys: axes first, then what `include` adds.
    pub(super) names: Vec<String>,
    pub(super) instances: Vec<Map<String, Value>>,
    pub(super) fail_fast: FailFast,
    pub(super) max_parallel: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FailFast {
    Yes,
    No,
}

#[derive(Default)]
pub(super) struct StepDraft {
    pub(super) id: Option<Rc<Node>>,
    pub(super) name: Option<Rc<Node>>,
    pub(super) run: Rc<Node>,
    pub(super) shell: String,
    pub(super) working_directory: Option<Rc<Node>>,
    pub(super) env: Vec<Binding>,
    pub(super) condition: Option<Rc<Node>>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) continue_on_error: Option<Rc<Node>>,
    pub(super) retry: Retry,
    /// The group of the job whose steps run at the same time, counted from 1.
    pub(super) parallel: Option<u32>,
}

impl JobDraft {
    /// The job's matrix, when there is one.
    pub(super) fn known_matrix(&self) -> Option<&MatrixDraft> {
        match &self.matrix {
            Matrix::Known(matrix) => Some(matrix),
            Matrix::None | Matrix::Unknown | Matrix::Dynamic(_) => None,
        }
    }
}

impl StepDraft {
    /// Whether the next step starts together with this one.
    pub(super) fn is_beside(&self, next: &Self) -> bool {
        self.parallel.is_some() && self.parallel == next.parallel
    }

    pub(super) fn id(&self) -> &str {
        self.id
            .as_ref()
            .and_then(|id| id.text())
            .unwrap_or_default()
    }
}
