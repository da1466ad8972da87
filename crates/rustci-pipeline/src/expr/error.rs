//! Why an expression cannot be read or evaluated.

use std::ops::Range;

/// An expression that cannot be read or evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// What sort of mistake it is.
    pub kind: ExprErrorKind,
    /// Bytes of the text that was given.
    pub at: Range<usize>,
    /// For people: lower case, one line.
    pub message: String,
    /// The valid name that was probably meant.
    pub nearest: Option<&'static str>,
}

/// What sort of mistake an [`ExprError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExprErrorKind {
    /// A character or number that no expression has.
    Lexing,
    /// The words are right and their order is not.
    Parsing,
    /// A call of a function that does not exist.
    UnknownFunction,
    /// The text reads well and cannot be evaluated with these values.
    Evaluation,
    /// Too long, too deep, or too much work.
    Limit,
}

impl ExprError {
    pub(crate) fn new(kind: ExprErrorKind, at: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            kind,
            at,
            message: message.into(),
            nearest: None,
        }
    }

    pub(super) fn evaluation(at: &Range<usize>, message: impl Into<String>) -> Self {
        Self::new(ExprErrorKind::Evaluation, at.clone(), message)
    }

    /// The same error for an expression that begins `bytes` later.
    pub(crate) fn shifted(mut self, bytes: usize) -> Self {
        self.at = self.at.start + bytes..self.at.end + bytes;
        self
    }
}
