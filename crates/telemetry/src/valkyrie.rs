//! The protocol's families.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use valkyrie_frame::{ErrorCode, MessageType, SecurityMode, StreamClass};

use crate::{
    metrics::{Label, Labels, Timings, long_times, short_times},
    size::SizeHistogram,
    tally::{BANDS, Row, STATUS},
};

/// Which way bytes of a stream went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From this side.
    Sent,
    /// To this side.
    Received,
}

/// Families `valkyrie_*`. Clones share them.
#[derive(Clone, Debug)]
pub struct ValkyrieMetrics {
    connections_active: Family<Labels, Gauge>,
    insecure_connections_active: Gauge,
    connection_duration: Timings,
    handshake_duration: Timings,
    messages_sent: Family<Labels, Counter>,
    messages_received: Family<Labels, Counter>,
    message_size: Family<Label, SizeHistogram>,
    message_latency: Timings,
    streams_active: Family<Label, Gauge>,
    stream_throughput: Family<Label, Gauge>,
    stream_bytes: Family<Labels, Counter>,
    window_size: Family<Label, Gauge>,
    window_bytes: Family<Label, Gauge>,
    errors: Family<Labels, Counter>,
    disconnections: Family<Label, Counter>,
    retries: Family<Label, Counter>,
    alerts: Family<Label, Counter>,
    throughput: Arc<Mutex<Throughput>>,
}

/// What the throughput gauges were last computed from.
#[derive(Debug)]
struct Throughput {
    at: Instant,
    bytes: [u64; StreamClass::WITH_STREAMS.len()],
}

impl ValkyrieMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections_active: Family::default(),
            insecure_connections_active: Gauge::default(),
            connection_duration: Family::new_with_constructor(long_times),
            handshake_duration: Family::new_with_constructor(short_times),
            messages_sent: Family::default(),
            messages_received: Family::default(),
            message_size: Family::default(),
            message_latency: Family::new_with_constructor(short_times),
            streams_active: Family::default(),
            stream_throughput: Family::default(),
            stream_bytes: Family::default(),
            window_size: Family::default(),
            window_bytes: Family::default(),
            errors: Family::default(),
            disconnections: Family::default(),
            retries: Family::default(),
            alerts: Family::default(),
            throughput: Arc::new(Mutex::new(Throughput {
                at: Instant::now(),
                bytes: [0; 4],
            })),
        };
        metrics.register_connections(registry);
        metrics.register_alerts(registry);
        metrics.register_messages(registry);
        metrics.register_streams(registry);
        metrics
    }

    fn register_connections(&self, registry: &mut Registry) {
        registry.register(
            "valkyrie_connections_active",
            "Connections that are ready",
            self.connections_active.clone(),
        );
        registry.register(
            "valkyrie_insecure_connections_active",
            "Connections in plaintext mode",
            self.insecure_connections_active.clone(),
        );
        registry.register_with_unit(
            "valkyrie_connection_duration",
            "Time from ready to closed",
            Unit::Seconds,
            self.connection_duration.clone(),
        );
        registry.register_with_unit(
            "valkyrie_handshake_duration",
            "Time from the first byte to ready",
            Unit::Seconds,
            self.handshake_duration.clone(),
        );
        registry.register(
            "valkyrie_errors",
            "Errors sent or found",
            self.errors.clone(),
        );
        registry.register(
            "valkyrie_disconnections",
            "Connections that ended",
            self.disconnections.clone(),
        );
        registry.register(
            "valkyrie_retries",
            "Operations tried again",
            self.retries.clone(),
        );
    }

    fn register_alerts(&self, registry: &mut Registry) {
        registry.register(
            "valkyrie_alerts",
            "Alerts of peers, by severity",
            self.alerts.clone(),
        );
    }

    fn register_messages(&self, registry: &mut Registry) {
        registry.register(
            "valkyrie_messages_sent",
            "Frames queued for sending",
            self.messages_sent.clone(),
        );
        registry.register(
            "valkyrie_messages_received",
            "Frames received",
            self.messages_received.clone(),
        );
        registry.register_with_unit(
            "valkyrie_message_size",
            "Payload of frames in both directions",
            Unit::Bytes,
            self.message_size.clone(),
        );
        registry.register_with_unit(
            "valkyrie_message_latency",
            "Time from sending to the answer",
            Unit::Seconds,
            self.message_latency.clone(),
        );
    }

    fn register_streams(&self, registry: &mut Registry) {
        registry.register(
            "valkyrie_streams_active",
            "Streams that are open",
            self.streams_active.clone(),
        );
        registry.register(
            "valkyrie_stream_throughput_bytes_per_second",
            "Stream bytes in both directions between the last two scrapes",
            self.stream_throughput.clone(),
        );
        registry.register_with_unit(
            "valkyrie_stream",
            "Stream bytes",
            Unit::Bytes,
            self.stream_bytes.clone(),
        );
        registry.register(
            "valkyrie_flow_control_window_size",
            "Receive window last granted, in bytes",
            self.window_size.clone(),
        );
        registry.register_with_unit(
            "valkyrie_flow_control_window",
            "Receive window last granted",
            Unit::Bytes,
            self.window_bytes.clone(),
        );
    }

    /// Counts a connection that became ready `handshake` after its first byte.
    ///
    /// `transport` is the scheme's word: `tcp`, `unix`, `mem`.
    #[must_use]
    pub fn connection(
        &self,
        transport: &'static str,
        security: SecurityMode,
        handshake: Duration,
    ) -> OpenConnection {
        let handshakes = self
            .handshake_duration
            .get_or_create_owned(&[("security", security.name())]);
        handshakes.observe(handshake.as_secs_f64());
        let connection = OpenConnection {
            metrics: self.clone(),
            transport,
            security,
            since: Instant::now(),
        };
        connection.active().inc();
        if security == SecurityMode::PLAINTEXT {
            self.insecure_connections_active.inc();
        }
        connection
    }

    /// Counts the end of a connection, ready or not, under a fixed word such as `timeout`.
    pub fn disconnected(&self, reason: &'static str) {
        self.disconnections
            .get_or_create(&[("reason", reason)])
            .inc();
    }

    /// Counts an error that this side sent or found.
    pub fn error(&self, code: ErrorCode) {
        let class = code
            .class()
            .map_or("none", valkyrie_frame::ErrorClass::name);
        self.errors
            .get_or_create(&[("type", class), ("code", code.name())])
            .inc();
    }

    /// Counts an operation that is tried again, under a fixed word such as `job_dispatch`.
    pub fn retry(&self, operation: &'static str) {
        self.retries
            .get_or_create(&[("operation", operation)])
            .inc();
    }

    /// Counts an alert of a peer under a fixed word such as `warning`.
    pub fn alert(&self, severity: &'static str) {
        self.alerts.get_or_create(&[("severity", severity)]).inc();
    }

    /// Counts the time from a message to its answer.
    pub fn answered(&self, kind: MessageType, elapsed: Duration) {
        let latency = self
            .message_latency
            .get_or_create_owned(&[("type", kind.name())]);
        latency.observe(elapsed.as_secs_f64());
    }

    /// Counts a stream that was opened.
    pub fn stream_opened(&self, class: StreamClass) {
        self.streams_active
            .get_or_create(&[("type", class.name())])
            .inc();
    }

    /// Counts a stream that both sides have ended.
    pub fn stream_closed(&self, class: StreamClass) {
        self.streams_active
            .get_or_create(&[("type", class.name())])
            .dec();
    }

    /// Counts payload bytes of streams; meant for whole batches.
    pub fn stream_bytes(&self, class: StreamClass, direction: Direction, bytes: u64) {
        let direction = match direction {
            Direction::Sent => "sent",
            Direction::Received => "received",
        };
        let labels = [("type", class.name()), ("direction", direction)];
        self.stream_bytes.get_or_create(&labels).inc_by(bytes);
    }

    /// Notes the window that streams of a class are granted.
    pub fn window(&self, class: StreamClass, bytes: u32) {
        let label = [("stream_type", class.name())];
        self.window_size.get_or_create(&label).set(i64::from(bytes));
        self.window_bytes
            .get_or_create(&label)
            .set(i64::from(bytes));
    }

    pub(crate) fn add_frames(&self, kind: &'static str, row: &Row) {
        for (priority, &count) in BANDS.into_iter().zip(&row.sent) {
            if count > 0 {
                let labels = [("type", kind), ("priority", priority)];
                self.messages_sent.get_or_create(&labels).inc_by(count);
            }
        }
        for (status, &count) in STATUS.into_iter().zip(&row.received) {
            if count > 0 {
                let labels = [("type", kind), ("status", status)];
                self.messages_received.get_or_create(&labels).inc_by(count);
            }
        }
        self.message_size
            .get_or_create(&[("type", kind)])
            .add(&row.sizes);
    }

    /// Sets the throughput gauges from the byte counters.
    pub(crate) fn update_throughput(&self, now: Instant) {
        let mut last = self
            .throughput
            .lock()
            .expect("no holder of this lock can panic");
        let elapsed_ms = now.saturating_duration_since(last.at).as_millis();
        // Two scrapers may come right after each other; a shorter span would show noise.
        if elapsed_ms < 1_000 {
            return;
        }
        last.at = now;
        for (class, before) in StreamClass::WITH_STREAMS.iter().zip(&mut last.bytes) {
            let bytes = self.class_bytes(*class);
            let rate = u128::from(bytes - *before) * 1_000 / elapsed_ms;
            *before = bytes;
            let gauge = self
                .stream_throughput
                .get_or_create_owned(&[("type", class.name())]);
            gauge.set(i64::try_from(rate).unwrap_or(i64::MAX));
        }
    }

    /// Bytes of a class in both directions so far.
    fn class_bytes(&self, class: StreamClass) -> u64 {
        let count = |direction| {
            let labels = [("type", class.name()), ("direction", direction)];
            self.stream_bytes
                .get(&labels)
                .map_or(0, |counter| counter.get())
        };
        count("sent") + count("received")
    }
}

/// A connection that is ready; counted as active until it is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    metrics: ValkyrieMetrics,
    transport: &'static str,
    security: SecurityMode,
    since: Instant,
}

impl OpenConnection {
    /// The connection goes on over another transport; its time on this one is over.
    pub fn moved(&mut self, transport: &'static str) {
        self.active().dec();
        self.observe();
        self.transport = transport;
        self.since = Instant::now();
        self.active().inc();
    }

    fn observe(&self) {
        let durations = &self.metrics.connection_duration;
        let duration = durations.get_or_create_owned(&[("transport", self.transport)]);
        duration.observe(self.since.elapsed().as_secs_f64());
    }

    fn active(&self) -> Gauge {
        let labels = [
            ("transport", self.transport),
            ("security", self.security.name()),
        ];
        self.metrics.connections_active.get_or_create_owned(&labels)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.active().dec();
        if self.security == SecurityMode::PLAINTEXT {
            self.metrics.insecure_connections_active.dec();
        }
        self.observe();
    }
}
