//! What is said.

use std::time::SystemTime;

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationMessage {
    /// One line. Line breaks in it become spaces, and it is cut after 200 characters.
    pub title: String,
    /// What happened and what to do. It is cut after 8,000 characters.
    pub body: String,
    /// How bad it is.
    pub severity: NotificationSeverity,
    /// Words to sort it by; at most 10 are sent.
    pub tags: Vec<String>,
    /// When it happened.
    pub timestamp: SystemTime,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotificationSeverity {
    /// Good to know.
    Info,
    /// It works, but not as it should.
    Warning,
    /// Something does not work.
    Error,
    /// Somebody has to act now.
    Critical,
}

impl NotificationSeverity {
    /// All of them, the mildest first.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Its name in messages and settings: `info`, `warning`, `error` or `critical`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

const TITLE_CHARS_MAX: usize = 200;
const BODY_CHARS_MAX: usize = 8_000;
const TAGS_MAX: usize = 10;
const TAG_CHARS_MAX: usize = 50;

impl NotificationMessage {
    /// A message of now.
    #[must_use]
    pub fn new(
        severity: NotificationSeverity,
        title: impl Into<String>,
        body: impl Into<String>,
    ) -> Self {
        Self {
            title: title.into(),
            body: body.into(),
            severity,
            tags: Vec::new(),
            timestamp: SystemTime::now(),
        }
    }

    /// The same with one more tag.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// When it happened, as RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn time(&self) -> String {
        humantime::format_rfc3339_millis(self.timestamp).to_string()
    }

    /// The same within its bounds, and without characters that steer terminals or end headers.
    pub(super) fn tamed(mut self) -> Self {
        self.title = line(&self.title, TITLE_CHARS_MAX);
        let plain = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
        let body = self.body.replace("\r\n", "\n");
        self.body = body.chars().filter(plain).take(BODY_CHARS_MAX).collect();
        self.tags.truncate(TAGS_MAX);
        for tag in &mut self.tags {
            *tag = line(tag, TAG_CHARS_MAX);
        }
        self
    }

    /// Body, tags and time as plain text.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n\nseverity: {}\n", self.body, self.severity.name());
        if !self.tags.is_empty() {
            text.push_str(&format!("tags: {}\n", self.tags.join(", ")));
        }
        text + &format!("time: {}\n", self.time())
    }

    /// Severity and title in one line.
    pub(super) fn subject(&self) -> String {
        format!("[{}] {}", self.severity.name(), self.title)
    }

    /// The same for every try to send it.
    pub(super) fn id(&self) -> String {
        let mut hash = blake3::Hasher::new();
        for part in [&self.subject(), &self.body, &self.time()] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().to_hex().chars().take(32).collect()
    }
}

fn line(text: &str, chars: usize) -> String {
    let breaks = |c| matches!(c, '\u{2028}' | '\u{2029}');
    let spaced = text
        .chars()
        .map(|c| if c.is_control() || breaks(c) { ' ' } else { c });
    let line: String = spaced.take(chars).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tamed_message_has_a_title_of_one_line_and_no_escape_sequences() {
        let message = NotificationMessage::new(
            NotificationSeverity::Error,
            "a\r\nBcc: x\u{1b}[2J\u{2028}b",
            "one\r\ntwo\u{1b}[31m\0",
        )
        .with_tag("t\nu");
        let tamed = message.tamed();
        assert_eq!(tamed.title, "a  Bcc: x [2J b");
        assert_eq!(tamed.body, "one\ntwo[31m");
        assert_eq!(tamed.tags, ["t u"]);
        let long = "x".repeat(10_000);
        let long = NotificationMessage::new(NotificationSeverity::Info, &*long, &*long).tamed();
        assert_eq!((long.title.len(), long.body.len()), (200, 8_000));
    }

    #[test]
    fn id_is_that_of_the_message() {
        let message = |title| NotificationMessage {
            timestamp: SystemTime::UNIX_EPOCH,
            ..NotificationMessage::new(NotificationSeverity::Info, title, "b")
        };
        assert_eq!(message("a").id(), message("a").id());
        assert_ne!(message("a").id(), message("b").id());
        assert_eq!(message("a").time(), "1970-01-01T00:00:00.000Z");
    }
}
