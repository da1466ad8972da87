//! One message there and back, one at a time.

use std::time::{Duration, Instant};

use anyhow::Result;
use valkyrie::{End, Idle, LinkConfig, MessageType, v2};

use super::node::{CLASS, ECHO, TCP, client, run, shm, sink, sink_at};
use crate::wire::measure::{Figures, Hist, WARM_UP, ensure_echo, message};
use crate::wire::place::Place;

const WAIT: Duration = Duration::from_secs(10);
const ROUNDS: usize = 20_000;

/// A call at a time, in the default profile.
pub(super) fn echo(rounds: usize, place: Place) -> Result<Hist> {
    exchange(TCP, rounds, place, Idle::Park)
}

fn exchange(endpoint: &str, rounds: usize, place: Place, idle: Idle) -> Result<Hist> {
    let at = sink_at(endpoint, place, idle, LinkConfig::default)?;
    run(place, idle, async {
        let (link, _waker) = client(&at, LinkConfig::default()).await?;
        let mut hist = Hist::new(rounds);
        for round in 0..rounds + WARM_UP {
            let sent = message(round as u64);
            let start = Instant::now();
            let answer = link.call(CLASS, ECHO, &sent, WAIT).await?;
            if round >= WARM_UP {
                hist.since(start);
            }
            ensure_echo(&answer, round as u64)?;
        }
        Ok(hist)
    })
}

/// The profile that looks again instead of parking: with a core for each end, and with one for
/// both, where it has to notice that looking does not pay.
pub(super) fn spin() -> Result<Figures> {
    let mut two = exchange(TCP, ROUNDS, Place::TwoCores, Idle::LowLatency)?;
    let mut one = exchange(TCP, ROUNDS, Place::OneCore, Idle::LowLatency)?;
    let mut shared = exchange(&shm(), ROUNDS, Place::TwoCores, Idle::LowLatency)?;
    Ok(vec![
        ("shm_spin_p50_us", shared.us(0.5)),
        ("tcp_spin_p50_us", two.us(0.5)),
        ("tcp_spin_p99_us", two.us(0.99)),
        ("tcp_spin_shared_p50_us", one.us(0.5)),
    ])
}

/// From sending a message that asks for it to its acknowledgement.
pub(super) fn ack() -> Result<Figures> {
    let mut pinned = acked(Place::OneCore, Idle::Park)?;
    let mut spin = acked(Place::TwoCores, Idle::LowLatency)?;
    Ok(vec![
        ("ack_pinned_p99_us", pinned.us(0.99)),
        ("ack_spin_p99_us", spin.us(0.99)),
    ])
}

fn acked(place: Place, idle: Idle) -> Result<Hist> {
    let at = sink(place, idle, LinkConfig::default)?;
    run(place, idle, async {
        let (link, waker) = client(&at, LinkConfig::default()).await?;
        let stream = link.session().job_request(&v2::JobRequest::default())?;
        let body = v2::JobComplete::default();
        let mut hist = Hist::new(ROUNDS);
        for round in 0..ROUNDS + WARM_UP {
            let start = Instant::now();
            link.session()
                .job(stream, MessageType::JOB_COMPLETE, &body, End::No)?;
            waker.notify.notified().await;
            if round >= WARM_UP {
                hist.since(start);
            }
        }
        Ok(hist)
    })
}
