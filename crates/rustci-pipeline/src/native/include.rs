//! Files that a pipeline includes.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::fields::{Fields, entries};
use super::given::{self, Budget};
use super::path::{self, PathError};
use super::{keys, values};
use crate::Files;
use crate::diagnostic::Code;
use crate::limits::{INCLUDE_BYTES_MAX, INCLUDE_DEPTH_MAX, INCLUDE_FILES_MAX, INCLUDES_MAX};
use crate::report::Report;
use crate::yaml::{self, Entry, Node, NodeKind};

/// The files that can be included, each read once.
pub(super) struct Library<'t> {
    files: &'t Files,
    read: HashMap<String, Option<Rc<Node>>>,
    bytes: usize,
    /// Paths with what was given to them, as far as they were taken into the pipeline.
    included: HashSet<(String, Option<String>)>,
    /// How often something was included.
    times: usize,
    pub(super) budget: Budget,
    /// The files that are being included, the outermost first.
    path: Vec<String>,
    pub(super) missing: Missing,
}

/// Which jobs of a file are wanted.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'n> {
    All,
    One(&'n str),
}

impl<'t> Library<'t> {
    /// `file` is the pipeline's own.
    pub(super) fn new(file: &str, files: &'t Files) -> Self {
        Self {
            files,
            read: HashMap::new(),
            bytes: 0,
            included: HashSet::new(),
            times: 0,
            budget: Budget::default(),
            path: vec![path::normal(file).unwrap_or_default()],
            missing: Missing::None,
        }
    }

    /// Makes the pipeline's own file one whose jobs can be used.
    pub(super) fn know(&mut self, root: &Rc<Node>) {
        if let [own] = self.path.as_slice() {
            self.read.insert(own.clone(), Some(Rc::clone(root)));
        }
    }

    /// The files that `root` includes, and what those include, each behind its own. `root` itself
    /// is not among them.
    pub(super) fn included(&mut self, report: &mut Report<'t>, root: &Rc<Node>) -> Vec<Rc<Node>> {
        let Some(list) = root.get("include").filter(|list| !list.is_null()) else {
            return Vec::new();
        };
        let single;
        let items = match &list.kind {
            NodeKind::Sequence(items) => {
                if items.is_empty() {
                    let message = "`include` is an empty list";
                    report.error(Code::EMPTY, list.at.clone(), message);
                }
                items.as_slice()
            }
            _ => {
                single = [Rc::clone(list)];
                single.as_slice()
            }
        };
        let mut files = Vec::new();
        for item in items {
            if report.is_full() {
                break;
            }
            files.extend(self.entry(report, item));
        }
        files
    }

    /// One entry of `include`: the files that it brings.
    fn entry(&mut self, report: &mut Report<'t>, item: &Rc<Node>) -> Vec<Rc<Node>> {
        let (local, with) = match &item.kind {
            NodeKind::Mapping(_) => {
                if refuse_remote(report, item) {
                    self.missing = Missing::Some;
                    return Vec::new();
                }
                let Some(fields) = Fields::read(report, item, &keys::INCLUDE) else {
                    return Vec::new();
                };
                if !fields.has("local") {
                    report
                        .error(
                            Code::MISSING_KEY,
                            item.at.clone(),
                            "this entry of `include` has no `local`",
                        )
                        .help("such as `{ local: .rustci/templates/rust.yaml }`");
                }
                (fields.get("local"), fields.get("with"))
            }
            _ => (Some(item), None),
        };
        let Some(local) = local else {
            return Vec::new();
        };
        let Some(text) = values::literal(report, local, "local") else {
            return Vec::new();
        };
        let Some(path) = checked(report, local, text) else {
            self.missing = Missing::Some;
            return Vec::new();
        };
        // Two templates may build on a third one: what is the same is there once.
        let with_json = with.map(|with| with.to_json().to_string());
        if !self.included.insert((path.clone(), with_json)) && !self.path.contains(&path) {
            return Vec::new();
        }
        let files = self.nested(report, &path, local, |library, report| {
            let template = library.template(report, &path, local, with, Wanted::All)?;
            check_keys(report, &template);
            let mut files = library.included(report, &template);
            files.push(template);
            Some(files)
        });
        files.flatten().unwrap_or_else(|| {
            self.missing = Missing::Some;
            Vec::new()
        })
    }

    /// Does something inside of one more file or job; `what` is what a circle is told by. None when
    /// it is inside already, or too deep.
    pub(super) fn nested<T>(
        &mut self,
        report: &mut Report<'t>,
        what: &str,
        user: &Node,
        inside: impl FnOnce(&mut Self, &mut Report<'t>) -> T,
    ) -> Option<T> {
        if self.path.iter().any(|open| open == what) {
            let circle = self.path.iter().skip_while(|open| *open != what);
            let names: Vec<&str> = circle.map(String::as_str).chain([what]).collect();
            let message = match names.as_slice() {
                [one, _] => format!("`{one}` includes itself"),
                _ => format!("files include each other: {}", names.join(" includes ")),
            };
            report.error(Code::INCLUDE_CYCLE, user.at.clone(), message);
            return None;
        }
        self.times += 1;
        if self.path.len() > INCLUDE_DEPTH_MAX || self.times > INCLUDES_MAX {
            let message = if self.times > INCLUDES_MAX {
                format!("files are included more than {INCLUDES_MAX} times")
            } else {
                format!("files include each other more than {INCLUDE_DEPTH_MAX} levels deep")
            };
            report.error(Code::INCLUDE_LIMIT, user.at.clone(), message);
            return None;
        }
        self.path.push(what.to_owned());
        let result = inside(self, report);
        self.path.pop();
        Some(result)
    }

    /// The ids of the jobs of a file that was read.
    pub(super) fn job_names(&self, path: &str) -> Vec<String> {
        let root = self.read.get(path).cloned().flatten();
        let jobs = root.as_ref().and_then(|root| root.get("jobs"));
        let Some(NodeKind::Mapping(jobs)) = jobs.map(|jobs| &jobs.kind) else {
            return Vec::new();
        };
        let names = jobs.iter().filter_map(|job| job.key.text());
        names.map(str::to_owned).collect()
    }

    /// The tree of a file with its inputs filled in.
    pub(super) fn template(
        &mut self,
        report: &mut Report<'t>,
        path: &str,
        user: &Rc<Node>,
        with: Option<&Rc<Node>>,
        wanted: Wanted<'_>,
    ) -> Option<Rc<Node>> {
        let root = self.file(report, path, user)?;
        entries(report, &root, "an included file")?;
        let inputs = given::read(report, root.get("inputs"), with, user);
        let root = only(&root, wanted);
        self.budget.pay(report, user, &root)?;
        let Some(inputs) = inputs else {
            return Some(root);
        };
        Some(inputs.fill(report, &mut self.budget, &root))
    }

    /// The tree of a file as it stands there; none when it has a mistake.
    pub(super) fn file(
        &mut self,
        report: &mut Report<'t>,
        path: &str,
        user: &Node,
    ) -> Option<Rc<Node>> {
        if let Some(read) = self.read.get(path) {
            return read.clone();
        }
        let root = self.read_file(report, path, user);
        self.read.insert(path.to_owned(), root.clone());
        root
    }

    fn read_file(&mut self, report: &mut Report<'t>, path: &str, user: &Node) -> Option<Rc<Node>> {
        let files: &'t Files = self.files;
        let Some((name, text)) = files.get_key_value(path) else {
            report
                .error(
                    Code::INCLUDE,
                    user.at.clone(),
                    format!("there is no file `{path}` in the project"),
                )
                .help("its path begins at the project's root");
            return None;
        };
        self.bytes = self.bytes.saturating_add(text.len());
        if self.read.len() >= INCLUDE_FILES_MAX || self.bytes > INCLUDE_BYTES_MAX {
            let message = if self.bytes > INCLUDE_BYTES_MAX {
                format!("included files have more than {INCLUDE_BYTES_MAX} bytes together")
            } else {
                format!("more than {INCLUDE_FILES_MAX} files are included")
            };
            report.error(Code::INCLUDE_LIMIT, user.at.clone(), message);
            return None;
        }
        let source = report.include(name, text);
        yaml::load_from(report, source).ok()
    }
}

/// Whether every file was there. Where one was not, nobody can say which jobs exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    None,
    Some,
}

/// Keys of entries for files that are not in the project.
const REMOTE: [&str; 7] = [
    "git",
    "project",
    "remote",
    "template",
    "component",
    "ref",
    "file",
];

/// Whether an entry is for a file that is not in the project, which is reported.
fn refuse_remote(report: &mut Report<'_>, item: &Node) -> bool {
    let NodeKind::Mapping(entries) = &item.kind else {
        return false;
    };
    let remote = |entry: &&Entry| entry.key.text().is_some_and(|key| REMOTE.contains(&key));
    let Some(found) = entries.iter().find(remote) else {
        return false;
    };
    let name = found.key.text().unwrap_or_default();
    let message = format!(
        "`{name}` includes a file from elsewhere; this version only includes files of the project"
    );
    report
        .error(Code::NOT_YET, found.key.at.clone(), message)
        .help("keep a copy of it in the project and name it with `local`");
    true
}

/// The path that a text names; reports one that is none.
pub(super) fn checked(report: &mut Report<'_>, node: &Node, text: &str) -> Option<String> {
    let (code, message, help) = match path::normal(text) {
        Ok(path) => return Some(path),
        Err(PathError::Remote) => (
            Code::NOT_YET,
            format!("`{text}` is not in this project; this version only uses files that are"),
            "keep a copy of it in the project",
        ),
        Err(PathError::Outside) => (
            Code::INCLUDE_PATH,
            format!("`{text}` leads out of the project"),
            "name the file from the project's root: `.rustci/templates/rust.yaml`",
        ),
        Err(PathError::Unusable) => (
            Code::INCLUDE_PATH,
            "this is not the path of a file".to_owned(),
            "name the file from the project's root: `.rustci/templates/rust.yaml`",
        ),
    };
    report.error(code, node.at.clone(), message).help(help);
    None
}

/// Reports what belongs to a pipeline and not to a file that it includes.
pub(super) fn check_keys(report: &mut Report<'_>, template: &Rc<Node>) {
    let NodeKind::Mapping(entries) = &template.kind else {
        return;
    };
    let of_pipelines = ["on", "concurrency", "permissions"];
    for entry in entries {
        let name = entry.key.text().unwrap_or_default();
        if of_pipelines.contains(&name) {
            let message = format!("`{name}` of an included file would have no effect");
            report
                .error(Code::TEMPLATE, entry.key.at.clone(), message)
                .help(
                    "it belongs into the pipeline; a job can `uses` one of this file all the same",
                );
        }
    }
    let known = |entry: &&Entry| {
        !entry
            .key
            .text()
            .is_some_and(|name| of_pipelines.contains(&name))
    };
    let rest = entries.iter().filter(known).cloned().collect();
    let rest = Node::instead(NodeKind::Mapping(rest), template.at.clone());
    Fields::read(report, &rest, &keys::TEMPLATE);
}

/// A file with only those jobs that may be wanted, so that the others cost nothing.
fn only(root: &Rc<Node>, wanted: Wanted<'_>) -> Rc<Node> {
    let (NodeKind::Mapping(entries), Wanted::One(id)) = (&root.kind, wanted) else {
        return Rc::clone(root);
    };
    let fits = |entry: &&Entry| {
        let name = entry.key.text().unwrap_or_default();
        name == id || crate::template::is_template(name)
    };
    let kept = entries.iter().map(|entry| match &entry.value.kind {
        NodeKind::Mapping(jobs) if entry.key.text() == Some("jobs") => {
            let jobs = jobs.iter().filter(fits).cloned().collect();
            Entry {
                key: Rc::clone(&entry.key),
                value: Node::instead(NodeKind::Mapping(jobs), entry.value.at.clone()),
            }
        }
        _ => entry.clone(),
    });
    Node::instead(NodeKind::Mapping(kept.collect()), root.at.clone())
}

/// The paths of files that a text includes or whose jobs it uses, as they are found by.
pub(super) fn named(root: &Node) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |text: Option<&str>| {
        let path = text.and_then(|text| path::normal(text).ok());
        if let Some(path) = path.filter(|path| !found.contains(path) && found.len() <= INCLUDES_MAX)
        {
            found.push(path);
        }
    };
    let list = root.get("include").map(|list| match &list.kind {
        NodeKind::Sequence(items) => items.iter().collect(),
        _ => vec![list],
    });
    for item in list.unwrap_or_default() {
        add(item.text().or_else(|| item.get("local")?.text()));
    }
    if let Some(NodeKind::Mapping(jobs)) = root.get("jobs").map(|jobs| &jobs.kind) {
        for job in jobs {
            let uses = job.value.get("uses").and_then(|uses| uses.text());
            add(uses.and_then(|uses| Some(uses.split_once('#')?.0)));
        }
    }
    found
}
