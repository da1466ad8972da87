//! What can go wrong, and whose fault it is.

use valkyrie_frame::{
    Correlation, ErrorCode, ExtensionType, FrameError, MessageType, PayloadError, SecurityMode,
    StreamClass, StreamId,
};

use crate::config::LimitError;
use crate::rule::Rule;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer broke a rule. An ERROR that says so waits to be sent.
    #[error("peer broke rule {rule}: {0}", rule = .0.rule())]
    Violation(#[from] Violation),
    /// The peer ended the connection with an ERROR.
    #[error("peer ended the connection: {code}: {text}")]
    Peer {
        /// The peer's reason.
        code: ErrorCode,
        /// The peer's words.
        text: String,
    },
}

impl SessionError {
    /// The wire code: the one sent to the peer, or the one it sent.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Violation(violation) => violation.code(),
            Self::Peer { code, .. } => *code,
        }
    }
}

/// A rule of the specification that the peer broke. Its words are sent to the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The bytes are not a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A body does not have the layout of its type.
    #[error("{kind}: {error}")]
    Body {
        /// The type.
        kind: MessageType,
        /// What is wrong.
        error: PayloadError,
    },
    /// A Protocol Buffers body cannot be read.
    #[error("{kind} is not a valid message: {error}")]
    Message {
        /// The type.
        kind: MessageType,
        /// What is wrong.
        error: String,
    },
    /// A value of a body is impossible.
    #[error("{kind}: {problem}")]
    Value {
        /// The type.
        kind: MessageType,
        /// What is wrong.
        problem: &'static str,
        /// What was broken.
        rule: Rule,
    },
    /// HELLO or HELLO_ACK announces a limit that cannot work.
    #[error("{0}")]
    Limit(#[from] LimitError),
    /// No common version.
    #[error(
        "peer speaks versions {} to {}, this side {} to {}",
        version_text(*.peer_min), version_text(*.peer_max), version_text(*.min), version_text(*.max)
    )]
    Version {
        /// Lowest version of the peer.
        peer_min: u32,
        /// Highest version of the peer.
        peer_max: u32,
        /// Lowest version of this side.
        min: u32,
        /// Highest version of this side.
        max: u32,
    },
    /// No security mode that both sides allow.
    #[error("no security mode is allowed by both sides; this side allows {}", mode_list(.allowed))]
    Mode {
        /// What this side allows.
        allowed: Vec<SecurityMode>,
    },
    /// The peer chose something that was not offered, or saw another HELLO than was sent.
    #[error("negotiation was changed on the way: {what}")]
    Downgrade {
        /// What does not fit.
        what: &'static str,
    },
    /// The type is not legal now.
    #[error("{kind} is not legal {when}")]
    Unexpected {
        /// The type.
        kind: MessageType,
        /// The state.
        when: &'static str,
        /// What was broken.
        rule: Rule,
    },
    /// The handshake took too long.
    #[error("no authentication within {seconds} s")]
    HandshakeTimeout {
        /// The limit.
        seconds: u64,
    },
    /// A frame did not become whole in time.
    #[error("frame not whole within {seconds} s")]
    FrameTimeout {
        /// The limit for its length.
        seconds: u64,
    },
    /// A message did not become whole in time.
    #[error("next fragment of {kind} did not come within {seconds} s")]
    FragmentTimeout {
        /// The type.
        kind: MessageType,
        /// The limit.
        seconds: u64,
    },
    /// The peer said nothing for too long.
    #[error("peer silent for {seconds} s")]
    Silent {
        /// How long.
        seconds: u64,
    },
    /// A stream id that the sender may not use for this.
    #[error("stream {stream} cannot carry {kind}: {problem}")]
    WrongRange {
        /// The id.
        stream: StreamId,
        /// The type.
        kind: MessageType,
        /// Why not.
        problem: &'static str,
        /// What was broken.
        rule: Rule,
    },
    /// The stream is not open.
    #[error("{kind} on stream {stream}, which is not open")]
    UnknownStream {
        /// The id.
        stream: StreamId,
        /// The type.
        kind: MessageType,
    },
    /// The sender ended its direction before.
    #[error("{kind} on stream {stream} after its end")]
    AfterEnd {
        /// The id.
        stream: StreamId,
        /// The type.
        kind: MessageType,
    },
    /// The sender passed its credit.
    #[error("{excess} bytes over the credit of stream {stream}")]
    Window {
        /// The stream, 0 for the connection.
        stream: StreamId,
        /// By how much.
        excess: u64,
    },
    /// Credit that cannot be true, or has no measure.
    #[error("credit of stream {stream}: {problem}")]
    Credit {
        /// The stream, 0 for the connection.
        stream: StreamId,
        /// What is wrong.
        problem: &'static str,
    },
    /// Something about a message is longer than the specification allows.
    #[error("{kind}: {what} has more than {max} bytes")]
    TooLong {
        /// The type.
        kind: MessageType,
        /// What is too long.
        what: &'static str,
        /// The limit.
        max: usize,
        /// What was broken.
        rule: Rule,
    },
    /// A message is longer than agreed.
    #[error("{kind} of more than {max} bytes")]
    TooLarge {
        /// The type.
        kind: MessageType,
        /// The limit.
        max: u64,
    },
    /// Too many of something at once.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: u64,
        /// What was broken.
        rule: Rule,
    },
    /// An offset that does not continue what came before.
    #[error("{kind} at offset {found}, {expected} is due")]
    Offset {
        /// The type.
        kind: MessageType,
        /// Where it begins.
        found: u64,
        /// Where it has to begin.
        expected: u64,
    },
    /// A critical extension without meaning here.
    #[error("critical extension {extension} of {kind} is not known")]
    CriticalExtension {
        /// The extension.
        extension: ExtensionType,
        /// The type of the frame.
        kind: MessageType,
    },
    /// A call uses the correlation of another call.
    #[error("call {call} is already running")]
    CorrelationReused {
        /// The correlation.
        call: Correlation,
    },
    /// A token of no open offer.
    #[error("no session of this side waits for this token")]
    NoOffer,
    /// This side closes and takes nothing new.
    #[error("closing; open it on another connection")]
    Draining,
}

impl Violation {
    /// The code of the ERROR or STREAM_RESET that answers it.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Frame(error) => error.code(),
            Self::Body { error, .. } => error.code(),
            Self::Message { .. } | Self::Value { .. } | Self::Limit(_) | Self::Offset { .. } => {
                ErrorCode::MALFORMED
            }
            Self::Version { .. } => ErrorCode::VERSION_MISMATCH,
            Self::Mode { .. } => ErrorCode::MODE_REFUSED,
            Self::Downgrade { .. } => ErrorCode::DOWNGRADE,
            Self::Unexpected { .. } | Self::AfterEnd { .. } | Self::CorrelationReused { .. } => {
                ErrorCode::UNEXPECTED
            }
            Self::HandshakeTimeout { .. }
            | Self::FrameTimeout { .. }
            | Self::FragmentTimeout { .. }
            | Self::Silent { .. } => ErrorCode::TIMEOUT,
            Self::WrongRange { .. } => ErrorCode::WRONG_RANGE,
            Self::UnknownStream { .. } => ErrorCode::UNKNOWN_STREAM,
            Self::Window { .. } | Self::Credit { .. } => ErrorCode::WINDOW,
            Self::TooLarge { .. } | Self::TooLong { .. } => ErrorCode::TOO_LARGE,
            Self::TooMany { .. } => ErrorCode::LIMIT,
            Self::CriticalExtension { .. } => ErrorCode::CRITICAL_EXTENSION,
            Self::Draining => ErrorCode::DRAINING,
            Self::NoOffer => ErrorCode::DENIED,
        }
    }

    /// The rule of the specification that was broken.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        match self {
            Self::Frame(error) => Rule::of_frame(error),
            Self::Body { kind, .. } => Rule::of_body(*kind),
            Self::Message { .. } => Rule::STRUCTURED_BODY,
            Self::Value { rule, .. }
            | Self::Unexpected { rule, .. }
            | Self::WrongRange { rule, .. }
            | Self::TooLong { rule, .. }
            | Self::TooMany { rule, .. } => *rule,
            Self::Limit(_) => Rule::LIMITS,
            Self::Version { .. } => Rule::VERSION,
            Self::Mode { .. } => Rule::MODE,
            Self::Downgrade { .. } => Rule::DOWNGRADE,
            Self::HandshakeTimeout { .. } => Rule::HANDSHAKE_LIMITS,
            Self::FrameTimeout { .. } => Rule::FRAME_TIME,
            Self::FragmentTimeout { .. } => Rule::FRAGMENT_TIME,
            Self::Silent { .. } => Rule::SILENCE,
            Self::UnknownStream { .. } => Rule::NOT_OPEN,
            Self::AfterEnd { .. } => Rule::AFTER_END,
            Self::Window { .. } => Rule::CREDIT,
            Self::Credit { .. } => Rule::CREDIT_TRUE,
            Self::TooLarge { .. } => Rule::MESSAGE_LENGTH,
            Self::Offset { kind, .. } => Rule::of_offset(*kind),
            Self::CriticalExtension { .. } => Rule::CRITICAL,
            Self::CorrelationReused { .. } => Rule::CORRELATION,
            Self::Draining => Rule::DRAINING,
            Self::NoOffer => Rule::TOKEN,
        }
    }

    /// What the peer is told: the words and the rule.
    pub(crate) fn text(&self) -> String {
        format!("{self} ({})", self.rule())
    }

    /// Whether the same request may succeed elsewhere or later.
    pub(crate) const fn is_retryable(&self) -> bool {
        matches!(self, Self::Draining | Self::TooMany { .. })
    }
}

fn version_text(version: u32) -> String {
    format!("{}.{}", version >> 8, version & 0xFF)
}

fn mode_list(modes: &[SecurityMode]) -> String {
    let names: Vec<_> = modes.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Why something could not be sent. Nothing was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The handshake is not done; wait for `Ready`.
    #[error("connection is not ready yet")]
    NotReady,
    /// The connection is over.
    #[error("connection is closed")]
    Closed,
    /// One of the sides closes and takes nothing new; use another connection.
    #[error("connection is closing")]
    Draining,
    /// There is no such stream, or it has ended.
    #[error("stream {stream} is not open")]
    UnknownStream {
        /// The stream.
        stream: StreamId,
    },
    /// This side ended its direction before. A bug of the caller.
    #[error("stream {stream} was ended by this side")]
    AfterEnd {
        /// The stream.
        stream: StreamId,
    },
    /// The stream or channel cannot carry this. A bug of the caller.
    #[error("{class} cannot carry {kind}")]
    WrongClass {
        /// Class of the stream.
        class: StreamClass,
        /// The type.
        kind: MessageType,
    },
    /// A file is the first that a side sends on its stream. A bug of the caller.
    #[error("a file begins its stream, and something was sent on {stream}: open another for it")]
    NotFirst {
        /// The stream.
        stream: StreamId,
    },
    /// The message is longer than the peer takes.
    #[error("message of {bytes} bytes is over the peer's limit of {max}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Too much waits for the peer already; try again when it has taken some.
    #[error("too much is waiting for the peer's credit")]
    Full,
    /// The stream has no credit; a `Writable` follows when it has.
    #[error("stream {stream} has no credit")]
    NoCredit {
        /// The stream.
        stream: StreamId,
    },
    /// The bytes do not continue what was sent. A bug of the caller.
    #[error("offset {found} given, {expected} is next on stream {stream}")]
    Offset {
        /// The stream.
        stream: StreamId,
        /// The offset given.
        found: u64,
        /// The next one.
        expected: u64,
    },
    /// The bytes are not whole log records. A bug of the caller.
    #[error("log bytes are not whole records")]
    NotRecords,
    /// The feature that the message belongs to was not agreed, or is switched off.
    #[error("{kind} was not agreed with the peer")]
    NotAgreed {
        /// The type.
        kind: MessageType,
    },
    /// The message has values that the specification does not allow. A bug of the caller.
    #[error("{kind} cannot be sent: {problem}")]
    Invalid {
        /// The type.
        kind: MessageType,
        /// What is wrong.
        problem: &'static str,
    },
    /// All streams that the class, or the peer, allows are open.
    #[error("no free stream of class {class}")]
    StreamsExhausted {
        /// The class.
        class: StreamClass,
    },
    /// All calls that the peer allows are outstanding.
    #[error("all calls that the peer allows are outstanding")]
    CallsExhausted,
    /// There is no such call, or it was answered.
    #[error("call {call} is not open")]
    UnknownCall {
        /// The call.
        call: Correlation,
    },
}
