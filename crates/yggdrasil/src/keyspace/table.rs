//! Entries by hash.

use std::mem;

use super::entry::Entry;

/// A hash table of entries in one array, each a cache line of its own at its home or close behind
/// (linear probing), so that who knows a hash ahead of time can have the line brought near.
///
/// Beside each entry stands a byte with a part of its hash, so that other entries are hardly ever
/// looked at. At most three quarters are in use: then a key is found 1.5 places behind its home on
/// average, and one that is not there missed 7.5 places behind it (Knuth, The Art of Computer
/// Programming 3, 6.4), all of which lie in one word or two of those bytes.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// For each place [`EMPTY`] or the tag of its entry; a power of two of them, or none.
    tags: Box<[u8]>,
    places: Box<[Option<Entry>]>,
    len: usize,
}

const EMPTY: u8 = 0;
const PLACES_MIN: usize = 8;

const _: () = assert!(size_of::<Option<Entry>>() == size_of::<Entry>());

/// What hashes an entry.
pub(super) trait Hasher: Fn(&Entry) -> u64 {}

impl<F: Fn(&Entry) -> u64> Hasher for F {}

impl Table {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of places, in use or not.
    pub(super) const fn places(&self) -> usize {
        self.places.len()
    }

    /// Where the places begin in memory.
    pub(super) fn address(&self) -> usize {
        self.places.as_ptr().addr()
    }

    /// Where their tags begin in memory.
    pub(super) fn tags_address(&self) -> usize {
        self.tags.as_ptr().addr()
    }

    /// The entry at a place.
    pub(super) fn at(&self, place: usize) -> Option<&Entry> {
        self.places.get(place)?.as_ref()
    }

    /// The same, to be changed; its key must stay.
    #[inline]
    pub(super) fn at_mut(&mut self, place: usize) -> Option<&mut Entry> {
        self.places.get_mut(place)?.as_mut()
    }

    /// The place of the entry with this hash that is the one.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&Entry) -> bool) -> Option<usize> {
        let (wanted, mask) = (tag(hash), self.tags.len().wrapping_sub(1));
        let mut place = home(hash, mask);
        loop {
            let found = *self.tags.get(place)?;
            if found == wanted && self.at(place).is_some_and(&is_it) {
                return Some(place);
            }
            if found == EMPTY {
                return None;
            }
            place = (place + 1) & mask;
        }
    }

    /// Puts an entry in, which must not be there.
    pub(super) fn insert(&mut self, hash: u64, entry: Entry, hasher: impl Hasher) {
        if (self.len + 1) * 4 > self.places.len() * 3 {
            self.grow(hasher);
        }
        self.put(hash, entry);
        self.len += 1;
    }

    fn put(&mut self, hash: u64, entry: Entry) {
        let mask = self.tags.len().wrapping_sub(1);
        let mut at = home(hash, mask);
        while self.tags.get(at).is_some_and(|tag| *tag != EMPTY) {
            at = (at + 1) & mask;
        }
        if let (Some(tag_at), Some(place)) = (self.tags.get_mut(at), self.places.get_mut(at)) {
            (*tag_at, *place) = (tag(hash), Some(entry));
        }
    }

    fn grow(&mut self, hasher: impl Hasher) {
        let places = (self.places.len() * 2).max(PLACES_MIN);
        let old = mem::replace(
            self,
            Self {
                tags: vec![EMPTY; places].into(),
                places: (0..places).map(|_| None).collect(),
                len: self.len,
            },
        );
        for entry in old.places.into_iter().flatten() {
            self.put(hasher(&entry), entry);
        }
    }

    /// Takes the entry at a place out. Those behind it that are not at home move up, so that no gap
    /// comes between an entry and its home.
    pub(super) fn remove(&mut self, place: usize, hasher: impl Hasher) -> Option<Entry> {
        let removed = self.places.get_mut(place)?.take()?;
        self.len -= 1;
        let mask = self.tags.len().wrapping_sub(1);
        let (mut gap, mut next) = (place, (place + 1) & mask);
        while let Some(entry) = self.at(next) {
            let from_home = next.wrapping_sub(home(hasher(entry), mask)) & mask;
            let from_gap = next.wrapping_sub(gap) & mask;
            // Its home is the gap or lies before it.
            if from_home >= from_gap {
                self.move_up(next, gap);
                gap = next;
            }
            next = (next + 1) & mask;
        }
        if let Some(tag) = self.tags.get_mut(gap) {
            *tag = EMPTY;
        }
        Some(removed)
    }

    fn move_up(&mut self, from: usize, to: usize) {
        self.places.swap(from, to);
        self.tags.swap(from, to);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.places.iter().flatten()
    }
}

/// Bytes that so many entries take, with the places that are free for them.
pub(super) const fn bytes_of(entries: usize) -> usize {
    // Between three eighths and three quarters of the places are in use; five ninths on average.
    entries * (size_of::<Entry>() + 1) * 9 / 5
}

/// The place of a hash when nobody else has it.
#[inline]
pub(super) const fn home(hash: u64, mask: usize) -> usize {
    hash as usize & mask
}

#[inline]
const fn tag(hash: u64) -> u8 {
    // The highest bits name the shard, the lowest the home.
    (hash >> 40) as u8 | 0x80
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::blob::Blob;
    use super::super::entry::Value;
    use super::*;

    fn entry(name: u8, value: i64) -> Entry {
        Entry::new(Blob::new(&[name]), Value::Integer(value), 1, None)
    }

    proptest! {
        /// Few homes, so that entries stand in each other's way and around the end.
        #[test]
        fn table_equals_a_map(
            steps in proptest::collection::vec((0..40_u8, any::<bool>()), 1..300),
            homes in proptest::collection::vec(0..16_u64, 40),
        ) {
            let hash = |name: u8| homes[usize::from(name)] | u64::from(name % 3) << 40;
            let hasher = |entry: &Entry| hash(entry.key()[0]);
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for ((name, inserts), value) in steps.into_iter().zip(0..) {
                let place = table.find(hash(name), |entry| entry.key() == [name]);
                prop_assert_eq!(place.is_some(), map.contains_key(&name));
                match (place, inserts) {
                    (None, true) => {
                        table.insert(hash(name), entry(name, value), hasher);
                        map.insert(name, value);
                    }
                    (Some(place), true) => {
                        table.at_mut(place).unwrap().value = Value::Integer(value);
                        map.insert(name, value);
                    }
                    (Some(place), false) => {
                        let removed = table.remove(place, hasher).unwrap();
                        let value = map.remove(&name).map(Value::Integer);
                        prop_assert_eq!(Some(removed.value), value);
                    }
                    (None, false) => {}
                }
                prop_assert_eq!(table.len(), map.len());
                for (name, value) in &map {
                    let place = table.find(hash(*name), |entry| entry.key() == [*name]);
                    let found = place.and_then(|place| table.at(place)).unwrap();
                    prop_assert_eq!(&found.value, &Value::Integer(*value));
                }
            }
            prop_assert_eq!(table.iter().count(), map.len());
        }
    }
}
