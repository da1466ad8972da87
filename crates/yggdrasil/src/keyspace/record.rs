//! Changes as bytes, for whoever keeps them.
//!
//! ```text
//! written:  u8 1, u64 version, u64 end in ms or 0, u8 kind, u32 key length, key, value
//! removed:  u8 2, u64 version, key
//! value:    kind 1: bytes   kind 2: i64   kind 3: u64 fence, holder
//!           kind 4: for each place u64 until in ms, u32 length, holder
//! ```
//! Numbers are little-endian.

use super::Keyspace;
use super::blob::Blob;
use super::entry::{Entry, Lease, Permit, Value};

const WRITTEN: u8 = 1;
const REMOVED: u8 = 2;
const BYTES: u8 = 1;
const INTEGER: u8 = 2;
const LEASE: u8 = 3;
const PERMITS: u8 = 4;

/// Bytes of a record beside its key and value.
pub const RECORD_OVERHEAD_BYTES: usize = 32;

/// A change that was kept as bytes is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of a keyspace is damaged or of a later version")]
pub struct RecordError;

impl Entry {
    /// Appends the entry as a record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let key = self.key();
        out.push(WRITTEN);
        out.extend(self.version().to_le_bytes());
        out.extend(self.end_ms().unwrap_or(0).to_le_bytes());
        out.push(match self.value() {
            Value::Bytes(_) => BYTES,
            Value::Integer(_) => INTEGER,
            Value::Lease(_) => LEASE,
            Value::Permits(_) => PERMITS,
        });
        // Keys are at most 64 KiB long.
        out.extend((key.len() as u32).to_le_bytes());
        out.extend(key);
        match self.value() {
            Value::Bytes(bytes) => out.extend(bytes.as_slice()),
            Value::Integer(value) => out.extend(value.to_le_bytes()),
            Value::Lease(lease) => {
                out.extend(lease.fence.to_le_bytes());
                out.extend(lease.holder.as_slice());
            }
            Value::Permits(permits) => {
                for permit in permits.iter() {
                    let holder = permit.holder.as_slice();
                    out.extend(permit.until_ms.to_le_bytes());
                    out.extend((holder.len() as u32).to_le_bytes());
                    out.extend(holder);
                }
            }
        }
    }

    /// The entry of a record that [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// [`RecordError`], also for the record of a removal.
    pub fn decode(record: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader(record);
        match reader.u8()? {
            WRITTEN => entry(&mut reader),
            _ => Err(RecordError),
        }
    }

    /// Appends the removal of the entry, with its version, as a record.
    pub fn encode_removal(&self, version: u64, out: &mut Vec<u8>) {
        out.push(REMOVED);
        out.extend(version.to_le_bytes());
        out.extend(self.key());
    }
}

impl Keyspace {
    /// Does what a record says, unless something newer is there. Records of a key have to come in
    /// their order; copies of entries may come before, whenever they were made.
    ///
    /// # Errors
    /// [`RecordError`]; nothing was done.
    pub fn apply(&self, record: &[u8]) -> Result<(), RecordError> {
        let mut reader = Reader(record);
        match reader.u8()? {
            WRITTEN => self.restore(entry(&mut reader)?),
            REMOVED => {
                let version = reader.u64()?;
                self.restore_removal(reader.0, version);
            }
            _ => return Err(RecordError),
        }
        Ok(())
    }
}

fn entry(reader: &mut Reader<'_>) -> Result<Entry, RecordError> {
    let (version, end_ms, kind) = (reader.u64()?, reader.u64()?, reader.u8()?);
    let key = Blob::new(reader.piece()?);
    let value = match kind {
        BYTES => Value::Bytes(Blob::new(reader.0)),
        INTEGER => Value::Integer(reader.u64()? as i64),
        LEASE => {
            let (fence, holder) = (reader.u64()?, Blob::new(reader.0));
            Value::Lease(Box::new(Lease { fence, holder }))
        }
        PERMITS => {
            let mut permits = Vec::new();
            while !reader.0.is_empty() {
                let until_ms = reader.u64()?;
                let holder = Blob::new(reader.piece()?);
                permits.push(Permit { holder, until_ms });
            }
            Value::Permits(Box::new(permits))
        }
        _ => return Err(RecordError),
    };
    let end_ms = (end_ms != 0).then_some(end_ms);
    Ok(Entry::new(key, value, version, end_ms))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(RecordError)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Bytes behind their length.
    fn piece(&mut self) -> Result<&'a [u8], RecordError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let (piece, rest) = self.0.split_at_checked(length).ok_or(RecordError)?;
        self.0 = rest;
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let blob = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(|it| Blob::new(&it));
        prop_oneof![
            blob().prop_map(Value::Bytes),
            any::<i64>().prop_map(Value::Integer),
            (any::<u64>(), blob())
                .prop_map(|(fence, holder)| Value::Lease(Box::new(Lease { fence, holder }))),
            proptest::collection::vec((any::<u64>(), blob()), 0..4).prop_map(|permits| {
                let permit = |(until_ms, holder)| Permit { holder, until_ms };
                Value::Permits(Box::new(permits.into_iter().map(permit).collect()))
            }),
        ]
    }

    proptest! {
        #[test]
        fn entries_come_back(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in value(),
            version: u64,
            end_ms in proptest::option::of(1..1_u64 << 48),
        ) {
            let entry = Entry::new(Blob::new(&key), value, version, end_ms);
            let mut record = Vec::new();
            entry.encode(&mut record);
            let mut reader = Reader(&record[1..]);
            let again = super::entry(&mut reader).unwrap();
            prop_assert_eq!(again.key(), entry.key());
            prop_assert_eq!(again.value(), entry.value());
            prop_assert_eq!(again.version(), entry.version());
            prop_assert_eq!(again.end_ms(), entry.end_ms());
            for cut in 0..26.min(record.len()) {
                let _ = super::entry(&mut Reader(&record[1..][..cut.min(record.len() - 1)]));
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_refused(record in proptest::collection::vec(any::<u8>(), 0..100)) {
            let keys = Keyspace::new(&super::super::KeyspaceConfig { shards: 1, ..Default::default() });
            let _ = keys.apply(&record);
        }
    }
}
