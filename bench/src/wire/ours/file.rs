//! A file of 1 MB, until the peer has checked all of it.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Result, ensure};
use valkyrie::StreamId;
use valkyrie::frame::FileStart;
use valkyrie::{Correlation, End, ErrorCode, Event, Handler, Idle, Link, LinkConfig, MessageType};

use super::node::{Waker, client, open, run, start};
use crate::wire::measure::{Figures, Hist, WARM_UP, stamp};
use crate::wire::place::Place;

const FILE_BYTES: usize = 1_000_000;
const FILES: usize = 300;

/// Hashes what comes and acknowledges what is whole.
#[derive(Default)]
struct Checker {
    open: HashMap<StreamId, blake3::Hasher>,
}

impl Handler for Checker {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Opened { stream, .. } => link.session().accept(stream, 0),
            Event::FileStart { stream, .. } => {
                self.open.insert(stream, blake3::Hasher::new());
                link.session().file_verified(stream, 0);
            }
            Event::FileChunk {
                stream,
                offset,
                bytes,
            } => {
                if let Some(hasher) = self.open.get_mut(&stream) {
                    hasher.update(bytes);
                    link.session()
                        .file_verified(stream, offset + bytes.len() as u64);
                }
            }
            Event::FileComplete { stream, digest } => {
                let hasher = self.open.remove(&stream);
                let kind = MessageType::FILE_TRANSFER_COMPLETE;
                match hasher.is_some_and(|hasher| *hasher.finalize().as_bytes() == digest) {
                    // Nothing can be done about a connection that is gone.
                    true => drop(
                        link.session()
                            .ack(stream, kind, Correlation::NONE, End::Yes),
                    ),
                    false => link.session().reset(stream, ErrorCode::MALFORMED),
                }
            }
            _ => {}
        }
    }
}

pub(super) fn measure() -> Result<Figures> {
    let at = start(
        "valkyrie+tcp://127.0.0.1:0",
        Place::TwoCores,
        Idle::Park,
        LinkConfig::default,
        Checker::default,
    )?;
    run(Place::TwoCores, Idle::Park, async {
        let (link, waker) = client(&at, LinkConfig::default()).await?;
        let mut file = vec![0x5a; FILE_BYTES];
        let mut hist = Hist::new(FILES);
        for index in 0..FILES + WARM_UP / 10 {
            stamp(&mut file, index as u64);
            let start = Instant::now();
            send(&link, &waker, &file).await?;
            if index >= WARM_UP / 10 {
                hist.since(start);
            }
        }
        Ok(vec![("file_1mb_ms", hist.us(0.5) / 1e3)])
    })
}

async fn send(link: &Link, waker: &Waker, file: &[u8]) -> Result<()> {
    let digest = *blake3::hash(file).as_bytes();
    waker.verified.set(None);
    let stream = open(link, waker).await?;
    let start = FileStart {
        id: [7; 16],
        size: file.len() as u64,
        digest,
        name: "bench",
    };
    link.session().file_start(stream, &start)?;
    let mut sent = 0;
    while sent < file.len() {
        if waker.verified.get().is_some() {
            let rest = file.get(sent..).unwrap_or_default();
            sent += link.session().file_chunk(stream, sent as u64, rest)?;
        }
        if sent < file.len() {
            waker.notify.notified().await;
        }
    }
    link.session().file_complete(stream, digest, End::Yes)?;
    while link.session().streams_open() > 0 {
        waker.notify.notified().await;
    }
    let whole = waker.verified.get() == Some(file.len() as u64);
    ensure!(whole, "the file did not come whole");
    Ok(())
}
