//! Which keys are used most, and whether they are used as usual.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Of so many uses of keys one is looked at.
const SAMPLE: u64 = 8;
/// Keys that are counted at the same time.
const KEYS: usize = 256;
/// A key is hot from this part of all uses on.
const HOT: f64 = 0.01;
/// Uses are compared with those of earlier spans of this length.
const SPAN: Duration = Duration::from_secs(10);
/// Spans until it is known what is usual.
const KNOWN: u32 = 6;
/// How much of the usual rate comes from the last span.
const WEIGHT: f64 = 0.2;
/// So many times the usual rate is unusual, if it is this many uses in a span besides.
const TIMES: f64 = 4.0;
const LEAST: f64 = 400.0;

/// What a key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// Its value is read.
    Read,
    /// Its value is written or removed.
    Write,
    /// It is a counter.
    Count,
    /// It is a token bucket.
    Consume,
    /// It is a lease or has limited places.
    Lease,
}

impl Use {
    const ALL: [Self; 5] = [
        Self::Read,
        Self::Write,
        Self::Count,
        Self::Consume,
        Self::Lease,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Count => "count",
            Self::Consume => "consume",
            Self::Lease => "lease",
        }
    }

    /// What may be done about a key that is used so much.
    const fn plan(self) -> &'static str {
        match self {
            Self::Read => {
                "keep its value in the memory of programs; Yggdrasil says when it changes (CLIENT TRACKING)"
            }
            Self::Write => "write it less often, or give each writer a key of its own",
            Self::Count => "count in several keys and add them up, or keep it in Yggdrasil",
            Self::Consume => {
                "move its prefix to Yggdrasil, which counts buckets without scripts, and nearby with YGG.NEAR"
            }
            Self::Lease => "guard less with one lease: its holders wait for each other",
        }
    }
}

/// A key that is used much.
#[derive(Debug, Clone, PartialEq)]
pub struct HotKey {
    /// The key.
    pub key: Vec<u8>,
    /// What it is used for.
    pub what: Use,
    /// Its part of all uses of keys, 0 to 1; it may be less by what was counted for others before it.
    pub share: f64,
    /// What may be done about it.
    pub plan: &'static str,
}

/// What is worth to be told at the end of a span.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) unusual: Option<Unusual>,
    /// Keys that are hot and were not before.
    pub(crate) hot: Vec<HotKey>,
}

/// A use of keys that is not as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusual {
    /// What keys are used for.
    pub what: Use,
    /// Uses a second now.
    pub per_second: u64,
    /// Uses a second as they were before.
    pub usual_per_second: u64,
}

/// Counts a part of all uses: the Space-Saving algorithm (Metwally, Agrawal and El Abbadi, Efficient
/// Computation of Frequent and Top-k Elements in Data Streams, 2005), halved after each span.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    uses: AtomicU64,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    keys: HashMap<(Use, Box<[u8]>), u64>,
    total: u64,
    since: Option<Instant>,
    rates: [Rate; Use::ALL.len()],
    /// Those that were hot at the end of the last span.
    hot: Vec<(Use, Box<[u8]>)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Rate {
    now: u64,
    usual: f64,
    spans: u32,
}

impl Usage {
    /// A key is used. The first one after a span is told what was worth it.
    pub(crate) fn saw(&self, what: Use, key: &[u8], now: Instant) -> Option<Told> {
        if !self
            .uses
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(SAMPLE)
        {
            return None;
        }
        // Whoever comes at the same time is not counted rather than kept waiting.
        let mut counted = self.counted.try_lock().ok()?;
        let since = *counted.since.get_or_insert(now);
        let over = now.saturating_duration_since(since);
        let told = (over >= SPAN).then(|| counted.end_span(now, over));
        counted.count(what, key);
        told
    }

    pub(crate) fn hot_keys(&self) -> Vec<HotKey> {
        let Ok(counted) = self.counted.lock() else {
            return Vec::new();
        };
        counted.hot_keys()
    }
}

impl Counted {
    fn hot_keys(&self) -> Vec<HotKey> {
        let total = self.total.max(1) as f64;
        let hot = |((what, key), count): (&(Use, Box<[u8]>), &u64)| HotKey {
            key: key.to_vec(),
            what: *what,
            share: *count as f64 / total,
            plan: what.plan(),
        };
        let mut hot: Vec<HotKey> = self.keys.iter().map(hot).collect();
        hot.retain(|key| key.share >= HOT);
        hot.sort_by(|a, b| b.share.total_cmp(&a.share));
        hot
    }

    /// Hot keys that were not hot before. Where little is used at all, nothing is.
    fn newly_hot(&mut self) -> Vec<HotKey> {
        let is_much = |key: &HotKey| key.share * (self.total * SAMPLE) as f64 >= LEAST;
        let mut hot = self.hot_keys();
        hot.retain(is_much);
        let name = |key: &HotKey| (key.what, key.key.clone().into_boxed_slice());
        let names = hot.iter().map(name).collect();
        let before = std::mem::replace(&mut self.hot, names);
        hot.retain(|key| !before.contains(&name(key)));
        hot
    }

    fn count(&mut self, what: Use, key: &[u8]) {
        self.total += 1;
        if let Some(rate) = self.rates.get_mut(what as usize) {
            rate.now += 1;
        }
        let name = (what, key.into());
        if let Some(count) = self.keys.get_mut(&name) {
            *count += 1;
            return;
        }
        let mut least = 0;
        if self.keys.len() >= KEYS {
            // The new key takes the place of the least used one, and its count.
            let found = self.keys.iter().min_by_key(|(_, count)| **count);
            if let Some((name, count)) = found.map(|(name, count)| (name.clone(), *count)) {
                self.keys.remove(&name);
                least = count;
            }
        }
        self.keys.insert(name, least + 1);
    }

    fn end_span(&mut self, now: Instant, over: Duration) -> Told {
        self.since = Some(now);
        let hot = self.newly_hot();
        self.total /= 2;
        self.keys.retain(|_, count| {
            *count /= 2;
            *count > 0
        });
        let seconds = over.as_secs_f64();
        let mut unusual = None;
        for (rate, what) in self.rates.iter_mut().zip(Use::ALL) {
            let uses = std::mem::take(&mut rate.now) as f64 * SAMPLE as f64;
            // After a pause longer than a span it is not known when they came.
            let per_second = uses / seconds;
            let is_more = per_second > TIMES * rate.usual && uses >= LEAST;
            if rate.spans >= KNOWN && is_more {
                unusual = Some(Unusual {
                    what,
                    per_second: per_second as u64,
                    usual_per_second: rate.usual as u64,
                });
            }
            let weight = match rate.spans {
                0 => 1.0,
                _ => WEIGHT,
            };
            rate.usual += weight * (per_second - rate.usual);
            rate.spans = rate.spans.saturating_add(1);
        }
        Told { unusual, hot }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hot_keys_are_found_among_many() {
        let (usage, now) = (Usage::default(), Instant::now());
        for number in 0..80_000_u64 {
            // Each looked at in its turn.
            let turn = number / SAMPLE;
            match turn % 10 {
                0..3 => usage.saw(Use::Consume, b"hot bucket", now),
                3 => usage.saw(Use::Read, b"hot value", now),
                _ => usage.saw(Use::Read, &turn.to_le_bytes(), now),
            };
        }
        let hot = usage.hot_keys();
        let found: Vec<(&[u8], Use)> = hot.iter().map(|it| (&it.key[..], it.what)).collect();
        let expected: [(&[u8], Use); 2] =
            [(b"hot bucket", Use::Consume), (b"hot value", Use::Read)];
        assert_eq!(found, expected);
        let first = hot.first().unwrap();
        assert!((first.share - 0.3).abs() < 0.02, "{first:?}");
        assert!(first.plan.contains("Yggdrasil"));
    }

    #[test]
    fn surge_is_told_of_once_it_is_known_what_is_usual() {
        let (usage, start) = (Usage::default(), Instant::now());
        let (mut told, mut hot) = (Vec::new(), Vec::new());
        for span in 0..20_u32 {
            let uses = if span == 12 { 10_000 } else { 1_000_u64 };
            for number in 0..uses {
                let at = start + SPAN * span + SPAN.mul_f64(number as f64 / uses as f64);
                if let Some(said) = usage.saw(Use::Lease, b"k", at) {
                    hot.extend(said.hot.into_iter().map(|key| (span, key.key)));
                    told.extend(said.unusual.map(|it| (span, it)));
                }
            }
        }
        assert_eq!(told.len(), 1, "{told:?}");
        // It is hot all the time, which is told once.
        assert_eq!(hot, [(1, b"k".to_vec())]);
        let (span, unusual) = told.first().unwrap();
        assert_eq!((*span, unusual.what), (13, Use::Lease));
        assert!((900..=1100).contains(&unusual.per_second), "{unusual:?}");
        assert!(
            (90..=110).contains(&unusual.usual_per_second),
            "{unusual:?}"
        );
    }
}
