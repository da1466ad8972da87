//! What a job takes and leaves: caches, downloads, artifacts, reports.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::draft::{Draft, JobDraft};
use super::include::Missing;
use super::keys;
use crate::diagnostic::Code;
use crate::glob::Glob;
use crate::limits::{DATA_ENTRIES_MAX, EXPIRE_MS_MAX, NAME_CHARS_MAX};
use crate::nearest::nearest;
use crate::plan::{CachePolicy, IfMissing, ReportKind, When};
use crate::report::Report;
use crate::shape::Keys;
use crate::shape::fields::Fields;
use crate::shape::values;
use crate::template::is_template;
use crate::yaml::{Node, NodeKind};

/// Everything of a job that is about files outside of its steps.
#[derive(Default)]
pub(super) struct DataDraft {
    pub(super) caches: Vec<CacheDraft>,
    pub(super) downloads: Vec<DownloadDraft>,
    pub(super) artifacts: Vec<ArtifactDraft>,
    pub(super) reports: Vec<ReportDraft>,
}

pub(super) struct CacheDraft {
    pub(super) key: Rc<Node>,
    pub(super) restore_keys: Vec<Rc<Node>>,
    pub(super) paths: Vec<Rc<Node>>,
    pub(super) policy: CachePolicy,
    pub(super) when: When,
}

pub(super) struct DownloadDraft {
    pub(super) name: Rc<Node>,
    pub(super) path: Option<Rc<Node>>,
}

pub(super) struct ArtifactDraft {
    pub(super) name: Rc<Node>,
    pub(super) paths: Vec<Rc<Node>>,
    pub(super) when: When,
    pub(super) expire_ms: Option<u64>,
    pub(super) if_missing: IfMissing,
}

pub(super) struct ReportDraft {
    pub(super) kind: ReportKind,
    pub(super) paths: Vec<Rc<Node>>,
}

impl DataDraft {
    /// Every path that it names.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Rc<Node>> {
        let caches = self.caches.iter().flat_map(|cache| &cache.paths);
        let downloads = self.downloads.iter().filter_map(|it| it.path.as_ref());
        let artifacts = self.artifacts.iter().flat_map(|artifact| &artifact.paths);
        let reports = self.reports.iter().flat_map(|report| &report.paths);
        caches.chain(downloads).chain(artifacts).chain(reports)
    }
}

/// Reads `cache`, `downloads`, `artifacts` and `reports` of a job.
pub(super) fn data(report: &mut Report<'_>, job: &Fields<'_>) -> DataDraft {
    let mut list = |name: &str| {
        job.get(name)
            .map(|node| one_or_more(report, node, name))
            .unwrap_or_default()
    };
    let [caches, downloads, artifacts] = ["cache", "downloads", "artifacts"].map(&mut list);
    let caches = caches.iter().filter_map(|node| cache(report, node));
    let caches = caches.collect();
    let downloads = downloads.iter().filter_map(|node| download(report, node));
    let downloads = downloads.collect();
    let artifacts = artifacts.iter().filter_map(|node| artifact(report, node));
    let artifacts = artifacts.collect();
    let reports = job.get("reports").map(|node| reports(report, node));
    DataDraft {
        caches,
        downloads,
        artifacts,
        reports: reports.unwrap_or_default(),
    }
}

/// The entries of a list, or the one value that stands in its place.
fn one_or_more(report: &mut Report<'_>, node: &Rc<Node>, what: &str) -> Vec<Rc<Node>> {
    let NodeKind::Sequence(items) = &node.kind else {
        return vec![Rc::clone(node)];
    };
    if items.is_empty() {
        let message = format!("`{what}` is an empty list");
        report.error(Code::EMPTY, node.at.clone(), message);
    }
    if let Some(over) = items.get(DATA_ENTRIES_MAX) {
        let message = format!(
            "`{what}` has {} entries, at most {DATA_ENTRIES_MAX} are allowed",
            items.len()
        );
        report.error(Code::TOO_MANY, over.at.clone(), message);
    }
    items.iter().take(DATA_ENTRIES_MAX).cloned().collect()
}

/// Reads the fields of an entry and those two that it cannot do without.
fn entry<'n>(
    report: &mut Report<'_>,
    node: &'n Rc<Node>,
    keys: &Keys,
    name: &str,
    example: &str,
) -> Option<(Fields<'n>, Option<Rc<Node>>)> {
    let fields = Fields::read(report, node, keys)?;
    for needed in [name, "paths"] {
        if !fields.has(needed) {
            let message = format!("this entry of `{}` has no `{needed}`", keys.of);
            report
                .error(Code::MISSING_KEY, node.at.clone(), message)
                .help(format!("such as `{example}`"));
        }
    }
    let name = fields
        .get(name)
        .and_then(|node| values::text(report, node, name));
    Some((fields, name))
}

/// One cache.
fn cache(report: &mut Report<'_>, node: &Rc<Node>) -> Option<CacheDraft> {
    let example = "{ key: \"cargo-${{ hashFiles('Cargo.lock') }}\", paths: [target] }";
    let (fields, key) = entry(report, node, &keys::CACHE, "key", example)?;
    let restore_keys = fields
        .get("restore-keys")
        .map(|node| values::texts(report, node, "restore-keys"));
    let policy = word(
        report,
        &fields,
        "policy",
        &[
            ("pull-push", CachePolicy::PullPush),
            ("pull", CachePolicy::Pull),
            ("push", CachePolicy::Push),
        ],
    );
    let paths = paths(report, &fields, "paths", Root::WorkspaceOrHome);
    Some(CacheDraft {
        when: when(report, &fields),
        key: key?,
        restore_keys: restore_keys.unwrap_or_default(),
        paths,
        policy: policy.unwrap_or_default(),
    })
}

/// One download: a name, or a mapping.
fn download(report: &mut Report<'_>, node: &Rc<Node>) -> Option<DownloadDraft> {
    if let NodeKind::Scalar(_) = node.kind {
        let name = values::text(report, node, "downloads")?;
        artifact_name(report, &name)?;
        return Some(DownloadDraft { name, path: None });
    }
    let fields = Fields::read(report, node, &keys::DOWNLOAD)?;
    if !fields.has("name") {
        let message = "this entry of `downloads` has no `name`";
        report
            .error(Code::MISSING_KEY, node.at.clone(), message)
            .help("such as `{ name: app, path: dist }`");
    }
    let path = fields
        .get("path")
        .and_then(|node| values::text(report, node, "path"));
    if let Some(path) = &path {
        check_path(report, path, Root::Workspace);
    }
    let name = fields
        .get("name")
        .and_then(|node| values::text(report, node, "name"))?;
    artifact_name(report, &name)?;
    Some(DownloadDraft { name, path })
}

/// One artifact.
fn artifact(report: &mut Report<'_>, node: &Rc<Node>) -> Option<ArtifactDraft> {
    let example = "{ name: app, paths: [\"dist/**\"] }";
    let (fields, name) = entry(report, node, &keys::ARTIFACT, "name", example)?;
    let if_missing = word(
        report,
        &fields,
        "if-missing",
        &[
            ("warn", IfMissing::Warn),
            ("error", IfMissing::Error),
            ("ignore", IfMissing::Ignore),
        ],
    );
    let paths = patterns(report, &fields, "paths");
    let when = when(report, &fields);
    let expire_ms = fields
        .get("expire")
        .and_then(|node| values::duration_to(report, node, "expire", EXPIRE_MS_MAX));
    let name = name?;
    artifact_name(report, &name)?;
    Some(ArtifactDraft {
        name,
        paths,
        when,
        expire_ms,
        if_missing: if_missing.unwrap_or_default(),
    })
}

/// `reports`: a format to the files in it.
fn reports(report: &mut Report<'_>, node: &Rc<Node>) -> Vec<ReportDraft> {
    let Some(fields) = Fields::read(report, node, &keys::REPORTS) else {
        return Vec::new();
    };
    let junit = fields.get("junit").map(|_| ReportDraft {
        kind: ReportKind::Junit,
        paths: patterns(report, &fields, "junit"),
    });
    junit.into_iter().collect()
}

/// `when` of a cache or artifact.
fn when(report: &mut Report<'_>, fields: &Fields<'_>) -> When {
    let words = [
        ("success", When::Success),
        ("failure", When::Failure),
        ("always", When::Always),
    ];
    word(report, fields, "when", &words).unwrap_or_default()
}

/// The meaning of a word under a key.
fn word<T: Copy, const N: usize>(
    report: &mut Report<'_>,
    fields: &Fields<'_>,
    name: &str,
    words: &[(&'static str, T); N],
) -> Option<T> {
    let node = fields.get(name)?;
    let found = values::word(report, node, name, &words.each_ref().map(|(word, _)| *word))?;
    let meaning = words.iter().find(|(word, _)| *word == found);
    meaning.map(|(_, meaning)| *meaning)
}

/// Where a path may lead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Root {
    Workspace,
    WorkspaceOrHome,
}

/// Files or directories under a key.
fn paths(report: &mut Report<'_>, fields: &Fields<'_>, name: &str, root: Root) -> Vec<Rc<Node>> {
    let listed = fields
        .get(name)
        .map(|node| values::texts(report, node, name))
        .unwrap_or_default();
    for node in &listed {
        check_path(report, node, root);
    }
    listed
}

/// Patterns under a key.
fn patterns(report: &mut Report<'_>, fields: &Fields<'_>, name: &str) -> Vec<Rc<Node>> {
    let listed = paths(report, fields, name, Root::Workspace);
    let mut positive = false;
    for node in &listed {
        // Values of a matrix may take the place of any sign.
        let text = node.text().unwrap_or_default();
        match Glob::parse(text) {
            Ok(glob) => positive |= !glob.is_negative(),
            Err(message) if !is_template(text) => {
                report.error(Code::PATTERN, node.at.clone(), message);
                positive = true;
            }
            Err(_) => positive = true,
        }
    }
    if let Some(node) = fields.get(name).filter(|_| !listed.is_empty() && !positive) {
        let message = format!("`{name}` only says what does not fit, so nothing ever fits");
        report
            .error(Code::PATTERN, node.at.clone(), message)
            .help("begin the list with what fits, such as \"**\"");
    }
    listed
}

/// Reports a path that leads out of where it may lead.
fn check_path(report: &mut Report<'_>, node: &Rc<Node>, root: Root) {
    let text = node.text().unwrap_or_default();
    let path = text.strip_prefix('!').unwrap_or(text);
    let inside = match path.strip_prefix("~/") {
        Some(rest) if root == Root::WorkspaceOrHome => rest,
        _ => path,
    };
    let help = match root {
        Root::Workspace => "name it relative to the workspace",
        Root::WorkspaceOrHome => "name it relative to the workspace, or to the home with `~/`",
    };
    if inside.starts_with(['/', '~']) || inside.split('/').any(|part| part == "..") {
        let message = format!("`{text}` lies outside of the workspace");
        report
            .error(Code::VALUE, node.at.clone(), message)
            .help(help);
    }
}

/// Reports a name that could not be a file's; what expressions make of one is looked at when it
/// is known.
fn artifact_name(report: &mut Report<'_>, node: &Node) -> Option<()> {
    let name = node.text().unwrap_or_default();
    if is_template(name) {
        return Some(());
    }
    let valid = |c: char| !c.is_control() && !"/\\\":<>|*?".contains(c);
    let dots = name.chars().all(|c| c == '.');
    if name.chars().all(valid) && !dots && name.chars().count() <= NAME_CHARS_MAX {
        return Some(());
    }
    let shown: String = name.chars().take(40).filter(|c| !c.is_control()).collect();
    report
        .error(
            Code::NAME,
            node.at.clone(),
            format!("`{shown}` is not a valid artifact name"),
        )
        .help(format!(
            "up to {NAME_CHARS_MAX} characters, none of / \\ \" : < > | * ? and no line breaks"
        ));
    None
}

/// Reports entries that stand twice, and downloads of what no job before has kept.
pub(super) fn check(report: &mut Report<'_>, draft: &Draft, jobs: &HashMap<&str, &JobDraft>) {
    for job in &draft.jobs {
        let data = &job.data;
        let artifacts = data.artifacts.iter().map(|artifact| &artifact.name);
        unique(report, artifacts, "artifacts");
        unique(report, data.caches.iter().map(|cache| &cache.key), "caches");
        if !data.downloads.is_empty() && draft.missing == Missing::None {
            downloads(report, draft, job, jobs);
        }
    }
}

/// Reports a text that two entries of a job have.
fn unique<'n>(report: &mut Report<'_>, names: impl Iterator<Item = &'n Rc<Node>>, what: &str) {
    let mut seen = HashSet::new();
    for node in names {
        let name = node.text().unwrap_or_default();
        if !seen.insert(name) {
            let message = format!("two {what} of this job are called `{name}`");
            report.error(Code::DUPLICATE_ID, node.at.clone(), message);
        }
    }
}

/// Reports downloads that name nothing that a job before this one keeps.
fn downloads(
    report: &mut Report<'_>,
    draft: &Draft,
    job: &JobDraft,
    jobs: &HashMap<&str, &JobDraft>,
) {
    let before = before(job, jobs);
    let names: BTreeSet<&str> = before.iter().flat_map(|job| kept(job)).collect();
    // A name with an expression may come out as any other.
    let open = names.iter().any(|name| is_template(name));
    for download in &job.data.downloads {
        let name = download.name.text().unwrap_or_default();
        if is_template(name) || names.contains(name) || open || report.is_full() {
            continue;
        }
        let other = draft
            .jobs
            .iter()
            .find(|other| kept(other).any(|kept| kept == name));
        let help = match other {
            Some(other) if other.id == job.id => "this job keeps it itself, at its end".to_owned(),
            Some(other) => format!("job `{}` keeps it: add it to `needs`", other.id),
            None if names.is_empty() => "none of the jobs it needs keeps an artifact".to_owned(),
            None => {
                let some: Vec<&str> = names.iter().take(10).copied().collect();
                format!("kept by the jobs it needs: {}", some.join(", "))
            }
        };
        let meant = nearest(name, names.iter().copied()).filter(|_| other.is_none());
        report
            .error(
                Code::DOWNLOAD,
                download.name.at.clone(),
                format!("no job before this one keeps an artifact `{name}`"),
            )
            .nearest(meant)
            .help(help);
    }
}

/// The names of what a job keeps.
fn kept(job: &JobDraft) -> impl Iterator<Item = &str> {
    let artifacts = job.data.artifacts.iter();
    artifacts.filter_map(|artifact| artifact.name.text())
}

/// The jobs that a job needs, those that they need, and so on.
fn before<'d>(job: &'d JobDraft, jobs: &HashMap<&str, &'d JobDraft>) -> Vec<&'d JobDraft> {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut found = Vec::new();
    let mut open = vec![job];
    while let Some(job) = open.pop() {
        for need in job.needs.iter().filter_map(|need| need.text()) {
            if let Some(next) = jobs.get(need).filter(|_| seen.insert(need)) {
                found.push(*next);
                open.push(next);
            }
        }
    }
    found
}
