//! Why nothing is limited.

use crate::config::PORTS_MAX;

/// Why a limiter is not there or does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XdpError {
    /// This program has no program for the kernel. The caller's build.
    #[error("this program was built without XDP; build it with the feature `xdp`")]
    NotBuilt,
    /// There is no such interface. The caller's mistake.
    #[error("there is no interface '{0}'; `ip link` lists them")]
    Interface(String),
    /// A policy has no ports or too many. The caller's mistake.
    #[error("a policy is for 1 to {PORTS_MAX} ports, not {0}")]
    Ports(usize),
    /// There would be no room for a bucket. The caller's mistake.
    #[error("there is room for 0 sources; name at least 1")]
    NoSources,
    /// This process may not do that.
    #[error(
        "the kernel does not let this process {what}; it needs root, or CAP_BPF and CAP_NET_ADMIN"
    )]
    Permission {
        /// What it was asked for.
        what: &'static str,
    },
    /// The kernel cannot or does not do it, or the interface's driver.
    #[error("the kernel does not {what}: {cause}")]
    Kernel {
        /// What it was asked for.
        what: &'static str,
        /// What it says, in a line.
        cause: String,
    },
    /// Something is attached to the interface already.
    #[error("another XDP program is on '{0}'; `ip link` shows it")]
    Busy(String),
}

impl XdpError {
    /// Whether the machine has no XDP for this process, and nothing about the request is wrong. The
    /// caller can go on without.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::NotBuilt | Self::Permission { .. } | Self::Kernel { .. } | Self::Busy(_) => true,
            Self::Interface(_) | Self::Ports(_) | Self::NoSources => false,
        }
    }
}
