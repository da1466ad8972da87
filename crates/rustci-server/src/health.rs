//! Whether the server takes work, shared between the engine, the log store and the API.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;

/// What the server can do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Health {
    /// Everything.
    #[default]
    Ready,
    /// Nothing new: something durable could not be written. Only a restart changes this.
    Failed {
        /// What failed, with the file.
        reason: String,
    },
    /// Nothing new: it is about to end.
    Stopping,
    /// Only answers about what has been: another process may be running.
    ReadOnly,
}

/// A shared [`Health`].
#[derive(Debug, Clone, Default)]
pub struct HealthCell(Arc<watch::Sender<Health>>);

impl HealthCell {
    /// The state of now.
    #[must_use]
    pub fn get(&self) -> Health {
        self.0.borrow().clone()
    }

    /// Changes the state. A failure stays: whatever comes later, the cause is what counts.
    pub fn set(&self, health: Health) {
        self.0.send_if_modified(|now| {
            let changes = !matches!(now, Health::Failed { .. });
            if changes {
                *now = health;
            }
            changes
        });
    }

    /// Waits until something durable could not be written, and says what. Cancel safe.
    pub async fn failed(&self) -> String {
        let mut health = self.0.subscribe();
        loop {
            if let Health::Failed { reason } = &*health.borrow_and_update() {
                return reason.clone();
            }
            if health.changed().await.is_err() {
                // Nobody is left who could fail; this cell keeps that from happening.
                pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_hears_of_the_failure_before_and_after() {
        let cell = HealthCell::default();
        let waiting = cell.clone();
        let waiting = tokio::spawn(async move { waiting.failed().await });
        tokio::task::yield_now().await;
        cell.set(Health::Stopping);
        cell.set(Health::Failed {
            reason: "disk full".into(),
        });
        assert_eq!(waiting.await.unwrap(), "disk full");
        assert_eq!(cell.failed().await, "disk full");
    }

    #[test]
    fn the_first_failure_stays() {
        let cell = HealthCell::default();
        cell.set(Health::Failed {
            reason: "disk full".into(),
        });
        cell.set(Health::Stopping);
        assert_eq!(
            cell.get(),
            Health::Failed {
                reason: "disk full".into()
            }
        );
    }
}
