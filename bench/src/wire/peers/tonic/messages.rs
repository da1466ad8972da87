//! Messages one way in a client's stream; calls, and the messages of a stream both ways.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::proto::Received;
use super::{client, message, serve};
use crate::wire::measure::{Figures, MESSAGE_BYTES, Tally, per_second};
use crate::wire::place::{raise_descriptors, runtime};
use crate::wire::{CALLS_IN_FLIGHT, CONNECTIONS, MESSAGES_A_FLUSH, place};

const MESSAGES: u64 = 3_000_000;
const FLUSHES: u64 = 10;
const CALLS: u64 = 60_000;
const STREAM_CALLS: u64 = 400_000;

impl Received {
    pub(super) fn tally(&self) -> Tally {
        Tally {
            count: self.count,
            sum: self.sum,
            bytes: self.bytes,
        }
    }
}

pub(super) fn one() -> Result<Figures> {
    let at = place::serve(None, serve)?;
    runtime()?.block_on(async {
        let mut client = client(at).await?;
        let start = Instant::now();
        let messages = (0..MESSAGES).map(|index| message(index, MESSAGE_BYTES));
        let received = client.sink(stream::iter(messages)).await?.into_inner();
        let rate = per_second(MESSAGES, start);
        received.tally().ensure(MESSAGES, MESSAGE_BYTES)?;
        Ok(vec![("tcp_batch_msgs_per_s", rate)])
    })
}

pub(super) fn spread() -> Result<Figures> {
    const EACH: u64 = MESSAGES_A_FLUSH * FLUSHES;
    raise_descriptors()?;
    let at = place::serve(None, serve)?;
    runtime()?.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(client(at).await?);
        }
        let start = Instant::now();
        let sinks = clients.iter_mut().zip(0..).map(|(client, number)| {
            let messages = number * EACH..(number + 1) * EACH;
            client.sink(stream::iter(
                messages.map(|index| message(index, MESSAGE_BYTES)),
            ))
        });
        let mut tally = Tally::default();
        for received in try_join_all(sinks).await? {
            let received = received.into_inner();
            tally.count += received.count;
            tally.sum = tally.sum.wrapping_add(received.sum);
            tally.bytes += received.bytes;
        }
        let rate = per_second(CONNECTIONS * EACH, start);
        tally.ensure(CONNECTIONS * EACH, MESSAGE_BYTES)?;
        Ok(vec![("tcp_1024_msgs_per_s", rate)])
    })
}

pub(super) fn calls() -> Result<Figures> {
    let at = place::serve(None, serve)?;
    runtime()?.block_on(async {
        let client = client(at).await?;
        let start = Instant::now();
        let tally = stream::iter(0..CALLS)
            .map(|index| {
                let mut client = client.clone();
                async move { client.echo(message(index, MESSAGE_BYTES)).await }
            })
            .buffer_unordered(CALLS_IN_FLIGHT as usize)
            .try_fold(Tally::default(), |mut tally, answer| async move {
                let answer = answer.into_inner();
                tally.add_as(answer.index, answer.payload.len());
                Ok(tally)
            })
            .await?;
        let rate = per_second(CALLS, start);
        tally.ensure(CALLS, MESSAGE_BYTES)?;
        Ok(vec![("calls_256_per_s", rate)])
    })
}

pub(super) fn stream_calls() -> Result<Figures> {
    let at = place::serve(None, serve)?;
    runtime()?.block_on(async {
        let mut client = client(at).await?;
        let free = Arc::new(Semaphore::new(CALLS_IN_FLIGHT as usize));
        let permits = Arc::clone(&free);
        let calls = stream::unfold(0, move |index| {
            let permits = Arc::clone(&permits);
            async move {
                if index == STREAM_CALLS {
                    return None;
                }
                permits.acquire().await.ok()?.forget();
                Some((message(index, MESSAGE_BYTES), index + 1))
            }
        });
        let start = Instant::now();
        let mut answers = client.talk(calls).await?.into_inner();
        let mut tally = Tally::default();
        while tally.count < STREAM_CALLS {
            let answer = answers.message().await?.context("the stream ended early")?;
            ensure!(answer.index == tally.count, "answers in another order");
            tally.add_as(answer.index, answer.payload.len());
            free.add_permits(1);
        }
        let rate = per_second(STREAM_CALLS, start);
        tally.ensure(STREAM_CALLS, MESSAGE_BYTES)?;
        Ok(vec![("calls_256_per_s", rate)])
    })
}
