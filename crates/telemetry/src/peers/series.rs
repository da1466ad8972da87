//! The sums over peers.

use std::collections::BTreeMap;

use valkyrie_frame::v2;

/// Families of all peers together.
pub(super) const FAMILIES_MAX: usize = 256;
/// Series of all families together.
pub(super) const SERIES_MAX: usize = 4096;

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One family.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) help: String,
    pub(super) unit: String,
    pub(super) kind: Kind,
    pub(super) bounds: Vec<f64>,
    /// Where each series is in [`Families::cells`].
    pub(super) series: BTreeMap<Key, usize>,
}

/// Role and labels of a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) role: &'static str,
    pub(super) labels: BTreeMap<String, String>,
}

/// The sum of one series.
#[derive(Debug)]
pub(super) struct Cell {
    kind: Kind,
    pub(super) value: f64,
    pub(super) counts: Vec<u64>,
    /// Instances that hold a part of a gauge.
    holders: u32,
}

/// What one instance told last about a series.
#[derive(Debug, Default)]
pub(super) struct Told {
    value: f64,
    counts: Vec<u64>,
    held: Held,
}

/// Whether an instance holds a part of a gauge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Held {
    #[default]
    No,
    Yes,
}

/// All families by name.
#[derive(Debug, Default)]
pub(super) struct Families {
    by_name: BTreeMap<String, Family>,
    cells: Vec<Cell>,
}

impl Families {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Family)> {
        self.by_name.iter()
    }

    pub(super) fn cell(&self, id: usize) -> Option<&Cell> {
        self.cells.get(id)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The series of a report, made if there is room; `None` when there is none, or the name
    /// stands for something else.
    pub(super) fn find(
        &mut self,
        role: &'static str,
        family: &v2::MetricFamily,
        series: &v2::MetricSeries,
    ) -> Option<usize> {
        let kind = match family.kind {
            1 => Kind::Counter,
            2 => Kind::Gauge,
            _ => Kind::Histogram,
        };
        if !self.by_name.contains_key(&family.name) {
            if self.by_name.len() >= FAMILIES_MAX {
                return None;
            }
            self.by_name
                .insert(family.name.clone(), Family::new(kind, family));
        }
        let known = self.by_name.get_mut(&family.name)?;
        if known.kind != kind || known.bounds != family.bounds {
            return None;
        }
        let labels = series.labels.clone();
        let key = Key { role, labels };
        if let Some(id) = known.series.get(&key) {
            return Some(*id);
        }
        let id = self.cells.len();
        if id >= SERIES_MAX {
            return None;
        }
        known.series.insert(key, id);
        self.cells.push(Cell {
            kind,
            value: 0.0,
            counts: vec![0; series.counts.len()],
            holders: 0,
        });
        Some(id)
    }

    /// Moves a sum by what an instance has told beyond `told`.
    pub(super) fn add(&mut self, id: usize, told: &mut Told, series: &v2::MetricSeries) {
        let Some(cell) = self.cells.get_mut(id) else {
            return;
        };
        let value = if series.value.is_finite() {
            series.value
        } else {
            0.0
        };
        if cell.kind == Kind::Gauge {
            cell.value += value - told.value;
            if told.held == Held::No {
                told.held = Held::Yes;
                cell.holders += 1;
            }
        } else if is_continued(told, series) {
            cell.value += value - told.value;
            let counts = cell.counts.iter_mut().zip(&series.counts).enumerate();
            for (at, (sum, count)) in counts {
                let more = count - told.counts.get(at).unwrap_or(&0);
                *sum = sum.saturating_add(more);
            }
        } else {
            cell.value += value;
            let counts = cell.counts.iter_mut().zip(&series.counts);
            counts.for_each(|(sum, count)| *sum = sum.saturating_add(*count));
        }
        told.value = value;
        told.counts.clone_from(&series.counts);
    }

    /// The instance is gone: takes its part out of a gauge. Whether what it told still counts.
    pub(super) fn keeps(&mut self, id: usize, told: &Told) -> bool {
        let Some(cell) = self.cells.get_mut(id) else {
            return false;
        };
        if told.held == Held::No {
            return true;
        }
        cell.holders -= 1;
        // Without holders nothing may be left of rounding.
        cell.value = match cell.holders {
            0 => 0.0,
            _ => cell.value - told.value,
        };
        false
    }
}

/// Whether totals are no lower than those before: else the program began to count again.
fn is_continued(told: &Told, series: &v2::MetricSeries) -> bool {
    let pairs = told.counts.iter().zip(&series.counts);
    let counts = pairs.into_iter().all(|(before, now)| now >= before);
    // The sum of a histogram of signed values may fall.
    counts && (!series.counts.is_empty() || series.value >= told.value)
}

impl Family {
    fn new(kind: Kind, family: &v2::MetricFamily) -> Self {
        // The text format has no way to write these in a help line.
        let plain = |c: char| {
            if c.is_control() || matches!(c, '\\' | '"') {
                ' '
            } else {
                c
            }
        };
        Self {
            help: family.help.chars().map(plain).collect(),
            unit: family.unit.clone(),
            kind,
            bounds: family.bounds.clone(),
            series: BTreeMap::new(),
        }
    }
}
