//! A step of the plan as the catalogue keeps it: most often nothing but a name.

use serde::{Deserialize, Serialize};

use crate::api::view::StepView;

/// A step as it is in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PlannedStep {
    /// One that runs alone: its name.
    Alone(String),
    /// One that runs at the same time as others.
    Beside {
        /// For people.
        name: String,
        /// The number of its group in the job.
        parallel: u32,
    },
}

impl PlannedStep {
    /// What the catalogue keeps of a step of a plan.
    pub(crate) fn new(step: &rustci_pipeline::Step) -> Self {
        let name = step.name.clone();
        match step.parallel {
            None => Self::Alone(name),
            Some(parallel) => Self::Beside { name, parallel },
        }
    }

    /// The step before it begins.
    pub(crate) fn queued(self, index: u32) -> StepView {
        match self {
            Self::Alone(name) => StepView::queued(index, name),
            Self::Beside { name, parallel } => StepView {
                parallel: Some(parallel),
                ..StepView::queued(index, name)
            },
        }
    }
}
