//! The keys of the format: those that this version does, and those that come later.

use crate::shape::{Keys, adds, stops};

pub(super) const PIPELINE: Keys = Keys {
    of: "pipeline",
    known: &[
        "version",
        "name",
        "include",
        "on",
        "concurrency",
        "permissions",
        "defaults",
        "env",
        "jobs",
    ],
    later: &[],
};

/// A file that others include. Of its top level they take `defaults`, `env` and `jobs`.
pub(super) const TEMPLATE: Keys = Keys {
    of: "included file",
    known: &[
        "version", "name", "inputs", "include", "defaults", "env", "jobs",
    ],
    later: &[],
};

pub(super) const INCLUDE: Keys = Keys {
    of: "include entry",
    known: &["local", "with"],
    later: &[],
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
        "concurrency",
        "environment",
        "permissions",
        "checkout",
        "cache",
        "downloads",
        "steps",
        "artifacts",
        "reports",
        "uses",
        "with",
    ],
    later: &[
        stops("image", "container jobs"),
        stops("services", "service containers"),
        stops("verify", "verified jobs"),
        stops("runtime", "other runtimes"),
        stops("module", "WebAssembly jobs"),
        adds("coverage", "coverage"),
        adds("provenance", "provenance"),
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

/// An item of `steps` that is a group.
pub(super) const PARALLEL: Keys = Keys {
    of: "parallel",
    known: &["parallel"],
    later: &[],
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

pub(super) const CONCURRENCY: Keys = Keys {
    of: "concurrency",
    known: &["group", "cancel-in-progress", "queue"],
    later: &[],
};

pub(super) const ENVIRONMENT: Keys = Keys {
    of: "environment",
    known: &["name", "approval"],
    later: &[adds("url", "links to environments")],
};

pub(super) const APPROVAL: Keys = Keys {
    of: "approval",
    known: &["from", "timeout"],
    later: &[],
};

pub(super) const CACHE: Keys = Keys {
    of: "cache",
    known: &["key", "restore-keys", "paths", "policy", "when"],
    later: &[],
};

pub(super) const DOWNLOAD: Keys = Keys {
    of: "downloads",
    known: &["name", "path"],
    later: &[],
};

pub(super) const ARTIFACT: Keys = Keys {
    of: "artifacts",
    known: &["name", "paths", "when", "expire", "if-missing"],
    later: &[],
};

pub(super) const REPORTS: Keys = Keys {
    of: "reports",
    known: &["junit"],
    later: &[adds("sarif", "SARIF reports"), adds("coverage", "coverage")],
};

pub(super) const ON: Keys = Keys {
    of: "on",
    known: &["push", "pull_request", "tag", "manual", "cron"],
    later: &[],
};

pub(super) const CRON: Keys = Keys {
    of: "cron",
    known: &["name", "schedule", "timezone"],
    later: &[],
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
