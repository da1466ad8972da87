//! What is kept for one key.

use super::blob::Blob;

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Any bytes.
    Bytes(Blob),
    /// A whole number, which [`increment`](super::Shard::increment) made. The same as its digits.
    Integer(i64),
    /// Who has what only one may have.
    Lease(Box<Lease>),
    /// Who has what only some may have at once.
    Permits(Box<Vec<Permit>>),
}

impl Value {
    /// Bytes beside the 24 of itself.
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.heap_bytes(),
            Self::Integer(_) => 0,
            Self::Lease(lease) => size_of::<Lease>() + lease.holder.heap_bytes(),
            Self::Permits(permits) => {
                let holders = permits.iter().map(|permit| permit.holder.heap_bytes());
                permits.capacity() * size_of::<Permit>() + holders.sum::<usize>() + 32
            }
        }
    }
}

/// The right to be the only one, for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Greater than that of every lease before it on the same key. Whatever the lease protects
    /// refuses who comes with a smaller one.
    pub fence: u64,
    /// Who has it.
    pub holder: Blob,
}

/// A place among some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Who has it.
    pub holder: Blob,
    /// When it ends, in milliseconds.
    pub until_ms: u64,
}

/// A key with what it holds: one cache line.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub struct Entry {
    pub(super) key: Blob,
    pub(super) value: Value,
    pub(super) version: u64,
    /// When it ends in milliseconds, 0 for never, in the upper 48 bits; how often it is used in the
    /// next 8, when that was written down in the last.
    pub(super) end_and_use: u64,
}

const _: () = assert!(size_of::<Entry>() == 64);

const USE_BITS: u32 = 16;
/// Latest end of anything: some 8,900 years after the beginning of the clock.
pub(crate) const END_MS_MAX: u64 = (1 << (64 - USE_BITS)) - 1;

impl Entry {
    pub(super) fn new(key: Blob, value: Value, version: u64, end_ms: Option<u64>) -> Self {
        let mut entry = Self {
            key,
            value,
            version,
            end_and_use: u64::from(NEW_USES) << 8,
        };
        entry.set_end_ms(end_ms);
        entry
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.key.as_slice()
    }

    /// What it holds.
    #[must_use]
    #[inline]
    pub const fn value(&self) -> &Value {
        &self.value
    }

    /// Another one with every change, never the same for a key again.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// When it ends, in milliseconds of the caller's clock.
    #[must_use]
    #[inline]
    pub const fn end_ms(&self) -> Option<u64> {
        match self.end_and_use >> USE_BITS {
            0 => None,
            end_ms => Some(end_ms),
        }
    }

    /// Whether it has ended.
    #[must_use]
    #[inline]
    pub const fn is_over(&self, now_ms: u64) -> bool {
        let end_ms = self.end_and_use >> USE_BITS;
        end_ms != 0 && end_ms <= now_ms
    }

    /// Bytes that it takes with its key and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.heap_bytes()
    }

    pub(super) fn set_end_ms(&mut self, end_ms: Option<u64>) {
        let end_ms = end_ms.map_or(0, |end_ms| end_ms.clamp(1, END_MS_MAX));
        self.end_and_use = end_ms << USE_BITS | self.end_and_use & ((1 << USE_BITS) - 1);
    }

    /// Bytes beside the entry.
    pub(super) fn heap_bytes(&self) -> usize {
        self.key.heap_bytes() + self.value.heap_bytes()
    }

    /// How often it is used: the logarithm of the number of uses, less one for each minute without.
    pub(super) const fn uses(&self, now_ms: u64) -> u8 {
        let (uses, at) = ((self.end_and_use >> 8) as u8, self.end_and_use as u8);
        // The minutes count modulo 256, which makes what was left alone for hours look younger than
        // it is; it has long been down at 0 by then if anyone looked.
        uses.saturating_sub(minute(now_ms).wrapping_sub(at))
    }

    /// Was used. `chance` is any 64 random bits.
    pub(super) fn touch(&mut self, now_ms: u64, chance: u64) {
        let uses = self.uses(now_ms);
        // As in Redis: a use counts with a chance that falls with the count, so that 255 stands for
        // about a million.
        let over = u64::from(uses.saturating_sub(NEW_USES));
        let counts = uses < u8::MAX && chance.is_multiple_of(over * 10 + 1);
        let uses = uses + u8::from(counts);
        let rest = self.end_and_use & !0xffff;
        self.end_and_use = rest | u64::from(uses) << 8 | u64::from(minute(now_ms));
    }
}

/// Uses that a new entry begins with, so that it is not the first to go.
const NEW_USES: u8 = 5;

const fn minute(now_ms: u64) -> u8 {
    (now_ms / 60_000) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_and_uses_do_not_touch_each_other() {
        let mut entry = Entry::new(Blob::new(b"k"), Value::Integer(1), 7, Some(1000));
        assert_eq!(entry.end_ms(), Some(1000));
        assert!(!entry.is_over(999) && entry.is_over(1000));
        for now_ms in 0..100 {
            entry.touch(now_ms, 0);
        }
        assert_eq!((entry.end_ms(), entry.uses(0)), (Some(1000), 105));
        entry.set_end_ms(None);
        assert_eq!((entry.end_ms(), entry.uses(60_000 * 5)), (None, 100));
        assert!(!entry.is_over(u64::MAX));
        entry.set_end_ms(Some(u64::MAX));
        assert_eq!(entry.end_ms(), Some(END_MS_MAX));
    }
}
