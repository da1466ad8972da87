//! How long calls take, measured on some of them.

use std::mem;
use std::time::Duration;

use valkyrie_frame::{Correlation, Time};

/// One use of each correlation slot in so many is measured, beginning with the first: looking at
/// every call would cost a busy link a part of its calls.
const ONE_IN: u32 = 64;
/// Measured times kept until they are taken.
const KEPT: usize = 256;

/// Calls that are being measured, and times that were.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    /// When each call was sent.
    open: Vec<(Correlation, Time)>,
    done: Vec<Duration>,
}

impl Latencies {
    /// Whether a call is one of those that are measured.
    #[inline]
    pub(crate) const fn wants(call: Correlation) -> bool {
        call.generation() % ONE_IN == 1
    }

    pub(crate) fn begin(&mut self, call: Correlation, now: Time) {
        // An earlier user of the slot may have been canceled.
        self.open.retain(|(other, _)| other.slot() != call.slot());
        self.open.push((call, now));
    }

    pub(crate) fn end(&mut self, call: Correlation, now: Time) {
        let place = self.open.iter().position(|(other, _)| *other == call);
        let Some(place) = place else { return };
        let (_, sent) = self.open.swap_remove(place);
        if self.done.len() < KEPT {
            self.done.push(now.saturating_since(sent));
        }
    }

    /// The times measured since the last time.
    pub(crate) fn take(&mut self) -> Vec<Duration> {
        mem::take(&mut self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_use_of_a_slot_and_one_in_so_many_are_measured() {
        let mut call = Correlation::first(7).unwrap();
        let mut latencies = Latencies::default();
        for use_of_slot in 0..130_u64 {
            let measured = use_of_slot % 64 == 0;
            assert_eq!(Latencies::wants(call), measured);
            if measured {
                latencies.begin(call, Time::from_nanos(use_of_slot));
                latencies.end(call, Time::from_nanos(use_of_slot + 50));
            }
            call = call.next();
        }
        assert_eq!(latencies.take(), [Duration::from_nanos(50); 3]);
        assert!(latencies.take().is_empty() && latencies.open.is_empty());
    }

    #[test]
    fn a_call_that_was_canceled_is_forgotten_with_its_slot() {
        let call = Correlation::first(7).unwrap();
        let mut latencies = Latencies::default();
        latencies.begin(call, Time::ZERO);
        let mut later = call;
        (0..64).for_each(|_| later = later.next());
        latencies.begin(later, Time::ZERO);
        latencies.end(call, Time::from_nanos(9));
        assert!(latencies.take().is_empty());
    }
}
