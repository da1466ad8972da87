//! Finds or makes the bucket of a key among the slots that it may lie in.
//!
//! A bucket that is there is changed with one compare-and-swap. To make one, a thread *claims* a
//! slot, looks whether the key has another one meanwhile, and only then turns the claim into the
//! bucket. Two threads that make the same bucket at once cannot both finish: all see changes in one
//! order, each claims before it looks, so at least one of them sees the other; who sees a bucket
//! gives up its own claim, and a claim that stands in the way is withdrawn by whoever is before it.
//! A claim that was withdrawn never becomes a bucket, because no two have the same name.
//!
//! Nobody waits for another thread that sleeps: after a few tries its claim is withdrawn.

use crate::gcra::step;
use crate::limit::{Decision, Limit, Outcome};
use crate::slot::{Entry, Slot};

/// Tries after which claims before one's own are withdrawn too.
const PATIENCE: u32 = 16;

/// What happens to a key for which all slots are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Crowded {
    /// The bucket that is full soonest is forgotten; its key gets a burst more than it should.
    #[default]
    Forget,
    /// The tokens are given, without a bucket that would remember it.
    Allow,
    /// They are denied until the bucket that is full soonest makes room.
    Deny,
}

/// What came of it, for those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// All slots of a new key were in use.
    Crowd,
    /// Anything else.
    Room,
}

/// A key's question.
pub(crate) struct Ask<'a> {
    pub(crate) tag: u64,
    pub(crate) now: u64,
    /// No bucket of the table is full before; see [`Entry::full_at`].
    pub(crate) floor: u64,
    pub(crate) limit: &'a Limit,
    pub(crate) cost: u32,
    pub(crate) crowded: Crowded,
}

/// Where the bucket of a key may lie: in either of two places, of which the emptier one is taken.
/// Tables fill up evenly that way (balanced allocation, Azar et al. 1994), and none of the two is
/// full before nearly all are.
pub(crate) type Slots<'a, S> = [&'a [S]; 2];

/// What came of asking.
pub(crate) struct Asked {
    pub(crate) decision: Decision,
    pub(crate) met: Met,
    /// Which of its slots has the bucket, where there is one.
    pub(crate) index: Option<usize>,
}

/// Asks the bucket in `slot` for tokens; `None` where it is not that of the key.
#[inline]
pub(crate) fn consume_there<S: Slot>(slot: &S, ask: &Ask<'_>) -> Option<Decision> {
    loop {
        let seen = slot.load();
        if !seen.is_bucket_of(ask.tag) {
            return None;
        }
        let full_at = seen.full_at(ask.floor);
        let (full_at, decision) = step(full_at, ask.now, ask.limit, ask.cost);
        let next = S::Entry::bucket(ask.tag, full_at);
        if next == seen || slot.swap(seen, next).is_ok() {
            return Some(decision);
        }
    }
}

/// Asks for tokens of the bucket of a key whose slots are `slots`. `name` gives each claim a name
/// of its own.
pub(crate) fn consume<S: Slot>(
    slots: Slots<'_, S>,
    ask: &Ask<'_>,
    mut name: impl FnMut() -> u64,
) -> Asked {
    let (fresh, decision) = step(0, ask.now, ask.limit, ask.cost);
    let none = |decision, met| Asked {
        decision,
        met,
        index: None,
    };
    let mut tries = 0;
    loop {
        let place = match look(slots, ask) {
            Found::Bucket(asked) => return asked,
            Found::Place(place) => place,
        };
        // A new bucket that would stay full is none.
        if decision.outcome != Outcome::Allowed || ask.cost == 0 {
            return none(decision, Met::Room);
        }
        let Some(place) = place else {
            // There are no slots at all.
            return none(decision, Met::Crowd);
        };
        let met = match place.rank {
            Rank::Vacant(_) | Rank::Idle(_) | Rank::Claimed => Met::Room,
            Rank::Live(full_at) => match ask.crowded {
                Crowded::Forget => Met::Crowd,
                Crowded::Allow => return none(decision, Met::Crowd),
                Crowded::Deny => return none(denied_until(full_at, ask), Met::Crowd),
            },
        };
        let claim = S::Entry::claim(ask.tag, name());
        let bucket = S::Entry::bucket(ask.tag, fresh);
        tries += 1;
        if place.slot.swap(place.seen, claim).is_ok()
            && is_alone(slots, place.index, ask.tag, tries)
            && place.slot.swap(claim, bucket).is_ok()
        {
            return Asked {
                decision,
                met,
                index: Some(place.index),
            };
        }
        // Gone already where somebody else withdrew it.
        let _ = place.slot.swap(claim, S::Entry::EMPTY);
    }
}

/// When the bucket of a key is full; `None` where it has none.
pub(crate) fn full_at<S: Slot>(slots: Slots<'_, S>, tag: u64, floor: u64) -> Option<u64> {
    let mut entries = slots.into_iter().flatten().map(Slot::load);
    let own = entries.find(|entry| entry.is_bucket_of(tag));
    own.map(|entry| entry.full_at(floor))
}

/// Has the bucket of a key full earlier by `time`; `false` where there is none, which is full.
pub(crate) fn give_back<S: Slot>(slots: Slots<'_, S>, tag: u64, floor: u64, time: u64) -> bool {
    for slot in slots.into_iter().flatten() {
        let mut seen = slot.load();
        while seen.is_bucket_of(tag) {
            let full_at = seen.full_at(floor).saturating_sub(time).max(floor);
            match slot.swap(seen, S::Entry::bucket(tag, full_at)) {
                Ok(()) => return true,
                Err(now) => seen = now,
            }
        }
    }
    false
}

/// Forgets the bucket of a key; whether there was one.
pub(crate) fn forget<S: Slot>(slots: Slots<'_, S>, tag: u64) -> bool {
    let mut forgotten = false;
    for slot in slots.into_iter().flatten() {
        let mut seen = slot.load();
        while seen.is_bucket_of(tag) {
            match slot.swap(seen, S::Entry::EMPTY) {
                Ok(()) => {
                    forgotten = true;
                    break;
                }
                Err(now) => seen = now,
            }
        }
    }
    forgotten
}

enum Found<'a, S: Slot> {
    /// The bucket is there and was asked.
    Bucket(Asked),
    /// It is not there; the best place for it, if there is any.
    Place(Option<Place<'a, S>>),
}

struct Place<'a, S: Slot> {
    index: usize,
    slot: &'a S,
    seen: S::Entry,
    rank: Rank,
}

/// How gladly a slot is taken; the least one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Nobody's; by how many beside it are somebody's.
    Vacant(usize),
    /// Of a bucket that is full, which equals none; the one that was full first.
    Idle(u64),
    /// Somebody is about to use it.
    Claimed,
    /// A bucket that is full at this time.
    Live(u64),
}

#[inline]
fn look<'a, S: Slot>(slots: Slots<'a, S>, ask: &Ask<'_>) -> Found<'a, S> {
    let mut best: Option<Place<'a, S>> = None;
    let mut index = 0;
    for part in slots {
        let (mut vacant, mut first) = (0, None);
        for slot in part {
            let seen = slot.load();
            if seen.is_bucket_of(ask.tag)
                && let Some(decision) = consume_there(slot, ask)
            {
                return Found::Bucket(Asked {
                    decision,
                    met: Met::Room,
                    index: Some(index),
                });
            }
            let place = |rank| Place {
                index,
                slot,
                seen,
                rank,
            };
            if seen == S::Entry::EMPTY {
                vacant += 1;
                first = first.or(Some(place(Rank::Vacant(0))));
            } else {
                let rank = match seen.full_at(ask.floor) {
                    _ if seen.is_claim() => Rank::Claimed,
                    full_at if full_at <= ask.now => Rank::Idle(full_at),
                    full_at => Rank::Live(full_at),
                };
                if best.as_ref().is_none_or(|best| rank < best.rank) {
                    best = Some(place(rank));
                }
            }
            index += 1;
        }
        if let Some(first) = first {
            let rank = Rank::Vacant(part.len() - vacant);
            if best.as_ref().is_none_or(|best| rank < best.rank) {
                best = Some(Place { rank, ..first });
            }
        }
    }
    Found::Place(best)
}

/// Whether no other slot has a bucket of the same key, or will have one: claims behind `own` are
/// withdrawn.
fn is_alone<S: Slot>(slots: Slots<'_, S>, own: usize, tag: u64, tries: u32) -> bool {
    for (index, slot) in slots.into_iter().flatten().enumerate() {
        if index == own {
            continue;
        }
        let mut seen = slot.load();
        loop {
            let is_claim = seen.is_claim_for(tag);
            if seen.is_bucket_of(tag) || is_claim && index < own && tries < PATIENCE {
                return false;
            }
            if !is_claim {
                break;
            }
            match slot.swap(seen, S::Entry::EMPTY) {
                Ok(()) => break,
                Err(now) => seen = now,
            }
        }
    }
    true
}

/// What a full table answers a key that would need the slot of a bucket that is full then.
fn denied_until(full_at: u64, ask: &Ask<'_>) -> Decision {
    let wait = full_at.saturating_sub(ask.now);
    Decision {
        outcome: Outcome::Denied,
        remaining: 0,
        retry_after_ns: wait,
        reset_after_ns: wait,
    }
}
