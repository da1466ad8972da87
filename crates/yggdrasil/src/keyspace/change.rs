//! Who hears of changes.

use std::fmt::Debug;

use super::entry::Entry;

/// Why a key is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Somebody removed it.
    Removed,
    /// Somebody removed all keys.
    Cleared,
    /// Its end came.
    Expired,
    /// It made room for others.
    Evicted,
}

/// Hears of every change, in order for each key.
///
/// It is called while the key's part of the keyspace is held, so it must neither wait nor use the
/// keyspace, on the thread that makes the change.
pub trait Observer: Debug + Send + Sync {
    /// A key was made, or holds something else, or ends at another time.
    fn written(&self, entry: &Entry);

    /// A key is gone; `version` is that of the removal, greater than the entry's.
    fn removed(&self, entry: &Entry, version: u64, cause: Cause);
}
