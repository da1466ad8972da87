//! Notifications for incoming webhooks of Slack, and of what takes the same JSON.

use serde_json::{Value, json};

use super::adapter::{NotificationAdapter, NotifyError, Secret, Sending};
use super::http::Post;
use super::webhook::path;
use super::{NotificationMessage, NotificationSeverity};
use crate::Trust;

const NAME: &str = "slack";
/// What a section may hold, less what escaping and the title add.
const BODY_CHARS_MAX: usize = 2_000;
/// What Slack takes as the text of one block.
const BLOCK_CHARS_MAX: usize = 3_000;

/// Posts notifications to an incoming webhook of Slack: `text` for lists and screen readers, and
/// `blocks` with title, body, tags and time. Nothing in a message can mention people, channels or
/// links.
#[derive(Debug, Clone)]
pub struct SlackNotificationAdapter {
    url: Secret,
    trust: Trust,
}

impl SlackNotificationAdapter {
    /// An adapter for this webhook. Who knows its URL can post there, so it is a secret.
    #[must_use]
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            trust: Trust::default(),
        }
    }

    /// Sets whose certificates are believed.
    pub fn set_trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    async fn post(&self, message: &NotificationMessage) -> Result<String, NotifyError> {
        let url = self.url.reveal();
        let post = Post {
            adapter: NAME,
            url,
            headers: Vec::new(),
            body: body(message).to_string().into_bytes(),
            trust: &self.trust,
            secrets: &[url, path(url)],
        };
        post.send().await
    }
}

fn body(message: &NotificationMessage) -> Value {
    let sign = match message.severity {
        NotificationSeverity::Info => ":information_source:",
        NotificationSeverity::Warning => ":warning:",
        NotificationSeverity::Error => ":x:",
        NotificationSeverity::Critical => ":rotating_light:",
    };
    let (subject, title) = (escaped(&message.subject()), escaped(&message.title));
    let text: String = message.body.chars().take(BODY_CHARS_MAX).collect();
    let section = cut(&format!("{sign} *{title}*\n{}", escaped(&text)));
    let mut facts = vec![message.severity.name().to_owned(), message.time()];
    facts.extend(message.tags.iter().map(|tag| escaped(tag)));
    // `verbatim` keeps bare names of channels and people, and links, what they are: text.
    json!({
        "text": subject,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": section, "verbatim": true}},
            {"type": "context", "elements": [
                {"type": "mrkdwn", "text": cut(&facts.join(" | ")), "verbatim": true},
            ]},
        ],
    })
}

/// The three characters that begin and end everything special.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// At most what a block takes. An escape that is cut through is left out.
fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(BLOCK_CHARS_MAX).collect();
    if short.len() < text.len() {
        let tail = short
            .rfind('&')
            .filter(|at| short.get(*at..).is_some_and(|tail| !tail.contains(';')));
        short.truncate(tail.unwrap_or(short.len()));
    }
    short
}

impl NotificationAdapter for SlackNotificationAdapter {
    fn name(&self) -> &'static str {
        NAME
    }

    fn send<'a>(&'a self, message: &'a NotificationMessage) -> Sending<'a> {
        Box::pin(self.post(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bodies_fit_a_block_and_no_escape_is_cut_through() {
        let message = NotificationMessage::new(NotificationSeverity::Error, "t", "&".repeat(8_000));
        let body = body(&message);
        let text = body["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(text.chars().count() <= BLOCK_CHARS_MAX);
        assert!(text.ends_with("&amp;"), "{}", &text[text.len() - 10..]);
    }
}
