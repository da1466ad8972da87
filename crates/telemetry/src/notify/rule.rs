//! What notifications are about, and how often they come.

use std::time::Duration;

use super::{NotificationMessage, NotificationSeverity};

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RuleKind {
    /// Another store than the first is asked.
    FellBack,
    /// A store is left alone.
    BreakerOpen,
    /// A store is trusted again.
    BreakerClosed,
    /// Two stores that should have the same do not.
    MigrationMismatch,
    /// Stores are used much more than usual.
    Unusual,
    /// A runner does not answer.
    RunnerLost,
    /// A run did not succeed.
    RunFailed,
    /// Everything else.
    Other,
}

impl RuleKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::FellBack,
        Self::BreakerOpen,
        Self::BreakerClosed,
        Self::MigrationMismatch,
        Self::Unusual,
        Self::RunnerLost,
        Self::RunFailed,
        Self::Other,
    ];

    /// Its name in messages and settings, such as `breaker_open`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FellBack => "fell_back",
            Self::BreakerOpen => "breaker_open",
            Self::BreakerClosed => "breaker_closed",
            Self::MigrationMismatch => "migration_mismatch",
            Self::Unusual => "unusual",
            Self::RunnerLost => "runner_lost",
            Self::RunFailed => "run_failed",
            Self::Other => "other",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// How often notifications of one kind come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What it is for.
    pub kind: RuleKind,
    /// What is milder is not sent. Default: info, so everything is.
    pub min_severity: NotificationSeverity,
    /// How long the same subject is counted instead of sent, unless it gets worse. Then one message
    /// says how often it came. Default: 10 minutes; at most a day.
    pub window: Duration,
    /// Messages in any hour, 1 to 1,000; more are counted, and one says so when there is room again.
    /// Default: 20.
    pub per_hour: u32,
}

impl Rule {
    /// The default for a kind.
    #[must_use]
    pub const fn new(kind: RuleKind) -> Self {
        Self {
            kind,
            min_severity: NotificationSeverity::Info,
            window: Duration::from_secs(600),
            per_hour: 20,
        }
    }

    /// The same within its bounds.
    pub(super) fn bounded(self) -> Self {
        Self {
            window: self.window.min(Duration::from_secs(86_400)),
            per_hour: self.per_hour.clamp(1, 1_000),
            ..self
        }
    }
}

/// Something to notify of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub kind: RuleKind,
    /// Of what or whom: kind and subject together are what counts as the same.
    pub subject: String,
    /// What is said.
    pub message: NotificationMessage,
}

impl From<NotificationMessage> for Notice {
    /// Of no kind; messages with one title are the same.
    fn from(message: NotificationMessage) -> Self {
        Self {
            kind: RuleKind::Other,
            subject: message.title.clone(),
            message,
        }
    }
}
