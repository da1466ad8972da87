//! In place of the kernel, where there is no program for it.

use std::convert::Infallible;
use std::net::IpAddr;

use crate::config::{Mode, Policy, XdpConfig};
use crate::error::XdpError;
use crate::limiter::Counters;

/// There is none.
pub(crate) struct Program(Infallible);

impl Program {
    pub(crate) const fn attach(_: &XdpConfig) -> Result<(Self, Mode), XdpError> {
        Err(XdpError::NotBuilt)
    }

    pub(crate) const fn counters(&self) -> Result<Counters, XdpError> {
        match self.0 {}
    }

    pub(crate) const fn ban(&self, _: IpAddr) -> Result<(), XdpError> {
        match self.0 {}
    }

    pub(crate) const fn unban(&self, _: IpAddr) -> Result<bool, XdpError> {
        match self.0 {}
    }

    pub(crate) const fn bans(&self) -> Result<Vec<IpAddr>, XdpError> {
        match self.0 {}
    }

    pub(crate) const fn set_policy(&self, _: &Policy) -> Result<(), XdpError> {
        match self.0 {}
    }
}
