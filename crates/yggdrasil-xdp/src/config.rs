//! What is limited, and where.

use yggdrasil::Limit;

use crate::error::XdpError;

/// Most ports of a policy; the program looks at all of them for each packet.
pub const PORTS_MAX: usize = 16;

/// How a limiter is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XdpConfig {
    /// The interface whose arriving packets are limited, such as `eth0`.
    pub interface: String,
    /// Where packets are looked at. Default: by the driver where it can, else by the kernel.
    pub mode: Option<Mode>,
    /// Sources that have a bucket at the same time, at least 1; some 100 bytes of kernel memory for
    /// each are taken at once. Where there are more, the one that was used least recently gets a full
    /// bucket again. Default: 65,536.
    pub sources: u32,
    /// What is limited.
    pub policy: Policy,
}

impl XdpConfig {
    /// The defaults for an interface and a policy.
    #[must_use]
    pub fn new(interface: &str, policy: Policy) -> Self {
        Self {
            interface: interface.to_owned(),
            mode: None,
            sources: 1 << 16,
            policy,
        }
    }
}

/// Where packets are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By the kernel, once it has made a socket buffer of the packet; on any interface.
    Skb,
    /// By the interface's driver, before there is a buffer; not every driver can.
    Driver,
}

impl Mode {
    /// `skb` or `driver`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skb => "skb",
            Self::Driver => "driver",
        }
    }
}

/// How much every source may send to which ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    limit: Option<Limit>,
    ports: [u16; PORTS_MAX],
    ports_len: usize,
}

impl Policy {
    /// Packets that each source address may send to TCP and UDP `ports` of this machine, 1 to
    /// [`PORTS_MAX`] of them; without a limit only packets of banned sources are dropped.
    ///
    /// # Errors
    /// [`XdpError::Ports`] where there are none or too many.
    pub fn new(limit: Option<Limit>, ports: &[u16]) -> Result<Self, XdpError> {
        let mut kept = [0; PORTS_MAX];
        match kept.get_mut(..ports.len()) {
            Some(kept) if !ports.is_empty() => kept.copy_from_slice(ports),
            _ => return Err(XdpError::Ports(ports.len())),
        }
        Ok(Self {
            limit,
            ports: kept,
            ports_len: ports.len(),
        })
    }

    /// What each source may send.
    #[must_use]
    pub const fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// The ports that it holds for.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        self.ports.get(..self.ports_len).unwrap_or_default()
    }
}

#[cfg(test)]
mod cases {
    use super::*;

    #[test]
    fn policy_has_one_to_sixteen_ports() {
        let ports: Vec<u16> = (0..17).collect();
        assert_eq!(Policy::new(None, &[7777]).unwrap().ports(), [7777]);
        assert_eq!(Policy::new(None, &ports[1..]).unwrap().ports(), &ports[1..]);
        for wrong in [&ports[..0], &ports] {
            let error = Policy::new(None, wrong).unwrap_err();
            assert!(matches!(error, XdpError::Ports(count) if count == wrong.len()));
        }
    }
}
