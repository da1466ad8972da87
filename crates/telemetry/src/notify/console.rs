//! Notifications in the log.

use std::collections::{BTreeMap, HashMap};

use super::adapter::{NotificationAdapter, Sending};
use super::{NotificationMessage, NotificationSeverity};

/// Writes notifications to the log of the program, which is standard error unless somebody else
/// listens to its `tracing` events.
#[derive(Debug, Clone, Default)]
pub struct ConsoleNotificationAdapter {
    fields: String,
}

impl ConsoleNotificationAdapter {
    /// An adapter that adds `fields` to every event, such as the name of the host. An empty map adds
    /// nothing.
    #[must_use]
    pub fn new(fields: HashMap<String, String>) -> Self {
        let sorted: BTreeMap<_, _> = fields.into_iter().collect();
        let pairs: Vec<String> = sorted
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Self {
            fields: pairs.join(" "),
        }
    }
}

impl NotificationAdapter for ConsoleNotificationAdapter {
    fn name(&self) -> &'static str {
        "console"
    }

    fn send<'a>(&'a self, message: &'a NotificationMessage) -> Sending<'a> {
        let NotificationMessage { title, body, .. } = message;
        let (tags, fields) = (message.tags.join(","), &self.fields);
        match message.severity {
            NotificationSeverity::Info => {
                tracing::info!(severity = "info", tags, fields, body, "{title}");
            }
            NotificationSeverity::Warning => {
                tracing::warn!(severity = "warning", tags, fields, body, "{title}");
            }
            NotificationSeverity::Error => {
                tracing::error!(severity = "error", tags, fields, body, "{title}");
            }
            NotificationSeverity::Critical => {
                tracing::error!(severity = "critical", tags, fields, body, "{title}");
            }
        }
        Box::pin(std::future::ready(Ok("written to the log".to_owned())))
    }
}
