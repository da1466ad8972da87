//! The four words that the two ends of a ring share.

/// One of the shared words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Bytes ever written, and [`FINISHED`]. Only the writer changes it.
    Tail = 0,
    /// Bytes ever read. Only the reader changes it.
    Head = 1,
    /// 1 while the reader sleeps, or is about to. Whoever wakes it sets it to 0.
    ReaderRests = 2,
    /// The same of the writer.
    WriterRests = 3,
}

/// Bit of the tail that says that nothing more will be written. Positions stay below it: at
/// 10 GB/s they would need 29 years to reach it.
pub(crate) const FINISHED: u64 = 1 << 63;

/// Access to the shared words.
///
/// A trait, so that the same code runs on shared memory and inside a model checker.
pub(crate) trait Words {
    /// Reads with acquire: what the peer did before it stored the value is visible after this.
    fn load(&self, word: Word) -> u64;
    /// Writes with release.
    fn store(&self, word: Word, value: u64);
    /// Sets a word that is 1 to 0 and tells whether it was 1.
    fn take(&self, word: Word) -> bool;
    /// A sequentially consistent fence: of two sides that each store, fence and load what the
    /// other stored, at least one sees the other's value.
    fn fence(&self);
}

/// Whether the peer sleeps and has to be woken through the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a peer that is not woken sleeps forever"]
pub enum Bell {
    /// Ring it now.
    Ring,
    /// It is awake.
    Silent,
}

/// What [`Reader::rest`](crate::Reader::rest) and [`Writer::rest`](crate::Writer::rest) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "there may be something to do"]
pub enum Rest {
    /// There is something to do; do not sleep.
    Ready,
    /// Nothing to do. The peer knows and will ring.
    Asleep,
}

/// Takes the word of a sleeper, if it is set.
pub(crate) fn wake(words: &impl Words, word: Word) -> Bell {
    // Reading first keeps the line shared in both caches as long as nobody sleeps.
    if words.load(word) == 1 && words.take(word) {
        Bell::Ring
    } else {
        Bell::Silent
    }
}
