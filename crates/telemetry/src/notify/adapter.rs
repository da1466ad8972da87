//! What every way out does, and how often it is tried.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::time;

use super::NotificationMessage;

/// Tries of one message, the first one included.
const TRIES: u32 = 3;
/// The pause after the first try; the next one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// What a receiver may ask for with `Retry-After`.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long one try may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How much of an answer is repeated in an error.
const TEXT_CHARS_MAX: usize = 200;

/// A way out for notifications.
pub trait NotificationAdapter: Send + Sync {
    /// Its name in logs, errors and counts, such as `smtp`.
    fn name(&self) -> &str;

    /// Sends a message, trying once; the [`NotificationManager`](super::NotificationManager) tries
    /// again where that may help. Gives what the receiver said.
    fn send<'a>(&'a self, message: &'a NotificationMessage) -> Sending<'a>;
}

/// A message that is being sent.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<String, NotifyError>> + Send + 'a>>;

/// Why a message did not arrive. No variant has a secret in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// The adapter cannot be used as it is set up.
    #[error("{adapter}: {problem}")]
    Config {
        /// The adapter.
        adapter: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Nobody answers, or not in time, or the connection broke.
    #[error("{adapter}: {host} cannot be reached: {cause}")]
    Unreachable {
        /// The adapter.
        adapter: String,
        /// Who should have answered.
        host: String,
        /// What happened.
        cause: String,
    },
    /// The receiver does not want it.
    #[error("{adapter}: {host} answered {status}: {text}")]
    Refused {
        /// The adapter.
        adapter: String,
        /// Who answered.
        host: String,
        /// The status of HTTP or SMTP.
        status: u16,
        /// The beginning of the answer.
        text: String,
        /// Whether it may be taken later.
        retry: Retry,
    },
}

/// Whether a refused message may be taken later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Never as it is.
    No,
    /// After a pause, for which the receiver may have asked.
    After(Option<Duration>),
}

impl NotifyError {
    pub(super) fn config(adapter: &str, problem: impl Into<String>) -> Self {
        Self::Config {
            adapter: adapter.to_owned(),
            problem: problem.into(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Config { .. } => Retry::No,
            Self::Unreachable { .. } => Retry::After(None),
            Self::Refused { retry, .. } => *retry,
        }
    }
}

/// Sends a message, three times at most where that may help. The message is already tamed.
pub(super) async fn deliver(
    adapter: &dyn NotificationAdapter,
    message: &NotificationMessage,
) -> Result<String, NotifyError> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        let error = match adapter.send(message).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match error.retry() {
            Retry::No => return Err(error),
            Retry::After(after) => time::sleep(after.unwrap_or(pause).min(PAUSE_MAX)).await,
        }
        pause *= 2;
    }
    adapter.send(message).await
}

/// A key, a password or an address that is one. `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// This text as a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The beginning of what a receiver said, in one line and without secrets, even if it repeats them.
pub(super) fn said(text: &str, secrets: &[&str]) -> String {
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_short_lines_without_secrets() {
        assert_eq!(said("a\r\nkey=ca\0nary!", &["canary", ""]), "akey=***!");
        assert_eq!(said(&"ä".repeat(300), &[]).chars().count(), 200);
        assert_eq!(format!("{:?}", Secret::new("canary")), "Secret(..)");
    }
}
