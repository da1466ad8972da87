//! Opening a connection, and holding many that do nothing.

use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Client, client, message};
use crate::wire::measure::{Figures, Hist, MESSAGE_BYTES};
use crate::wire::memory::Held;
use crate::wire::place::{self, Place, runtime, serve_on};

const CONNECTS: u64 = 300;
const WARM_UP: u64 = 30;

/// From opening a connection to the answer of its first call.
pub(super) fn connect() -> Result<Figures> {
    let at = place::serve(Some(Place::TwoCores), super::serve)?;
    Place::TwoCores.pin_client()?;
    runtime()?.block_on(async {
        let mut hist = Hist::new(CONNECTS as usize);
        for index in 0..CONNECTS + WARM_UP {
            let start = Instant::now();
            connected(at, index).await?;
            if index >= WARM_UP {
                hist.since(start);
            }
        }
        Ok(vec![("connect_p50_us", hist.us(0.5))])
    })
}

async fn connected(at: SocketAddr, index: u64) -> Result<Client> {
    let mut client = client(at).await?;
    let answer = client.echo(message(index, MESSAGE_BYTES)).await?;
    ensure!(answer.into_inner().index == index, "another answer");
    Ok(client)
}

/// Serves those that do nothing.
pub(super) fn serve(listener: TcpListener) -> Result<()> {
    serve_on(listener, super::serve)
}

/// Opens connections, each of which has carried a call.
pub(super) fn open(at: SocketAddr, count: usize) -> Result<Held> {
    let runtime = runtime()?;
    let held = runtime.block_on(async {
        let mut held = Vec::with_capacity(count);
        for index in 0..count as u64 {
            held.push(connected(at, index).await?);
        }
        anyhow::Ok(held)
    })?;
    Ok(Box::new((held, runtime)))
}
