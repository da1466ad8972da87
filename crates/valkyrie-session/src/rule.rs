//! The rules of `spec/protocol.md` that this side checks, by their numbers.

use std::fmt;

use valkyrie_frame::{FrameError, MessageType};

/// Number of a rule in `spec/protocol.md`, such as `R-9.4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule(&'static str);

impl Rule {
    /// The number as the specification writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The rule that bytes which are no frame break.
    pub(crate) const fn of_frame(error: &FrameError) -> Self {
        Self(error.rule())
    }

    /// The rule about the layout of a raw body.
    pub(crate) const fn of_body(kind: MessageType) -> Self {
        match kind {
            MessageType::PING | MessageType::PONG => Self::PING,
            MessageType::ERROR => Self::ERROR_BODY,
            MessageType::CLOSE => Self::CLOSE_BODY,
            MessageType::STREAM_CLOSE | MessageType::STREAM_RESET => Self::STREAM_END_BODY,
            MessageType::STREAM_ACK => Self::CREDIT_BODY,
            MessageType::LOG_ENTRY => Self::LOG_RECORDS,
            MessageType::FILE_TRANSFER_START
            | MessageType::FILE_TRANSFER_CHUNK
            | MessageType::FILE_TRANSFER_COMPLETE => Self::FILE_BODY,
            _ => Self::EXTENSION_VALUE,
        }
    }

    /// The rule that an offset or a final offset breaks.
    pub(crate) const fn of_offset(kind: MessageType) -> Self {
        match kind {
            MessageType::LOG_ENTRY => Self::LOG_OFFSET,
            MessageType::FILE_TRANSFER_CHUNK => Self::FILE_OFFSET,
            _ => Self::FINAL_OFFSET,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        impl Rule {
            $($(#[$doc])* pub(crate) const $name: Self = Self($number);)*

            /// Every rule that a [`Violation`](crate::Violation) can name, beside those of
            /// [`FrameError`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

rules! {
    ACK_BODY = "R-3.7";
    SEALED = "R-3.9";
    SKIPPED = "R-4.1";
    PLACE = "R-4.2";
    BEFORE_AUTH = "R-4.3";
    HANDSHAKE_ONCE = "R-4.4";
    STRUCTURED_BODY = "R-4.5";
    CRITICAL = "R-5.5";
    EXTENSION_VALUE = "R-5.6";
    METADATA_ENTRIES = "R-5.9";
    HALF_SENT = "R-6.2";
    MESSAGE_LENGTH = "R-6.3";
    COMPRESSED = "R-6.7";
    MESSAGE_NUMBER = "R-6.10";
    EMPTY_FRAGMENT = "R-6.12";
    END_INSIDE = "R-6.13";
    HANDSHAKE_ORDER = "R-7.1";
    VERSION = "R-7.2";
    MODE = "R-7.4";
    DOWNGRADE = "R-7.5";
    IDENTITY = "R-7.8";
    LIMITS = "R-7.10";
    NEGOTIATE = "R-7.14";
    PROPOSALS = "R-7.17";
    PARITY = "R-8.1";
    OPENED_ONCE = "R-8.2";
    METADATA = "R-8.3";
    STREAMS_AT_ONCE = "R-8.4";
    AFTER_END = "R-8.6";
    RESET = "R-8.7";
    NOT_OPEN = "R-8.9";
    RESETS = "R-8.10";
    STREAM_END_BODY = "R-8.11";
    FINAL_OFFSET = "R-8.12";
    CREDIT = "R-9.4";
    CREDIT_BODY = "R-9.5";
    EMPTY_FRAMES = "R-9.8";
    CREDIT_TRUE = "R-9.10";
    METHOD = "R-10.1";
    CORRELATION = "R-10.2";
    CALLS_AT_ONCE = "R-10.4";
    CANCEL_BODY = "R-10.5";
    LOG_OFFSET = "R-12.3";
    LOG_RECORDS = "R-12.4";
    FILE_ORDER = "R-13.1";
    FILE_OFFSET = "R-13.2";
    FILE_WHOLE = "R-13.3";
    FILE_BODY = "R-13.6";
    PING = "R-14.1";
    SILENCE = "R-14.2";
    PINGS = "R-14.3";
    HANDSHAKE_LIMITS = "R-14.4";
    FRAME_TIME = "R-14.5";
    FRAGMENT_TIME = "R-14.6";
    ERROR_BODY = "R-15.8";
    ERRORS = "R-15.11";
    DRAINING = "R-16.2";
    CLOSE_BODY = "R-16.6";
    REPORTS = "R-19.3";
    METRICS = "R-19.4";
    SPANS = "R-19.6";
    HEALTH = "R-19.7";
    STATUS = "R-19.9";
    ALERT = "R-19.10";
    OFFER = "R-20.2";
    TOKEN = "R-20.4";
    JOIN = "R-20.5";
    MARK = "R-20.6";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_in_the_specification() {
        let text = include_str!("../../../spec/protocol.md");
        for rule in Rule::ALL {
            let line = format!("- **{rule}** ");
            let found = text.lines().filter(|text| text.starts_with(&line)).count();
            assert_eq!(found, 1, "{rule}");
        }
    }
}
