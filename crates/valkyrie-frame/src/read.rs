//! Takes fields off the front of a payload.

use crate::payload::PayloadError;

/// What is left of a payload.
pub(crate) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    #[inline]
    pub(crate) fn new(payload: &'b [u8]) -> Self {
        Self(payload)
    }

    /// The next `N` bytes, which are the field `what`.
    #[inline]
    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], PayloadError> {
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(PayloadError::Truncated {
                what,
                need: N,
                left: self.0.len(),
            });
        };
        self.0 = rest;
        Ok(*field)
    }

    /// The next `length` bytes, which are the field `what`.
    #[inline]
    pub(crate) fn slice(
        &mut self,
        what: &'static str,
        length: usize,
    ) -> Result<&'b [u8], PayloadError> {
        let Some((field, rest)) = self.0.split_at_checked(length) else {
            return Err(PayloadError::Truncated {
                what,
                need: length,
                left: self.0.len(),
            });
        };
        self.0 = rest;
        Ok(field)
    }

    #[inline]
    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, PayloadError> {
        self.array(what).map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, PayloadError> {
        self.array(what).map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, PayloadError> {
        self.array(what).map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, PayloadError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// Everything that is left.
    #[inline]
    pub(crate) fn rest(self) -> &'b [u8] {
        self.0
    }

    /// Everything that is left, as text of at most `max` bytes.
    pub(crate) fn text(self, what: &'static str, max: usize) -> Result<&'b str, PayloadError> {
        if self.0.len() > max {
            return Err(PayloadError::TooLong {
                what,
                length: self.0.len(),
                max,
            });
        }
        str::from_utf8(self.0).map_err(|_| PayloadError::NotUtf8 { what })
    }

    /// Nothing may be left.
    #[inline]
    pub(crate) fn end(self, what: &'static str) -> Result<(), PayloadError> {
        match self.0.len() {
            0 => Ok(()),
            extra => Err(PayloadError::Trailing { what, extra }),
        }
    }
}
