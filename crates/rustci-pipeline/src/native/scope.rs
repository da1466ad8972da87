//! What an expression may use, by the place where it stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::draft::{Draft, JobDraft, Matrix};
use super::include::Missing;
use crate::pipeline::Input;

/// Where an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `env` of the pipeline.
    PipelineEnv,
    /// `concurrency` of the pipeline.
    PipelineSlot,
    /// `name` of a job: evaluated when the plan is made.
    JobName,
    /// `matrix` of a job.
    Matrix,
    /// `if` of a job.
    JobCondition,
    /// `if` of a job whose matrix comes from expressions: evaluated once, before them.
    EarlyCondition,
    /// `runs-on`, `continue-on-error`, `concurrency`, `environment` and `env` of a job.
    JobField,
    /// A path of a cache, artifact, download or report: filled in when the plan is made.
    Path,
    /// `key` and `restore-keys` of a cache, and `name` of a download: before the steps.
    BeforeSteps,
    /// `if` of a step.
    StepCondition,
    /// Everything of a step but `if` and `run`.
    StepField,
    /// `run`.
    Script,
    /// `outputs` of a job, and `name` of an artifact: after the steps.
    JobOutput,
}

const CONTEXTS: [&str; 10] = [
    "git", "event", "inputs", "run", "matrix", "needs", "env", "steps", "job", "runner",
];

impl Place {
    /// The contexts that are known there.
    pub(super) fn contexts(self) -> &'static [&'static str] {
        match self {
            Self::PipelineEnv | Self::PipelineSlot => &["git", "event", "inputs", "run"],
            Self::JobName | Self::Path => &["matrix"],
            Self::Matrix | Self::EarlyCondition => &["git", "event", "inputs", "run", "needs"],
            Self::JobCondition | Self::JobField => {
                &["git", "event", "inputs", "run", "matrix", "needs"]
            }
            Self::BeforeSteps => &[
                "git", "event", "inputs", "run", "matrix", "needs", "env", "runner",
            ],
            Self::StepCondition | Self::StepField | Self::Script | Self::JobOutput => &CONTEXTS,
        }
    }

    /// Whether status functions have a meaning there.
    pub(super) fn is_condition(self) -> bool {
        matches!(
            self,
            Self::JobCondition | Self::EarlyCondition | Self::StepCondition
        )
    }

    /// Whether there is a workspace whose files can be hashed.
    pub(super) fn has_files(self) -> bool {
        self.contexts().contains(&"runner")
    }

    /// How messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PipelineEnv => "the pipeline's `env`",
            Self::PipelineSlot => "the pipeline's `concurrency`",
            Self::JobName => "a job's `name`",
            Self::Path => "a path, which is filled in with the plan",
            Self::BeforeSteps => "the key of a cache or the name of a download",
            Self::Matrix => "a `matrix`",
            Self::JobCondition => "a job's `if`",
            Self::EarlyCondition => "the `if` of a job whose matrix comes from an expression",
            Self::JobField => "a job's settings",
            Self::StepCondition => "a step's `if`",
            Self::StepField => "a step's settings",
            Self::Script => "`run`",
            Self::JobOutput => "a job's `outputs` or the name of an artifact",
        }
    }
}

/// The names that exist around an expression.
pub(super) struct Scope<'d> {
    pub(super) place: Place,
    pub(super) inputs: &'d BTreeMap<String, Input>,
    /// Names of the job's matrix; none when they are not known.
    pub(super) matrix: Option<&'d [String]>,
    /// The job's needs, with their outputs; none when some of them are not there.
    pub(super) needs: Option<BTreeMap<&'d str, BTreeSet<&'d str>>>,
    /// Ids of the steps before this one.
    pub(super) steps: Vec<&'d str>,
    /// Ids of this step and of those behind it.
    pub(super) later_steps: Vec<&'d str>,
    /// Ids of the other steps that run at the same time as this one; they are later steps too.
    pub(super) beside: Vec<&'d str>,
    /// Environment names whose values strangers control.
    pub(super) tainted: BTreeSet<&'d str>,
    /// Whether strangers control values of the matrix.
    pub(super) matrix_origin: Origin,
}

/// Whose words a text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File,
    Stranger,
}

impl<'d> Scope<'d> {
    /// What the pipeline's own `env` can use.
    pub(super) fn of_pipeline(draft: &'d Draft) -> Self {
        Self {
            place: Place::PipelineEnv,
            inputs: &draft.inputs,
            matrix: Some(&[]),
            needs: Some(BTreeMap::new()),
            steps: Vec::new(),
            later_steps: Vec::new(),
            beside: Vec::new(),
            tainted: BTreeSet::new(),
            matrix_origin: Origin::File,
        }
    }

    /// What the settings of a job can use.
    pub(super) fn of_job(
        draft: &'d Draft,
        jobs: &HashMap<&str, &'d JobDraft>,
        job: &'d JobDraft,
    ) -> Self {
        let needs = job
            .needs
            .iter()
            .filter_map(|need| jobs.get(need.text()?).copied());
        let outputs = |job: &'d JobDraft| {
            job.outputs
                .iter()
                .map(|output| output.name.as_str())
                .collect::<BTreeSet<_>>()
        };
        Self {
            place: Place::JobField,
            matrix: match &job.matrix {
                Matrix::None => Some(&[]),
                Matrix::Unknown => None,
                Matrix::Known(matrix) => Some(&matrix.names),
                Matrix::Dynamic(matrix) => matrix.names.as_deref(),
            },
            needs: (draft.missing == Missing::None).then(|| {
                needs
                    .map(|need| (need.id.as_str(), outputs(need)))
                    .collect()
            }),
            ..Self::of_pipeline(draft)
        }
    }

    /// The same scope at another place.
    pub(super) fn at(&mut self, place: Place) -> &mut Self {
        self.place = place;
        self
    }
}

/// Whether any place knows a context of this name.
pub(super) fn is_context(name: &str) -> bool {
    CONTEXTS.contains(&name)
}
