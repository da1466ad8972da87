//! Buffers of a shard that its connections share, so that an idle connection owns none.

use std::cell::RefCell;
use std::collections::VecDeque;

use valkyrie_frame::limits::FRAME_PAYLOAD_BYTES_MAX;

/// Read buffer of a shard: the rest of one longest frame and as much again.
pub(crate) const READ_BYTES: usize = 2 * (FRAME_PAYLOAD_BYTES_MAX as usize + 1024);
/// Write buffers kept for the next connection that has something to say.
const SPARE_MAX: usize = 64;
/// Bytes of all of them; what is more is given back to the allocator. One that a stream's whole
/// window waited in finds its place, or a sender who is faster than its peer would have it grown
/// anew each time.
const SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;

thread_local! {
    static READ: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare::new()) };
}

/// Write buffers that nobody uses.
struct Spare {
    /// The largest is at the back, where they are taken.
    buffers: VecDeque<Vec<u8>>,
    /// Capacity of all.
    bytes: usize,
}

impl Spare {
    const fn new() -> Self {
        Self {
            buffers: VecDeque::new(),
            bytes: 0,
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop_back().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 || self.bytes + capacity > SPARE_BYTES_MAX {
            return;
        }
        // A large one saves more than a small one.
        if self.buffers.len() == SPARE_MAX {
            let small = self.buffers.pop_front().unwrap_or_default();
            self.bytes -= small.capacity();
        }
        buffer.clear();
        self.bytes += capacity;
        let largest = self.buffers.back().map_or(0, Vec::capacity);
        match capacity >= largest {
            true => self.buffers.push_back(buffer),
            false => self.buffers.push_front(buffer),
        }
    }
}

/// Takes the shard's read buffer, of [`READ_BYTES`]; another one if it is taken.
pub(crate) fn take_read() -> Vec<u8> {
    READ.with_borrow_mut(Option::take)
        .unwrap_or_else(|| vec![0; READ_BYTES])
}

/// Gives the read buffer back.
pub(crate) fn give_read(buffer: Vec<u8>) {
    READ.with_borrow_mut(|slot| *slot = Some(buffer));
}

/// An empty buffer to encode frames into.
pub(crate) fn take_write() -> Vec<u8> {
    SPARE.with_borrow_mut(Spare::take)
}

/// Gives back a buffer whose frames are written.
pub(crate) fn give_write(buffer: Vec<u8>) {
    SPARE.with_borrow_mut(|spare| spare.give(buffer));
}
