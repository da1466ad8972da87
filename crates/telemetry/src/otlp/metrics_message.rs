//! Metrics as OTLP has them, made of the families that `/metrics` shows.
//!
//! Field numbers are those of `opentelemetry/proto/metrics/v1`.

use std::collections::BTreeMap;

use prost::Message;

use super::message::{KeyValue, Resource, Scope, key_value, resource, scope};
use super::span::Value;
use crate::openmetrics::{Family, Kind, Sample};

/// Body of `POST /v1/metrics`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricsRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) resource_metrics: Vec<ResourceMetrics>,
}

/// Metrics of one program.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) scope_metrics: Vec<ScopeMetrics>,
}

/// Metrics of one part of a program.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    pub(crate) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) metrics: Vec<Metric>,
}

/// One family.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metric {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) description: String,
    #[prost(string, tag = "3")]
    pub(crate) unit: String,
    #[prost(oneof = "Data", tags = "5, 7, 9")]
    pub(crate) data: Option<Data>,
}

/// Its values, by kind.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Data {
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    #[prost(message, tag = "7")]
    Sum(Sum),
    #[prost(message, tag = "9")]
    Histogram(Histogram),
}

/// Values that go up and down.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Gauge {
    #[prost(message, repeated, tag = "1")]
    pub(crate) points: Vec<NumberPoint>,
}

/// Totals.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sum {
    #[prost(message, repeated, tag = "1")]
    pub(crate) points: Vec<NumberPoint>,
    #[prost(int32, tag = "2")]
    pub(crate) temporality: i32,
    #[prost(bool, tag = "3")]
    pub(crate) is_monotonic: bool,
}

/// Counts by bucket.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Histogram {
    #[prost(message, repeated, tag = "1")]
    pub(crate) points: Vec<HistogramPoint>,
    #[prost(int32, tag = "2")]
    pub(crate) temporality: i32,
}

/// A number of one series.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NumberPoint {
    #[prost(fixed64, tag = "2")]
    pub(crate) start_ns: u64,
    #[prost(fixed64, tag = "3")]
    pub(crate) time_ns: u64,
    #[prost(double, optional, tag = "4")]
    pub(crate) value: Option<f64>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) attributes: Vec<KeyValue>,
}

/// The buckets of one series.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HistogramPoint {
    #[prost(fixed64, tag = "2")]
    pub(crate) start_ns: u64,
    #[prost(fixed64, tag = "3")]
    pub(crate) time_ns: u64,
    #[prost(fixed64, tag = "4")]
    pub(crate) count: u64,
    #[prost(double, optional, tag = "5")]
    pub(crate) sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    pub(crate) bucket_counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    pub(crate) bounds: Vec<f64>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) attributes: Vec<KeyValue>,
}

/// Totals count since the start of the program.
const CUMULATIVE: i32 = 2;

/// Series of one request; a family is not divided.
const POINTS: usize = 2_000;

/// When the numbers are from, in Unix nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Period {
    /// Since when totals count.
    pub(crate) start_ns: u64,
    /// Now.
    pub(crate) time_ns: u64,
}

impl MetricsRequest {
    /// Requests with all families, in portions that collectors take.
    pub(crate) fn all(
        attributes: &[(String, String)],
        families: &[Family],
        period: Period,
    ) -> Vec<Self> {
        let mut portions: Vec<Vec<Metric>> = Vec::new();
        let mut points = POINTS;
        for metric in families.iter().map(|family| Metric::of(family, period)) {
            let count = metric.points();
            if count == 0 {
                continue;
            }
            if points + count > POINTS {
                portions.push(Vec::new());
                points = 0;
            }
            points += count;
            if let Some(portion) = portions.last_mut() {
                portion.push(metric);
            }
        }
        let request = |metrics| Self {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(resource(attributes)),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics,
                }],
            }],
        };
        portions.into_iter().map(request).collect()
    }
}

impl Metric {
    fn of(family: &Family, period: Period) -> Self {
        let numbers = |start_ns| {
            let samples = family.samples.iter();
            samples
                .map(|sample| NumberPoint {
                    start_ns,
                    time_ns: period.time_ns,
                    value: Some(sample.value),
                    attributes: attributes(&sample.labels),
                })
                .collect()
        };
        let sum = |is_monotonic| {
            Data::Sum(Sum {
                points: numbers(period.start_ns),
                temporality: CUMULATIVE,
                is_monotonic,
            })
        };
        let data = match family.kind {
            Kind::Gauge => Data::Gauge(Gauge { points: numbers(0) }),
            Kind::Counter => sum(true),
            Kind::Info => sum(false),
            Kind::Histogram => Data::Histogram(Histogram {
                points: histograms(&family.samples, period),
                temporality: CUMULATIVE,
            }),
        };
        let suffix = match family.kind {
            Kind::Info => "_info",
            _ => "",
        };
        Self {
            name: format!("{}{suffix}", family.name),
            description: family.help.clone(),
            unit: match family.unit.as_str() {
                "seconds" => "s",
                "bytes" => "By",
                "ratios" => "1",
                other => other,
            }
            .to_owned(),
            data: Some(data),
        }
    }

    fn points(&self) -> usize {
        match &self.data {
            Some(Data::Gauge(gauge)) => gauge.points.len(),
            Some(Data::Sum(sum)) => sum.points.len(),
            Some(Data::Histogram(histogram)) => histogram.points.len(),
            None => 0,
        }
    }
}

fn attributes(labels: &BTreeMap<String, String>) -> Vec<KeyValue> {
    let pairs = labels.iter();
    pairs
        .map(|(key, value)| key_value(key, Value::Text(value.clone())))
        .collect()
}

/// The samples of a histogram, which lie one below the other, as one point for each series.
fn histograms(samples: &[Sample], period: Period) -> Vec<HistogramPoint> {
    let mut series: BTreeMap<BTreeMap<String, String>, HistogramPoint> = BTreeMap::new();
    for sample in samples {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le");
        let point = series.entry(labels).or_default();
        match (sample.suffix.as_str(), bound) {
            ("_sum", _) => point.sum = Some(sample.value),
            ("_count", _) => point.count = whole(sample.value),
            (_, Some(bound)) => {
                // Here they count all below; in OTLP only those of the bucket itself.
                let below: u64 = point.bucket_counts.iter().sum();
                point
                    .bucket_counts
                    .push(whole(sample.value).saturating_sub(below));
                if let Ok(bound) = bound.parse::<f64>()
                    && bound.is_finite()
                {
                    point.bounds.push(bound);
                }
            }
            _ => {}
        }
    }
    let points = series.into_iter().map(|(labels, point)| HistogramPoint {
        start_ns: period.start_ns,
        time_ns: period.time_ns,
        attributes: attributes(&labels),
        ..point
    });
    points.collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are written as floating point numbers in the text; negative ones become 0"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openmetrics::parse;

    #[test]
    fn families_become_metrics_with_buckets_of_their_own() {
        let text = "# HELP a_seconds A.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
               a_seconds_sum{x=\"1\"} 7.5\na_seconds_count{x=\"1\"} 6\n\
               a_seconds_bucket{le=\"0.5\",x=\"1\"} 1\na_seconds_bucket{le=\"2.0\",x=\"1\"} 4\n\
               a_seconds_bucket{le=\"+Inf\",x=\"1\"} 6\n\
               # HELP b B.\n# TYPE b counter\nb_total 3\n# HELP c C.\n# TYPE c gauge\nc -2\n\
               # HELP d D.\n# TYPE d info\nd_info{v=\"1\"} 1\n# HELP e E.\n# TYPE e gauge\n# EOF\n";
        let period = Period {
            start_ns: 1,
            time_ns: 2,
        };
        let requests = MetricsRequest::all(&[], &parse(text).unwrap(), period);
        assert_eq!(requests.len(), 1);
        let metrics = &requests[0].resource_metrics[0].scope_metrics[0].metrics;
        let names: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["a_seconds", "b", "c", "d_info"]);
        assert_eq!(metrics[0].unit, "s");
        let Some(Data::Histogram(histogram)) = &metrics[0].data else {
            panic!("{:?}", metrics[0]);
        };
        let point = &histogram.points[0];
        assert_eq!(point.bounds, [0.5, 2.0]);
        assert_eq!(point.bucket_counts, [1, 3, 2]);
        assert_eq!((point.count, point.sum), (6, Some(7.5)));
        assert_eq!(point.attributes[0].key, "x");
        let Some(Data::Sum(sum)) = &metrics[1].data else {
            panic!("{:?}", metrics[1]);
        };
        assert!(sum.is_monotonic && sum.temporality == 2);
        assert_eq!((sum.points[0].start_ns, sum.points[0].time_ns), (1, 2));
    }

    #[test]
    fn many_series_become_several_requests() {
        let family = |name: &str| {
            let samples: String = (0..1_500)
                .map(|number| format!("{name}{{n=\"{number}\"}} 1\n"))
                .collect();
            format!("# HELP {name} X.\n# TYPE {name} gauge\n{samples}")
        };
        let text = family("a") + &family("b") + "# EOF\n";
        let period = Period {
            start_ns: 1,
            time_ns: 2,
        };
        let requests = MetricsRequest::all(&[], &parse(&text).unwrap(), period);
        assert_eq!(requests.len(), 2);
    }
}
