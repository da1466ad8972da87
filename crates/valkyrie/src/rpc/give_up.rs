//! Streams that this side gives up, no faster than the peer allows.

use std::collections::VecDeque;
use std::time::Duration;

use valkyrie_frame::{ErrorCode, StreamId, Time};

use crate::limits::{GIVE_UP_BURST, GIVE_UPS_PER_S};

/// A peer takes many resets for an attack. Those over the budget wait; meanwhile what still comes
/// on their streams is dropped.
#[derive(Debug)]
pub(crate) struct GiveUps {
    tokens: u32,
    filled: Time,
    waiting: VecDeque<(StreamId, ErrorCode)>,
}

const TOKEN: Duration = Duration::from_millis(1000 / GIVE_UPS_PER_S as u64);

impl Default for GiveUps {
    fn default() -> Self {
        Self {
            tokens: GIVE_UP_BURST,
            filled: Time::ZERO,
            waiting: VecDeque::new(),
        }
    }
}

impl GiveUps {
    /// Adds a stream to those that have to be reset.
    pub(crate) fn push(&mut self, stream: StreamId, code: ErrorCode) {
        self.waiting.push_back((stream, code));
    }

    /// The next stream that may be reset now.
    pub(crate) fn next(&mut self, now: Time) -> Option<(StreamId, ErrorCode)> {
        if self.waiting.is_empty() {
            return None;
        }
        while self.tokens < GIVE_UP_BURST && self.filled + TOKEN <= now {
            self.filled = self.filled + TOKEN;
            self.tokens += 1;
        }
        if self.tokens == GIVE_UP_BURST {
            self.filled = now;
        }
        self.tokens = self.tokens.checked_sub(1)?;
        self.waiting.pop_front()
    }

    /// A stream ended by itself.
    pub(crate) fn forget(&mut self, stream: StreamId) {
        self.waiting.retain(|(waiting, _)| *waiting != stream);
    }

    /// When the next one may be reset.
    pub(crate) fn due(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then(|| self.filled + TOKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_its_rate() {
        let mut resets = GiveUps::default();
        for number in 0..200 {
            resets.push(StreamId(number), ErrorCode::NONE);
        }
        let start = Time::ZERO + Duration::from_secs(100);
        let mut sent = 0;
        while resets.next(start).is_some() {
            sent += 1;
        }
        assert_eq!(sent, GIVE_UP_BURST);
        assert_eq!(resets.due(), Some(start + TOKEN));
        let second = start + Duration::from_secs(1);
        while resets.next(second).is_some() {
            sent += 1;
        }
        assert_eq!(sent, GIVE_UP_BURST + GIVE_UPS_PER_S);
        resets.forget(StreamId(199));
        assert_eq!(resets.waiting.len(), 94);
    }
}
