//! Limits by key and by what keys begin with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::keyspace::KEY_BYTES_MAX;
use crate::limit::Limit;

/// Policies that a table has at most.
pub const POLICIES_MAX: usize = 65_536;
/// Bytes of the longest name of a policy.
pub const POLICY_NAME_BYTES_MAX: usize = 255;

/// A limit with a name. A key has a bucket of its own under each name: a policy with another limit and
/// the same name goes on with the same buckets, one with another name begins with full ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    name: String,
    id: u64,
    limit: Limit,
}

/// Which keys a policy is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// This key.
    Key(Vec<u8>),
    /// All keys that begin so.
    Prefix(Vec<u8>),
}

/// Why there is no such policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// There are [`POLICIES_MAX`] policies.
    #[error("there are {POLICIES_MAX} policies already; remove one first")]
    TooMany,
    /// No key is as long as the pattern.
    #[error("the pattern is {0} bytes long; the most is {KEY_BYTES_MAX}")]
    PatternTooLong(usize),
    /// The name is empty or too long.
    #[error("the name is {0} bytes long; name 1 to {POLICY_NAME_BYTES_MAX}")]
    Name(usize),
}

/// Policies by key and prefix, which change while others read: readers wait for nobody, and see all of
/// a change or nothing of it.
#[derive(Debug, Default)]
pub struct Policies {
    current: ArcSwap<Set>,
    /// Who changes them.
    changing: Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct Set {
    keys: HashMap<Vec<u8>, Arc<Policy>>,
    prefixes: HashMap<Vec<u8>, Arc<Policy>>,
    /// How long prefixes are; the longest first.
    lengths: Vec<usize>,
}

impl Policy {
    /// A limit with a name of 1 to [`POLICY_NAME_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`PolicyError::Name`].
    pub fn new(name: &str, limit: Limit) -> Result<Self, PolicyError> {
        if !(1..=POLICY_NAME_BYTES_MAX).contains(&name.len()) {
            return Err(PolicyError::Name(name.len()));
        }
        Ok(Self {
            name: name.to_owned(),
            id: fnv(name.as_bytes()),
            limit,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The limit of each key's bucket.
    #[must_use]
    pub const fn limit(&self) -> &Limit {
        &self.limit
    }

    /// A number that no policy with another name has, but for one in 2^64.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }
}

impl Pattern {
    /// Reads `user:*`, all keys that begin with `user:`, or a key, which does not end with `*`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        match text.split_last() {
            Some((b'*', prefix)) => Self::Prefix(prefix.to_vec()),
            _ => Self::Key(text.to_vec()),
        }
    }

    /// As [`parse`](Self::parse) reads it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Key(key) => key.clone(),
            Self::Prefix(prefix) => [prefix, b"*".as_slice()].concat(),
        }
    }
}

impl Policies {
    /// Does something with the policy of a key: its own one, or else that of the longest prefix.
    /// Nothing, where there is none.
    pub fn with<T>(&self, key: &[u8], what: impl FnOnce(&Policy) -> T) -> Option<T> {
        self.current.load().find(key).map(what)
    }

    /// Gives keys another policy from here on.
    ///
    /// # Errors
    /// [`PolicyError::TooMany`] and [`PolicyError::PatternTooLong`]; nothing is changed.
    pub fn set(&self, pattern: Pattern, policy: Policy) -> Result<(), PolicyError> {
        let (Pattern::Key(text) | Pattern::Prefix(text)) = &pattern;
        if text.len() > KEY_BYTES_MAX {
            return Err(PolicyError::PatternTooLong(text.len()));
        }
        self.change(|set| {
            match pattern {
                Pattern::Key(key) => set.keys.insert(key, Arc::new(policy)),
                Pattern::Prefix(prefix) => set.prefixes.insert(prefix, Arc::new(policy)),
            };
            match set.keys.len() + set.prefixes.len() {
                0..=POLICIES_MAX => Ok(()),
                _ => Err(PolicyError::TooMany),
            }
        })
    }

    /// Takes the policy of a pattern away; whether there was one. Keys have that of a shorter prefix
    /// then, if any.
    pub fn remove(&self, pattern: &Pattern) -> bool {
        let removed = self.change(|set| {
            let removed = match pattern {
                Pattern::Key(key) => set.keys.remove(key),
                Pattern::Prefix(prefix) => set.prefixes.remove(prefix),
            };
            removed.map(drop).ok_or(())
        });
        removed.is_ok()
    }

    /// All of them: those of keys, then those of prefixes, each in order of bytes.
    #[must_use]
    pub fn list(&self) -> Vec<(Pattern, Arc<Policy>)> {
        let set = self.current.load();
        let keys = set
            .keys
            .iter()
            .map(|(key, policy)| (Pattern::Key(key.clone()), policy));
        let prefixes = set
            .prefixes
            .iter()
            .map(|(prefix, policy)| (Pattern::Prefix(prefix.clone()), policy));
        let mut list: Vec<_> = keys
            .chain(prefixes)
            .map(|(pattern, policy)| (pattern, Arc::clone(policy)))
            .collect();
        list.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        list
    }

    /// Has readers see a changed copy, unless the change fails.
    fn change<E>(&self, change: impl FnOnce(&mut Set) -> Result<(), E>) -> Result<(), E> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut set = Set::clone(&self.current.load());
        change(&mut set)?;
        set.lengths = set.prefixes.keys().map(Vec::len).collect();
        set.lengths.sort_unstable_by(|one, other| other.cmp(one));
        set.lengths.dedup();
        self.current.store(Arc::new(set));
        Ok(())
    }
}

impl Set {
    fn find(&self, key: &[u8]) -> Option<&Policy> {
        if let Some(policy) = self.keys.get(key) {
            return Some(policy);
        }
        let mut prefixes = self.lengths.iter().filter_map(|length| key.get(..*length));
        let policy = prefixes.find_map(|prefix| self.prefixes.get(prefix));
        policy.map(Arc::as_ref)
    }
}

/// FNV-1a (Fowler, Noll, Vo; draft-eastlake-fnv), which stays the same from life to life.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;
    use crate::buckets::Buckets;

    fn policy(name: &str, burst: u32) -> Policy {
        Policy::new(name, Limit::new(86_400_000_000_000, burst).unwrap()).unwrap()
    }

    fn name(policies: &Policies, key: &str) -> Option<String> {
        policies.with(key.as_bytes(), |policy| policy.name().to_owned())
    }

    fn set(policies: &Policies, pattern: &str, name: &str) {
        let pattern = Pattern::parse(pattern.as_bytes());
        policies.set(pattern, policy(name, 5)).unwrap();
    }

    #[test]
    fn hash_is_that_of_its_authors() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn key_goes_before_the_longest_prefix() {
        let policies = Policies::default();
        assert_eq!(name(&policies, "user:7"), None);
        for (pattern, policy) in [("u*", "short"), ("user:*", "long"), ("user:7", "own")] {
            set(&policies, pattern, policy);
        }
        for (key, expected) in [
            ("user:7", Some("own")),
            ("user:77", Some("long")),
            ("user:", Some("long")),
            ("user", Some("short")),
            ("u", Some("short")),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(name(&policies, key).as_deref(), expected, "{key}");
        }
        set(&policies, "*", "all");
        assert_eq!(name(&policies, "").as_deref(), Some("all"));
        for pattern in ["user:7", "user:*", "u*"] {
            assert!(policies.remove(&Pattern::parse(pattern.as_bytes())));
            assert!(!policies.remove(&Pattern::parse(pattern.as_bytes())));
        }
        assert_eq!(name(&policies, "user:7").as_deref(), Some("all"));
    }

    #[test]
    fn list_shows_patterns_as_they_were_named() {
        let policies = Policies::default();
        for pattern in ["b*", "k", "a*", "*"] {
            set(&policies, pattern, pattern);
        }
        let list = policies.list();
        let shown: Vec<_> = list.iter().map(|(pattern, _)| pattern.to_bytes()).collect();
        assert_eq!(
            shown,
            [b"k".to_vec(), b"*".to_vec(), b"a*".to_vec(), b"b*".to_vec()]
        );
        assert!(
            list.iter()
                .all(|(pattern, policy)| pattern.to_bytes() == policy.name().as_bytes())
        );
    }

    #[test]
    fn bounds_are_kept() {
        let limit = *policy("x", 1).limit();
        assert_eq!(Policy::new("", limit), Err(PolicyError::Name(0)));
        let long = "x".repeat(POLICY_NAME_BYTES_MAX + 1);
        assert_eq!(Policy::new(&long, limit), Err(PolicyError::Name(256)));
        let policies = Policies::default();
        let pattern = Pattern::Prefix(vec![0; KEY_BYTES_MAX + 1]);
        let refused = policies.set(pattern, policy("x", 1));
        assert_eq!(refused, Err(PolicyError::PatternTooLong(KEY_BYTES_MAX + 1)));
        let many = Set {
            keys: (0..POLICIES_MAX as u32)
                .map(|key| (key.to_le_bytes().to_vec(), Arc::new(policy("x", 1))))
                .collect(),
            ..Set::default()
        };
        policies.current.store(Arc::new(many));
        let refused = policies.set(Pattern::parse(b"one more"), policy("x", 1));
        assert_eq!(refused, Err(PolicyError::TooMany));
        assert_eq!(name(&policies, "one more"), None);
        // One that is there can still be changed.
        policies
            .set(Pattern::Key(vec![0; 4]), policy("y", 1))
            .unwrap();
    }

    #[test]
    fn bucket_goes_on_under_the_same_name_only() {
        let buckets = Buckets::with_room_for(100);
        let take = |policy: &Policy| buckets.try_consume_by(policy, b"k", 3, 0).remaining;
        assert_eq!(take(&policy("one", 5)), 2);
        assert_eq!(take(&policy("other", 5)), 2);
        assert_eq!(take(&policy("one", 6)), 0);
        assert_eq!(
            buckets
                .try_consume(b"k", policy("one", 6).limit(), 0, 0)
                .remaining,
            6
        );
        assert!(buckets.reset_by(&policy("one", 6), b"k"));
        assert_eq!(take(&policy("one", 6)), 3);
    }

    #[test]
    fn readers_see_whole_changes_while_they_are_made() {
        let (policies, done) = (Policies::default(), AtomicBool::new(false));
        set(&policies, "k*", "0");
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut newest = 0;
                    while !done.load(Ordering::Acquire) {
                        let seen: u32 = name(&policies, "key").unwrap().parse().unwrap();
                        assert!(seen >= newest, "{seen} after {newest}");
                        newest = seen;
                    }
                });
            }
            for round in 1..2000_u32 {
                set(&policies, "k*", &round.to_string());
            }
            done.store(true, Ordering::Release);
        });
    }
}
