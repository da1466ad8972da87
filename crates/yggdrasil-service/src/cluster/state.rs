//! Which slots this node serves, and where the others are.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ClusterConfig;
use super::membership::{Membership, Node};
use super::placement::place;
use super::slots::SLOTS;
use super::store::{self, Kept, StoreError};

/// How it is with a slot, as this node sees it. Nodes are numbers in the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// This node serves it.
    Mine,
    /// This node serves what is left of it, and gives it to another.
    Leaving(u16),
    /// It comes from another node, which serves it still.
    Coming(u16),
    /// Its node is gone; this one serves it once that has stopped for sure.
    Waiting,
    /// Another node serves it.
    Other(u16),
    /// Nobody serves it.
    Nobody,
}

impl Slot {
    const fn code(self) -> u32 {
        let (kind, node) = match self {
            Self::Mine => (0, 0),
            Self::Leaving(node) => (1, node),
            Self::Coming(node) => (2, node),
            Self::Waiting => (3, 0),
            Self::Other(node) => (4, node),
            Self::Nobody => (5, 0),
        };
        kind << 16 | node as u32
    }

    const fn of(code: u32) -> Self {
        let node = code as u16;
        match code >> 16 {
            0 => Self::Mine,
            1 => Self::Leaving(node),
            2 => Self::Coming(node),
            3 => Self::Waiting,
            4 => Self::Other(node),
            _ => Self::Nobody,
        }
    }
}

/// Whether a client was sent here for a slot that is coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Asking {
    #[default]
    No,
    Yes,
}

/// The cluster as this node sees it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: ClusterConfig,
    slots: Box<[AtomicU32]>,
    began: Instant,
    /// Until when a majority has the same membership, in nanoseconds since `began`.
    valid_until_ns: AtomicU64,
    /// Whether it has ever served.
    has_served: AtomicBool,
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Whether keys of slots that others have served since have to be removed.
    purges: AtomicBool,
    /// Keys that are on their way to another node.
    moving: Mutex<HashSet<Vec<u8>>>,
}

#[derive(Debug)]
struct Inner {
    membership: Arc<Membership>,
    /// Those who had a say before the last change, while slots wait.
    before: Arc<Membership>,
    /// When each node last got a question that it answered with the same membership.
    answered: BTreeMap<String, Instant>,
    /// Since when a majority of those before has the membership.
    taken_at: Option<Instant>,
    /// Whether each other node has said that it has nothing to do.
    settled: BTreeMap<String, bool>,
}

impl Cluster {
    pub(crate) fn open(config: ClusterConfig) -> Result<Self, StoreError> {
        let kept = match &config.file {
            Some(file) => store::read(file)?,
            None => None,
        };
        let configured = Kept::new(config.membership.clone());
        let kept = match kept {
            Some(kept) if kept.membership.order() >= configured.membership.order() => kept,
            _ => configured,
        };
        let before = Arc::new(kept.before);
        let cluster = Self {
            slots: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
            began: Instant::now(),
            valid_until_ns: AtomicU64::new(0),
            has_served: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                membership: Arc::clone(&before),
                before: Arc::clone(&before),
                answered: BTreeMap::new(),
                taken_at: None,
                settled: BTreeMap::new(),
            }),
            changed: Condvar::new(),
            purges: AtomicBool::new(false),
            moving: Mutex::default(),
            config,
        };
        let own = before.number_of(&cluster.config.id);
        for (slot, owner) in (0..).zip(place(before.nodes())) {
            cluster.set(
                slot,
                match owner {
                    None => Slot::Nobody,
                    owner if owner == own => Slot::Mine,
                    Some(owner) => Slot::Other(owner),
                },
            );
        }
        if *before != kept.membership {
            cluster.adopt(kept.membership)?;
        }
        cluster.count();
        Ok(cluster)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(crate) fn slot(&self, slot: u16) -> Slot {
        let found = self.slots.get(usize::from(slot));
        found.map_or(Slot::Nobody, |slot| Slot::of(slot.load(Ordering::Acquire)))
    }

    fn set(&self, slot: u16, to: Slot) {
        if let Some(slot) = self.slots.get(usize::from(slot)) {
            slot.store(to.code(), Ordering::Release);
        }
    }

    /// Whether a majority has the same membership.
    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        let now_ns = self.began.elapsed().as_nanos() as u64;
        now_ns < self.valid_until_ns.load(Ordering::Acquire)
    }

    pub(crate) fn membership(&self) -> Arc<Membership> {
        Arc::clone(&self.lock().membership)
    }

    /// A node by its number.
    pub(crate) fn node(&self, number: u16) -> Option<Node> {
        self.membership().node(number).cloned()
    }

    /// Takes a membership if it is later than what is known; whether it is.
    pub(crate) fn adopt(&self, membership: Membership) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        if membership.order() <= inner.membership.order() {
            return Ok(false);
        }
        let membership = Arc::new(membership);
        let old = std::mem::replace(&mut inner.membership, Arc::clone(&membership));
        inner.before = Arc::clone(&old);
        inner.answered.clear();
        inner.settled.clear();
        inner.taken_at = None;
        self.valid_until_ns.store(0, Ordering::Release);
        let own = membership.number_of(&self.config.id);
        // The same node in the new numbers.
        let moved = |number: u16| membership.number_of(&old.node(number)?.id);
        for (slot, owner) in (0..).zip(place(membership.nodes())) {
            let is_mine = owner.is_some() && owner == own;
            let elsewhere = || owner.map_or(Slot::Nobody, Slot::Other);
            let next = match (self.slot(slot), is_mine) {
                (Slot::Mine | Slot::Leaving(_), true) => Slot::Mine,
                (Slot::Mine | Slot::Leaving(_), false) => owner.map_or(Slot::Nobody, Slot::Leaving),
                (Slot::Coming(from) | Slot::Other(from), true) => match moved(from) {
                    Some(from) => Slot::Coming(from),
                    None => Slot::Waiting,
                },
                (Slot::Waiting | Slot::Nobody, true) => Slot::Waiting,
                (_, false) => elsewhere(),
            };
            self.set(slot, next);
        }
        // Whoever has been away gives nothing away: others have served it meanwhile.
        let is_back = !self.has_served.load(Ordering::Acquire)
            && !store::was_kept(self.config.file.as_deref(), &membership);
        if is_back {
            self.purges.store(true, Ordering::Release);
            for slot in 0..SLOTS {
                if let Slot::Leaving(to) = self.slot(slot) {
                    self.set(slot, Slot::Other(to));
                }
            }
        }
        self.keep(&inner)?;
        drop(inner);
        self.count();
        self.changed.notify_all();
        Ok(true)
    }

    fn keep(&self, inner: &Inner) -> Result<(), StoreError> {
        let Some(file) = &self.config.file else {
            return Ok(());
        };
        let is_moving = (0..SLOTS).any(|slot| {
            matches!(
                self.slot(slot),
                Slot::Leaving(_) | Slot::Coming(_) | Slot::Waiting
            )
        });
        let before = match is_moving {
            true => &inner.before,
            false => &inner.membership,
        };
        store::write(file, &inner.membership, before)
    }

    /// A node answered a question of `asked` with this order of its membership.
    pub(crate) fn answered(&self, id: &str, asked: Instant) {
        self.lock().answered.insert(id.to_owned(), asked);
        self.count();
    }

    /// A node said whether it has something to do: 0 if so.
    pub(crate) fn said(&self, id: &str, settled: i64) {
        self.lock().settled.insert(id.to_owned(), settled != 0);
    }

    /// Looks at who has the same membership, and since when.
    pub(crate) fn count(&self) {
        let mut inner = self.lock();
        let membership = Arc::clone(&inner.membership);
        let is_member = membership.number_of(&self.config.id).is_some();
        // The time at which the majority was there is that of its slowest member.
        let now = Instant::now();
        let others = membership.nodes().iter();
        let others = others.filter(|node| node.id != self.config.id);
        let mut asked: Vec<Instant> = others
            .filter_map(|node| inner.answered.get(&node.id).copied())
            .collect();
        asked.sort_unstable();
        let needed = membership.nodes().len() / 2 + 1 - usize::from(is_member);
        let since = match needed {
            0 => Some(now),
            needed => asked
                .len()
                .checked_sub(needed)
                .and_then(|at| asked.get(at).copied()),
        };
        let valid_until = since
            .filter(|_| is_member)
            .map(|since| since + self.config.timeout);
        let valid_ns = valid_until.map_or(0, |at| {
            at.saturating_duration_since(self.began).as_nanos() as u64
        });
        self.valid_until_ns.store(valid_ns, Ordering::Release);
        if valid_until.is_some_and(|at| at > now) {
            self.has_served.store(true, Ordering::Release);
        }
        self.count_waiting(&mut inner, now);
    }

    /// Slots that wait are served when those who may have served them have stopped.
    fn count_waiting(&self, inner: &mut Inner, now: Instant) {
        let waits = || (0..SLOTS).filter(|slot| self.slot(*slot) == Slot::Waiting);
        if waits().next().is_none() {
            return;
        }
        let before = inner.before.nodes();
        let has_taken =
            |node: &&Node| node.id == self.config.id || inner.answered.contains_key(&node.id);
        let taken = before.iter().filter(has_taken).count();
        if taken > before.len() / 2 {
            let since = *inner.taken_at.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.config.timeout * 3 / 2 {
                let waiting: Vec<u16> = waits().collect();
                for slot in waiting {
                    self.set(slot, Slot::Mine);
                }
                // Where it cannot be kept, the wait begins anew after a restart.
                let _ = self.keep(inner);
            }
        }
    }

    /// Whether nothing of this node is on its way.
    pub(crate) fn is_settled(&self) -> bool {
        !(0..SLOTS).any(|slot| {
            matches!(
                self.slot(slot),
                Slot::Leaving(_) | Slot::Coming(_) | Slot::Waiting
            )
        })
    }

    /// Whether nothing of any node is on its way, as far as they said.
    pub(crate) fn is_all_settled(&self) -> bool {
        let inner = self.lock();
        let others = inner.membership.nodes().iter();
        let mut others = others.filter(|node| node.id != self.config.id);
        let is_settled = |node: &Node| inner.settled.get(&node.id) != Some(&false);
        others.all(is_settled) && self.is_settled()
    }

    /// Whether a node has answered lately with the same membership.
    pub(crate) fn is_answering(&self, id: &str) -> bool {
        let answered = self.lock().answered.get(id).copied();
        id == self.config.id || answered.is_some_and(|at| at.elapsed() < self.config.timeout)
    }

    /// Slots that this node gives to another.
    pub(crate) fn leaves_to(&self, node: u16) -> bool {
        (0..SLOTS).any(|slot| self.slot(slot) == Slot::Leaving(node))
    }

    /// Everything was given to another node.
    pub(crate) fn left_to(&self, node: u16) {
        let inner = self.lock();
        for slot in 0..SLOTS {
            if self.slot(slot) == Slot::Leaving(node) {
                self.set(slot, Slot::Other(node));
            }
        }
        // Where it cannot be kept, giving away begins anew after a restart and finds nothing.
        let _ = self.keep(&inner);
    }

    /// Another node has given everything that it had for this one.
    pub(crate) fn came_from(&self, node: u16) {
        let inner = self.lock();
        for slot in 0..SLOTS {
            if self.slot(slot) == Slot::Coming(node) {
                self.set(slot, Slot::Mine);
            }
        }
        let _ = self.keep(&inner);
    }

    /// Waits until something changes, at most for so long.
    pub(crate) fn wait(&self, at_most: Duration) {
        let inner = self.lock();
        // Whoever wakes looks at everything.
        let _ = self.changed.wait_timeout(inner, at_most);
    }

    /// Whether what an earlier life left is still to be removed.
    pub(crate) fn purges(&self) -> bool {
        self.purges.load(Ordering::Acquire)
    }

    pub(crate) fn purged(&self) {
        self.purges.store(false, Ordering::Release);
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }

    pub(crate) fn moving(&self) -> MutexGuard<'_, HashSet<Vec<u8>>> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
