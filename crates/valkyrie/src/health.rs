//! How the services of this program are, for peers and for probes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use valkyrie_session::HealthStatus;

/// How the services of this program are. Clones share it, on every thread.
///
/// A service is named as in methods, `package.Service`; the empty name is the program as a whole,
/// which serves until it is said otherwise.
///
/// ```
/// use valkyrie::{Health, HealthStatus};
///
/// let health = Health::default();
/// health.set("demo.Echo", HealthStatus::NotServing);
/// assert_eq!(health.status("demo.Echo"), HealthStatus::NotServing);
/// assert_eq!(health.status("demo.Other"), HealthStatus::Unknown);
/// assert_eq!(health.status(""), HealthStatus::Serving);
/// ```
#[derive(Debug, Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    services: Mutex<BTreeMap<String, HealthStatus>>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

impl Default for Health {
    fn default() -> Self {
        let program = (String::new(), HealthStatus::Serving);
        Self {
            inner: Arc::new(Inner {
                services: Mutex::new(BTreeMap::from([program])),
                changes: watch::Sender::new(0),
            }),
        }
    }
}

impl Health {
    /// Says how a service is; [`HealthStatus::Unknown`] forgets it. Peers that watch it are told.
    pub fn set(&self, service: &str, status: HealthStatus) {
        let before = match status {
            HealthStatus::Unknown => self.services().remove(service),
            known => self.services().insert(service.to_owned(), known),
        };
        if before.unwrap_or(HealthStatus::Unknown) != status {
            self.inner.changes.send_modify(|count| *count += 1);
        }
    }

    /// How a service is.
    #[must_use]
    pub fn status(&self, service: &str) -> HealthStatus {
        let known = self.services().get(service).copied();
        known.unwrap_or(HealthStatus::Unknown)
    }

    /// Wakes after changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    // A panic while the lock is held cannot leave the map half changed.
    fn services(&self) -> MutexGuard<'_, BTreeMap<String, HealthStatus>> {
        let services = self.inner.services.lock();
        services.unwrap_or_else(PoisonError::into_inner)
    }
}
