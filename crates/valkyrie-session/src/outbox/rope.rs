//! Encoded frames in a row, some of their payloads where their owner put them.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use valkyrie_frame::limits::HEADER_BYTES;

use crate::limits::TRANSMIT_BYTES;

/// Capacity that an empty buffer may keep, and bytes given out that may stay in front of others.
const KEPT_BYTES: usize = 2 * TRANSMIT_BYTES;

/// Bytes between two places at which a frame is known to begin, at least: half a write.
const MARK_BYTES: usize = TRANSMIT_BYTES / 2;

/// Whole frames, first to last. Headers and short payloads lie in one buffer; a payload that is
/// shared with its owner is not copied, and lies between two parts of the buffer.
#[derive(Debug, Default)]
pub(crate) struct Rope {
    bytes: Vec<u8>,
    /// Bytes of `bytes` that were given out.
    head: usize,
    shared: VecDeque<Shared>,
    /// Bytes that wait, those of shared payloads included.
    len: usize,
    /// Bytes ever given out; counts on when the buffer begins anew.
    given: u64,
    /// Counts of bytes, as in `given`, at which a frame begins: some, far apart.
    marks: VecDeque<u64>,
}

/// The payload, or its end, of the frame whose other bytes end at `at`.
#[derive(Debug)]
struct Shared {
    /// Index into `bytes`.
    at: usize,
    /// Never empty.
    payload: Bytes,
}

/// Where one frame lies.
struct Extent {
    /// Bytes in `bytes`.
    inline: usize,
    /// All bytes.
    total: usize,
}

impl Rope {
    /// Bytes that wait.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is no buffer yet.
    #[inline]
    pub(crate) const fn is_bare(&self) -> bool {
        self.bytes.capacity() == 0
    }

    /// Bytes that fit without another buffer.
    pub(crate) const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Begins with an empty buffer of another rope.
    pub(crate) fn start_with(&mut self, buffer: Vec<u8>) {
        self.bytes = buffer;
    }

    /// Gives its buffer away, if nothing waits.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        match self.is_empty() {
            true => std::mem::take(&mut self.bytes),
            false => Vec::new(),
        }
    }

    /// Encodes behind what waits.
    #[inline]
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.len >= MARK_BYTES {
            self.mark();
        }
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.len += self.bytes.len() - before;
    }

    /// Notes that a frame begins behind what waits, if that is far enough from the last one noted.
    fn mark(&mut self) {
        let here = self.given + self.len as u64;
        let last = self.marks.back().copied().unwrap_or(self.given);
        if here - last >= MARK_BYTES as u64 {
            self.marks.push_back(here);
        }
    }

    /// Ends the frame encoded last with `payload`, without a copy.
    pub(crate) fn append_shared(&mut self, payload: Bytes) {
        if !payload.is_empty() {
            self.len += payload.len();
            let at = self.bytes.len();
            self.shared.push_back(Shared { at, payload });
        }
    }

    /// Length of the whole frames in front that fit `room`, at least one.
    pub(crate) fn run(&self, room: usize) -> usize {
        if self.len <= room {
            return self.len;
        }
        let marks = self.marks.iter().map(|mark| (mark - self.given) as usize);
        if let Some(mark) = marks.take_while(|mark| *mark <= room).last() {
            return mark;
        }
        let mut shared = self.shared.iter().peekable();
        let (mut at, mut run) = (self.head, 0);
        while at < self.bytes.len() {
            let frame = self.extent(at, shared.peek().copied());
            if run > 0 && run + frame.total > room {
                break;
            }
            if frame.inline < frame.total {
                shared.next();
            }
            at += frame.inline;
            run += frame.total;
        }
        run
    }

    /// The frame that begins at `at`; `next` is the first shared payload behind `at`.
    #[inline]
    fn extent(&self, at: usize, next: Option<&Shared>) -> Extent {
        let length = self.bytes.get(at + 12..).and_then(<[u8]>::first_chunk::<4>);
        let payload = length.map_or(0, |length| u32::from_be_bytes(*length) as usize);
        let total = HEADER_BYTES + payload;
        // Another frame's payload lies at least a header behind this frame's end.
        let inline = next
            .filter(|shared| shared.at < at + total)
            .map_or(total, |shared| shared.at - at);
        Extent { inline, total }
    }

    /// Names the first `limit` bytes in as many of `slices` as it takes, and there are; returns
    /// how many are used.
    pub(crate) fn slices<'a>(&'a self, mut limit: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut at, mut used) = (self.head, 0);
        let mut put = |bytes: &'a [u8], limit: &mut usize| {
            let bytes = bytes.get(..*limit).unwrap_or(bytes);
            if bytes.is_empty() {
                return true;
            }
            let Some(slot) = slices.get_mut(used) else {
                return false;
            };
            *slot = IoSlice::new(bytes);
            *limit -= bytes.len();
            used += 1;
            true
        };
        for shared in &self.shared {
            let before = self.bytes.get(at..shared.at).unwrap_or_default();
            if limit == 0 || !put(before, &mut limit) || !put(&shared.payload, &mut limit) {
                return used;
            }
            at = shared.at;
        }
        put(self.bytes.get(at..).unwrap_or_default(), &mut limit);
        used
    }

    /// Forgets the first `count` bytes: they were given out.
    pub(crate) fn advance(&mut self, mut count: usize) {
        self.len -= count;
        self.given += count as u64;
        while count > 0 {
            match self.shared.front_mut() {
                Some(shared) if shared.at == self.head => {
                    let taken = count.min(shared.payload.len());
                    shared.payload.advance(taken);
                    count -= taken;
                    if shared.payload.is_empty() {
                        self.shared.pop_front();
                    }
                }
                next => {
                    let end = next.map_or(self.bytes.len(), |shared| shared.at);
                    let taken = count.min(end - self.head);
                    assert!(taken > 0, "no more is given out than waits");
                    self.head += taken;
                    count -= taken;
                }
            }
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        while self.marks.front().is_some_and(|mark| *mark <= self.given) {
            self.marks.pop_front();
        }
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
            self.head = 0;
        } else if self.head > KEPT_BYTES.max(self.bytes.len() / 2) {
            // A queue that never runs dry would keep every byte it ever sent. Less is moved than
            // was given out since the last time.
            self.bytes.drain(..self.head);
            for shared in &mut self.shared {
                shared.at -= self.head;
            }
            self.head = 0;
        }
    }

    /// Moves the first frame behind what waits in `to`. Nothing of it may have been given out.
    pub(crate) fn move_first(&mut self, to: &mut Self) -> usize {
        let frame = self.extent(self.head, self.shared.front());
        let inline = self.bytes.get(self.head..self.head + frame.inline);
        to.append(|out| out.extend_from_slice(inline.unwrap_or_default()));
        self.head += frame.inline;
        self.len -= frame.total;
        self.given += frame.total as u64;
        if frame.inline < frame.total
            && let Some(shared) = self.shared.pop_front()
        {
            to.append_shared(shared.payload);
        }
        self.tidy();
        frame.total
    }

    /// Copies the first `count` bytes behind what waits in `to`, of which nothing but
    /// [`slices`](Self::slices) is asked then.
    pub(crate) fn copy(&self, count: usize, to: &mut Self) {
        let mut left = count;
        let mut put = |bytes: &[u8]| {
            let bytes = bytes.get(..left).unwrap_or(bytes);
            to.append(|out| out.extend_from_slice(bytes));
            left -= bytes.len();
        };
        let mut at = self.head;
        for shared in &self.shared {
            put(self.bytes.get(at..shared.at).unwrap_or_default());
            put(&shared.payload);
            at = shared.at;
        }
        put(self.bytes.get(at..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use valkyrie_frame::{Header, MessageType, StreamId};

    use super::*;

    /// Two frames with their payload inline around one whose payload is shared.
    fn rope() -> (Rope, Vec<u8>) {
        let (mut rope, mut plain) = (Rope::default(), Vec::new());
        for (body, inline) in [
            (vec![1; 10], true),
            (vec![2; 50], false),
            (vec![3; 5], true),
        ] {
            let header = Header::new(MessageType::STREAM_DATA, StreamId(1001), body.len() as u32);
            header.append(&mut plain);
            plain.extend_from_slice(&body);
            rope.append(|out| header.append(out));
            match inline {
                true => rope.append(|out| out.extend_from_slice(&body)),
                false => rope.append_shared(Bytes::from(body)),
            }
        }
        (rope, plain)
    }

    fn bytes(rope: &Rope, limit: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let used = rope.slices(limit, &mut slices);
        slices[..used]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    #[test]
    fn every_way_to_cut_it_gives_the_same_bytes() {
        let (_, plain) = rope();
        for cut in 0..=plain.len() {
            let (mut rope, _) = rope();
            assert_eq!(bytes(&rope, cut), plain[..cut]);
            rope.advance(cut);
            assert_eq!(bytes(&rope, usize::MAX), plain[cut..]);
            assert_eq!(rope.len(), plain.len() - cut);
            let (half, mut copy) = (rope.len() / 2, Rope::default());
            rope.copy(half, &mut copy);
            assert_eq!(bytes(&copy, usize::MAX), plain[cut..cut + half]);
            rope.advance(rope.len());
            assert!(rope.is_empty());
        }
    }

    #[test]
    fn frames_are_counted_and_moved_whole() {
        let (mut rope, plain) = rope();
        assert_eq!(
            [rope.run(0), rope.run(34 + 73), rope.run(34 + 74)],
            [34, 34, 108]
        );
        assert_eq!(rope.run(usize::MAX), plain.len());
        let mut to = Rope::default();
        let moved = [0; 3].map(|_| rope.move_first(&mut to));
        assert_eq!(moved, [34, 74, 29]);
        assert!(rope.is_empty());
        assert_eq!(bytes(&to, usize::MAX), plain);
    }

    #[test]
    fn runs_of_many_frames_end_between_two_of_them() {
        let mut rope = Rope::default();
        for _ in 0..5000 {
            rope.append(|out| {
                Header::new(MessageType::STREAM_DATA, StreamId(1001), 64).append(out);
                out.resize(out.len() + 64, 0);
            });
        }
        while !rope.is_empty() {
            let run = rope.run(TRANSMIT_BYTES);
            assert!(run <= TRANSMIT_BYTES && run % 88 == 0);
            assert!(run > TRANSMIT_BYTES / 2 - 88 || run == rope.len());
            rope.advance(run);
        }
    }

    #[test]
    fn few_slices_give_the_beginning() {
        let (rope, plain) = rope();
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(rope.slices(usize::MAX, &mut slices), 2);
        assert_eq!([&slices[0][..], &slices[1][..]].concat(), plain[..34 + 74]);
    }

    #[test]
    fn what_never_runs_dry_keeps_only_what_waits() {
        let mut rope = Rope::default();
        let frame = |rope: &mut Rope, bytes: u32| {
            rope.append(|out| {
                Header::new(MessageType::STREAM_DATA, StreamId(1001), bytes).append(out);
                out.resize(out.len() + bytes as usize, 0);
            });
        };
        frame(&mut rope, 200_000);
        for _ in 0..500 {
            frame(&mut rope, 40_000);
            rope.advance(rope.run(0));
        }
        assert!(rope.bytes.len() <= 2 * rope.len() + 2 * KEPT_BYTES);
    }
}
