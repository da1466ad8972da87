//! A limiter as its owner sees it.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::{Mode, Policy, XdpConfig};
use crate::error::XdpError;
use crate::kernel::Program;

/// A limiter on an interface. Any thread may use it. Dropping it takes the program off the interface;
/// so does the kernel, when the process ends in whatever way.
pub struct Limiter {
    program: Mutex<Program>,
    mode: Mode,
}

/// Packets since the limiter was attached. Each one is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// To one of the ports, and let through.
    pub passed: u64,
    /// Dropped, because their source sent more than it may.
    pub limited: u64,
    /// Dropped, because their source is banned.
    pub banned: u64,
    /// Let through, because they go to no port of the policy: others, later fragments, broken ones.
    pub not_ours: u64,
    /// Let through, because so many CPUs used the source's bucket that this one had no turn.
    pub contended: u64,
}

impl Counters {
    /// All packets.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.passed + self.limited + self.banned + self.not_ours + self.contended
    }
}

impl Limiter {
    /// Loads the program and puts it on the interface. Needs root or the capabilities `CAP_BPF` and
    /// `CAP_NET_ADMIN`, and Linux 5.18.
    ///
    /// # Errors
    /// See [`XdpError`]; [`is_refusal`](XdpError::is_refusal) tells a machine without XDP from a
    /// request that is wrong.
    pub fn attach(config: &XdpConfig) -> Result<Self, XdpError> {
        if config.sources == 0 {
            return Err(XdpError::NoSources);
        }
        let (program, mode) = Program::attach(config)?;
        Ok(Self {
            program: Mutex::new(program),
            mode,
        })
    }

    /// Where packets are looked at.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// What was done with packets so far, summed over all CPUs.
    ///
    /// # Errors
    /// [`XdpError::Kernel`] where the kernel does not say.
    pub fn counters(&self) -> Result<Counters, XdpError> {
        self.program().counters()
    }

    /// Drops all packets of `source` to the ports of the policy from now on. At most 65,536 are banned
    /// at the same time.
    ///
    /// # Errors
    /// [`XdpError::Kernel`] where there is no more room.
    pub fn ban(&self, source: IpAddr) -> Result<(), XdpError> {
        self.program().ban(source)
    }

    /// Limits packets of `source` as those of others again; whether it was banned.
    ///
    /// # Errors
    /// [`XdpError::Kernel`] where the kernel does not do it.
    pub fn unban(&self, source: IpAddr) -> Result<bool, XdpError> {
        self.program().unban(source)
    }

    /// Those that are banned, in the order of addresses; those of IPv4 come first.
    ///
    /// # Errors
    /// [`XdpError::Kernel`] where the kernel does not say.
    pub fn bans(&self) -> Result<Vec<IpAddr>, XdpError> {
        let mut bans = self.program().bans()?;
        bans.sort_unstable();
        Ok(bans)
    }

    /// Replaces the policy. Buckets stay: with a narrower limit a source waits for what the wider one
    /// gave it. A packet that arrives in this moment may meet the old limit, the new one, or the rate
    /// of one with the burst of the other.
    ///
    /// # Errors
    /// [`XdpError::Kernel`] where the kernel does not take it.
    pub fn set_policy(&self, policy: &Policy) -> Result<(), XdpError> {
        self.program().set_policy(policy)
    }

    pub(crate) fn program(&self) -> MutexGuard<'_, Program> {
        // Nothing is left half done by a thread that panics: each call is one request to the kernel.
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
