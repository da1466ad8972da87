//! The sums in the text format, under their own names behind `peer_`.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::once;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::PeerReports;
use super::series::{Cell, Family, Key, Kind};

/// Shows the sums when somebody scrapes.
#[derive(Debug)]
pub(super) struct Collected(pub(super) PeerReports);

impl Collector for Collected {
    fn encode(&self, mut to: DescriptorEncoder) -> fmt::Result {
        let state = self.0.state();
        for (name, family) in state.families.iter() {
            let unit = (!family.unit.is_empty()).then(|| Unit::Other(family.unit.clone()));
            let ending = format!("_{}", family.unit);
            // The encoder puts the unit behind the name again.
            let bare = match unit {
                Some(_) => name.strip_suffix(&ending).unwrap_or(name),
                None => name,
            };
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let name = format!("peer_{bare}");
            let mut metric = to.encode_descriptor(&name, &family.help, unit.as_ref(), kind)?;
            for (key, id) in &family.series {
                let Some(cell) = state.families.cell(*id) else {
                    continue;
                };
                let labels = labels_of(key);
                one(metric.encode_family(&labels)?, family, cell)?;
            }
        }
        Ok(())
    }
}

/// The role first, which no label of a peer can be called.
fn labels_of(key: &Key) -> Vec<(&str, &str)> {
    let labels: &BTreeMap<String, String> = &key.labels;
    let own = labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    once(("peer", key.role)).chain(own).collect()
}

fn one(mut encoder: MetricEncoder<'_>, family: &Family, cell: &Cell) -> fmt::Result {
    match family.kind {
        Kind::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&cell.value, None),
        Kind::Gauge => encoder.encode_gauge(&cell.value),
        Kind::Histogram => {
            let bounds = family.bounds.iter().copied().chain(once(f64::INFINITY));
            let buckets: Vec<_> = bounds.zip(cell.counts.iter().copied()).collect();
            let count = cell
                .counts
                .iter()
                .fold(0, |all: u64, one| all.saturating_add(*one));
            encoder.encode_histogram::<NoLabelSet>(cell.value, count, &buckets, None)
        }
    }
}
