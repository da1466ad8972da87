//! The file's top level.

use std::collections::HashMap;
use std::rc::Rc;

use super::draft::{Binding, Defaults, Draft, JobDraft};
use super::fields::{Fields, entries};
use super::include::{Library, Missing};
use super::values::{self, NameRule};
use super::{gates, given, include, job, keys, step, triggers, uses};
use crate::diagnostic::Code;
use crate::report::Report;
use crate::yaml::{Entry, Node, NodeKind};

/// Reads a pipeline with everything that it includes. None when there is nothing to go on with.
pub(super) fn pipeline<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    root: &Rc<Node>,
) -> Option<Draft> {
    library.know(root);
    if let Some(declared) = inputs_of(root) {
        refuse_template(report, &declared.key);
    }
    let root = &standing_alone(report, library, root);
    Fields::read(report, root, &keys::PIPELINE)?;
    draft(report, library, root, Role::Pipeline)
}

/// Reads a file that others include by itself, with examples for its inputs.
pub(super) fn template<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    root: &Rc<Node>,
) -> Option<Draft> {
    library.know(root);
    entries(report, root, "an included file")?;
    include::check_keys(report, root);
    // Its jobs may need those of the pipelines that include it.
    library.missing = Missing::Some;
    let root = &standing_alone(report, library, root);
    draft(report, library, root, Role::Template)
}

/// What a file is read as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Pipeline,
    Template,
}

/// Reads what the file and those that it includes say.
fn draft<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    root: &Rc<Node>,
    role: Role,
) -> Option<Draft> {
    let fields = Fields::checked(root);
    if let Some(version) = fields.get("version") {
        values::integer(report, version, "version", 1..=1);
    }
    let name = fields
        .get("name")
        .and_then(|node| values::literal(report, node, "name"));
    let name = name.map_or_else(|| stem(report.source().file), str::to_owned);
    let concurrency = fields
        .get("concurrency")
        .and_then(|node| gates::concurrency(report, node));
    let (triggers, inputs) = triggers::triggers(report, fields.get("on"));
    let mut files = library.included(report, root);
    files.push(Rc::clone(root));
    let mut defaults = Defaults::default();
    let mut env = Vec::new();
    for file in &files {
        defaults = defaults_of(report, file).over(defaults);
        uses::over(&mut env, env_of(report, file));
    }
    if role == Role::Pipeline && files.iter().all(|file| file.get("jobs").is_none()) {
        if library.missing == Missing::Some {
            return None;
        }
        report
            .error(
                Code::MISSING_KEY,
                root.at.clone(),
                "the pipeline has no `jobs`",
            )
            .help("a pipeline needs at least one job with steps");
        return None;
    }
    let jobs = jobs(report, library, &files, &defaults);
    Some(Draft {
        name,
        env,
        triggers,
        inputs,
        concurrency,
        jobs,
        missing: library.missing,
    })
}

/// The `inputs` of a file, which make it a template.
fn inputs_of(root: &Node) -> Option<&Entry> {
    let NodeKind::Mapping(entries) = &root.kind else {
        return None;
    };
    entries
        .iter()
        .find(|entry| entry.key.text() == Some("inputs"))
}

/// Reports a template in the place of a pipeline; what else is wrong with it is told all the same.
fn refuse_template(report: &mut Report<'_>, inputs: &Node) {
    let file = report.source().file;
    let below = file.strip_prefix(".rustci/");
    let help = if below.is_some_and(|rest| rest.contains('/')) {
        "name the pipeline that includes it"
    } else {
        "keep it in a directory below `.rustci`; what a person gives to a run stands under \
         `on.manual.inputs`"
    };
    report
        .error(
            Code::TEMPLATE,
            inputs.at.clone(),
            "a file with `inputs` is a template for others and does not run by itself",
        )
        .help(help);
}

/// A file with examples for its inputs, if it has any.
fn standing_alone<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    root: &Rc<Node>,
) -> Rc<Node> {
    let (NodeKind::Mapping(entries), Some(declared)) = (&root.kind, inputs_of(root)) else {
        return Rc::clone(root);
    };
    let rest = entries
        .iter()
        .filter(|entry| entry.key.text() != Some("inputs"));
    let rest = Node::instead(NodeKind::Mapping(rest.cloned().collect()), root.at.clone());
    let inputs = given::examples(report, &declared.value);
    inputs.fill(report, &mut library.budget, &rest)
}

/// The jobs of all files, those of the pipeline's own last.
fn jobs<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    files: &[Rc<Node>],
    defaults: &Defaults,
) -> Vec<JobDraft> {
    let mut drafts: Vec<JobDraft> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let listed = files.iter().filter_map(|file| file.get("jobs"));
    let listed = listed.filter(|node| !node.is_null());
    for node in listed {
        let entries = entries(report, node, "`jobs`").unwrap_or_default();
        if entries.is_empty() && matches!(node.kind, NodeKind::Mapping(_)) {
            report.error(Code::EMPTY, node.at.clone(), "`jobs` is empty");
        }
        for entry in entries {
            let id = entry.key.text().unwrap_or_default();
            if let Some(first) = places.insert(id.to_owned(), entry.key.at.start) {
                let source = report.source_of(first);
                let (file, line) = (source.file, source.span(first..first).line);
                let message = format!("there already is a job `{id}` in {file}, line {line}");
                report
                    .error(Code::DUPLICATE_JOB, entry.key.at.clone(), message)
                    .help("give one of them another id");
                continue;
            }
            let used = uses::follow(report, library, entry, defaults);
            if used.is_none() {
                library.missing = Missing::Some;
            }
            drafts.extend(used.and_then(|used| job::job(report, &used)));
        }
    }
    drafts
}

/// The `env` of a file.
pub(super) fn env_of(report: &mut Report<'_>, file: &Node) -> Vec<Binding> {
    let env = file.get("env").filter(|env| !env.is_null());
    env.map(|node| values::bindings(report, node, "env", NameRule::Environment))
        .unwrap_or_default()
}

/// What a file says for all jobs.
pub(super) fn defaults_of(report: &mut Report<'_>, file: &Node) -> Defaults {
    let defaults = file.get("defaults").filter(|node| !node.is_null());
    let defaults = defaults.map(|node| self::defaults(report, node));
    let permissions = file.get("permissions").filter(|node| !node.is_null());
    Defaults {
        permissions: permissions.map(|node| gates::permissions(report, node)),
        ..defaults.unwrap_or_default()
    }
}

/// Reads `defaults`.
fn defaults(report: &mut Report<'_>, node: &Rc<Node>) -> Defaults {
    let Some(fields) = Fields::read(report, node, &keys::DEFAULTS) else {
        return Defaults::default();
    };
    Defaults {
        permissions: None,
        timeout_ms: fields
            .get("timeout")
            .and_then(|node| values::duration(report, node, "timeout")),
        retry: fields.get("retry").map(|node| job::retry(report, node)),
        runs_on: fields.get("runs-on").map(|node| job::runs_on(report, node)),
        shell: fields
            .get("shell")
            .map(|node| step::shell(report, node))
            .unwrap_or_default(),
        working_directory: fields
            .get("working-directory")
            .and_then(|node| values::text(report, node, "working-directory")),
    }
}

/// The file's name without directories and endings.
pub(super) fn stem(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name
        .strip_suffix(".yaml")
        .or_else(|| name.strip_suffix(".yml"))
        .unwrap_or(name);
    let stem = stem.trim_start_matches('.');
    if stem.is_empty() {
        "pipeline".to_owned()
    } else {
        stem.to_owned()
    }
}
