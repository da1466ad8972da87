//! Many bytes one way, and one file.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::wire::measure::{Figures, Hist, Tally, WARM_UP, gb_per_second, stamp};
use crate::wire::place::{Place, connected, join, thread};
use crate::wire::socket::set_receive_low_water;

const CHUNK_BYTES: usize = 256 * 1024;
/// 2 GiB.
const CHUNKS: u64 = 8 * 1024;
const FILE_BYTES: usize = 1_000_000;
const FILES: usize = 300;

/// Chunks of 256 KiB with the socket as the system gives it.
pub(crate) fn plain() -> Result<Figures> {
    let (sender, receiver) = connected()?;
    Ok(vec![("tcp_256k_gb_per_s", chunks(sender, receiver)?)])
}

/// The same with a reader that is woken only for a whole chunk.
pub(crate) fn low_water() -> Result<Figures> {
    let (sender, receiver) = connected()?;
    set_receive_low_water(&receiver, CHUNK_BYTES)?;
    Ok(vec![("tcp_bulk_gb_per_s", chunks(sender, receiver)?)])
}

fn chunks(mut sender: TcpStream, mut receiver: TcpStream) -> Result<f64> {
    let start = Instant::now();
    let sender = thread(move || {
        let mut chunk = vec![0x5a; CHUNK_BYTES];
        for index in 0..CHUNKS {
            stamp(&mut chunk, index);
            sender.write_all(&chunk)?;
        }
        // A low-water mark that is above what is left would wait for ever.
        Ok(sender.shutdown(Shutdown::Write)?)
    });
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut tally = Tally::default();
    while tally.count < CHUNKS {
        receiver.read_exact(&mut chunk)?;
        tally.add(&chunk)?;
    }
    let rate = gb_per_second(CHUNKS * CHUNK_BYTES as u64, start);
    tally.ensure(CHUNKS, CHUNK_BYTES)?;
    ensure!(receiver.read(&mut chunk)? == 0, "more came than was sent");
    join(sender)?;
    Ok(rate)
}

/// From the first byte of a file of 1 MB to the answer that all of it is there.
pub(crate) fn file() -> Result<Figures> {
    let (mut client, mut server) = connected()?;
    let server = thread(move || {
        Place::TwoCores.pin_server()?;
        let mut file = vec![0; FILE_BYTES];
        while server.read_exact(&mut file).is_ok() {
            server.write_all(file.get(..8).unwrap_or_default())?;
        }
        Ok(())
    });
    Place::TwoCores.pin_client()?;
    let mut file = vec![0x5a; FILE_BYTES];
    let mut hist = Hist::new(FILES);
    for index in 0..(FILES + WARM_UP / 10) as u64 {
        stamp(&mut file, index);
        let start = Instant::now();
        client.write_all(&file)?;
        let mut answer = [0; 8];
        client.read_exact(&mut answer)?;
        if index >= WARM_UP as u64 / 10 {
            hist.since(start);
        }
        ensure!(u64::from_le_bytes(answer) == index, "another file came");
    }
    drop(client);
    join(server)?;
    Ok(vec![("file_1mb_ms", hist.us(0.5) / 1e3)])
}
