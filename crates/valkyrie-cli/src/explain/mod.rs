//! Turns one frame into named fields, and names the rules that it breaks.

mod body;
mod bytes;
mod extensions;
mod handshake;
mod join;
mod rules;
pub(crate) mod schema;
pub(crate) mod text;

use serde_json::{Map, Value, json};
use valkyrie_frame::{
    ErrorCode, Flags, Frame, FrameError, Header, MessageType, PayloadError, TraceByte, TraceMode,
};

pub(crate) use bytes::Preview;
pub(crate) use handshake::Handshake;
use join::{Joined, Joins};

/// Named values in the order in which they are shown.
pub(crate) type Fields = Map<String, Value>;

/// Which end of a connection sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    /// The side that connected.
    Initiator,
    /// The side that was connected to.
    Acceptor,
}

impl Sender {
    /// The name in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Initiator => "initiator",
            Self::Acceptor => "acceptor",
        }
    }
}

/// A rule of the specification that a frame breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Its number, such as `R-9.4`.
    pub(crate) rule: &'static str,
    /// The code of the ERROR that answers it.
    pub(crate) code: ErrorCode,
    /// What is wrong.
    pub(crate) text: String,
}

impl Broken {
    pub(crate) fn new(rule: &'static str, code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            rule,
            code,
            text: text.into(),
        }
    }

    fn payload(rule: &'static str, error: PayloadError) -> Self {
        Self::new(rule, error.code(), error.to_string())
    }

    /// The form in JSON.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "rule": self.rule, "code": self.code.0, "text": self.text })
    }
}

impl From<FrameError> for Broken {
    fn from(error: FrameError) -> Self {
        Self::new(error.rule(), error.code(), error.to_string())
    }
}

/// What is in a frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Explained {
    pub(crate) header: Header,
    /// Name, criticality and value of each extension.
    pub(crate) extensions: Vec<Value>,
    /// What is in the body.
    pub(crate) body: Fields,
    pub(crate) broken: Vec<Broken>,
}

/// Explains the frames of one connection.
#[derive(Debug)]
pub(crate) struct Explainer {
    handshake: Handshake,
    joins: Joins,
    preview: Preview,
}

impl Explainer {
    /// For a connection of which the bytes are known from `handshake` on.
    pub(crate) fn new(handshake: Handshake, preview: Preview) -> Self {
        Self {
            handshake,
            joins: Joins::default(),
            preview,
        }
    }

    /// Explains the next frame; `sender` is `None` where the input does not tell.
    pub(crate) fn explain(&mut self, sender: Option<Sender>, frame: &Frame<'_>) -> Explained {
        let mut broken = self.handshake.check(sender, frame);
        rules::check(sender, frame, &mut broken);
        let body = self.body(sender, frame, &mut broken);
        let extensions = extensions::explain(&frame.extensions, self.preview, &mut broken);
        Explained {
            header: frame.header,
            extensions,
            body,
            broken,
        }
    }

    fn body(
        &mut self,
        sender: Option<Sender>,
        frame: &Frame<'_>,
        broken: &mut Vec<Broken>,
    ) -> Fields {
        let Header { kind, flags, .. } = frame.header;
        if flags.contains(Flags::ACK) && frame.body.is_empty() {
            return Fields::new();
        }
        if !is_fragmented(kind) {
            return body::explain(frame, frame.body, self.preview, broken);
        }
        rules::check_fragment(frame, broken);
        if self.joins.begins(sender, frame) {
            rules::check_request(frame, broken);
        }
        match self.joins.add(sender, frame) {
            Joined::Whole(message) => body::explain(frame, &message, self.preview, broken),
            Joined::More { length } => body::fragment(frame.body, length, self.preview),
            Joined::Refused(rule) => {
                broken.push(rule);
                body::opaque(frame.body, self.preview)
            }
        }
    }
}

impl Explained {
    /// Every field by name, for a line of JSON.
    pub(crate) fn to_json(&self) -> Fields {
        let header = &self.header;
        let mut fields = Fields::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("type", header.kind.name().into());
        put("type_code", header.kind.0.into());
        put("flags", flag_names(header.flags).into());
        put("priority", header.priority.0.into());
        put("trace", trace_fields(header.trace));
        put("stream", header.stream.0.into());
        put("class", header.stream.class().name().into());
        put("length", header.length.into());
        put("correlation", header.correlation.0.into());
        put("timestamp", header.timestamp.into());
        put("extensions", self.extensions.clone().into());
        put("body", self.body.clone().into());
        if !self.broken.is_empty() {
            let broken: Vec<Value> = self.broken.iter().map(Broken::to_json).collect();
            put("violations", broken.into());
        }
        fields
    }
}

/// The names of the flags that are set, in the order of their bits.
pub(crate) fn flag_names(flags: Flags) -> Vec<&'static str> {
    const NAMES: [(Flags, &str); 8] = [
        (Flags::ACK_REQUESTED, "ack_requested"),
        (Flags::ACK, "ack"),
        (Flags::END_OF_STREAM, "end_of_stream"),
        (Flags::COMPRESSED, "compressed"),
        (Flags::END_TO_END_SEALED, "end_to_end_sealed"),
        (Flags::MORE_FRAGMENTS, "more_fragments"),
        (Flags::URGENT, "urgent"),
        (Flags::EXTENSIONS, "extensions"),
    ];
    NAMES
        .iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, name)| *name)
        .collect()
}

fn trace_fields(trace: TraceByte) -> Value {
    let mode = match trace.mode() {
        TraceMode::None => "none",
        TraceMode::Inherit => "inherit",
        TraceMode::InFrame => "in_frame",
        TraceMode::Reserved => "reserved",
    };
    json!({ "mode": mode, "sampled": trace.is_sampled(), "random_id": trace.is_random_id() })
}

/// Whether messages of a type travel as fragments that belong together. Fragments of
/// STREAM_DATA are bytes of their stream, whatever they mean to the application.
const fn is_fragmented(kind: MessageType) -> bool {
    has_joined_body(kind)
        || matches!(
            kind,
            MessageType::CALL | MessageType::REPLY | MessageType::MESSAGE
        )
}

/// Whether the body of such a message has a layout, which shows only when it is whole.
const fn has_joined_body(kind: MessageType) -> bool {
    kind.is_job() || matches!(kind.0, 0x40 | 0x42..=0x45)
}
