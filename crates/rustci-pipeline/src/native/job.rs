//! Jobs.

use std::rc::Rc;

use super::draft::{Binding, Checkout, Defaults, JobDraft, Label, Matrix, RunsOnDraft, StepDraft};
use super::fields::Fields;
use super::uses::{self, Used};
use super::values::{self, NameRule};
use super::{data, gates, keys, matrix, step};
use crate::diagnostic::Code;
use crate::limits::{RETRY_MAX, TIMEOUT_MS_DEFAULT};
use crate::nearest::nearest;
use crate::plan::{Retry, RetryOn};
use crate::report::Report;
use crate::yaml::{Entry, Node, NodeKind};

/// Reads one entry of `jobs`.
pub(super) fn job(report: &mut Report<'_>, used: &Used) -> Option<JobDraft> {
    let Used {
        entry,
        env,
        defaults,
    } = used;
    values::name(report, &entry.key, "job id", NameRule::Id);
    let fields = Fields::read(report, &entry.value, &keys::JOB)?;
    let mut text = |name: &str| {
        fields
            .get(name)
            .and_then(|node| values::text(report, node, name))
    };
    let [name, condition, continue_on_error] = ["name", "if", "continue-on-error"].map(&mut text);
    let timeout_ms = fields
        .get("timeout")
        .and_then(|node| values::duration(report, node, "timeout"));
    let job = JobDraft {
        id: entry.key.text().unwrap_or_default().to_owned(),
        key: Rc::clone(&entry.key),
        name,
        needs: list(report, &fields, "needs"),
        condition,
        runs_on: job_labels(report, &fields, defaults),
        matrix: fields
            .get("matrix")
            .map_or(Matrix::None, |node| matrix::matrix(report, node)),
        env: job_env(report, &fields, env),
        secrets: fields
            .get("secrets")
            .map(|node| values::secrets(report, node))
            .unwrap_or_default(),
        outputs: job_bindings(report, &fields, "outputs", NameRule::Id),
        timeout_ms: timeout_ms
            .or(defaults.timeout_ms)
            .unwrap_or(TIMEOUT_MS_DEFAULT),
        retry: job_retry(report, &fields, defaults),
        continue_on_error,
        concurrency: fields
            .get("concurrency")
            .and_then(|node| gates::concurrency(report, node)),
        environment: fields
            .get("environment")
            .and_then(|node| gates::environment(report, node)),
        permissions: fields.get("permissions").map_or_else(
            || defaults.permissions.clone().unwrap_or_default(),
            |node| gates::permissions(report, node),
        ),
        checkout: checkout(report, &fields),
        data: data::data(report, &fields),
        steps: job_steps(report, entry, &fields, defaults),
    };
    check_secret_names(report, &job, &fields);
    Some(job)
}

/// Whether the workspace begins with the source: yes, unless the job says otherwise.
fn checkout(report: &mut Report<'_>, fields: &Fields<'_>) -> Checkout {
    let wanted = fields
        .get("checkout")
        .and_then(|node| values::boolean(report, node, "checkout"));
    match wanted {
        Some(false) => Checkout::No,
        Some(true) | None => Checkout::Yes,
    }
}

/// A list of texts under a key; empty without it.
fn list(report: &mut Report<'_>, fields: &Fields<'_>, name: &str) -> Vec<Rc<Node>> {
    fields
        .get(name)
        .map(|node| values::texts(report, node, name))
        .unwrap_or_default()
}

/// The job's environment over that of the files it comes from.
fn job_env(report: &mut Report<'_>, fields: &Fields<'_>, outer: &[Binding]) -> Vec<Binding> {
    let own = job_bindings(report, fields, "env", NameRule::Environment);
    let mut env = outer.to_vec();
    uses::over(&mut env, own);
    env
}

/// Names to templates under a key; empty without it.
fn job_bindings(
    report: &mut Report<'_>,
    fields: &Fields<'_>,
    name: &str,
    rule: NameRule,
) -> Vec<Binding> {
    let bindings = fields
        .get(name)
        .map(|node| values::bindings(report, node, name, rule));
    bindings.unwrap_or_default()
}

/// The job's own `retry`, or the default.
fn job_retry(report: &mut Report<'_>, fields: &Fields<'_>, defaults: &Defaults) -> Retry {
    let own = fields.get("retry").map(|node| retry(report, node));
    own.or_else(|| defaults.retry.clone()).unwrap_or_default()
}

/// The job's own `runs-on`, or the default.
fn job_labels(report: &mut Report<'_>, fields: &Fields<'_>, defaults: &Defaults) -> RunsOnDraft {
    let own = fields.get("runs-on").map(|node| runs_on(report, node));
    own.or_else(|| defaults.runs_on.clone()).unwrap_or_default()
}

/// The steps, with the defaults for what they leave open.
fn job_steps(
    report: &mut Report<'_>,
    entry: &Entry,
    fields: &Fields<'_>,
    defaults: &Defaults,
) -> Vec<StepDraft> {
    // A job of a later kind has its own finding, which stops the plan.
    let other_kind = fields.has("module");
    if !fields.has("steps") && !other_kind {
        report
            .error(
                Code::MISSING_KEY,
                entry.key.at.clone(),
                "this job has no `steps`",
            )
            .help("a job needs a list of steps, each with `run`");
    }
    let steps = fields.get("steps").map(|node| step::steps(report, node));
    let mut steps = steps.unwrap_or_default();
    for step in &mut steps {
        if step.shell.is_empty() {
            step.shell.clone_from(&defaults.shell);
        }
        step.working_directory = step
            .working_directory
            .take()
            .or_else(|| defaults.working_directory.clone());
    }
    steps
}

/// One environment name cannot come from two places.
fn check_secret_names(report: &mut Report<'_>, job: &JobDraft, fields: &Fields<'_>) {
    let Some(NodeKind::Mapping(entries)) = fields.get("env").map(|node| &node.kind) else {
        return;
    };
    let both = |entry: &&Entry| {
        entry
            .key
            .text()
            .is_some_and(|name| job.secrets.contains_key(name))
    };
    for entry in entries.iter().filter(both) {
        let name = entry.key.text().unwrap_or_default();
        let message = format!("`{name}` is both in `env` and in `secrets`");
        report
            .error(Code::VALUE, entry.key.at.clone(), message)
            .help("keep one of them");
    }
}

/// `runs-on`: a label, a list of labels, or a mapping with `os`, `arch`, `all` and `any`.
pub(super) fn runs_on(report: &mut Report<'_>, node: &Rc<Node>) -> RunsOnDraft {
    let plain = |node: Rc<Node>| Label { prefix: "", node };
    if !matches!(node.kind, NodeKind::Mapping(_)) {
        let all = values::texts(report, node, "runs-on")
            .into_iter()
            .map(plain)
            .collect();
        return RunsOnDraft {
            all,
            any: Vec::new(),
        };
    }
    let Some(fields) = Fields::read(report, node, &keys::RUNS_ON) else {
        return RunsOnDraft::default();
    };
    let mut all = Vec::new();
    for (name, prefix) in [("os", "os="), ("arch", "arch=")] {
        let value = fields
            .get(name)
            .and_then(|node| values::text(report, node, name));
        all.extend(value.map(|node| Label { prefix, node }));
    }
    all.extend(list(report, &fields, "all").into_iter().map(plain));
    let any = list(report, &fields, "any")
        .into_iter()
        .map(plain)
        .collect();
    RunsOnDraft { all, any }
}

pub(super) const CAUSES: [(&str, RetryOn); 6] = [
    ("failure", RetryOn::Failure),
    ("error", RetryOn::Error),
    ("runner_lost", RetryOn::RunnerLost),
    ("timeout", RetryOn::Timeout),
    ("killed", RetryOn::Killed),
    ("image_pull", RetryOn::ImagePull),
];

/// `retry`: a number, or a mapping with `max` and `on`.
pub(super) fn retry(report: &mut Report<'_>, node: &Rc<Node>) -> Retry {
    let range = 0..=i64::from(RETRY_MAX);
    let count = |number: Option<i64>| u32::try_from(number.unwrap_or(0)).unwrap_or(0);
    if !matches!(node.kind, NodeKind::Mapping(_)) {
        let max = count(values::integer(report, node, "retry", range));
        return Retry {
            max,
            on: Vec::new(),
        };
    }
    let Some(fields) = Fields::read(report, node, &keys::RETRY) else {
        return Retry::default();
    };
    if !fields.has("max") {
        report
            .error(Code::MISSING_KEY, node.at.clone(), "`retry` has no `max`")
            .help("say how many further tries there may be: `max: 1`");
    }
    let max = fields
        .get("max")
        .and_then(|node| values::integer(report, node, "max", range));
    let on = fields
        .get("on")
        .map(|node| causes(report, node))
        .unwrap_or_default();
    Retry {
        max: count(max),
        on,
    }
}

/// `on` of a `retry`: one cause or a list.
fn causes(report: &mut Report<'_>, node: &Rc<Node>) -> Vec<RetryOn> {
    match &node.kind {
        NodeKind::Sequence(items) => {
            if items.is_empty() {
                report.error(Code::EMPTY, node.at.clone(), "`on` is an empty list");
            }
            items
                .iter()
                .filter_map(|item| cause(report, item))
                .collect()
        }
        _ => cause(report, node).into_iter().collect(),
    }
}

/// A cause by name, or `exit_code: N`.
fn cause(report: &mut Report<'_>, node: &Rc<Node>) -> Option<RetryOn> {
    if let Some(code) = node.get("exit_code") {
        let code = values::integer(report, code, "exit_code", 0..=255)?;
        return i32::try_from(code).ok().map(RetryOn::ExitCode);
    }
    let name = node.text().unwrap_or_default();
    let found = CAUSES.iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let names = CAUSES.map(|(name, _)| name);
        let shown = if name.is_empty() {
            node.kind_name().to_owned()
        } else {
            format!("`{name}`")
        };
        report
            .error(
                Code::VALUE,
                node.at.clone(),
                format!("{shown} is not a cause for a retry"),
            )
            .nearest(nearest(name, names))
            .help(format!("causes: {}, exit_code: NUMBER", names.join(", ")));
    }
    found.map(|(_, cause)| *cause)
}
