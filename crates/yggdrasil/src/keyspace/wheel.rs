//! When keys end: a hierarchical timer wheel.

use std::mem;

/// A key by its hash, and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timer {
    pub(super) hash: u64,
    pub(super) at_ms: u64,
}

/// Timers by the millisecond: 64 slots of 1 ms, 64 of 64 ms and so on, 4 levels; what is further
/// away than 4.6 hours waits in a list of its own. Adding one takes the same time however many there
/// are (Varghese and Lauck, Hashed and Hierarchical Timing Wheels, 1987).
///
/// A key whose end changes gets another timer; whoever is told of the older one sees that it is not
/// meant.
#[derive(Debug, Default)]
pub(super) struct Wheel {
    now_ms: u64,
    levels: [Level; LEVELS],
    far: Vec<Timer>,
    len: usize,
}

const LEVELS: usize = 4;
const BITS: u32 = 6;
const SLOTS: u64 = 1 << BITS;
const REACH: u64 = 1 << (BITS * LEVELS as u32);

#[derive(Debug, Default)]
struct Level {
    /// A bit for each slot that has timers.
    occupied: u64,
    /// Empty until there is a timer.
    slots: Vec<Vec<Timer>>,
}

impl Wheel {
    /// Timers in it, also those that are not meant any more.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        let now_ms = self.now_ms;
        *self = Self {
            now_ms,
            ..Self::default()
        };
    }

    /// Adds a timer. One whose time has come rings with the next [`advance`](Self::advance).
    pub(super) fn add(&mut self, timer: Timer) {
        self.len += 1;
        self.place(timer);
    }

    fn place(&mut self, timer: Timer) {
        let at_ms = timer.at_ms.max(self.now_ms + 1);
        let differs = at_ms ^ self.now_ms;
        let level = (u64::BITS - 1 - differs.leading_zeros()) / BITS;
        let slot = at_ms >> (BITS * level) & (SLOTS - 1);
        match self.levels.get_mut(level as usize) {
            Some(level) => level.push(slot, timer),
            None => self.far.push(timer),
        }
    }

    /// Goes on to `now_ms` and tells which timers have rung.
    pub(super) fn advance(&mut self, now_ms: u64, mut rung: impl FnMut(Timer)) {
        while let Some((level, mut at_ms)) = self.next().filter(|(_, at_ms)| *at_ms <= now_ms) {
            if level == LEVELS {
                // No level has anything, so turns in which nothing rings are passed at once: a wheel that
                // begins at 0 has a hundred thousand of them before it.
                at_ms = now_ms / REACH * REACH;
            }
            self.now_ms = at_ms;
            let timers = match self.levels.get_mut(level) {
                Some(found) => found.take(at_ms >> (BITS * level as u32) & (SLOTS - 1)),
                None => mem::take(&mut self.far),
            };
            for timer in timers {
                if timer.at_ms <= at_ms {
                    self.len -= 1;
                    rung(timer);
                } else {
                    self.place(timer);
                }
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// The level whose turn is next, and when. Lower levels come before higher ones: their slots
    /// lie before the next slot of the higher.
    fn next(&self) -> Option<(usize, u64)> {
        let levels = self.levels.iter().zip(0..);
        let found = levels.filter_map(|(level, number)| {
            let at_ms = level.next(self.now_ms, BITS * number)?;
            Some((number as usize, at_ms))
        });
        let far = (!self.far.is_empty()).then(|| (LEVELS, (self.now_ms / REACH + 1) * REACH));
        found.chain(far).min_by_key(|(_, at_ms)| *at_ms)
    }
}

impl Level {
    fn push(&mut self, slot: u64, timer: Timer) {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS as usize, Vec::new);
        }
        self.occupied |= 1 << slot;
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.push(timer);
        }
    }

    fn take(&mut self, slot: u64) -> Vec<Timer> {
        self.occupied &= !(1 << slot);
        let slot = self.slots.get_mut(slot as usize);
        slot.map(mem::take).unwrap_or_default()
    }

    /// When the next slot with timers begins; slots are `1 << shift` ms long.
    fn next(&self, now_ms: u64, shift: u32) -> Option<u64> {
        let slot = now_ms >> shift & (SLOTS - 1);
        // Slots up to the present one are of this turn only where they are still to come.
        let later = self.occupied & u64::MAX.checked_shl(slot as u32 + 1).unwrap_or(0);
        let turn = now_ms >> shift >> BITS << BITS;
        (later != 0).then(|| (turn + u64::from(later.trailing_zeros())) << shift)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_turn_is_a_step_however_late_it_is() {
        let mut wheel = Wheel::default();
        let now_ms = 1 << 60;
        for at_ms in [now_ms - 5, now_ms, now_ms + 5, now_ms + 3 * REACH] {
            wheel.add(Timer { hash: 0, at_ms });
        }
        let mut rung = Vec::new();
        wheel.advance(now_ms, |timer| rung.push(timer.at_ms));
        assert_eq!(rung, [now_ms - 5, now_ms]);
        wheel.advance(now_ms + 4 * REACH, |timer| rung.push(timer.at_ms));
        assert_eq!(rung[2..], [now_ms + 5, now_ms + 3 * REACH]);
        assert_eq!(wheel.len(), 0);
    }

    proptest! {
        #[test]
        fn timers_ring_once_and_in_time(
            start in 0..1_u64 << 40,
            after in proptest::collection::vec(prop_oneof![0..100_u64, 0..100_000_u64, 0..1_u64 << 30, 0..1_u64 << 44], 0..100),
            steps in proptest::collection::vec(prop_oneof![0..100_u64, 0..100_000_u64, 0..1_u64 << 29, 0..1_u64 << 44], 1..60),
        ) {
            let mut wheel = Wheel::default();
            wheel.advance(start, |_| ());
            let mut waiting = Vec::new();
            let (mut now_ms, mut after) = (start, after.into_iter().zip(0..));
            for step in steps {
                for (after, hash) in after.by_ref().take(3) {
                    let timer = Timer { hash, at_ms: now_ms + after };
                    wheel.add(timer);
                    waiting.push(timer);
                }
                now_ms += step;
                let mut rung = Vec::new();
                wheel.advance(now_ms, |timer| rung.push(timer));
                // What is due at once rings a tick later.
                let due = |timer: &Timer| timer.at_ms <= now_ms && (step > 0 || rung.contains(timer));
                let mut expected: Vec<_> = waiting.iter().copied().filter(due).collect();
                waiting.retain(|timer| !rung.contains(timer));
                expected.sort_by_key(|timer| timer.hash);
                rung.sort_by_key(|timer| timer.hash);
                prop_assert_eq!(rung, expected);
                prop_assert_eq!(wheel.len(), waiting.len());
            }
        }
    }
}
