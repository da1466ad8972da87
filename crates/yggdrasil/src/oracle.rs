//! A bucket that is easy to believe in, for tests.

use crate::limit::{Decision, Limit, Outcome};

/// A bucket of exact rational tokens: `level` is counted in the unit of time of emission, which is the
/// token divided by its exact share of time, so nothing is rounded.
pub(crate) struct Oracle {
    level: u128,
    at: u64,
}

impl Oracle {
    pub(crate) fn full(limit: &Limit, now: u64) -> Self {
        Self {
            level: u128::from(limit.room_ns()),
            at: now,
        }
    }

    pub(crate) fn consume(&mut self, now: u64, limit: &Limit, cost: u32) -> Decision {
        let each = u128::from(limit.emission_ns());
        let full = each * u128::from(limit.burst());
        let since = u128::from(now.saturating_sub(self.at));
        self.at = self.at.max(now);
        self.level = (self.level + since).min(full);
        let wanted = each * u128::from(cost);
        let outcome = match wanted <= self.level {
            true => Outcome::Allowed,
            false if cost > limit.burst() => Outcome::Never,
            false => Outcome::Denied,
        };
        let retry_after_ns = match outcome {
            Outcome::Denied => (wanted - self.level) as u64,
            Outcome::Allowed | Outcome::Never => 0,
        };
        if outcome == Outcome::Allowed {
            self.level -= wanted;
        }
        Decision {
            outcome,
            remaining: (self.level / each) as u32,
            retry_after_ns,
            reset_after_ns: (full - self.level) as u64,
        }
    }
}

/// Any 64 bits (Steele et al., Fast Splittable Pseudorandom Number Generators).
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
