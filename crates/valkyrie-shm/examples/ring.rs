//! Measures the rings: messages of 88 bytes in writes and reads of 64 KiB, and round trips of one
//! message while both sides poll.
//!
//! `cargo run --release -p valkyrie-shm --example ring`

#![expect(
    clippy::print_stdout,
    reason = "a program that prints what it measured"
)]
#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]
#![expect(clippy::indexing_slicing, reason = "of buffers that are long enough")]

use std::hint::spin_loop;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use valkyrie_shm::{Incoming, Pipe, Read, Reader, RingBytes, Writer, Written, offer};

const MESSAGE: usize = 88;
const WRITE: usize = 64 * 1024;
const BYTES: usize = 8 << 30;
const ROUND_TRIPS: usize = 500_000;

fn main() {
    for kib in [128, 256, 512, 1024, 4096] {
        let ring = RingBytes::new(kib * 1024).unwrap();
        let seconds = stream(ring);
        println!(
            "ring {kib:>5} KiB: {:6.2} GB/s, {:6.1} million messages of {MESSAGE} bytes a second",
            BYTES as f64 / seconds / 1e9,
            (BYTES / MESSAGE) as f64 / seconds / 1e6,
        );
    }
    let mut times = round_trips();
    times.sort_unstable();
    let at = |part: f64| f64::from(times[(times.len() as f64 * part) as usize]) / 1e3;
    println!(
        "round trip of {MESSAGE} bytes, both polling: p50 {:.2} us, p99 {:.2} us, p99.9 {:.2} us",
        at(0.5),
        at(0.99),
        at(0.999),
    );
}

fn pipes(ring: RingBytes) -> (Pipe, Pipe) {
    let (near, far) = UnixStream::pair().unwrap();
    let client = offer(&near, ring).unwrap();
    (client, Incoming::default().receive(&far).unwrap())
}

/// Seconds for `BYTES` one way. Each write begins with its number.
fn stream(ring: RingBytes) -> f64 {
    let (mut client, mut server) = pipes(ring);
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = vec![7; WRITE];
            for number in 0..(BYTES / WRITE) as u64 {
                buffer[..8].copy_from_slice(&number.to_ne_bytes());
                write(&mut client.writer, &buffer);
            }
            let _ = client.writer.finish();
        });
        let mut buffer = vec![0; WRITE];
        for number in 0..(BYTES / WRITE) as u64 {
            read(&mut server.reader, &mut buffer);
            assert_eq!(buffer[..8], number.to_ne_bytes());
        }
    });
    began.elapsed().as_secs_f64()
}

/// Nanoseconds of each round trip.
fn round_trips() -> Vec<u32> {
    let (mut client, mut server) = pipes(RingBytes::DEFAULT);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = [0; MESSAGE];
            for _ in 0..ROUND_TRIPS {
                read(&mut server.reader, &mut buffer);
                write(&mut server.writer, &buffer);
            }
        });
        let mut buffer = [7; MESSAGE];
        let mut trip = || {
            let began = Instant::now();
            write(&mut client.writer, &buffer);
            read(&mut client.reader, &mut buffer);
            began.elapsed().as_nanos() as u32
        };
        (0..ROUND_TRIPS).map(|_| trip()).collect()
    })
}

fn write(writer: &mut Writer, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match writer.write(bytes).unwrap() {
            Written::Bytes { count, .. } => bytes = &bytes[count..],
            Written::Full => spin_loop(),
        }
    }
}

fn read(reader: &mut Reader, mut buffer: &mut [u8]) {
    while !buffer.is_empty() {
        match reader.read(buffer).unwrap() {
            Read::Bytes { count, .. } => buffer = &mut buffer[count..],
            Read::Empty => spin_loop(),
            Read::End => panic!("the stream ended early"),
        }
    }
}
