//! Messages one way, large ones, and echoes with many in flight.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::{Answer, Socket, client};
use crate::wire::measure::{
    Figures, MESSAGE_BYTES, Tally, gb_per_second, message, per_second, stamp,
};
use crate::wire::peers::{CHUNK_BYTES, CHUNKS};
use crate::wire::place::{raise_descriptors, runtime};
use crate::wire::{CALLS_IN_FLIGHT, CONNECTIONS, MESSAGES_A_FLUSH};

const MESSAGES: u64 = 2_000_000;
const FLUSHES: u64 = 10;
const CALLS: u64 = 150_000;

/// What a counting server says came.
async fn counted(socket: &mut Socket) -> Result<Tally> {
    socket.send(Message::text("how many?")).await?;
    let Some(Message::Text(counted)) = socket.next().await.transpose()? else {
        bail!("the server closed the connection");
    };
    let mut numbers = counted.split(' ').map(str::parse);
    let mut next = || {
        numbers
            .next()
            .context("a number is missing")?
            .context("no number")
    };
    Ok(Tally {
        count: next()?,
        sum: next()?,
        bytes: next()?,
    })
}

pub(super) fn messages() -> Result<Figures> {
    let start = send(MESSAGES, MESSAGE_BYTES)?;
    Ok(vec![("tcp_batch_msgs_per_s", per_second(MESSAGES, start))])
}

pub(super) fn bulk() -> Result<Figures> {
    let start = send(CHUNKS, CHUNK_BYTES)?;
    let rate = gb_per_second(CHUNKS * CHUNK_BYTES as u64, start);
    Ok(vec![("tcp_256k_gb_per_s", rate)])
}

/// Feeds `count` messages to one connection; gives the time at which it began.
fn send(count: u64, bytes: usize) -> Result<Instant> {
    let at = Answer::Count.serve(None)?;
    runtime()?.block_on(async {
        let mut socket = client(at).await?;
        let mut payload = vec![0x5a; bytes];
        let start = Instant::now();
        for index in 0..count {
            stamp(&mut payload, index);
            let payload = Bytes::copy_from_slice(&payload);
            socket.feed(Message::Binary(payload)).await?;
        }
        counted(&mut socket).await?.ensure(count, bytes)?;
        Ok(start)
    })
}

pub(super) fn spread() -> Result<Figures> {
    const ALL: u64 = CONNECTIONS * MESSAGES_A_FLUSH * FLUSHES;
    raise_descriptors()?;
    let at = Answer::Count.serve(None)?;
    runtime()?.block_on(async {
        let mut sockets = Vec::new();
        for _ in 0..CONNECTIONS {
            sockets.push(client(at).await?);
        }
        let mut index = 0;
        let start = Instant::now();
        for _ in 0..FLUSHES {
            for socket in &mut sockets {
                for _ in 0..MESSAGES_A_FLUSH {
                    let payload = Bytes::copy_from_slice(&message(index));
                    socket.feed(Message::Binary(payload)).await?;
                    index += 1;
                }
                socket.flush().await?;
            }
        }
        let mut tally = Tally::default();
        for socket in &mut sockets {
            let one = counted(socket).await?;
            tally.count += one.count;
            tally.sum = tally.sum.wrapping_add(one.sum);
            tally.bytes += one.bytes;
        }
        let rate = per_second(ALL, start);
        tally.ensure(ALL, MESSAGE_BYTES)?;
        Ok(vec![("tcp_1024_msgs_per_s", rate)])
    })
}

pub(super) fn calls() -> Result<Figures> {
    let at = Answer::Echo.serve(None)?;
    runtime()?.block_on(async {
        let (mut sender, mut receiver) = client(at).await?.split();
        let mut tally = Tally::default();
        let mut sent = 0;
        let start = Instant::now();
        while tally.count < CALLS {
            while sent < CALLS && sent - tally.count < CALLS_IN_FLIGHT {
                let payload = Bytes::copy_from_slice(&message(sent));
                sender.feed(Message::Binary(payload)).await?;
                sent += 1;
            }
            sender.flush().await?;
            let mut answer = receiver.next().await;
            // All that is there already, before more is sent.
            while let Some(message) = answer {
                tally.add(&message?.into_data())?;
                answer = receiver.next().now_or_never().flatten();
            }
        }
        let rate = per_second(CALLS, start);
        tally.ensure(CALLS, MESSAGE_BYTES)?;
        Ok(vec![("calls_256_per_s", rate)])
    })
}
