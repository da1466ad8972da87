//! The keys of a mapping: those that this version does, and those that come later.

use crate::diagnostic::Severity;

/// A key that the format has and this version does not do.
pub(crate) struct Later {
    pub(crate) name: &'static str,
    /// An error when the pipeline would run something else without it.
    pub(crate) severity: Severity,
    /// What it is for.
    pub(crate) what: &'static str,
}

impl Later {
    /// Whether the pipeline does not run with it.
    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// A key without which something else would run.
pub(crate) const fn stops(name: &'static str, what: &'static str) -> Later {
    Later {
        name,
        severity: Severity::Error,
        what,
    }
}

/// A key without which everything else runs as it should.
pub(crate) const fn adds(name: &'static str, what: &'static str) -> Later {
    Later {
        name,
        severity: Severity::Warning,
        what,
    }
}

/// The keys of one kind of mapping.
pub(crate) struct Keys {
    /// What the mapping is, for messages: `job`.
    pub(crate) of: &'static str,
    pub(crate) known: &'static [&'static str],
    pub(crate) later: &'static [Later],
}

/// Names that other systems use for what is called otherwise here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("timeout-minutes", "timeout"),
    ("strategy", "matrix"),
    ("container", "image"),
    ("stages", "jobs"),
    ("pipeline", "jobs"),
    ("workflow", "jobs"),
    ("script", "run"),
    ("script", "steps"),
    ("run", "steps"),
    ("command", "run"),
    ("commands", "run"),
    ("commands", "steps"),
    ("cmd", "run"),
    ("depends_on", "needs"),
    ("depends-on", "needs"),
    ("dependencies", "needs"),
    ("when", "if"),
    ("condition", "if"),
    ("environment", "env"),
    ("variables", "env"),
    ("tags", "runs-on"),
    ("labels", "runs-on"),
    ("allow_failure", "continue-on-error"),
    ("workflow_dispatch", "manual"),
    ("schedule", "cron"),
    ("triggers", "on"),
    ("type", "step_type"),
    ("if", "condition"),
    ("env", "environment"),
    ("needs", "stages"),
    ("on", "triggers"),
    ("retry", "retry_count"),
    ("cwd", "working-directory"),
    ("directory", "working-directory"),
];

impl Keys {
    /// The key of this name that comes later.
    pub(crate) fn later(&self, name: &str) -> Option<&'static Later> {
        self.later.iter().find(|later| later.name == name)
    }

    /// The key that somebody meant by a name that is none.
    pub(crate) fn nearest(&self, name: &str) -> Option<&'static str> {
        let names = || {
            self.known
                .iter()
                .copied()
                .chain(self.later.iter().map(|later| later.name))
        };
        let elsewhere = ELSEWHERE
            .iter()
            .find(|(other, ours)| *other == name && names().any(|name| name == *ours));
        elsewhere
            .map(|(_, ours)| *ours)
            .or_else(|| crate::nearest::nearest(name, names()))
    }
}
