//! What goes when memory is used up.

use super::entry::Entry;
use super::table::Table;

/// Which keys may make room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Eviction {
    /// None: writes are refused.
    #[default]
    Never,
    /// Any that is used little.
    AnyKey,
    /// One that is used little and would end anyway.
    WithEnd,
}

/// Entries that are looked at to find one that is used little: of so many, the one that is used least
/// is among the lower quarter of all with 90 % (1 - 0.75^8).
const SAMPLE: usize = 8;
/// Places of the table that are looked at for them; a few are free, and many keys may have no end.
const PLACES_MAX: usize = 256;

/// How much may be kept.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// 0 is without a limit.
    pub(super) limit_bytes: usize,
    pub(super) eviction: Eviction,
    chance: u64,
}

impl Memory {
    pub(super) const fn new(limit_bytes: usize, eviction: Eviction) -> Self {
        Self {
            limit_bytes,
            eviction,
            chance: 0,
        }
    }

    /// An entry was used.
    #[inline]
    pub(super) fn used(&mut self, entry: &mut Entry, now_ms: u64) {
        // Only who evicts needs to know; nobody else pays for a write to each entry that is read.
        if self.limit_bytes != 0 && self.eviction != Eviction::Never {
            entry.touch(now_ms, next(&mut self.chance));
        }
    }

    /// The place of an entry that may go.
    pub(super) fn victim(&mut self, table: &Table, now_ms: u64) -> Option<usize> {
        if self.eviction == Eviction::Never || table.is_empty() {
            return None;
        }
        let places = table.places();
        let may_go = |index: usize| {
            let entry = table.at(index)?;
            let allowed = self.eviction == Eviction::AnyKey || entry.end_ms().is_some();
            allowed.then(|| (index, entry.uses(now_ms)))
        };
        // Each place is chosen by itself: of neighbours those behind a gap would go first, and gaps
        // would grow.
        let mut chance = self.chance;
        let chosen = (0..PLACES_MAX).filter_map(|_| may_go(next(&mut chance) as usize % places));
        let least = chosen.take(SAMPLE).min_by_key(|(_, uses)| *uses);
        // Where chance finds none there may still be one.
        let found = least.or_else(|| (0..places).find_map(may_go));
        self.chance = chance;
        Some(found?.0)
    }
}

/// Any 64 bits, good enough to choose by (Steele and others, Fast Splittable Pseudorandom Number
/// Generators, 2014).
fn next(chance: &mut u64) -> u64 {
    *chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*chance ^ *chance >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
