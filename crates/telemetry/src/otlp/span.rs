//! Spans as the rest of the program makes them.

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
    pub attributes: Vec<(&'static str, Value)>,
    /// How it ended.
    pub status: SpanStatus,
}

/// The place of a span between the sides of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Inside of one program.
    Internal,
    /// The answering side.
    Server,
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
