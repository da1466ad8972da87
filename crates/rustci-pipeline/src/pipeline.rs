//! A pipeline file that was read without an error.

use crate::diagnostic::Diagnostic;
use crate::plan::Plan;

/// A pipeline file that was read without an error. [`plan`](crate::plan()) makes a plan of it.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Everything that does not depend on the event.
    pub(crate) plan: Plan,
    /// Findings that matter when it is to be run: keys that this version cannot do.
    pub(crate) planning: Vec<Diagnostic>,
}

impl Pipeline {
    /// The pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.name
    }
}
