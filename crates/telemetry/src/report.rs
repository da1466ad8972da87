//! This program's own metrics as reports for a peer.

use std::collections::BTreeMap;

use prost::Message;
use valkyrie_frame::limits::{
    METRIC_FAMILIES_MAX, METRIC_SERIES_MAX, METRIC_TEXT_BYTES_MAX, OBSERVE_BYTES_MAX,
};
use valkyrie_frame::v2;

use crate::Metrics;
use crate::openmetrics::{self, Family, Kind, Sample};

/// Families that are not this program's own.
const OF_PEERS: &str = "peer_";
/// Bytes of a report before another one begins: room for a family's name and help, and for one
/// series more.
const REPORT_BYTES: usize = OBSERVE_BYTES_MAX / 2;

impl Metrics {
    /// What this program counts in the families that `wanted` says, as the reports of `instance`
    /// for a peer; several where they do not fit one. What peers reported here is not told on.
    #[must_use]
    pub fn reports(
        &self,
        instance: &[u8; 16],
        wanted: impl Fn(&str) -> bool,
    ) -> Vec<v2::MetricsReport> {
        let mut reports = Reports::new(instance);
        for family in openmetrics::parse(&self.encode()).unwrap_or_default() {
            if !family.name.starts_with(OF_PEERS) && wanted(&family.name) {
                reports.add(&family);
            }
        }
        reports.done
    }
}

/// Reports in the making.
#[derive(Debug)]
struct Reports<'i> {
    instance: &'i [u8; 16],
    done: Vec<v2::MetricsReport>,
    /// Series and bytes of the last one.
    series: usize,
    bytes: usize,
}

impl<'i> Reports<'i> {
    const fn new(instance: &'i [u8; 16]) -> Self {
        Self {
            instance,
            done: Vec::new(),
            series: 0,
            bytes: 0,
        }
    }

    fn add(&mut self, family: &Family) {
        let Some((head, all)) = to_wire(family) else {
            return;
        };
        let mut begun = Begun::No;
        for series in all {
            let bytes = series.encoded_len() + 8;
            if self.is_full(bytes) {
                self.begin();
                begun = Begun::No;
            }
            if begun == Begun::No {
                self.bytes += head.encoded_len() + 8;
                self.last().push(head.clone());
                begun = Begun::Yes;
            }
            self.series += 1;
            self.bytes += bytes;
            if let Some(family) = self.last().last_mut() {
                family.series.push(series);
            }
        }
    }

    fn is_full(&mut self, bytes: usize) -> bool {
        self.series >= METRIC_SERIES_MAX
            || self.bytes + bytes > REPORT_BYTES
            || self.last().len() >= METRIC_FAMILIES_MAX
    }

    fn begin(&mut self) {
        (self.series, self.bytes) = (0, 0);
        self.done.push(v2::MetricsReport {
            instance: self.instance.to_vec(),
            families: Vec::new(),
        });
    }

    fn last(&mut self) -> &mut Vec<v2::MetricFamily> {
        if self.done.is_empty() {
            self.begin();
        }
        let last = self.done.last_mut();
        &mut last.expect("one was begun").families
    }
}

/// Whether a family has its place in the last report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    No,
    Yes,
}

/// A family without its series, and those; `None` for what a report cannot hold.
fn to_wire(family: &Family) -> Option<(v2::MetricFamily, Vec<v2::MetricSeries>)> {
    let kind = match family.kind {
        Kind::Counter => 1,
        Kind::Gauge => 2,
        Kind::Histogram => 3,
        Kind::Info => return None,
    };
    let (bounds, series) = match family.kind {
        Kind::Histogram => histogram(&family.samples),
        _ => (Vec::new(), family.samples.iter().map(plain).collect()),
    };
    let help = family
        .help
        .get(..family.help.floor_char_boundary(METRIC_TEXT_BYTES_MAX));
    let head = v2::MetricFamily {
        name: family.name.clone(),
        help: help.unwrap_or_default().to_owned(),
        unit: family.unit.clone(),
        kind,
        bounds,
        series: Vec::new(),
    };
    Some((head, series))
}

fn plain(sample: &Sample) -> v2::MetricSeries {
    v2::MetricSeries {
        labels: sample.labels.clone(),
        value: sample.value,
        counts: Vec::new(),
    }
}

/// Samples of a histogram, put together by their labels.
fn histogram(samples: &[Sample]) -> (Vec<f64>, Vec<v2::MetricSeries>) {
    let mut bounds = Vec::new();
    let mut all = BTreeMap::<BTreeMap<String, String>, v2::MetricSeries>::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le").and_then(|le| le.parse::<f64>().ok());
        let series = all
            .entry(labels.clone())
            .or_insert_with(|| v2::MetricSeries {
                labels,
                ..Default::default()
            });
        match (sample.suffix.as_str(), bound) {
            ("_sum", _) => series.value = sample.value,
            ("_bucket", Some(bound)) => {
                // The text counts what is at most the bound, a report what is in each bucket.
                let below: u64 = series.counts.iter().sum();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the text has whole counts that were u64"
                )]
                series
                    .counts
                    .push((sample.value as u64).saturating_sub(below));
                if bound.is_finite() && !bounds.contains(&bound) {
                    bounds.push(bound);
                }
            }
            _ => {}
        }
    }
    let whole = |series: &v2::MetricSeries| series.counts.len() == bounds.len() + 1;
    (bounds.clone(), all.into_values().filter(whole).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use valkyrie_frame::{ErrorCode, MessageType};

    use super::*;
    use crate::Taken;

    #[test]
    fn a_report_shows_at_the_receiver_what_the_sender_counts() {
        let sender = Metrics::new();
        sender.valkyrie.error(ErrorCode::TIMEOUT);
        sender
            .valkyrie
            .answered(MessageType::CALL, Duration::from_micros(70));
        sender
            .valkyrie
            .answered(MessageType::CALL, Duration::from_secs(60));
        sender.valkyrie.retry("job_dispatch");
        let receiver = Metrics::new();
        let instance = receiver.peers.joined(&[7; 16]).unwrap();
        for report in sender.reports(&instance, |_| true) {
            assert_eq!(receiver.peers.take("runner", &report), Taken::Whole);
        }
        let text = receiver.encode();
        for line in [
            "peer_valkyrie_errors_total{peer=\"runner\",code=\"timeout\",type=\"protocol\"} 1.0",
            "peer_valkyrie_message_latency_seconds_bucket{le=\"0.0001\",peer=\"runner\",type=\"call\"} 1",
            "peer_valkyrie_message_latency_seconds_bucket{le=\"+Inf\",peer=\"runner\",type=\"call\"} 2",
            "peer_valkyrie_retries_total{peer=\"runner\",operation=\"job_dispatch\"} 1.0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(openmetrics::parse(&text).is_ok());
        // What peers told is not told on.
        let onward = receiver.reports(&[8; 16], |_| true);
        let names = onward.iter().flat_map(|report| &report.families);
        assert!(
            names
                .into_iter()
                .all(|family| !family.name.starts_with("peer_"))
        );
    }

    #[test]
    fn what_does_not_fit_one_report_becomes_several() {
        let metrics = Metrics::new();
        for n in 0..2_000 {
            let route = format!("/{n}/{}", "x".repeat(100));
            metrics.http.answered("GET", &route, 200, Duration::ZERO);
        }
        let reports = metrics.reports(&[1; 16], |_| true);
        assert!(reports.len() > 4, "{}", reports.len());
        for report in &reports {
            assert!(report.encoded_len() <= OBSERVE_BYTES_MAX);
            let series = report.families.iter().map(|family| family.series.len());
            assert!(series.sum::<usize>() <= METRIC_SERIES_MAX);
        }
    }
}
