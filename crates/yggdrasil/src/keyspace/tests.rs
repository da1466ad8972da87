//! The keyspace beside a plain map.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::thread;

use proptest::prelude::*;

use super::*;

fn keyspace(shards: usize) -> Keyspace {
    Keyspace::new(&KeyspaceConfig {
        shards,
        ..KeyspaceConfig::default()
    })
}

fn bytes(entry: &Entry) -> Vec<u8> {
    match entry.value() {
        Value::Bytes(bytes) => bytes.as_slice().to_vec(),
        Value::Integer(value) => value.to_string().into_bytes(),
        other => format!("{other:?}").into_bytes(),
    }
}

fn get(keys: &Keyspace, key: &[u8], now_ms: u64) -> Option<Vec<u8>> {
    let key = keys.key(key);
    keys.shard(key).get(key, now_ms).map(bytes)
}

fn set(keys: &Keyspace, key: &[u8], value: &[u8], lifetime: Lifetime, now_ms: u64) -> Written {
    let key = keys.key(key);
    let mut shard = keys.shard(key);
    shard
        .set(key, value, lifetime, Condition::Always, now_ms)
        .unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Set(Vec<u8>, Option<u64>),
    SetKeeping(Vec<u8>),
    SetAbsent(Vec<u8>),
    Swap,
    Increment(i64),
    Remove,
    End(Option<u64>),
    Wait(u64),
    Advance,
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..30),
        Just(b"12".to_vec())
    ];
    prop_oneof![
        (value.clone(), proptest::option::of(0..50_u64))
            .prop_map(|(value, end)| Step::Set(value, end)),
        value.clone().prop_map(Step::SetKeeping),
        value.prop_map(Step::SetAbsent),
        Just(Step::Swap),
        (-5..5_i64).prop_map(Step::Increment),
        Just(Step::Remove),
        proptest::option::of(0..50_u64).prop_map(Step::End),
        (0..20_u64).prop_map(Step::Wait),
        Just(Step::Advance),
    ]
}

/// What a key has to hold, and when it ends.
type Model = BTreeMap<u8, (Vec<u8>, Option<u64>)>;

fn number(value: &[u8]) -> Option<i64> {
    let text = str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn play(keys: &Keyspace, model: &mut Model, name: u8, step: &Step, now_ms: &mut u64) {
    let name_bytes = [name];
    let key = keys.key(&name_bytes);
    let now = *now_ms;
    let old = model.get(&name).cloned();
    let mut shard = keys.shard(key);
    let always = Condition::Always;
    match step {
        Step::Set(value, after) => {
            let end = after.map(|after| now + after);
            let lifetime = end.map_or(Lifetime::Unlimited, Lifetime::Until);
            shard.set(key, value, lifetime, always, now).unwrap();
            model.insert(name, (value.clone(), end.map(|end| end.max(1))));
        }
        Step::SetKeeping(value) => {
            shard.set(key, value, Lifetime::Keep, always, now).unwrap();
            let end = old.and_then(|(_, end)| end);
            model.insert(name, (value.clone(), end));
        }
        Step::SetAbsent(value) => {
            let written = shard.set(key, value, Lifetime::Unlimited, Condition::Absent, now);
            let is_done = matches!(written, Ok(Written::Done(_)));
            assert_eq!(is_done, old.is_none());
            if is_done {
                model.insert(name, (value.clone(), None));
            }
        }
        Step::Swap => {
            let version = shard.peek(key, now).map_or(0, Entry::version);
            let swap = Condition::Version(version);
            let written = shard.set(key, b"swapped", Lifetime::Keep, swap, now);
            assert_eq!(matches!(written, Ok(Written::Done(_))), old.is_some());
            let again = shard.set(key, b"again", Lifetime::Keep, swap, now);
            assert!(matches!(again, Ok(Written::Refused(_))));
            if let Some((_, end)) = old {
                model.insert(name, (b"swapped".to_vec(), end));
            }
        }
        Step::Increment(by) => {
            let done = shard.increment(key, &Increment::by(*by), now);
            let next = old.as_ref().map_or(Some(0), |(value, _)| number(value));
            let next = next.map(|number| number + by);
            assert_eq!(done.ok().map(|done| done.value), next);
            if let Some(next) = next {
                let end = old.and_then(|(_, end)| end);
                model.insert(name, (next.to_string().into_bytes(), end));
            }
        }
        Step::Remove => {
            let removed = shard.remove(key, always, now);
            assert_eq!(removed.as_ref().map(bytes), old.map(|(value, _)| value));
            model.remove(&name);
        }
        Step::End(after) => {
            let end = after.map(|after| now + after);
            assert_eq!(shard.set_end(key, end, now), old.is_some());
            if let Some((_, old_end)) = model.get_mut(&name) {
                *old_end = end;
            }
        }
        Step::Wait(after) => *now_ms += after,
        Step::Advance => {
            drop(shard);
            keys.advance(now);
        }
    }
    model.retain(|_, (_, end)| end.is_none_or(|end| end > *now_ms));
}

proptest! {
    #[test]
    fn keyspace_equals_a_map(steps in proptest::collection::vec((0..4_u8, step()), 1..200)) {
        let keys = keyspace(4);
        let (mut model, mut now_ms) = (Model::new(), 1000);
        for (name, step) in steps {
            play(&keys, &mut model, name, &step, &mut now_ms);
            for name in 0..4 {
                let expected = model.get(&name).map(|(value, _)| value.clone());
                prop_assert_eq!(get(&keys, &[name], now_ms), expected, "{:?}", step);
            }
        }
        keys.advance(now_ms);
        prop_assert_eq!(keys.len(), model.len());
        let with_end = model.values().filter(|(_, end)| end.is_some()).count();
        let counted: usize = keys.shards().map(|shard| shard.with_end()).sum();
        prop_assert_eq!(counted, with_end);
        keys.clear();
        prop_assert_eq!(keys.used_bytes(), 0);
    }

    #[test]
    fn scan_finds_what_is_there_all_the_time_once(
        stay in proptest::collection::hash_set(0..10_000_u32, 1..300),
        come in proptest::collection::vec(10_000..20_000_u32, 0..300),
        count in 1..50_usize,
        shards in 1..20_usize,
    ) {
        let keys = keyspace(shards);
        for key in &stay {
            set(&keys, &key.to_le_bytes(), b"", Lifetime::Unlimited, 1);
        }
        let (mut cursor, mut found, mut come) = (0, Vec::new(), come.into_iter());
        loop {
            cursor = keys.scan(cursor, count, 1, |entry| found.push(entry.key().to_vec()));
            if cursor == 0 {
                break;
            }
            // Tables grow meanwhile.
            for key in come.by_ref().take(20) {
                set(&keys, &key.to_le_bytes(), b"", Lifetime::Unlimited, 1);
            }
        }
        let distinct: HashSet<_> = found.iter().cloned().collect();
        prop_assert_eq!(distinct.len(), found.len());
        for key in stay {
            prop_assert!(distinct.contains(&key.to_le_bytes()[..]));
        }
    }
}

#[test]
fn ends_that_are_set_anew_leave_no_heap_of_timers() {
    let keys = keyspace(1);
    for now_ms in 0..100_000 {
        set(
            &keys,
            b"k",
            b"v",
            Lifetime::Until(now_ms + 3_600_000),
            now_ms,
        );
    }
    let used = keys.used_bytes();
    assert!(used < 1100 * 16, "{used}");
}

#[test]
fn memory_is_bounded_and_what_is_used_stays() {
    let memory_bytes_max = 1 << 20;
    let keys = Keyspace::new(&KeyspaceConfig {
        memory_bytes_max,
        eviction: Eviction::AnyKey,
        shards: 4,
        ..KeyspaceConfig::default()
    });
    for turn in 0..50_000_u32 {
        set(
            &keys,
            &turn.to_le_bytes(),
            &[7; 100],
            Lifetime::Unlimited,
            1,
        );
        for hot in 0..10_u32 {
            let name = (1_000_000 + hot).to_le_bytes();
            if get(&keys, &name, 1).is_none() {
                set(&keys, &name, b"hot", Lifetime::Unlimited, 1);
            }
        }
    }
    assert!(keys.used_bytes() <= memory_bytes_max + 4 * 300);
    let counts = keys.counts();
    assert!(counts.evicted > 40_000);
    // Each was made once and hardly ever again.
    assert!(counts.misses < 30, "{counts:?}");
}

#[test]
fn full_memory_refuses_and_loses_nothing() {
    for eviction in [Eviction::Never, Eviction::WithEnd] {
        let keys = Keyspace::new(&KeyspaceConfig {
            memory_bytes_max: 10_000,
            eviction,
            shards: 1,
            ..KeyspaceConfig::default()
        });
        let write = |number: u32, lifetime| {
            let name = number.to_le_bytes();
            let key = keys.key(&name);
            let mut shard = keys.shard(key);
            shard.set(key, &[1; 100], lifetime, Condition::Always, 1)
        };
        let stored = (0..1000).take_while(|number| write(*number, Lifetime::Unlimited).is_ok());
        let stored = stored.count();
        assert!(stored > 30);
        assert_eq!(write(5000, Lifetime::Unlimited), Err(KeyError::Full));
        assert_eq!(keys.len(), stored);
        // Removing is always possible, and makes room.
        let name = 0_u32.to_le_bytes();
        let key = keys.key(&name);
        assert!(keys.shard(key).set_end(key, Some(1000), 1));
        assert!(keys.shard(key).remove(key, Condition::Always, 1).is_some());
        assert!(write(5000, Lifetime::Until(1000)).is_ok());
        let goes = write(5001, Lifetime::Unlimited).is_ok();
        assert_eq!(goes, eviction == Eviction::WithEnd);
    }
}

#[test]
fn counters_keep_their_bounds() {
    let keys = keyspace(1);
    let key = keys.key(b"n");
    let mut shard = keys.shard(key);
    let mut add = |by, beyond| {
        let increment = Increment {
            min: 0,
            max: 10,
            beyond,
            ..Increment::by(by)
        };
        let done = shard.increment(key, &increment, 1).unwrap();
        (done.value, done.applied)
    };
    assert_eq!(add(7, Beyond::Refuse), (7, 7));
    assert_eq!(add(7, Beyond::Refuse), (7, 0));
    assert_eq!(add(7, Beyond::Saturate), (10, 3));
    assert_eq!(add(7, Beyond::Saturate), (10, 0));
    assert_eq!(add(-20, Beyond::Refuse), (10, 0));
    assert_eq!(add(-20, Beyond::Saturate), (0, -10));
    drop(shard);
    set(&keys, b"n", b"9223372036854775807", Lifetime::Unlimited, 1);
    let done = keys.shard(key).increment(key, &Increment::by(1), 1);
    assert_eq!(done, Err(KeyError::Overflow));
    for wrong in [&b"x"[..], b"01", b"+1", b"", b"9223372036854775808"] {
        set(&keys, b"n", wrong, Lifetime::Unlimited, 1);
        let done = keys.shard(key).increment(key, &Increment::by(1), 1);
        assert_eq!(done, Err(KeyError::NotAnInteger));
    }
}

#[test]
fn end_of_a_counter_is_set_once_where_asked() {
    let keys = keyspace(1);
    let key = keys.key(b"n");
    let mut shard = keys.shard(key);
    let increment = |end_ms, end| Increment {
        lifetime: Lifetime::Until(end_ms),
        end,
        ..Increment::by(1)
    };
    for (end_ms, end, expected) in [
        (100, IfEnd::Leave, 100),
        (200, IfEnd::Leave, 100),
        (300, IfEnd::Replace, 300),
    ] {
        shard.increment(key, &increment(end_ms, end), 1).unwrap();
        assert_eq!(shard.peek(key, 1).unwrap().end_ms(), Some(expected));
    }
}

#[test]
fn lease_has_one_holder_and_its_number_grows() {
    let keys = keyspace(4);
    let key = keys.key(b"leader");
    let mut shard = keys.shard(key);
    let mut last = 0;
    for turn in 0..10 {
        let now_ms = 1000 * turn;
        let Ok(Leased::Held { fence }) = shard.lease(key, b"a", now_ms + 100, now_ms) else {
            panic!("not given");
        };
        assert!(fence > last);
        let again = shard.lease(key, b"a", now_ms + 200, now_ms + 50);
        assert_eq!(again, Ok(Leased::Held { fence }));
        let other = shard.lease(key, b"b", now_ms + 900, now_ms + 199);
        let until_ms = now_ms + 200;
        assert_eq!(other, Ok(Leased::Taken { until_ms }));
        assert_eq!(
            shard.renew(key, fence + 1, now_ms + 300, now_ms + 199),
            Ok(false)
        );
        assert_eq!(
            shard.renew(key, fence, now_ms + 300, now_ms + 199),
            Ok(true)
        );
        assert_eq!(
            shard.renew(key, fence, now_ms + 400, now_ms + 300),
            Ok(false)
        );
        let Ok(Leased::Held { fence: next }) = shard.lease(key, b"b", now_ms + 900, now_ms + 300)
        else {
            panic!("not given");
        };
        assert!(next > fence);
        last = next;
        assert_eq!(shard.release(key, fence, now_ms + 301), Ok(false));
        assert_eq!(shard.release(key, next, now_ms + 301), Ok(true));
    }
    let written = shard.set(key, b"", Lifetime::Unlimited, Condition::Always, 20_000);
    assert!(written.is_ok());
    assert_eq!(
        shard.lease(key, b"a", 30_000, 20_000),
        Err(KeyError::WrongType)
    );
}

#[test]
fn places_are_limited_and_come_back() {
    let keys = keyspace(4);
    let key = keys.key(b"builds");
    let mut shard = keys.shard(key);
    let held = |held| Ok(Acquired::Held { held });
    assert_eq!(shard.acquire(key, b"a", 2, 100, 1), held(1));
    assert_eq!(shard.acquire(key, b"b", 2, 50, 1), held(2));
    assert_eq!(shard.acquire(key, b"b", 2, 60, 1), held(2));
    let full = Ok(Acquired::Full { until_ms: 60 });
    assert_eq!(shard.acquire(key, b"c", 2, 200, 59), full);
    assert_eq!(shard.acquire(key, b"c", 2, 200, 60), held(2));
    assert_eq!(shard.give_back(key, b"b", 60), Ok(false));
    assert_eq!(shard.give_back(key, b"a", 60), Ok(true));
    assert_eq!(shard.acquire(key, b"d", 2, 100, 61), held(2));
    assert_eq!(shard.peek(key, 61).unwrap().end_ms(), Some(200));
    assert!(shard.peek(key, 200).is_none());
}

#[test]
fn threads_together_count_to_the_same() {
    let keys = keyspace(8);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for turn in 0..20_000_u32 {
                    let (one, two) = ((turn % 7).to_le_bytes(), (turn % 5 + 100).to_le_bytes());
                    let (one, two) = (keys.key(&one), keys.key(&two));
                    let mut held = keys.hold([one, two]);
                    for key in [one, two] {
                        let shard = held.shard(key).unwrap();
                        shard.increment(key, &Increment::by(1), 1).unwrap();
                    }
                }
            });
        }
    });
    let mut sum = 0;
    keys.scan(0, 100, 1, |entry| match entry.value() {
        Value::Integer(value) => sum += value,
        other => panic!("{other:?}"),
    });
    assert_eq!(sum, 4 * 20_000 * 2);
}

/// Writes down what it hears.
#[derive(Debug, Default)]
struct Book(Mutex<Vec<Vec<u8>>>);

impl Observer for Book {
    fn written(&self, entry: &Entry) {
        let mut record = Vec::new();
        entry.encode(&mut record);
        self.0.lock().unwrap().push(record);
    }

    fn removed(&self, entry: &Entry, version: u64, _: Cause) {
        assert!(version > entry.version());
        let mut record = Vec::new();
        entry.encode_removal(version, &mut record);
        self.0.lock().unwrap().push(record);
    }
}

proptest! {
    /// A copy of the keys from the middle with the whole book behind it gives the keys at the end.
    #[test]
    fn what_was_heard_gives_the_same_keys(
        steps in proptest::collection::vec((0..4_u8, step()), 1..100),
        copy_at in 0..100_usize,
    ) {
        let book = Arc::new(Book::default());
        let observer: Arc<dyn Observer> = book.clone();
        let keys = keyspace(4).with_observer(&observer);
        let (mut model, mut now_ms, mut copy) = (Model::new(), 1000, Vec::new());
        for (index, (name, step)) in steps.into_iter().enumerate() {
            if index == copy_at {
                for shard in keys.shards() {
                    copy.extend(shard.entries().cloned());
                }
            }
            play(&keys, &mut model, name, &step, &mut now_ms);
        }
        let again = keyspace(8);
        for entry in copy {
            again.restore(entry);
        }
        for record in std::mem::take(&mut *book.0.lock().unwrap()) {
            again.apply(&record).unwrap();
        }
        let newest = |keys: &Keyspace| keys.shards().map(|shard| shard.version()).max();
        prop_assert_eq!(newest(&again), newest(&keys));
        for name in 0..4 {
            prop_assert_eq!(get(&again, &[name], now_ms), get(&keys, &[name], now_ms));
        }
    }
}

#[test]
fn several_hear_of_changes_until_they_stop() {
    let keys = keyspace(4);
    let books: [Arc<Book>; 2] = Default::default();
    let observers: Vec<Arc<dyn Observer>> = books.iter().map(|book| book.clone() as _).collect();
    let heard = || books.each_ref().map(|book| book.0.lock().unwrap().len());
    let set = |name: &[u8]| {
        let key = keys.key(name);
        let lifetime = Lifetime::Unlimited;
        let mut shard = keys.shard(key);
        shard
            .set(key, b"v", lifetime, Condition::Always, 0)
            .unwrap();
    };
    set(b"a");
    assert_eq!(heard(), [0, 0]);
    keys.observe(&observers[0]);
    set(b"b");
    assert_eq!(heard(), [1, 0]);
    keys.observe(&observers[1]);
    keys.clear();
    assert_eq!(heard(), [3, 2]);
    keys.stop_observing(&observers[0]);
    set(b"c");
    assert_eq!(heard(), [3, 3]);
}
