//! What only one may have, and what only some may have at once.

use super::blob::Blob;
use super::entry::{Lease, Permit, Value};
use super::shard::{Condition, Key, KeyError, Lifetime, Shard};

/// Whether a lease was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leased {
    /// It was, or its holder had it already; with the fencing number.
    Held {
        /// Greater than that of every lease before it on this key.
        fence: u64,
    },
    /// Somebody else has it.
    Taken {
        /// Until when at most, in milliseconds.
        until_ms: u64,
    },
}

/// Whether one of some places was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// It was, or its holder had it already.
    Held {
        /// How many are held now.
        held: u32,
    },
    /// All of them are held.
    Full {
        /// When the first of them ends, in milliseconds.
        until_ms: u64,
    },
}

impl Shard {
    /// Asks for a lease until `until_ms`. Who has it already keeps its fencing number and gets the new
    /// end, so that asking again after a lost answer does no harm. A fencing number is greater than
    /// `now_ms` in microseconds.
    ///
    /// # Errors
    /// [`WrongType`](KeyError::WrongType), [`Full`](KeyError::Full), [`KeyTooLong`](KeyError::KeyTooLong).
    pub fn lease(
        &mut self,
        key: Key<'_>,
        holder: &[u8],
        until_ms: u64,
        now_ms: u64,
    ) -> Result<Leased, KeyError> {
        let found = self.peek(key, now_ms);
        match found.map(|entry| (entry.value(), entry.end_ms())) {
            Some((Value::Lease(lease), _)) if lease.holder.as_slice() == holder => {
                let fence = lease.fence;
                self.set_end(key, Some(until_ms), now_ms);
                Ok(Leased::Held { fence })
            }
            Some((Value::Lease(_), end_ms)) => Ok(Leased::Taken {
                until_ms: end_ms.unwrap_or(u64::MAX),
            }),
            Some(_) => Err(KeyError::WrongType),
            None => {
                // The next version is greater than all that this key ever had. It is also not below the
                // microseconds since the epoch of `now_ms`, so that it grows over stores that follow each
                // other.
                self.raise_version(now_ms.saturating_mul(1000));
                let fence = self.version() + 1;
                let holder = Blob::new(holder);
                let lease = Value::Lease(Box::new(Lease { fence, holder }));
                self.put(key, lease, Lifetime::Until(until_ms), now_ms)?;
                Ok(Leased::Held { fence })
            }
        }
    }

    /// Gives a lease another end; `false` where it is over or somebody else has it.
    ///
    /// # Errors
    /// [`WrongType`](KeyError::WrongType).
    pub fn renew(
        &mut self,
        key: Key<'_>,
        fence: u64,
        until_ms: u64,
        now_ms: u64,
    ) -> Result<bool, KeyError> {
        let has = self.has_lease(key, fence, now_ms)?;
        Ok(has && self.set_end(key, Some(until_ms), now_ms))
    }

    /// Gives a lease back; `false` where it is over or somebody else has it.
    ///
    /// # Errors
    /// [`WrongType`](KeyError::WrongType).
    pub fn release(&mut self, key: Key<'_>, fence: u64, now_ms: u64) -> Result<bool, KeyError> {
        let has = self.has_lease(key, fence, now_ms)?;
        Ok(has && self.remove(key, Condition::Always, now_ms).is_some())
    }

    fn has_lease(&self, key: Key<'_>, fence: u64, now_ms: u64) -> Result<bool, KeyError> {
        match self.peek(key, now_ms).map(|entry| entry.value()) {
            None => Ok(false),
            Some(Value::Lease(lease)) => Ok(lease.fence == fence),
            Some(_) => Err(KeyError::WrongType),
        }
    }

    /// Asks for one of `places` until `until_ms`. Who has one already gets the new end.
    ///
    /// # Errors
    /// [`WrongType`](KeyError::WrongType), [`Full`](KeyError::Full), [`KeyTooLong`](KeyError::KeyTooLong).
    pub fn acquire(
        &mut self,
        key: Key<'_>,
        holder: &[u8],
        places: u32,
        until_ms: u64,
        now_ms: u64,
    ) -> Result<Acquired, KeyError> {
        let mut permits = self.permits(key, now_ms)?;
        let full = permits.len() >= places as usize;
        let mut held = permits.iter_mut();
        match held.find(|permit| permit.holder.as_slice() == holder) {
            Some(permit) => permit.until_ms = until_ms,
            None if full => {
                let first = permits.iter().map(|permit| permit.until_ms).min();
                return Ok(Acquired::Full {
                    until_ms: first.unwrap_or(u64::MAX),
                });
            }
            None => permits.push(Permit {
                holder: Blob::new(holder),
                until_ms,
            }),
        }
        let held = u32::try_from(permits.len()).unwrap_or(u32::MAX);
        self.keep(key, permits, now_ms)?;
        Ok(Acquired::Held { held })
    }

    /// Gives a place back; `false` where its holder has none.
    ///
    /// # Errors
    /// [`WrongType`](KeyError::WrongType).
    pub fn give_back(
        &mut self,
        key: Key<'_>,
        holder: &[u8],
        now_ms: u64,
    ) -> Result<bool, KeyError> {
        let mut permits = self.permits(key, now_ms)?;
        let before = permits.len();
        permits.retain(|permit| permit.holder.as_slice() != holder);
        let had = permits.len() < before;
        if had {
            self.keep(key, permits, now_ms)?;
        }
        Ok(had)
    }

    /// The places of a key that are held.
    fn permits(&self, key: Key<'_>, now_ms: u64) -> Result<Vec<Permit>, KeyError> {
        match self.peek(key, now_ms).map(|entry| entry.value()) {
            None => Ok(Vec::new()),
            Some(Value::Permits(permits)) => {
                let held = permits.iter().filter(|permit| permit.until_ms > now_ms);
                Ok(held.cloned().collect())
            }
            Some(_) => Err(KeyError::WrongType),
        }
    }

    fn keep(&mut self, key: Key<'_>, permits: Vec<Permit>, now_ms: u64) -> Result<(), KeyError> {
        match permits.iter().map(|permit| permit.until_ms).max() {
            None => {
                self.remove(key, Condition::Always, now_ms);
            }
            Some(last_ms) => {
                let permits = Value::Permits(Box::new(permits));
                self.put(key, permits, Lifetime::Until(last_ms), now_ms)?;
            }
        }
        Ok(())
    }
}
