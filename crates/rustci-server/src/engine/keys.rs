//! Requests that carry a key: the same one, sent again, begins nothing twice.

use std::collections::{HashMap, VecDeque};

use rustci_scheduler::{RunId, Scheduler};

use crate::engine::clock::Clock;
use crate::limits::{REQUEST_KEY_LIFE, REQUEST_KEYS_MAX};

/// The name that a client gave a request, and what the request was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Unique to the request.
    pub key: String,
    /// SHA-256 of the request.
    pub digest: Vec<u8>,
}

impl RequestKey {
    /// Keys from before this time, in Unix milliseconds, stand for nothing any more.
    pub(crate) fn oldest_ms() -> u64 {
        let now = Clock::start().now().wall;
        let life = u64::try_from(REQUEST_KEY_LIFE.as_millis()).unwrap_or(u64::MAX);
        now.as_millis().saturating_sub(life)
    }
}

/// A request that began a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRequest {
    /// The request.
    pub key: RequestKey,
    /// The run.
    pub run: u64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// This request; it began the run.
    Same(u64),
    /// Another request.
    Other,
}

#[derive(Debug)]
struct Request {
    digest: Vec<u8>,
    run: u64,
    at_ms: u64,
}

/// Requests of the last day.
#[derive(Debug, Default)]
pub(super) struct RequestKeys {
    known: HashMap<String, Request>,
    /// In the order in which they came.
    ages: VecDeque<(u64, String)>,
}

impl RequestKeys {
    /// Those in the catalogue and those that it may not have yet.
    pub(super) fn new(mut stored: Vec<KnownRequest>, scheduler: &Scheduler) -> Self {
        stored.sort_by_key(|known| known.run);
        let mut keys = Self::default();
        for known in stored {
            keys.add(known);
        }
        let keyed = scheduler
            .runs()
            .filter(|run| !run.meta.idempotency_key.is_empty());
        for run in keyed {
            keys.add(KnownRequest {
                key: RequestKey {
                    key: run.meta.idempotency_key.clone(),
                    digest: run.meta.request_digest.clone(),
                },
                run: run.id.0,
                at_ms: run.submitted.as_millis(),
            });
        }
        keys
    }

    pub(super) fn find(&mut self, wanted: &RequestKey, now_ms: u64) -> Option<Found> {
        self.expire(now_ms);
        let known = self.known.get(&wanted.key)?;
        Some(if known.digest == wanted.digest {
            Found::Same(known.run)
        } else {
            Found::Other
        })
    }

    pub(super) fn remember(&mut self, key: RequestKey, run: RunId, at_ms: u64) {
        let run = run.0;
        self.add(KnownRequest { key, run, at_ms });
    }

    fn add(&mut self, known: KnownRequest) {
        let KnownRequest { key, run, at_ms } = known;
        self.ages.push_back((at_ms, key.key.clone()));
        let digest = key.digest;
        let request = Request { digest, run, at_ms };
        self.known.insert(key.key, request);
        while self.ages.len() > REQUEST_KEYS_MAX {
            self.drop_oldest();
        }
    }

    fn expire(&mut self, now_ms: u64) {
        let life = u64::try_from(REQUEST_KEY_LIFE.as_millis()).unwrap_or(u64::MAX);
        let is_old = |(at_ms, _): &(u64, String)| at_ms.saturating_add(life) <= now_ms;
        while self.ages.front().is_some_and(is_old) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((at_ms, key)) = self.ages.pop_front() else {
            return;
        };
        // The same key may have come again since.
        if self
            .known
            .get(&key)
            .is_some_and(|known| known.at_ms == at_ms)
        {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustci_scheduler::SchedulerConfig;

    use super::*;

    fn key(text: &str, digest: u8) -> RequestKey {
        RequestKey {
            key: text.to_owned(),
            digest: vec![digest],
        }
    }

    #[test]
    fn a_key_stands_for_one_request_for_a_day() {
        let scheduler = Scheduler::new(SchedulerConfig::default());
        let stored = KnownRequest {
            key: key("a", 1),
            run: 7,
            at_ms: 1_000,
        };
        let mut keys = RequestKeys::new(vec![stored], &scheduler);
        let day = 86_400_000;
        assert_eq!(keys.find(&key("a", 1), 2_000), Some(Found::Same(7)));
        assert_eq!(keys.find(&key("a", 2), 2_000), Some(Found::Other));
        assert_eq!(keys.find(&key("b", 1), 2_000), None);
        assert_eq!(keys.find(&key("a", 1), 1_000 + day), None);
        keys.remember(key("a", 2), RunId(8), 1_000 + day);
        assert_eq!(keys.find(&key("a", 2), 2_000 + day), Some(Found::Same(8)));
    }
}
