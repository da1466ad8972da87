//! The file's top level.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::draft::{Defaults, Draft};
use super::fields::{Fields, entries};
use super::values::{self, NameRule};
use super::{gates, job, keys, step, triggers};
use crate::diagnostic::Code;
use crate::report::Report;
use crate::yaml::Node;

/// Reads the whole file. None when there is nothing to go on with.
pub(super) fn pipeline(report: &mut Report<'_>, root: &Rc<Node>) -> Option<Draft> {
    let fields = Fields::read(report, root, &keys::PIPELINE)?;
    if let Some(version) = fields.get("version") {
        values::integer(report, version, "version", 1..=1);
    }
    let name = fields
        .get("name")
        .and_then(|node| values::literal(report, node, "name"));
    let name = name.map_or_else(|| stem(report.source().file), str::to_owned);
    let mut defaults = fields
        .get("defaults")
        .map(|node| defaults(report, node))
        .unwrap_or_default();
    if let Some(node) = fields.get("permissions") {
        defaults.permissions = gates::permissions(report, node);
    }
    let concurrency = fields
        .get("concurrency")
        .and_then(|node| gates::concurrency(report, node));
    let env = fields
        .get("env")
        .map(|node| values::bindings(report, node, "env", NameRule::Environment))
        .unwrap_or_default();
    let (triggers, inputs) = triggers::triggers(report, fields.get("on"));
    if !fields.has("jobs") {
        report
            .error(
                Code::MISSING_KEY,
                root.at.clone(),
                "the pipeline has no `jobs`",
            )
            .help("a pipeline needs at least one job with steps");
    }
    let jobs = fields.get("jobs")?;
    let listed = entries(report, jobs, "`jobs`")?;
    if listed.is_empty() {
        report.error(Code::EMPTY, jobs.at.clone(), "`jobs` is empty");
    }
    let jobs = listed
        .iter()
        .filter_map(|entry| job::job(report, entry, &defaults))
        .collect();
    Some(Draft {
        name,
        env,
        triggers,
        inputs,
        concurrency,
        jobs,
    })
}

/// Reads `defaults`.
fn defaults(report: &mut Report<'_>, node: &Rc<Node>) -> Defaults {
    let Some(fields) = Fields::read(report, node, &keys::DEFAULTS) else {
        return Defaults::default();
    };
    Defaults {
        permissions: BTreeMap::new(),
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
