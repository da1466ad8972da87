//! What happens to stores, for those who want to know.

use telemetry::notify::{Notice, NotificationMessage, NotificationSeverity, Notifier, RuleKind};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::migration::Mismatch;
use crate::usage::{HotKey, Unusual};

/// Events that wait for one who listens; more are lost to him.
const QUEUE_MAX: usize = 256;

/// Something that happened to a chain of stores or a migration.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StoreEvent {
    /// Operations are done by another store than before, which is not the first.
    FellBack {
        /// The first store.
        from: String,
        /// The one that is asked now.
        to: String,
    },
    /// A store is left alone.
    BreakerOpened {
        /// Its name.
        store: String,
        /// Its last error.
        cause: String,
    },
    /// A store that was left alone is trusted again.
    BreakerClosed {
        /// Its name.
        store: String,
    },
    /// A key is not the same in the two stores of a migration.
    MigrationMismatch {
        /// The name of the migration.
        migration: String,
        /// The key, as text.
        key: String,
        /// How it differs.
        mismatch: Mismatch,
    },
    /// Keys are used much more than usual.
    Unusual(Unusual),
    /// A key has become hot.
    HotKey(HotKey),
}

impl StoreEvent {
    /// What people are told of it.
    #[must_use]
    pub fn notice(&self) -> Notice {
        let (kind, severity, subject, title, body) = match self {
            Self::FellBack { from, to } => (
                RuleKind::FellBack,
                NotificationSeverity::Warning,
                format!("{from} {to}"),
                format!("Store {from} does not answer, {to} is asked"),
                format!(
                    "Limits and cached values are kept by {to} meanwhile; leases are refused. Look at \
                     {from}; it is asked again by itself."
                ),
            ),
            Self::BreakerOpened { store, cause } => (
                RuleKind::BreakerOpen,
                NotificationSeverity::Error,
                store.clone(),
                format!("Store {store} is left alone"),
                format!("It failed too often in a row, the last time with: {cause}"),
            ),
            Self::BreakerClosed { store } => (
                RuleKind::BreakerClosed,
                NotificationSeverity::Info,
                store.clone(),
                format!("Store {store} is trusted again"),
                "It answered several times in a row.".to_owned(),
            ),
            Self::MigrationMismatch {
                migration,
                key,
                mismatch,
            } => (
                RuleKind::MigrationMismatch,
                NotificationSeverity::Error,
                migration.clone(),
                format!("The migration {migration} goes back: stores differ"),
                format!(
                    "'{key}' differs ({}) in the new store. Everyone reads the old one again; the migration \
                     can be started anew.",
                    mismatch.name()
                ),
            ),
            Self::HotKey(hot) => (
                RuleKind::Unusual,
                NotificationSeverity::Info,
                String::from_utf8_lossy(&hot.key).into_owned(),
                format!("A key is hot ({})", hot.what.name()),
                format!(
                    "'{}' is {:.0} % of all uses. {}.",
                    String::from_utf8_lossy(&hot.key),
                    hot.share * 100.0,
                    hot.plan
                ),
            ),
            Self::Unusual(unusual) => (
                RuleKind::Unusual,
                NotificationSeverity::Warning,
                unusual.what.name().to_owned(),
                format!("Stores are used unusually much ({})", unusual.what.name()),
                format!(
                    "{} uses a second, where {} were usual.",
                    unusual.per_second, unusual.usual_per_second
                ),
            ),
        };
        let message = NotificationMessage::new(severity, title, body);
        Notice {
            kind,
            subject,
            message: message.with_tag("storage").with_tag(kind.name()),
        }
    }
}

/// Tells of every event until the chain or migration is gone.
pub async fn notify_of(mut events: broadcast::Receiver<StoreEvent>, notifier: Notifier) {
    loop {
        match events.recv().await {
            Ok(event) => notifier.notify(event.notice()),
            Err(RecvError::Lagged(count)) => tracing::warn!(count, "events of stores lost"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Where a chain or migration says what happens.
#[derive(Debug)]
pub(crate) struct Events(broadcast::Sender<StoreEvent>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(QUEUE_MAX))
    }
}

impl Events {
    pub(crate) fn say(&self, event: StoreEvent) {
        // Nobody has to listen.
        let _ = self.0.send(event);
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<StoreEvent> {
        self.0.subscribe()
    }
}
