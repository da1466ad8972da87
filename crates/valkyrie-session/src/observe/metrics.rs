//! What values may stand in a metrics report.

use std::collections::HashSet;

use valkyrie_frame::limits::{
    INSTANCE_BYTES, METRIC_BOUNDS_MAX, METRIC_FAMILIES_MAX, METRIC_LABELS_MAX,
    METRIC_NAME_BYTES_MAX, METRIC_SERIES_MAX, METRIC_TEXT_BYTES_MAX,
};
use valkyrie_frame::{MessageType, v2};

use super::Told;
use crate::event::Event;
use crate::rule::Rule;

const TOO_MANY_FAMILIES: &str = "more than 128 families";

impl Told for v2::MetricsReport {
    const KIND: MessageType = MessageType::METRICS_REPORT;
    const RULE: Rule = Rule::METRICS;
    const LIST: Option<(u32, usize, &'static str)> =
        Some((2, METRIC_FAMILIES_MAX, TOO_MANY_FAMILIES));

    fn problem(&self) -> Option<&'static str> {
        if self.instance.len() != INSTANCE_BYTES {
            return Some("instance is not 16 bytes");
        }
        if self.families.len() > METRIC_FAMILIES_MAX {
            return Some(TOO_MANY_FAMILIES);
        }
        let series = self.families.iter().map(|family| family.series.len());
        if series.sum::<usize>() > METRIC_SERIES_MAX {
            return Some("more than 512 series");
        }
        let mut names = HashSet::new();
        if !self
            .families
            .iter()
            .all(|family| names.insert(&family.name))
        {
            return Some("a family is there twice");
        }
        self.families.iter().find_map(family_problem)
    }

    fn event(self: Box<Self>) -> Event<'static> {
        Event::Metrics(self)
    }
}

/// Endings that the text format gives to samples of a family, so no family may have them.
const SUFFIXES: [&str; 6] = ["_total", "_bucket", "_sum", "_count", "_created", "_info"];

fn family_problem(family: &v2::MetricFamily) -> Option<&'static str> {
    let name = family.name.as_str();
    if !is_name(name, |byte| byte == b':') || SUFFIXES.iter().any(|end| name.ends_with(end)) {
        return Some("a family has no proper name");
    }
    if !is_unit_of(&family.unit, name) {
        return Some("a unit is not the end of its family's name");
    }
    if family.help.len() > METRIC_TEXT_BYTES_MAX {
        return Some("a help is over 256 bytes");
    }
    if !matches!(family.kind, 1..=3) {
        return Some("a family's kind is not 1 to 3");
    }
    if family.kind != 3 && !family.bounds.is_empty() {
        return Some("bounds on a family that is no histogram");
    }
    if family.bounds.len() > METRIC_BOUNDS_MAX || !is_growing(&family.bounds) {
        return Some("bounds are more than 64, or do not grow");
    }
    let mut known = HashSet::new();
    if !family
        .series
        .iter()
        .all(|series| known.insert(&series.labels))
    {
        return Some("a series is there twice");
    }
    let problem = |series| series_problem(family, series);
    family.series.iter().find_map(problem)
}

fn series_problem(family: &v2::MetricFamily, series: &v2::MetricSeries) -> Option<&'static str> {
    if series.labels.len() > METRIC_LABELS_MAX {
        return Some("a series has more than 8 labels");
    }
    let fits = |(name, value): (&String, &String)| {
        is_label_name(name) && value.len() <= METRIC_TEXT_BYTES_MAX
    };
    if !series.labels.iter().all(fits) {
        return Some("a label has no proper name, or a long value");
    }
    if family.kind == 1 && !(series.value >= 0.0 && series.value.is_finite()) {
        return Some("a counter is negative or no number");
    }
    let counts = if family.kind == 3 {
        family.bounds.len() + 1
    } else {
        0
    };
    (series.counts.len() != counts).then_some("a series has too many or too few counts")
}

/// Names of labels; those that the text format and the receiver use themselves are not among them.
pub(super) fn is_label_name(name: &str) -> bool {
    is_name(name, |_| false) && !name.starts_with("__") && !matches!(name, "le" | "peer")
}

fn is_name(name: &str, also: impl Fn(u8) -> bool) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || also(byte);
    let any = |byte: u8| letter(byte) || byte.is_ascii_digit();
    let first = name.bytes().next();
    first.is_some_and(letter) && name.len() <= METRIC_NAME_BYTES_MAX && name.bytes().all(any)
}

fn is_unit_of(unit: &str, name: &str) -> bool {
    unit.is_empty()
        || is_name(unit, |_| false)
            && name
                .strip_suffix(unit)
                .is_some_and(|front| front.len() > 1 && front.ends_with('_'))
}

fn is_growing(bounds: &[f64]) -> bool {
    bounds.iter().all(|bound| bound.is_finite()) && bounds.is_sorted_by(|low, high| low < high)
}
