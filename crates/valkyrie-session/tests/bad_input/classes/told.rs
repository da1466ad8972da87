//! Metrics, spans, health, status and alerts that say what cannot be.

use std::time::Duration;

use prost::Message;
use valkyrie_frame::{ErrorCode, MessageType, v2};

use crate::case::{Case, ready};
use crate::wire::{F, f};

const MALFORMED: ErrorCode = ErrorCode::MALFORMED;
const SYSTEM: u32 = 1;
const LOGS: u32 = 10_000;

/// A message that is in order but for what `change` does to it.
fn told<M: Message>(
    kind: MessageType,
    channel: u32,
    good: M,
    change: impl FnOnce(&mut M),
) -> F {
    let mut message = good;
    change(&mut message);
    f(kind, channel).call(0x1005).body(message.encode_to_vec())
}

fn series() -> v2::MetricSeries {
    v2::MetricSeries {
        labels: [("k".to_owned(), "v".to_owned())].into(),
        value: 1.0,
        counts: Vec::new(),
    }
}

fn family() -> v2::MetricFamily {
    v2::MetricFamily {
        name: "jobs".into(),
        kind: 1,
        series: vec![series()],
        ..Default::default()
    }
}

fn metrics(change: impl FnOnce(&mut v2::MetricsReport)) -> F {
    let good = v2::MetricsReport {
        instance: vec![1; 16],
        families: vec![family()],
    };
    told(MessageType::METRICS_REPORT, LOGS, good, change)
}

fn one_family(change: impl FnOnce(&mut v2::MetricFamily)) -> F {
    metrics(|report| change(&mut report.families[0]))
}

fn histogram(bounds: Vec<f64>, counts: usize) -> F {
    one_family(|family| {
        family.kind = 3;
        family.series[0].counts = vec![1; counts];
        family.bounds = bounds;
    })
}

fn labelled(name: &str, value: usize) -> F {
    one_family(|family| {
        family.series[0].labels = [(name.to_owned(), "v".repeat(value))].into();
    })
}

fn wrong_metrics() -> Vec<(&'static str, F)> {
    let named = |name: &str| one_family(|family| name.clone_into(&mut family.name));
    vec![
        ("no instance", metrics(|report| report.instance.clear())),
        ("an instance of 17 bytes", metrics(|report| report.instance.push(1))),
        ("129 families", metrics(|report| {
            report.families = (0..129)
                .map(|n| v2::MetricFamily { name: format!("f{n}"), ..family() })
                .collect();
        })),
        ("513 series", one_family(|family| {
            family.series = (0..513)
                .map(|n| v2::MetricSeries {
                    labels: [("k".to_owned(), n.to_string())].into(),
                    ..series()
                })
                .collect();
        })),
        ("a family twice", metrics(|report| report.families.push(family()))),
        ("a series twice", one_family(|family| family.series.push(series()))),
        ("a family without a name", named("")),
        ("a family whose name begins with a digit", named("1jobs")),
        ("a family with a name of 129 bytes", named(&"j".repeat(129))),
        ("a family that ends with _total", named("jobs_total")),
        ("a family that ends with _bucket", named("jobs_bucket")),
        ("a unit that is not in the name", one_family(|family| family.unit = "seconds".into())),
        ("a help of 257 bytes", one_family(|family| family.help = "h".repeat(257))),
        ("kind 0", one_family(|family| family.kind = 0)),
        ("kind 4", one_family(|family| family.kind = 4)),
        ("bounds of a counter", one_family(|family| family.bounds = vec![1.0])),
        ("65 bounds", histogram((0..65).map(f64::from).collect(), 66)),
        ("bounds that fall", histogram(vec![2.0, 1.0], 3)),
        ("bounds that stand still", histogram(vec![1.0, 1.0], 3)),
        ("a bound that is no number", histogram(vec![f64::NAN], 2)),
        ("an endless bound", histogram(vec![f64::INFINITY], 2)),
        ("a count too few", histogram(vec![1.0, 2.0], 2)),
        ("a count too many", histogram(vec![1.0, 2.0], 4)),
        ("counts of a counter", one_family(|family| family.series[0].counts = vec![1])),
        ("a counter below 0", one_family(|family| family.series[0].value = -1.0)),
        ("a counter that is no number", one_family(|family| family.series[0].value = f64::NAN)),
        ("nine labels", one_family(|family| {
            family.series[0].labels =
                (0..9).map(|n| (format!("l{n}"), String::new())).collect();
        })),
        ("a label le", labelled("le", 1)),
        ("a label peer", labelled("peer", 1)),
        ("a label __name__", labelled("__name__", 1)),
        ("a label with a dash", labelled("a-b", 1)),
        ("a label without a name", labelled("", 1)),
        ("a label value of 257 bytes", labelled("k", 257)),
    ]
}

fn span(change: impl FnOnce(&mut v2::Span)) -> F {
    let mut good = v2::Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "s".into(),
        ..Default::default()
    };
    change(&mut good);
    let spans = v2::TraceSpans { spans: vec![good] };
    told(MessageType::TRACE_SPAN, LOGS, spans, |_| {})
}

fn attribute(key: usize, text: usize) -> v2::SpanAttribute {
    v2::SpanAttribute {
        key: "k".repeat(key),
        value: Some(v2::span_attribute::Value::Text("v".repeat(text))),
    }
}

fn wrong_spans() -> Vec<(&'static str, F)> {
    let spans = |count| v2::TraceSpans {
        spans: vec![v2::Span::default(); count],
    };
    let (many, empty) = (spans(513), spans(32_000));
    vec![
        ("32,000 spans of nothing", told(MessageType::TRACE_SPAN, LOGS, empty, |_| {})),
        ("513 spans", told(MessageType::TRACE_SPAN, LOGS, many, |_| {})),
        ("no trace id", span(|span| span.trace_id.clear())),
        ("a trace id of 15 bytes", span(|span| span.trace_id.truncate(15))),
        ("a trace id of zeros", span(|span| span.trace_id = vec![0; 16])),
        ("a span id of 9 bytes", span(|span| span.span_id.push(1))),
        ("a span id of zeros", span(|span| span.span_id = vec![0; 8])),
        ("a parent id of 7 bytes", span(|span| span.parent_id = vec![1; 7])),
        ("a parent id of zeros", span(|span| span.parent_id = vec![0; 8])),
        ("a span without a name", span(|span| span.name.clear())),
        ("a span with a name of 256 bytes", span(|span| span.name = "s".repeat(256))),
        ("kind 6", span(|span| span.kind = 6)),
        ("status 3", span(|span| span.status = 3)),
        ("an end before the beginning", span(|span| span.start_unix_ns = 1)),
        ("a text of 1025 bytes", span(|span| span.status_text = "t".repeat(1025))),
        ("65 attributes", span(|span| span.attributes = vec![attribute(1, 1); 65])),
        ("an attribute without a key", span(|span| span.attributes = vec![attribute(0, 1)])),
        ("a key of 256 bytes", span(|span| span.attributes = vec![attribute(256, 1)])),
        ("a value of 1025 bytes", span(|span| span.attributes = vec![attribute(1, 1025)])),
    ]
}

fn health(change: impl FnOnce(&mut v2::HealthCheck)) -> F {
    let good = v2::HealthCheck::default();
    told(MessageType::HEALTH_CHECK, SYSTEM, good, change)
}

fn status(change: impl FnOnce(&mut v2::StatusUpdate)) -> F {
    let good = v2::StatusUpdate::default();
    told(MessageType::STATUS_UPDATE, SYSTEM, good, change)
}

fn alert(change: impl FnOnce(&mut v2::AlertNotification)) -> F {
    let good = v2::AlertNotification {
        severity: 1,
        name: "disk.full".into(),
        ..Default::default()
    };
    told(MessageType::ALERT_NOTIFICATION, SYSTEM, good, change)
}

fn wrong_words() -> Vec<(&'static str, &'static str, F)> {
    let labels = |count: usize, value: usize| {
        alert(|alert| {
            alert.labels = (0..count)
                .map(|n| (format!("l{n}"), "v".repeat(value)))
                .collect();
        })
    };
    vec![
        ("a service of 256 bytes", "R-19.7", health(|check| check.service = "s".repeat(256))),
        ("health status 4", "R-19.7", health(|check| check.status = 4)),
        ("a status text of 1025 bytes", "R-19.9", status(|status| status.text = "t".repeat(1025))),
        ("a load over 1000", "R-19.9", status(|status| status.load_permille = 1001)),
        ("severity 0", "R-19.10", alert(|alert| alert.severity = 0)),
        ("severity 5", "R-19.10", alert(|alert| alert.severity = 5)),
        ("an alert without a name", "R-19.10", alert(|alert| alert.name.clear())),
        ("an alert of 256 bytes", "R-19.10", alert(|alert| alert.name = "a".repeat(256))),
        ("an alert in capitals", "R-19.10", alert(|alert| alert.name = "DISK".into())),
        ("an alert text of 1025 bytes", "R-19.10", alert(|alert| alert.text = "t".repeat(1025))),
        ("17 labels of an alert", "R-19.10", labels(17, 1)),
        ("a label of an alert of 257 bytes", "R-19.10", labels(1, 257)),
    ]
}

/// Each type with its channel.
const KINDS: [(MessageType, u32); 5] = [
    (MessageType::METRICS_REPORT, LOGS),
    (MessageType::TRACE_SPAN, LOGS),
    (MessageType::HEALTH_CHECK, SYSTEM),
    (MessageType::STATUS_UPDATE, SYSTEM),
    (MessageType::ALERT_NOTIFICATION, SYSTEM),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let metrics_of = wrong_metrics().into_iter();
    let metrics_of = metrics_of.map(|(what, frame)| (what, "R-19.4", LOGS, frame));
    let spans = wrong_spans().into_iter();
    let spans = spans.map(|(what, frame)| (what, "R-19.6", LOGS, frame));
    let words = wrong_words().into_iter();
    let words = words.map(|(what, rule, frame)| (what, rule, SYSTEM, frame));
    for (what, rule, channel, frame) in metrics_of.chain(spans).chain(words) {
        let case = ready(format!("told/{what}")).of_lists().send(frame);
        cases.push(case.refuses(channel, 0, rule, MALFORMED));
    }
    for (kind, channel) in KINDS {
        for elsewhere in [0, 100, 1000, 1001, SYSTEM + LOGS - channel] {
            let case = ready(format!("told/{kind} on {elsewhere}"));
            let case = case.send(f(kind, elsewhere).call(0x1005));
            cases.push(case.ends_connection("R-4.2", ErrorCode::WRONG_RANGE));
        }
        let case = ready(format!("told/{kind} that cannot be read"));
        let case = case.send(f(kind, channel).call(0x1005).body([0xff]));
        cases.push(case.refuses(channel, 0, "R-4.5", MALFORMED));
    }
    let good = [
        ("metrics", metrics(|_| {})),
        ("a histogram", histogram(vec![1.0, 2.0], 3)),
        ("a span", span(|_| {})),
        ("a health check", health(|_| {})),
        ("a status", status(|_| {})),
        ("an alert", alert(|_| {})),
    ];
    for (what, frame) in good {
        cases.push(ready(format!("told/{what}")).send(frame).keeps("R-19.2"));
    }
    let flood = |count| {
        ready(format!("told/{count} at once"))
            .flood(count, Duration::ZERO, |_| status(|_| {}).bytes())
    };
    cases.push(flood(100).keeps("R-19.3"));
    cases.push(flood(101).refuses(SYSTEM, 0, "R-19.3", ErrorCode::LIMIT));
    cases
}
