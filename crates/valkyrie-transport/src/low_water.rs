//! How much has to have come before a reader is woken.

use std::os::fd::AsFd;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::SetStruct};

/// `SO_RCVLOWAT`.
#[derive(Debug, Clone, Copy)]
struct ReceiveLowWater;

nix::setsockopt_impl!(
    ReceiveLowWater,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32,
    SetStruct<i32>
);

/// The mark of a socket, so that it is only set when it changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LowWater(i32);

impl LowWater {
    /// What every socket begins with.
    pub(crate) const DEFAULT: Self = Self(1);

    /// Wakes readers of `socket` only when `bytes` have come, as far as the kernel can hold so
    /// many; a kernel that refuses wakes them too often, which is no mistake.
    pub(crate) fn set(&mut self, socket: &impl AsFd, bytes: usize) {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX).max(1);
        if bytes != self.0 && setsockopt(socket, ReceiveLowWater, &bytes).is_ok() {
            self.0 = bytes;
        }
    }

    /// The same where it is more by now.
    pub(crate) fn lower(&mut self, socket: &impl AsFd, bytes: usize) {
        if usize::try_from(self.0).is_ok_and(|mark| bytes < mark) {
            self.set(socket, bytes);
        }
    }
}
