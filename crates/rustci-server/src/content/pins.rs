//! What must not go although the catalogue does not name it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustci_scheduler::AttemptToken;

use crate::blobs::BlobDigest;
use crate::limits::PINS_MAX;

/// Blobs and trees that attempts and readers hold. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Mutex<State>>);

/// Everything behind the lock. A blob is removed under it, too: between the look whether it is held
/// and its end nobody can be told that it is there.
#[derive(Debug, Default)]
struct State {
    attempts: HashMap<AttemptToken, Held>,
    /// Trees that somebody reads, with how many do.
    readers: HashMap<BlobDigest, usize>,
}

#[derive(Debug, Default)]
struct Held {
    blobs: HashSet<BlobDigest>,
    /// Trees that were found for it, which it may read.
    trees: HashSet<BlobDigest>,
}

/// An attempt wants to hold more than [`PINS_MAX`] blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one attempt may hand on at most {PINS_MAX} pieces; pack small files into one before")]
pub struct TooMany;

/// Holds a tree while somebody reads it.
#[derive(Debug)]
pub struct TreeGuard {
    pins: Pins,
    tree: BlobDigest,
}

impl Pins {
    /// Holds blobs for an attempt until [`release`](Self::release).
    ///
    /// # Errors
    /// [`TooMany`]; those that fit are held.
    pub fn hold(
        &self,
        token: AttemptToken,
        blobs: impl IntoIterator<Item = BlobDigest>,
    ) -> Result<(), TooMany> {
        let mut state = self.lock();
        let held = state.attempts.entry(token).or_default();
        for blob in blobs {
            if held.blobs.len() >= PINS_MAX && !held.blobs.contains(&blob) {
                return Err(TooMany);
            }
            held.blobs.insert(blob);
        }
        Ok(())
    }

    /// Holds a tree that an attempt may read.
    pub fn grant(&self, token: AttemptToken, tree: BlobDigest) {
        let mut state = self.lock();
        state.attempts.entry(token).or_default().trees.insert(tree);
    }

    /// Whether an attempt may read a tree.
    #[must_use]
    pub fn is_granted(&self, token: AttemptToken, tree: BlobDigest) -> bool {
        let state = self.lock();
        let held = state.attempts.get(&token);
        held.is_some_and(|held| held.trees.contains(&tree))
    }

    /// An attempt has ended.
    pub fn release(&self, token: AttemptToken) {
        self.lock().attempts.remove(&token);
    }

    /// Holds a tree until the guard is dropped.
    #[must_use]
    pub fn read(&self, tree: BlobDigest) -> TreeGuard {
        *self.lock().readers.entry(tree).or_default() += 1;
        let pins = self.clone();
        TreeGuard { pins, tree }
    }

    /// The trees that are held.
    #[must_use]
    pub fn trees(&self) -> HashSet<BlobDigest> {
        let state = self.lock();
        let granted = state.attempts.values().flat_map(|held| &held.trees);
        granted.chain(state.readers.keys()).copied().collect()
    }

    /// Removes a blob with `remove`, unless an attempt holds it. Returns whether it was removed.
    ///
    /// # Errors
    /// Those of `remove`.
    pub fn remove_unheld<E>(
        &self,
        blob: BlobDigest,
        remove: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let state = self.lock();
        let mut attempts = state.attempts.values();
        if attempts.any(|held| held.blobs.contains(&blob)) {
            return Ok(false);
        }
        remove()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TreeGuard {
    fn drop(&mut self) {
        let mut state = self.pins.lock();
        if let Some(readers) = state.readers.get_mut(&self.tree) {
            *readers -= 1;
            if *readers == 0 {
                state.readers.remove(&self.tree);
            }
        }
    }
}
