//! The reader's half of a ring: positions and sleep, without the bytes.

use crate::error::Violation;
use crate::words::{Bell, FINISHED, Rest, Word, Words, wake};

/// Knows where to read next, and how much.
#[derive(Debug)]
pub(crate) struct Consumer<W> {
    words: W,
    capacity: u64,
    /// Bytes read. The shared head is a copy for the peer and is never read here.
    head: u64,
    /// The newest valid position of the writer. At least `head`, at most `head + capacity`.
    tail: u64,
    /// Whether `tail` is the last one.
    finished: bool,
    /// Whether the word of the resting reader may be set.
    rests: bool,
}

impl<W: Words> Consumer<W> {
    /// `capacity` is a power of two.
    pub(crate) const fn new(words: W, capacity: u64) -> Self {
        Self {
            words,
            capacity,
            head: 0,
            tail: 0,
            finished: false,
            rests: false,
        }
    }

    /// Whether everything was read that will ever be written, as far as was looked.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.finished && self.head == self.tail
    }

    /// Where the next byte lies in the ring.
    pub(crate) const fn offset(&self) -> u64 {
        self.head & (self.capacity - 1)
    }

    /// How many of `wanted` bytes can be read now.
    pub(crate) fn available(&mut self, wanted: u64) -> Result<u64, Violation> {
        // The writer's line is looked at only when what is known of it does not suffice.
        if self.filled() < wanted {
            self.look()?;
        }
        let available = self.filled().min(wanted);
        if available > 0 || self.finished {
            self.rise();
        }
        Ok(available)
    }

    /// How many bytes the writer says are there, as far as that can be.
    pub(crate) fn readable(&self) -> u64 {
        let tail = self.words.load(Word::Tail) & !FINISHED;
        tail.saturating_sub(self.head).min(self.capacity)
    }

    /// Gives the room of `count` bytes, which have been copied, back to the writer.
    pub(crate) fn release(&mut self, count: u64) -> Bell {
        debug_assert!(count <= self.filled());
        self.head += count;
        self.words.store(Word::Head, self.head);
        // Either the writer sees the new head before it sleeps, or this sees that it sleeps.
        self.words.fence();
        // A writer that sleeps is woken for half a ring, not for each small read. It is never
        // forgotten: a reader that goes on reading comes to half a ring.
        if self.filled() <= self.capacity / 2 {
            wake(&self.words, Word::WriterRests)
        } else {
            Bell::Silent
        }
    }

    /// Tells the writer that this side sleeps until there are bytes.
    pub(crate) fn rest(&mut self) -> Result<Rest, Violation> {
        self.words.store(Word::ReaderRests, 1);
        self.rests = true;
        // Either this load sees bytes that the writer has shown, or the writer sees the word.
        self.words.fence();
        self.look()?;
        if self.filled() == 0 && !self.finished {
            return Ok(Rest::Asleep);
        }
        self.rise();
        Ok(Rest::Ready)
    }

    /// Takes [`rest`](Self::rest) back.
    pub(crate) fn rise(&mut self) {
        if std::mem::take(&mut self.rests) {
            self.words.store(Word::ReaderRests, 0);
        }
    }

    const fn filled(&self) -> u64 {
        self.tail - self.head
    }

    fn look(&mut self) -> Result<(), Violation> {
        // What comes after the end is nothing to this side.
        if self.finished {
            return Ok(());
        }
        let word = self.words.load(Word::Tail);
        let tail = word & !FINISHED;
        if tail < self.tail || tail - self.head > self.capacity {
            return Err(Violation::Tail {
                tail,
                seen: self.tail,
                head: self.head,
                capacity: self.capacity,
            });
        }
        self.tail = tail;
        self.finished = word != tail;
        Ok(())
    }
}
