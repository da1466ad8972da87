//! How far a connection has come, which decides what its frames may be.

use prost::Message;
use valkyrie_frame::limits::{NODE_BYTES_MAX, PRE_AUTH_PAYLOAD_BYTES_MAX};
use valkyrie_frame::{ErrorCode, Flags, Frame, MessageType, SecurityMode, StreamId, features, v2};

use super::{Broken, Sender};

/// The handshake of a connection, as far as its frames show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// The next frame of each side is its first.
    Begins,
    /// HELLO was sent.
    Offered {
        /// Whether a session moves here: it is ready already.
        joins: Joins,
    },
    /// HELLO_ACK was sent with these features.
    Chosen { features: u64 },
    /// AUTH_SUCCESS was sent.
    Ready { features: u64 },
    /// The beginning was not seen.
    Unknown,
}

impl Handshake {
    /// Checks the next frame against what came before, and remembers it.
    pub(crate) fn check(&mut self, sender: Option<Sender>, frame: &Frame<'_>) -> Vec<Broken> {
        let mut broken = Vec::new();
        let kind = frame.header.kind;
        match *self {
            Self::Begins | Self::Offered { .. } | Self::Chosen { .. } => {
                self.check_order(sender, frame, &mut broken);
            }
            Self::Ready { .. } | Self::Unknown if is_handshake(kind) && *self != Self::Unknown => {
                broken.push(Broken::new(
                    "R-4.4",
                    ErrorCode::UNEXPECTED,
                    "the handshake is over",
                ));
            }
            Self::Ready { .. } | Self::Unknown => {}
        }
        check_fields(frame, &mut broken);
        self.check_compressed(frame, &mut broken);
        self.advance(frame);
        broken
    }

    fn check_order(self, sender: Option<Sender>, frame: &Frame<'_>, broken: &mut Vec<Broken>) {
        let kind = frame.header.kind;
        let expected = match self {
            Self::Begins => matches!(kind, MessageType::HELLO),
            Self::Offered { .. } if sender == Some(Sender::Initiator) => kind.is_pre_auth(),
            Self::Offered { .. } => matches!(kind, MessageType::HELLO_ACK | MessageType::ERROR),
            _ => true,
        };
        let unexpected = |rule, text: &str| Broken::new(rule, ErrorCode::UNEXPECTED, text);
        if !kind.is_pre_auth() {
            broken.push(unexpected("R-4.3", "it is not legal before AUTH_SUCCESS"));
        } else if !expected {
            broken.push(unexpected(
                "R-7.1",
                "the first frames of a connection are HELLO and HELLO_ACK, or ERROR",
            ));
        } else if frame.header.stream != StreamId::CONTROL {
            broken.push(unexpected("R-4.3", "it belongs on stream 0"));
        }
        if frame.header.length > PRE_AUTH_PAYLOAD_BYTES_MAX {
            broken.push(Broken::new(
                "R-3.3",
                ErrorCode::TOO_LARGE,
                format!(
                    "payload of {} bytes is over the limit of {PRE_AUTH_PAYLOAD_BYTES_MAX} before \
                     AUTH_SUCCESS",
                    frame.header.length
                ),
            ));
        }
    }

    fn check_compressed(self, frame: &Frame<'_>, broken: &mut Vec<Broken>) {
        let agreed = match self {
            Self::Unknown => return,
            Self::Begins | Self::Offered { .. } => 0,
            Self::Chosen { features } | Self::Ready { features } => features,
        };
        if !frame.header.flags.contains(Flags::COMPRESSED) {
            return;
        }
        let needed = match frame.body.first() {
            Some(1) => features::COMPRESSION_LZ4,
            Some(2) => features::COMPRESSION_ZSTD,
            _ => u64::MAX,
        };
        if agreed & needed != needed {
            broken.push(Broken::new(
                "R-6.7",
                ErrorCode::UNEXPECTED,
                "the feature of this compression was not agreed",
            ));
        }
    }

    fn advance(&mut self, frame: &Frame<'_>) {
        let agreed = || v2::HelloAck::decode(frame.body).map_or(0, |ack| ack.features);
        *self = match (*self, frame.header.kind) {
            (Self::Begins, MessageType::HELLO) => Self::Offered {
                joins: Joins::told_by(frame.body),
            },
            (Self::Offered { joins: Joins::Yes }, MessageType::HELLO_ACK) => {
                Self::Ready { features: agreed() }
            }
            (Self::Begins | Self::Offered { .. }, MessageType::HELLO_ACK) => {
                Self::Chosen { features: agreed() }
            }
            (Self::Chosen { features }, MessageType::AUTH_SUCCESS) => Self::Ready { features },
            (other, _) => other,
        };
    }
}

/// Whether a connection is another transport for a session that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joins {
    No,
    Yes,
}

impl Joins {
    /// A token has 32 bytes, the name of a session 16.
    fn told_by(hello: &[u8]) -> Self {
        match v2::Hello::decode(hello) {
            Ok(hello) if hello.resume.len() == 32 => Self::Yes,
            _ => Self::No,
        }
    }
}

const fn is_handshake(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::HELLO
            | MessageType::HELLO_ACK
            | MessageType::AUTH_CHALLENGE
            | MessageType::AUTH_RESPONSE
            | MessageType::AUTH_SUCCESS
            | MessageType::AUTH_FAILURE
            | MessageType::KEY_EXCHANGE
    )
}

/// Checks what HELLO and HELLO_ACK say about their sender.
fn check_fields(frame: &Frame<'_>, broken: &mut Vec<Broken>) {
    // A body that cannot be decoded is reported where it is shown.
    let (random, node, limits, session) = match frame.header.kind {
        MessageType::HELLO => match v2::Hello::decode(frame.body) {
            Ok(hello) => (hello.random, hello.node, hello.limits, Vec::new()),
            Err(_) => return,
        },
        MessageType::HELLO_ACK => match v2::HelloAck::decode(frame.body) {
            Ok(ack) => (ack.random, ack.node, ack.limits, ack.session),
            Err(_) => return,
        },
        _ => return,
    };
    let mut identity = |text: String| {
        broken.push(Broken::new("R-7.8", ErrorCode::MALFORMED, text));
    };
    if random.len() != 32 {
        identity(format!("random is {} bytes, it must be 32", random.len()));
    }
    if node.len() > NODE_BYTES_MAX {
        let length = node.len();
        identity(format!(
            "node is {length} bytes, the most is {NODE_BYTES_MAX}"
        ));
    }
    if !matches!(session.len(), 0 | 16) {
        let length = session.len();
        identity(format!("session is {length} bytes, it must be 16 or empty"));
    }
    if let Some(Err(error)) = limits.map(|limits| valkyrie::Limits::from_wire(&limits)) {
        broken.push(Broken::new(
            "R-7.10",
            ErrorCode::MALFORMED,
            error.to_string(),
        ));
    }
    let plain = frame.header.flags == Flags::NONE && frame.header.correlation.is_none();
    if frame.header.stream != StreamId::CONTROL || !plain {
        broken.push(Broken::new(
            "R-7.1",
            ErrorCode::UNEXPECTED,
            "it goes on stream 0 without flags and correlation",
        ));
    }
}

/// The name of a security mode, for the fields `mode` and `modes`.
pub(crate) fn mode_name(mode: u32) -> String {
    SecurityMode(mode).to_string()
}
