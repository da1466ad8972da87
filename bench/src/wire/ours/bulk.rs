//! Many bytes one way.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Context;
use std::time::Instant;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use valkyrie::{
    End, Event, Handler, Idle, Link, LinkConfig, StreamClass, StreamId, Time, connect, v2,
};

use super::node::{Waker, run, start};
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
        let source = Source::default();
        let link = connect(&at, config(), source.clone()).await?;
        let open = v2::StreamOpen::default();
        let stream = link.session().open(StreamClass::Data, &open)?;
        source.notify.notified().await;
        let start = Instant::now();
        *source.left.borrow_mut() = Some(Left::new(stream));
        // Its turn comes with the next tick.
        drop(link.session());
        source.notify.notified().await;
        finish(&link, stream, CHUNKS, CHUNK_BYTES).await?;
        Ok(gb_per_second(CHUNKS * CHUNK_BYTES as u64, start))
    })
}

/// What waits to be written before the next chunk is made: enough for one write while the next
/// chunk is still in the processor's cache.
const QUEUED: usize = 2 * CHUNK_BYTES;

/// Sends chunks on the connection's own turns, as the transport takes them.
#[derive(Clone, Default)]
struct Source {
    /// Accepted, and sent.
    notify: Rc<Notify>,
    left: Rc<RefCell<Option<Left>>>,
}

/// What is still to be sent.
struct Left {
    stream: StreamId,
    next: u64,
    chunk: Bytes,
    buffers: Buffers,
}

impl Left {
    const fn new(stream: StreamId) -> Self {
        Self {
            stream,
            next: 0,
            chunk: Bytes::new(),
            buffers: Buffers::new(CHUNK_BYTES),
        }
    }

    /// Whether all of it is sent.
    fn send(&mut self, link: &Link, cx: &Context<'_>) -> Result<bool> {
        let mut session = link.session();
        while session.queued_bytes() < QUEUED {
            if self.chunk.is_empty() {
                if self.next == CHUNKS {
                    return Ok(true);
                }
                self.chunk = self.buffers.chunk(self.next);
                self.next += 1;
            }
            session.data_shared(self.stream, &mut self.chunk, End::No)?;
            if !self.chunk.is_empty() {
                // Credit brings the next turn.
                return Ok(false);
            }
            // So does the transport where it was full; where it takes all of this, this does.
            cx.waker().wake_by_ref();
        }
        Ok(false)
    }
}

impl Handler for Source {
    fn event(&mut self, _link: &Link, event: Event<'_>) {
        if matches!(event, Event::Accepted { .. }) {
            self.notify.notify_one();
        }
    }

    fn poll(&mut self, link: &Link, cx: &mut Context<'_>) -> Option<Time> {
        let mut left = self.left.borrow_mut();
        // An error is the end of the connection, which the answer at the end then lacks.
        let done = left
            .as_mut()
            .is_some_and(|left| left.send(link, cx).unwrap_or(true));
        if done {
            *left = None;
            self.notify.notify_one();
        }
        None
    }
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
