//! Framed messages one by one through tokio's buffered reader and writer, as one would write them.

use std::time::Instant;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};

use crate::wire::frame::{HEADER_BYTES, WRITE_BYTES, parse, put};
use crate::wire::measure::{Figures, MESSAGE_BYTES, Tally, message, per_second};
use crate::wire::place::{connected, into_tokio, join, runtime, thread};

const MESSAGES: u64 = 6_000_000;

pub(crate) fn run() -> Result<Figures> {
    let (sender, receiver) = connected()?;
    let start = Instant::now();
    let sender = thread(move || {
        runtime()?.block_on(async {
            let mut sender = BufWriter::with_capacity(WRITE_BYTES, into_tokio(sender)?);
            let mut frame = Vec::with_capacity(HEADER_BYTES + MESSAGE_BYTES);
            for index in 0..MESSAGES {
                frame.clear();
                put(&mut frame, 1, &message(index));
                sender.write_all(&frame).await?;
            }
            Ok(sender.flush().await?)
        })
    });
    let tally = runtime()?.block_on(async {
        let mut receiver = BufReader::with_capacity(WRITE_BYTES, into_tokio(receiver)?);
        let mut tally = Tally::default();
        let mut frame = [0; HEADER_BYTES + MESSAGE_BYTES];
        while tally.count < MESSAGES {
            receiver.read_exact(&mut frame).await?;
            let used = parse(&frame, |_, payload| tally.add(payload))?;
            ensure!(used == frame.len(), "a frame of another length");
        }
        anyhow::Ok(tally)
    })?;
    let rate = per_second(MESSAGES, start);
    join(sender)?;
    tally.ensure(MESSAGES, MESSAGE_BYTES)?;
    Ok(vec![("tcp_stream_msgs_per_s", rate)])
}
