//! What every store does.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use yggdrasil::{Beyond, Decision, Limit, Together, Transacted};

use crate::error::StoreError;
use crate::transaction::Transaction;
use crate::watch::Watch;

/// What an operation is for, which decides what may happen to it when its store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpClass {
    /// Can be had again from elsewhere. Falls back; reads may miss or be old afterwards.
    Cache,
    /// Counts what somebody may do. Falls back; stores do not share their counts, so up to a whole
    /// burst more is let through at each change.
    RateLimit,
    /// Only one may have it. Never falls back: two stores would have two holders.
    Coordination,
}

impl OpClass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cache, Self::RateLimit, Self::Coordination];

    /// Its name in settings and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::RateLimit => "rate_limit",
            Self::Coordination => "coordination",
        }
    }
}

/// What a store can do beyond the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// Changes have versions, and `Condition::Version` works.
    pub versions: bool,
    /// Token buckets by the nanosecond; others count microseconds.
    pub nanoseconds: bool,
    /// What is stored outlives this process.
    pub shared: bool,
    /// Values are compressed or encrypted on the way, so programs that read them need the same settings.
    pub encoded: bool,
    /// Changes of keys are told; see [`StoreAdapter::watch`].
    pub watch: bool,
}

/// A value with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The value.
    pub bytes: Bytes,
    /// Another one with every change; `None` where the store has none.
    pub version: Option<u64>,
}

/// How long what is written stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// Until it is removed.
    #[default]
    Unlimited,
    /// As long as what it replaces would have.
    Keep,
    /// For so long, rounded up to milliseconds.
    For(Duration),
}

impl From<Option<Duration>> for Lifetime {
    fn from(ttl: Option<Duration>) -> Self {
        ttl.map_or(Self::Unlimited, Self::For)
    }
}

/// What has to be there for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition<'a> {
    /// Anything or nothing.
    #[default]
    Always,
    /// Nothing.
    Absent,
    /// Anything.
    Present,
    /// These bytes.
    Equals(&'a [u8]),
    /// What has this version; see [`Caps::versions`].
    Version(u64),
}

impl Condition<'_> {
    /// What an operation with it is for: conditional changes are how programs agree on something.
    #[must_use]
    pub const fn class(self) -> OpClass {
        match self {
            Self::Always | Self::Present => OpClass::Cache,
            Self::Absent | Self::Equals(_) | Self::Version(_) => OpClass::Coordination,
        }
    }
}

/// Whether a change was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was; with the version where the store has one.
    Done(Option<u64>),
    /// The condition did not hold.
    Refused,
}

impl Written {
    /// Whether it was made.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Done(_))
    }
}

/// A change of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Increment {
    /// What is added.
    pub by: i64,
    /// Least and greatest value that it may lead to, within 2^53 either way; `None` is without bounds.
    pub bounds: Option<(i64, i64)>,
    /// What happens where it would lead further.
    pub beyond: Beyond,
    /// How long the counter stays from its first change on; `None` is for ever.
    pub ttl: Option<Duration>,
}

impl Increment {
    /// Adds so much, without bounds or end.
    #[must_use]
    pub const fn by(by: i64) -> Self {
        Self {
            by,
            bounds: None,
            beyond: Beyond::Refuse,
            ttl: None,
        }
    }
}

/// Keys that were found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Some keys; a key may come twice where keys are added meanwhile.
    pub keys: Vec<Bytes>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// Whether a lease was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leased {
    /// It was, or its holder had it already.
    Held {
        /// Greater than that of every lease of this key before.
        fence: u64,
    },
    /// Somebody else has it.
    Taken {
        /// For how long at most.
        for_at_most: Duration,
    },
}

/// Whether a place was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// It was, or its holder had it already.
    Held {
        /// How many are held now.
        held: u32,
    },
    /// All are held.
    Full {
        /// When the first is given back at the latest; `None` where there is no place at all.
        retry_after: Option<Duration>,
    },
}

/// Tokens to take of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRequest<'a> {
    /// Which bucket.
    pub key: &'a [u8],
    /// How it fills.
    pub limit: Limit,
    /// Tokens; 0 only looks.
    pub cost: u32,
}

/// 10 tokens a second, at most 100 saved up.
pub const USUAL_LIMIT: Limit = match Limit::new(100_000_000, 100) {
    Ok(limit) => limit,
    Err(_) => unreachable!(),
};

type Result<T> = std::result::Result<T, StoreError>;

/// What every store does. Keys are any bytes up to 64 KiB, values up to the store's limit, at least
/// 1 MiB.
///
/// Errors are [`StoreError`]s. All futures may be dropped; what was sent by then may be done.
pub trait StoreAdapter: Send + Sync + 'static {
    /// What this store is called in errors, logs and metrics.
    fn name(&self) -> &str;

    /// What it can do beyond the rest.
    fn caps(&self) -> Caps;

    /// What a key holds.
    fn read(&self, key: &[u8]) -> impl Future<Output = Result<Option<Value>>> + Send;

    /// What several keys hold, in their order. Each is read by itself, so others may change some in
    /// between; one that cannot be read fails all.
    fn read_many(&self, keys: &[&[u8]]) -> impl Future<Output = Result<Vec<Option<Value>>>> + Send {
        try_join_all(keys.iter().map(|key| self.read(key)))
    }

    /// Stores a value where the condition holds.
    fn write(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
    ) -> impl Future<Output = Result<Written>> + Send;

    /// Removes a key where the condition holds; whether it was there and is not any more.
    fn remove(
        &self,
        key: &[u8],
        condition: Condition<'_>,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Sets how long a key stays; `false` where there is none. `Keep` only asks.
    fn set_lifetime(
        &self,
        key: &[u8],
        lifetime: Lifetime,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// How long a key stays: `None` where there is none, `Some(None)` for ever.
    fn lifetime(&self, key: &[u8])
    -> impl Future<Output = Result<Option<Option<Duration>>>> + Send;

    /// Keys that begin with these bytes, some at a time, from the beginning or where a page says.
    fn scan(&self, prefix: &[u8], from: Option<u64>) -> impl Future<Output = Result<Page>> + Send;

    /// Adds to a counter, which begins with 0; its value and what was added.
    fn add(
        &self,
        key: &[u8],
        increment: &Increment,
    ) -> impl Future<Output = Result<(i64, i64)>> + Send;

    /// Takes tokens of a bucket, all or none; a cost of 0 only looks.
    fn consume(
        &self,
        key: &[u8],
        limit: &Limit,
        cost: u32,
    ) -> impl Future<Output = Result<Decision>> + Send;

    /// Takes tokens of several buckets, in this order; one decision for each. With
    /// [`AllOrNothing`](Together::AllOrNothing) they end with the first that is not allowed, after which
    /// nothing was taken of any. In a cluster all of these have to be in one slot then.
    fn consume_many(
        &self,
        requests: &[TokenRequest<'_>],
        together: Together,
    ) -> impl Future<Output = Result<Vec<Decision>>> + Send;

    /// Checks and changes several keys as one; see [`Transaction`].
    ///
    /// It is rejected, and nothing done, where one of the changes cannot be made, such as adding to what
    /// is no whole number of 64 bits.
    fn transact(
        &self,
        transaction: &Transaction<'_>,
    ) -> impl Future<Output = Result<Transacted>> + Send;

    /// Asks to be the only one for so long. Who holds it already gets the new end.
    fn lease(
        &self,
        key: &[u8],
        holder: &[u8],
        ttl: Duration,
    ) -> impl Future<Output = Result<Leased>> + Send;

    /// Keeps a lease for longer; `false` where it is over.
    fn renew(
        &self,
        key: &[u8],
        fence: u64,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Gives a lease back; `false` where it is over.
    fn release(&self, key: &[u8], fence: u64) -> impl Future<Output = Result<bool>> + Send;

    /// Asks for one of so many places for so long. Who has one already gets the new end.
    fn acquire(
        &self,
        key: &[u8],
        holder: &[u8],
        places: u32,
        ttl: Duration,
    ) -> impl Future<Output = Result<Acquired>> + Send;

    /// Gives a place back; `false` where the holder has none.
    fn give_back(&self, key: &[u8], holder: &[u8]) -> impl Future<Output = Result<bool>> + Send;

    /// Whether the store answers.
    fn ping(&self) -> impl Future<Output = Result<()>> + Send;

    /// Tells changes of keys that begin with these bytes, from when this returns on; the empty prefix is
    /// all keys. Changes of a key come in their order, and one may be told as several: whoever keeps
    /// values reads a key again when it is told, and all of them after
    /// [`Event::Lost`](crate::Event::Lost), without which nothing is missed. Values are not told.
    ///
    /// The end of a key is told when the store removes it. Token buckets are told where they are keys, in
    /// Redis and Valkey. A chain watches its first store, and says `Lost` when another one is asked and
    /// when the first is asked again.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where Redis or Valkey is set to tell no changes,
    /// [`Unsupported`](StoreError::Unsupported) where [`Caps::watch`] is `false`,
    /// [`Rejected`](StoreError::Rejected) where the user may not watch, and
    /// [`Unavailable`](StoreError::Unavailable) where the store cannot be reached: later it is connected
    /// to again by itself.
    fn watch(&self, prefix: &[u8]) -> impl Future<Output = Result<Watch>> + Send;

    /// The bytes that a key holds.
    fn get(
        &self,
        key: impl AsRef<[u8]> + Send,
    ) -> impl Future<Output = Result<Option<Vec<u8>>>> + Send {
        async move {
            Ok(self
                .read(key.as_ref())
                .await?
                .map(|value| value.bytes.to_vec()))
        }
    }

    /// Stores a value, for so long or for ever.
    fn set(
        &self,
        key: impl AsRef<[u8]> + Send,
        value: impl AsRef<[u8]> + Send,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<()>> + Send {
        async move {
            let (key, value) = (key.as_ref(), value.as_ref());
            self.write(key, value, ttl.into(), Condition::Always)
                .await?;
            Ok(())
        }
    }

    /// Removes a key; whether it was there.
    fn delete(&self, key: impl AsRef<[u8]> + Send) -> impl Future<Output = Result<bool>> + Send {
        async move { self.remove(key.as_ref(), Condition::Always).await }
    }

    /// Whether there is such a key.
    fn exists(&self, key: impl AsRef<[u8]> + Send) -> impl Future<Output = Result<bool>> + Send {
        async move { Ok(self.lifetime(key.as_ref()).await?.is_some()) }
    }

    /// How long a key stays; `None` where it stays for ever or is not there.
    fn ttl(
        &self,
        key: impl AsRef<[u8]> + Send,
    ) -> impl Future<Output = Result<Option<Duration>>> + Send {
        async move { Ok(self.lifetime(key.as_ref()).await?.flatten()) }
    }

    /// Adds to a counter; its value.
    fn increment(
        &self,
        key: impl AsRef<[u8]> + Send,
        by: i64,
    ) -> impl Future<Output = Result<i64>> + Send {
        async move { Ok(self.add(key.as_ref(), &Increment::by(by)).await?.0) }
    }

    /// Takes tokens of a bucket with the [usual limit](Self::usual_limit); whether they were there.
    fn try_consume(
        &self,
        key: impl AsRef<[u8]> + Send,
        tokens: u32,
    ) -> impl Future<Output = Result<bool>> + Send {
        async move {
            let limit = self.usual_limit();
            Ok(self
                .consume(key.as_ref(), &limit, tokens)
                .await?
                .is_allowed())
        }
    }

    /// The limit of [`try_consume`](Self::try_consume): [`USUAL_LIMIT`], unless the store was set up with
    /// another.
    fn usual_limit(&self) -> Limit {
        USUAL_LIMIT
    }
}
