//! Mail through the API of SendGrid.

use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::NotificationMessage;
use super::adapter::{NotificationAdapter, NotifyError, Secret, Sending};
use super::http::{Post, secret_header};
use crate::Trust;

const NAME: &str = "sendgrid";

/// Who writes to whom.
#[derive(Debug, Clone)]
pub struct SendGridConfig {
    /// The address that it comes from, which SendGrid has to know.
    pub from: String,
    /// Whom it goes to, at least one address.
    pub to: Vec<String>,
    /// Where the API is. Default: `https://api.sendgrid.com`.
    pub base_url: String,
    /// Whose certificates are believed.
    pub trust: Trust,
}

impl Default for SendGridConfig {
    fn default() -> Self {
        Self {
            from: String::new(),
            to: Vec::new(),
            base_url: "https://api.sendgrid.com".to_owned(),
            trust: Trust::default(),
        }
    }
}

/// Sends mail with `POST /v3/mail/send` of SendGrid.
#[derive(Debug, Clone)]
pub struct SendGridNotificationAdapter {
    config: SendGridConfig,
    key: Option<Secret>,
}

impl SendGridNotificationAdapter {
    /// An adapter that has no key yet: until it gets one, sending is an error.
    #[must_use]
    pub fn new(config: SendGridConfig) -> Self {
        Self { config, key: None }
    }

    /// Sets the API key. It is in no file, error or log.
    pub fn set_api_key(&mut self, key: impl Into<String>) {
        self.key = Some(Secret::new(key));
    }

    async fn post(&self, message: &NotificationMessage) -> Result<String, NotifyError> {
        let wrong = |problem| NotifyError::config(NAME, problem);
        let key = self.key.as_ref().filter(|key| !key.reveal().is_empty());
        let key = key.ok_or_else(|| wrong("no API key is set; set it with set_api_key"))?;
        if self.config.from.is_empty() || self.config.to.is_empty() {
            return Err(wrong("it needs `from` and at least one address in `to`"));
        }
        let bearer = format!("Bearer {}", key.reveal());
        let post = Post {
            adapter: NAME,
            url: &format!(
                "{}/v3/mail/send",
                self.config.base_url.trim_end_matches('/')
            ),
            headers: vec![(AUTHORIZATION, secret_header(NAME, &bearer)?)],
            body: body(&self.config, message).to_string().into_bytes(),
            trust: &self.config.trust,
            secrets: &[key.reveal()],
        };
        post.send().await
    }
}

fn body(config: &SendGridConfig, message: &NotificationMessage) -> Value {
    let to: Vec<Value> = config.to.iter().map(|to| json!({"email": to})).collect();
    json!({
        "personalizations": [{"to": to}],
        "from": {"email": config.from},
        "subject": message.subject(),
        "content": [{"type": "text/plain", "value": message.text()}],
        "headers": {"Auto-Submitted": "auto-generated"},
    })
}

impl NotificationAdapter for SendGridNotificationAdapter {
    fn name(&self) -> &'static str {
        NAME
    }

    fn send<'a>(&'a self, message: &'a NotificationMessage) -> Sending<'a> {
        Box::pin(self.post(message))
    }
}
