//! Message types.

use std::fmt;

/// What a frame is: the byte behind the version.
///
/// Open: a value without a constant is kept, and skipped by a receiver that does not know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageType(pub u8);

/// Declares the constants and `name` from one table.
macro_rules! message_types {
    ($($(#[$doc:meta])* $constant:ident = $value:literal, $name:literal;)*) => {
        impl MessageType {
            $($(#[$doc])* pub const $constant: Self = Self($value);)*

            /// Every type with a constant, in order of value.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];

            /// The name in logs, metrics and the specification; `application` for 0x80 and above,
            /// `unknown` for other values without a constant.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($value => $name,)*
                    0x80.. => "application",
                    _ => "unknown",
                }
            }
        }
    };
}

message_types! {
    /// First frame of the side that connects.
    HELLO = 0x00, "hello";
    /// First frame of the side that accepts.
    HELLO_ACK = 0x01, "hello_ack";
    /// Asks for a PONG with the same eight bytes.
    PING = 0x02, "ping";
    /// Answers a PING.
    PONG = 0x03, "pong";
    /// Something failed; its subject is the frame's stream and correlation.
    ERROR = 0x04, "error";
    /// The sender takes nothing new and closes when what runs has ended.
    CLOSE = 0x05, "close";
    /// Offers another transport for the same session.
    UPGRADE = 0x06, "upgrade";
    /// Changes what was agreed in HELLO.
    NEGOTIATE = 0x07, "negotiate";
    /// Authentication challenge.
    AUTH_CHALLENGE = 0x10, "auth_challenge";
    /// Answer to a challenge.
    AUTH_RESPONSE = 0x11, "auth_response";
    /// The peer is authenticated: everything else becomes legal.
    AUTH_SUCCESS = 0x12, "auth_success";
    /// The peer is refused.
    AUTH_FAILURE = 0x13, "auth_failure";
    /// One message of a key exchange.
    KEY_EXCHANGE = 0x14, "key_exchange";
    /// Enrols or renews a certificate.
    CERT_REQUEST = 0x15, "cert_request";
    /// Assigns an attempt of a job; opens a job stream.
    JOB_REQUEST = 0x20, "job_request";
    /// The runner takes the attempt.
    JOB_ACCEPT = 0x21, "job_accept";
    /// The runner cannot take the attempt.
    JOB_REJECT = 0x22, "job_reject";
    /// The first step is about to run.
    JOB_START = 0x23, "job_start";
    /// The attempt is alive; renews its lease.
    JOB_PROGRESS = 0x24, "job_progress";
    /// The attempt ran to its end.
    JOB_COMPLETE = 0x25, "job_complete";
    /// The attempt could not be run to its end.
    JOB_FAILED = 0x26, "job_failed";
    /// The server wants the attempt to end.
    JOB_CANCEL = 0x27, "job_cancel";
    /// Moves the attempt to another runner.
    JOB_MIGRATE = 0x28, "job_migrate";
    /// Freezes the attempt.
    JOB_PAUSE = 0x29, "job_pause";
    /// Lets a frozen attempt go on.
    JOB_RESUME = 0x2A, "job_resume";
    /// Opens a stream.
    STREAM_OPEN = 0x30, "stream_open";
    /// Bytes of a stream.
    STREAM_DATA = 0x31, "stream_data";
    /// Ends one direction of a stream.
    STREAM_CLOSE = 0x32, "stream_close";
    /// Credit, and what has been taken so far.
    STREAM_ACK = 0x33, "stream_ack";
    /// Ends both directions of a stream at once.
    STREAM_RESET = 0x34, "stream_reset";
    /// Announces a file.
    FILE_TRANSFER_START = 0x35, "file_transfer_start";
    /// Bytes of a file at an offset.
    FILE_TRANSFER_CHUNK = 0x36, "file_transfer_chunk";
    /// All bytes of a file were sent, or are verified and stored.
    FILE_TRANSFER_COMPLETE = 0x37, "file_transfer_complete";
    /// Metrics of the sender.
    METRICS_REPORT = 0x40, "metrics_report";
    /// Records of a log at an offset.
    LOG_ENTRY = 0x41, "log_entry";
    /// A span of a distributed trace.
    TRACE_SPAN = 0x42, "trace_span";
    /// Asks how the peer is.
    HEALTH_CHECK = 0x43, "health_check";
    /// State of the sender.
    STATUS_UPDATE = 0x44, "status_update";
    /// Something a person should see.
    ALERT_NOTIFICATION = 0x45, "alert_notification";
    /// A request that wants a REPLY.
    CALL = 0x60, "call";
    /// The answer to a CALL.
    REPLY = 0x61, "reply";
    /// The caller does not want the answer any more.
    CANCEL = 0x62, "cancel";
    /// A message without an answer.
    MESSAGE = 0x63, "message";
}

impl MessageType {
    /// Whether the type is legal before AUTH_SUCCESS.
    #[must_use]
    pub const fn is_pre_auth(self) -> bool {
        matches!(self.0, 0x00 | 0x01 | 0x04 | 0x05 | 0x07 | 0x10..=0x15)
    }

    /// Whether the type is one of the job messages 0x20-0x2F.
    #[must_use]
    pub const fn is_job(self) -> bool {
        matches!(self.0, 0x20..=0x2F)
    }

    /// Whether the type is one of those by which a program tells about itself: 0x40, 0x42-0x45.
    #[must_use]
    pub const fn is_observe(self) -> bool {
        matches!(self.0, 0x40 | 0x42..=0x45)
    }

    /// Whether the type belongs to the application, 0x80-0xFF.
    #[must_use]
    pub const fn is_application(self) -> bool {
        self.0 >= 0x80
    }

    /// Whether this version gives the value a meaning.
    #[must_use]
    pub const fn is_known(self) -> bool {
        !matches!(self.name().as_bytes(), b"unknown")
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            name @ ("unknown" | "application") => write!(f, "{name}(0x{:02x})", self.0),
            name => f.write_str(name),
        }
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_prints_and_unknown_ones_keep_their_number() {
        assert_eq!(MessageType::JOB_REQUEST.to_string(), "job_request");
        assert_eq!(MessageType(0x1f).to_string(), "unknown(0x1f)");
        assert_eq!(MessageType(0x80).to_string(), "application(0x80)");
        assert_eq!(MessageType::ALL.len(), 43);
        assert!(MessageType::ALL.iter().all(|kind| kind.is_known()));
    }
}
