//! Which keys clients have in their caches.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::roster::{Group, Place, Target};

/// Parts, each of which one thread uses at a time.
const PARTS: usize = 16;
/// Bytes that a key counts for besides its own, and a client that has it.
const KEY_BYTES: usize = 128;
const READER_BYTES: usize = 32;

/// Keys and the clients that read them since they changed. Of bounded size: where it is full, keys go
/// that nobody changed, and their readers are told as if somebody had.
#[derive(Debug)]
pub(super) struct Tracking {
    parts: [Mutex<Part>; PARTS],
    hasher: RandomState,
    part_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Part {
    keys: HashMap<Arc<[u8]>, Tracked>,
    /// The same keys in no order, to choose one.
    list: Vec<Arc<[u8]>>,
    bytes: usize,
    /// Where the next choice is made.
    chance: u64,
}

#[derive(Debug, Default)]
struct Tracked {
    /// Its place in the list.
    index: usize,
    readers: Vec<(Place, u64)>,
}

/// A key that is forgotten, and whom to tell.
type Forgotten = (Arc<[u8]>, Vec<Group>);

impl Tracking {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            parts: Default::default(),
            hasher: RandomState::new(),
            part_bytes_max: bytes_max / PARTS,
        }
    }

    /// Adds a reader of a key; what had to be forgotten for it.
    pub(super) fn add(&self, key: &[u8], place: Place, id: u64) -> Vec<Forgotten> {
        let Some(mut part) = self.part(key) else {
            return Vec::new();
        };
        part.add(key, (place, id));
        let mut forgotten = Vec::new();
        while part.bytes > self.part_bytes_max {
            match part.choose().and_then(|key| part.take(&key)) {
                Some(one) => forgotten.push(one),
                None => break,
            }
        }
        forgotten
    }

    /// Forgets a key; whom to tell.
    pub(super) fn take(&self, key: &[u8]) -> Option<Vec<Group>> {
        self.part(key)?.take(key).map(|(_, readers)| readers)
    }

    pub(super) fn clear(&self) {
        for part in &self.parts {
            *part.lock().unwrap_or_else(PoisonError::into_inner) = Part::default();
        }
    }

    /// Number of keys, and bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let sizes = self.parts.iter().map(|part| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            (part.list.len(), part.bytes)
        });
        sizes.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn part(&self, key: &[u8]) -> Option<MutexGuard<'_, Part>> {
        let number = self.hasher.hash_one(key) as usize % PARTS;
        let part = self.parts.get(number)?;
        Some(part.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Part {
    fn add(&mut self, key: &[u8], reader: (Place, u64)) {
        if let Some(tracked) = self.keys.get_mut(key) {
            if !tracked.readers.contains(&reader) {
                tracked.readers.push(reader);
                self.bytes += READER_BYTES;
            }
            return;
        }
        let name: Arc<[u8]> = Arc::from(key);
        let tracked = Tracked {
            index: self.list.len(),
            readers: vec![reader],
        };
        self.list.push(Arc::clone(&name));
        self.keys.insert(name, tracked);
        self.bytes += key.len() + KEY_BYTES + READER_BYTES;
    }

    fn take(&mut self, key: &[u8]) -> Option<Forgotten> {
        let (name, tracked) = self.keys.remove_entry(key)?;
        self.bytes -= key.len() + KEY_BYTES + READER_BYTES * tracked.readers.len();
        self.list.swap_remove(tracked.index);
        if let Some(moved) = self.list.get(tracked.index)
            && let Some(moved) = self.keys.get_mut(moved)
        {
            moved.index = tracked.index;
        }
        Some((name, groups(tracked.readers)))
    }

    /// Any key, another one each time.
    fn choose(&mut self) -> Option<Arc<[u8]>> {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let place = (self.chance >> 32) as usize;
        let index = place.checked_rem(self.list.len())?;
        self.list.get(index).cloned()
    }
}

/// Readers by their threads.
fn groups(mut readers: Vec<(Place, u64)>) -> Vec<Group> {
    readers.sort_unstable_by_key(|(place, _)| place.worker);
    let same = |one: &(Place, u64), other: &(Place, u64)| one.0.worker == other.0.worker;
    let group = |readers: &[(Place, u64)]| {
        let (first, _) = readers.first()?;
        let target = |(place, id): &(Place, u64)| Target {
            slot: place.slot,
            id: *id,
        };
        Some(Group {
            worker: first.worker,
            targets: Arc::new(readers.iter().map(target).collect()),
        })
    };
    readers.chunk_by(same).filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(worker: usize) -> Place {
        Place { worker, slot: 0 }
    }

    #[test]
    fn readers_are_told_once_and_by_thread() {
        let tracking = Tracking::new(1 << 20);
        for id in 0..4 {
            assert!(tracking.add(b"a", place(id as usize % 2), id).is_empty());
            assert!(tracking.add(b"a", place(id as usize % 2), id).is_empty());
        }
        let groups = tracking.take(b"a").unwrap();
        let found: Vec<(usize, usize)> = groups
            .iter()
            .map(|group| (group.worker, group.targets.len()))
            .collect();
        assert_eq!(found, [(0, 2), (1, 2)]);
        assert!(tracking.take(b"a").is_none());
        assert_eq!(tracking.size(), (0, 0));
    }

    #[test]
    fn full_table_forgets_keys_and_says_which() {
        let tracking = Tracking::new(PARTS * 10 * (KEY_BYTES + READER_BYTES + 4));
        let mut forgotten = 0;
        for number in 0..10_000_u32 {
            forgotten += tracking.add(&number.to_le_bytes(), place(0), 1).len();
        }
        let (keys, _) = tracking.size();
        assert_eq!(forgotten + keys, 10_000);
        assert!((100..=PARTS * 10).contains(&keys), "{keys}");
        let left = (0..10_000_u32).filter(|number| tracking.take(&number.to_le_bytes()).is_some());
        assert_eq!(left.count(), keys);
        assert_eq!(tracking.size(), (0, 0));
    }
}
