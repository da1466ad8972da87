//! Every interleaving of two or three threads on a few slots.

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::compact::Narrow;
use crate::limit::Limit;
use crate::probe::{Ask, Crowded, Slots, consume, full_at, give_back};
use crate::slot::{Entry, Slot, Wide};

/// Changes in one step, as the real one.
struct Model<E>(Mutex<E>);

/// Both sizes of buckets.
trait Size: Entry + Send + Sync + 'static {
    /// Switches between three threads that are tried. The same protocol finds little new with one more,
    /// and takes minutes.
    const SWITCHES_OF_THREE: usize;
}

impl Size for Wide {
    const SWITCHES_OF_THREE: usize = 3;
}

impl Size for Narrow {
    const SWITCHES_OF_THREE: usize = 2;
}

impl<E: Size> Slot for Model<E> {
    type Entry = E;

    fn load(&self) -> E {
        *self.0.lock().unwrap()
    }

    fn swap(&self, seen: E, new: E) -> Result<(), E> {
        let mut entry = self.0.lock().unwrap();
        if *entry != seen {
            return Err(*entry);
        }
        *entry = new;
        Ok(())
    }
}

struct Table<E> {
    slots: Vec<Model<E>>,
    names: AtomicU64,
}

impl<E: Size> Table<E> {
    fn new(entries: &[E]) -> Arc<Self> {
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
            floor: 0,
            limit: &limit,
            cost,
            crowded: Crowded::Deny,
        };
        let name = || self.names.fetch_add(1, Ordering::Relaxed);
        let asked = consume(self.parts(), &ask, name);
        cost * u32::from(asked.decision.is_allowed())
    }

    /// Each of the two places takes its share of the slots.
    fn parts(&self) -> Slots<'_, Model<E>> {
        let (first, second) = self.slots.split_at(self.slots.len() / 2);
        [first, second]
    }

    fn buckets_of(&self, tag: u64) -> usize {
        let entries = self.slots.iter().map(Slot::load);
        entries.filter(|entry| entry.is_bucket_of(tag)).count()
    }
}

/// More switches than that between threads find nothing new, and take minutes.
const SWITCHES: usize = 3;

fn explore(switches: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(check);
}

const NOW: u64 = 10_000;

fn two_threads_that_make_a_bucket_make_one<E: Size>() {
    explore(SWITCHES, || {
        let table = Table::new(&[E::EMPTY; 2]);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(7, NOW, 2));
        let taken = table.take(7, NOW, 2) + thread.join().unwrap();
        assert_eq!(taken, 2);
        assert_eq!(table.buckets_of(7), 1);
        assert_eq!(full_at(table.parts(), 7, 0), Some(NOW + 2000));
    });
}

fn threads_whose_clocks_differ_see_other_slots_free_and_still_make_one<E: Size>() {
    explore(SWITCHES, || {
        // Free for one of them only, and before the slot that both could take.
        let table = Table::new(&[E::bucket(3, NOW + 1), E::EMPTY]);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(7, NOW, 2));
        let taken = table.take(7, NOW + 1, 2) + thread.join().unwrap();
        assert_eq!(taken, 2);
        assert_eq!(table.buckets_of(7), 1);
    });
}

fn claims_of_other_keys_take_nothing_away<E: Size>() {
    explore(SWITCHES, || {
        let table = Table::new(&[E::EMPTY; 2]);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(8, NOW, 2));
        assert_eq!(table.take(7, NOW, 2), 2);
        assert_eq!(thread.join().unwrap(), 2);
        for tag in [7, 8] {
            assert_eq!(full_at(table.parts(), tag, 0), Some(NOW + 2000));
            assert_eq!(table.buckets_of(tag), 1);
        }
    });
}

fn bucket_that_is_full_is_used_or_replaced_but_never_both<E: Size>() {
    explore(SWITCHES, || {
        let table = Table::new(&[E::bucket(7, NOW - 1), E::bucket(5, NOW + 5000)]);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(8, NOW, 1));
        let seven = table.take(7, NOW, 2);
        let eight = thread.join().unwrap();
        // One slot for the two: whoever comes second finds no room and is denied.
        assert!(matches!((seven, eight), (2, 0) | (0, 1)), "{seven} {eight}");
        assert_eq!(table.buckets_of(7) + table.buckets_of(8), 1);
    });
}

fn three_threads_of_one_key_get_its_burst<E: Size>() {
    explore(E::SWITCHES_OF_THREE, || {
        let table = Table::new(&[E::EMPTY; 2]);
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

fn tokens_given_back_are_those_that_were_taken<E: Size>() {
    explore(SWITCHES, || {
        let table = Table::new(&[E::EMPTY; 2]);
        let other = Arc::clone(&table);
        let thread = thread::spawn(move || other.take(7, NOW, 1));
        let taken = table.take(7, NOW, 1);
        assert_eq!(taken, 1);
        assert!(give_back(table.parts(), 7, 0, 1000));
        assert_eq!(thread.join().unwrap(), 1);
        assert_eq!(full_at(table.parts(), 7, 0), Some(NOW + 1000));
    });
}

macro_rules! sizes {
    ($($test:ident),* $(,)?) => {
        mod wide {
            $(#[test] fn $test() { super::$test::<super::Wide>(); })*
        }

        mod narrow {
            $(#[test] fn $test() { super::$test::<super::Narrow>(); })*
        }
    };
}

sizes![
    two_threads_that_make_a_bucket_make_one,
    threads_whose_clocks_differ_see_other_slots_free_and_still_make_one,
    claims_of_other_keys_take_nothing_away,
    bucket_that_is_full_is_used_or_replaced_but_never_both,
    three_threads_of_one_key_get_its_burst,
    tokens_given_back_are_those_that_were_taken,
];
