//! Encode and parse in place, one core, no I/O: the ceiling of everything above it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use valkyrie_frame::{Frame, FrameLimits, Header, MessageType, StreamId};

use crate::report::Report;

const PAYLOAD: [u8; 64] = [0x5a; 64];
/// Frames in a buffer: 64 KiB of them, the size of one write of the engine.
const BATCH: usize = 64 * 1024 / (24 + PAYLOAD.len());
const SLICE: Duration = Duration::from_millis(150);
const SLICES: usize = 9;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let mut ours = Vec::new();
    let mut copy = Vec::new();
    // Slices of both in turn, so that a change of the machine's speed hits both.
    for _ in 0..SLICES {
        ours.push(rate(encode_and_parse)?);
        copy.push(rate(copy_and_sum)?);
    }
    let median = |samples: &mut Vec<f64>| crate::report::percentile(samples, 0.5);
    report.ours("frames_per_s", median(&mut ours), "1/s", ">= 50,000,000");
    report.peer("copy", "frames_per_s", median(&mut copy), "1/s");
    Ok(())
}

/// Frames per second over one slice; `work` handles one batch and returns how many it saw.
fn rate(work: fn(&mut Vec<u8>) -> Result<usize>) -> Result<f64> {
    let mut buffer = Vec::with_capacity(128 * 1024);
    let mut frames = 0;
    let start = Instant::now();
    while start.elapsed() < SLICE {
        for _ in 0..16 {
            buffer.clear();
            let seen = work(black_box(&mut buffer))?;
            ensure!(seen == BATCH, "{seen} of {BATCH} frames came back");
            frames += seen;
        }
    }
    Ok(frames as f64 / start.elapsed().as_secs_f64())
}

fn encode_and_parse(buffer: &mut Vec<u8>) -> Result<usize> {
    for index in 0..BATCH {
        let stream = StreamId(1001 + 2 * (index as u32 % 64));
        Header::new(MessageType::STREAM_DATA, stream, PAYLOAD.len() as u32).append(buffer);
        buffer.extend_from_slice(black_box(&PAYLOAD));
    }
    let limits = FrameLimits::DEFAULT;
    let mut input = buffer.as_slice();
    let mut seen = 0;
    let mut bytes = 0;
    while let Some(frame) = Frame::parse(&mut input, limits)? {
        bytes += black_box(frame.body).len();
        seen += 1;
    }
    ensure!(
        bytes == BATCH * PAYLOAD.len(),
        "{bytes} payload bytes came back"
    );
    Ok(seen)
}

/// The same bytes moved without any framing.
fn copy_and_sum(buffer: &mut Vec<u8>) -> Result<usize> {
    for _ in 0..BATCH {
        buffer.extend_from_slice(black_box(&[0; 24]));
        buffer.extend_from_slice(black_box(&PAYLOAD));
    }
    Ok(buffer
        .chunks_exact(24 + PAYLOAD.len())
        .map(black_box)
        .count())
}
