//! One message there and back; opening a connection, and holding many that do nothing.

use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use anyhow::Result;

use super::{Answer, client, echoed};
use crate::wire::measure::{Figures, Hist, WARM_UP};
use crate::wire::memory::Held;
use crate::wire::place::{Place, runtime, serve_on};

const CONNECTS: u64 = 300;
const CONNECTS_TO_WARM_UP: u64 = 30;

pub(super) fn echo(rounds: usize, place: Place) -> Result<Hist> {
    let at = Answer::Echo.serve(Some(place))?;
    place.pin_client()?;
    runtime()?.block_on(async {
        let mut socket = client(at).await?;
        let mut hist = Hist::new(rounds);
        for round in 0..rounds + WARM_UP {
            let start = Instant::now();
            echoed(&mut socket, round as u64).await?;
            if round >= WARM_UP {
                hist.since(start);
            }
        }
        Ok(hist)
    })
}

/// From opening a connection to the echo of its first message.
pub(super) fn connect() -> Result<Figures> {
    let at = Answer::Echo.serve(Some(Place::TwoCores))?;
    Place::TwoCores.pin_client()?;
    runtime()?.block_on(async {
        let mut hist = Hist::new(CONNECTS as usize);
        for index in 0..CONNECTS + CONNECTS_TO_WARM_UP {
            let start = Instant::now();
            let mut socket = client(at).await?;
            echoed(&mut socket, index).await?;
            if index >= CONNECTS_TO_WARM_UP {
                hist.since(start);
            }
        }
        Ok(vec![("connect_p50_us", hist.us(0.5))])
    })
}

/// Serves those that do nothing.
pub(super) fn serve(listener: TcpListener) -> Result<()> {
    serve_on(listener, |listener| Answer::Echo.serve_all(listener))
}

/// Opens connections, each of which has carried a message.
pub(super) fn open(at: SocketAddr, count: usize) -> Result<Held> {
    let runtime = runtime()?;
    let held = runtime.block_on(async {
        let mut held = Vec::with_capacity(count);
        for index in 0..count as u64 {
            let mut socket = client(at).await?;
            echoed(&mut socket, index).await?;
            held.push(socket);
        }
        anyhow::Ok(held)
    })?;
    Ok(Box::new((held, runtime)))
}
