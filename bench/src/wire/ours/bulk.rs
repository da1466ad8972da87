//! Many bytes one way.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use valkyrie::{End, Event, Handler, Idle, Link, LinkConfig, StreamId};

use super::node::{Waker, client, open, run, start};
use crate::wire::measure::{Figures, Tally, gb_per_second, stamp};
use crate::wire::place::Place;

pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// 2 GiB.
const CHUNKS: u64 = 8 * 1024;

/// Chunks of 256 KiB in the default profile.
pub(super) fn plain() -> Result<Figures> {
    Ok(vec![("tcp_256k_gb_per_s", chunks(LinkConfig::default)?)])
}

/// The same in the profile for bulk.
pub(super) fn profile() -> Result<Figures> {
    Ok(vec![("tcp_bulk_gb_per_s", chunks(LinkConfig::bulk)?)])
}

fn chunks(config: fn() -> LinkConfig) -> Result<f64> {
    let at = start(
        "valkyrie+tcp://127.0.0.1:0",
        Place::TwoCores,
        Idle::Park,
        config,
        || Receiver::new(CHUNK_BYTES),
    )?;
    run(Place::TwoCores, Idle::Park, async {
        let (link, waker) = client(&at, config()).await?;
        let stream = open(&link, &waker).await?;
        let mut buffers = Buffers::new(CHUNK_BYTES);
        let start = Instant::now();
        for index in 0..CHUNKS {
            send(&link, &waker, stream, buffers.chunk(index)).await?;
        }
        finish(&link, stream, CHUNKS, CHUNK_BYTES).await?;
        Ok(gb_per_second(CHUNKS * CHUNK_BYTES as u64, start))
    })
}

/// Sends a chunk as credit allows.
pub(super) async fn send(
    link: &Link,
    waker: &Waker,
    stream: StreamId,
    mut chunk: Bytes,
) -> Result<()> {
    while !chunk.is_empty() {
        link.session().data_shared(stream, &mut chunk, End::No)?;
        if !chunk.is_empty() {
            waker.notify.notified().await;
        }
    }
    Ok(())
}

/// Asks what came, which has to be all of it.
pub(super) async fn finish(link: &Link, stream: StreamId, count: u64, each: usize) -> Result<()> {
    link.session().finish(stream);
    super::node::ensure_all(link, count, each).await
}

/// Chunks whose memory is used again once it is sent.
pub(super) struct Buffers {
    bytes: usize,
    lent: VecDeque<Bytes>,
}

/// Chunks that may be on their way before one is made anew.
const LENT_MAX: usize = 32;

impl Buffers {
    pub(super) const fn new(bytes: usize) -> Self {
        Self {
            bytes,
            lent: VecDeque::new(),
        }
    }

    /// A chunk that says which one it is.
    pub(super) fn chunk(&mut self, index: u64) -> Bytes {
        let oldest = self.lent.pop_front();
        let mut chunk = match oldest.map(Bytes::try_into_mut) {
            Some(Ok(free)) => free,
            Some(Err(in_use)) => {
                if self.lent.len() < LENT_MAX {
                    self.lent.push_front(in_use);
                }
                BytesMut::from_iter(std::iter::repeat_n(0x5a, self.bytes))
            }
            None => BytesMut::from_iter(std::iter::repeat_n(0x5a, self.bytes)),
        };
        stamp(&mut chunk, index);
        let chunk = chunk.freeze();
        self.lent.push_back(chunk.clone());
        chunk
    }
}

/// Counts chunks, whose pieces come as they please, by the number each begins with.
pub(super) struct Receiver {
    each: usize,
    at: usize,
    number: [u8; 8],
    tally: Tally,
    sink: super::node::Sink,
}

impl Receiver {
    pub(super) fn new(each: usize) -> Self {
        Self {
            each,
            at: 0,
            number: [0; 8],
            tally: Tally::default(),
            sink: super::node::Sink::default(),
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let number = self.number.get_mut(self.at.min(8)..).unwrap_or_default();
            for (to, from) in number.iter_mut().zip(bytes) {
                *to = *from;
            }
            let count = bytes.len().min(self.each - self.at);
            bytes = bytes.get(count..).unwrap_or_default();
            self.at += count;
            if self.at == self.each {
                self.at = 0;
                self.tally
                    .add_as(u64::from_le_bytes(self.number), self.each);
            }
        }
    }
}

impl Handler for Receiver {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Data { stream, bytes, .. } => {
                self.take(&bytes);
                link.session().consume(stream, bytes.len());
                self.sink.set(&self.tally);
            }
            other => self.sink.event(link, other),
        }
    }
}
