//! The keys of the older format. Those that it dropped in silence, or never carried out, are told.

use crate::shape::{Keys, adds, stops};

pub(super) const PIPELINE: Keys = Keys {
    of: "pipeline",
    known: &[
        "name",
        "description",
        "type",
        "pipeline_type",
        "repo",
        "branch",
        "server",
        "steps",
        "stages",
        "jobs",
        "variables",
        "matrix",
        "cache",
        "include",
        "triggers",
        "environment",
        "timeout",
        "retry_count",
        // A file that was exported from a server has these too.
        "_id",
        "id",
        "created_at",
        "updated_at",
    ],
    later: &[
        adds("notifications", "notifications"),
        adds("rollback", "rollbacks"),
        adds("version", "use for it"),
        adds("metadata", "use for it"),
        adds("on_failure", "steps for a failed pipeline"),
    ],
};

pub(super) const STAGE: Keys = Keys {
    of: "stage",
    known: &[
        "name",
        "description",
        "condition",
        "parallel",
        "environment",
        "timeout",
        "retry_count",
        "steps",
    ],
    later: &[],
};

pub(super) const STEP: Keys = Keys {
    of: "step",
    known: &[
        "name",
        "description",
        "run",
        "working_directory",
        "step_type",
        "config",
        "environment",
        "condition",
        "continue_on_error",
        "on_failure",
        "timeout",
        "retry_count",
    ],
    later: &[adds("metadata", "use for it")],
};

pub(super) const SHELL: Keys = Keys {
    of: "shell step",
    known: &[
        "command",
        "script",
        "working_directory",
        "environment",
        "disable_deployment_detection",
    ],
    later: &[
        adds("deployment_type", "deployments of its own"),
        adds("ports", "published ports"),
        adds("target_directory", "deployments of its own"),
        stops("image", "container steps"),
        stops("dockerfile", "container steps"),
        adds("build_context", "container steps"),
        adds("registry", "container steps"),
        adds("tags", "container steps"),
        adds("namespace", "Kubernetes steps"),
        stops("manifest", "Kubernetes steps"),
        stops("helm_chart", "Kubernetes steps"),
        adds("values", "Kubernetes steps"),
        adds("region", "cloud steps"),
        adds("service", "cloud steps"),
        adds("action", "cloud steps"),
        adds("parameters", "cloud steps"),
        stops("repository_url", "clone steps"),
        adds("branch", "clone steps"),
        adds("commit", "clone steps"),
        adds("credentials", "clone steps"),
        stops("plugin_name", "plugins"),
        adds("plugin_config", "plugins"),
    ],
};

pub(super) const JOB: Keys = Keys {
    of: "job",
    known: &[
        "stage",
        "script",
        "matrix",
        "cache",
        "environment",
        "timeout",
        "retry_count",
        "continue_on_error",
        "condition",
    ],
    later: &[],
};

pub(super) const CACHE: Keys = Keys {
    of: "cache",
    known: &["paths", "key", "policy"],
    later: &[],
};

pub(super) const SERVER: Keys = Keys {
    of: "server",
    known: &["host", "port", "user", "key"],
    later: &[],
};

pub(super) const INCLUDE: Keys = Keys {
    of: "include",
    known: &["local"],
    later: &[
        stops("remote", "files from other servers"),
        stops("template", "templates of the server"),
    ],
};

pub(super) const TRIGGER: Keys = Keys {
    of: "trigger",
    known: &["trigger_type", "config"],
    later: &[],
};

pub(super) const TRIGGER_CONFIG: Keys = Keys {
    of: "trigger",
    known: &[
        "webhook_url",
        "cron_expression",
        "cron",
        "branch_patterns",
        "repository",
        "events",
    ],
    later: &[adds("path", "paths of its own for webhooks")],
};

/// What a kind of step is called, and in which spellings.
pub(super) struct StepType {
    pub(super) spellings: &'static [&'static str],
    /// What to write instead; empty for the kind that runs.
    pub(super) instead: &'static str,
}

pub(super) const STEP_TYPES: &[StepType] = &[
    StepType {
        spellings: &["shell"],
        instead: "",
    },
    StepType {
        spellings: &["docker"],
        instead: "use a shell step with `docker run --rm -v \"$PWD:/w\" -w /w IMAGE COMMAND` on a \
                  runner that has docker",
    },
    StepType {
        spellings: &["kubernetes", "k8s"],
        instead: "use a shell step with `kubectl` on a runner that has it",
    },
    StepType {
        spellings: &["aws", "a_w_s"],
        instead: "use a shell step with `aws` on a runner that has it",
    },
    StepType {
        spellings: &["azure"],
        instead: "use a shell step with `az` on a runner that has it",
    },
    StepType {
        spellings: &["gcp", "g_c_p"],
        instead: "use a shell step with `gcloud` on a runner that has it",
    },
    StepType {
        spellings: &["github", "git_hub"],
        instead: "use a shell step with `git clone` or `gh`; the pipeline's own source is in the \
                  workspace already",
    },
    StepType {
        spellings: &["gitlab", "git_lab"],
        instead: "use a shell step with `git clone` or `glab`; the pipeline's own source is in the \
                  workspace already",
    },
    StepType {
        spellings: &["custom"],
        instead: "use a shell step that calls the plugin's program",
    },
];
