//! Why a call has no answer.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use valkyrie_frame::{ErrorClass, ErrorCode, Metadata, Recovery};
use valkyrie_session::{Envelope, Failure, Retry, SendError};

use crate::calls::CallError;
use crate::error::{CloseReason, ConnectError};

/// Why a call or stream failed: a code, words for people, whether to try again, and what the
/// service wants to tell the caller's program.
///
/// The code says whose fault it is and what to do: see [`class`](Self::class) and
/// [`recovery`](Self::recovery). A service that has failures of its own gives them codes from 450
/// to 499.
///
/// ```
/// use valkyrie::{ErrorClass, ErrorCode, Status};
///
/// let status = Status::new(ErrorCode(451), "no such account");
/// assert_eq!(status.class(), Some(ErrorClass::Job));
/// assert_eq!(status.to_string(), "451 unknown: no such account");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    code: ErrorCode,
    retry: Retry,
    text: Cow<'static, str>,
    metadata: Metadata,
}

impl Status {
    /// A failure that would come again.
    #[must_use]
    pub fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            retry: Retry::No,
            text: text.into(),
            metadata: Metadata::new(),
        }
    }

    /// The request has not the form that the method takes (100).
    #[must_use]
    pub fn malformed(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::MALFORMED, text)
    }

    /// There is no such method, or it is called in another way (104).
    #[must_use]
    pub fn no_method(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::UNEXPECTED, text)
    }

    /// Time is over (105).
    #[must_use]
    pub fn timeout(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::TIMEOUT, text)
    }

    /// The other side gave the call up (0).
    #[must_use]
    pub fn canceled() -> Self {
        Self::new(ErrorCode::NONE, "canceled")
    }

    /// A bug on the side that says it (500).
    #[must_use]
    pub fn internal(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::INTERNAL, text)
    }

    /// There is no room now (501); the caller may try again.
    #[must_use]
    pub fn overloaded(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::OVERLOADED, text).with_retry(Retry::After(Duration::ZERO))
    }

    /// The caller may not do this (700).
    #[must_use]
    pub fn denied(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::DENIED, text)
    }

    /// The same, with another advice about trying again.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The same, with names and values for the caller's program.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// What went wrong.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// Whose fault it is; `None` for codes outside 100 to 799.
    #[must_use]
    pub const fn class(&self) -> Option<ErrorClass> {
        self.code.class()
    }

    /// What to do about it.
    #[must_use]
    pub const fn recovery(&self) -> Recovery {
        self.code.recovery()
    }

    /// Whether the same request may succeed, and when to try.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        self.retry
    }

    /// Words for people; no program decides anything by them.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the service tells the caller's program.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What a tower middleware or another library reports, as a status: a status inside stays as
    /// it is, a timeout is 105, load that was shed 501, and anything else 500.
    #[must_use]
    pub fn from_error(error: Box<dyn Error + Send + Sync>) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(status) => return *status,
            Err(other) => other,
        };
        let mut source: Option<&(dyn Error + 'static)> = Some(error.as_ref());
        while let Some(cause) = source {
            if let Some(status) = cause.downcast_ref::<Self>() {
                return status.clone();
            }
            if cause.is::<tower::timeout::error::Elapsed>() {
                return Self::timeout("no answer within the time of a middleware");
            }
            if cause.is::<tower::load_shed::error::Overloaded>() {
                return Self::overloaded("load was shed by a middleware");
            }
            source = cause.source();
        }
        Self::internal(error.to_string())
    }

    pub(crate) fn received(
        code: ErrorCode,
        retry: Retry,
        text: String,
        envelope: &Envelope<'_>,
    ) -> Self {
        Self {
            code,
            retry,
            text: text.into(),
            metadata: envelope.metadata().to_metadata(),
        }
    }

    pub(crate) fn as_failure(&self) -> Failure<'_> {
        Failure {
            code: self.code,
            retry: self.retry,
            text: &self.text,
            metadata: self.metadata.view(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl Error for Status {}

impl From<SendError> for Status {
    fn from(error: SendError) -> Self {
        let again = Retry::After(Duration::ZERO);
        let (code, retry) = match error {
            SendError::NotReady | SendError::Closed => (ErrorCode::LOST, again),
            SendError::Draining => (ErrorCode::DRAINING, again),
            SendError::Full
            | SendError::NoCredit { .. }
            | SendError::StreamsExhausted { .. }
            | SendError::CallsExhausted => (ErrorCode::LIMIT, again),
            SendError::TooLarge { .. } => (ErrorCode::TOO_LARGE, Retry::No),
            SendError::UnknownStream { .. } | SendError::UnknownCall { .. } => {
                (ErrorCode::UNKNOWN_STREAM, Retry::No)
            }
            _ => (ErrorCode::INTERNAL, Retry::No),
        };
        Self::new(code, error.to_string()).with_retry(retry)
    }
}

impl From<CloseReason> for Status {
    fn from(reason: CloseReason) -> Self {
        let code = match reason.code() {
            // The connection ended as it should, but not with an answer.
            ErrorCode::NONE => ErrorCode::LOST,
            code => code,
        };
        Self::new(code, reason.to_string())
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Send(error) => error.into(),
            CallError::Closed(reason) => reason.into(),
            CallError::Failed {
                code,
                retry,
                text,
                metadata,
            } => Self {
                code,
                retry,
                text: text.into(),
                metadata,
            },
        }
    }
}

impl From<ConnectError> for Status {
    fn from(error: ConnectError) -> Self {
        let code = match &error {
            ConnectError::Handshake(reason) if reason.code() != ErrorCode::NONE => reason.code(),
            _ => ErrorCode::UNREACHABLE,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_middleware_find_their_codes() {
        let inner = Status::denied("not yours");
        let boxed: Box<dyn Error + Send + Sync> = Box::new(inner.clone());
        assert_eq!(Status::from_error(boxed), inner);
        let elapsed = Box::new(tower::timeout::error::Elapsed::new());
        assert_eq!(Status::from_error(elapsed).code(), ErrorCode::TIMEOUT);
        let shed = Status::from_error(Box::new(tower::load_shed::error::Overloaded::new()));
        assert_eq!(shed.code(), ErrorCode::OVERLOADED);
        assert_eq!(shed.retry(), Retry::After(Duration::ZERO));
        let other = Status::from_error("broken".into());
        assert_eq!(
            (other.code(), other.text()),
            (ErrorCode::INTERNAL, "broken")
        );
    }

    #[test]
    fn what_could_not_be_sent_says_whether_to_try_again() {
        let full = Status::from(SendError::CallsExhausted);
        assert_eq!(
            (full.code(), full.retry()),
            (ErrorCode::LIMIT, Retry::After(Duration::ZERO))
        );
        let large = Status::from(SendError::TooLarge { bytes: 2, max: 1 });
        assert_eq!(
            (large.code(), large.retry()),
            (ErrorCode::TOO_LARGE, Retry::No)
        );
    }
}
