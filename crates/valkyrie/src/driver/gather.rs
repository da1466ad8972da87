//! Waiting for the rest of a long frame.

use std::time::Duration;

use valkyrie_frame::Time;

/// Most bytes to wait for at once; more would keep a reader idle that could make room already.
const GATHERED_MAX: usize = 256 * 1024;
/// How often the shard looks for them before it sleeps: about 100 us.
const LOOKS_MAX: u32 = 100;

/// Longest wait for them. A way that brings small segments fills the kernel's buffer with less, and
/// its sender would only try again when a timer of the kernel's rings.
const GATHER_TIME: Duration = Duration::from_millis(2);

/// What was waited for so far.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// How often the rest of a frame was looked for.
    looks: u32,
    /// How long its bytes are gathered.
    until: Option<Time>,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again soon: the bytes are about to come, and one read of all of them costs less than
    /// several. Sleeping until then would cost their sender a wake-up.
    Look,
    /// Read what is there; where nothing is, wait for so much.
    Read(Mark),
}

/// How much has to have come before the kernel wakes the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// So many bytes.
    Is(usize),
    /// What it is, but no more than so many bytes. A read that finds a part of what it waits for
    /// leaves the mark of all of it behind, which the rest would never reach.
    AtMost(usize),
}

impl Gather {
    /// Decides for a frame of which so many bytes have not been read, 0 outside of a long one.
    /// `readable` is what has come of them and of what follows.
    pub(super) fn next(
        &mut self,
        expected: usize,
        readable: impl FnOnce() -> usize,
        now: Time,
    ) -> Next {
        let wanted = expected.min(GATHERED_MAX);
        if wanted == 0 {
            *self = Self::default();
            // Or a short frame behind the long one would never wake the reader.
            return Next::Read(Mark::Is(1));
        }
        if readable() >= wanted {
            self.looks = 0;
            return Next::Read(Mark::AtMost(wanted));
        }
        if self.looks < LOOKS_MAX {
            self.looks += 1;
            return Next::Look;
        }
        let until = *self.until.get_or_insert(now + GATHER_TIME);
        Next::Read(Mark::Is(if now < until { wanted } else { 1 }))
    }

    /// When to look again although the kernel is silent.
    pub(super) fn deadline(&self, now: Time) -> Option<Time> {
        self.until.filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel has for a reader, and whether it has told it.
    struct Kernel {
        mark: usize,
        readable: usize,
        told: bool,
    }

    impl Kernel {
        fn tell(&mut self) {
            self.told |= self.readable >= self.mark;
        }

        fn set(&mut self, mark: Mark) {
            let before = self.mark;
            self.mark = match mark {
                Mark::Is(mark) => mark,
                Mark::AtMost(most) => before.min(most),
            };
            if self.mark != before {
                self.tell();
            }
        }
    }

    /// Bytes come in pieces and are read in pieces, at any moment of the waiting.
    #[test]
    fn nobody_sleeps_over_the_end_of_a_frame() {
        let mut random = 1_u64;
        let mut below = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize % bound
        };
        let mut now = Time::from_nanos(0);
        let (mut gather, mut waited) = (Gather::default(), 0);
        for _ in 0..3_000 {
            let frame = 1 + below(300_000);
            let (mut sent, mut read) = (0, 0);
            let mut kernel = Kernel {
                mark: 1,
                readable: 0,
                told: false,
            };
            while read < frame {
                if below(120) == 0 && sent < frame {
                    let piece = (1 + below(80_000)).min(frame - sent);
                    sent += piece;
                    kernel.readable += piece;
                    kernel.tell();
                }
                now = now + Duration::from_micros(below(5) as u64);
                let next = gather.next(frame - read, || kernel.readable, now);
                let Next::Read(mark) = next else {
                    continue;
                };
                kernel.set(mark);
                if kernel.told {
                    // What it leaves comes behind the read.
                    let count = 1 + below(kernel.readable);
                    kernel.readable -= count;
                    read += count;
                    kernel.told = false;
                    kernel.tell();
                } else {
                    let (left, mark) = (frame - read, kernel.mark);
                    assert!(
                        sent < frame,
                        "{left} bytes are left, and the mark is {mark}"
                    );
                    waited += 1;
                }
            }
            assert_eq!(gather.next(0, || 0, now), Next::Read(Mark::Is(1)));
        }
        assert!(waited > 1_000, "{waited}");
    }

    #[test]
    fn bytes_that_are_about_to_come_are_waited_for() {
        let (mut gather, now) = (Gather::default(), Time::from_nanos(5));
        for _ in 0..LOOKS_MAX {
            assert_eq!(gather.next(1000, || 10, now), Next::Look);
        }
        let all = Next::Read(Mark::Is(1000));
        assert_eq!(gather.next(1000, || 10, now), all);
        let late = now + GATHER_TIME;
        assert_eq!(gather.deadline(now), Some(late));
        assert_eq!(gather.next(1000, || 10, late), Next::Read(Mark::Is(1)));
        assert_eq!(gather.deadline(late), None);
        let most = gather.next(1 << 30, || GATHERED_MAX, late);
        assert_eq!(most, Next::Read(Mark::AtMost(GATHERED_MAX)));
    }
}
