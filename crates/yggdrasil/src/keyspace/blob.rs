//! Keys and values: short ones where they are kept, long ones shared.

use std::fmt;
use std::sync::Arc;

/// Bytes that never change, or only as a whole. Up to 22 of them lie in place, so that most keys and
/// many values need no memory of their own; more lie behind a shared pointer, so a copy costs nothing.
#[derive(Clone)]
pub struct Blob(Repr);

const INLINE_BYTES_MAX: usize = 22;

#[derive(Clone)]
enum Repr {
    Inline(u8, [u8; INLINE_BYTES_MAX]),
    Shared(Arc<[u8]>),
}

impl Blob {
    /// A copy of these bytes.
    #[must_use]
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE_BYTES_MAX];
        match inline.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                // At most 22.
                Self(Repr::Inline(bytes.len() as u8, inline))
            }
            None => Self(Repr::Shared(Arc::from(bytes))),
        }
    }

    /// The bytes.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Repr::Shared(bytes) => bytes,
        }
    }

    /// The same as a new one of these bytes; takes no memory where the old ones were as many and
    /// nobody shares them.
    #[inline]
    pub fn assign(&mut self, bytes: &[u8]) {
        if let Repr::Shared(shared) = &mut self.0
            && shared.len() == bytes.len()
            && let Some(place) = Arc::get_mut(shared)
        {
            place.copy_from_slice(bytes);
            return;
        }
        *self = Self::new(bytes);
    }

    /// Bytes beside the 24 of itself.
    #[must_use]
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Inline(..) => 0,
            // Two counters, and what an allocator rounds up to.
            Repr::Shared(bytes) => (bytes.len() + 16 + 8).next_multiple_of(16),
        }
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Blob {}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_are_assigned() {
        assert_eq!(size_of::<Blob>(), 24);
        let long = [7; 100];
        let mut blob = Blob::new(b"");
        for bytes in [&long[..0], &long[..22], &long[..23], &long, &long[..1]] {
            assert_eq!(Blob::new(bytes).as_slice(), bytes);
            blob.assign(bytes);
            assert_eq!(blob.as_slice(), bytes);
        }
        let mut shared = Blob::new(&long);
        let copy = shared.clone();
        shared.assign(&[8; 100]);
        assert_eq!(
            (shared.as_slice(), copy.as_slice()),
            (&[8; 100][..], &long[..])
        );
    }
}
