//! What an expression can see: named contexts, how things stand, and the files of the workspace.

use serde_json::Value as Json;

use super::value::{Object, Value};

/// How things stand, for `success()`, `failure()` and `cancelled()`.
///
/// In a job's condition it comes from the needs ([`Status::of_needs`]), in a step's from the steps
/// before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    success: bool,
    failure: bool,
    cancelled: bool,
}

/// How a job or step ended, as far as conditions care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did what it should, or was allowed to fail.
    Success,
    /// It failed, had an error, was killed or ran out of time.
    Failure,
    /// Somebody cancelled it.
    Cancelled,
    /// It did not run.
    Skipped,
}

impl Status {
    /// All is well.
    pub const SUCCESS: Self = Self {
        success: true,
        failure: false,
        cancelled: false,
    };
    /// Something failed.
    pub const FAILURE: Self = Self {
        success: false,
        failure: true,
        cancelled: false,
    };
    /// The run was cancelled.
    pub const CANCELLED: Self = Self {
        success: false,
        failure: false,
        cancelled: true,
    };
    /// Something needed was skipped: neither success nor failure.
    pub const SKIPPED: Self = Self {
        success: false,
        failure: false,
        cancelled: false,
    };

    /// How things stand for a job: `success()` needs every one of `needs` to have succeeded,
    /// `failure()` one failure among `ancestors` (the needs, their needs, and so on).
    #[must_use]
    pub fn of_needs(needs: &[Outcome], ancestors: &[Outcome]) -> Self {
        let any = |outcomes: &[Outcome], outcome| outcomes.contains(&outcome);
        Self {
            success: needs.iter().all(|outcome| *outcome == Outcome::Success),
            failure: any(needs, Outcome::Failure) || any(ancestors, Outcome::Failure),
            cancelled: any(needs, Outcome::Cancelled),
        }
    }

    /// The same after somebody cancelled the run.
    #[must_use]
    pub fn cancel(self) -> Self {
        Self {
            success: false,
            cancelled: true,
            ..self
        }
    }

    /// What `success()` gives.
    #[must_use]
    pub fn success(self) -> bool {
        self.success
    }

    /// What `failure()` gives.
    #[must_use]
    pub fn failure(self) -> bool {
        self.failure
    }

    /// What `cancelled()` gives.
    #[must_use]
    pub fn cancelled(self) -> bool {
        self.cancelled
    }
}

/// Answers `hashFiles(patterns)`: the hash of all files that match, as hex; empty when none does.
///
/// An error is a sentence for people.
pub type HashFiles = dyn Fn(&[String]) -> Result<String, String> + Send + Sync;

/// Everything an expression can see.
#[derive(Default)]
pub struct Contexts {
    values: Object,
    status: Option<Status>,
    hash_files: Option<Box<HashFiles>>,
}

impl Contexts {
    /// Without any context; status functions and `hashFiles` are refused.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One context for each entry of a JSON object, such as `{"git": {"ref": ".."}}`.
    #[must_use]
    pub fn from_json(contexts: &serde_json::Map<String, Json>) -> Self {
        let values = contexts
            .iter()
            .map(|(name, value)| (name.as_str(), Value::from(value)))
            .collect();
        Self {
            values,
            ..Self::default()
        }
    }

    /// Sets one context.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.values.set(name, value.into());
    }

    /// Sets what the status functions answer.
    pub fn set_status(&mut self, status: Status) {
        self.status = Some(status);
    }

    /// The same with what the status functions answer.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        self.set_status(status);
        self
    }

    /// The same with an answer to `hashFiles`.
    #[must_use]
    pub fn with_hash_files(
        mut self,
        hash: impl Fn(&[String]) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.hash_files = Some(Box::new(hash));
        self
    }

    /// The context called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// What the status functions answer, if they may be used.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status
    }

    pub(super) fn hash_files(&self) -> Option<&HashFiles> {
        self.hash_files.as_deref()
    }
}

impl std::fmt::Debug for Contexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.values.iter().map(|(name, _)| name).collect();
        f.debug_struct("Contexts")
            .field("names", &names)
            .field("status", &self.status)
            .finish()
    }
}
