//! What peers tell about themselves, and what becomes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use telemetry::otlp::{Span, SpanQueue, Value};
use telemetry::{Instance, PeerReports};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;
use valkyrie_frame::v2;
use valkyrie_session::{Event, HealthStatus, SendError};

use crate::error::CloseReason;
use crate::health::Health;
use crate::link::Link;
use crate::meter::Meter;

/// Services that one peer may watch.
const WATCHES_MAX: usize = 64;

/// Where goes what peers tell. What has no place here reaches the handler as an event.
#[derive(Debug, Clone, Default)]
pub struct Receivers {
    /// Answers to health checks. Default: the program as a whole serves, nothing else is known.
    pub health: Health,
    /// Takes metrics reports.
    pub metrics: Option<PeerReports>,
    /// Takes spans.
    pub spans: Option<SpanQueue>,
}

/// Why a service's health is not known.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HealthError {
    /// The question was not sent.
    #[error("health check not sent: {0}")]
    Send(#[from] SendError),
    /// The peer did not answer in time.
    #[error("no answer to the health check within {0:?}")]
    Timeout(Duration),
    /// The connection ended first.
    #[error("health check lost: {0}")]
    Closed(CloseReason),
}

/// What one peer has told and asked.
#[derive(Debug, Default)]
pub(crate) struct Told {
    status: Option<v2::StatusUpdate>,
    /// The name under which it reports metrics.
    instance: Option<Instance>,
    /// Questions of this side, by id.
    asked: BTreeMap<u32, oneshot::Sender<HealthStatus>>,
    last_id: u32,
    /// Services that the peer watches, by its id, with what it was told last.
    watches: BTreeMap<u32, (String, HealthStatus)>,
}

impl Link {
    /// How the peer said it is, last.
    #[must_use]
    pub fn peer_status(&self) -> Option<v2::StatusUpdate> {
        self.told(|told| told.status.clone())
    }

    /// Asks how a service of the peer is; the empty name is the peer as a whole.
    ///
    /// Dropping the future forgets the question.
    ///
    /// # Errors
    /// See [`HealthError`].
    pub async fn health(
        &self,
        service: &str,
        deadline: Duration,
    ) -> Result<HealthStatus, HealthError> {
        if let Some(reason) = self.close_reason() {
            return Err(HealthError::Closed(reason));
        }
        let (id, answer) = self.told(|told| {
            told.asked.retain(|_, sender| !sender.is_closed());
            told.last_id = told.last_id.wrapping_add(1);
            let (sender, answer) = oneshot::channel();
            told.asked.insert(told.last_id, sender);
            (told.last_id, answer)
        });
        let question = v2::HealthCheck {
            id,
            service: service.to_owned(),
            ..Default::default()
        };
        self.session().health_check(&question)?;
        match timeout(deadline, answer).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(_)) => {
                let reason = self.close_reason().unwrap_or(CloseReason::Lost);
                Err(HealthError::Closed(reason))
            }
            Err(_) => Err(HealthError::Timeout(deadline)),
        }
    }
}

/// Takes what has a receiver out of the events.
pub(crate) fn take<'b>(
    link: &Link,
    receivers: &Receivers,
    meter: Option<&Meter>,
    event: Event<'b>,
) -> Option<Event<'b>> {
    match event {
        Event::Metrics(report) => match &receivers.metrics {
            Some(metrics) => take_metrics(link, metrics, &report),
            None => return Some(Event::Metrics(report)),
        },
        Event::Spans(spans) => match &receivers.spans {
            Some(queue) => queue.put(spans_of(link, *spans)),
            None => return Some(Event::Spans(spans)),
        },
        Event::Health(check) => match HealthStatus::from_wire(check.status) {
            None => answer_health(link, &receivers.health, *check),
            Some(status) => match link.told(|told| told.asked.remove(&check.id)) {
                // Whoever asked may have gone away.
                Some(sender) => drop(sender.send(status).ok()),
                None => return Some(Event::Health(check)),
            },
        },
        Event::PeerStatus(status) => {
            link.told(|told| told.status = Some((*status).clone()));
            return Some(Event::PeerStatus(status));
        }
        Event::Alert(alert) => {
            let severity = log_alert(link, &alert);
            if let Some(meter) = meter {
                meter.alert(severity);
            }
            return Some(Event::Alert(alert));
        }
        other => return Some(other),
    }
    None
}

/// The connection is over: its gauges end, and nobody answers any more.
pub(crate) fn end(link: &Link, receivers: &Receivers) {
    let instance = link.take_told().and_then(|told| told.instance);
    if let (Some(instance), Some(metrics)) = (instance, &receivers.metrics) {
        metrics.left(&instance);
    }
}

fn take_metrics(link: &Link, metrics: &PeerReports, report: &v2::MetricsReport) {
    let known = link.told(|told| told.instance);
    if known.is_none_or(|known| known != report.instance.as_slice()) {
        if let Some(before) = known {
            metrics.left(&before);
        }
        let instance = metrics.joined(&report.instance);
        link.told(|told| told.instance = instance);
    }
    metrics.take(link.peer().role.name(), report);
}

/// The peer's spans, each with who reported it.
fn spans_of(link: &Link, spans: v2::TraceSpans) -> Vec<Span> {
    let peer = link.peer();
    let named = |mut span: Span| {
        let role = Value::from(peer.role.name());
        span.attributes.push(("valkyrie.peer.role".into(), role));
        let node = Value::from(peer.node.as_str());
        span.attributes.push(("valkyrie.peer.node".into(), node));
        span
    };
    let spans = spans.spans.into_iter();
    spans.filter_map(Span::of_peer).map(named).collect()
}

fn answer_health(link: &Link, health: &Health, check: v2::HealthCheck) {
    let status = health.status(&check.service);
    answer(link, check.id, &check.service, status);
    let is_first = link.told(|told| {
        told.watches.remove(&check.id);
        if !check.watch || told.watches.len() >= WATCHES_MAX {
            return false;
        }
        told.watches.insert(check.id, (check.service, status));
        told.watches.len() == 1
    });
    if is_first {
        spawn_local(watch(link.clone(), health.clone()));
    }
}

/// Tells a peer about changes of what it watches, until it watches nothing any more.
async fn watch(link: Link, health: Health) {
    let mut changes = health.changes();
    loop {
        let changed = link.told(|told| {
            let mut changed = Vec::new();
            for (id, (service, last)) in &mut told.watches {
                let status = health.status(service);
                if status != *last {
                    *last = status;
                    changed.push((*id, service.clone(), status));
                }
            }
            (!told.watches.is_empty()).then_some(changed)
        });
        let Some(changed) = changed else { return };
        for (id, service, status) in changed {
            answer(&link, id, &service, status);
        }
        tokio::select! {
            more = changes.changed() => {
                if more.is_err() {
                    return;
                }
            }
            _ = link.closed() => return,
        }
    }
}

fn answer(link: &Link, id: u32, service: &str, status: HealthStatus) {
    let answer = v2::HealthCheck {
        id,
        service: service.to_owned(),
        status: status.to_wire(),
        watch: false,
    };
    if let Err(error) = link.session().health_check(&answer) {
        tracing::debug!(conn = link.id(), %error, "health check not answered");
    }
}

/// Writes an alert where people look; returns its severity as a word.
fn log_alert(link: &Link, alert: &v2::AlertNotification) -> &'static str {
    let (conn, peer) = (link.id(), link.peer().node);
    let (name, text, labels) = (&alert.name, &alert.text, &alert.labels);
    match alert.severity {
        1 => {
            tracing::info!(conn, peer, name, ?labels, "alert of a peer: {text}");
            "info"
        }
        2 => {
            tracing::warn!(conn, peer, name, ?labels, "alert of a peer: {text}");
            "warning"
        }
        3 => {
            tracing::error!(conn, peer, name, ?labels, "alert of a peer: {text}");
            "error"
        }
        _ => {
            tracing::error!(
                conn,
                peer,
                name,
                ?labels,
                "critical alert of a peer: {text}"
            );
            "critical"
        }
    }
}
