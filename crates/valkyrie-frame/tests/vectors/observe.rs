//! The messages of chapter "Observability".

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use valkyrie_frame::v2;

use crate::payloads::{Vector, check_message};
use crate::{Hex, Wide};

#[derive(Deserialize)]
struct Family {
    name: String,
    help: String,
    unit: String,
    kind: u32,
    bounds: Vec<f64>,
    series: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    labels: BTreeMap<String, String>,
    value: f64,
    counts: Vec<Wide>,
}

#[derive(Deserialize)]
struct Span {
    trace_id: Hex,
    span_id: Hex,
    parent_id: Hex,
    name: String,
    kind: u32,
    start_unix_ns: Wide,
    end_unix_ns: Wide,
    attributes: Vec<Attribute>,
    status: u32,
    status_text: String,
}

#[derive(Deserialize)]
struct Attribute {
    key: String,
    value: Value,
}

impl From<Family> for v2::MetricFamily {
    fn from(family: Family) -> Self {
        let series = family.series.into_iter().map(|series| v2::MetricSeries {
            labels: series.labels,
            value: series.value,
            counts: series.counts.into_iter().map(|count| count.0).collect(),
        });
        Self {
            name: family.name,
            help: family.help,
            unit: family.unit,
            kind: family.kind,
            bounds: family.bounds,
            series: series.collect(),
        }
    }
}

impl From<Attribute> for v2::SpanAttribute {
    fn from(attribute: Attribute) -> Self {
        use v2::span_attribute::Value as Wire;
        let value = match attribute.value {
            Value::String(text) => Wire::Text(text),
            Value::Bool(flag) => Wire::Flag(flag),
            number => Wire::Number(number.as_i64().unwrap()),
        };
        Self {
            key: attribute.key,
            value: Some(value),
        }
    }
}

impl From<Span> for v2::Span {
    fn from(span: Span) -> Self {
        Self {
            trace_id: span.trace_id.0,
            span_id: span.span_id.0,
            parent_id: span.parent_id.0,
            name: span.name,
            kind: span.kind,
            start_unix_ns: span.start_unix_ns.0,
            end_unix_ns: span.end_unix_ns.0,
            attributes: span.attributes.into_iter().map(Into::into).collect(),
            status: span.status,
            status_text: span.status_text,
        }
    }
}

pub(crate) fn check(vector: &Vector) -> bool {
    let (body, fields) = (vector.body.0.as_slice(), &vector.fields);
    match vector.kind.as_str() {
        "metrics_report" => {
            let families: Vec<Family> = fields.get("families");
            let expected = v2::MetricsReport {
                instance: fields.bytes("instance"),
                families: families.into_iter().map(Into::into).collect(),
            };
            check_message(body, &expected);
        }
        "trace_span" => {
            let spans: Vec<Span> = fields.get("spans");
            let spans = spans.into_iter().map(Into::into).collect();
            check_message(body, &v2::TraceSpans { spans });
        }
        "health_check" => {
            let expected = v2::HealthCheck {
                id: fields.get("id"),
                service: fields.text("service"),
                status: fields.get("status"),
                watch: fields.get("watch"),
            };
            check_message(body, &expected);
        }
        "status_update" => {
            let expected = v2::StatusUpdate {
                state: fields.get("state"),
                text: fields.text("text"),
                load_permille: fields.get("load_permille"),
                active: fields.get("active"),
                capacity: fields.get("capacity"),
            };
            check_message(body, &expected);
        }
        "alert_notification" => {
            let expected = v2::AlertNotification {
                severity: fields.get("severity"),
                name: fields.text("name"),
                text: fields.text("text"),
                unix_ms: fields.wide("unix_ms"),
                labels: fields.get("labels"),
            };
            check_message(body, &expected);
        }
        _ => return false,
    }
    true
}
