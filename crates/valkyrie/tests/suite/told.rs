//! What programs tell each other about themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use telemetry::Metrics;
use valkyrie::{
    ErrorCode, Event, Handler, Health, HealthError, HealthStatus, Link, LinkConfig, Meter,
    Receivers, Role, SessionConfig, connect, v2,
};

use crate::service::{Recorder, Seen, Service};
use crate::{on_every_transport, start};

fn runner() -> LinkConfig {
    LinkConfig {
        session: SessionConfig {
            role: Role::RUNNER,
            node: "r1".to_owned(),
            ..SessionConfig::default()
        },
        ..LinkConfig::default()
    }
}

/// Tells the server a gauge and a counter.
fn report(value: f64) -> v2::MetricsReport {
    let family = |name: &str, kind| v2::MetricFamily {
        name: name.to_owned(),
        kind,
        series: vec![v2::MetricSeries {
            value,
            ..Default::default()
        }],
        ..Default::default()
    };
    v2::MetricsReport {
        instance: vec![9; 16],
        families: vec![family("demo_jobs", 1), family("demo_busy", 2)],
    }
}

/// Waits until the text shows `line`.
async fn shows(metrics: &Metrics, line: &str) {
    while !metrics.encode().lines().any(|found| found == line) {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_server_shows_what_runners_report_and_counts_their_alerts() {
    on_every_transport("told-metrics", async |endpoint| {
        let metrics = Metrics::new();
        let config = LinkConfig {
            meter: Some(Meter::new(&metrics.valkyrie)),
            receivers: Receivers {
                metrics: Some(metrics.peers.clone()),
                ..Receivers::default()
            },
            ..LinkConfig::default()
        };
        let endpoint = start(&endpoint, config, |_| Service::default()).await;
        let (ear, _heard) = Recorder::new();
        let link = connect(&endpoint, runner(), ear).await.unwrap();
        link.session().report_metrics(&report(3.0)).unwrap();
        shows(&metrics, "peer_demo_jobs_total{peer=\"runner\"} 3.0").await;
        shows(&metrics, "peer_demo_busy{peer=\"runner\"} 3.0").await;
        let alert = v2::AlertNotification {
            severity: 2,
            name: "disk.full".to_owned(),
            labels: BTreeMap::from([("mount".to_owned(), "/srv".to_owned())]),
            ..Default::default()
        };
        link.session().notify_alert(&alert).unwrap();
        shows(&metrics, "valkyrie_alerts_total{severity=\"warning\"} 1").await;
        link.close(ErrorCode::NONE, Duration::ZERO);
        // The gauge ends with the connection, the total stays.
        shows(&metrics, "peer_demo_busy{peer=\"runner\"} 0.0").await;
        shows(&metrics, "peer_demo_jobs_total{peer=\"runner\"} 3.0").await;
    });
}

fn health_is(status: HealthStatus) -> Option<Seen> {
    Some(Seen::Health(Some(status)))
}

/// Does nothing by itself.
struct Deaf;

impl Handler for Deaf {
    fn event(&mut self, _link: &Link, _event: Event<'_>) {}
}

#[test]
fn health_is_asked_for_and_watched() {
    on_every_transport("told-health", async |endpoint| {
        let health = Health::default();
        health.set("demo.Echo", HealthStatus::Serving);
        let config = LinkConfig {
            receivers: Receivers {
                health: health.clone(),
                ..Receivers::default()
            },
            ..LinkConfig::default()
        };
        let endpoint = start(&endpoint, config, |_| Deaf).await;
        let (ear, mut heard) = Recorder::new();
        let link = connect(&endpoint, LinkConfig::default(), ear)
            .await
            .unwrap();
        let patience = Duration::from_secs(5);
        let asked = async |service| link.health(service, patience).await.unwrap();
        assert_eq!(asked("").await, HealthStatus::Serving);
        assert_eq!(asked("demo.Echo").await, HealthStatus::Serving);
        assert_eq!(asked("demo.Nothing").await, HealthStatus::Unknown);

        assert_eq!(heard.recv().await, Some(Seen::Ready));
        let watch = v2::HealthCheck {
            id: 1_000_000,
            service: "demo.Echo".to_owned(),
            watch: true,
            ..Default::default()
        };
        link.session().health_check(&watch).unwrap();
        assert_eq!(heard.recv().await, health_is(HealthStatus::Serving));
        health.set("demo.Echo", HealthStatus::NotServing);
        assert_eq!(heard.recv().await, health_is(HealthStatus::NotServing));
        health.set("demo.Echo", HealthStatus::Serving);
        assert_eq!(heard.recv().await, health_is(HealthStatus::Serving));
        let unwatch = v2::HealthCheck {
            watch: false,
            ..watch
        };
        link.session().health_check(&unwatch).unwrap();
        assert_eq!(heard.recv().await, health_is(HealthStatus::Serving));
        health.set("demo.Echo", HealthStatus::NotServing);
        assert_eq!(asked("demo.Echo").await, HealthStatus::NotServing);
        link.abort();
        link.closed().await;
        let lost = link.health("", patience).await;
        assert!(matches!(lost, Err(HealthError::Closed(_))), "{lost:?}");
    });
}

#[test]
fn the_last_status_of_the_peer_is_kept() {
    on_every_transport("told-status", async |endpoint| {
        let endpoint = start(&endpoint, LinkConfig::default(), |_| Telling).await;
        let (ear, mut heard) = Recorder::new();
        let link = connect(&endpoint, LinkConfig::default(), ear)
            .await
            .unwrap();
        while heard.recv().await.unwrap() != Seen::Status(5) {}
        let status = link.peer_status().unwrap();
        assert_eq!((status.state, status.load_permille), (5, 1000));
    });
}

/// Says that it is ready, then that it stops.
struct Telling;

impl Handler for Telling {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        if let Event::Ready(_) = event {
            for (state, load_permille) in [(2, 0), (5, 1000)] {
                let status = v2::StatusUpdate {
                    state,
                    load_permille,
                    ..Default::default()
                };
                link.session().update_status(&status).unwrap();
            }
        }
    }
}
