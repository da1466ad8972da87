//! What a [`Plant`] does to the frames of one side.

use valkyrie_frame::limits::HEADER_BYTES;
use valkyrie_frame::{MessageType, StreamId};

use super::{options::Plant, peer::EXCESS};
use crate::rng::Rng;

/// Breaks something in whole frames that leave one side.
pub(crate) fn spoil(plant: Plant, bytes: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    let mut frames = split(&bytes);
    match plant {
        Plant::Nothing => return bytes,
        Plant::LoseCredit => frames.retain(|frame| !is_stream_credit(frame) || rng.chance(20)),
        Plant::LoseConnectionCredit => {
            frames.retain(|frame| kind(frame) != MessageType::STREAM_ACK || stream(frame).0 != 0);
        }
        Plant::Drop => {
            frames.retain(|frame| kind(frame) != MessageType::MESSAGE || !rng.chance(2));
        }
        Plant::LoseEnd => {
            frames.retain(|frame| kind(frame) != MessageType::STREAM_CLOSE || !rng.chance(20));
        }
        Plant::DeliverTwice => {
            let twice = |frame: &Vec<u8>| kind(frame) == MessageType::MESSAGE;
            if let Some(place) = frames.iter().position(twice) {
                frames.insert(place, frames.get(place).cloned().unwrap_or_default());
            }
        }
        Plant::Reorder => reorder(&mut frames),
        Plant::Overspend => frames.iter_mut().for_each(|frame| raise(frame)),
    }
    frames.concat()
}

/// Lets two neighbours that carry data of one stream change places.
fn reorder(frames: &mut [Vec<u8>]) {
    let data = |frame: &Vec<u8>| {
        let long = frame.len() > HEADER_BYTES + 8;
        long && kind(frame) == MessageType::STREAM_DATA
    };
    for place in 1..frames.len() {
        if let Some([first, second]) = frames.get_mut(place - 1..=place)
            && data(first)
            && data(second)
            && stream(first) == stream(second)
            && first != second
        {
            std::mem::swap(first, second);
            return;
        }
    }
}

/// Raises the limit of an acknowledgement.
fn raise(frame: &mut [u8]) {
    if kind(frame) != MessageType::STREAM_ACK {
        return;
    }
    if let Some(limit) = frame.last_chunk_mut::<8>() {
        *limit = (u64::from_be_bytes(*limit) + EXCESS).to_be_bytes();
    }
}

fn is_stream_credit(frame: &[u8]) -> bool {
    kind(frame) == MessageType::STREAM_ACK && stream(frame).0 != 0
}

fn kind(frame: &[u8]) -> MessageType {
    MessageType(frame.get(3).copied().unwrap_or_default())
}

fn stream(frame: &[u8]) -> StreamId {
    let id = frame.get(8..).and_then(<[u8]>::first_chunk::<4>);
    StreamId(id.map_or(0, |id| u32::from_be_bytes(*id)))
}

fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(length) = bytes.get(12..).and_then(<[u8]>::first_chunk::<4>) {
        let end = HEADER_BYTES + u32::from_be_bytes(*length) as usize;
        let Some((frame, rest)) = bytes.split_at_checked(end) else {
            break;
        };
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}
