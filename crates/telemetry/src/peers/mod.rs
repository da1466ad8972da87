//! Metrics that peers report, summed up by role.
//!
//! A peer is known by its instance, so that totals go on over a reconnect; nothing of it becomes a
//! label. Everything is bounded: what is over a bound is counted and not taken.

mod encode;
mod series;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::{
    metrics::{counter::Counter, family::Family as Metric},
    registry::Registry,
};
use valkyrie_frame::limits::INSTANCE_BYTES;
use valkyrie_frame::v2;

use crate::metrics::Labels;
use encode::Collected;
use series::{Families, Told};

/// Instances that are remembered; the one that was silent longest is forgotten first. What it
/// has told stays in the totals.
const INSTANCES_MAX: usize = 1024;
/// Series of one instance, over all its reports.
const INSTANCE_SERIES_MAX: usize = 2048;

/// Names a program that reports: the same over all its connections.
pub type Instance = [u8; INSTANCE_BYTES];

/// What peers report about themselves. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct PeerReports {
    state: Arc<Mutex<State>>,
    reports: Metric<Labels, Counter>,
}

#[derive(Debug, Default)]
struct State {
    families: Families,
    instances: HashMap<Instance, Known>,
    /// Counts reports, as the clock of who was silent longest.
    reports: u64,
}

/// One instance.
#[derive(Debug, Default)]
struct Known {
    told: BTreeMap<usize, Told>,
    connections: u32,
    seen: u64,
}

/// Whether a report was taken as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All of it.
    Whole,
    /// Some series are over a bound, or known under another kind.
    Partly,
}

impl PeerReports {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let peers = Self::default();
        registry.register(
            "valkyrie_metrics_reports",
            "Metrics reports of peers, by their role",
            peers.reports.clone(),
        );
        registry.register_collector(Box::new(Collected(peers.clone())));
        peers
    }

    /// A connection of a peer begins to report as `instance`; call [`left`](Self::left) when it
    /// ends. `None` when the bytes are not those of an instance.
    #[must_use]
    pub fn joined(&self, instance: &[u8]) -> Option<Instance> {
        let instance = Instance::try_from(instance).ok()?;
        let mut state = self.state();
        state.make_room(&instance);
        let known = state.instances.entry(instance).or_default();
        known.connections += 1;
        Some(instance)
    }

    /// A connection that reported as `instance` has ended; its gauges end with its last one.
    pub fn left(&self, instance: &Instance) {
        let mut state = self.state();
        let State {
            families,
            instances,
            ..
        } = &mut *state;
        let Some(known) = instances.get_mut(instance) else {
            return;
        };
        known.connections = known.connections.saturating_sub(1);
        if known.connections == 0 {
            known.told.retain(|id, told| families.keeps(*id, told));
        }
    }

    /// Adds what a peer of `role` reports. The report keeps the rules of the specification.
    pub fn take(&self, role: &'static str, report: &v2::MetricsReport) -> Taken {
        let taken = self.state().take(role, report);
        let result = match taken {
            Taken::Whole => "taken",
            Taken::Partly => "partly",
        };
        let labels = [("role", role), ("result", result)];
        self.reports.get_or_create(&labels).inc();
        taken
    }

    // A panic while the lock is held leaves numbers that are each whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets the instance that was silent longest when there is no room for another.
    fn make_room(&mut self, instance: &Instance) {
        if self.instances.len() < INSTANCES_MAX || self.instances.contains_key(instance) {
            return;
        }
        let silent = self.instances.iter().min_by_key(|(_, known)| {
            let connected = known.connections > 0;
            (connected, known.seen)
        });
        let Some(oldest) = silent.map(|(oldest, _)| *oldest) else {
            return;
        };
        let known = self.instances.remove(&oldest).unwrap_or_default();
        for (id, told) in known.told {
            self.families.keeps(id, &told);
        }
    }

    fn take(&mut self, role: &'static str, report: &v2::MetricsReport) -> Taken {
        let Self {
            families,
            instances,
            reports,
        } = self;
        let instance = Instance::try_from(report.instance.as_slice()).ok();
        let Some(known) = instance.and_then(|instance| instances.get_mut(&instance)) else {
            return Taken::Partly;
        };
        *reports += 1;
        known.seen = *reports;
        let mut taken = Taken::Whole;
        for family in &report.families {
            for series in &family.series {
                let id = families.find(role, family, series);
                let room = |id: &usize| {
                    known.told.len() < INSTANCE_SERIES_MAX || known.told.contains_key(id)
                };
                match id.filter(room) {
                    Some(id) => families.add(id, known.told.entry(id).or_default(), series),
                    None => taken = Taken::Partly,
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(instance: u8, kind: u32, value: f64) -> v2::MetricsReport {
        let series = v2::MetricSeries {
            labels: [("code".to_owned(), "2\"0\n0".to_owned())].into(),
            value,
            counts: vec![],
        };
        v2::MetricsReport {
            instance: vec![instance; 16],
            families: vec![v2::MetricFamily {
                name: if kind == 1 {
                    "demo_requests"
                } else {
                    "demo_queue"
                }
                .to_owned(),
                help: "Some\nhelp".to_owned(),
                kind,
                series: vec![series],
                ..Default::default()
            }],
        }
    }

    fn text(peers: &PeerReports) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Collected(peers.clone())));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[track_caller]
    fn shows(peers: &PeerReports, line: &str) {
        let text = text(peers);
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }

    #[test]
    fn counters_add_up_by_role_and_go_on_over_a_reconnect() {
        let peers = PeerReports::default();
        let label = "code=\"2\\\"0\\n0\"";
        let one = peers.joined(&[1; 16]).unwrap();
        peers.joined(&[2; 16]).unwrap();
        peers.take("runner", &report(1, 1, 10.0));
        peers.take("runner", &report(2, 1, 5.0));
        shows(
            &peers,
            &format!("peer_demo_requests_total{{peer=\"runner\",{label}}} 15.0"),
        );
        peers.left(&one);
        peers.joined(&[1; 16]).unwrap();
        peers.take("runner", &report(1, 1, 12.0));
        shows(
            &peers,
            &format!("peer_demo_requests_total{{peer=\"runner\",{label}}} 17.0"),
        );
        // The counter began again.
        peers.take("runner", &report(1, 1, 3.0));
        shows(
            &peers,
            &format!("peer_demo_requests_total{{peer=\"runner\",{label}}} 20.0"),
        );
        peers.take("client", &report(1, 1, 3.0));
        shows(&peers, "# HELP peer_demo_requests Some help");
    }

    #[test]
    fn a_gauge_ends_with_its_last_connection() {
        let peers = PeerReports::default();
        let one = peers.joined(&[1; 16]).unwrap();
        peers.joined(&[1; 16]).unwrap();
        peers.joined(&[2; 16]).unwrap();
        peers.take("runner", &report(1, 2, 0.25));
        peers.take("runner", &report(2, 2, f64::NAN));
        peers.take("runner", &report(2, 2, 4.0));
        let line =
            |value: &str| format!("peer_demo_queue{{peer=\"runner\",code=\"2\\\"0\\n0\"}} {value}");
        shows(&peers, &line("4.25"));
        peers.left(&one);
        shows(&peers, &line("4.25"));
        peers.left(&one);
        shows(&peers, &line("4.0"));
    }

    #[test]
    fn histograms_add_up_bucket_by_bucket() {
        let peers = PeerReports::default();
        peers.joined(&[1; 16]).unwrap();
        let series = |counts| v2::MetricSeries {
            counts,
            value: 2.5,
            ..Default::default()
        };
        let report = |counts| v2::MetricsReport {
            instance: vec![1; 16],
            families: vec![v2::MetricFamily {
                name: "demo_latency_seconds".to_owned(),
                unit: "seconds".to_owned(),
                kind: 3,
                bounds: vec![0.5],
                series: vec![series(counts)],
                ..Default::default()
            }],
        };
        peers.take("relay", &report(vec![2, 1]));
        peers.take("relay", &report(vec![5, 1]));
        shows(
            &peers,
            "peer_demo_latency_seconds_bucket{le=\"0.5\",peer=\"relay\"} 5",
        );
        shows(
            &peers,
            "peer_demo_latency_seconds_bucket{le=\"+Inf\",peer=\"relay\"} 6",
        );
        shows(&peers, "peer_demo_latency_seconds_sum{peer=\"relay\"} 2.5");
        shows(&peers, "# UNIT peer_demo_latency_seconds seconds");
        let mut other = report(vec![1, 1]);
        other.families[0].bounds = vec![0.25];
        assert_eq!(peers.take("relay", &other), Taken::Partly);
    }

    #[test]
    fn floods_of_names_and_of_instances_are_bounded() {
        let peers = PeerReports::default();
        for id in 0..2_000_u16 {
            let mut report = report(1, 1, 1.0);
            report.instance[..2].copy_from_slice(&id.to_be_bytes());
            peers.joined(&report.instance).unwrap();
            report.families[0].name = format!("demo_{id}");
            peers.take("client", &report);
        }
        let state = peers.state();
        assert_eq!(state.instances.len(), INSTANCES_MAX);
        assert!(state.families.len() <= series::FAMILIES_MAX);
    }
}
