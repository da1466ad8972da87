//! The keys of the format: those that this version does, and those that come later.

use crate::diagnostic::Severity;

/// A key that the format has and this version does not do.
pub(super) struct Later {
    pub(super) name: &'static str,
    /// An error when the pipeline would run something else without it.
    pub(super) severity: Severity,
    /// What it is for.
    pub(super) what: &'static str,
}

/// A key without which something else would run.
const fn stops(name: &'static str, what: &'static str) -> Later {
    Later {
        name,
        severity: Severity::Error,
        what,
    }
}

/// A key without which everything else runs as it should.
const fn adds(name: &'static str, what: &'static str) -> Later {
    Later {
        name,
        severity: Severity::Warning,
        what,
    }
}

/// The keys of one kind of mapping.
pub(super) struct Keys {
    /// What the mapping is, for messages: `job`.
    pub(super) of: &'static str,
    pub(super) known: &'static [&'static str],
    pub(super) later: &'static [Later],
}

pub(super) const PIPELINE: Keys = Keys {
    of: "pipeline",
    known: &["version", "name", "on", "defaults", "env", "jobs"],
    later: &[
        stops("include", "templates"),
        adds("concurrency", "concurrency groups"),
        adds("permissions", "job tokens"),
    ],
};

pub(super) const DEFAULTS: Keys = Keys {
    of: "defaults",
    known: &["timeout", "retry", "runs-on", "shell", "working-directory"],
    later: &[],
};

pub(super) const JOB: Keys = Keys {
    of: "job",
    known: &[
        "name",
        "needs",
        "runs-on",
        "matrix",
        "if",
        "env",
        "secrets",
        "outputs",
        "timeout",
        "retry",
        "continue-on-error",
        "steps",
    ],
    later: &[
        stops("image", "container jobs"),
        stops("services", "service containers"),
        stops("uses", "reusable jobs"),
        stops("with", "reusable jobs"),
        stops("environment", "environments and approvals"),
        stops("verify", "verified jobs"),
        stops("runtime", "other runtimes"),
        stops("module", "WebAssembly jobs"),
        stops("checkout", "jobs without source"),
        adds("cache", "caches"),
        adds("artifacts", "artifacts"),
        adds("reports", "reports"),
        adds("coverage", "coverage"),
        adds("permissions", "job tokens"),
        adds("provenance", "provenance"),
        adds("concurrency", "concurrency groups"),
    ],
};

pub(super) const STEP: Keys = Keys {
    of: "step",
    known: &[
        "run",
        "name",
        "id",
        "shell",
        "working-directory",
        "env",
        "if",
        "timeout",
        "retry",
        "continue-on-error",
    ],
    later: &[
        stops("uses", "actions and plugins"),
        stops("with", "actions and plugins"),
        stops("image", "container steps"),
    ],
};

pub(super) const MATRIX: Keys = Keys {
    of: "matrix",
    known: &["axes", "include", "exclude", "fail-fast", "max-parallel"],
    later: &[],
};

pub(super) const RUNS_ON: Keys = Keys {
    of: "runs-on",
    known: &["os", "arch", "all", "any"],
    later: &[],
};

pub(super) const RETRY: Keys = Keys {
    of: "retry",
    known: &["max", "on"],
    later: &[],
};

pub(super) const ON: Keys = Keys {
    of: "on",
    known: &["push", "pull_request", "tag", "manual"],
    later: &[adds("cron", "timed runs")],
};

pub(super) const FILTERS: Keys = Keys {
    of: "filter",
    known: &["branches", "branches-ignore", "paths", "paths-ignore"],
    later: &[],
};

pub(super) const MANUAL: Keys = Keys {
    of: "manual",
    known: &["inputs"],
    later: &[],
};

pub(super) const INPUT: Keys = Keys {
    of: "input",
    known: &["type", "description", "required", "default", "options"],
    later: &[],
};

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
    ("cwd", "working-directory"),
    ("directory", "working-directory"),
];

impl Keys {
    /// The key of this name that comes later.
    pub(super) fn later(&self, name: &str) -> Option<&'static Later> {
        self.later.iter().find(|later| later.name == name)
    }

    /// The key that somebody meant by a name that is none.
    pub(super) fn nearest(&self, name: &str) -> Option<&'static str> {
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
