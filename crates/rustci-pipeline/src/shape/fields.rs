//! Mappings with known keys.

use std::rc::Rc;

use super::Keys;
use crate::diagnostic::{Code, Severity};
use crate::report::Report;
use crate::yaml::{Entry, Node, NodeKind};

/// A mapping whose keys were checked.
pub(crate) struct Fields<'n> {
    node: &'n Node,
}

impl<'n> Fields<'n> {
    /// Reads a mapping, reporting keys that it does not have. None when it is no mapping.
    pub(crate) fn read(report: &mut Report<'_>, node: &'n Node, keys: &Keys) -> Option<Self> {
        let entries = entries(report, node, &with_article(keys.of))?;
        for entry in entries {
            if !report.is_full() {
                check_key(report, entry, keys);
            }
        }
        Some(Self { node })
    }

    /// A mapping whose keys were checked already.
    pub(crate) fn checked(node: &'n Node) -> Self {
        Self { node }
    }

    /// The value under a key; none also when it is empty, which is reported elsewhere.
    pub(crate) fn get(&self, name: &str) -> Option<&'n Rc<Node>> {
        self.node.get(name).filter(|value| !value.is_null())
    }

    /// Whether the key stands there, with or without a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.node.get(name).is_some()
    }
}

/// The entries of a mapping; reports when `node` is none.
pub(crate) fn entries<'n>(
    report: &mut Report<'_>,
    node: &'n Node,
    what: &str,
) -> Option<&'n [Entry]> {
    if let NodeKind::Mapping(entries) = &node.kind {
        return Some(entries);
    }
    let message = format!("{what} has to be a mapping, not {}", node.kind_name());
    report.error(Code::TYPE, node.at.clone(), message);
    None
}

/// Reports a key that is unknown, empty, or comes later.
fn check_key(report: &mut Report<'_>, entry: &Entry, keys: &Keys) {
    let name = entry.key.text().unwrap_or_default();
    let at = entry.key.at.clone();
    if keys.known.contains(&name) {
        // An event without filters has no value; everything else says something.
        if entry.value.is_null() && keys.of != "on" {
            report
                .error(Code::EMPTY, at, format!("`{name}` has no value"))
                .help("give it one, or remove the key");
        }
        return;
    }
    let Some(later) = keys.later(name) else {
        let message = format!("unknown key `{name}` in {}", with_article(keys.of));
        report
            .error(Code::UNKNOWN_KEY, at, message)
            .nearest(keys.nearest(name))
            .help(format!("keys here: {}", keys.known.join(", ")));
        return;
    };
    match later.severity {
        Severity::Error => {
            let message = format!(
                "`{name}` needs {}, which this version cannot do",
                later.what
            );
            report
                .error(Code::NOT_YET, at, message)
                .help("the pipeline would do something else without it, so it is not run");
        }
        Severity::Warning => {
            let message = format!("`{name}` is left out: this version has no {}", later.what);
            report
                .warning(Code::IGNORED, at, message)
                .help("everything else runs");
        }
    }
}

/// A kind of mapping in a sentence.
fn with_article(of: &str) -> String {
    match of {
        "on" | "defaults" | "runs-on" | "retry" | "manual" | "concurrency" | "environment"
        | "approval" | "reports" | "include" | "server" => format!("`{of}`"),
        "pipeline" => "the pipeline".to_owned(),
        "input" | "included file" => format!("an {of}"),
        "downloads" | "artifacts" | "cron" => format!("an entry of `{of}`"),
        "include entry" => "an entry of `include`".to_owned(),
        _ => format!("a {of}"),
    }
}
