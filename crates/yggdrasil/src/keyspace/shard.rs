//! A part of the keys, used by one thread at a time.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::blob::Blob;
use super::change::{Cause, Observer};
use super::entry::{Entry, Value};
use super::memory::Memory;
use super::table::{self, Table};
use super::wheel::{Timer, Wheel};
use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// A key and its hash in the keyspace that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) hash: u64,
}

impl<'a> Key<'a> {
    /// The key itself.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Why an operation did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key holds another kind of value.
    #[error("the key holds another kind of value")]
    WrongType,
    /// The value is no whole number of 64 bits.
    #[error("value is not an integer or out of range")]
    NotAnInteger,
    /// The sum has more than 64 bits.
    #[error("increment or decrement would overflow")]
    Overflow,
    /// There is no memory for more, and nothing may be evicted.
    #[error("memory is used up")]
    Full,
    /// The key is too long.
    #[error("the key is {0} bytes long; the most is {KEY_BYTES_MAX}")]
    KeyTooLong(usize),
    /// The value is too long.
    #[error("the value is {0} bytes long; the most is {VALUE_BYTES_MAX}")]
    ValueTooLong(usize),
    /// Two steps of a transaction change the same key.
    #[error("a transaction changes a key twice")]
    ChangedTwice,
}

/// How long what is written stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// Until it is removed.
    #[default]
    Unlimited,
    /// As long as what it replaces would have.
    Keep,
    /// Until this time in milliseconds.
    Until(u64),
}

/// What has to be there for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition<'a> {
    /// Anything or nothing.
    #[default]
    Always,
    /// Nothing.
    Absent,
    /// Anything.
    Present,
    /// What has this version.
    Version(u64),
    /// These bytes.
    Equals(&'a [u8]),
}

/// What came of a change with a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was made; this is the version now.
    Done(u64),
    /// The condition did not hold; this is the version that is there, if any.
    Refused(Option<u64>),
}

/// Counts of what a shard did, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys whose end came.
    pub expired: u64,
    /// Keys that made room for others.
    pub evicted: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.expired += other.expired;
        self.evicted += other.evicted;
    }
}

/// A part of the keys. All times are milliseconds of the same clock.
#[derive(Debug, Default)]
pub struct Shard {
    pub(super) table: Table,
    hasher: RandomState,
    wheel: Wheel,
    /// Keys that have an end.
    with_end: usize,
    heap_bytes: usize,
    version: u64,
    pub(super) memory: Memory,
    pub(super) observers: Vec<Arc<dyn Observer>>,
    counts: Counts,
}

impl Shard {
    pub(super) fn new(hasher: RandomState, first_version: u64, memory: Memory) -> Self {
        Self {
            hasher,
            version: first_version,
            memory,
            ..Self::default()
        }
    }

    /// Number of keys, also of those that have ended but were not looked at since.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Keys that have an end.
    #[must_use]
    pub const fn with_end(&self) -> usize {
        self.with_end
    }

    /// Bytes that keys, values and timers take.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        table::bytes_of(self.table.len()) + self.heap_bytes + self.wheel.len() * size_of::<Timer>()
    }

    /// What happened here.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// What a key holds.
    #[inline]
    pub fn get(&mut self, key: Key<'_>, now_ms: u64) -> Option<&Entry> {
        let place = self.find(key);
        match place.and_then(|place| self.table.at_mut(place)) {
            Some(entry) if !entry.is_over(now_ms) => {
                self.counts.hits += 1;
                self.memory.used(entry, now_ms);
                return self.table.at(place?);
            }
            Some(_) => self.expire(key),
            None => {}
        }
        self.counts.misses += 1;
        None
    }

    #[inline]
    pub(super) fn find(&self, key: Key<'_>) -> Option<usize> {
        let is_it = |entry: &Entry| entry.key.as_slice() == key.bytes;
        self.table.find(key.hash, is_it)
    }

    /// The same without counting as a use.
    pub fn peek(&self, key: Key<'_>, now_ms: u64) -> Option<&Entry> {
        let found = self.find(key).and_then(|place| self.table.at(place));
        found.filter(|entry| !entry.is_over(now_ms))
    }

    /// Stores bytes under a key.
    ///
    /// # Errors
    /// [`Full`](KeyError::Full), [`KeyTooLong`](KeyError::KeyTooLong),
    /// [`ValueTooLong`](KeyError::ValueTooLong).
    #[inline]
    pub fn set(
        &mut self,
        key: Key<'_>,
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
        now_ms: u64,
    ) -> Result<Written, KeyError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(KeyError::ValueTooLong(value.len()));
        }
        if condition != Condition::Always {
            let found = self.peek(key, now_ms);
            if !holds(condition, found) {
                return Ok(Written::Refused(found.map(Entry::version)));
            }
        }
        let change = |old: &mut Value| match old {
            // Most values are replaced by one of the same length.
            Value::Bytes(old) => old.assign(value),
            other => *other = Value::Bytes(Blob::new(value)),
        };
        let make = || Value::Bytes(Blob::new(value));
        self.write(key, lifetime, now_ms, change, make)
            .map(Written::Done)
    }

    /// Stores any value under a key.
    pub(super) fn put(
        &mut self,
        key: Key<'_>,
        value: Value,
        lifetime: Lifetime,
        now_ms: u64,
    ) -> Result<u64, KeyError> {
        let mut value = Some(value);
        // One of the two is called, once.
        let take = &mut value;
        if self.peek(key, now_ms).is_some() {
            let change = |old: &mut Value| {
                if let Some(new) = take.take() {
                    *old = new;
                }
            };
            self.write(key, lifetime, now_ms, change, || Value::Integer(0))
        } else {
            let make = || take.take().unwrap_or(Value::Integer(0));
            self.write(key, lifetime, now_ms, |_| (), make)
        }
    }

    /// Changes what a key holds, or makes it; gives the new version.
    #[inline]
    pub(super) fn write(
        &mut self,
        key: Key<'_>,
        lifetime: Lifetime,
        now_ms: u64,
        change: impl FnOnce(&mut Value),
        make: impl FnOnce() -> Value,
    ) -> Result<u64, KeyError> {
        self.make_room(now_ms)?;
        let place = self.find(key);
        self.write_at(key, place, lifetime, now_ms, change, make)
    }

    /// The same where it is known what [`find`](Self::find) finds, after room was made.
    #[inline]
    pub(super) fn write_at(
        &mut self,
        key: Key<'_>,
        place: Option<usize>,
        lifetime: Lifetime,
        now_ms: u64,
        change: impl FnOnce(&mut Value),
        make: impl FnOnce() -> Value,
    ) -> Result<u64, KeyError> {
        let version = self.version + 1;
        let Some(entry) = place.and_then(|place| self.table.at_mut(place)) else {
            return self.insert(key, make(), lifetime);
        };
        if entry.is_over(now_ms) {
            self.expire(key);
            return self.insert(key, make(), lifetime);
        }
        let (had_end, before) = (entry.end_ms().is_some(), entry.heap_bytes());
        change(&mut entry.value);
        entry.version = version;
        match lifetime {
            Lifetime::Keep => {}
            Lifetime::Unlimited => entry.set_end_ms(None),
            Lifetime::Until(end_ms) => entry.set_end_ms(Some(end_ms)),
        }
        self.memory.used(entry, now_ms);
        for observer in &self.observers {
            observer.written(entry);
        }
        let end_ms = entry.end_ms();
        self.heap_bytes = self.heap_bytes - before + entry.heap_bytes();
        self.with_end = self.with_end + usize::from(end_ms.is_some()) - usize::from(had_end);
        self.version = version;
        if lifetime != Lifetime::Keep {
            self.add_timer(end_ms, key.hash);
        }
        Ok(version)
    }

    fn insert(&mut self, key: Key<'_>, value: Value, lifetime: Lifetime) -> Result<u64, KeyError> {
        if key.bytes.len() > KEY_BYTES_MAX {
            return Err(KeyError::KeyTooLong(key.bytes.len()));
        }
        let end_ms = match lifetime {
            Lifetime::Until(end_ms) => Some(end_ms),
            Lifetime::Keep | Lifetime::Unlimited => None,
        };
        // Expiry of what was here may have come between.
        self.version += 1;
        let entry = Entry::new(Blob::new(key.bytes), value, self.version, end_ms);
        for observer in &self.observers {
            observer.written(&entry);
        }
        self.add(entry, key.hash);
        Ok(self.version)
    }

    /// Takes an entry that an earlier life or another server wrote down; an older one than is there is
    /// dropped.
    pub(super) fn restore(&mut self, entry: Entry, hash: u64) {
        self.version = self.version.max(entry.version);
        let key = Key {
            bytes: entry.key.as_slice(),
            hash,
        };
        let found = self.find(key).and_then(|place| self.table.at(place));
        match found.map(Entry::version) {
            Some(version) if version > entry.version => return,
            Some(_) => drop(self.take(key)),
            None => {}
        }
        for observer in &self.observers {
            observer.written(&entry);
        }
        self.add(entry, hash);
    }

    fn add(&mut self, entry: Entry, hash: u64) {
        self.heap_bytes += entry.heap_bytes();
        self.with_end += usize::from(entry.end_ms().is_some());
        let end_ms = entry.end_ms();
        self.table.insert(hash, entry, rehash(&self.hasher));
        self.add_timer(end_ms, hash);
    }

    /// Removes a key where the condition holds; what it held.
    pub fn remove(&mut self, key: Key<'_>, condition: Condition<'_>, now_ms: u64) -> Option<Entry> {
        let found = self.peek(key, now_ms)?;
        if !holds(condition, Some(found)) {
            return None;
        }
        self.version += 1;
        self.take_for(self.find(key)?, Cause::Removed)
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        let table = std::mem::take(&mut self.table);
        self.wheel.clear();
        (self.with_end, self.heap_bytes) = (0, 0);
        self.version += 1;
        for observer in &self.observers {
            for entry in table.iter() {
                observer.removed(entry, self.version, Cause::Cleared);
            }
        }
    }

    /// Sets when a key ends, `None` for never; `false` where there is no such key.
    pub fn set_end(&mut self, key: Key<'_>, end_ms: Option<u64>, now_ms: u64) -> bool {
        let is_there = self.peek(key, now_ms).is_some();
        if !is_there {
            return false;
        }
        match end_ms {
            Some(end_ms) if end_ms <= now_ms => {
                self.remove(key, Condition::Always, now_ms);
                return true;
            }
            _ => {}
        }
        let lifetime = end_ms.map_or(Lifetime::Unlimited, Lifetime::Until);
        // Changing a lifetime needs no room, and the key is there.
        let room = std::mem::take(&mut self.memory.limit_bytes);
        let done = self.write(key, lifetime, now_ms, |_| (), || Value::Integer(0));
        self.memory.limit_bytes = room;
        done.is_ok()
    }

    /// Removes keys whose end has come.
    pub fn advance(&mut self, now_ms: u64) {
        let mut over = Vec::new();
        self.wheel.advance(now_ms, |timer| over.push(timer));
        for timer in over {
            let is_meant = |entry: &Entry| entry.end_ms() == Some(timer.at_ms);
            if let Some(place) = self.table.find(timer.hash, is_meant) {
                self.counts.expired += 1;
                self.version += 1;
                self.take_for(place, Cause::Expired);
            }
        }
    }

    /// All entries, in no order; some may have ended.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.table.iter()
    }

    /// The newest version here. Every change makes a greater one.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn raise_version(&mut self, version: u64) {
        self.version = self.version.max(version);
    }

    fn add_timer(&mut self, end_ms: Option<u64>, hash: u64) {
        let Some(at_ms) = end_ms else {
            return;
        };
        self.wheel.add(Timer { hash, at_ms });
        // Keys whose end is set anew leave timers behind that are not meant any more.
        if self.wheel.len() > 2 * self.with_end + 1024 {
            self.wheel.clear();
            for entry in self.table.iter() {
                if let Some(at_ms) = entry.end_ms() {
                    let hash = self.hasher.hash_one(entry.key());
                    self.wheel.add(Timer { hash, at_ms });
                }
            }
        }
    }

    /// The end of a key was seen by somebody who wanted it.
    #[cold]
    fn expire(&mut self, key: Key<'_>) {
        if let Some(place) = self.find(key) {
            self.counts.expired += 1;
            self.version += 1;
            self.take_for(place, Cause::Expired);
        }
    }

    fn take_for(&mut self, place: usize, cause: Cause) -> Option<Entry> {
        let entry = self.take_at(place)?;
        for observer in &self.observers {
            observer.removed(&entry, self.version, cause);
        }
        Some(entry)
    }

    pub(super) fn take(&mut self, key: Key<'_>) -> Option<Entry> {
        self.take_at(self.find(key)?)
    }

    fn take_at(&mut self, place: usize) -> Option<Entry> {
        let entry = self.table.remove(place, rehash(&self.hasher))?;
        self.forget(&entry);
        Some(entry)
    }

    fn forget(&mut self, entry: &Entry) {
        self.heap_bytes -= entry.heap_bytes();
        self.with_end -= usize::from(entry.end_ms().is_some());
    }

    /// Makes room for one more entry.
    #[inline]
    pub(super) fn make_room(&mut self, now_ms: u64) -> Result<(), KeyError> {
        match self.memory.limit_bytes {
            0 => Ok(()),
            limit if self.used_bytes() < limit => Ok(()),
            _ => self.evict(now_ms),
        }
    }

    #[cold]
    fn evict(&mut self, now_ms: u64) -> Result<(), KeyError> {
        self.advance(now_ms);
        while self.used_bytes() >= self.memory.limit_bytes {
            let Some(place) = self.memory.victim(&self.table, now_ms) else {
                return Err(KeyError::Full);
            };
            self.counts.evicted += 1;
            self.version += 1;
            self.take_for(place, Cause::Evicted);
        }
        Ok(())
    }
}

/// Whether a change may be made to what was found.
pub(super) fn holds(condition: Condition<'_>, found: Option<&Entry>) -> bool {
    match (condition, found) {
        (Condition::Always, _) => true,
        (Condition::Absent, found) => found.is_none(),
        (Condition::Present, found) => found.is_some(),
        (Condition::Version(version), Some(entry)) => entry.version == version,
        (Condition::Equals(bytes), Some(entry)) => match &entry.value {
            Value::Bytes(value) => value.as_slice() == bytes,
            Value::Integer(value) => itoa::Buffer::new().format(*value).as_bytes() == bytes,
            Value::Lease(_) | Value::Permits(_) => false,
        },
        (Condition::Version(_) | Condition::Equals(_), None) => false,
    }
}

fn rehash(hasher: &RandomState) -> impl Fn(&Entry) -> u64 {
    |entry| hasher.hash_one(entry.key())
}
