//! What is counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::compare::Mismatch;
use super::phase::MigrationState;

/// What a process that takes part in a migration says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberReport {
    /// All its operations of phases before this revision of the state are over.
    pub revision: u64,
    /// Changes that are not on the other store yet.
    pub behind: u64,
    /// Changes that were not copied because too many were behind.
    pub lost: u64,
    /// Keys that were copied.
    pub copied: u64,
    /// Copies that failed; they are made again.
    pub failed: u64,
    /// Reads of the new store that were compared with the old one.
    pub compared: u64,
    /// Those that differed.
    pub mismatched: u64,
    /// Reads that the old store answered because the new one did not.
    pub read_old: u64,
}

/// How far a migration is, and what all processes that take part say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// How far it is.
    pub state: MigrationState,
    /// What they say, with the name of each.
    pub members: Vec<(String, MemberReport)>,
}

#[derive(Debug, Default)]
pub(super) struct Tallies {
    copied: AtomicU64,
    failed: AtomicU64,
    compared: AtomicU64,
    mismatched: AtomicU64,
    read_old: AtomicU64,
    turns: AtomicU64,
}

impl Tallies {
    pub(super) fn copied(&self) {
        self.copied.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn compared(&self, mismatch: Option<Mismatch>) {
        self.compared.fetch_add(1, Ordering::Relaxed);
        if mismatch.is_some() {
            self.mismatched.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read_old(&self) {
        self.read_old.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it is the turn of one of so many.
    pub(super) fn is_turn(&self, of: u32) -> bool {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        turn.is_multiple_of(u64::from(of))
    }

    pub(super) fn report(&self) -> MemberReport {
        MemberReport {
            copied: self.copied.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            compared: self.compared.load(Ordering::Relaxed),
            mismatched: self.mismatched.load(Ordering::Relaxed),
            read_old: self.read_old.load(Ordering::Relaxed),
            ..MemberReport::default()
        }
    }
}
