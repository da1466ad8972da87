//! Error codes, their classes, and what each class does about it.

use std::fmt;

/// The code of an ERROR, CLOSE or STREAM_RESET; its hundreds are the class.
///
/// Open: a code without a constant is handled by its class.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub u16);

/// Declares the constants and `name` from one table.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $constant:ident = $value:literal, $name:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $constant: Self = Self($value);)*

            /// Every code with a constant, in order of value.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];

            /// The name in logs, metrics and the specification; `unknown` without a constant.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($value => $name,)*
                    _ => "unknown",
                }
            }
        }
    };
}

error_codes! {
    /// No error: an orderly CLOSE, or a stream reset by choice.
    NONE = 0, "none";
    /// The bytes do not have the layout of their type.
    MALFORMED = 100, "malformed";
    /// The frame does not begin with the magic.
    MAGIC = 101, "magic";
    /// The peer speaks another major version.
    VERSION_MISMATCH = 102, "version_mismatch";
    /// A frame or message is longer than agreed.
    TOO_LARGE = 103, "too_large";
    /// The message is not legal in this state.
    UNEXPECTED = 104, "unexpected";
    /// The peer took too long.
    TIMEOUT = 105, "timeout";
    /// A critical extension is not known.
    CRITICAL_EXTENSION = 106, "critical_extension";
    /// Authentication failed.
    AUTH = 200, "auth";
    /// No security mode is allowed by both sides.
    MODE_REFUSED = 201, "mode_refused";
    /// The credential has ended.
    EXPIRED = 202, "expired";
    /// The credential was revoked.
    REVOKED = 203, "revoked";
    /// The stream id has the wrong range or parity.
    WRONG_RANGE = 300, "wrong_range";
    /// The stream is not open.
    UNKNOWN_STREAM = 301, "unknown_stream";
    /// The sender passed its credit.
    WINDOW = 302, "window";
    /// Too many streams or calls.
    LIMIT = 303, "limit";
    /// The connection is closing; open it elsewhere.
    DRAINING = 306, "draining";
    /// The job was rejected.
    REJECTED = 400, "rejected";
    /// The fencing number is not the newest.
    STALE_FENCE = 401, "stale_fence";
    /// The lease has ended.
    LEASE_LOST = 402, "lease_lost";
    /// A bug on the sender's side.
    INTERNAL = 500, "internal";
    /// The sender has no room now.
    OVERLOADED = 501, "overloaded";
    /// The sender cannot write to its storage.
    STORAGE = 502, "storage";
    /// The destination cannot be reached.
    UNREACHABLE = 600, "unreachable";
    /// The connection was lost.
    LOST = 601, "lost";
    /// Policy does not allow it.
    DENIED = 700, "denied";
    /// The negotiation was tampered with.
    DOWNGRADE = 701, "downgrade";
    /// The message was seen before.
    REPLAY = 702, "replay";
    /// The peer is shut out.
    BANNED = 703, "banned";
}

impl ErrorCode {
    /// The class; `None` for [`NONE`](Self::NONE) and for codes outside 100-799.
    #[must_use]
    pub const fn class(self) -> Option<ErrorClass> {
        Some(match self.0 / 100 {
            1 => ErrorClass::Protocol,
            2 => ErrorClass::Authentication,
            3 => ErrorClass::Stream,
            4 => ErrorClass::Job,
            5 => ErrorClass::System,
            6 => ErrorClass::Network,
            7 => ErrorClass::Security,
            _ => return None,
        })
    }

    /// What to do about it; a code of no class is handled like one of class 5.
    #[must_use]
    pub const fn recovery(self) -> Recovery {
        match self.class() {
            Some(class) => class.recovery(),
            None => ErrorClass::System.recovery(),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hundreds of an [`ErrorCode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// 1xx: framing and versions.
    Protocol,
    /// 2xx: who the peer is.
    Authentication,
    /// 3xx: one stream.
    Stream,
    /// 4xx: one job.
    Job,
    /// 5xx: the other side's resources.
    System,
    /// 6xx: the way to the other side.
    Network,
    /// 7xx: what the peer may do.
    Security,
}

/// What the receiver of an error does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// Connect again, with backoff.
    Reconnect,
    /// Get a new credential, then connect again.
    RefreshToken,
    /// End the stream; the connection goes on.
    ResetStream,
    /// Retry the job, or give it to another runner.
    RetryOrReschedule,
    /// Send nothing for a while, then probe.
    OpenBreaker,
    /// Use another transport or address.
    FailOverTransport,
    /// Tell the operator and stop; no automatic retry.
    SecurityResponse,
}

impl ErrorClass {
    /// The name in metric labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Authentication => "authentication",
            Self::Stream => "stream",
            Self::Job => "job",
            Self::System => "system",
            Self::Network => "network",
            Self::Security => "security",
        }
    }

    /// The one table from class to recovery.
    #[must_use]
    pub const fn recovery(self) -> Recovery {
        match self {
            Self::Protocol => Recovery::Reconnect,
            Self::Authentication => Recovery::RefreshToken,
            Self::Stream => Recovery::ResetStream,
            Self::Job => Recovery::RetryOrReschedule,
            Self::System => Recovery::OpenBreaker,
            Self::Network => Recovery::FailOverTransport,
            Self::Security => Recovery::SecurityResponse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_outside_every_class_open_the_breaker() {
        assert_eq!(ErrorCode(99).class(), None);
        assert_eq!(ErrorCode(800).recovery(), Recovery::OpenBreaker);
        assert_eq!(ErrorCode(399).recovery(), Recovery::ResetStream);
        assert_eq!(ErrorCode::STALE_FENCE.to_string(), "401 stale_fence");
    }
}
