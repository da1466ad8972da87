//! Messages that come in several fragments.

use std::collections::HashMap;

use valkyrie_frame::{Correlation, Header, MessageType, StreamId, Time};

use crate::envelope::Envelope;
use crate::limits::{FRAGMENT_TIMEOUT, JOIN_BYTES_MAX, JOINS_MAX};
use crate::on_demand::resting;

/// Which message a fragment belongs to. The type is part of it because each side numbers its own
/// calls, so a CALL and a REPLY with the same correlation can be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct JoinKey {
    pub(crate) stream: StreamId,
    pub(crate) correlation: Correlation,
    pub(crate) kind: MessageType,
}

impl JoinKey {
    pub(crate) const fn of(header: &Header) -> Self {
        Self {
            stream: header.stream,
            correlation: header.correlation,
            kind: header.kind,
        }
    }
}

#[derive(Debug)]
struct Join {
    /// What the first fragment said about its message.
    envelope: Envelope<'static>,
    bytes: Vec<u8>,
    touched: Time,
}

/// Why a fragment is not taken; what came before it was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinError {
    /// The message is longer than this.
    TooLarge { max: u64 },
    /// More than this many messages are half received.
    TooMany { max: u64 },
    /// What is half received would hold more bytes than this.
    Full { max: usize },
}

/// All messages that are half received. Grows by bytes that really came, never by promises.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    open: HashMap<JoinKey, Join>,
    bytes: usize,
}

resting!(Joins, joins, joins.open.is_empty());

impl Joins {
    /// Whether the message has begun.
    pub(crate) fn contains(&self, key: JoinKey) -> bool {
        !self.open.is_empty() && self.open.contains_key(&key)
    }

    /// Whether a message of `stream` has begun.
    pub(crate) fn is_inside(&self, stream: StreamId) -> bool {
        self.open.keys().any(|known| known.stream == stream)
    }

    /// Whether another message of the same stream has begun.
    pub(crate) fn is_inside_another(&self, key: JoinKey) -> bool {
        let mut known = self.open.keys();
        known.any(|known| known.stream == key.stream && *known != key)
    }

    /// Begins a message with its first fragment.
    pub(crate) fn begin(
        &mut self,
        key: JoinKey,
        envelope: Envelope<'static>,
        bytes: &[u8],
        now: Time,
    ) -> Result<(), JoinError> {
        if self.open.len() >= JOINS_MAX {
            return Err(JoinError::TooMany {
                max: JOINS_MAX as u64,
            });
        }
        self.fits(bytes.len())?;
        self.bytes += bytes.len();
        self.open.insert(
            key,
            Join {
                envelope,
                bytes: bytes.to_vec(),
                touched: now,
            },
        );
        Ok(())
    }

    /// Adds a fragment that is not the last.
    pub(crate) fn add(
        &mut self,
        key: JoinKey,
        bytes: &[u8],
        max: u32,
        now: Time,
    ) -> Result<(), JoinError> {
        let room = self.fits(bytes.len());
        let Some(join) = self.open.get_mut(&key) else {
            return Ok(());
        };
        let over = join.bytes.len() + bytes.len() > max as usize;
        if over || room.is_err() {
            self.drop_join(key);
            room?;
            return Err(JoinError::TooLarge {
                max: u64::from(max),
            });
        }
        join.bytes.extend_from_slice(bytes);
        join.touched = now;
        self.bytes += bytes.len();
        Ok(())
    }

    /// Adds the last fragment and gives the message out.
    pub(crate) fn finish(
        &mut self,
        key: JoinKey,
        bytes: &[u8],
        max: u32,
        now: Time,
    ) -> Result<(Envelope<'static>, Vec<u8>), JoinError> {
        self.add(key, bytes, max, now)?;
        let join = self.open.remove(&key);
        let (envelope, bytes) = join.map_or((Envelope::EMPTY, Vec::new()), |join| {
            (join.envelope, join.bytes)
        });
        self.bytes -= bytes.len();
        Ok((envelope, bytes))
    }

    /// Forgets a message.
    pub(crate) fn drop_join(&mut self, key: JoinKey) {
        if let Some(join) = self.open.remove(&key) {
            self.bytes -= join.bytes.len();
        }
    }

    /// Forgets whatever a stream has begun.
    pub(crate) fn drop_stream(&mut self, stream: StreamId) {
        if self.open.is_empty() {
            return;
        }
        let bytes = &mut self.bytes;
        self.open.retain(|key, join| {
            if key.stream == stream {
                *bytes -= join.bytes.len();
            }
            key.stream != stream
        });
    }

    /// When the first message will have waited too long for its next fragment.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.open
            .values()
            .map(|join| join.touched + FRAGMENT_TIMEOUT)
            .min()
    }

    /// The messages that have waited too long; they are forgotten.
    pub(crate) fn expired(&mut self, now: Time) -> Vec<JoinKey> {
        let over = self
            .open
            .iter()
            .filter(|(_, join)| join.touched + FRAGMENT_TIMEOUT <= now);
        let over: Vec<_> = over.map(|(key, _)| *key).collect();
        for key in &over {
            self.drop_join(*key);
        }
        over
    }

    fn fits(&self, bytes: usize) -> Result<(), JoinError> {
        if self.bytes + bytes > JOIN_BYTES_MAX {
            return Err(JoinError::Full {
                max: JOIN_BYTES_MAX,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u16) -> JoinKey {
        JoinKey {
            stream: StreamId(1),
            correlation: Correlation::first(number).unwrap(),
            kind: MessageType::CALL,
        }
    }

    #[test]
    fn fragments_of_different_messages_interleave() {
        let mut joins = Joins::default();
        joins
            .begin(key(1), Envelope::EMPTY, b"a", Time::ZERO)
            .unwrap();
        joins
            .begin(key(2), Envelope::EMPTY, b"x", Time::ZERO)
            .unwrap();
        joins.add(key(1), b"b", 100, Time::ZERO).unwrap();
        assert_eq!(
            joins.finish(key(2), b"y", 100, Time::ZERO).unwrap().1,
            b"xy"
        );
        assert_eq!(
            joins.finish(key(1), b"c", 100, Time::ZERO).unwrap().1,
            b"abc"
        );
        assert_eq!(joins.bytes, 0);
    }

    #[test]
    fn too_long_too_many_and_too_slow_messages_are_forgotten() {
        let mut joins = Joins::default();
        joins
            .begin(key(1), Envelope::EMPTY, b"aaaa", Time::ZERO)
            .unwrap();
        assert_eq!(
            joins.add(key(1), b"b", 4, Time::ZERO),
            Err(JoinError::TooLarge { max: 4 })
        );
        assert!(!joins.contains(key(1)));
        for number in 0..JOINS_MAX as u16 {
            joins
                .begin(key(number), Envelope::EMPTY, b"", Time::ZERO)
                .unwrap();
        }
        let many = joins.begin(key(4000), Envelope::EMPTY, b"", Time::ZERO);
        assert_eq!(
            many,
            Err(JoinError::TooMany {
                max: JOINS_MAX as u64
            })
        );
        assert_eq!(
            joins.expired(Time::ZERO + FRAGMENT_TIMEOUT).len(),
            JOINS_MAX
        );
        assert_eq!((joins.bytes, joins.deadline()), (0, None));
    }

    #[test]
    fn a_stream_that_ends_takes_its_half_messages_along() {
        let mut joins = Joins::default();
        joins
            .begin(key(1), Envelope::EMPTY, b"aaaa", Time::ZERO)
            .unwrap();
        joins.drop_stream(StreamId(1));
        assert_eq!(joins.bytes, 0);
    }
}
