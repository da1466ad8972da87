//! Correlation ids.

use std::fmt;

/// Ties an answer to its request: a 20-bit generation above a 12-bit slot; 0 is none.
///
/// The side that sends a request chooses the value; the other side only copies it. Slot and
/// generation make the way back a table look-up that notices a late answer.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Correlation(pub u32);

impl Correlation {
    /// The frame has no correlation.
    pub const NONE: Self = Self(0);
    /// Slots are below this: the most requests that can be open at once.
    pub const SLOTS: u16 = 1 << 12;
    /// The last generation; [`next`](Self::next) continues with 1.
    pub const GENERATION_MAX: u32 = (1 << 20) - 1;

    /// The first correlation of a slot; `None` if the slot is not below [`SLOTS`](Self::SLOTS).
    #[must_use]
    pub const fn first(slot: u16) -> Option<Self> {
        if slot < Self::SLOTS {
            Some(Self(1 << 12 | slot as u32))
        } else {
            None
        }
    }

    /// The correlation with this generation (1..=[`GENERATION_MAX`](Self::GENERATION_MAX)) and
    /// slot; `None` outside the ranges.
    #[must_use]
    pub const fn new(generation: u32, slot: u16) -> Option<Self> {
        if generation == 0 || generation > Self::GENERATION_MAX || slot >= Self::SLOTS {
            return None;
        }
        Some(Self(generation << 12 | slot as u32))
    }

    /// The same slot in the next generation.
    #[must_use]
    pub const fn next(self) -> Self {
        let generation = match self.generation() {
            Self::GENERATION_MAX => 1,
            generation => generation + 1,
        };
        Self(generation << 12 | self.slot() as u32)
    }

    /// The generation, 0 in [`NONE`](Self::NONE).
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0 >> 12
    }

    /// The slot, below [`SLOTS`](Self::SLOTS).
    #[must_use]
    pub const fn slot(self) -> u16 {
        (self.0 & 0xFFF) as u16
    }

    /// Whether this is [`NONE`](Self::NONE).
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot(), self.generation())
    }
}

impl fmt::Debug for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_run_from_one_and_never_reach_none() {
        let last = Correlation::new(Correlation::GENERATION_MAX, 7).unwrap();
        assert_eq!(last.next(), Correlation::first(7).unwrap());
        assert_eq!(Correlation::first(0).unwrap().0, 0x1000);
        assert_eq!(Correlation::new(0, 1), None);
        assert_eq!(Correlation::first(Correlation::SLOTS), None);
    }
}
