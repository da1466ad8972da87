//! Several changes as one.

use std::collections::HashSet;

pub use yggdrasil::STEPS_MAX;

use crate::adapter::{Condition, Lifetime, OpClass};
use crate::error::StoreError;

/// What has to be there and what is changed then, in one step: everything or nothing, and nobody sees a
/// part of it or changes anything in between.
///
/// It checks first, wherever the checks stand. At most [`STEPS_MAX`] steps; each key is changed at most
/// once. In a cluster all keys have to be in one slot: what stands in braces in a key, as `7` in `{7}:a`,
/// decides the slot.
///
/// ```
/// use valkyrie_store::{Condition, Lifetime, MemoryStore, StoreAdapter, Transacted, Transaction};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let order = Transaction::new()
///     .when(b"order:7", Condition::Absent)
///     .set(b"order:7", b"open", Lifetime::Unlimited)
///     .add(b"orders", 1);
/// assert_eq!(store.transact(&order).await?, Transacted::Done(vec![1]));
/// assert_eq!(store.transact(&order).await?, Transacted::Refused(0));
/// # Ok::<(), valkyrie_store::StoreError>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction<'a> {
    steps: Vec<Step<'a>>,
}

/// A step of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// What is done with it.
    pub action: Action<'a>,
}

/// What a step of a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nothing; this has to be there.
    Check(Condition<'a>),
    /// Stores a value.
    Set(&'a [u8], Lifetime),
    /// Removes the key, if it is there.
    Remove,
    /// Adds to a counter, which begins with 0 and keeps its end.
    Add(i64),
}

impl<'a> Transaction<'a> {
    /// One that does nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    fn with(mut self, key: &'a [u8], action: Action<'a>) -> Self {
        self.steps.push(Step { key, action });
        self
    }

    /// The same where this has to be there.
    #[must_use]
    pub fn when(self, key: &'a [u8], condition: Condition<'a>) -> Self {
        self.with(key, Action::Check(condition))
    }

    /// The same and stores a value.
    #[must_use]
    pub fn set(self, key: &'a [u8], value: &'a [u8], lifetime: Lifetime) -> Self {
        self.with(key, Action::Set(value, lifetime))
    }

    /// The same and removes a key.
    #[must_use]
    pub fn remove(self, key: &'a [u8]) -> Self {
        self.with(key, Action::Remove)
    }

    /// The same and adds to a counter.
    #[must_use]
    pub fn add(self, key: &'a [u8], by: i64) -> Self {
        self.with(key, Action::Add(by))
    }

    /// Its steps, in the order in which they were named.
    #[must_use]
    pub fn steps(&self) -> &[Step<'a>] {
        &self.steps
    }

    /// The keys that it looks at or gives values to. Counters go on from what they are.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a [u8]> {
        let steps = self.steps.iter();
        let steps = steps.filter(|step| !matches!(step.action, Action::Add(_)));
        steps.map(|step| step.key)
    }

    /// The keys to which it gives values.
    pub(crate) fn written(&self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let gives = |step: &&Step<'_>| matches!(step.action, Action::Set(..) | Action::Remove);
        self.steps.iter().filter(gives).map(|step| step.key)
    }

    /// The keys that it changes.
    pub fn changed(&self) -> impl Iterator<Item = &'a [u8]> {
        let changes = |step: &&Step<'_>| !matches!(step.action, Action::Check(_));
        self.steps.iter().filter(changes).map(|step| step.key)
    }

    /// What it is for: that of the step which may do least elsewhere.
    #[must_use]
    pub fn class(&self) -> OpClass {
        let class = |step: &Step<'_>| match step.action {
            Action::Check(condition) => condition.class(),
            Action::Set(..) | Action::Remove => OpClass::Cache,
            Action::Add(_) => OpClass::RateLimit,
        };
        let classes = self.steps.iter().map(class);
        classes.fold(OpClass::Cache, |one, other| match (one, other) {
            (OpClass::Coordination, _) | (_, OpClass::Coordination) => OpClass::Coordination,
            (OpClass::RateLimit, _) | (_, OpClass::RateLimit) => OpClass::RateLimit,
            (OpClass::Cache, OpClass::Cache) => OpClass::Cache,
        })
    }

    /// Whether a store called so may be asked to do it.
    pub(crate) fn is_sound(&self, store: &str) -> Result<(), StoreError> {
        let refuse = |cause: String| {
            Err(StoreError::Rejected {
                store: store.to_owned(),
                cause,
            })
        };
        let steps = self.steps.len();
        if steps > STEPS_MAX {
            return refuse(format!(
                "the transaction has {steps} steps; the most is {STEPS_MAX}"
            ));
        }
        let mut seen = HashSet::new();
        match self.changed().all(|key| seen.insert(key)) {
            true => Ok(()),
            false => refuse("a transaction changes a key twice".to_owned()),
        }
    }
}
