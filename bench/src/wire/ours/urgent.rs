//! Calls that cannot wait, beside bulk on the same connection.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::spawn_local;
use valkyrie::{Idle, Link, LinkConfig};

use super::bulk::{Buffers, Receiver, finish, send};
use super::node::{CLASS, ECHO, Waker, client, open, run, start};
use crate::wire::measure::{Figures, Hist, ensure_echo, message};
use crate::wire::place::Place;

const CHUNK_BYTES: usize = 64 * 1024;
/// 1 GiB.
const CHUNKS: u64 = 16 * 1024;
const EVERY: Duration = Duration::from_micros(200);

pub(super) fn measure() -> Result<Figures> {
    let at = start(
        "valkyrie+tcp://127.0.0.1:0",
        Place::TwoCores,
        Idle::Park,
        LinkConfig::default,
        || Receiver::new(CHUNK_BYTES),
    )?;
    run(Place::TwoCores, Idle::Park, async {
        let (link, waker) = client(&at, LinkConfig::default()).await?;
        let alone = bulk(&link, &waker).await?;
        let (link, waker) = client(&at, LinkConfig::default()).await?;
        let over = Rc::new(Cell::new(false));
        let urgent = spawn_local(urgent(link.clone(), Rc::clone(&over)));
        let beside = bulk(&link, &waker).await?;
        over.set(true);
        let mut hist = urgent.await??;
        Ok(vec![
            ("urgent_p99_us", hist.us(0.99)),
            (
                "bulk_kept_ratio",
                alone.as_secs_f64() / beside.as_secs_f64(),
            ),
        ])
    })
}

async fn bulk(link: &Link, waker: &Waker) -> Result<Duration> {
    let stream = open(link, waker).await?;
    let mut buffers = Buffers::new(CHUNK_BYTES);
    let start = Instant::now();
    for index in 0..CHUNKS {
        send(link, waker, stream, buffers.chunk(index)).await?;
    }
    finish(link, stream, CHUNKS, CHUNK_BYTES).await?;
    Ok(start.elapsed())
}

async fn urgent(link: Link, over: Rc<Cell<bool>>) -> Result<Hist> {
    let mut hist = Hist::new(100_000);
    let mut index = 0;
    while !over.get() {
        let start = Instant::now();
        let wait = Duration::from_secs(10);
        let answer = link.call(CLASS, ECHO, &message(index), wait).await?;
        hist.since(start);
        ensure_echo(&answer, index)?;
        index += 1;
        tokio::time::sleep(EVERY).await;
    }
    Ok(hist)
}
