//! Channels and who listens to them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::post::{Parcel, Post};
use super::roster::{Group, Place, Roster};
use super::{Kind, bulk};
use crate::glob;

/// Channels, patterns and their subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    posts: Arc<[Post]>,
    /// Held while a message is left for all who want it, so that all of them get messages in the same
    /// order.
    topics: Mutex<Topics>,
}

#[derive(Debug, Default)]
struct Topics {
    channels: Roster,
    patterns: Roster,
    shards: Roster,
}

impl Topics {
    const fn of(&self, kind: Kind) -> &Roster {
        match kind {
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shards,
            _ => &self.channels,
        }
    }

    const fn of_mut(&mut self, kind: Kind) -> &mut Roster {
        match kind {
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
            _ => &mut self.channels,
        }
    }
}

impl Hub {
    pub(crate) fn new(posts: Arc<[Post]>) -> Self {
        Self {
            posts,
            topics: Mutex::default(),
        }
    }

    /// Adds a subscriber that is not there yet; gives the name as it is kept.
    pub(crate) fn add(&self, kind: Kind, name: &[u8], place: Place, id: u64) -> Arc<[u8]> {
        self.lock().of_mut(kind).add(name, place, id)
    }

    pub(crate) fn remove(&self, kind: Kind, name: &[u8], place: Place, id: u64) {
        self.lock().of_mut(kind).remove(name, place, id);
    }

    /// Leaves a message for all who want it; how many they are.
    pub(crate) fn publish(&self, kind: Kind, channel: &[u8], message: &[u8]) -> usize {
        let topics = self.lock();
        let mut heard = 0;
        if let Some((name, groups)) = topics.of(kind).get(channel) {
            let word: &[u8] = match kind {
                Kind::Shard => b"smessage",
                _ => b"message",
            };
            let bytes = encode(&[word, channel, message]);
            heard += self.leave(kind, name, groups, &bytes);
        }
        if kind == Kind::Channel {
            let patterns = topics.patterns.iter();
            for (pattern, groups) in patterns.filter(|(it, _)| glob::matches(it, channel)) {
                let bytes = encode(&[b"pmessage", pattern, channel, message]);
                heard += self.leave(Kind::Pattern, pattern, groups, &bytes);
            }
        }
        heard
    }

    fn leave(&self, kind: Kind, name: &Arc<[u8]>, groups: &[Group], bytes: &Arc<[u8]>) -> usize {
        let mut count = 0;
        for group in groups {
            let Some(post) = self.posts.get(group.worker) else {
                continue;
            };
            count += group.targets.len();
            post.leave(Parcel {
                kind,
                name: Arc::clone(name),
                targets: Arc::clone(&group.targets),
                except: 0,
                bytes: Arc::clone(bytes),
            });
        }
        count
    }

    /// Names that somebody wants, those that match a pattern where one is given.
    pub(crate) fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Arc<[u8]>> {
        let topics = self.lock();
        let names = topics.of(kind).iter().map(|(name, _)| name);
        let is_meant = |name: &&Arc<[u8]>| pattern.is_none_or(|it| glob::matches(it, name));
        names.filter(is_meant).cloned().collect()
    }

    /// How many names somebody wants.
    pub(crate) fn len(&self, kind: Kind) -> usize {
        self.lock().of(kind).len()
    }

    /// How many want a name.
    pub(crate) fn count(&self, kind: Kind, name: &[u8]) -> usize {
        self.lock().of(kind).count(name)
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message of these parts, without its first byte.
fn encode(parts: &[&[u8]]) -> Arc<[u8]> {
    let bytes: usize = parts.iter().map(|part| part.len() + 16).sum();
    let mut out = Vec::with_capacity(bytes + 8);
    out.extend_from_slice(itoa::Buffer::new().format(parts.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for part in parts {
        bulk(&mut out, part);
    }
    out.into()
}
