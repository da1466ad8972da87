//! Framed calls on one connection, as many in flight as the window says.

use std::time::Instant;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wire::CALLS_IN_FLIGHT;
use crate::wire::frame::{Inbox, put};
use crate::wire::measure::{Figures, MESSAGE_BYTES, Tally, message, per_second};
use crate::wire::place::{connected, into_tokio, join, runtime, thread};

const CALLS: u64 = 1_500_000;

pub(crate) fn run() -> Result<Figures> {
    let (client, server) = connected()?;
    let server = thread(move || runtime()?.block_on(answer(server)));
    let (rate, tally) = runtime()?.block_on(call(client))?;
    join(server)?;
    tally.ensure(CALLS, MESSAGE_BYTES)?;
    Ok(vec![("calls_256_per_s", rate)])
}

async fn answer(server: std::net::TcpStream) -> Result<()> {
    let mut server = into_tokio(server)?;
    let mut inbox = Inbox::new();
    let mut out = Vec::new();
    loop {
        let count = server.read(inbox.space()).await?;
        if count == 0 {
            return Ok(());
        }
        inbox.filled(count, |stream, payload| {
            put(&mut out, stream, payload);
            Ok(())
        })?;
        server.write_all(&out).await?;
        out.clear();
    }
}

async fn call(client: std::net::TcpStream) -> Result<(f64, Tally)> {
    let mut client = into_tokio(client)?;
    let mut inbox = Inbox::new();
    let mut out = Vec::new();
    let mut tally = Tally::default();
    let mut sent = 0;
    let start = Instant::now();
    while tally.count < CALLS {
        while sent < CALLS && sent - tally.count < CALLS_IN_FLIGHT {
            put(&mut out, 1, &message(sent));
            sent += 1;
        }
        client.write_all(&out).await?;
        out.clear();
        let count = client.read(inbox.space()).await?;
        ensure!(count > 0, "the server closed the connection");
        inbox.filled(count, |_, payload| tally.add(payload))?;
    }
    Ok((per_second(CALLS, start), tally))
}
