//! Mail.

mod dialogue;

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::message::{Mailbox, Message};
use tokio::time;

use super::NotificationMessage;
use super::adapter::{NotificationAdapter, NotifyError, PATIENCE, Retry, Secret, Sending, said};
use crate::Trust;
use crate::outbound::is_loopback;
use dialogue::{Dialogue, DialogueError};

const NAME: &str = "smtp";

/// Which server sends mail to whom.
#[derive(Debug, Clone)]
pub struct SmtpConfig {
    /// The name or address of the server.
    pub host: String,
    /// Its port. Default: 587 with STARTTLS, 465 with TLS from the start, 25 without.
    pub port: Option<u16>,
    /// How the connection is encrypted. Default: STARTTLS.
    pub security: SmtpSecurity,
    /// Who it is from: `ci@example.org` or `CI <ci@example.org>`.
    pub from: String,
    /// Whom it goes to, at least one.
    pub to: Vec<String>,
    /// Who this is there. Default: nobody, so the server has to take mail from anybody.
    pub username: Option<String>,
    /// The password of that user.
    pub password: Option<Secret>,
    /// Whose certificates are believed.
    pub trust: Trust,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: None,
            security: SmtpSecurity::StartTls,
            from: String::new(),
            to: Vec::new(),
            username: None,
            password: None,
            trust: Trust::default(),
        }
    }
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// It begins in the open and goes on encrypted; a server that cannot do that is an error.
    StartTls,
    /// From the first byte.
    Implicit,
    /// Not at all, which only a server on this machine is spoken to with.
    None,
}

/// Sends mail by SMTP.
#[derive(Debug, Clone)]
pub struct SmtpNotificationAdapter {
    config: SmtpConfig,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl SmtpNotificationAdapter {
    /// An adapter; nobody is connected to yet.
    ///
    /// # Errors
    /// [`NotifyError::Config`] names the setting: an address that is none or not in ASCII, no
    /// receiver, a user without a password, a server elsewhere without encryption.
    pub fn new(config: SmtpConfig) -> Result<Self, NotifyError> {
        let wrong = |problem: String| NotifyError::config(NAME, problem);
        if config.host.is_empty() {
            return Err(wrong("host is empty; name the mail server".to_owned()));
        }
        if config.security == SmtpSecurity::None && !is_loopback(&config.host) {
            return Err(wrong(format!(
                "security is none and {} is not this machine; use starttls or implicit",
                config.host
            )));
        }
        if config.username.is_some() != config.password.is_some() {
            return Err(wrong(
                "a user needs a password and a password a user; set both or none".to_owned(),
            ));
        }
        let from = mailbox("from", &config.from)?;
        let to: Vec<Mailbox> = config
            .to
            .iter()
            .map(|to| mailbox("to", to))
            .collect::<Result<_, _>>()?;
        if to.is_empty() {
            return Err(wrong("to is empty; give at least one address".to_owned()));
        }
        Ok(Self { config, from, to })
    }

    async fn mail(&self, message: &NotificationMessage) -> Result<String, NotifyError> {
        let mail = self.composed(message)?;
        let timed = time::timeout(PATIENCE, self.deliver(&mail));
        let failed = match timed.await {
            Ok(Ok(answer)) => return Ok(said(&answer, &[])),
            Ok(Err(failed)) => failed,
            Err(_) => DialogueError::Io(format!("not done in {PATIENCE:?}")),
        };
        Err(self.error(failed))
    }

    async fn deliver(&self, mail: &[u8]) -> Result<String, DialogueError> {
        let SmtpConfig {
            host,
            security,
            trust,
            ..
        } = &self.config;
        let port = self.config.port.unwrap_or(match security {
            SmtpSecurity::StartTls => 587,
            SmtpSecurity::Implicit => 465,
            SmtpSecurity::None => 25,
        });
        let mut dialogue = Dialogue::begin(host, port, *security, trust).await?;
        if let (Some(user), Some(password)) = (&self.config.username, &self.config.password) {
            dialogue.authenticate(user, password.reveal()).await?;
        }
        let to: Vec<&str> = self.to.iter().map(|to| to.email.as_ref()).collect();
        dialogue.mail(self.from.email.as_ref(), &to, mail).await
    }

    fn composed(&self, message: &NotificationMessage) -> Result<Vec<u8>, NotifyError> {
        let domain = self.from.email.domain();
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(message.subject())
            .date(message.timestamp)
            .message_id(Some(format!("<{}@{domain}>", message.id())))
            .header(AutoSubmitted)
            .header(MIME_VERSION_1_0)
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        builder
            .body(message.text())
            .map(|mail| mail.formatted())
            .map_err(|error| NotifyError::config(NAME, error.to_string()))
    }

    fn error(&self, failed: DialogueError) -> NotifyError {
        let password = self.config.password.as_ref().map_or("", Secret::reveal);
        let user = self.config.username.as_deref().unwrap_or_default();
        // Servers may repeat what they were told, in the form in which they were.
        let (plain, login) = (
            STANDARD.encode(format!("\0{user}\0{password}")),
            STANDARD.encode(password),
        );
        let secrets = match password {
            "" => vec![],
            password => vec![password, &plain, &login],
        };
        let (adapter, host) = (NAME.to_owned(), self.config.host.clone());
        match failed {
            DialogueError::Io(cause) => NotifyError::Unreachable {
                adapter,
                host,
                cause: said(&cause, &secrets),
            },
            DialogueError::Unable(problem) => NotifyError::config(NAME, problem),
            DialogueError::Refused { code, text } => NotifyError::Refused {
                adapter,
                host,
                status: code,
                text: said(&text, &secrets),
                retry: match code {
                    400..500 => Retry::After(None),
                    _ => Retry::No,
                },
            },
        }
    }
}

impl NotificationAdapter for SmtpNotificationAdapter {
    fn name(&self) -> &'static str {
        NAME
    }

    fn send<'a>(&'a self, message: &'a NotificationMessage) -> Sending<'a> {
        Box::pin(self.mail(message))
    }
}

fn mailbox(setting: &str, text: &str) -> Result<Mailbox, NotifyError> {
    let parsed = Mailbox::from_str(text).ok();
    let usable = parsed.filter(|mailbox| {
        let address: &str = mailbox.email.as_ref();
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>');
        address.chars().all(plain)
    });
    usable.ok_or_else(|| {
        NotifyError::config(
            NAME,
            format!("{setting} has {text:?}; write an address in ASCII such as ci@example.org"),
        )
    })
}

/// Keeps programs that answer to absent people quiet (RFC 3834).
#[derive(Debug, Clone, Copy)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SmtpConfig {
        SmtpConfig {
            host: "mail.example.org".to_owned(),
            from: "CI <ci@example.org>".to_owned(),
            to: vec!["ops@example.org".to_owned()],
            ..SmtpConfig::default()
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        assert!(SmtpNotificationAdapter::new(config()).is_ok());
        let refused = |change: &dyn Fn(&mut SmtpConfig), word: &str| {
            let mut config = config();
            change(&mut config);
            let error = SmtpNotificationAdapter::new(config)
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{error}");
        };
        refused(&|config| config.host.clear(), "host is empty");
        refused(&|config| config.to.clear(), "to is empty");
        refused(&|config| config.from = "nobody".to_owned(), "from has");
        refused(
            &|config| config.from = "ä@example.org".to_owned(),
            "from has",
        );
        refused(
            &|config| config.to = vec!["a@b>\r\nRCPT TO:<c@d".to_owned()],
            "to has",
        );
        refused(
            &|config| config.username = Some("ci".to_owned()),
            "password",
        );
        refused(
            &|config| config.security = SmtpSecurity::None,
            "not this machine",
        );
    }
}
