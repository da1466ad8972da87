//! The metrics of a live server, scraped over HTTP, as dashboards rely on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use telemetry::openmetrics::{self, Family, Kind};
use telemetry::{Metrics, probes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use valkyrie::{End, Health, HealthStatus, LinkConfig, Meter, StreamClass, connect, v2};

use crate::service::{CLASS, Recorder, Seen, Service};
use crate::{on_every_transport, start};

/// Family, type, unit and labels of everything that traffic of the suite moves.
const FAMILIES: &[(&str, Kind, &str, &str)] = &[
    (
        "valkyrie_connection_duration_seconds",
        Kind::Histogram,
        "seconds",
        "transport",
    ),
    (
        "valkyrie_connections_active",
        Kind::Gauge,
        "",
        "security,transport",
    ),
    ("valkyrie_disconnections", Kind::Counter, "", "reason"),
    ("valkyrie_errors", Kind::Counter, "", "code,type"),
    (
        "valkyrie_flow_control_window_bytes",
        Kind::Gauge,
        "bytes",
        "stream_type",
    ),
    (
        "valkyrie_flow_control_window_size",
        Kind::Gauge,
        "",
        "stream_type",
    ),
    (
        "valkyrie_handshake_duration_seconds",
        Kind::Histogram,
        "seconds",
        "security",
    ),
    ("valkyrie_insecure_connections_active", Kind::Gauge, "", ""),
    (
        "valkyrie_message_latency_seconds",
        Kind::Histogram,
        "seconds",
        "type",
    ),
    (
        "valkyrie_message_size_bytes",
        Kind::Histogram,
        "bytes",
        "type",
    ),
    (
        "valkyrie_messages_received",
        Kind::Counter,
        "",
        "status,type",
    ),
    ("valkyrie_messages_sent", Kind::Counter, "", "priority,type"),
    (
        "valkyrie_stream_bytes",
        Kind::Counter,
        "bytes",
        "direction,type",
    ),
    (
        "valkyrie_stream_throughput_bytes_per_second",
        Kind::Gauge,
        "",
        "type",
    ),
    ("valkyrie_streams_active", Kind::Gauge, "", "type"),
];

async fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn scrape(address: SocketAddr) -> BTreeMap<String, Family> {
    let answer = ask(address, "/metrics").await;
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    let families = openmetrics::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let named = families
        .into_iter()
        .map(|family| (family.name.clone(), family));
    named.collect()
}

fn labels(family: &Family) -> String {
    let names = family
        .samples
        .iter()
        .flat_map(|sample| sample.labels.keys());
    let names: BTreeSet<_> = names.filter(|name| *name != "le").cloned().collect();
    names.into_iter().collect::<Vec<_>>().join(",")
}

#[test]
fn traffic_moves_every_family_and_each_has_its_name_type_unit_and_labels() {
    on_every_transport("scrape", async |endpoint| {
        let (metrics, health) = (Metrics::new(), Health::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let known = health.clone();
        let serves = move || known.status("") == HealthStatus::Serving;
        tokio::spawn(probes::serve(listener, metrics.clone(), serves));
        let config = LinkConfig {
            meter: Some(Meter::new(&metrics.valkyrie)),
            ..LinkConfig::default()
        };
        let endpoint = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (recorder, mut seen) = Recorder::new();
        let link = connect(&endpoint, config.clone(), recorder).await.unwrap();
        let patience = Duration::from_secs(5);
        link.call(StreamClass::System, "test.Echo/Say", b"x", patience)
            .await
            .unwrap();
        let refused = link
            .call(StreamClass::System, "test.No/Such", b"", patience)
            .await;
        refused.unwrap_err();
        let stream = link
            .session()
            .open(CLASS, &v2::StreamOpen::default())
            .unwrap();
        link.session().data(stream, b"some bytes", End::No).unwrap();
        while !matches!(seen.recv().await.unwrap(), Seen::Data(_)) {}
        // One more connection that ends.
        let (recorder, _seen) = Recorder::new();
        let second = connect(&endpoint, config, recorder).await.unwrap();
        second.abort();
        second.closed().await;
        // Throughput is known after a second.
        let found = loop {
            let found = scrape(address).await;
            if FAMILIES.iter().all(|(name, ..)| found.contains_key(*name)) {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        for (name, kind, unit, names) in FAMILIES {
            let family = &found[*name];
            let seen = (family.kind, family.unit.as_str(), labels(family));
            assert_eq!(seen, (*kind, *unit, (*names).to_owned()), "{name}");
            assert!(!family.help.is_empty(), "{name}");
            let moved = family.samples.iter().any(|sample| sample.value > 0.0);
            assert!(moved, "{name}");
        }
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        health.set("", HealthStatus::NotServing);
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
    });
}
