//! Where entries are, for those who will need them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::entry::Entry;
use super::table::{self, Table};
use crate::prefetch::prefetch;

/// Where the entries of a shard are, as far as somebody can know who does not have it. What it says
/// may be old, and is never followed: an address is only named to the processor.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    address: AtomicUsize,
    tags: AtomicUsize,
    places: AtomicUsize,
}

impl Whereabouts {
    #[inline]
    pub(super) fn update(&self, table: &Table) {
        // Hardly ever different, and then not written: the line stays with all who read it.
        if self.address.load(Ordering::Relaxed) != table.address() {
            self.places.store(table.places(), Ordering::Relaxed);
            self.tags.store(table.tags_address(), Ordering::Relaxed);
            self.address.store(table.address(), Ordering::Relaxed);
        }
    }

    /// Has the home of a hash brought near, and the place behind it, where half of what does not find
    /// its home free is.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        let mask = self.places.load(Ordering::Relaxed).wrapping_sub(1);
        let home = table::home(hash, mask);
        prefetch(self.tags.load(Ordering::Relaxed).wrapping_add(home));
        let offset = home.wrapping_mul(size_of::<Entry>());
        let address = self.address.load(Ordering::Relaxed).wrapping_add(offset);
        prefetch(address);
        prefetch(address.wrapping_add(size_of::<Entry>()));
    }
}
