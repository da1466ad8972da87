//! Traces and metrics as a collector gets them.

#![cfg(test)]

mod collector;
mod proto;

use std::time::Duration;

use telemetry::Metrics;
use telemetry::otlp::{
    Exporter, Headers, OpenTelemetryConfig, OtlpConfig, OtlpConfigError, OtlpProtocol, Span,
    SpanKind, SpanStatus, TelemetryRuntimeApi, Value,
};

use collector::{Collector, Speaks};
use proto::{Metric, NumberPoint, Text, text};

fn config(collector: &Collector) -> OpenTelemetryConfig {
    OpenTelemetryConfig {
        enabled: true,
        endpoint: format!("http://127.0.0.1:{}", collector.port),
        service_name: "valkyrie-storage".to_owned(),
        protocol: Some(match collector.speaks {
            Speaks::Http => OtlpProtocol::Http,
            Speaks::Grpc => OtlpProtocol::Grpc,
        }),
        headers: Headers::from_text("x-token=a%20b").unwrap(),
        ..OpenTelemetryConfig::default()
    }
}

fn span(name: &str) -> Span {
    Span {
        trace_id: [1; 16],
        span_id: [2; 8],
        parent_id: None,
        name: name.to_owned(),
        kind: SpanKind::Client,
        start_ns: 5,
        end_ns: 7,
        attributes: vec![("db.system".into(), Value::from("redis"))],
        status: SpanStatus::Error("no answer".to_owned()),
    }
}

fn named<'a>(metrics: &'a [Metric], name: &str) -> &'a Metric {
    let names: Vec<_> = metrics.iter().map(|metric| &metric.name).collect();
    let found = metrics.iter().find(|metric| metric.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

fn value(point: &NumberPoint) -> (f64, Vec<Text>) {
    (point.value, text(&point.attributes))
}

async fn metrics_and_spans_arrive(speaks: Speaks) {
    let collector = Collector::start(speaks, &[]).await;
    let metrics = Metrics::new();
    metrics.stores.set("redis", true, 12, 3);
    metrics.rustci.queue_depth(4);
    let api = TelemetryRuntimeApi::with_metrics(metrics);
    api.spans().put(vec![span("lost")]);
    assert!(!api.is_enabled());
    api.enable_opentelemetry(config(&collector)).await.unwrap();
    assert!(api.is_enabled() && api.spans().is_enabled());

    let (resource, sent) = collector.metrics().await;
    let service = ("service.name".to_owned(), "valkyrie-storage".to_owned());
    assert!(resource.contains(&service), "{resource:?}");
    let operations = named(&sent, "rustci_store_operations")
        .sum
        .as_ref()
        .unwrap();
    assert!(operations.is_monotonic);
    assert_eq!(operations.temporality, 2);
    let point = &operations.points[0];
    let redis = vec![("store".to_owned(), "redis".to_owned())];
    assert_eq!(value(point), (12.0, redis.clone()));
    assert!(point.start_ns > 0 && point.start_ns <= point.time_ns);
    let up = named(&sent, "rustci_store_up").gauge.as_ref().unwrap();
    assert_eq!(value(&up.points[0]), (1.0, redis));
    let depth = named(&sent, "rustci_queue_depth").gauge.as_ref().unwrap();
    assert_eq!(value(&depth.points[0]), (4.0, vec![]));
    assert_eq!(named(&sent, "process_resident_memory_bytes").unit, "By");
    let build = named(&sent, "rustci_build_info").sum.as_ref().unwrap();
    assert!(!build.is_monotonic);

    api.spans().put(vec![span("GET")]);
    let (resource, spans) = collector.spans().await;
    assert!(resource.contains(&service), "{resource:?}");
    assert_eq!(spans.len(), 1);
    assert_eq!((spans[0].name.as_str(), spans[0].kind), ("GET", 3));
    let system = ("db.system".to_owned(), "redis".to_owned());
    assert_eq!(text(&spans[0].attributes), [system]);
    assert_eq!(collector.header("x-token"), "a b");
}

#[tokio::test]
async fn metrics_and_spans_arrive_over_http() {
    metrics_and_spans_arrive(Speaks::Http).await;
}

#[tokio::test]
async fn metrics_and_spans_arrive_over_grpc() {
    metrics_and_spans_arrive(Speaks::Grpc).await;
}

#[tokio::test]
async fn histogram_arrives_with_counts_of_its_own_in_each_bucket() {
    let collector = Collector::start(Speaks::Http, &[]).await;
    let text = "# HELP t_seconds T.\n# TYPE t_seconds histogram\n# UNIT t_seconds seconds\n\
        t_seconds_sum{a=\"b\"} 7.5\nt_seconds_count{a=\"b\"} 6\n\
        t_seconds_bucket{le=\"0.5\",a=\"b\"} 1\nt_seconds_bucket{le=\"2.0\",a=\"b\"} 4\n\
        t_seconds_bucket{le=\"+Inf\",a=\"b\"} 6\n# EOF\n";
    let exporter = Exporter::new(OtlpConfig::new(&config(&collector)).unwrap());
    exporter.export_metrics(text).await.unwrap();
    let (_, sent) = collector.metrics().await;
    let histogram = named(&sent, "t_seconds").histogram.as_ref().unwrap();
    let point = &histogram.points[0];
    assert_eq!(histogram.temporality, 2);
    assert_eq!((point.count, point.sum), (6, 7.5));
    assert_eq!(point.bucket_counts, [1, 3, 2]);
    assert_eq!(point.bounds, [0.5, 2.0]);
    assert!(exporter.export_metrics("nonsense").await.is_err());
}

#[tokio::test]
async fn after_it_was_switched_off_nothing_arrives_and_then_again() {
    let collector = Collector::start(Speaks::Http, &[]).await;
    let api = TelemetryRuntimeApi::new();
    let spans = api.spans();
    api.enable_opentelemetry(OpenTelemetryConfig {
        interval: Duration::from_secs(1),
        ..config(&collector)
    })
    .await
    .unwrap();
    collector.metrics().await;
    api.disable_opentelemetry().await;
    let before = collector.connections();
    spans.put(vec![span("off")]);
    assert!(!api.is_enabled());
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(60)).await;
    tokio::time::resume();
    assert_eq!(collector.connections(), before);

    let off = OpenTelemetryConfig {
        enabled: false,
        ..config(&collector)
    };
    api.enable_opentelemetry(off).await.unwrap();
    assert!(!api.is_enabled());
    api.enable_opentelemetry(config(&collector)).await.unwrap();
    spans.put(vec![span("on")]);
    let (_, sent) = collector.spans().await;
    let names: Vec<_> = sent.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["on"]);
    drop(api);
    assert!(!spans.is_enabled());
}

#[tokio::test]
async fn switching_it_on_again_moves_it_to_the_other_collector() {
    let first = Collector::start(Speaks::Http, &[]).await;
    let second = Collector::start(Speaks::Grpc, &[]).await;
    let api = TelemetryRuntimeApi::new();
    api.enable_opentelemetry(config(&first)).await.unwrap();
    first.metrics().await;
    api.enable_opentelemetry(config(&second)).await.unwrap();
    second.metrics().await;
    let before = first.connections();
    api.spans().put(vec![span("GET")]);
    assert_eq!(second.spans().await.1.len(), 1);
    assert_eq!(first.connections(), before);
    let wrong = OpenTelemetryConfig {
        endpoint: "collector:4317".to_owned(),
        ..config(&first)
    };
    assert!(api.enable_opentelemetry(wrong).await.is_err());
    assert!(api.is_enabled());
}

#[tokio::test]
async fn collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    for (speaks, busy, refusing) in [(Speaks::Http, 503, 400), (Speaks::Grpc, 14, 3)] {
        let collector = Collector::start(speaks, &[busy]).await;
        let exporter = Exporter::new(OtlpConfig::new(&config(&collector)).unwrap());
        exporter.export(vec![span("GET")]).await.unwrap();
        assert_eq!(collector.spans().await.1.len(), 1);
        let collector = Collector::start(speaks, &[refusing]).await;
        let exporter = Exporter::new(OtlpConfig::new(&config(&collector)).unwrap());
        let error = exporter.export(vec![span("GET")]).await.unwrap_err();
        let expected = format!("answered {refusing}: because");
        assert!(error.to_string().ends_with(&expected), "{error}");
        assert_eq!(collector.connections(), 1);
    }
}

#[test]
fn endpoint_decides_protocol_and_paths() {
    let made = |endpoint: &str| {
        OtlpConfig::new(&OpenTelemetryConfig {
            endpoint: endpoint.to_owned(),
            ..OpenTelemetryConfig::default()
        })
    };
    let shown = |endpoint: &str| format!("{:?}", made(endpoint).unwrap());
    let http = shown("http://localhost:4318/");
    assert!(
        http.contains("Http") && http.contains("http://localhost:4318/v1/metrics"),
        "{http}"
    );
    let grpc = shown("http://localhost:4317");
    assert!(
        grpc.contains("Grpc") && grpc.contains("TraceService/Export"),
        "{grpc}"
    );
    assert!(shown("https://example.org/otlp").contains("https://example.org/otlp/v1/traces"));
    for wrong in [
        "",
        "localhost:4317",
        "ftp://x",
        "http://",
        "http://u:canary@h",
        "http://h/?a=b",
    ] {
        let error = made(wrong).unwrap_err();
        assert!(matches!(error, OtlpConfigError::Collector(_)));
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    let secret = Headers::from_text("authorization=canary").unwrap();
    assert!(!format!("{secret:?}").contains("canary"));
}
