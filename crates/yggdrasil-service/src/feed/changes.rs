//! Who hears of changes of keys.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use yggdrasil::{Cause, Entry, Keyspace, Observer};

use super::post::{Parcel, Post};
use super::roster::{Group, Place, Roster};
use super::tracking::Tracking;
use super::{Kind, bulk};

thread_local! {
    /// The client whose command this thread does, where it wants to hear nothing of its own changes.
    static SILENT: Cell<u64> = const { Cell::new(0) };
}

/// Has a client hear nothing of what this thread changes from here on; 0 is none.
pub(crate) fn silence(id: u64) {
    SILENT.set(id);
}

/// Tells clients of changes. It observes the keyspace only while somebody wants to hear of them, so
/// changes cost nothing more until then.
#[derive(Debug)]
pub(crate) struct Changes {
    posts: Arc<[Post]>,
    listeners: RwLock<Listeners>,
    /// Keys that clients have in their caches.
    tracking: Tracking,
    /// How many clients want to hear of changes; held while the keyspace is told.
    count: Mutex<usize>,
}

#[derive(Debug, Default)]
struct Listeners {
    /// Those who are told each change.
    watching: Prefixes,
    /// Those who are told which keys they must not believe any more.
    caching: Prefixes,
    /// Everyone with a cache, under the empty name.
    caches: Roster,
}

/// Clients by the beginnings of keys.
#[derive(Debug, Default)]
struct Prefixes {
    roster: Roster,
    /// Lengths that there are, and how many names have each.
    lengths: BTreeMap<usize, usize>,
}

impl Prefixes {
    fn add(&mut self, name: &[u8], place: Place, id: u64) -> Arc<[u8]> {
        if self.roster.get(name).is_none() {
            *self.lengths.entry(name.len()).or_default() += 1;
        }
        self.roster.add(name, place, id)
    }

    fn remove(&mut self, name: &[u8], place: Place, id: u64) {
        let had = self.roster.get(name).is_some();
        self.roster.remove(name, place, id);
        if had && self.roster.get(name).is_none() {
            let left = self.lengths.entry(name.len()).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.lengths.remove(&name.len());
            }
        }
    }

    /// All who want to hear of a key.
    fn of<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = (&'a Arc<[u8]>, &'a [Group])> {
        let lengths = self
            .lengths
            .keys()
            .take_while(|length| **length <= key.len());
        lengths.filter_map(|length| self.roster.get(key.get(..*length)?))
    }
}

impl Changes {
    /// Tells clients through `posts`; keeps so many bytes of what they read.
    pub(crate) fn new(posts: Arc<[Post]>, tracking_bytes_max: usize) -> Self {
        Self {
            posts,
            listeners: RwLock::default(),
            tracking: Tracking::new(tracking_bytes_max),
            count: Mutex::new(0),
        }
    }

    /// Tells a client each change of keys that begin so; gives the name as it is kept.
    pub(crate) fn watch(&self, prefix: &[u8], place: Place, id: u64) -> Arc<[u8]> {
        self.write(|listeners| listeners.watching.add(prefix, place, id))
    }

    pub(crate) fn unwatch(&self, prefix: &[u8], place: Place, id: u64) {
        self.write(|listeners| listeners.watching.remove(prefix, place, id));
    }

    /// Keeps a client's cache right from here on.
    pub(crate) fn add_cache(&self, place: Place, id: u64) {
        self.write(|listeners| listeners.caches.add(b"", place, id));
    }

    pub(crate) fn remove_cache(&self, place: Place, id: u64) {
        self.write(|listeners| listeners.caches.remove(b"", place, id));
    }

    /// Tells a client of all keys that begin so that it must not believe them any more.
    pub(crate) fn broadcast(&self, prefix: &[u8], place: Place, id: u64) -> Arc<[u8]> {
        self.write(|listeners| listeners.caching.add(prefix, place, id))
    }

    pub(crate) fn stop_broadcast(&self, prefix: &[u8], place: Place, id: u64) {
        self.write(|listeners| listeners.caching.remove(prefix, place, id));
    }

    /// Remembers that a client will read a key.
    pub(crate) fn will_read(&self, key: &[u8], place: Place, id: u64) {
        for (key, readers) in self.tracking.add(key, place, id) {
            self.invalidate(&key, readers, 0);
        }
    }

    /// Keys that clients have in their caches, and the bytes that it takes to know that.
    pub(crate) fn tracked(&self) -> (usize, usize) {
        self.tracking.size()
    }

    /// Tells everyone with a cache that nothing in it is to be believed.
    pub(crate) fn all_cleared(&self) {
        self.tracking.clear();
        self.read(|listeners| {
            let message: Arc<[u8]> = Arc::from(&b"2\r\n$10\r\ninvalidate\r\n_\r\n"[..]);
            if let Some((name, groups)) = listeners.caches.get(b"") {
                self.leave(Kind::Cache, name, groups, (&message, 0));
            }
        });
    }

    /// Counts a client that wants to hear of changes.
    pub(crate) fn begin(self: &Arc<Self>, keys: &Keyspace) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        if *count == 1 {
            let observer: Arc<dyn Observer> = Arc::clone(self) as _;
            keys.observe(&observer);
        }
    }

    /// Counts one less.
    pub(crate) fn end(self: &Arc<Self>, keys: &Keyspace) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        if *count == 0 {
            let observer: Arc<dyn Observer> = Arc::clone(self) as _;
            keys.stop_observing(&observer);
            self.tracking.clear();
        }
    }

    fn write<T>(&self, what: impl FnOnce(&mut Listeners) -> T) -> T {
        let listeners = self.listeners.write();
        what(&mut listeners.unwrap_or_else(PoisonError::into_inner))
    }

    fn read<T>(&self, what: impl FnOnce(&Listeners) -> T) -> T {
        let listeners = self.listeners.read();
        what(&listeners.unwrap_or_else(PoisonError::into_inner))
    }

    fn leave(
        &self,
        kind: Kind,
        name: &Arc<[u8]>,
        groups: &[Group],
        (bytes, except): (&Arc<[u8]>, u64),
    ) {
        for group in groups {
            if let Some(post) = self.posts.get(group.worker) {
                post.leave(Parcel {
                    kind,
                    name: Arc::clone(name),
                    targets: Arc::clone(&group.targets),
                    except,
                    bytes: Arc::clone(bytes),
                });
            }
        }
    }

    /// Tells everyone of a change.
    fn tell(&self, key: &[u8], change: &str, version: u64) {
        self.read(|listeners| {
            let mut message = None;
            for (prefix, groups) in listeners.watching.of(key) {
                let bytes = message.get_or_insert_with(|| changed(key, change, version));
                self.leave(Kind::Prefix, prefix, groups, (bytes, 0));
            }
        });
    }

    /// Tells those who may have a key in a cache, but one.
    fn doubt(&self, key: &[u8], except: u64) {
        self.read(|listeners| {
            let mut message = None;
            for (prefix, groups) in listeners.caching.of(key) {
                let bytes = message.get_or_insert_with(|| doubtful(key));
                self.leave(Kind::Cache, prefix, groups, (bytes, except));
            }
        });
        if let Some(readers) = self.tracking.take(key) {
            self.invalidate(key, readers, except);
        }
    }

    fn invalidate(&self, key: &[u8], readers: Vec<Group>, except: u64) {
        let (name, bytes) = (Arc::from(&b""[..]), doubtful(key));
        self.leave(Kind::Cache, &name, &readers, (&bytes, except));
    }
}

impl Observer for Changes {
    fn written(&self, entry: &Entry) {
        self.tell(entry.key(), "set", entry.version());
        self.doubt(entry.key(), SILENT.get());
    }

    fn removed(&self, entry: &Entry, version: u64, cause: Cause) {
        let change = match cause {
            Cause::Removed | Cause::Cleared => "removed",
            Cause::Expired => "expired",
            Cause::Evicted => "evicted",
        };
        self.tell(entry.key(), change, version);
        match cause {
            Cause::Removed => self.doubt(entry.key(), SILENT.get()),
            // Whoever did something else does not know of it.
            Cause::Expired | Cause::Evicted => self.doubt(entry.key(), 0),
            // One message for all of them follows.
            Cause::Cleared => {}
        }
    }
}

/// The message of a change, without its first byte.
fn changed(key: &[u8], change: &str, version: u64) -> Arc<[u8]> {
    let mut out = b"4\r\n$6\r\nchange\r\n".to_vec();
    bulk(&mut out, key);
    bulk(&mut out, change.as_bytes());
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(version).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.into()
}

/// The message that a key is not to be believed any more, without its first byte.
fn doubtful(key: &[u8]) -> Arc<[u8]> {
    let mut out = b"2\r\n$10\r\ninvalidate\r\n*1\r\n".to_vec();
    bulk(&mut out, key);
    out.into()
}
