//! Reading and writing.

use std::sync::Arc;

use crate::consumer::Consumer;
use crate::error::Violation;
use crate::layout::{Direction, RingBytes};
use crate::mapping::{Mapping, RingWords};
use crate::producer::Producer;
use crate::region::Region;
use crate::words::{Bell, Rest};

/// Which end of a pipe this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Connected, and made the memory.
    Initiator,
    /// Was connected to.
    Acceptor,
}

/// One end of a two-way byte stream. Its halves may live on different threads.
#[derive(Debug)]
pub struct Pipe {
    /// What the peer writes.
    pub reader: Reader,
    /// What the peer reads.
    pub writer: Writer,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Read {
    /// `count` bytes, at least one, were copied; the writer may have to be woken.
    Bytes {
        /// How many.
        count: usize,
        /// Whether the writer waits for the room.
        bell: Bell,
    },
    /// Nothing is there now.
    Empty,
    /// Everything has been read, and the writer has finished.
    End,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// `count` bytes, at least one, were copied; the reader may have to be woken.
    Bytes {
        /// How many.
        count: usize,
        /// Whether the reader waits for them.
        bell: Bell,
    },
    /// No room is there now.
    Full,
}

/// The end that reads from one ring.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    consumer: Consumer<RingWords>,
}

/// The end that writes into one ring.
#[derive(Debug)]
pub struct Writer {
    bytes: Bytes,
    producer: Producer<RingWords>,
}

impl Pipe {
    /// The end of `region` that belongs to `side`. Each side makes it once.
    #[must_use]
    pub fn new(region: &Region, side: Side) -> Self {
        Self::over(region.mapping(), region.ring(), side)
    }

    fn over(mapping: &Arc<Mapping>, ring: RingBytes, side: Side) -> Self {
        let (read, write) = match side {
            Side::Initiator => (Direction::ToInitiator, Direction::ToAcceptor),
            Side::Acceptor => (Direction::ToAcceptor, Direction::ToInitiator),
        };
        let words = |direction| RingWords::new(mapping.clone(), direction);
        let bytes = |direction| Bytes {
            mapping: mapping.clone(),
            begin: ring.ring_offset(direction),
            capacity: ring.get() as usize,
        };
        Self {
            reader: Reader {
                bytes: bytes(read),
                consumer: Consumer::new(words(read), ring.get().into()),
            },
            writer: Writer {
                bytes: bytes(write),
                producer: Producer::new(words(write), ring.get().into()),
            },
        }
    }
}

impl Reader {
    /// Copies what is there to `out`, as much as fits. Costs no system call.
    ///
    /// An empty `out` finds [`Read::Empty`] or [`Read::End`].
    ///
    /// # Errors
    /// [`Violation`]: the peer broke the ring. The connection is over.
    #[inline]
    pub fn read(&mut self, out: &mut [u8]) -> Result<Read, Violation> {
        let available = self.consumer.available(out.len() as u64)?;
        // At most `out.len()`.
        let count = available as usize;
        if count == 0 {
            return Ok(match self.consumer.is_at_end() {
                true => Read::End,
                false => Read::Empty,
            });
        }
        let (out, _) = out.split_at_mut(count);
        self.bytes.copy_out(self.consumer.offset(), out);
        let bell = self.consumer.release(available);
        Ok(Read::Bytes { count, bell })
    }

    /// Bytes that the writer says can be read now; a hint, which only a read checks.
    #[must_use]
    pub fn readable(&self) -> usize {
        // At most the ring.
        self.consumer.readable() as usize
    }

    /// Tells the writer that this side is going to sleep until the doorbell rings. The next read
    /// that finds something takes it back.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    pub fn rest(&mut self) -> Result<Rest, Violation> {
        self.consumer.rest()
    }

    /// Takes [`rest`](Self::rest) back: this side looks by itself, and the writer need not ring.
    pub fn rise(&mut self) {
        self.consumer.rise();
    }
}

impl Writer {
    /// Copies of `from` what there is room for. Costs no system call.
    ///
    /// # Errors
    /// [`Violation`]: the peer broke the ring. The connection is over.
    ///
    /// # Panics
    /// After [`finish`](Self::finish).
    #[inline]
    pub fn write(&mut self, from: &[u8]) -> Result<Written, Violation> {
        self.write_all_of([from])
    }

    /// As [`write`](Self::write), of several slices one behind the other.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    ///
    /// # Panics
    /// As of [`write`](Self::write).
    #[inline]
    pub fn write_all_of<'a>(
        &mut self,
        slices: impl IntoIterator<Item = &'a [u8]> + Clone,
    ) -> Result<Written, Violation> {
        assert!(!self.producer.is_finished(), "write after finish");
        let wanted: usize = slices.clone().into_iter().map(<[u8]>::len).sum();
        let room = self.producer.room(wanted as u64)?;
        if room == 0 {
            return Ok(Written::Full);
        }
        // At most `wanted`.
        let count = room as usize;
        let (mut at, mut left) = (self.producer.offset(), count);
        for slice in slices {
            let (part, _) = slice.split_at(slice.len().min(left));
            at = self.bytes.copy_in(at, part);
            left -= part.len();
        }
        let bell = self.producer.commit(room);
        Ok(Written::Bytes { count, bell })
    }

    /// Says that nothing more will be written. What was written will be read; doing it twice does
    /// nothing.
    pub fn finish(&mut self) -> Bell {
        self.producer.finish()
    }

    /// Whether [`finish`](Self::finish) was called.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.producer.is_finished()
    }

    /// Tells the reader that this side is going to sleep until the doorbell rings. The next write
    /// that finds room takes it back.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub fn rest(&mut self) -> Result<Rest, Violation> {
        self.producer.rest()
    }
}

/// The bytes of one ring.
#[derive(Debug)]
struct Bytes {
    mapping: Arc<Mapping>,
    begin: usize,
    capacity: usize,
}

impl Bytes {
    /// Copies `from` to `at`, around the end of the ring; returns where the next byte goes.
    fn copy_in(&self, at: u64, from: &[u8]) -> u64 {
        let at = at as usize;
        let (first, second) = from.split_at(from.len().min(self.capacity - at));
        self.mapping.copy_in(self.begin + at, first);
        self.mapping.copy_in(self.begin, second);
        ((at + from.len()) & (self.capacity - 1)) as u64
    }

    fn copy_out(&self, at: u64, to: &mut [u8]) {
        let at = at as usize;
        let (first, second) = to.split_at_mut(to.len().min(self.capacity - at));
        self.mapping.copy_out(self.begin + at, first);
        self.mapping.copy_out(self.begin, second);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::words::{FINISHED, Word, Words};

    /// Both ends over memory of this process, which Miri can follow.
    fn pipes() -> (Pipe, Pipe, Arc<Mapping>) {
        let ring = RingBytes::new(crate::RING_BYTES_MIN).unwrap();
        let mapping = Arc::new(Mapping::heap(ring.region_bytes()));
        let initiator = Pipe::over(&mapping, ring, Side::Initiator);
        let acceptor = Pipe::over(&mapping, ring, Side::Acceptor);
        (initiator, acceptor, mapping)
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn what_one_thread_writes_another_reads_around_the_end_of_the_ring() {
        let (mut near, mut far, _) = pipes();
        let sent = bytes(if cfg!(miri) { 70_000 } else { 3_000_000 });
        let mut got = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut rest, mut size) = (sent.as_slice(), 1);
                while !rest.is_empty() {
                    let (part, _) = rest.split_at(rest.len().min(size));
                    match near.writer.write(part).unwrap() {
                        Written::Bytes { count, .. } => rest = &rest[count..],
                        Written::Full => thread::yield_now(),
                    }
                    size = (size * 7 + 1) % 30_011;
                }
                let _ = near.writer.finish();
            });
            let (mut buffer, mut size) = (vec![0; 20_011], 1);
            loop {
                let (out, _) = buffer.split_at_mut(size);
                match far.reader.read(out).unwrap() {
                    Read::Bytes { count, .. } => got.extend_from_slice(&out[..count]),
                    Read::Empty => thread::yield_now(),
                    Read::End => break,
                }
                size = (size * 5 + 1) % 20_011;
            }
        });
        assert!(got == sent);
    }

    #[test]
    fn slices_are_written_one_behind_the_other_as_far_as_there_is_room() {
        let (mut near, mut far, _) = pipes();
        let capacity = crate::RING_BYTES_MIN as usize;
        let sent = bytes(capacity + 10);
        let (a, b) = sent.split_at(capacity - 3);
        let written = near.writer.write_all_of([a, b"", b]).unwrap();
        let bell = Bell::Silent;
        let count = capacity;
        assert_eq!(written, Written::Bytes { count, bell });
        assert_eq!(near.writer.write(b"x").unwrap(), Written::Full);
        let mut got = vec![0; capacity + 10];
        assert_eq!(
            far.reader.read(&mut got).unwrap(),
            Read::Bytes { count, bell }
        );
        assert_eq!(got[..capacity], sent[..capacity]);
    }

    #[test]
    fn who_sleeps_is_woken_once_and_a_writer_for_half_a_ring() {
        let (mut near, mut far, _) = pipes();
        let capacity = crate::RING_BYTES_MIN as usize;
        assert_eq!(far.reader.rest().unwrap(), Rest::Asleep);
        let full = near.writer.write(&bytes(capacity)).unwrap();
        let count = capacity;
        let bell = Bell::Ring;
        assert_eq!(full, Written::Bytes { count, bell });
        assert_eq!(far.reader.rest().unwrap(), Rest::Ready);

        assert_eq!(near.writer.rest().unwrap(), Rest::Asleep);
        let mut half = vec![0; capacity / 2];
        let (little, rest) = half.split_at_mut(1);
        let (count, bell) = (1, Bell::Silent);
        assert_eq!(
            far.reader.read(little).unwrap(),
            Read::Bytes { count, bell }
        );
        let (count, bell) = (capacity / 2 - 1, Bell::Ring);
        assert_eq!(far.reader.read(rest).unwrap(), Read::Bytes { count, bell });
        assert_eq!(near.writer.rest().unwrap(), Rest::Ready);
    }

    #[test]
    fn the_end_comes_behind_all_bytes_and_stays() {
        let (mut near, mut far, mapping) = pipes();
        assert!(matches!(
            near.writer.write(b"last"),
            Ok(Written::Bytes { .. })
        ));
        assert_eq!(far.reader.read(&mut []).unwrap(), Read::Empty);
        assert_eq!(far.reader.readable(), 4);
        assert_eq!(near.writer.finish(), Bell::Silent);
        assert!(near.writer.is_finished());
        let mut got = [0; 8];
        assert!(matches!(
            far.reader.read(&mut got),
            Ok(Read::Bytes { count: 4, .. })
        ));
        assert_eq!(far.reader.read(&mut got).unwrap(), Read::End);
        let words = RingWords::new(mapping, Direction::ToAcceptor);
        words.store(Word::Tail, 100);
        assert_eq!(far.reader.read(&mut got).unwrap(), Read::End);
        assert_eq!(far.reader.rest().unwrap(), Rest::Ready);
    }

    #[test]
    fn positions_that_cannot_be_are_violations_and_move_nothing() {
        let (mut near, mut far, mapping) = pipes();
        let capacity = u64::from(crate::RING_BYTES_MIN);
        let words = RingWords::new(mapping, Direction::ToAcceptor);
        assert!(matches!(
            near.writer.write(b"four"),
            Ok(Written::Bytes { .. })
        ));
        let mut got = [0; 2];
        assert!(matches!(far.reader.read(&mut got), Ok(Read::Bytes { .. })));
        let mut more = [0; 100];
        for tail in [0, 3, capacity + 3, FINISHED - 1, FINISHED, u64::MAX] {
            words.store(Word::Tail, tail);
            assert!(far.reader.readable() as u64 <= capacity);
            let error = far.reader.read(&mut more).unwrap_err();
            assert!(error.to_string().contains("R-2.8"), "{error}");
            assert!(far.reader.rest().is_err());
        }
        words.store(Word::Tail, capacity + 2);
        assert!(matches!(far.reader.read(&mut more), Ok(Read::Bytes { .. })));

        let full = bytes(capacity as usize);
        for head in [5, capacity, u64::MAX] {
            words.store(Word::Head, head);
            let error = near.writer.write(&full).unwrap_err();
            assert!(error.to_string().contains("R-2.8"), "{error}");
            assert!(near.writer.rest().is_err());
        }
        words.store(Word::Head, 2);
        assert!(matches!(
            near.writer.write(&full),
            Ok(Written::Bytes { count, .. }) if count as u64 == capacity - 2
        ));
        words.store(Word::Head, 1);
        assert!(near.writer.rest().is_err(), "the reader went back");
    }
}
