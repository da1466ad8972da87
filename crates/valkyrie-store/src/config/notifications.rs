//! The section `notifications`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use telemetry::Trust;
use telemetry::notify::{
    ConsoleNotificationAdapter, NotificationAdapter, NotificationManager, NotificationSeverity,
    Rule, RuleKind, Secret, SendGridConfig, SendGridNotificationAdapter, SlackNotificationAdapter,
    SmtpConfig, SmtpNotificationAdapter, SmtpSecurity, WebhookNotificationAdapter,
};

use super::{Result, wrong};

/// Who is notified, and how often.
///
/// Keys, passwords and addresses that are secrets stand in the environment; the file has the names of
/// those variables.
///
/// ```
/// use valkyrie_store::NotificationsConfig;
///
/// let config = NotificationsConfig::from_text("
/// notifications:
///   adapters:
///     - { type: console, enabled: true }
///     - { type: slack, enabled: true, url_env: SLACK_URL }
///   rules:
///     - { kind: fell_back, min_severity: error, window_seconds: 60 }
/// ")?;
/// let manager = config.manager(|name| (name == "SLACK_URL").then(|| "https://example.org".to_owned()))?;
/// assert_eq!(manager.counts().len(), 2);
/// # Ok::<(), valkyrie_store::StoreError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct NotificationsConfig {
    adapters: Vec<Adapter>,
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    #[serde(default)]
    adapters: Vec<Adapter>,
    #[serde(default)]
    rules: Vec<RuleSection>,
}

/// A file of which only this section is read.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    notifications: Section,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Adapter {
    Console {
        #[serde(default)]
        enabled: bool,
        #[serde(default)]
        fields: HashMap<String, String>,
    },
    SendGrid {
        #[serde(default)]
        enabled: bool,
        from: String,
        to: Vec<String>,
        api_key_env: String,
        base_url: Option<String>,
        ca_file: Option<PathBuf>,
    },
    Smtp {
        #[serde(default)]
        enabled: bool,
        host: String,
        port: Option<u16>,
        #[serde(default = "start_tls")]
        security: Security,
        from: String,
        to: Vec<String>,
        username: Option<String>,
        password_env: Option<String>,
        ca_file: Option<PathBuf>,
    },
    Webhook {
        #[serde(default)]
        enabled: bool,
        url: Option<String>,
        url_env: Option<String>,
        signing_key_env: Option<String>,
        ca_file: Option<PathBuf>,
    },
    Slack {
        #[serde(default)]
        enabled: bool,
        url_env: String,
        ca_file: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Security {
    StartTls,
    Implicit,
    None,
}

const fn start_tls() -> Security {
    Security::StartTls
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSection {
    kind: String,
    min_severity: Option<String>,
    window_seconds: Option<u64>,
    per_hour: Option<u32>,
}

impl NotificationsConfig {
    /// Reads the section `notifications` of a file, and only checks that the rest of it is YAML.
    ///
    /// # Errors
    /// [`Config`](crate::StoreError::Config) with the file and what is wrong in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let named = |error: String| wrong(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        Self::from_text(&text).map_err(|error| named(error.to_string()))
    }

    /// Reads the section in the text of a file.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_text(text: &str) -> Result<Self> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?;
        Self::of(file.notifications)
    }

    pub(super) fn of(section: Section) -> Result<Self> {
        let rules: Result<Vec<Rule>> = section.rules.iter().map(rule).collect();
        for adapter in &section.adapters {
            if let Adapter::Webhook { url, url_env, .. } = adapter
                && url.is_some() == url_env.is_some()
            {
                return Err(wrong(
                    "notifications.adapters: a webhook needs either url or url_env",
                ));
            }
        }
        Ok(Self {
            adapters: section.adapters,
            rules: rules?,
        })
    }

    /// Whether nobody is notified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.adapters.iter().any(Adapter::is_enabled)
    }

    /// The manager with every enabled adapter, whose secrets are looked up with `var`, as
    /// [`std::env::var`] does.
    ///
    /// # Errors
    /// [`Config`](crate::StoreError::Config) names the adapter and the variable that is missing, or what
    /// else is wrong with it.
    pub fn manager(&self, var: impl Fn(&str) -> Option<String>) -> Result<NotificationManager> {
        let mut manager = NotificationManager::new();
        for rule in &self.rules {
            manager.set_rule(*rule);
        }
        for adapter in self.adapters.iter().filter(|adapter| adapter.is_enabled()) {
            manager.add_adapter(adapter.build(&var)?);
        }
        Ok(manager)
    }
}

impl Adapter {
    const fn is_enabled(&self) -> bool {
        let (Self::Console { enabled, .. }
        | Self::SendGrid { enabled, .. }
        | Self::Smtp { enabled, .. }
        | Self::Webhook { enabled, .. }
        | Self::Slack { enabled, .. }) = self;
        *enabled
    }

    fn build(&self, var: &dyn Fn(&str) -> Option<String>) -> Result<Box<dyn NotificationAdapter>> {
        match self {
            Self::Console { fields, .. } => {
                Ok(Box::new(ConsoleNotificationAdapter::new(fields.clone())))
            }
            Self::SendGrid {
                from,
                to,
                api_key_env,
                base_url,
                ca_file,
                ..
            } => {
                let mut config = SendGridConfig {
                    from: from.clone(),
                    to: to.clone(),
                    trust: trust(ca_file.as_deref())?,
                    ..SendGridConfig::default()
                };
                if let Some(url) = base_url {
                    config.base_url.clone_from(url);
                }
                let mut adapter = SendGridNotificationAdapter::new(config);
                adapter.set_api_key(variable("sendgrid", api_key_env, var)?);
                Ok(Box::new(adapter))
            }
            Self::Smtp { .. } => self.smtp(var),
            Self::Webhook {
                url,
                url_env,
                signing_key_env,
                ca_file,
                ..
            } => {
                let url = match (url, url_env) {
                    (Some(url), _) => url.clone(),
                    (None, name) => variable("webhook", name.as_deref().unwrap_or_default(), var)?,
                };
                let mut adapter = WebhookNotificationAdapter::new(Secret::new(url));
                if let Some(name) = signing_key_env {
                    adapter.set_signing_key(Secret::new(variable("webhook", name, var)?));
                }
                adapter.set_trust(trust(ca_file.as_deref())?);
                Ok(Box::new(adapter))
            }
            Self::Slack {
                url_env, ca_file, ..
            } => {
                let url = Secret::new(variable("slack", url_env, var)?);
                let mut adapter = SlackNotificationAdapter::new(url);
                adapter.set_trust(trust(ca_file.as_deref())?);
                Ok(Box::new(adapter))
            }
        }
    }

    fn smtp(&self, var: &dyn Fn(&str) -> Option<String>) -> Result<Box<dyn NotificationAdapter>> {
        let Self::Smtp {
            host,
            port,
            security,
            from,
            to,
            username,
            password_env,
            ca_file,
            ..
        } = self
        else {
            return Err(wrong("notifications.adapters: not smtp"));
        };
        let password = password_env
            .as_deref()
            .map(|name| variable("smtp", name, var))
            .transpose()?;
        let config = SmtpConfig {
            host: host.clone(),
            port: *port,
            security: match security {
                Security::StartTls => SmtpSecurity::StartTls,
                Security::Implicit => SmtpSecurity::Implicit,
                Security::None => SmtpSecurity::None,
            },
            from: from.clone(),
            to: to.clone(),
            username: username.clone(),
            password: password.map(Secret::new),
            trust: trust(ca_file.as_deref())?,
        };
        let adapter = SmtpNotificationAdapter::new(config)
            .map_err(|error| wrong(format!("notifications.adapters: {error}")))?;
        Ok(Box::new(adapter))
    }
}

fn rule(section: &RuleSection) -> Result<Rule> {
    let within =
        |field: &str, problem: String| wrong(format!("notifications.rules: {field} {problem}"));
    let names = |all: Vec<&str>| all.join(", ");
    let kind = RuleKind::named(&section.kind).ok_or_else(|| {
        let known = names(RuleKind::ALL.map(RuleKind::name).to_vec());
        within("kind", format!("is {:?}; use one of {known}", section.kind))
    })?;
    let mut rule = Rule::new(kind);
    if let Some(name) = &section.min_severity {
        rule.min_severity = NotificationSeverity::named(name).ok_or_else(|| {
            let known = names(
                NotificationSeverity::ALL
                    .map(NotificationSeverity::name)
                    .to_vec(),
            );
            within("min_severity", format!("is {name:?}; use one of {known}"))
        })?;
    }
    if let Some(seconds) = section.window_seconds {
        if seconds > 86_400 {
            let problem = format!("is {seconds}; set it to 0 to 86400");
            return Err(within("window_seconds", problem));
        }
        rule.window = Duration::from_secs(seconds);
    }
    if let Some(count) = section.per_hour {
        if !(1..=1_000).contains(&count) {
            return Err(within(
                "per_hour",
                format!("is {count}; set it to 1 to 1000"),
            ));
        }
        rule.per_hour = count;
    }
    Ok(rule)
}

fn variable(adapter: &str, name: &str, var: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let found = var(name).filter(|value| !value.is_empty());
    found.ok_or_else(|| {
        wrong(format!(
            "notifications.adapters: {adapter} needs the environment variable {name}, which is not set"
        ))
    })
}

fn trust(file: Option<&Path>) -> Result<Trust> {
    let file = file.map(Trust::from_file).transpose();
    let trust = file.map_err(|error| wrong(format!("notifications.adapters: ca_file {error}")))?;
    Ok(trust.unwrap_or_default())
}
