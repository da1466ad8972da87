//! Every interleaving of two or three threads on a few slots.

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::limit::Limit;
use crate::probe::{Ask, Crowded, Slots, consume, full_at};
use crate::slot::{Entry, Slot};

/// Changes in one step, as the real one.
struct Model(Mutex<Entry>);

impl Slot for Model {
    fn load(&self) -> Entry {
        *self.0.lock().unwrap()
    }

    fn swap(&self, seen: Entry, new: Entry) -> Result<(), Entry> {
        let mut entry = self.0.lock().unwrap();
        if *entry != seen {
            return Err(*entry);
        }
        *entry = new;
        Ok(())
    }
}

struct Table {
    slots: Vec<Model>,
    names: AtomicU64,
}

impl Table {
    fn new(entries: &[Entry]) -> Arc<Self> {
        let slots = entries.iter().map(|entry| Model(Mutex::new(*entry)));
        Arc::new(Self {
            slots: slots.collect(),
            names: AtomicU64::new(1),
        })
    }

    /// Tokens of `tag` that were given at `now`, of a bucket with a burst of 2.
    fn take(&self, tag: u64, now: u64, cost: u32) -> u32 {
        let limit = Limit::new(1000, 2).unwrap();
        let ask = Ask {
            tag,
            now,
            limit: &limit,
            cost,
            crowded: Crowded::Deny,
        };
        let name = || self.names.fetch_add(1, Ordering::Relaxed);
        let asked = consume(self.parts(), &ask, name);
        cost * u32::from(asked.decision.is_allowed())
    }

    /// Each of the two places takes its share of the slots.
    fn parts(&self) -> Slots<'_, Model> {
        let (first, second) = self.slots.split_at(self.slots.len() / 2);
        [first, second]
    }

    fn buckets_of(&self, tag: u64) -> usize {
        let entries = self.slots.iter().map(Slot::load);
        entries.filter(|entry| entry.tag == tag).count()
    }
}

fn explore(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // More switches than that between threads find nothing new, and take minutes.
    builder.preemption_bound = Some(3);
    builder.check(check);
}

const NOW: u64 = 10_000;

#[test]
fn two_threads_that_make_a_bucket_make_one() {
    explore(|| {
        let table = Table::new(&[Entry::EMPTY; 2]);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(7, NOW, 2));
        let taken = table.take(7, NOW, 2) + thread.join().unwrap();
        assert_eq!(taken, 2);
        assert_eq!(table.buckets_of(7), 1);
        assert_eq!(full_at(table.parts(), 7), Some(NOW + 2000));
    });
}

#[test]
fn threads_whose_clocks_differ_see_other_slots_free_and_still_make_one() {
    explore(|| {
        // Free for one of them only, and before the slot that both could take.
        let table = Table::new(&[Entry::bucket(3, NOW + 1), Entry::EMPTY]);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(7, NOW, 2));
        let taken = table.take(7, NOW + 1, 2) + thread.join().unwrap();
        assert_eq!(taken, 2);
        assert_eq!(table.buckets_of(7), 1);
    });
}

#[test]
fn claims_of_other_keys_take_nothing_away() {
    explore(|| {
        let table = Table::new(&[Entry::EMPTY; 2]);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(8, NOW, 2));
        assert_eq!(table.take(7, NOW, 2), 2);
        assert_eq!(thread.join().unwrap(), 2);
        for tag in [7, 8] {
            assert_eq!(full_at(table.parts(), tag), Some(NOW + 2000));
            assert_eq!(table.buckets_of(tag), 1);
        }
    });
}

#[test]
fn bucket_that_is_full_is_used_or_replaced_but_never_both() {
    explore(|| {
        let table = Table::new(&[Entry::bucket(7, NOW - 1), Entry::bucket(5, NOW + 5000)]);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(8, NOW, 1));
        let seven = table.take(7, NOW, 2);
        let eight = thread.join().unwrap();
        // One slot for the two: whoever comes second finds no room and is denied.
        assert!(matches!((seven, eight), (2, 0) | (0, 1)), "{seven} {eight}");
        assert_eq!(table.buckets_of(7) + table.buckets_of(8), 1);
    });
}

#[test]
fn three_threads_of_one_key_get_its_burst() {
    explore(|| {
        let table = Table::new(&[Entry::EMPTY; 2]);
        let threads = [(); 2].map(|()| {
            let table = Arc::clone(&table);
            thread::spawn(move || table.take(7, NOW, 1))
        });
        let mut taken = table.take(7, NOW, 1);
        for thread in threads {
            taken += thread.join().unwrap();
        }
        assert_eq!(taken, 2);
        assert_eq!(table.buckets_of(7), 1);
    });
}
