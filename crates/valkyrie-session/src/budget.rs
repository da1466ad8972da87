//! Token buckets against floods that cost the peer little and this side much.

use valkyrie_frame::Time;

use crate::limits::{
    PING_BURST, PINGS_PER_S, PROPOSAL_BURST, PROPOSALS_PER_S, REPORT_BURST, REPORTS_PER_S,
    RESET_BURST, RESETS_PER_S, SKIP_BURST, SKIPS_PER_S,
};
use crate::on_demand::Resting;

const NANOS_PER_S: u64 = 1_000_000_000;

/// Allows `burst` events at once and `per_s` in the long run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    tokens: u32,
    burst: u32,
    per_s: u32,
    filled: Time,
}

impl Bucket {
    const fn new(burst: u32, per_s: u32) -> Self {
        Self {
            tokens: burst,
            burst,
            per_s,
            filled: Time::ZERO,
        }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// The burst, when none is left.
    pub(crate) fn take(&mut self, now: Time) -> Result<(), u32> {
        self.refill(now);
        self.tokens = self.tokens.checked_sub(1).ok_or(self.burst)?;
        Ok(())
    }

    fn refill(&mut self, now: Time) {
        let nanos_per_token = NANOS_PER_S / u64::from(self.per_s);
        let passed = now.as_nanos().saturating_sub(self.filled.as_nanos());
        let earned = passed / nanos_per_token;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(self.burst);
            self.tokens = self.tokens.saturating_add(earned).min(self.burst);
            // The rest of a token stays earned.
            self.filled = Time::from_nanos(now.as_nanos() - passed % nanos_per_token);
        }
    }
}

/// What one peer may do that often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budgets {
    /// Resets, by the peer or provoked by it.
    pub(crate) resets: Bucket,
    /// PINGs.
    pub(crate) pings: Bucket,
    /// Frames that are skipped.
    pub(crate) skips: Bucket,
    /// ERRORs that are not the answer to a call.
    pub(crate) errors: Bucket,
    /// Metrics, spans, health, status and alerts.
    pub(crate) told: Bucket,
    /// Proposals of other terms or another transport, and answers.
    pub(crate) proposals: Bucket,
}

impl Budgets {
    const FULL: Self = Self {
        resets: Bucket::new(RESET_BURST, RESETS_PER_S),
        pings: Bucket::new(PING_BURST, PINGS_PER_S),
        skips: Bucket::new(SKIP_BURST, SKIPS_PER_S),
        errors: Bucket::new(SKIP_BURST, SKIPS_PER_S),
        told: Bucket::new(REPORT_BURST, REPORTS_PER_S),
        proposals: Bucket::new(PROPOSAL_BURST, PROPOSALS_PER_S),
    };

    /// Fills every bucket by the time that has passed.
    pub(crate) fn refill(&mut self, now: Time) {
        for bucket in self.all_mut() {
            bucket.refill(now);
        }
    }

    const fn all_mut(&mut self) -> [&mut Bucket; 6] {
        let Self {
            resets,
            pings,
            skips,
            errors,
            told,
            proposals,
        } = self;
        [resets, pings, skips, errors, told, proposals]
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::FULL
    }
}

/// Full buckets need no memory: a peer that behaves has no others.
impl Resting for Budgets {
    fn resting() -> &'static Self {
        const { &Self::FULL }
    }

    fn is_resting(&self) -> bool {
        let mut copy = *self;
        copy.all_mut()
            .iter()
            .all(|bucket| bucket.tokens == bucket.burst)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_allows_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(3, 2);
        let start = Time::ZERO + Duration::from_secs(100);
        for _ in 0..3 {
            bucket.take(start).unwrap();
        }
        assert_eq!(bucket.take(start), Err(3));
        bucket.take(start + Duration::from_millis(500)).unwrap();
        assert_eq!(bucket.take(start + Duration::from_millis(900)), Err(3));
        bucket.take(start + Duration::from_millis(1000)).unwrap();
    }
}
