//! Settings that several places of the older format share.

use std::rc::Rc;

use super::keys;
use super::names::Names;
use crate::diagnostic::Code;
use crate::duration;
use crate::limits::{RETRY_MAX, TIMEOUT_MS_MAX};
use crate::native::draft::Matrix;
use crate::native::matrix::of_axes;
use crate::plan::{Cache, CachePolicy, Retry, When};
use crate::report::Report;
use crate::shape::fields::{Fields, entries};
use crate::shape::values::{self, NameRule};
use crate::yaml::{Core, Node};

/// A text under a key.
pub(super) fn text(report: &mut Report<'_>, fields: &Fields<'_>, name: &str) -> Option<Rc<Node>> {
    fields
        .get(name)
        .and_then(|node| values::text(report, node, name))
}

/// A time limit: whole seconds, or a duration with units. In milliseconds.
pub(super) fn seconds(report: &mut Report<'_>, fields: &Fields<'_>, name: &str) -> Option<u64> {
    let node = fields.get(name)?;
    let Some(Core::Integer(number)) = node.scalar().map(|scalar| scalar.core) else {
        return values::duration(report, node, name);
    };
    let ms = u64::try_from(number).ok().and_then(|s| s.checked_mul(1000));
    if let Some(ms) = ms.filter(|ms| (1..=TIMEOUT_MS_MAX).contains(ms)) {
        return Some(ms);
    }
    let longest = duration::show_ms(TIMEOUT_MS_MAX);
    report
        .error(
            Code::DURATION,
            node.at.clone(),
            format!("`{name}` is {number} seconds, outside 1 second to {longest}"),
        )
        .help("give it in seconds, or remove the key for the default");
    None
}

/// `retry_count`: further tries after any failure.
pub(super) fn retries(report: &mut Report<'_>, fields: &Fields<'_>) -> Retry {
    let max = fields
        .get("retry_count")
        .and_then(|node| values::integer(report, node, "retry_count", 0..=i64::from(RETRY_MAX)));
    Retry {
        max: max.and_then(|max| u32::try_from(max).ok()).unwrap_or(0),
        on: Vec::new(),
    }
}

/// `matrix`: axes, whose names are in the environment.
pub(super) fn matrix(report: &mut Report<'_>, node: &Rc<Node>, names: &mut Names) -> Matrix {
    let Some(entries) = entries(report, node, "`matrix`") else {
        return Matrix::Unknown;
    };
    for entry in entries {
        values::name(report, &entry.key, "axis name", NameRule::Environment);
    }
    let matrix = of_axes(report, node);
    if let Matrix::Known(known) = &matrix {
        names.add_axes(&known.names);
    }
    matrix
}

/// `cache`. It is saved for every commit, and the newest one is restored.
pub(super) fn cache(report: &mut Report<'_>, node: &Rc<Node>, names: &Names) -> Option<Cache> {
    let fields = Fields::read(report, node, &keys::CACHE)?;
    if !fields.has("paths") {
        report
            .error(Code::MISSING_KEY, node.at.clone(), "`cache` has no `paths`")
            .help("say what is kept: `paths: [target]`");
    }
    let key = text(report, &fields, "key").map(|node| names.text(report, &node));
    let key = key.as_ref().and_then(|node| node.text());
    let key = key.unwrap_or("default").to_owned();
    let policy = fields
        .get("policy")
        .and_then(|node| values::word(report, node, "policy", &["pull-push", "pull", "push"]));
    let paths = values::texts(report, fields.get("paths")?, "paths");
    let paths = paths.iter().map(|node| names.text(report, node));
    let paths = paths
        .filter_map(|node| Some(inside(node.text()?).to_owned()))
        .collect();
    Some(Cache {
        restore_keys: vec![format!("{key}-")],
        key: format!("{key}-${{{{ git.commit }}}}"),
        paths,
        policy: match policy {
            Some("pull") => CachePolicy::Pull,
            Some("push") => CachePolicy::Push,
            _ => CachePolicy::PullPush,
        },
        when: When::Success,
    })
}

/// A path relative to the workspace.
fn inside(path: &str) -> &str {
    let path = path
        .strip_prefix("${{ runner.workspace }}/")
        .unwrap_or(path);
    let path = path.trim_end_matches('/');
    if path.is_empty() { "." } else { path }
}
