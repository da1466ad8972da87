//! Small messages one way.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use valkyrie::{End, Idle, Link, StreamId};

use super::node::{TCP, Waker, client, ensure_all, open, run, shm, sink, sink_at, window};
use crate::processes;
use crate::wire::measure::{Figures, MESSAGE_BYTES, message, per_second, stamp};
use crate::wire::place::{Place, raise_descriptors};
use crate::wire::{CONNECTIONS, MESSAGES_A_FLUSH};

/// Wide enough that the sender never waits for credit of a reader that keeps up.
const WINDOW: u32 = 4 * 1024 * 1024;
const MESSAGES: u64 = 30_000_000;
/// Messages of one call of the batch path.
const BATCH: usize = 512;
/// What may wait to be written before the sender lets the shard write.
const QUEUED: usize = 64 * 1024;

/// Many messages with one call, taken many at a time.
pub(super) fn batch() -> Result<Figures> {
    Ok(vec![("tcp_batch_msgs_per_s", batch_at(TCP)?)])
}

/// Allocations of a message and of a call, counted by a program whose allocator does that.
pub(super) fn allocations() -> Result<Figures> {
    let output = Command::new(processes::allocations()?).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", errors.trim());
    let figures = String::from_utf8(output.stdout)?;
    let value = |metric: &str| {
        let lines = figures.lines();
        let value = lines
            .filter_map(|line| line.split_once(' '))
            .find(|(name, _)| *name == metric);
        let (_, value) = value.with_context(|| format!("{metric} was not counted"))?;
        anyhow::Ok(value.parse()?)
    };
    [
        "steady_allocations_per_message",
        "steady_allocations_per_call",
    ]
    .into_iter()
    .map(|metric| Ok((metric, value(metric)?)))
    .collect()
}

/// The same in shared memory.
pub(super) fn shared() -> Result<Figures> {
    Ok(vec![("shm_msgs_per_s", batch_at(&shm())?)])
}

fn batch_at(endpoint: &str) -> Result<f64> {
    let at = sink_at(endpoint, Place::TwoCores, Idle::Park, || window(WINDOW))?;
    run(Place::TwoCores, Idle::Park, async {
        let (link, waker) = client(&at, window(WINDOW)).await?;
        let stream = open(&link, &waker).await?;
        let mut batch = vec![message(0); BATCH];
        let start = Instant::now();
        let mut sent = 0;
        while sent < MESSAGES {
            let count = BATCH.min((MESSAGES - sent) as usize);
            for (index, message) in (sent..).zip(&mut batch) {
                stamp(message, index);
            }
            sent += send(
                &link,
                &waker,
                stream,
                batch.get(..count).unwrap_or_default(),
            )
            .await?;
        }
        ensure_all(&link, MESSAGES, MESSAGE_BYTES).await?;
        Ok(per_second(MESSAGES, start))
    })
}

/// Sends a batch as far as credit goes; waits where it ends, and lets the shard write.
async fn send(
    link: &Link,
    waker: &Waker,
    stream: StreamId,
    batch: &[[u8; MESSAGE_BYTES]],
) -> Result<u64> {
    let mut session = link.session();
    let sent = session.send_batch(stream, batch.iter().map(|message| &message[..]))?;
    let queued = session.queued_bytes();
    drop(session);
    if sent < batch.len() {
        waker.notify.notified().await;
    } else if queued >= QUEUED {
        tokio::task::yield_now().await;
    }
    Ok(sent as u64)
}

/// One call a message.
pub(super) fn stream() -> Result<Figures> {
    let at = sink(Place::TwoCores, Idle::Park, || window(WINDOW))?;
    run(Place::TwoCores, Idle::Park, async {
        let (link, waker) = client(&at, window(WINDOW)).await?;
        let stream = open(&link, &waker).await?;
        let start = Instant::now();
        let mut index = 0;
        while index < MESSAGES {
            let bytes = message(index);
            // Windows are a multiple of the message, so credit ends between two of them.
            if link.session().data(stream, &bytes, End::No)? == MESSAGE_BYTES {
                index += 1;
                if index % 512 == 0 && link.session().queued_bytes() >= QUEUED {
                    tokio::task::yield_now().await;
                }
            } else {
                waker.notify.notified().await;
            }
        }
        ensure_all(&link, MESSAGES, MESSAGE_BYTES).await?;
        Ok(vec![("tcp_stream_msgs_per_s", per_second(MESSAGES, start))])
    })
}

const ROUNDS: u64 = 60;

/// Over many connections, a flush of a batch on each in turn.
pub(super) fn spread() -> Result<Figures> {
    raise_descriptors()?;
    let at = sink(Place::TwoCores, Idle::Park, || window(WINDOW))?;
    run(Place::TwoCores, Idle::Park, async {
        let mut ends = Vec::new();
        for _ in 0..CONNECTIONS {
            let (link, waker) = client(&at, window(WINDOW)).await?;
            let stream = open(&link, &waker).await?;
            ends.push((link, waker, stream));
        }
        let mut batch = vec![message(0); MESSAGES_A_FLUSH as usize];
        let (start, mut index) = (Instant::now(), 0);
        for _ in 0..ROUNDS {
            for (number, (link, waker, stream)) in ends.iter().enumerate() {
                for message in &mut batch {
                    stamp(message, index);
                    index += 1;
                }
                let mut left = batch.as_slice();
                while !left.is_empty() {
                    let sent = send(link, waker, *stream, left).await?;
                    left = left.get(sent as usize..).unwrap_or_default();
                }
                if number % 16 == 15 {
                    tokio::task::yield_now().await;
                }
            }
        }
        let (link, ..) = ends.first().expect("there are connections");
        ensure_all(link, index, MESSAGE_BYTES).await?;
        Ok(vec![("tcp_1024_msgs_per_s", per_second(index, start))])
    })
}
