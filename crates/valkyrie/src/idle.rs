//! What a shard does when nothing is to be done: park, or look again for a short while.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// What a shard does when nothing is to be done.
///
/// Waking a parked thread takes longer than everything else about a message, on virtual machines
/// ten times as long. A thread that keeps looking answers at once, and takes its core for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Idle {
    /// Sleeps until the kernel has something. The default: an idle shard costs nothing.
    #[default]
    Park,
    /// Looks again for up to 50 us after each read, while that pays: each time it sees more counts
    /// one for it, each time it does not four against. A shard for which it does not pay, such as one that shares its core with
    /// its peer, tries again once in a while.
    LowLatency,
}

/// How long a spin lasts after the last read.
const SPIN: Duration = Duration::from_micros(50);
/// What a spin that saw nothing costs, in spins that did.
const MISS: i32 = 4;
/// Highest score: four spins in vain end the spinning, however long it has paid.
const SCORE_MAX: i32 = 16;
/// Once in as many parks a spin is tried though it has not paid.
const PROBE_EVERY: u32 = 1024;

/// The spinner of a shard.
struct Spinner {
    /// Wakes it where it waits for a read.
    waker: Option<Waker>,
    /// Reads so far.
    reads: u64,
    score: i32,
    parks: u32,
    spinning: bool,
}

impl Spinner {
    const fn new() -> Self {
        Self {
            waker: None,
            reads: 0,
            score: SCORE_MAX / 2,
            parks: 0,
            spinning: false,
        }
    }

    /// Whether to spin after this read.
    const fn wants(&mut self) -> bool {
        if self.score > 0 {
            return true;
        }
        self.parks = (self.parks + 1) % PROBE_EVERY;
        self.parks == 0
    }
}

thread_local! {
    static SPINNER: RefCell<Option<Spinner>> = const { RefCell::new(None) };
}

/// A connection of this shard has read something.
pub(crate) fn note_read() {
    SPINNER.with_borrow_mut(|spinner| {
        let Some(spinner) = spinner else { return };
        spinner.reads += 1;
        if spinner.waker.is_some()
            && spinner.wants()
            && let Some(waker) = spinner.waker.take()
        {
            waker.wake();
        }
    });
}

/// Whether this shard looks again instead of sleeping.
pub(crate) fn is_spinning() -> bool {
    SPINNER.with_borrow(|spinner| spinner.as_ref().is_some_and(|spinner| spinner.spinning))
}

/// Spins on this shard for as long as the future lives.
pub(crate) async fn spin() {
    SPINNER.set(Some(Spinner::new()));
    let _end = EndOnDrop;
    loop {
        wait_for_read().await;
        let mut seen = with(|spinner| {
            spinner.spinning = true;
            spinner.reads
        });
        let mut since = Instant::now();
        while since.elapsed() < SPIN {
            // Comes back when the runtime has asked the kernel, without waiting, what there is.
            yield_now().await;
            let reads = with(|spinner| spinner.reads);
            if reads != seen {
                seen = reads;
                since = Instant::now();
                with(|spinner| spinner.score = (spinner.score + 1).min(SCORE_MAX));
            }
        }
        with(|spinner| {
            spinner.spinning = false;
            spinner.score = (spinner.score - MISS).max(0);
        });
    }
}

/// Waits for a read after which to spin.
async fn wait_for_read() {
    let mut waiting = false;
    poll_fn(|cx| {
        with(|spinner| match waiting && spinner.waker.is_none() {
            true => Poll::Ready(()),
            false => {
                waiting = true;
                spinner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    })
    .await;
}

fn with<T>(act: impl FnOnce(&mut Spinner) -> T) -> T {
    SPINNER.with_borrow_mut(|spinner| act(spinner.get_or_insert(Spinner::new())))
}

struct EndOnDrop;

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        SPINNER.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_that_does_not_pay_is_only_probed() {
        let mut spinner = Spinner::new();
        spinner.score = 0;
        let spins = (0..2 * PROBE_EVERY).filter(|_| spinner.wants()).count();
        assert_eq!(spins, 2);
        spinner.score = 1;
        assert!(spinner.wants());
    }
}
