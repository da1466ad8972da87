//! Opening a connection, and holding many that do nothing.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::wire::growth::Load;
use crate::wire::measure::{Figures, Hist, MESSAGE_BYTES, ensure_echo, message};
use crate::wire::memory::Held;
use crate::wire::place::{self, Place, runtime, serve_on};

const CONNECTS: u64 = 1_000;
const CONNECTS_TO_WARM_UP: u64 = 50;

/// From opening a connection to the echo of its first message.
pub(crate) fn connect() -> Result<Figures> {
    let at = place::serve(Some(Place::TwoCores), echo_all)?;
    Place::TwoCores.pin_client()?;
    let mut hist = Hist::new(CONNECTS as usize);
    runtime()?.block_on(async {
        for index in 0..CONNECTS + CONNECTS_TO_WARM_UP {
            let start = Instant::now();
            let mut client = TcpStream::connect(at).await?;
            client.set_nodelay(true)?;
            one_echo(&mut client, index).await?;
            if index >= CONNECTS_TO_WARM_UP {
                hist.since(start);
            }
        }
        anyhow::Ok(())
    })?;
    Ok(vec![("connect_p50_us", hist.us(0.5))])
}

async fn one_echo(client: &mut TcpStream, index: u64) -> Result<()> {
    client.write_all(&message(index)).await?;
    let mut bytes = [0; MESSAGE_BYTES];
    client.read_exact(&mut bytes).await?;
    ensure_echo(&bytes, index)
}

/// Sends back what comes, one task a connection.
async fn echo_all(listener: TcpListener) -> Result<()> {
    loop {
        let (mut server, _) = listener.accept().await?;
        server.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut bytes = [0; MESSAGE_BYTES];
            while server.read_exact(&mut bytes).await.is_ok()
                && server.write_all(&bytes).await.is_ok()
            {}
        });
    }
}

/// Serves those that do nothing.
pub(crate) fn serve(listener: std::net::TcpListener) -> Result<()> {
    serve_on(listener, echo_all)
}

/// Messages there and back over many connections in turn.
pub(crate) fn load(at: SocketAddr, load: Load) -> Result<()> {
    runtime()?.block_on(async {
        let mut held = Vec::with_capacity(load.connections);
        for index in 0..load.connections as u64 {
            let mut client = TcpStream::connect(at).await?;
            client.set_nodelay(true)?;
            one_echo(&mut client, index).await?;
            held.push(client);
        }
        load.go()?;
        for index in 0..load.calls {
            let turn = index % load.connections;
            if let Some(client) = held.get_mut(turn) {
                one_echo(client, index as u64).await?;
            }
        }
        load.go()
    })
}

/// Opens connections, each of which has carried a message.
pub(crate) fn open(at: SocketAddr, count: usize) -> Result<Held> {
    let runtime = runtime()?;
    let held = runtime.block_on(async {
        let mut held = Vec::with_capacity(count);
        for index in 0..count as u64 {
            let mut client = TcpStream::connect(at).await?;
            one_echo(&mut client, index).await?;
            held.push(client);
        }
        anyhow::Ok(held)
    })?;
    Ok(Box::new((held, runtime)))
}
