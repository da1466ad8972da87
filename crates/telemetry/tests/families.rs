//! The families have exactly the names, types, units and labels that dashboards rely on.

#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use telemetry::{CacheAnswer, Direction, FrameCounts, FrameTally, JobState, Metrics};
use valkyrie_frame::{ErrorCode, MessageType, SecurityMode, StreamClass, v2};

/// Family, type, label names.
const FAMILIES: &[(&str, &str, &str)] = &[
    ("peer_demo_requests", "counter", "code,peer"),
    ("process_cpu_seconds", "counter", ""),
    ("process_open_fds", "gauge", ""),
    ("process_resident_memory_bytes", "gauge", ""),
    ("process_start_time_seconds", "gauge", ""),
    ("process_threads", "gauge", ""),
    ("process_virtual_memory_bytes", "gauge", ""),
    ("rustci_build", "info", "version"),
    ("rustci_cache_lookups", "counter", "result"),
    ("rustci_connection_rejects", "counter", "code"),
    ("rustci_content_blobs", "gauge", ""),
    ("rustci_content_freed_bytes", "counter", ""),
    ("rustci_content_received_bytes", "counter", ""),
    ("rustci_content_removed", "counter", "reason"),
    ("rustci_content_stored_bytes", "gauge", ""),
    ("rustci_dispatch_seconds", "histogram", ""),
    ("rustci_event_streams_open", "gauge", "kind"),
    ("rustci_http_request_duration_seconds", "histogram", "route"),
    ("rustci_http_requests", "counter", "method,route,status"),
    ("rustci_http_requests_limited", "counter", ""),
    ("rustci_jobs", "gauge", "state"),
    ("rustci_jobs_finished", "counter", "conclusion"),
    ("rustci_jobs_waiting", "gauge", "reason"),
    ("rustci_journal_sync_seconds", "histogram", ""),
    ("rustci_log_bytes", "counter", ""),
    ("rustci_log_lines", "counter", ""),
    ("rustci_queue_depth", "gauge", ""),
    ("rustci_queue_oldest_seconds", "gauge", ""),
    ("rustci_runners_connected", "gauge", ""),
    ("rustci_runs", "counter", "conclusion"),
    ("rustci_runs_active", "gauge", ""),
    ("rustci_store_failures", "counter", "store"),
    ("rustci_store_fallbacks", "counter", ""),
    ("rustci_store_operations", "counter", "store"),
    ("rustci_store_up", "gauge", "store"),
    ("rustci_traces", "counter", "result"),
    ("valkyrie_alerts", "counter", "severity"),
    (
        "valkyrie_connection_duration_seconds",
        "histogram",
        "transport",
    ),
    ("valkyrie_connections_active", "gauge", "security,transport"),
    ("valkyrie_disconnections", "counter", "reason"),
    ("valkyrie_errors", "counter", "code,type"),
    ("valkyrie_flow_control_window_bytes", "gauge", "stream_type"),
    ("valkyrie_flow_control_window_size", "gauge", "stream_type"),
    (
        "valkyrie_handshake_duration_seconds",
        "histogram",
        "security",
    ),
    ("valkyrie_insecure_connections_active", "gauge", ""),
    ("valkyrie_message_latency_seconds", "histogram", "type"),
    ("valkyrie_message_size_bytes", "histogram", "type"),
    ("valkyrie_messages_received", "counter", "status,type"),
    ("valkyrie_messages_sent", "counter", "priority,type"),
    ("valkyrie_metrics_reports", "counter", "result,role"),
    ("valkyrie_retries", "counter", "operation"),
    ("valkyrie_stream_bytes", "counter", "direction,type"),
    (
        "valkyrie_stream_throughput_bytes_per_second",
        "gauge",
        "type",
    ),
    ("valkyrie_streams_active", "gauge", "type"),
];

/// Moves every family once.
fn move_all(metrics: &Metrics) {
    let valkyrie = &metrics.valkyrie;
    drop(valkyrie.connection("tcp", SecurityMode::PLAINTEXT, Duration::from_micros(70)));
    valkyrie.disconnected("timeout");
    valkyrie.error(ErrorCode::VERSION_MISMATCH);
    valkyrie.retry("job_dispatch");
    valkyrie.alert("warning");
    report_of_a_peer(metrics);
    valkyrie.answered(MessageType::JOB_REQUEST, Duration::from_micros(500));
    valkyrie.stream_opened(StreamClass::Jobs);
    valkyrie.stream_bytes(StreamClass::Data, Direction::Sent, 4_096);
    valkyrie.window(StreamClass::Jobs, 65_536);
    let mut tally = FrameTally::new(valkyrie);
    let counts = FrameCounts {
        sent: [0, 1, 0, 0],
        received: 1,
        ..FrameCounts::default()
    };
    tally.add(MessageType::JOB_REQUEST, &counts);
    tally.flush();
    let http = &metrics.http;
    http.answered("GET", "/api/v1/runs/{id}", 404, Duration::from_micros(80));
    drop(http.stream("run"));
    http.limited();
    metrics.stores.set("memory", true, 1, 0);
    metrics.stores.set_fell_back(1);
    let content = &metrics.content;
    content.stored(1, 1);
    content.received(1);
    content.freed(1);
    content.removed("expired", 1);
    content.looked_up(CacheAnswer::Hit);
    let rustci = &metrics.rustci;
    rustci.queue_oldest(Duration::from_secs(1));
    rustci.jobs_waiting("capacity", 1);
    rustci.traces_sent(1);
    rustci.runs_active(1);
    rustci.run_finished("success");
    rustci.jobs(JobState::Queued, 2);
    rustci.job_finished("failure");
    rustci.queue_depth(2);
    rustci.runners_connected(1);
    rustci.dispatched(Duration::from_micros(300));
    rustci.journal_synced(Duration::from_millis(2));
    rustci.log_stored(1_024, 12);
    rustci.connection_rejected(ErrorCode::MAGIC);
}

fn report_of_a_peer(metrics: &Metrics) {
    let series = v2::MetricSeries {
        labels: [("code".to_owned(), "200".to_owned())].into(),
        value: 1.0,
        counts: vec![],
    };
    let report = v2::MetricsReport {
        instance: vec![1; 16],
        families: vec![v2::MetricFamily {
            name: "demo_requests".to_owned(),
            kind: 1,
            series: vec![series],
            ..Default::default()
        }],
    };
    let _ = metrics.peers.joined(&report.instance);
    metrics.peers.take("runner", &report);
}

/// One family as the text shows it.
#[derive(Default)]
struct Seen {
    kind: String,
    labels: BTreeSet<String>,
}

/// Label names of a sample line, without the histogram's own `le`.
fn label_names(labels: &str) -> BTreeSet<String> {
    let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split('=').next().unwrap().to_owned())
        .filter(|name| name != "le")
        .collect()
}

/// Reads the text strictly: every sample belongs to the family announced last.
fn read(text: &str) -> BTreeMap<String, Seen> {
    let mut families = BTreeMap::<String, Seen>::new();
    let mut current = String::new();
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.split(' ');
            let (word, name) = (words.next().unwrap(), words.next().unwrap());
            current = name.to_owned();
            let family = families.entry(current.clone()).or_default();
            match word {
                "HELP" => {}
                "TYPE" => words.next().unwrap().clone_into(&mut family.kind),
                "UNIT" => assert!(name.ends_with(&format!("_{}", words.next().unwrap()))),
                other => panic!("unknown descriptor {other}"),
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let suffix = name
            .strip_prefix(&current)
            .unwrap_or_else(|| panic!("{line} in {current}"));
        let family = families.get_mut(&current).unwrap();
        let suffixes: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count"],
            other => panic!("unknown type {other}"),
        };
        assert!(suffixes.contains(&suffix), "{line}");
        family
            .labels
            .extend(label_names(labels.strip_suffix('}').unwrap()));
    }
    families
}

#[test]
fn every_family_has_its_name_type_and_labels() {
    let metrics = Metrics::new();
    move_all(&metrics);
    // The throughput of the first second is not known yet.
    let families = read(&metrics.encode_at(Instant::now() + Duration::from_secs(2)));
    let seen: Vec<_> = families
        .iter()
        .map(|(name, seen)| {
            let labels: Vec<_> = seen.labels.iter().map(String::as_str).collect();
            (name.clone(), seen.kind.clone(), labels.join(","))
        })
        .collect();
    let expected: Vec<_> = FAMILIES
        .iter()
        .map(|(name, kind, labels)| (name.to_string(), kind.to_string(), labels.to_string()))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn throughput_is_bytes_over_the_time_between_scrapes() {
    let metrics = Metrics::new();
    let start = Instant::now() + Duration::from_secs(60);
    let _ = metrics.encode_at(start);
    metrics
        .valkyrie
        .stream_bytes(StreamClass::Logs, Direction::Received, 5_000);
    let line = "valkyrie_stream_throughput_bytes_per_second{type=\"log\"}";
    let soon = metrics.encode_at(start + Duration::from_millis(500));
    assert!(
        soon.contains(&format!("{line} 0")),
        "half a second is too short a span"
    );
    let later = metrics.encode_at(start + Duration::from_secs(2));
    assert!(later.contains(&format!("{line} 2500")));
}

#[test]
fn a_closed_connection_is_not_active() {
    let metrics = Metrics::new();
    let open = metrics
        .valkyrie
        .connection("unix", SecurityMode::PLAINTEXT, Duration::ZERO);
    let line = "valkyrie_connections_active{transport=\"unix\",security=\"plaintext\"}";
    assert!(metrics.encode().contains(&format!("{line} 1")));
    drop(open);
    assert!(metrics.encode().contains(&format!("{line} 0")));
}

#[test]
fn a_tally_counts_by_type_band_and_size() {
    let metrics = Metrics::new();
    let mut tally = FrameTally::new(&metrics.valkyrie);
    let calls = FrameCounts {
        sent: [0, 0, 3, 0],
        bytes: 3 * 64,
        sizes: &[0, 0, 0, 0, 0, 0, 3],
        ..FrameCounts::default()
    };
    tally.add(MessageType::CALL, &calls);
    let mut sizes = [0; 20];
    sizes[19] = 1;
    let others = FrameCounts {
        received: 2,
        skipped: 1,
        bytes: 300_000,
        sizes: &sizes,
        ..FrameCounts::default()
    };
    tally.add(MessageType(0x99), &others);
    assert!(
        !metrics.encode().contains("call"),
        "nothing is shared before the flush"
    );
    drop(tally);
    let text = metrics.encode();
    for line in [
        "valkyrie_messages_sent_total{type=\"call\",priority=\"high\"} 3",
        "valkyrie_messages_received_total{type=\"application\",status=\"success\"} 1",
        "valkyrie_messages_received_total{type=\"application\",status=\"skipped\"} 1",
        "valkyrie_message_size_bytes_bucket{le=\"16.0\",type=\"call\"} 0",
        "valkyrie_message_size_bytes_bucket{le=\"64.0\",type=\"call\"} 3",
        "valkyrie_message_size_bytes_bucket{le=\"262144.0\",type=\"application\"} 0",
        "valkyrie_message_size_bytes_sum{type=\"application\"} 300000.0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
