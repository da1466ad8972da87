//! Where clients come from, and how often each address may come.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use yggdrasil::{Buckets, Limit};

use crate::clock::Moment;
use crate::limits::{BANS_MAX, SOURCES_MAX};

/// Who limits how often each source address may come.
#[derive(Debug, Clone, Default)]
pub enum SourceLimit {
    /// Nobody.
    #[default]
    None,
    /// Something in front of the server, which sees packets.
    Before(Arc<dyn Barrier>),
    /// The server: a connection costs a token, and so does each time that a client is read from. A
    /// client without one is told so and closed. Clients of Unix sockets have no limit.
    Here {
        /// Of each address; without one only those that are banned are closed.
        limit: Option<Limit>,
        /// Addresses that are banned from the start.
        bans: Vec<IpAddr>,
    },
}

/// Something in front of a server that drops packets of sources which send too many.
pub trait Barrier: fmt::Debug + Send + Sync {
    /// What `INFO` shows of it, such as `skb` or `driver`.
    fn mode(&self) -> &'static str;

    /// Packets by what was done with them, under names of `INFO`.
    ///
    /// # Errors
    /// Why they cannot be had.
    fn counters(&self) -> Result<Vec<(&'static str, u64)>, String>;

    /// Lets nothing of a source through any more.
    ///
    /// # Errors
    /// Why it cannot be done.
    fn ban(&self, source: IpAddr) -> Result<(), String>;

    /// Takes back a ban; whether there was one.
    ///
    /// # Errors
    /// Why it cannot be done.
    fn unban(&self, source: IpAddr) -> Result<bool, String>;

    /// Those that are banned.
    ///
    /// # Errors
    /// Why they cannot be had.
    fn bans(&self) -> Result<Vec<IpAddr>, String>;
}

/// What the server does about sources.
#[derive(Debug)]
pub(crate) enum Sources {
    Unlimited,
    Before(Arc<dyn Barrier>),
    Here(Gate),
}

/// The limit inside of the server.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: Option<Limit>,
    buckets: Buckets,
    bans: RwLock<BTreeSet<IpAddr>>,
    limited: AtomicU64,
    banned: AtomicU64,
}

impl Sources {
    pub(crate) fn new(limit: &SourceLimit) -> Self {
        match limit {
            SourceLimit::None => Self::Unlimited,
            SourceLimit::Before(barrier) => Self::Before(Arc::clone(barrier)),
            SourceLimit::Here { limit, bans } => Self::Here(Gate {
                limit: *limit,
                buckets: Buckets::with_room_for(SOURCES_MAX),
                bans: RwLock::new(bans.iter().map(IpAddr::to_canonical).collect()),
                limited: AtomicU64::new(0),
                banned: AtomicU64::new(0),
            }),
        }
    }

    /// Takes a token of the source, where it is for the server to do so.
    pub(crate) fn admit(&self, source: Option<IpAddr>, now: impl FnOnce() -> Moment) -> bool {
        match (self, source) {
            (Self::Here(gate), Some(source)) => gate.admits(source, now()),
            _ => true,
        }
    }

    /// For `INFO`: who limits.
    pub(crate) const fn mode(&self) -> &'static str {
        match self {
            Self::Unlimited => "none",
            Self::Before(_) => "kernel",
            Self::Here(_) => "server",
        }
    }

    /// For `INFO`: where packets are looked at.
    pub(crate) fn xdp(&self) -> &'static str {
        match self {
            Self::Before(barrier) => barrier.mode(),
            Self::Unlimited | Self::Here(_) => "off",
        }
    }

    /// What was done, under names of `INFO`. Empty where nobody knows.
    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Unlimited => Vec::new(),
            Self::Before(barrier) => barrier.counters().unwrap_or_default(),
            Self::Here(gate) => vec![
                ("sources_limited", gate.limited.load(Ordering::Relaxed)),
                ("sources_banned", gate.banned.load(Ordering::Relaxed)),
            ],
        }
    }

    pub(crate) fn ban(&self, source: IpAddr) -> Result<(), String> {
        match self {
            Self::Unlimited => Err(nobody()),
            Self::Before(barrier) => barrier.ban(source),
            Self::Here(gate) => {
                let mut bans = gate.bans.write().unwrap_or_else(PoisonError::into_inner);
                if bans.len() >= BANS_MAX && !bans.contains(&source) {
                    return Err(format!("{BANS_MAX} sources are banned, which is the most"));
                }
                bans.insert(source);
                Ok(())
            }
        }
    }

    pub(crate) fn unban(&self, source: IpAddr) -> Result<bool, String> {
        match self {
            Self::Unlimited => Err(nobody()),
            Self::Before(barrier) => barrier.unban(source),
            Self::Here(gate) => {
                let mut bans = gate.bans.write().unwrap_or_else(PoisonError::into_inner);
                Ok(bans.remove(&source))
            }
        }
    }

    pub(crate) fn bans(&self) -> Result<Vec<IpAddr>, String> {
        match self {
            Self::Unlimited => Ok(Vec::new()),
            Self::Before(barrier) => barrier.bans(),
            Self::Here(gate) => {
                let bans = gate.bans.read().unwrap_or_else(PoisonError::into_inner);
                Ok(bans.iter().copied().collect())
            }
        }
    }
}

impl Gate {
    fn admits(&self, source: IpAddr, now: Moment) -> bool {
        let bans = self.bans.read().unwrap_or_else(PoisonError::into_inner);
        if bans.contains(&source) {
            self.banned.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        drop(bans);
        let Some(limit) = &self.limit else {
            return true;
        };
        let key = match source {
            IpAddr::V4(source) => source.to_ipv6_mapped().octets(),
            IpAddr::V6(source) => source.octets(),
        };
        let decision = self.buckets.try_consume(&key, limit, 1, now.ns);
        if !decision.is_allowed() {
            self.limited.fetch_add(1, Ordering::Relaxed);
        }
        decision.is_allowed()
    }
}

fn nobody() -> String {
    "nothing limits sources here; start the server with --xdp".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_a_bucket_and_bans_come_first() {
        let limit = Limit::new(1_000_000_000, 2).unwrap();
        let sources = Sources::new(&SourceLimit::Here {
            limit: Some(limit),
            bans: vec!["::ffff:192.0.2.9".parse().unwrap()],
        });
        let ask = |source: &str, ns| sources.admit(Some(source.parse().unwrap()), || Moment { ns });
        let now = 1 << 40;
        for source in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
            assert_eq!([(); 3].map(|()| ask(source, now)), [true, true, false]);
            assert!(ask(source, now + 1_000_000_000));
        }
        let banned = "192.0.2.9".parse().unwrap();
        assert!(!ask("192.0.2.9", now));
        assert_eq!(sources.bans().unwrap(), [banned]);
        assert!(sources.unban(banned).unwrap());
        assert!(!sources.unban(banned).unwrap());
        assert!(ask("192.0.2.9", now));
        let counters = [("sources_limited", 3), ("sources_banned", 1)];
        assert_eq!(sources.counters(), counters);
        // Clients of Unix sockets come from nowhere.
        assert!((0..10).all(|_| sources.admit(None, || Moment { ns: now })));
    }
}
