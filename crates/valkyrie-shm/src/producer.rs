//! The writer's half of a ring: positions and sleep, without the bytes.

use crate::error::Violation;
use crate::words::{Bell, FINISHED, Rest, Word, Words, wake};

/// Knows where to write next, and how much.
#[derive(Debug)]
pub(crate) struct Producer<W> {
    words: W,
    capacity: u64,
    /// Bytes written. The shared tail is a copy for the peer and is never read here.
    tail: u64,
    /// The newest valid position of the reader. At most `tail`, at least `tail - capacity`.
    head: u64,
    /// 0, or [`FINISHED`].
    end: u64,
    /// Whether the word of the resting writer may be set.
    rests: bool,
}

impl<W: Words> Producer<W> {
    /// `capacity` is a power of two.
    pub(crate) const fn new(words: W, capacity: u64) -> Self {
        Self {
            words,
            capacity,
            tail: 0,
            head: 0,
            end: 0,
            rests: false,
        }
    }

    pub(crate) const fn is_finished(&self) -> bool {
        self.end != 0
    }

    /// Where the next byte goes in the ring.
    pub(crate) const fn offset(&self) -> u64 {
        self.tail & (self.capacity - 1)
    }

    /// How many of `wanted` bytes can be written now.
    pub(crate) fn room(&mut self, wanted: u64) -> Result<u64, Violation> {
        // The reader's line is looked at only when what is known of it does not suffice.
        if self.free() < wanted {
            self.look()?;
        }
        let room = self.free().min(wanted);
        if room > 0 {
            self.rise();
        }
        Ok(room)
    }

    /// Shows the reader `count` more bytes, which lie in the ring.
    pub(crate) fn commit(&mut self, count: u64) -> Bell {
        debug_assert!(count <= self.free());
        self.tail += count;
        self.publish()
    }

    /// Shows the reader that nothing more will come.
    pub(crate) fn finish(&mut self) -> Bell {
        if self.is_finished() {
            return Bell::Silent;
        }
        self.end = FINISHED;
        self.publish()
    }

    /// Tells the reader that this side sleeps until there is room.
    pub(crate) fn rest(&mut self) -> Result<Rest, Violation> {
        self.words.store(Word::WriterRests, 1);
        self.rests = true;
        // Either this load sees room that the reader made, or the reader sees the word.
        self.words.fence();
        self.look()?;
        if self.free() == 0 {
            return Ok(Rest::Asleep);
        }
        self.rise();
        Ok(Rest::Ready)
    }

    fn publish(&mut self) -> Bell {
        self.words.store(Word::Tail, self.tail | self.end);
        // Either the reader sees the new tail before it sleeps, or this sees that it sleeps.
        self.words.fence();
        wake(&self.words, Word::ReaderRests)
    }

    fn rise(&mut self) {
        if std::mem::take(&mut self.rests) {
            self.words.store(Word::WriterRests, 0);
        }
    }

    const fn free(&self) -> u64 {
        self.capacity - (self.tail - self.head)
    }

    fn look(&mut self) -> Result<(), Violation> {
        let head = self.words.load(Word::Head);
        if head < self.head || head > self.tail {
            return Err(Violation::Head {
                head,
                seen: self.head,
                tail: self.tail,
            });
        }
        self.head = head;
        Ok(())
    }
}
