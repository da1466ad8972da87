//! One instruction that has memory brought near.

/// Has the cache line at an address brought near. Any address will do: nothing is read.
#[cfg(target_arch = "x86_64")]
#[inline]
#[expect(
    unsafe_code,
    reason = "the standard library has no safe way to prefetch yet"
)]
pub(crate) fn prefetch(address: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let pointer = std::ptr::without_provenance(address);
    // SAFETY: The instruction reads and writes nothing and does not fault, whatever the address is
    // (Intel SDM volume 2, PREFETCHh).
    unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer) }
}

/// Nothing, where it is not known how.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn prefetch(_: usize) {}
