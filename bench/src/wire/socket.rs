//! A socket option that no library sets.

use std::os::fd::AsFd;

use anyhow::{Context, Result};

#[derive(Clone, Copy)]
struct ReceiveLowWater;

nix::setsockopt_impl!(
    ReceiveLowWater,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    usize,
    nix::sys::socket::sockopt::SetUsize
);

/// Wakes the reader of `socket` only when `bytes` are there, or the end.
pub(crate) fn set_receive_low_water(socket: &impl AsFd, bytes: usize) -> Result<()> {
    nix::sys::socket::setsockopt(socket, ReceiveLowWater, &bytes).context("cannot set SO_RCVLOWAT")
}
