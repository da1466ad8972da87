//! What a key holds, and copying it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::plain::Plain;
use crate::adapter::{Condition, Lifetime, StoreAdapter};
use crate::error::{Applied, StoreError};

/// Ends of the same key that are closer than this are the same: they are asked for one after the other.
const END_SLACK: Duration = Duration::from_secs(1);
/// Looks at a key that changes all the time until its copy is left to the next turn.
const TRIES: usize = 32;

/// Two stores of which one is kept like the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) from: &'a Plain,
    pub(super) to: &'a Plain,
    /// Whether both keep token buckets as keys. Else what is taken of them is taken twice instead.
    pub(super) has_bucket_keys: bool,
}

impl Pair<'_> {
    /// What the store that is copied holds.
    pub(super) async fn source(&self, key: &[u8]) -> Result<Content, StoreError> {
        Ok(self.copied(Content::of(self.from, key).await?))
    }

    /// What the store that is kept up holds.
    pub(super) async fn target(&self, key: &[u8]) -> Result<Content, StoreError> {
        Ok(self.copied(Content::of(self.to, key).await?))
    }

    fn copied(&self, content: Content) -> Content {
        match !self.has_bucket_keys && content.is_bucket() {
            true => Content::Other,
            false => content,
        }
    }

    /// Makes a key of one store hold what it holds in the other; see the module's beginning for why it is
    /// looked at twice.
    pub(super) async fn copy(&self, key: &[u8]) -> Result<(), StoreError> {
        let mut content = self.source(key).await?;
        for _ in 0..TRIES {
            let is_gone = matches!(content, Content::Nothing);
            if is_gone && matches!(self.target(key).await?, Content::Other) {
                // It was never copied from here.
                return Ok(());
            }
            content.write_to(self.to, key).await?;
            let now = self.source(key).await?;
            if now.is(&content) {
                return Ok(());
            }
            content = now;
        }
        Err(StoreError::Unavailable {
            store: self.from.name().to_owned(),
            cause: "a key changed all the time while it was copied".to_owned(),
            applied: Applied::Unknown,
        })
    }
}

/// What a key of a store holds.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Nothing,
    Value {
        bytes: Bytes,
        /// When it ends.
        end: Option<Instant>,
    },
    /// A lease, places, or whatever else is not a value: those are not copied.
    Other,
}

impl Content {
    /// Looks at a key.
    async fn of(store: &Plain, key: &[u8]) -> Result<Self, StoreError> {
        let (value, left) = tokio::join!(store.read(key), store.lifetime(key));
        let value = match value {
            Err(StoreError::WrongType { .. }) => return Ok(Self::Other),
            value => value?,
        };
        // Either may have ended between the two questions.
        Ok(match (value, left?) {
            (Some(value), Some(left)) => Self::Value {
                bytes: value.bytes,
                end: left.and_then(|left| Instant::now().checked_add(left)),
            },
            _ => Self::Nothing,
        })
    }

    /// Whether both are the same as far as anybody could tell.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nothing, Self::Nothing) | (Self::Other, Self::Other) => true,
            (Self::Value { bytes, end }, Self::Value { bytes: b, end: e }) => {
                bytes == b && is_same_end(*end, *e)
            }
            _ => false,
        }
    }

    /// Whether it is about to end, so that one store may have it and the other one not any more.
    pub(super) fn ends_soon(&self) -> bool {
        match self {
            Self::Value { end: Some(end), .. } => *end <= Instant::now() + END_SLACK,
            _ => false,
        }
    }

    /// Whether it is a token bucket as Redis and Valkey keep them: a time in microseconds at which the
    /// key ends too.
    fn is_bucket(&self) -> bool {
        let Self::Value {
            bytes,
            end: Some(end),
        } = self
        else {
            return false;
        };
        let text = std::str::from_utf8(bytes).ok();
        let Some(full_us) = text.and_then(|text| text.parse::<u64>().ok()) else {
            return false;
        };
        let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else {
            return false;
        };
        let end = now + end.saturating_duration_since(Instant::now());
        end.abs_diff(Duration::from_micros(full_us)) <= 2 * END_SLACK
    }

    async fn write_to(&self, store: &Plain, key: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Value { bytes, end } => {
                let lifetime = match end {
                    None => Lifetime::Unlimited,
                    Some(end) => {
                        let left = end.saturating_duration_since(Instant::now());
                        Lifetime::For(left.max(Duration::from_millis(1)))
                    }
                };
                store.write(key, bytes, lifetime, Condition::Always).await?;
            }
            Self::Nothing => {
                store.remove(key, Condition::Always).await?;
            }
            Self::Other => {}
        }
        Ok(())
    }
}

pub(super) fn is_same_end(a: Option<Instant>, b: Option<Instant>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.max(b).saturating_duration_since(a.min(b)) <= END_SLACK,
        _ => false,
    }
}
