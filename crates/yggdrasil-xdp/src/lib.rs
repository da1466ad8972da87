//! Token buckets by source address in the kernel: packets above a rate are dropped before the
//! network stack takes notice of them (XDP).
//!
//! [`Limiter::attach`] puts the program on an interface as [`XdpConfig`] says, and dropping the
//! [`Limiter`] takes it away, as does the end of the process. A [`Policy`] is the limit of each source
//! and the ports that it holds for; banned sources get nothing through to them. The arithmetic is that
//! of [`yggdrasil::step`], once more in C; both are held against each other by tests.
//!
//! Without the feature `xdp` there is no program, and [`attach`](Limiter::attach) answers
//! [`XdpError::NotBuilt`], so a caller has one way for both.
//!
//! ```no_run
//! use std::time::Duration;
//! use yggdrasil::Limit;
//! use yggdrasil_xdp::{Limiter, Policy, XdpConfig};
//!
//! let limit = Limit::per(1000, Duration::from_secs(1), 2000)?;
//! let config = XdpConfig::new("eth0", Policy::new(Some(limit), &[7777])?);
//! let limiter = Limiter::attach(&config)?;
//! limiter.ban("192.0.2.7".parse()?)?;
//! println!("{:?} {:?}", limiter.mode(), limiter.counters()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(not(feature = "xdp"))]
#[path = "absent.rs"]
mod kernel;
#[cfg(feature = "xdp")]
mod kernel;

mod config;
mod error;
mod limiter;

#[cfg(all(test, feature = "xdp"))]
mod tests;

pub use config::{Mode, PORTS_MAX, Policy, XdpConfig};
pub use error::XdpError;
pub use limiter::{Counters, Limiter};
