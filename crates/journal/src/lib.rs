//! An append-only journal: segments, checksums, group commit, snapshot, recovery.
