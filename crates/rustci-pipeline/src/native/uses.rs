//! Jobs that are described in another file.

use std::rc::Rc;

use super::draft::{Binding, Defaults};
use super::fields::Fields;
use super::include::{Library, Wanted, checked};
use super::{keys, read, values};
use crate::diagnostic::Code;
use crate::nearest::nearest;
use crate::report::Report;
use crate::yaml::{Entry, Node, NodeKind};

/// A job as a whole, whatever files it comes from.
pub(super) struct Used {
    pub(super) entry: Entry,
    /// Of the files that it comes from, under the job's own.
    pub(super) env: Vec<Binding>,
    /// Those of the files that it comes from, where the job says nothing.
    pub(super) defaults: Defaults,
}

/// Follows the `uses` of a job, and of the job that is used.
pub(super) fn follow<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    entry: &Entry,
    defaults: &Defaults,
) -> Option<Used> {
    let Some(uses) = entry.value.get("uses").filter(|uses| !uses.is_null()) else {
        check_with(report, entry);
        return Some(Used {
            entry: entry.clone(),
            env: Vec::new(),
            defaults: defaults.clone(),
        });
    };
    // The keys of this job are checked before those of the other file are among them.
    Fields::read(report, &entry.value, &keys::JOB)?;
    if let NodeKind::Mapping(entries) = &entry.value.kind
        && let Some(steps) = entries
            .iter()
            .find(|entry| entry.key.text() == Some("steps"))
    {
        report
            .error(
                Code::TEMPLATE,
                steps.key.at.clone(),
                "a job with `uses` takes its steps from there",
            )
            .help("remove `steps`, or `uses`");
    }
    let (path, id) = target(report, uses)?;
    let key = format!("{path}#{id}");
    let used = library.nested(report, &key, uses, |library, report| {
        find(report, library, (uses, &path, &id), entry, defaults)
    });
    used.flatten()
}

/// `with` without `uses` has no meaning.
fn check_with(report: &mut Report<'_>, entry: &Entry) {
    if let NodeKind::Mapping(entries) = &entry.value.kind
        && let Some(with) = entries
            .iter()
            .find(|entry| entry.key.text() == Some("with"))
    {
        report
            .error(
                Code::TEMPLATE,
                with.key.at.clone(),
                "`with` gives inputs to a job of another file, but this job has no `uses`",
            )
            .help("write `uses: FILE#JOB`, or set variables in `env`");
    }
}

/// The file and the job that `uses` names.
fn target(report: &mut Report<'_>, uses: &Rc<Node>) -> Option<(String, String)> {
    let text = values::literal(report, uses, "uses")?;
    let (path, id) = text.split_once('#').unwrap_or((text, ""));
    let path = checked(report, uses, path)?;
    if id.is_empty() {
        report
            .error(
                Code::VALUE,
                uses.at.clone(),
                format!("`{text}` does not say which job of the file is meant"),
            )
            .help(format!("write `{path}#JOB`"));
        return None;
    }
    Some((path, id.to_owned()))
}

/// Finds the job in its file and lays what `entry` says over it.
fn find<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    (uses, path, id): (&Rc<Node>, &str, &str),
    entry: &Entry,
    defaults: &Defaults,
) -> Option<Used> {
    let with = entry.value.get("with").filter(|with| !with.is_null());
    let template = library.template(report, path, uses, with, Wanted::One(id))?;
    let mut files = library.included(report, &template);
    files.push(template);
    let jobs = files.iter().filter_map(|file| file.get("jobs"));
    let jobs: Vec<&Entry> = jobs
        .filter_map(|jobs| match &jobs.kind {
            NodeKind::Mapping(entries) => Some(entries),
            _ => None,
        })
        .flatten()
        .collect();
    let Some(found) = jobs.iter().rev().find(|job| job.key.text() == Some(id)) else {
        let names = library.job_names(path);
        report
            .error(
                Code::INCLUDE,
                uses.at.clone(),
                format!("`{path}` has no job `{id}`"),
            )
            .nearest(nearest(id, names.iter().map(String::as_str)));
        return None;
    };
    let mut own = Defaults::default();
    let mut env = Vec::new();
    for file in &files {
        own = read::defaults_of(report, file).over(own);
        over(&mut env, read::env_of(report, file));
    }
    let defaults = own.over(defaults.clone());
    let mut used = follow(report, library, found, &defaults)?;
    let mut inner = env;
    over(&mut inner, used.env);
    used.env = inner;
    used.entry = Entry {
        key: Rc::clone(&entry.key),
        value: merged(&entry.value, &used.entry.value),
    };
    Some(used)
}

/// Adds bindings, those of the same name being replaced.
pub(super) fn over(env: &mut Vec<Binding>, more: Vec<Binding>) {
    env.retain(|binding| more.iter().all(|other| other.name != binding.name));
    env.extend(more);
}

/// The job with everything that it does not say itself taken from the one that it uses. Names
/// under `env`, `secrets` and `outputs` count one by one.
fn merged(own: &Rc<Node>, used: &Rc<Node>) -> Rc<Node> {
    let (NodeKind::Mapping(mine), NodeKind::Mapping(theirs)) = (&own.kind, &used.kind) else {
        return Rc::clone(used);
    };
    let is_new = |entry: &&Entry| !matches!(entry.key.text(), Some("uses" | "with" | "steps"));
    let mut entries: Vec<Entry> = mine.iter().filter(is_new).cloned().collect();
    for theirs in theirs {
        let name = theirs.key.text().unwrap_or_default();
        let Some(mine) = entries
            .iter_mut()
            .find(|entry| entry.key.text() == Some(name))
        else {
            entries.push(theirs.clone());
            continue;
        };
        if matches!(name, "env" | "secrets" | "outputs") {
            mine.value = names_merged(&mine.value, &theirs.value);
        }
    }
    Node::instead(NodeKind::Mapping(entries), own.at.clone())
}

/// Two mappings or lists of names as one; the first counts where both have a name.
fn names_merged(mine: &Rc<Node>, theirs: &Rc<Node>) -> Rc<Node> {
    let kind = match (&mine.kind, &theirs.kind) {
        (NodeKind::Mapping(mine), NodeKind::Mapping(theirs)) => {
            let is_new = |entry: &&Entry| {
                !mine
                    .iter()
                    .any(|known| known.key.text() == entry.key.text())
            };
            let more = theirs.iter().filter(is_new);
            NodeKind::Mapping(mine.iter().chain(more).cloned().collect())
        }
        (NodeKind::Sequence(mine), NodeKind::Sequence(theirs)) => {
            let is_new = |item: &&Rc<Node>| !mine.iter().any(|known| known.text() == item.text());
            let more = theirs.iter().filter(is_new);
            NodeKind::Sequence(mine.iter().chain(more).cloned().collect())
        }
        _ => return Rc::clone(mine),
    };
    Node::instead(kind, mine.at.clone())
}
