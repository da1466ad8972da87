//! One message there and back, one at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wire::measure::{Figures, Hist, MESSAGE_BYTES, WARM_UP, ensure_echo, message};
use crate::wire::place::{Place, connected, into_tokio, join, runtime, thread};

/// Both ends wait in tokio until the socket is ready.
pub(crate) fn echo(rounds: usize, place: Place) -> Result<Hist> {
    let (client, server) = connected()?;
    let server = thread(move || {
        place.pin_server()?;
        runtime()?.block_on(async {
            let mut server = into_tokio(server)?;
            let mut bytes = [0; MESSAGE_BYTES];
            while server.read_exact(&mut bytes).await.is_ok() {
                server.write_all(&bytes).await?;
            }
            Ok(())
        })
    });
    place.pin_client()?;
    let hist = runtime()?.block_on(async {
        let mut client = into_tokio(client)?;
        let mut hist = Hist::new(rounds);
        let mut bytes = [0; MESSAGE_BYTES];
        for round in 0..rounds + WARM_UP {
            let sent = message(round as u64);
            let start = Instant::now();
            client.write_all(&sent).await?;
            client.read_exact(&mut bytes).await?;
            if round >= WARM_UP {
                hist.since(start);
            }
            ensure_echo(&bytes, round as u64)?;
        }
        anyhow::Ok(hist)
    })?;
    join(server)?;
    Ok(hist)
}

/// Both ends wait in the system call that reads.
pub(crate) fn blocking(rounds: usize, place: Place) -> Result<Hist> {
    exchange(connected()?, rounds, place, TcpStream::read_exact)
}

/// Neither end ever sleeps.
pub(crate) fn spin() -> Result<Figures> {
    let ends = connected()?;
    ends.0.set_nonblocking(true)?;
    ends.1.set_nonblocking(true)?;
    let mut hist = exchange(ends, 20_000, Place::TwoCores, read_spinning)?;
    Ok(vec![
        ("tcp_spin_p50_us", hist.us(0.5)),
        ("tcp_spin_p99_us", hist.us(0.99)),
    ])
}

fn exchange(
    (mut client, mut server): (TcpStream, TcpStream),
    rounds: usize,
    place: Place,
    read: fn(&mut TcpStream, &mut [u8]) -> std::io::Result<()>,
) -> Result<Hist> {
    let server = thread(move || {
        place.pin_server()?;
        let mut bytes = [0; MESSAGE_BYTES];
        while read(&mut server, &mut bytes).is_ok() {
            server.write_all(&bytes)?;
        }
        Ok(())
    });
    place.pin_client()?;
    let mut hist = Hist::new(rounds);
    let mut bytes = [0; MESSAGE_BYTES];
    for round in 0..rounds + WARM_UP {
        let sent = message(round as u64);
        let start = Instant::now();
        client.write_all(&sent)?;
        read(&mut client, &mut bytes)?;
        if round >= WARM_UP {
            hist.since(start);
        }
        ensure_echo(&bytes, round as u64)?;
    }
    drop(client);
    join(server)?;
    Ok(hist)
}

fn read_spinning(socket: &mut TcpStream, mut bytes: &mut [u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match socket.read(bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
