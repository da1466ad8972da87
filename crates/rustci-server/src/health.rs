//! Whether the server takes work, shared between the engine, the log store and the API.

use std::sync::{Arc, PoisonError, RwLock};

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
pub struct HealthCell(Arc<RwLock<Health>>);

impl HealthCell {
    /// The state of now.
    #[must_use]
    pub fn get(&self) -> Health {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes the state. A failure stays: whatever comes later, the cause is what counts.
    pub fn set(&self, health: Health) {
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*now, Health::Failed { .. }) {
            *now = health;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
