//! Spans as the rest of the program makes them.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use valkyrie_frame::v2;

/// A piece of work that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The whole trace.
    pub trace_id: [u8; 16],
    /// This span.
    pub span_id: [u8; 8],
    /// The span it is a part of; none for the root of the trace.
    pub parent_id: Option<[u8; 8]>,
    /// What is done, with few distinct values.
    pub name: String,
    /// Its place between the sides of a request.
    pub kind: SpanKind,
    /// When it began, in Unix nanoseconds.
    pub start_ns: u64,
    /// When it ended, in Unix nanoseconds.
    pub end_ns: u64,
    /// Names of the semantic conventions and their values.
    pub attributes: Vec<(Cow<'static, str>, Value)>,
    /// How it ended.
    pub status: SpanStatus,
}

impl Span {
    /// A span that a peer reported; `None` when it breaks the rules of the specification.
    #[must_use]
    pub fn of_peer(span: v2::Span) -> Option<Self> {
        let attribute = |attribute: v2::SpanAttribute| {
            let value = match attribute.value? {
                v2::span_attribute::Value::Text(text) => Value::Text(text),
                v2::span_attribute::Value::Number(number) => Value::Int(number),
                v2::span_attribute::Value::Flag(flag) => Value::Bool(flag),
            };
            Some((Cow::Owned(attribute.key), value))
        };
        let parent_id = match span.parent_id.is_empty() {
            true => None,
            false => Some(span.parent_id.try_into().ok()?),
        };
        Some(Self {
            trace_id: span.trace_id.try_into().ok()?,
            span_id: span.span_id.try_into().ok()?,
            parent_id,
            name: span.name,
            kind: match span.kind {
                2 => SpanKind::Server,
                3 => SpanKind::Client,
                4 => SpanKind::Producer,
                5 => SpanKind::Consumer,
                _ => SpanKind::Internal,
            },
            start_ns: span.start_unix_ns,
            end_ns: span.end_unix_ns,
            attributes: span.attributes.into_iter().filter_map(attribute).collect(),
            status: match span.status {
                1 => SpanStatus::Ok,
                2 => SpanStatus::Error(span.status_text),
                _ => SpanStatus::Unset,
            },
        })
    }
}

/// Ids of a new trace and a new span. Without randomness of the system they come from the time.
#[must_use]
pub fn random_ids() -> ([u8; 16], [u8; 8]) {
    let mut random = [0; 24];
    if getrandom::fill(&mut random).is_err() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let hash = blake3::hash(&now.unwrap_or_default().as_nanos().to_le_bytes());
        random.copy_from_slice(hash.as_bytes().first_chunk::<24>().unwrap_or(&[1; 24]));
    }
    let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
    let (trace, span) = random.split_at(16);
    trace_id.copy_from_slice(trace);
    span_id.copy_from_slice(span);
    (trace_id, span_id)
}

/// The place of a span between the sides of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Inside of one program.
    Internal,
    /// The answering side.
    Server,
    /// The asking side.
    Client,
    /// Who hands something over that is done later.
    Producer,
    /// Who does it then.
    Consumer,
}

/// How a span ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SpanStatus {
    /// Nothing to say.
    #[default]
    Unset,
    /// Well, and that was decided by the work itself.
    Ok,
    /// Badly, with a sentence for people.
    Error(String),
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// True or false.
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    /// Numbers above the largest signed one become that.
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
