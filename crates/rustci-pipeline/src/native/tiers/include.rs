//! `include`: what files of the project bring, under what the pipeline says itself.

use std::rc::Rc;

use super::keys;
use crate::diagnostic::Code;
use crate::native::include::{Library, checked};
use crate::report::Report;
use crate::shape::fields::{Fields, entries};
use crate::shape::values;
use crate::yaml::{Entry, Node, NodeKind};

/// Mappings whose entries add up; everything else is taken from one place.
const ADDED: [&str; 3] = ["jobs", "variables", "environment"];
/// What a file says about itself.
const OWN: [&str; 4] = ["name", "description", "include", "version"];

/// The file with those that it includes. Of two that say the same the including one counts, and of
/// two that are included the later one.
pub(super) fn merged<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    root: &Rc<Node>,
) -> Rc<Node> {
    let Some(list) = root.get("include").filter(|list| !list.is_null()) else {
        return Rc::clone(root);
    };
    let NodeKind::Sequence(items) = &list.kind else {
        let message = format!("`include` has to be a list, not {}", list.kind_name());
        report.error(Code::TYPE, list.at.clone(), message);
        return Rc::clone(root);
    };
    let mut result = Rc::clone(root);
    for item in items.iter().rev() {
        if let Some(included) = file(report, library, item) {
            result = over(&result, &included);
        }
    }
    result
}

/// The file that one entry names, with those that it includes itself.
fn file<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    item: &Rc<Node>,
) -> Option<Rc<Node>> {
    let local = match &item.kind {
        NodeKind::Scalar(_) => Rc::clone(item),
        _ => Rc::clone(Fields::read(report, item, &keys::INCLUDE)?.get("local")?),
    };
    let text = values::literal(report, &local, "local")?.to_owned();
    let path = checked(report, &local, &text)?;
    let nested = library.nested(report, &path, &local, |library, report| {
        let root = library.file(report, &path, &local)?;
        entries(report, &root, "an included file")?;
        Some(merged(report, library, &root))
    });
    nested.flatten()
}

/// The entries of `upper`, with those of `lower` that it does not have.
fn over(upper: &Rc<Node>, lower: &Rc<Node>) -> Rc<Node> {
    let (NodeKind::Mapping(own), NodeKind::Mapping(more)) = (&upper.kind, &lower.kind) else {
        return Rc::clone(upper);
    };
    let mut entries: Vec<Entry> = own
        .iter()
        .map(|entry| {
            let name = entry.key.text().unwrap_or_default();
            match lower.get(name) {
                Some(other) if ADDED.contains(&name) => Entry {
                    key: Rc::clone(&entry.key),
                    value: added(&entry.value, other),
                },
                _ => entry.clone(),
            }
        })
        .collect();
    let new = |entry: &&Entry| {
        let name = entry.key.text().unwrap_or_default();
        upper.get(name).is_none() && !OWN.contains(&name)
    };
    entries.extend(more.iter().filter(new).cloned());
    Node::instead(NodeKind::Mapping(entries), upper.at.clone())
}

/// The entries of both; those of `lower` first, so that values can use them.
fn added(upper: &Rc<Node>, lower: &Rc<Node>) -> Rc<Node> {
    let (NodeKind::Mapping(own), NodeKind::Mapping(more)) = (&upper.kind, &lower.kind) else {
        return Rc::clone(upper);
    };
    let new = |entry: &&Entry| {
        let name = entry.key.text().unwrap_or_default();
        upper.get(name).is_none()
    };
    let more = more.iter().filter(new).cloned();
    let entries = more.chain(own.iter().cloned()).collect();
    Node::instead(NodeKind::Mapping(entries), upper.at.clone())
}
