//! Buffers of a shard that its connections share, so that an idle connection owns none.

use std::cell::RefCell;

use valkyrie_frame::limits::FRAME_PAYLOAD_BYTES_MAX;

/// Read buffer of a shard: the rest of one longest frame and as much again.
pub(crate) const READ_BYTES: usize = 2 * (FRAME_PAYLOAD_BYTES_MAX as usize + 1024);
/// Write buffers kept for the next connection that has something to say.
const SPARE_MAX: usize = 64;
/// A larger buffer is given back to the allocator.
const SPARE_BYTES_MAX: usize = 256 * 1024;

thread_local! {
    static READ: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
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
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives back a buffer whose frames are written.
pub(crate) fn give_write(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > SPARE_BYTES_MAX {
        return;
    }
    buffer.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    });
}
