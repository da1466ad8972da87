//! The shared memory itself. All unsafe code of the workspace is in this file.

#![expect(
    unsafe_code,
    reason = "memory that another process writes has no safe type"
)]

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::layout::{Direction, word_offset};
use crate::words::{Word, Words};

/// Bytes of one atomic cell.
const CELL: usize = size_of::<u64>();

/// Memory shared with another process, as atomic cells.
///
/// Nothing here ever makes a reference to plain bytes of it: the peer may write at any time, so
/// all access is atomic and the compiler may neither repeat a read nor believe that two reads of
/// the same place are equal.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Aligned to [`CELL`].
    base: NonNull<u8>,
    length: usize,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    File,
    /// Memory of this process, where there is no `mmap`: tests under Miri.
    #[cfg(test)]
    Heap(#[expect(dead_code, reason = "it only has to live as long")] Vec<AtomicU64>),
}

// SAFETY: the memory belongs to no thread, and all access to it is atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives atomic access only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `file`, which has been checked to have them forever.
    pub(crate) fn new(file: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a free range, so no memory in use is replaced.
        let base = unsafe { mmap(ptr::null_mut(), length, access, MapFlags::SHARED, file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let backing = Backing::File;
        Ok(Self {
            base,
            length,
            backing,
        })
    }

    /// As many zeros, of this process.
    #[cfg(test)]
    pub(crate) fn heap(length: usize) -> Self {
        let mut cells: Vec<_> = (0..length.div_ceil(CELL))
            .map(|_| AtomicU64::new(0))
            .collect();
        let base = NonNull::new(cells.as_mut_ptr().cast()).expect("a vector has an address");
        let backing = Backing::Heap(cells);
        Self {
            base,
            length,
            backing,
        }
    }

    /// `count` bytes from `offset`.
    fn bytes(&self, offset: usize, count: usize) -> &[AtomicU8] {
        assert!(
            offset
                .checked_add(count)
                .is_some_and(|end| end <= self.length)
        );
        // SAFETY: `offset` is at most `length`, which is inside of the mapping.
        let first = unsafe { self.base.add(offset) };
        // SAFETY: the range is mapped as long as `self` lives, an atomic may be changed by others
        // at any time, and every byte is a valid one.
        unsafe { std::slice::from_raw_parts(first.as_ptr().cast(), count) }
    }

    /// `count` cells from `offset`, which is aligned unless `count` is 0.
    fn cells(&self, offset: usize, count: usize) -> &[AtomicU64] {
        if count == 0 {
            return &[];
        }
        assert!(offset.is_multiple_of(CELL));
        let bytes = self.bytes(offset, count * CELL);
        // SAFETY: the bytes are there, as above; `base` and `offset` are multiples of the
        // alignment, and every value is valid.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) }
    }

    /// Copies `from` to `offset`.
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) {
        let lead = lead(offset, from.len());
        let (first, rest) = from.split_at(lead);
        store_bytes(self.bytes(offset, lead), first);
        let (chunks, last) = rest.as_chunks::<CELL>();
        for (cell, chunk) in self.cells(offset + lead, chunks.len()).iter().zip(chunks) {
            cell.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
        }
        store_bytes(
            self.bytes(offset + from.len() - last.len(), last.len()),
            last,
        );
    }

    /// Copies what lies at `offset` to `to`, reading each byte once.
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let (lead, end) = (lead(offset, to.len()), offset + to.len());
        let (first, rest) = to.split_at_mut(lead);
        load_bytes(self.bytes(offset, lead), first);
        let (chunks, last) = rest.as_chunks_mut::<CELL>();
        for (cell, chunk) in self.cells(offset + lead, chunks.len()).iter().zip(chunks) {
            *chunk = cell.load(Ordering::Relaxed).to_ne_bytes();
        }
        load_bytes(self.bytes(end - last.len(), last.len()), last);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        match self.backing {
            Backing::File => {
                // SAFETY: the range was mapped by `new`, and no reference to it outlives `self`.
                let result = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
                debug_assert!(result.is_ok(), "a range that was mapped can be unmapped");
            }
            #[cfg(test)]
            Backing::Heap(_) => {}
        }
    }
}

/// How many of `count` bytes from `offset` lie before the first whole cell.
fn lead(offset: usize, count: usize) -> usize {
    (offset.next_multiple_of(CELL) - offset).min(count)
}

fn store_bytes(cells: &[AtomicU8], from: &[u8]) {
    for (cell, byte) in cells.iter().zip(from) {
        cell.store(*byte, Ordering::Relaxed);
    }
}

fn load_bytes(cells: &[AtomicU8], to: &mut [u8]) {
    for (cell, byte) in cells.iter().zip(to) {
        *byte = cell.load(Ordering::Relaxed);
    }
}

/// The words of one ring of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct RingWords {
    mapping: Arc<Mapping>,
    direction: Direction,
}

impl RingWords {
    pub(crate) const fn new(mapping: Arc<Mapping>, direction: Direction) -> Self {
        Self { mapping, direction }
    }

    fn cell(&self, word: Word) -> &AtomicU64 {
        let cells = self.mapping.cells(word_offset(self.direction, word), 1);
        cells.first().expect("one cell was asked for")
    }
}

impl Words for RingWords {
    fn load(&self, word: Word) -> u64 {
        self.cell(word).load(Ordering::Acquire)
    }

    fn store(&self, word: Word, value: u64) {
        self.cell(word).store(value, Ordering::Release);
    }

    fn take(&self, word: Word) -> bool {
        let (order, otherwise) = (Ordering::AcqRel, Ordering::Relaxed);
        self.cell(word)
            .compare_exchange(1, 0, order, otherwise)
            .is_ok()
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_in_at_any_place_comes_out_and_nothing_else_changes() {
        let mapping = Mapping::heap(64);
        let zeros = [0; 64];
        for offset in 0..32 {
            for count in 0..=32 {
                let sent: Vec<u8> = (1..=count).collect();
                mapping.copy_in(0, &zeros);
                mapping.copy_in(offset, &sent);
                let mut whole = [9; 64];
                mapping.copy_out(0, &mut whole);
                let (before, rest) = whole.split_at(offset);
                let (found, after) = rest.split_at(sent.len());
                assert_eq!(found, sent);
                assert!(before.iter().chain(after).all(|byte| *byte == 0));
                let mut got = vec![0; sent.len()];
                mapping.copy_out(offset, &mut got);
                assert_eq!(got, sent);
            }
        }
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn a_range_outside_is_never_touched() {
        Mapping::heap(64).copy_in(60, &[0; 5]);
    }

    #[test]
    fn the_words_of_both_rings_are_apart() {
        let mapping = Arc::new(Mapping::heap(4096));
        let all = [Word::Tail, Word::Head, Word::ReaderRests, Word::WriterRests];
        let rings = [Direction::ToAcceptor, Direction::ToInitiator]
            .map(|direction| RingWords::new(mapping.clone(), direction));
        for (ring, value) in rings.iter().zip([10, 20]) {
            for word in all {
                ring.store(word, value + word as u64);
            }
        }
        for (ring, value) in rings.iter().zip([10, 20]) {
            for word in all {
                assert_eq!(ring.load(word), value + word as u64);
                assert!(!ring.take(word), "only a 1 is taken");
                ring.store(word, 1);
                assert!(ring.take(word) && ring.load(word) == 0);
            }
        }
    }
}
