//! What runs: the steps of a stage, the linear steps of the simple tier, the jobs by name.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::keys::{self, STEP_TYPES};
use super::names::Names;
use super::settings;
use crate::diagnostic::Code;
use crate::limits::STEPS_MAX;
use crate::native::draft::Matrix;
use crate::nearest::nearest;
use crate::plan::{Cache, Retry};
use crate::report::Report;
use crate::shape::fields::Fields;
use crate::shape::{Binding, values};
use crate::yaml::{Node, NodeKind};

/// Runs a text as the older program did: `sh -c`, which goes on after a command that failed.
const SHELL: &str = "sh {0}";

/// One thing to run: a step, or with a matrix a job of its own.
#[derive(Default)]
pub(super) struct Task {
    pub(super) name: Option<Rc<Node>>,
    /// Where it stands.
    pub(super) key: Rc<Node>,
    pub(super) run: Rc<Node>,
    pub(super) shell: String,
    pub(super) working_directory: Option<Rc<Node>>,
    pub(super) env: Vec<Binding>,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) condition: Option<Rc<Node>>,
    pub(super) continue_on_error: Option<Rc<Node>>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) retry: Retry,
    pub(super) matrix: Matrix,
    pub(super) cache: Option<Cache>,
}

/// What tasks run in.
pub(super) struct Stage {
    pub(super) name: Option<Rc<Node>>,
    /// Whether its tasks run at the same time.
    pub(super) order: Order,
    pub(super) tasks: Vec<Task>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    InTurn,
    AtOnce,
}

/// A list of steps.
pub(super) fn steps(report: &mut Report<'_>, node: &Rc<Node>, names: &Names) -> Vec<Task> {
    let NodeKind::Sequence(items) = &node.kind else {
        let message = format!("`steps` has to be a list, not {}", node.kind_name());
        report.error(Code::TYPE, node.at.clone(), message);
        return Vec::new();
    };
    if items.is_empty() {
        report.error(Code::EMPTY, node.at.clone(), "`steps` is an empty list");
    }
    if let Some(over) = items.get(STEPS_MAX) {
        let message = format!("more than {STEPS_MAX} steps");
        report.error(Code::TOO_MANY, over.at.clone(), message);
    }
    let items = items.iter().take(STEPS_MAX);
    items.filter_map(|item| step(report, item, names)).collect()
}

/// One step: a command, a mapping with `run`, or one with `step_type` and `config`.
fn step(report: &mut Report<'_>, node: &Rc<Node>, names: &Names) -> Option<Task> {
    if node.scalar().is_some() {
        let run = values::text(report, node, "step")?;
        return Some(Task {
            key: Rc::clone(node),
            run,
            shell: SHELL.to_owned(),
            ..Task::default()
        });
    }
    let fields = Fields::read(report, node, &keys::STEP)?;
    let mut names = names.clone();
    let mut task = Task {
        name: settings::text(report, &fields, "name"),
        key: Rc::clone(node),
        shell: SHELL.to_owned(),
        condition: settings::text(report, &fields, "condition"),
        continue_on_error: continue_on_error(report, &fields),
        timeout_ms: settings::seconds(report, &fields, "timeout"),
        retry: settings::retries(report, &fields),
        ..Task::default()
    };
    if let Some(node) = fields.get("environment") {
        environment(report, node, &mut names, &mut task);
    }
    let directory = fields.get("working_directory");
    task.working_directory = directory.and_then(|node| directory_of(report, node, &names));
    if fields.has("run") {
        task.run = settings::text(report, &fields, "run")?;
        return Some(task);
    }
    shell_step(report, node, &fields, &mut names, task)
}

/// A step with `step_type` and `config`.
fn shell_step(
    report: &mut Report<'_>,
    node: &Rc<Node>,
    fields: &Fields<'_>,
    names: &mut Names,
    mut task: Task,
) -> Option<Task> {
    if !fields.has("step_type") {
        report
            .error(
                Code::MISSING_KEY,
                node.at.clone(),
                "this step has neither `run` nor `step_type`",
            )
            .help("write `run: make test`, or `step_type: shell` with `config`");
    }
    check_type(report, fields.get("step_type")?)?;
    let Some(config) = fields.get("config") else {
        report
            .error(
                Code::MISSING_KEY,
                node.at.clone(),
                "this step has no `config`",
            )
            .help("write `config: { command: make test }`");
        return None;
    };
    let config_fields = Fields::read(report, config, &keys::SHELL)?;
    if let Some(node) = config_fields.get("environment") {
        environment(report, node, names, &mut task);
    }
    if let Some(node) = config_fields.get("working_directory") {
        task.working_directory = directory_of(report, node, names);
    }
    let command = config_fields.get("command");
    let command = command.or_else(|| config_fields.get("script"));
    let Some(command) = command else {
        report
            .error(
                Code::MISSING_KEY,
                config.at.clone(),
                "this step has neither `command` nor `script`",
            )
            .help("a shell step needs what it runs: `command: make test`");
        return None;
    };
    (task.run, task.shell) = script(report, command, "command")?;
    Some(task)
}

/// Whether a kind of step can be run here.
fn check_type(report: &mut Report<'_>, node: &Rc<Node>) -> Option<()> {
    let value = values::literal(report, node, "step_type")?;
    let found = STEP_TYPES
        .iter()
        .find(|known| known.spellings.contains(&value));
    let Some(found) = found else {
        let words = STEP_TYPES
            .iter()
            .filter_map(|known| known.spellings.first());
        let words: Vec<&str> = words.copied().collect();
        report
            .error(
                Code::VALUE,
                node.at.clone(),
                format!("`{value}` is not a value of `step_type`"),
            )
            .nearest(nearest(value, words.iter().copied()))
            .help(format!("one of: {}", words.join(", ")));
        return None;
    };
    if found.instead.is_empty() {
        return Some(());
    }
    report
        .error(
            Code::NOT_YET,
            node.at.clone(),
            format!("no runner here can do steps of the type `{value}`"),
        )
        .help(found.instead);
    None
}

/// `continue_on_error: true`, or the other spelling of it: `on_failure: continue`.
fn continue_on_error(report: &mut Report<'_>, fields: &Fields<'_>) -> Option<Rc<Node>> {
    if let Some(node) = fields.get("on_failure") {
        let words = ["continue", "ignore", "stop", "fail", "abort"];
        let word = values::word(report, node, "on_failure", &words);
        if matches!(word, Some("continue" | "ignore")) {
            return Some(Node::true_at(node.at.clone()));
        }
    }
    let node = fields.get("continue_on_error")?;
    let text = node.text().unwrap_or_default();
    if !crate::template::is_template(text) {
        values::boolean(report, node, "continue_on_error")?;
    }
    Some(Rc::clone(node))
}

/// Adds the environment of a task.
fn environment(report: &mut Report<'_>, node: &Rc<Node>, names: &mut Names, task: &mut Task) {
    names.declare(report, node, "environment").under(task, node);
}

/// A directory in the workspace, whichever way the file says so.
fn directory_of(report: &mut Report<'_>, node: &Rc<Node>, names: &Names) -> Option<Rc<Node>> {
    let node = values::text(report, node, "working_directory")?;
    let node = names.text(report, &node);
    let text = node.text().unwrap_or_default();
    let inside = text.strip_prefix("${{ runner.workspace }}").map(|rest| {
        let rest = rest.trim_start_matches('/');
        if rest.is_empty() { "." } else { rest }
    });
    let inside = inside.unwrap_or(text);
    if inside.starts_with(['/', '~']) || inside.split('/').any(|part| part == "..") {
        report
            .error(
                Code::VALUE,
                node.at.clone(),
                format!("`{inside}` lies outside of the workspace"),
            )
            .help("name a directory in the workspace, or use `cd` in the command");
        return None;
    }
    Some(Node::text_at(inside, node.at.clone()))
}

/// A command or a list of commands, with the shell for it. A list ends with the first that fails.
fn script(report: &mut Report<'_>, node: &Rc<Node>, what: &str) -> Option<(Rc<Node>, String)> {
    let NodeKind::Sequence(_) = &node.kind else {
        return Some((values::text(report, node, what)?, SHELL.to_owned()));
    };
    let lines = values::texts(report, node, what);
    if lines.is_empty() {
        return None;
    }
    let lines: Vec<&str> = lines.iter().filter_map(|line| line.text()).collect();
    let run = Node::text_at(lines.join("\n"), node.at.clone());
    Some((run, "sh -e {0}".to_owned()))
}

/// One entry of `jobs`, with the name of its stage.
pub(super) fn job(
    report: &mut Report<'_>,
    key: &Rc<Node>,
    node: &Rc<Node>,
    names: &Names,
) -> Option<(Option<Rc<Node>>, Task)> {
    let mut task = Task {
        name: values::text(report, key, "job name"),
        key: Rc::clone(key),
        ..Task::default()
    };
    if !matches!(node.kind, NodeKind::Mapping(_)) {
        (task.run, task.shell) = script(report, node, "script")?;
        return Some((None, task));
    }
    let fields = Fields::read(report, node, &keys::JOB)?;
    let mut names = names.clone();
    if let Some(node) = fields.get("matrix") {
        task.matrix = settings::matrix(report, node, &mut names);
    }
    if let Some(node) = fields.get("environment") {
        environment(report, node, &mut names, &mut task);
    }
    task.cache = fields
        .get("cache")
        .and_then(|node| settings::cache(report, node, &names));
    task.condition = settings::text(report, &fields, "condition");
    task.continue_on_error = continue_on_error(report, &fields);
    task.timeout_ms = settings::seconds(report, &fields, "timeout");
    task.retry = settings::retries(report, &fields);
    if !fields.has("script") {
        let message = "this job has no `script`";
        report
            .error(Code::MISSING_KEY, key.at.clone(), message)
            .help("a job needs a command or a list of them: `script: make test`");
    }
    let script = fields.get("script");
    (task.run, task.shell) = script.and_then(|node| self::script(report, node, "script"))?;
    let stage = settings::text(report, &fields, "stage");
    Some((stage, task))
}

/// Whether tasks of a stage run at the same time.
pub(super) fn order(report: &mut Report<'_>, fields: &Fields<'_>) -> Order {
    let node = fields.get("parallel");
    match node.and_then(|node| values::boolean(report, node, "parallel")) {
        Some(true) => Order::AtOnce,
        _ => Order::InTurn,
    }
}
