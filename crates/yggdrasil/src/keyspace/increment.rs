//! Counters.

use super::entry::Value;
use super::shard::{Key, KeyError, Lifetime, Shard};

/// A change of a counter, within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Increment {
    /// What is added.
    pub by: i64,
    /// Least value that it may lead to.
    pub min: i64,
    /// Greatest value that it may lead to.
    pub max: i64,
    /// What happens where it would lead further.
    pub beyond: Beyond,
    /// How long the counter stays from now on, where it changed.
    pub lifetime: Lifetime,
    /// Whether an end that it has is left alone.
    pub end: IfEnd,
}

/// What a bounded counter does at its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beyond {
    /// Nothing changes.
    #[default]
    Refuse,
    /// It goes as far as it may.
    Saturate,
}

/// Whose end is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfEnd {
    /// That of every counter.
    #[default]
    Replace,
    /// That of a counter without one.
    Leave,
}

impl Increment {
    /// Adds so much without bounds and leaves the end of the counter alone.
    #[must_use]
    pub const fn by(by: i64) -> Self {
        Self {
            by,
            min: i64::MIN,
            max: i64::MAX,
            beyond: Beyond::Refuse,
            lifetime: Lifetime::Keep,
            end: IfEnd::Replace,
        }
    }
}

/// A counter after an increment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incremented {
    /// Its value.
    pub value: i64,
    /// What was added, which is not more than was asked for.
    pub applied: i64,
}

impl Shard {
    /// Adds to a counter; one that is not there begins with 0.
    ///
    /// # Errors
    /// [`WrongType`](KeyError::WrongType), [`NotAnInteger`](KeyError::NotAnInteger), [`Overflow`](KeyError::Overflow) where
    /// the sum has more than 64 bits and the increment has no bounds, [`Full`](KeyError::Full),
    /// [`KeyTooLong`](KeyError::KeyTooLong). Nothing changes then.
    pub fn increment(
        &mut self,
        key: Key<'_>,
        increment: &Increment,
        now_ms: u64,
    ) -> Result<Incremented, KeyError> {
        self.make_room(now_ms)?;
        let place = self.find(key);
        let found = place.and_then(|place| self.table.at(place));
        let found = found.filter(|entry| !entry.is_over(now_ms));
        let value = found.map_or(Ok(0), |entry| number(entry.value()))?;
        let has_end = found.is_some_and(|entry| entry.end_ms().is_some());
        let Some(next) = increment.apply(value)? else {
            return Ok(Incremented { value, applied: 0 });
        };
        let lifetime = match increment.end {
            IfEnd::Leave if has_end => Lifetime::Keep,
            IfEnd::Replace | IfEnd::Leave => increment.lifetime,
        };
        let change = |old: &mut Value| *old = Value::Integer(next);
        let make = || Value::Integer(next);
        self.write_at(key, place, lifetime, now_ms, change, make)?;
        Ok(Incremented {
            value: next,
            // No further than `by`, or the bound on the way there.
            applied: next.wrapping_sub(value),
        })
    }
}

impl Increment {
    /// The value that follows; `None` where there is none within the bounds.
    const fn apply(&self, value: i64) -> Result<Option<i64>, KeyError> {
        let sum = value as i128 + self.by as i128;
        let is_inside = sum >= self.min as i128 && sum <= self.max as i128;
        if is_inside {
            return Ok(Some(sum as i64));
        }
        match self.beyond {
            Beyond::Refuse if self.min == i64::MIN && self.max == i64::MAX => {
                Err(KeyError::Overflow)
            }
            Beyond::Refuse => Ok(None),
            // Never further than asked for, and never back: a value that lies beyond a bound stays
            // where it is.
            Beyond::Saturate if self.by >= 0 && value < self.max => Ok(Some(self.max)),
            Beyond::Saturate if self.by < 0 && value > self.min => Ok(Some(self.min)),
            Beyond::Saturate => Ok(None),
        }
    }
}

pub(super) fn number(value: &Value) -> Result<i64, KeyError> {
    match value {
        Value::Integer(value) => Ok(*value),
        Value::Bytes(bytes) => integer(bytes.as_slice()).ok_or(KeyError::NotAnInteger),
        Value::Lease(_) | Value::Permits(_) => Err(KeyError::WrongType),
    }
}

/// A whole number whose digits are exactly these bytes.
fn integer(bytes: &[u8]) -> Option<i64> {
    let value: i64 = str::from_utf8(bytes).ok()?.parse().ok()?;
    let is_plain = itoa::Buffer::new().format(value).as_bytes() == bytes;
    is_plain.then_some(value)
}
