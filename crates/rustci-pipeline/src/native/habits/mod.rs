//! Bad habits: what runs, and should better be written in another way.
//!
//! Every finding is a warning and can be allowed where it stands, by a comment on its line or on
//! the lines right above it (`# rustci: allow RC0605`), or for the whole file
//! (`# rustci: allow-file RC0605`).

mod entropy;
mod reach;
mod scripts;
mod secrets;

use std::rc::Rc;

use super::draft::{Draft, JobDraft};
use super::tiers;
use crate::Files;
use crate::diagnostic::{Code, Diagnostic};
use crate::report::Report;
use crate::template::is_template;
use crate::yaml::{Node, NodeKind};

/// Looks for bad habits in a draft that was checked.
pub(super) fn check(report: &mut Report<'_>, root: &Node, draft: &Draft) {
    secrets::check(report, draft);
    reach::check(report, draft);
    for step in draft.jobs.iter().flat_map(|job| &job.steps) {
        scripts::check(report, &step.run);
    }
    strangers(report, draft);
    failures(report, draft);
    for job in &draft.jobs {
        caches(report, job);
    }
    if !tiers::fits(root) {
        timeouts(report, root);
        retries(report, root);
    }
}

/// Leaves out what a comment allows in the file where it stands.
pub(super) fn without_allowed(
    file: &str,
    text: &str,
    files: &Files,
    mut found: Vec<Diagnostic>,
) -> Vec<Diagnostic> {
    found.retain(|found| {
        let text = if found.file == file {
            Some(text)
        } else {
            files.get(&found.file).map(String::as_str)
        };
        !text.is_some_and(|text| is_allowed(text, found))
    });
    found
}

/// Whether a comment near a finding, or one for the whole file, names its code.
fn is_allowed(text: &str, found: &Diagnostic) -> bool {
    let code = found.code.to_string();
    let names = |codes: &str| codes.contains(&code);
    let lines: Vec<&str> = text.lines().collect();
    let at = usize::try_from(found.span.line).unwrap_or(0);
    let above = lines.get(..at.saturating_sub(1)).unwrap_or_default();
    let comments = above.iter().rev();
    let comments = comments.take_while(|line| line.trim_start().starts_with('#'));
    let mut near = lines.get(at.wrapping_sub(1)).into_iter().chain(comments);
    let mut all = lines.iter();
    all.any(|line| comment(line, "allow-file").is_some_and(names))
        || near.any(|line| comment(line, "allow").is_some_and(names))
}

/// What stands behind `# rustci: WORD` on a line.
fn comment<'t>(line: &'t str, word: &str) -> Option<&'t str> {
    let (_, rest) = line.rsplit_once('#')?;
    let rest = rest.trim_start().strip_prefix("rustci:")?.trim_start();
    rest.strip_prefix(word)?.strip_prefix(' ')
}

/// Secrets in a job that a pull request starts.
fn strangers(report: &mut Report<'_>, draft: &Draft) {
    if draft.triggers.pull_request.is_none() {
        return;
    }
    let mentions = |node: Option<&Rc<Node>>| {
        let text = node.and_then(|node| node.text()).unwrap_or_default();
        text.contains("event.") || text.contains("git.")
    };
    for job in &draft.jobs {
        let guarded = mentions(job.condition.as_ref());
        let Some(name) = job.secrets.values().next().filter(|_| !guarded) else {
            continue;
        };
        let message = format!("pull requests start this job, and it gets the secret `{name}`");
        report
            .warning(Code::SECRETS_FOR_STRANGERS, job.key.at.clone(), message)
            .help("add `if: event.name != 'pull_request'`, or move what needs it to another job");
    }
}

/// Jobs whose steps can all fail, and pipelines that can.
fn failures(report: &mut Report<'_>, draft: &Draft) {
    let forgiven = |node: Option<&Rc<Node>>| {
        node.and_then(|node| node.text())
            .is_some_and(|text| text.eq_ignore_ascii_case("true"))
    };
    let help = "let what matters fail, so that somebody sees it";
    for job in &draft.jobs {
        let all = job
            .steps
            .iter()
            .all(|step| forgiven(step.continue_on_error.as_ref()));
        if let (true, [first, _, ..]) = (all, job.steps.as_slice()) {
            let at = first.continue_on_error.as_ref();
            let at = at.map_or_else(|| job.key.at.clone(), |node| node.at.clone());
            let message = format!("every step of `{}` may fail, so the job never does", job.id);
            report
                .warning(Code::IGNORED_FAILURE, at, message)
                .help(help);
        }
    }
    let all = |job: &JobDraft| forgiven(job.continue_on_error.as_ref());
    let first = draft
        .jobs
        .first()
        .and_then(|job| job.continue_on_error.as_ref());
    if let (true, Some(node)) = (draft.jobs.iter().all(all), first) {
        let message = "every job of this pipeline may fail, so no run ever does";
        report
            .warning(Code::IGNORED_FAILURE, node.at.clone(), message)
            .help(help);
    }
}

/// Caches that are saved once and never again.
fn caches(report: &mut Report<'_>, job: &JobDraft) {
    for cache in &job.data.caches {
        let key = cache.key.text().unwrap_or_default();
        if is_template(key) {
            continue;
        }
        report
            .warning(
                Code::CONSTANT_CACHE_KEY,
                cache.key.at.clone(),
                "this key never changes, so the cache is saved once and stays old",
            )
            .help("put what the content depends on into it: `${{ hashFiles('Cargo.lock') }}`");
    }
}

/// Jobs of a native file without a limit of their own, told once.
fn timeouts(report: &mut Report<'_>, root: &Node) {
    let has_default = root
        .get("defaults")
        .is_some_and(|defaults| defaults.get("timeout").is_some());
    let Some((jobs, NodeKind::Mapping(entries))) = root.get("jobs").map(|jobs| (jobs, &jobs.kind))
    else {
        return;
    };
    let bare: Vec<&str> = entries
        .iter()
        .filter(|job| job.value.get("timeout").is_none())
        .filter_map(|job| job.key.text())
        .collect();
    let (Some(first), false) = (bare.first(), has_default) else {
        return;
    };
    let at = entries.iter().find(|job| job.key.text() == Some(first));
    let at = at.map_or_else(|| jobs.at.clone(), |job| job.key.at.clone());
    let message = match bare.len() {
        1 => format!("job `{first}` has no `timeout`: when it hangs it holds a runner for an hour"),
        n => format!("{n} jobs have no `timeout`: one that hangs holds a runner for an hour"),
    };
    report
        .warning(Code::NO_TIMEOUT, at, message)
        .help("set it for all of them: `defaults: { timeout: 20m }`");
}

/// Tries that are none.
fn retries(report: &mut Report<'_>, root: &Node) {
    let mut open = vec![root];
    while let Some(node) = open.pop() {
        match &node.kind {
            NodeKind::Scalar(_) => {}
            NodeKind::Sequence(items) => open.extend(items.iter().map(Rc::as_ref)),
            NodeKind::Mapping(entries) => {
                for entry in entries {
                    open.push(&entry.value);
                    let max = entry.value.get("max").unwrap_or(&entry.value);
                    if entry.key.text() == Some("retry") && max.text() == Some("0") {
                        report
                            .warning(
                                Code::EMPTY_RETRY,
                                max.at.clone(),
                                "this `retry` makes no further try",
                            )
                            .help("say how many, or remove it");
                    }
                }
            }
        }
    }
}
