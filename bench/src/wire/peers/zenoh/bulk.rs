//! Large publications, alone and with urgent ones beside them in the same session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;

use super::latency::exchange;
use super::messages::send;
use super::pair;
use crate::wire::measure::{Figures, Hist, gb_per_second};
use crate::wire::peers::{BESIDE, BESIDE_BYTES, CHUNK_BYTES, CHUNKS, URGENT_EVERY};

pub(super) fn chunks() -> Result<Figures> {
    let (server, client) = pair()?;
    let start = send(&server, &client, "chunks", CHUNKS, CHUNK_BYTES, || {})?;
    let rate = gb_per_second(CHUNKS * CHUNK_BYTES as u64, start);
    Ok(vec![("tcp_256k_gb_per_s", rate)])
}

pub(super) fn urgent() -> Result<Figures> {
    let (server, client) = pair()?;
    let start = send(&server, &client, "alone", BESIDE, BESIDE_BYTES, || {})?;
    let alone = start.elapsed();
    let sending = AtomicBool::new(true);
    let mut hist = Hist::new(100_000);
    let beside = std::thread::scope(|scope| {
        let bulk = scope.spawn(|| {
            let start = send(&server, &client, "beside", BESIDE, BESIDE_BYTES, || {});
            let taken = start.map(|start| start.elapsed());
            sending.store(false, Ordering::Relaxed);
            taken
        });
        exchange(&server, &client, |_, start: Instant| {
            hist.since(start);
            std::thread::sleep(URGENT_EVERY);
            sending.load(Ordering::Relaxed)
        })?;
        bulk.join()
            .map_err(|_| anyhow::anyhow!("the bulk sender panicked"))?
    })?;
    Ok(vec![
        ("urgent_p99_us", hist.us(0.99)),
        (
            "bulk_kept_ratio",
            alone.as_secs_f64() / beside.as_secs_f64(),
        ),
    ])
}
