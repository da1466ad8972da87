//! What programs tell each other about themselves: metrics, spans, health, status, alerts.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod pair;

use std::collections::BTreeMap;

use prost::Message;
use valkyrie_frame::{
    Correlation, ErrorCode, Flags, Header, MessageType, StreamClass, StreamId, features, v2,
};
use valkyrie_session::{Event, SendError, SessionConfig};

use pair::*;

fn report() -> v2::MetricsReport {
    let labels = BTreeMap::from([("code".to_owned(), "200".to_owned())]);
    let series = v2::MetricSeries {
        labels,
        value: 3.0,
        counts: vec![],
    };
    v2::MetricsReport {
        instance: vec![7; 16],
        families: vec![v2::MetricFamily {
            name: "demo_requests".to_owned(),
            kind: 1,
            series: vec![series],
            ..Default::default()
        }],
    }
}

fn histogram() -> v2::MetricFamily {
    v2::MetricFamily {
        name: "demo_latency_seconds".to_owned(),
        unit: "seconds".to_owned(),
        kind: 3,
        bounds: vec![0.1, 1.0],
        series: vec![v2::MetricSeries {
            counts: vec![1, 2, 3],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn span() -> v2::Span {
    v2::Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "work".to_owned(),
        kind: 1,
        start_unix_ns: 5,
        end_unix_ns: 9,
        ..Default::default()
    }
}

fn alert() -> v2::AlertNotification {
    v2::AlertNotification {
        severity: 2,
        name: "disk.full".to_owned(),
        text: "no space left".to_owned(),
        ..Default::default()
    }
}

/// A message on `stream` as a scripted peer writes it.
fn told(kind: MessageType, stream: u32, number: u32, flags: Flags, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header::new(kind, StreamId(stream), body.len() as u32)
        .with_flags(flags)
        .with_correlation(Correlation(number))
        .append(&mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn everything_told_arrives_as_it_was_said() {
    let mut pair = Pair::new();
    let spans = v2::TraceSpans {
        spans: vec![span()],
    };
    let health = v2::HealthCheck {
        id: 4,
        service: "demo.Echo".to_owned(),
        watch: true,
        ..Default::default()
    };
    let status = v2::StatusUpdate {
        state: 2,
        load_permille: 300,
        ..Default::default()
    };
    pair.client.report_metrics(&report()).unwrap();
    pair.client.report_spans(&spans).unwrap();
    pair.client.health_check(&health).unwrap();
    pair.client.update_status(&status).unwrap();
    pair.client.notify_alert(&alert()).unwrap();
    let events = pair.reach_server();
    let expected = [
        Event::Metrics(Box::new(report())),
        Event::Spans(Box::new(spans)),
        Event::Health(Box::new(health)),
        Event::PeerStatus(Box::new(status)),
        Event::Alert(Box::new(alert())),
    ];
    assert_eq!(events.len(), expected.len());
    assert!(
        expected.iter().all(|event| events.contains(event)),
        "{events:?}"
    );
}

#[test]
fn a_report_larger_than_the_credit_arrives_in_fragments_and_returns_its_credit() {
    let mut pair = Pair::small_windows();
    let mut large = report();
    large.families = (0..100)
        .map(|n| v2::MetricFamily {
            name: format!("demo_{n}"),
            help: "h".repeat(256),
            kind: 2,
            ..Default::default()
        })
        .collect();
    let alert = v2::AlertNotification {
        text: "t".repeat(1024),
        labels: (0..16)
            .map(|n| (format!("l{n}"), "v".repeat(256)))
            .collect(),
        ..alert()
    };
    assert!(alert.encoded_len() > 4096, "over the window of channel 1");
    for _ in 0..20 {
        pair.client.report_metrics(&large).unwrap();
        pair.client.notify_alert(&alert).unwrap();
        let mut events = Vec::new();
        for _ in 0..10 {
            events.extend(pair.reach_server());
            pair.reach_client();
        }
        assert!(events.contains(&Event::Metrics(Box::new(large.clone()))));
        assert!(events.contains(&Event::Alert(Box::new(alert.clone()))));
        // A second of time for the budget of reports.
        pair.now = pair.now + std::time::Duration::from_secs(1);
    }
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn without_the_feature_nothing_is_sent_and_what_comes_is_skipped() {
    let without = SessionConfig {
        features: 0,
        ..SessionConfig::default()
    };
    let mut pair = Pair::with(SessionConfig::default(), without);
    assert!(!pair.client.has_feature(features::OBSERVE));
    let refused = Err(SendError::NotAgreed {
        kind: MessageType::ALERT_NOTIFICATION,
    });
    assert_eq!(pair.client.notify_alert(&alert()), refused);
    let body = alert().encode_to_vec();
    let bytes = told(MessageType::ALERT_NOTIFICATION, 1, 1, Flags::NONE, &body);
    assert_eq!(give(&mut pair.server, NOW, leak(bytes)), []);
    assert_eq!(pair.server.counters().skipped, 1);
}

type Case = (MessageType, u32, Vec<u8>, &'static str);

/// Each case is refused under its rule, and a call that runs beside them is answered.
fn all_refused(cases: impl IntoIterator<Item = Case>) {
    let mut pair = Pair::new();
    let call = pair.client.call(StreamClass::System, "a/B", b"", None);
    pair.reach_server();
    for (number, (kind, stream, body, rule)) in (1..).zip(cases) {
        // A second for each, for the budget of reports.
        let now = seconds(number);
        let bytes = told(kind, stream, number as u32, Flags::NONE, &body);
        let events = give(&mut pair.server, now, leak(bytes));
        assert_eq!(events, [], "{kind} {number}");
        let answer = take(&mut pair.server, now);
        let events = give(&mut pair.client, now, answer);
        let [
            Event::PeerError {
                stream: on,
                correlation,
                text,
                ..
            },
        ] = &events[..]
        else {
            panic!("{kind} {number}: {events:?}");
        };
        assert_eq!((on.0, *correlation), (stream, Correlation::NONE));
        assert!(text.ends_with(rule), "{kind} {number}: {text}");
    }
    pair.server.reply(call.unwrap(), b"fine").unwrap();
    assert!(matches!(pair.reach_client()[..], [Event::Reply { .. }]));
}

fn label(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}

fn metrics(change: fn(&mut v2::MetricsReport)) -> Case {
    let mut report = report();
    change(&mut report);
    let body = report.encode_to_vec();
    (MessageType::METRICS_REPORT, 10_000, body, "(R-19.4)")
}

fn series(change: fn(&mut v2::MetricSeries)) -> Case {
    let mut report = report();
    let all = report
        .families
        .iter_mut()
        .flat_map(|family| &mut family.series);
    all.for_each(change);
    let body = report.encode_to_vec();
    (MessageType::METRICS_REPORT, 10_000, body, "(R-19.4)")
}

fn family(change: fn(&mut v2::MetricFamily)) -> Case {
    let mut family = histogram();
    change(&mut family);
    let mut report = report();
    report.families = vec![family];
    let body = report.encode_to_vec();
    (MessageType::METRICS_REPORT, 10_000, body, "(R-19.4)")
}

fn spans(change: fn(&mut v2::Span)) -> Case {
    let mut span = span();
    change(&mut span);
    let body = v2::TraceSpans { spans: vec![span] }.encode_to_vec();
    (MessageType::TRACE_SPAN, 10_000, body, "(R-19.6)")
}

fn alerts(change: fn(&mut v2::AlertNotification)) -> Case {
    let mut alert = alert();
    change(&mut alert);
    let body = alert.encode_to_vec();
    (MessageType::ALERT_NOTIFICATION, 1, body, "(R-19.10)")
}

#[test]
fn a_report_that_breaks_a_rule_is_refused_and_nothing_else_suffers() {
    all_refused([
        metrics(|m| m.instance.clear()),
        metrics(|m| m.families = vec![m.families[0].clone(); 2]),
        metrics(|m| m.families = vec![v2::MetricFamily::default(); 129]),
        metrics(|m| m.families[0].series = vec![v2::MetricSeries::default(); 513]),
        metrics(|m| m.families[0].series = vec![v2::MetricSeries::default(); 2]),
        metrics(|m| m.families[0].name = "demo_requests_total".to_owned()),
        metrics(|m| m.families[0].name = "9lives".to_owned()),
        metrics(|m| m.families[0].name = "a\nb".to_owned()),
        metrics(|m| m.families[0].name = "n".repeat(129)),
        metrics(|m| m.families[0].help = "h".repeat(257)),
        metrics(|m| m.families[0].kind = 0),
        metrics(|m| m.families[0].kind = 4),
        metrics(|m| m.families[0].bounds = vec![1.0]),
        series(|s| s.value = -1.0),
        series(|s| s.value = f64::NAN),
        series(|s| s.counts = vec![1]),
        series(|s| s.labels = label("le", "1")),
        series(|s| s.labels = label("peer", "me")),
        series(|s| s.labels = label("__name__", "x")),
        series(|s| s.labels = label("a b", "x")),
        series(|s| s.labels = label("a", &"x".repeat(257))),
        series(|s| s.labels = (0..9).map(|n| (format!("l{n}"), String::new())).collect()),
        family(|f| f.unit = "bytes".to_owned()),
        family(|f| f.bounds = vec![1.0, 0.1]),
        family(|f| f.bounds = vec![1.0, f64::INFINITY]),
        family(|f| f.bounds = (0..65_u8).map(f64::from).collect()),
        family(|f| f.series[0].counts.truncate(2)),
        (
            MessageType::METRICS_REPORT,
            10_000,
            vec![0; 65_537],
            "(R-6.3)",
        ),
    ]);
}

#[test]
fn a_span_status_or_alert_that_breaks_a_rule_is_refused() {
    all_refused([
        spans(|s| s.trace_id = vec![0; 16]),
        spans(|s| s.span_id = vec![1; 7]),
        spans(|s| s.parent_id = vec![0; 8]),
        spans(|s| s.name.clear()),
        spans(|s| s.kind = 6),
        spans(|s| s.status = 3),
        spans(|s| s.end_unix_ns = 4),
        spans(|s| s.status_text = "t".repeat(1025)),
        spans(|s| s.attributes = vec![v2::SpanAttribute::default(); 1]),
        spans(|s| s.attributes = vec![v2::SpanAttribute::default(); 65]),
        alerts(|a| a.severity = 0),
        alerts(|a| a.severity = 5),
        alerts(|a| a.name = "Disk Full".to_owned()),
        alerts(|a| a.text = "t".repeat(1025)),
        alerts(|a| a.labels = label("9", "x")),
        (MessageType::TRACE_SPAN, 10_000, b"\xFF".to_vec(), "(R-4.5)"),
        (MessageType::STATUS_UPDATE, 1, vec![24, 0xE9, 7], "(R-19.9)"),
        (MessageType::HEALTH_CHECK, 1, vec![24, 4], "(R-19.7)"),
    ]);
}

#[test]
fn what_the_peer_would_refuse_is_not_sent() {
    let mut pair = Pair::new();
    let mut wrong = report();
    wrong.families[0].kind = 9;
    let refused = pair.client.report_metrics(&wrong);
    assert!(matches!(refused, Err(SendError::Invalid { .. })));
    assert_eq!(pair.reach_server(), []);
}

#[test]
fn a_flood_of_reports_is_refused_and_a_heavy_honest_pace_is_not() {
    let mut pair = Pair::new();
    let mut taken = 0;
    for _ in 0..150 {
        pair.client.notify_alert(&alert()).unwrap();
        taken += pair.reach_server().len();
    }
    assert_eq!(taken, 100);
    let refused = pair.reach_client();
    assert_eq!(refused.len(), 50);
    assert!(refused.iter().all(|event| matches!(
        event,
        Event::PeerError {
            code: ErrorCode::LIMIT,
            retry: valkyrie_session::Retry::After(_),
            ..
        }
    )));
    // Twenty a second for a minute, right behind the flood.
    for second in 1..60 {
        pair.now = seconds(second);
        for _ in 0..20 {
            pair.client.notify_alert(&alert()).unwrap();
        }
        assert_eq!(pair.reach_server().len(), 20);
        pair.reach_client();
    }
}

#[test]
fn a_type_off_its_channel_ends_the_connection() {
    for (kind, stream) in [
        (MessageType::METRICS_REPORT, 1),
        (MessageType::TRACE_SPAN, 10_001),
        (MessageType::HEALTH_CHECK, 0),
        (MessageType::STATUS_UPDATE, 10_000),
        (MessageType::ALERT_NOTIFICATION, 3),
    ] {
        let mut pair = Pair::new();
        let bytes = told(kind, stream, 1, Flags::NONE, b"");
        let error = read_to_error(&mut pair.server, leak(bytes));
        assert_eq!(error.code(), ErrorCode::WRONG_RANGE, "{kind} on {stream}");
        assert!(error.to_string().contains("R-4.2"), "{error}");
    }
}
