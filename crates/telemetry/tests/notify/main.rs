//! Notifications as their receivers get them.

#![cfg(test)]

mod certificates;
mod http;
mod mail_server;
mod manager;
mod smtp;
mod web_server;

use std::time::{Duration, UNIX_EPOCH};

use telemetry::notify::{
    NotificationAdapter, NotificationManager, NotificationMessage, NotificationSeverity,
    NotifyError,
};

/// Nothing secret may come out of errors, logs or `Debug`.
const CANARY: &str = "canary-5f1c";

/// A message with everything in it that receivers may stumble over.
fn hostile() -> NotificationMessage {
    NotificationMessage {
        title: "Käse\r\nBcc: eve@example.org <!channel> & more".to_owned(),
        body: "Grüße: 雪\n.\n<@U123> said \"no\"\n".to_owned(),
        severity: NotificationSeverity::Warning,
        tags: vec!["storage".to_owned(), "a<b".to_owned()],
        timestamp: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
    }
}

/// Sends through one adapter as the manager does.
async fn send(
    adapter: impl NotificationAdapter + 'static,
    message: NotificationMessage,
) -> Result<String, NotifyError> {
    let mut manager = NotificationManager::new();
    manager.add_adapter(Box::new(adapter));
    manager.test(message).await.remove(0).1
}
