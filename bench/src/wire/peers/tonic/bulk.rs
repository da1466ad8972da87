//! Large messages in a client's stream, alone and with calls beside them on the same connection.

use std::convert::Infallible;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::{Either, select};
use futures_util::stream;

use super::{Client, client, message, serve};
use crate::wire::measure::{Figures, Hist, MESSAGE_BYTES, gb_per_second};
use crate::wire::peers::{BESIDE, BESIDE_BYTES, CHUNK_BYTES, CHUNKS, URGENT_EVERY};
use crate::wire::place::{self, runtime};

pub(super) fn chunks() -> Result<Figures> {
    let at = place::serve(None, serve)?;
    runtime()?.block_on(async {
        let mut client = client(at).await?;
        let start = Instant::now();
        send(&mut client, CHUNKS, CHUNK_BYTES).await?;
        let rate = gb_per_second(CHUNKS * CHUNK_BYTES as u64, start);
        Ok(vec![("tcp_256k_gb_per_s", rate)])
    })
}

async fn send(client: &mut Client, count: u64, bytes: usize) -> Result<Duration> {
    let start = Instant::now();
    let messages = (0..count).map(move |index| message(index, bytes));
    let received = client.sink(stream::iter(messages)).await?.into_inner();
    received.tally().ensure(count, bytes)?;
    Ok(start.elapsed())
}

pub(super) fn urgent() -> Result<Figures> {
    let at = place::serve(None, serve)?;
    runtime()?.block_on(async {
        let mut bulk = client(at).await?;
        let mut client = bulk.clone();
        let alone = send(&mut bulk, BESIDE, BESIDE_BYTES).await?;
        let mut hist = Hist::new(100_000);
        let sent = {
            let sent = pin!(send(&mut bulk, BESIDE, BESIDE_BYTES));
            match select(sent, pin!(call_for_ever(&mut client, &mut hist))).await {
                Either::Left((sent, _)) => sent?,
                Either::Right((Err(error), _)) => return Err(error),
                Either::Right((Ok(never), _)) => match never {},
            }
        };
        Ok(vec![
            ("urgent_p99_us", hist.us(0.99)),
            ("bulk_kept_ratio", alone.as_secs_f64() / sent.as_secs_f64()),
        ])
    })
}

async fn call_for_ever(client: &mut Client, hist: &mut Hist) -> Result<Infallible> {
    let mut index = 0;
    loop {
        let start = Instant::now();
        let answer = client.echo(message(index, MESSAGE_BYTES)).await?;
        hist.since(start);
        ensure!(answer.into_inner().index == index, "another answer");
        index += 1;
        tokio::time::sleep(URGENT_EVERY).await;
    }
}
