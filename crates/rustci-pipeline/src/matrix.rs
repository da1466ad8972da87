//! What the axes of a matrix come down to: combinations, what is left out, what is added.

use serde_json::{Map, Value};

use crate::canonical;
use crate::expr::{self, Contexts};
use crate::plan::Job;
use crate::template;

/// The values of one instance, by the names of the axes.
pub(crate) type Instance = Map<String, Value>;

/// A name and what it may be.
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) values: Vec<Value>,
}

/// How many combinations the axes have; none without an axis.
pub(crate) fn combinations(axes: &[Axis]) -> usize {
    if axes.is_empty() {
        return 0;
    }
    let counts = axes.iter().map(|axis| axis.values.len());
    counts.fold(1, usize::saturating_mul)
}

/// About how many bytes all combinations have.
pub(crate) fn product_bytes(axes: &[Axis]) -> usize {
    let count = combinations(axes);
    let bytes = axes.iter().map(|axis| {
        let own: usize = axis.values.iter().map(bytes).sum();
        let times = count.checked_div(axis.values.len()).unwrap_or(0);
        own.saturating_mul(times)
    });
    bytes.fold(0, usize::saturating_add)
}

/// About how many bytes the rows have at most in all instances that they can be added to.
pub(crate) fn include_bytes(instances: &[Instance], rows: &[Instance]) -> usize {
    let rows: usize = rows.iter().flat_map(Map::values).map(bytes).sum();
    rows.saturating_mul(instances.len().max(1))
}

/// About how many bytes a value has.
fn bytes(value: &Value) -> usize {
    8 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(name, item)| name.len() + bytes(item))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// All combinations of the axes, the last one turning fastest. Count them first.
pub(crate) fn product(axes: &[Axis]) -> Vec<Instance> {
    if axes.is_empty() {
        return Vec::new();
    }
    let mut instances = vec![Instance::new()];
    for axis in axes {
        let with = |instance: &Instance| {
            let instance = instance.clone();
            axis.values.iter().map(move |value| {
                let mut next = instance.clone();
                next.insert(axis.name.clone(), value.clone());
                next
            })
        };
        instances = instances.iter().flat_map(with).collect();
    }
    instances
}

/// Leaves out every instance that has all the values of `row`.
pub(crate) fn exclude(instances: &mut Vec<Instance>, row: &Instance) {
    let fits = |instance: &Instance| {
        row.iter()
            .all(|(name, value)| instance.get(name) == Some(value))
    };
    instances.retain(|instance| !fits(instance));
}

/// Adds values to every combination whose axes an entry does not contradict; an entry that fits
/// none becomes an instance of its own. Added values may be replaced by later entries, values of
/// axes never are. These are GitHub's rules.
pub(crate) fn include(
    instances: Vec<Instance>,
    axes: &[Axis],
    rows: Vec<Instance>,
) -> Vec<Instance> {
    let originals = instances.clone();
    let mut result = instances;
    let mut own = Vec::new();
    for values in rows {
        let mut used = false;
        for (original, instance) in originals.iter().zip(&mut result) {
            let fits = axes.iter().all(|axis| {
                values
                    .get(&axis.name)
                    .is_none_or(|value| original.get(&axis.name) == Some(value))
            });
            if fits {
                used = true;
                instance.extend(values.clone());
            }
        }
        if !used {
            own.push(values);
        }
    }
    result.extend(own);
    result
}

/// The names that instances can have, in the order of their keys: axes, then what is added.
pub(crate) fn names<'r>(
    axes: &[Axis],
    included: impl IntoIterator<Item = &'r Instance>,
) -> Vec<String> {
    let mut names: Vec<String> = axes.iter().map(|axis| axis.name.clone()).collect();
    for name in included.into_iter().flat_map(Map::keys) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The key of an instance: `test (stable, sqlite)`.
pub(crate) fn key(id: &str, names: &[String], values: &Instance) -> String {
    let shown = names.iter().filter_map(|name| values.get(name)).map(show);
    format!("{id} ({})", shown.collect::<Vec<_>>().join(", "))
}

/// Fills the values of an instance into its name and its paths, where nothing else is known.
pub(crate) fn fill(job: &mut Job) {
    let mut contexts = Contexts::new();
    contexts.set("matrix", &Value::Object(job.matrix.clone()));
    let caches = job.caches.iter_mut().flat_map(|cache| &mut cache.paths);
    let downloads = job.downloads.iter_mut().map(|download| &mut download.path);
    let artifacts = job.artifacts.iter_mut().flat_map(|it| &mut it.paths);
    let reports = job.reports.iter_mut().flat_map(|report| &mut report.paths);
    let names = std::iter::once(&mut job.name);
    for text in names
        .chain(caches)
        .chain(downloads)
        .chain(artifacts)
        .chain(reports)
    {
        // The only context is the matrix, so nothing but a limit can fail here.
        if let Ok(filled) = template::render(text, &contexts) {
            *text = filled;
        }
    }
}

/// A value as a part of a key: on one line, not too long.
fn show(value: &Value) -> String {
    const SHOWN: usize = 60;
    let text = match value {
        Value::Array(_) | Value::Object(_) => canonical::to_string(value),
        single => expr::Value::from(single).to_text(),
    };
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = chars.by_ref().take(SHOWN).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}
