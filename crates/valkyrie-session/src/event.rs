//! What a session tells its owner.

use std::borrow::Cow;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use valkyrie_frame::{Correlation, ErrorCode, MessageType, StreamClass, StreamId, v2};

use crate::config::Agreement;
use crate::envelope::Envelope;
use crate::resume::Resume;

/// Bytes of a message: in the input where it came in one frame, joined where it came in several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload<'b> {
    /// Lies in the input of [`read`](crate::Session::read).
    Borrowed(&'b [u8]),
    /// Was joined from fragments.
    Joined(Vec<u8>),
}

impl Payload<'_> {
    /// The bytes for keeping; copies what lies in the input.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Self::Joined(bytes) => Bytes::from(bytes),
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Payload<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Whether a frame is the sender's last on its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// More may follow.
    No,
    /// Nothing follows.
    Yes,
}

/// Whether a message goes on in the next frame of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum More {
    /// The message ends with these bytes.
    No,
    /// More of the same message follows.
    Yes,
}

/// Something that happened. Borrows only from the input, so the session can be used meanwhile.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<'b> {
    /// The handshake is done; everything may be sent.
    Ready(Box<Agreement>),
    /// The peer calls; answer with `reply` or `reply_error`.
    Call {
        /// Names the call in the answer.
        call: Correlation,
        /// Class of the channel it came on.
        class: StreamClass,
        /// `package.Service/Method`.
        method: Cow<'b, str>,
        /// The request.
        body: Payload<'b>,
        /// How long the caller still waits.
        deadline: Option<Duration>,
        /// What else the caller says.
        envelope: Envelope<'b>,
    },
    /// A call of this side was answered.
    Reply {
        /// The call.
        call: Correlation,
        /// The answer.
        body: Payload<'b>,
        /// What the answer says beside it.
        envelope: Envelope<'b>,
    },
    /// A call of this side failed: the peer said so, or its deadline passed (105).
    CallFailed {
        /// The call.
        call: Correlation,
        /// Why.
        code: ErrorCode,
        /// Whether to try again, and when.
        retry: Retry,
        /// For people.
        text: Cow<'b, str>,
        /// What the peer says beside it.
        envelope: Envelope<'b>,
    },
    /// The peer no longer wants the answer. Still end the call with `reply` or `reply_error`: it
    /// counts against the peer's limit until then, and nothing is sent.
    CallCanceled {
        /// The call.
        call: Correlation,
    },
    /// A message without an answer.
    Message {
        /// Class of the channel it came on.
        class: StreamClass,
        /// `package.Service/Method`.
        method: Cow<'b, str>,
        /// The message.
        body: Payload<'b>,
        /// What the sender says beside it.
        envelope: Envelope<'b>,
    },
    /// The peer opened a stream; answer with `accept` or `reset`.
    Opened {
        /// The stream.
        stream: StreamId,
        /// What for.
        open: v2::StreamOpen,
        /// What the opener says beside it.
        envelope: Envelope<'b>,
    },
    /// The peer took a stream of this side.
    Accepted {
        /// The stream.
        stream: StreamId,
        /// Where to begin: the durable offset of a log, else 0.
        consumed: u64,
    },
    /// A stream that had no credit for the caller has some again.
    Writable {
        /// The stream.
        stream: StreamId,
    },
    /// Bytes of a stream, or of a message on it; give their credit back with `consume`. A message
    /// of no bytes has taken the credit of one.
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        bytes: Payload<'b>,
        /// Whether the message goes on. Of no meaning where a stream is just bytes.
        more: More,
        /// What the message says beside them, where it says anything.
        envelope: Option<Box<Envelope<'b>>>,
    },
    /// A job message. JOB_REQUEST opens its stream.
    Job {
        /// The stream.
        stream: StreamId,
        /// Which message.
        kind: MessageType,
        /// Its Protocol Buffers body.
        body: Payload<'b>,
        /// To be repeated in `ack`.
        correlation: Correlation,
        /// Whether the peer sends nothing more on the stream.
        end: End,
    },
    /// The peer acknowledged a job message that asked for it.
    JobAcked {
        /// The stream.
        stream: StreamId,
        /// Which message.
        kind: MessageType,
    },
    /// Whole log records.
    Log {
        /// The stream.
        stream: StreamId,
        /// Where they begin in the attempt's log.
        offset: u64,
        /// The records as they are stored.
        records: &'b [u8],
    },
    /// The peer has a log safely up to an offset.
    LogDurable {
        /// The stream.
        stream: StreamId,
        /// Everything before it is durable.
        offset: u64,
        /// How far this side may send.
        limit: u64,
    },
    /// The peer wants to send a file; answer with `file_verified`, which names where to begin.
    FileStart {
        /// The stream.
        stream: StreamId,
        /// Names the transfer over reconnects.
        id: [u8; 16],
        /// Length of the file.
        size: u64,
        /// BLAKE3 of the whole file.
        digest: [u8; 32],
        /// What the sender calls it; not a path to write to.
        name: Cow<'b, str>,
    },
    /// Bytes of a file.
    FileChunk {
        /// The stream.
        stream: StreamId,
        /// Where they belong.
        offset: u64,
        /// The bytes.
        bytes: &'b [u8],
    },
    /// All bytes of the file were sent. Answer with `ack` after it is checked and stored.
    FileComplete {
        /// The stream.
        stream: StreamId,
        /// BLAKE3 of the whole file.
        digest: [u8; 32],
    },
    /// The peer checked and stored the file.
    FileAcked {
        /// The stream.
        stream: StreamId,
    },
    /// The peer has verified the file up to an offset; the first one says where to begin.
    FileVerified {
        /// The stream.
        stream: StreamId,
        /// Everything before it is verified.
        offset: u64,
    },
    /// The peer ended its direction of a stream.
    Finished {
        /// The stream.
        stream: StreamId,
        /// [`ErrorCode::NONE`] when it ended well.
        status: ErrorCode,
        /// What the peer says beside it, where it says anything.
        envelope: Option<Box<Envelope<'b>>>,
    },
    /// A stream ended at once in both directions, by the peer or because the peer broke a rule.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// The peer reports an error that is not the answer to a call.
    PeerError {
        /// Its subject, 0 for the connection.
        stream: StreamId,
        /// The message it is about.
        correlation: Correlation,
        /// What went wrong.
        code: ErrorCode,
        /// Whether to try again, and when.
        retry: Retry,
        /// For people.
        text: Cow<'b, str>,
        /// What the peer says beside it.
        envelope: Envelope<'b>,
    },
    /// Metrics of the peer.
    Metrics(Box<v2::MetricsReport>),
    /// Spans of the peer.
    Spans(Box<v2::TraceSpans>),
    /// The peer asks how a service is, or answers: see
    /// [`HealthStatus::from_wire`](crate::HealthStatus::from_wire).
    Health(Box<v2::HealthCheck>),
    /// How the peer is.
    PeerStatus(Box<v2::StatusUpdate>),
    /// Something of the peer that a person should see.
    Alert(Box<v2::AlertNotification>),
    /// Other terms hold: the peer accepted a proposal of this side, or this side one of the peer.
    Renegotiated(Box<Agreement>),
    /// The peer refused a proposal of this side.
    ProposalRefused {
        /// For people.
        text: String,
    },
    /// Somebody shows a token where a session would begin: it wants to bring another transport to
    /// a session that has offered one. Answer with `refuse_resume`, or give the transport to the
    /// session that redeems the token.
    Resume(Resume),
    /// The peer offers another transport. Connect to it and show the token there, or answer with
    /// `decline_upgrade`.
    UpgradeOffered {
        /// Where to.
        endpoint: String,
        /// What to show.
        token: [u8; 32],
        /// How long it is good for.
        valid: Duration,
    },
    /// An offer of this side came to nothing.
    UpgradeDeclined {
        /// Why.
        code: ErrorCode,
        /// For people.
        text: String,
    },
    /// The peer sends nothing more on the old transport: read on from the new one, and call
    /// `reads_on_new`.
    PeerLeft,
    /// Both directions are on the new transport; the old one can be closed.
    Moved,
    /// The peer takes nothing new and closes when what runs has ended, or after `drain`.
    Closing {
        /// Why.
        code: ErrorCode,
        /// How long it waits.
        drain: Duration,
    },
    /// A PING was answered.
    Rtt {
        /// Time from PING to PONG.
        rtt: Duration,
    },
}

/// Whether a failed request may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It would fail again.
    No,
    /// It may succeed after this much time; zero leaves the wait to the caller.
    After(Duration),
}
