//! Notifications as JSON for any program.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{HeaderName, HeaderValue};
use serde_json::json;
use sha2::Sha256;

use super::NotificationMessage;
use super::adapter::{NotificationAdapter, NotifyError, Secret, Sending};
use super::http::Post;
use crate::Trust;

const NAME: &str = "webhook";
const ID: HeaderName = HeaderName::from_static("x-rustci-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-rustci-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-rustci-signature");

/// Posts notifications to a URL.
///
/// The body is one JSON object: `title`, `body`, `severity` (`info`, `warning`, `error`,
/// `critical`), `tags` (strings) and `timestamp` (RFC 3339 in UTC). The headers beside it:
///
/// | header | |
/// |---|---|
/// | `X-RustCI-Id` | 32 hexadecimal digits, the same for every try to send one message |
/// | `X-RustCI-Timestamp` | when this try was made, in Unix seconds |
/// | `X-RustCI-Signature` | with a signing key: `v1=` and the HMAC-SHA256 in hexadecimal digits of the timestamp, a dot, and the body as it was sent |
///
/// A receiver computes the same HMAC, compares in constant time, and refuses a timestamp that is more
/// than some minutes old.
#[derive(Debug, Clone)]
pub struct WebhookNotificationAdapter {
    url: Secret,
    key: Option<Secret>,
    trust: Trust,
}

impl WebhookNotificationAdapter {
    /// An adapter for this URL, `https` unless it is on this machine. The URL is treated as a secret,
    /// since many receivers have one in it.
    #[must_use]
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            key: None,
            trust: Trust::default(),
        }
    }

    /// Signs from now on.
    pub fn set_signing_key(&mut self, key: Secret) {
        self.key = Some(key);
    }

    /// Sets whose certificates are believed.
    pub fn set_trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    async fn post(&self, message: &NotificationMessage) -> Result<String, NotifyError> {
        let body = json!({
            "title": message.title,
            "body": message.body,
            "severity": message.severity.name(),
            "tags": message.tags,
            "timestamp": message.time(),
        })
        .to_string();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let text = |value: &str| {
            HeaderValue::from_str(value)
                .map_err(|_| NotifyError::config(NAME, "a header cannot be made"))
        };
        let mut headers = vec![
            (ID, text(&message.id())?),
            (TIMESTAMP, HeaderValue::from(now)),
        ];
        if let Some(key) = &self.key {
            let signature = signature(key, now, &body)?;
            headers.push((SIGNATURE, text(&signature)?));
        }
        let key = self.key.as_ref().map_or("", Secret::reveal);
        let post = Post {
            adapter: NAME,
            url: self.url.reveal(),
            headers,
            body: body.into_bytes(),
            trust: &self.trust,
            secrets: &[self.url.reveal(), path(self.url.reveal()), key],
        };
        post.send().await
    }
}

fn signature(key: &Secret, now: u64, body: &str) -> Result<String, NotifyError> {
    let mac = Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes());
    let mut mac = mac.map_err(|_| NotifyError::config(NAME, "the signing key cannot be used"))?;
    mac.update(format!("{now}.{body}").as_bytes());
    let mut text = "v1=".to_owned();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// What follows the host of a URL, where secrets are; nothing where that is only a slash.
pub(super) fn path(url: &str) -> &str {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = host.split_once('/').map_or("", |(_, path)| path);
    path.trim_matches('/')
}

impl NotificationAdapter for WebhookNotificationAdapter {
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
    fn signature_is_the_hmac_of_timestamp_and_body() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac key
        let signature = signature(&Secret::new("key"), 1_700_000_000, "{}").unwrap();
        assert_eq!(
            signature,
            "v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
        );
    }

    #[test]
    fn secret_part_of_a_url_is_what_follows_the_host() {
        assert_eq!(path("https://h/services/T/B/x"), "services/T/B/x");
        assert_eq!(path("https://h/"), "");
        assert_eq!(path("https://h"), "");
    }
}
