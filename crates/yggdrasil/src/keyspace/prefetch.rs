//! Memory that will be needed.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::entry::Entry;
use super::table::{self, Table};

/// Where the entries of a shard are, as far as somebody can know who does not have it. What it says
/// may be old, and is never followed: an address is only named to the processor.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    address: AtomicUsize,
    places: AtomicUsize,
}

impl Whereabouts {
    #[inline]
    pub(super) fn update(&self, table: &Table) {
        // Hardly ever different, and then not written: the line stays with all who read it.
        if self.address.load(Ordering::Relaxed) != table.address() {
            self.places.store(table.places(), Ordering::Relaxed);
            self.address.store(table.address(), Ordering::Relaxed);
        }
    }

    /// Has the home of a hash brought near, and the place behind it, where half of what does not find
    /// its home free is.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        let mask = self.places.load(Ordering::Relaxed).wrapping_sub(1);
        let home = table::home(hash, mask).wrapping_mul(size_of::<Entry>());
        let address = self.address.load(Ordering::Relaxed).wrapping_add(home);
        prefetch(address);
        prefetch(address.wrapping_add(size_of::<Entry>()));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the standard library has no safe way to prefetch yet"
)]
fn prefetch(address: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let pointer = std::ptr::without_provenance(address);
    // SAFETY: The instruction reads and writes nothing and does not fault, whatever the address is
    // (Intel SDM volume 2, PREFETCHh).
    unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer) }
}

#[cfg(not(target_arch = "x86_64"))]
fn prefetch(_: usize) {}
