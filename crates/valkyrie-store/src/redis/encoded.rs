//! Values between the program and the server.

use crate::adapter::{Condition, Lifetime, Value, Written};
use crate::codec::{Codec, CodecError};
use crate::error::{Applied, StoreError};

use super::RedisStore;

/// How often a value may be rewritten by others between a look and a change. Only writers that put the
/// same value there again make it more than once.
pub(super) const SWAPS_MAX: usize = 32;

type Result<T> = std::result::Result<T, StoreError>;

impl RedisStore {
    pub(super) fn codec(&self) -> Option<&Codec> {
        self.1.as_deref()
    }

    /// What the program sees of a value.
    pub(super) fn decoded(&self, key: &[u8], found: Option<Value>) -> Result<Option<Value>> {
        let (Some(codec), Some(value)) = (self.codec(), &found) else {
            return Ok(found);
        };
        let bytes = codec.decode(key, value.bytes.clone());
        let version = value.version;
        let value = |bytes| Some(Value { bytes, version });
        bytes.map(value).map_err(|error| self.uncoded(&error))
    }

    /// Writes what the server shall have of a value.
    pub(super) async fn write_coded(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
    ) -> Result<Written> {
        let Some(codec) = self.codec() else {
            return self.write_stored(key, value, lifetime, condition).await;
        };
        let value = codec.encode(key, value);
        let value = value.map_err(|error| self.uncoded(&error))?;
        let Condition::Equals(expected) = condition else {
            return self.write_stored(key, &value, lifetime, condition).await;
        };
        for _ in 0..SWAPS_MAX {
            let Some(found) = self.found_equal(codec, key, expected).await? else {
                return Ok(Written::Refused);
            };
            let equals = Condition::Equals(&found);
            let written = self.write_stored(key, &value, lifetime, equals).await?;
            if written.is_done() {
                return Ok(written);
            }
        }
        Err(self.changes_too_often())
    }

    /// Removes a key where its value is this one.
    pub(super) async fn remove_coded(&self, key: &[u8], condition: Condition<'_>) -> Result<bool> {
        let (Some(codec), Condition::Equals(expected)) = (self.codec(), condition) else {
            return self.remove_stored(key, condition).await;
        };
        for _ in 0..SWAPS_MAX {
            let Some(found) = self.found_equal(codec, key, expected).await? else {
                return Ok(false);
            };
            if self.remove_stored(key, Condition::Equals(&found)).await? {
                return Ok(true);
            }
        }
        Err(self.changes_too_often())
    }

    /// What the server has of a value that equals this one. The same value is never encrypted to the
    /// same bytes twice, so a server cannot compare: it is asked for what it has, and changes it only
    /// if it still has just that.
    pub(super) async fn found_equal(
        &self,
        codec: &Codec,
        key: &[u8],
        expected: &[u8],
    ) -> Result<Option<bytes::Bytes>> {
        let found = self
            .read_stored(key)
            .await
            .map_err(StoreError::but_not_applied)?;
        let Some(found) = found else {
            return Ok(None);
        };
        let value = codec.decode(key, found.bytes.clone());
        let value = value.map_err(|error| self.uncoded(&error))?;
        Ok((value == expected).then_some(found.bytes))
    }

    pub(super) fn uncoded(&self, error: &CodecError) -> StoreError {
        StoreError::Rejected {
            store: self.0.name.clone(),
            cause: error.to_string(),
        }
    }

    pub(super) fn changes_too_often(&self) -> StoreError {
        StoreError::Unavailable {
            store: self.0.name.clone(),
            cause: "the key is written again and again while it is compared".to_owned(),
            applied: Applied::No,
        }
    }
}
