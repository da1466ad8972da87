//! Who wants what, by name.

use std::collections::HashMap;
use std::sync::Arc;

/// Where a client is: its thread and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Place {
    pub(crate) worker: usize,
    pub(crate) slot: usize,
}

/// A client for its thread. The number may belong to another client by the time that it is used, so the
/// identity is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) slot: usize,
    pub(crate) id: u64,
}

/// The clients of one thread that want the same.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) worker: usize,
    /// Copied only where a message to them is under way while it changes.
    pub(super) targets: Arc<Vec<Target>>,
}

/// Clients by the names that they want to hear of.
#[derive(Debug, Default)]
pub(super) struct Roster(HashMap<Arc<[u8]>, Vec<Group>>);

impl Roster {
    /// Adds a client that is not there yet; gives the name as it is kept.
    pub(super) fn add(&mut self, name: &[u8], place: Place, id: u64) -> Arc<[u8]> {
        let name = match self.0.get_key_value(name) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(name),
        };
        let groups = self.0.entry(Arc::clone(&name)).or_default();
        let target = Target {
            slot: place.slot,
            id,
        };
        match groups.iter_mut().find(|group| group.worker == place.worker) {
            Some(group) => Arc::make_mut(&mut group.targets).push(target),
            None => groups.push(Group {
                worker: place.worker,
                targets: Arc::new(vec![target]),
            }),
        }
        name
    }

    pub(super) fn remove(&mut self, name: &[u8], place: Place, id: u64) {
        let Some(groups) = self.0.get_mut(name) else {
            return;
        };
        for group in groups.iter_mut().filter(|it| it.worker == place.worker) {
            Arc::make_mut(&mut group.targets).retain(|target| target.id != id);
        }
        groups.retain(|group| !group.targets.is_empty());
        if groups.is_empty() {
            self.0.remove(name);
        }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<(&Arc<[u8]>, &[Group])> {
        let (name, groups) = self.0.get_key_value(name)?;
        Some((name, groups))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<[u8]>, &[Group])> {
        self.0.iter().map(|(name, groups)| (name, &**groups))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Clients that want a name.
    pub(super) fn count(&self, name: &[u8]) -> usize {
        let groups = self.0.get(name).into_iter().flatten();
        groups.map(|group| group.targets.len()).sum()
    }
}
