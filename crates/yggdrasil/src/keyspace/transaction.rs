//! Several changes as one.

use super::entry::{Entry, Value};
use super::increment::{Increment, number};
use super::shard::{Condition, Key, KeyError, Lifetime, Shard, holds};
use super::{Held, KEY_BYTES_MAX, Keyspace, VALUE_BYTES_MAX};

/// Most steps of a transaction that servers and stores take.
pub const STEPS_MAX: usize = 1024;

/// A step of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// This has to be there, or nothing is done.
    Check(Condition<'a>),
    /// Stores bytes.
    Set(&'a [u8], Lifetime),
    /// Removes the key, if it is there.
    Remove,
    /// Adds to a counter, which begins with 0 and keeps its end.
    Add(i64),
}

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transacted {
    /// Everything was done; the value of each counter that was added to, in their order.
    Done(Vec<i64>),
    /// Nothing was done: the check with this index among all steps did not hold.
    Refused(usize),
}

impl Keyspace {
    /// Does all of these steps as one, or none of them: nobody sees a part, or changes anything in
    /// between. First everything is checked, wherever it stands among the steps, then everything is
    /// changed.
    ///
    /// # Errors
    /// Nothing is done then: [`ChangedTwice`](KeyError::ChangedTwice) where two steps change the same
    /// key, [`WrongType`](KeyError::WrongType), [`NotAnInteger`](KeyError::NotAnInteger),
    /// [`Overflow`](KeyError::Overflow), [`Full`](KeyError::Full),
    /// [`KeyTooLong`](KeyError::KeyTooLong), [`ValueTooLong`](KeyError::ValueTooLong).
    pub fn transact(
        &self,
        steps: &[(Key<'_>, Step<'_>)],
        now_ms: u64,
    ) -> Result<Transacted, KeyError> {
        self.hold(steps.iter().map(|(key, _)| *key))
            .transact(steps, now_ms)
    }
}

impl Held<'_> {
    /// The same as [`Keyspace::transact`] while shards are held, among them those of all keys of the
    /// steps. Steps whose shards are not held do nothing, and their checks do not hold.
    ///
    /// # Errors
    /// Those of [`Keyspace::transact`].
    pub fn transact(
        &mut self,
        steps: &[(Key<'_>, Step<'_>)],
        now_ms: u64,
    ) -> Result<Transacted, KeyError> {
        let mut changed: Vec<&[u8]> = steps.iter().filter_map(changes).collect();
        changed.sort_unstable();
        if changed.array_windows().any(|[one, next]| one == next) {
            return Err(KeyError::ChangedTwice);
        }
        // What makes room may remove what the checks look for, so room comes first.
        for (key, step) in steps {
            if let Some(shard) = self.shard(*key) {
                shard.has_room_for(*key, step, now_ms)?;
            }
        }
        for (index, (key, step)) in steps.iter().enumerate() {
            if let Step::Check(condition) = step {
                let found = self.shard(*key).is_some_and(|shard| {
                    let found = shard.peek(*key, now_ms);
                    holds(*condition, found)
                });
                if !found {
                    return Ok(Transacted::Refused(index));
                }
            }
        }
        for (key, step) in steps {
            if let (Step::Add(by), Some(shard)) = (step, self.shard(*key)) {
                let value = shard.peek(*key, now_ms).map(Entry::value);
                let value = value.map_or(Ok(0), number)?;
                value.checked_add(*by).ok_or(KeyError::Overflow)?;
            }
        }
        let mut sums = Vec::new();
        for (key, step) in steps {
            if let Some(shard) = self.shard(*key) {
                sums.extend(shard.apply(*key, step, now_ms)?);
            }
        }
        Ok(Transacted::Done(sums))
    }
}

/// The key that a step changes.
fn changes<'a>((key, step): &(Key<'a>, Step<'_>)) -> Option<&'a [u8]> {
    match step {
        Step::Check(_) => None,
        Step::Set(..) | Step::Remove | Step::Add(_) => Some(key.bytes()),
    }
}

impl Shard {
    fn has_room_for(&mut self, key: Key<'_>, step: &Step<'_>, now_ms: u64) -> Result<(), KeyError> {
        let value = match step {
            Step::Check(_) | Step::Remove => return Ok(()),
            Step::Set(value, _) => value.len(),
            Step::Add(_) => size_of::<Value>(),
        };
        match (key.bytes().len(), value) {
            (len, _) if len > KEY_BYTES_MAX => Err(KeyError::KeyTooLong(len)),
            (_, len) if len > VALUE_BYTES_MAX => Err(KeyError::ValueTooLong(len)),
            _ => self.make_room(now_ms),
        }
    }

    /// Does what was found to be possible; the value of a counter.
    fn apply(
        &mut self,
        key: Key<'_>,
        step: &Step<'_>,
        now_ms: u64,
    ) -> Result<Option<i64>, KeyError> {
        // Room was made before; steps before this one may have used it up, by no more than they say.
        let room = std::mem::take(&mut self.memory.limit_bytes);
        let done = match step {
            Step::Check(_) => Ok(None),
            Step::Set(value, lifetime) => self
                .set(key, value, *lifetime, Condition::Always, now_ms)
                .map(|_| None),
            Step::Remove => {
                self.remove(key, Condition::Always, now_ms);
                Ok(None)
            }
            Step::Add(by) => self
                .increment(key, &Increment::by(*by), now_ms)
                .map(|done| Some(done.value)),
        };
        self.memory.limit_bytes = room;
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;
    use crate::{Eviction, KeyspaceConfig};

    fn text(keys: &Keyspace, key: &str) -> Option<String> {
        let key = keys.key(key.as_bytes());
        let shard = keys.shard(key);
        Some(match shard.peek(key, 1)?.value() {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes.as_slice()).into_owned(),
            Value::Integer(value) => value.to_string(),
            other => panic!("{other:?}"),
        })
    }

    fn run(keys: &Keyspace, steps: &[(&str, Step<'_>)]) -> Result<Transacted, KeyError> {
        let steps: Vec<_> = steps
            .iter()
            .map(|(name, step)| (keys.key(name.as_bytes()), *step))
            .collect();
        keys.transact(&steps, 1)
    }

    const FOREVER: Lifetime = Lifetime::Unlimited;

    #[test]
    fn everything_or_nothing_is_done() {
        let keys = Keyspace::new(&KeyspaceConfig::default());
        let steps = [
            ("a", Step::Check(Condition::Absent)),
            ("a", Step::Set(b"1", FOREVER)),
            ("n", Step::Add(5)),
            ("gone", Step::Remove),
            ("m", Step::Add(-2)),
        ];
        assert_eq!(run(&keys, &steps), Ok(Transacted::Done(vec![5, -2])));
        assert_eq!(run(&keys, &steps), Ok(Transacted::Refused(0)));
        assert_eq!(text(&keys, "n").as_deref(), Some("5"));
        // Checks count wherever they stand.
        let steps = [
            ("n", Step::Add(1)),
            ("a", Step::Remove),
            ("a", Step::Check(Condition::Equals(b"2"))),
        ];
        assert_eq!(run(&keys, &steps), Ok(Transacted::Refused(2)));
        let steps = [
            ("n", Step::Add(1)),
            ("a", Step::Remove),
            ("a", Step::Check(Condition::Equals(b"1"))),
            ("m", Step::Check(Condition::Equals(b"-2"))),
        ];
        assert_eq!(run(&keys, &steps), Ok(Transacted::Done(vec![6])));
        assert_eq!(text(&keys, "a"), None);
        assert_eq!(run(&keys, &[]), Ok(Transacted::Done(vec![])));
    }

    #[test]
    fn what_cannot_be_done_leaves_everything() {
        let keys = Keyspace::new(&KeyspaceConfig::default());
        run(&keys, &[("word", Step::Set(b"abc", FOREVER))]).unwrap();
        run(&keys, &[("much", Step::Add(i64::MAX))]).unwrap();
        let lease = keys.key(b"lease");
        keys.shard(lease).lease(lease, b"me", 100, 1).unwrap();
        let long = vec![0; KEY_BYTES_MAX + 1];
        let long = str::from_utf8(&long).unwrap();
        for (name, step, error) in [
            ("word", Step::Add(1), KeyError::NotAnInteger),
            ("much", Step::Add(1), KeyError::Overflow),
            ("lease", Step::Add(1), KeyError::WrongType),
            ("other", Step::Remove, KeyError::ChangedTwice),
            (long, Step::Add(1), KeyError::KeyTooLong(long.len())),
        ] {
            let steps = [("other", Step::Set(b"1", FOREVER)), (name, step)];
            assert_eq!(run(&keys, &steps), Err(error));
            assert_eq!(text(&keys, "other"), None, "{name}");
        }
    }

    #[test]
    fn memory_that_is_used_up_refuses_all_of_it() {
        let keys = Keyspace::new(&KeyspaceConfig {
            shards: 1,
            memory_bytes_max: 4096,
            eviction: Eviction::Never,
            ..KeyspaceConfig::default()
        });
        let value = vec![7; 3000];
        let steps = [
            ("a", Step::Set(&value, FOREVER)),
            ("b", Step::Set(&value, FOREVER)),
        ];
        assert_eq!(run(&keys, &steps), Ok(Transacted::Done(vec![])));
        let steps = [("a", Step::Remove), ("c", Step::Set(&value, FOREVER))];
        assert_eq!(run(&keys, &steps), Err(KeyError::Full));
        assert_eq!(keys.len(), 2);
    }

    #[test]
    fn nobody_sees_a_part() {
        let keys = Keyspace::new(&KeyspaceConfig::default());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let steps = [("from", Step::Add(-1)), ("to", Step::Add(1))];
                        run(&keys, &steps).unwrap();
                    }
                    stop.store(true, Ordering::Relaxed);
                });
            }
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let both = [("from", Step::Add(0)), ("to", Step::Add(0))];
                    let Ok(Transacted::Done(sums)) = run(&keys, &both) else {
                        panic!("refused");
                    };
                    assert_eq!(sums.iter().sum::<i64>(), 0);
                }
            });
        });
        assert_eq!(text(&keys, "to").as_deref(), Some("40000"));
    }
}
