//! What clients hear without asking: messages of channels, changes of keys, and what they must not
//! believe any more.
//!
//! Whoever makes a message finds the clients that want it in a [`Hub`] or [`Changes`] and leaves it at
//! the [`Post`] of each thread that has some; the thread puts it behind their answers. A message thus
//! comes after everything that its thread answered before it was made, and no thread waits for another.

mod changes;
mod hub;
mod post;
mod roster;
mod tracking;

use std::collections::HashSet;
use std::sync::Arc;

pub(crate) use changes::{Changes, silence};
pub(crate) use hub::Hub;
pub(crate) use post::{Parcel, Post};
pub(crate) use roster::{Place, Target};

use crate::limits::FEED_BYTES_MAX;

/// What a name in a [`Feed`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    /// A channel of a part of a cluster.
    Shard,
    /// The beginning of keys whose changes are told.
    Prefix,
    /// Keys that a client may have in a cache.
    Cache,
}

/// What a client wants to hear.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    channels: HashSet<Arc<[u8]>>,
    patterns: HashSet<Arc<[u8]>>,
    shards: HashSet<Arc<[u8]>>,
    prefixes: HashSet<Arc<[u8]>>,
    /// How it has its cache kept right.
    pub(crate) caching: Option<Caching>,
    bytes: usize,
}

/// How a client has its cache kept right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Caching {
    /// Beginnings of keys; it hears of all of their changes, whether it has read them or not.
    pub(crate) broadcast: Option<Vec<Arc<[u8]>>>,
    /// It hears nothing of what it changes itself.
    pub(crate) no_loop: bool,
    pub(crate) choice: Choice,
    /// What it said of the command that comes next.
    pub(crate) next: Option<bool>,
}

/// Which reads a client keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Choice {
    #[default]
    All,
    /// Those that it announces.
    OptIn,
    /// All that it does not except.
    OptOut,
}

/// A client wants to hear of more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMuch;

impl Feed {
    const fn names(&self, kind: Kind) -> Option<&HashSet<Arc<[u8]>>> {
        match kind {
            Kind::Channel => Some(&self.channels),
            Kind::Pattern => Some(&self.patterns),
            Kind::Shard => Some(&self.shards),
            Kind::Prefix => Some(&self.prefixes),
            Kind::Cache => None,
        }
    }

    const fn names_mut(&mut self, kind: Kind) -> Option<&mut HashSet<Arc<[u8]>>> {
        match kind {
            Kind::Channel => Some(&mut self.channels),
            Kind::Pattern => Some(&mut self.patterns),
            Kind::Shard => Some(&mut self.shards),
            Kind::Prefix => Some(&mut self.prefixes),
            Kind::Cache => None,
        }
    }

    /// Whether a name is still wanted.
    pub(crate) fn wants(&self, kind: Kind, name: &[u8]) -> bool {
        match self.names(kind) {
            Some(names) => names.contains(name),
            None => self.caching.is_some(),
        }
    }

    /// How many names of a kind there are.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.names(kind).map_or(0, HashSet::len)
    }

    /// Channels and patterns, also of parts of a cluster.
    pub(crate) fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len() + self.shards.len()
    }

    /// All names of a kind.
    pub(crate) fn all(&self, kind: Kind) -> Vec<Arc<[u8]>> {
        let names = self.names(kind).into_iter().flatten();
        names.cloned().collect()
    }

    /// Whether there is room for a name.
    pub(crate) const fn check(&self, name: &[u8]) -> Result<(), TooMuch> {
        match self.bytes + cost(name) <= FEED_BYTES_MAX {
            true => Ok(()),
            false => Err(TooMuch),
        }
    }

    /// Adds a name that was [checked](Self::check).
    pub(crate) fn add(&mut self, kind: Kind, name: Arc<[u8]>) {
        let bytes = cost(&name);
        if self.names_mut(kind).is_some_and(|names| names.insert(name)) {
            self.bytes += bytes;
        }
    }

    /// Removes a name; `false` where there was none.
    pub(crate) fn remove(&mut self, kind: Kind, name: &[u8]) -> bool {
        let had = self.names_mut(kind).is_some_and(|names| names.remove(name));
        if had {
            self.bytes -= cost(name);
        }
        had
    }

    /// Whether there is nothing to hear of.
    pub(crate) fn is_empty(&self) -> bool {
        self.subscriptions() == 0 && self.prefixes.is_empty() && self.caching.is_none()
    }
}

/// Bytes that a name counts for, here and where it is looked up.
const fn cost(name: &[u8]) -> usize {
    name.len() + 128
}

/// A part of a message: its length and its bytes.
fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    out.extend_from_slice(itoa::Buffer::new().format(bytes.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
