//! The older RustCI file, with its four tiers: minimal, simple, standard, advanced.
//!
//! Whatever its form, it is read as stages of tasks ([`task`]) and lowered to jobs of the same
//! draft as a native file ([`lower`]), so everything behind that is the same for both. Stages of an
//! older pipeline share one workspace and expect the files of the stage before. So they become the
//! steps of one job; only a job with a matrix of its own is a job in the plan too, and the
//! workspace goes to it, and past it, as an artifact.

mod include;
mod jobs;
mod keys;
mod lower;
mod minimal;
mod names;
mod quotes;
mod read;
mod settings;
mod task;
mod triggers;

use std::rc::Rc;

pub(super) use lower::Rest;

use super::draft::Draft;
use super::include::Library;
use crate::report::Report;
use crate::yaml::{Node, NodeKind};

/// Top-level keys that only the older format has.
const OLDER: [&str; 12] = [
    "type",
    "pipeline_type",
    "repo",
    "server",
    "steps",
    "stages",
    "variables",
    "matrix",
    "triggers",
    "retry_count",
    "notifications",
    "environment",
];
/// Top-level keys that only the native format has.
const NATIVE: [&str; 5] = ["on", "env", "defaults", "concurrency", "permissions"];
/// Keys that only jobs of the native format have.
const NATIVE_JOB: [&str; 6] = ["steps", "needs", "runs-on", "uses", "env", "if"];
/// Keys that only jobs of the older format have.
const OLDER_JOB: [&str; 2] = ["script", "stage"];

/// Whether a file is of the older format: what only one of the formats has decides, and the
/// native one when both or neither is there.
pub(super) fn fits(root: &Node) -> bool {
    let has = |node: &Node, keys: &[&str]| keys.iter().any(|key| node.get(key).is_some());
    let jobs = match root.get("jobs").map(|jobs| &jobs.kind) {
        Some(NodeKind::Mapping(entries)) => entries.as_slice(),
        _ => &[],
    };
    if has(root, &NATIVE) || jobs.iter().any(|job| has(&job.value, &NATIVE_JOB)) {
        return false;
    }
    let older_job = |job: &Node| {
        let command = matches!(job.kind, NodeKind::Scalar(_) | NodeKind::Sequence(_));
        (command && !job.is_null()) || has(job, &OLDER_JOB)
    };
    has(root, &OLDER) || jobs.iter().any(|job| older_job(&job.value))
}

/// Reads a file of the older format. None when there is nothing to go on with.
pub(super) fn draft<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    root: &Rc<Node>,
) -> Option<(Draft, Rest)> {
    let root = include::merged(report, library, root);
    let file = read::file(report, &root)?;
    Some(lower::draft(report, file))
}
