//! Notifications: what a person should know now.
//!
//! A [`NotificationManager`] takes [`Notice`]s from anywhere, holds back what is said too often
//! ([`Rule`]), and hands the rest to every [`NotificationAdapter`]: the log, mail through SMTP or
//! SendGrid, a webhook, Slack. Nobody who reports something waits for any of them, and a slow one does
//! not hold the others.
//!
//! ```
//! use telemetry::notify::{
//!     ConsoleNotificationAdapter, NotificationManager, NotificationMessage, NotificationSeverity,
//! };
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let mut manager = NotificationManager::new();
//! manager.add_adapter(Box::new(ConsoleNotificationAdapter::default()));
//! let text = "redis does not answer, valkey is asked";
//! let message = NotificationMessage::new(NotificationSeverity::Warning, "Storage alert", text);
//! manager.send_notification(message).await;
//! manager.flush().await;
//! assert_eq!(manager.counts()[0].sent, 1);
//! # });
//! ```

mod adapter;
mod console;
mod gate;
mod http;
mod lane;
mod manager;
mod message;
mod rule;
mod sendgrid;
mod slack;
mod smtp;
mod webhook;

pub use adapter::{NotificationAdapter, NotifyError, Retry, Secret, Sending};
pub use console::ConsoleNotificationAdapter;
pub use lane::LaneCounts;
pub use manager::{NotificationManager, Notifier};
pub use message::{NotificationMessage, NotificationSeverity};
pub use rule::{Notice, Rule, RuleKind};
pub use sendgrid::{SendGridConfig, SendGridNotificationAdapter};
pub use slack::SlackNotificationAdapter;
pub use smtp::{SmtpConfig, SmtpNotificationAdapter, SmtpSecurity};
pub use webhook::WebhookNotificationAdapter;
