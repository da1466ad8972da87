//! What the system says of this process, read when somebody asks.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Families `process_*`, under the names that every Prometheus client uses.
#[derive(Debug)]
pub(crate) struct Process {
    started: f64,
}

impl Process {
    /// Takes the present time for that of the start.
    pub(crate) fn new() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started: started.map_or(0.0, |since| since.as_secs_f64()),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), fmt::Error> {
        let stat = Stat::read().unwrap_or_default();
        counter(&mut to, "process_cpu", "Processor time used", stat.cpu)?;
        let memory = "Memory in use that is not swapped out";
        gauge(
            &mut to,
            "process_resident_memory",
            memory,
            Some(Unit::Bytes),
            stat.resident,
        )?;
        let virtual_memory = "Address space in use";
        gauge(
            &mut to,
            "process_virtual_memory",
            virtual_memory,
            Some(Unit::Bytes),
            stat.virtual_,
        )?;
        gauge(&mut to, "process_threads", "Threads", None, stat.threads)?;
        gauge(
            &mut to,
            "process_open_fds",
            "Open file descriptors",
            None,
            open_files(),
        )?;
        let start = "When the process started, since the Unix epoch";
        let started = ConstGauge::new(self.started);
        let encoder = to.encode_descriptor(
            "process_start_time",
            start,
            Some(&Unit::Seconds),
            started.metric_type(),
        )?;
        started.encode(encoder)
    }
}

fn counter(to: &mut DescriptorEncoder, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    let encoder = to.encode_descriptor(name, help, Some(&Unit::Seconds), metric.metric_type())?;
    metric.encode(encoder)
}

fn gauge(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    value: i64,
) -> fmt::Result {
    let metric = ConstGauge::new(value);
    let encoder = to.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?;
    metric.encode(encoder)
}

#[derive(Debug, Default, PartialEq)]
struct Stat {
    /// Seconds.
    cpu: f64,
    threads: i64,
    /// Bytes.
    virtual_: i64,
    /// Bytes.
    resident: i64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// Fields by their number in proc(5); they follow the name, which may hold spaces.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field.checked_sub(3)?)?.parse::<i64>().ok();
        let ticks = u32::try_from(number(14)?.checked_add(number(15)?)?).ok()?;
        let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
        let page = i64::try_from(rustix::param::page_size()).ok()?;
        Some(Self {
            cpu: f64::from(ticks) / f64::from(per_second),
            threads: number(20)?,
            virtual_: number(23)?,
            resident: number(24)?.checked_mul(page)?,
        })
    }
}

fn open_files() -> i64 {
    // The directory being read is one of them for a moment, and not counted.
    let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
    i64::try_from(open).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_no_field() {
        let text = "7 (a) (b c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 5 4096 3 18446744073709551615";
        let stat = Stat::parse(text).unwrap();
        let page = i64::try_from(rustix::param::page_size()).unwrap();
        assert_eq!(
            (stat.threads, stat.virtual_, stat.resident),
            (9, 4096, 3 * page)
        );
        assert!(stat.cpu > 0.0);
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_memory_and_files() {
        assert!(Stat::read().unwrap().resident > 0);
        assert!(open_files() > 0);
    }
}
