//! What a message that came in says beside its body.

use std::time::Duration;

use valkyrie_frame::{
    ExtensionType, Extensions, Frame, MetadataView, TraceByte, TraceContext, TraceMode,
};

use crate::error::Violation;
use crate::receive::{body, value};
use crate::rule::Rule;

/// What a call, a message, an answer or an opening says beside its body: a view of its checked
/// extensions, in the input where it came in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'b> {
    block: Block<'b>,
    trace: TraceByte,
    /// A bit for each extension of this version that is there: most messages have few, and asking
    /// for the others costs no search.
    says: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Block<'b> {
    Borrowed(Extensions<'b>),
    /// Of a message in fragments: the block of the first one.
    Kept(Box<[u8]>),
}

impl<'b> Envelope<'b> {
    /// Says nothing.
    pub const EMPTY: Self = Self {
        block: Block::Borrowed(Extensions::EMPTY),
        trace: TraceByte::NONE,
        says: 0,
    };

    /// Checks the values of a frame's extensions.
    pub(crate) fn read(frame: &Frame<'b>) -> Result<Self, Violation> {
        if frame.extensions.is_empty() {
            return Ok(Self::EMPTY);
        }
        let extensions = frame.extensions;
        let malformed = |error| body(frame, error);
        let mut says = 0;
        for entry in extensions.iter() {
            match entry.kind {
                ExtensionType::METHOD => drop(extensions.method().map_err(malformed)?),
                ExtensionType::DEADLINE => drop(extensions.deadline_ms().map_err(malformed)?),
                ExtensionType::IDEMPOTENCY_KEY => {
                    extensions.idempotency_key().map_err(malformed)?;
                }
                ExtensionType::CONTENT_TYPE => {
                    extensions.content_type().map_err(malformed)?;
                }
                ExtensionType::METADATA => {
                    MetadataView::parse(entry.value)
                        .map_err(|error| value(frame, error.problem(), Rule::METADATA_ENTRIES))?;
                }
                _ => {}
            }
            says |= bit(entry.kind);
        }
        Ok(Self {
            block: Block::Borrowed(extensions),
            trace: frame.header.trace,
            says,
        })
    }

    /// The same, independent of the input.
    #[must_use]
    pub fn into_owned(self) -> Envelope<'static> {
        let block = match self.block {
            Block::Borrowed(extensions) => extensions.to_block(),
            Block::Kept(block) => block,
        };
        Envelope {
            block: Block::Kept(block),
            trace: self.trace,
            says: self.says,
        }
    }

    /// The extensions if `kind` is among them, else none.
    fn having(&self, kind: ExtensionType) -> Extensions<'_> {
        if self.says & bit(kind) == 0 {
            return Extensions::EMPTY;
        }
        match &self.block {
            Block::Borrowed(extensions) => *extensions,
            Block::Kept(block) => {
                Extensions::split(block).map_or(Extensions::EMPTY, |(extensions, _)| extensions)
            }
        }
    }

    /// `package.Service/Method`; empty where there is none.
    #[must_use]
    pub fn method(&self) -> &str {
        let extensions = self.having(ExtensionType::METHOD);
        extensions.method().ok().flatten().unwrap_or_default()
    }

    /// The method where it lies in the input; `None` when the message came in fragments.
    pub(crate) fn borrowed_method(&self) -> Option<&'b str> {
        match &self.block {
            Block::Borrowed(extensions) => extensions.method().ok().flatten(),
            Block::Kept(_) => None,
        }
    }

    /// How long the sender still waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let deadline = self
            .having(ExtensionType::DEADLINE)
            .deadline_ms()
            .ok()
            .flatten();
        deadline.map(|ms| Duration::from_millis(u64::from(ms)))
    }

    /// The key that makes a repeated request the same request.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<[u8; 16]> {
        let extensions = self.having(ExtensionType::IDEMPOTENCY_KEY);
        extensions.idempotency_key().ok().flatten()
    }

    /// Media type of the body; empty where it is not said.
    #[must_use]
    pub fn content_type(&self) -> &str {
        let extensions = self.having(ExtensionType::CONTENT_TYPE);
        extensions.content_type().ok().flatten().unwrap_or_default()
    }

    /// Names and values of the application.
    #[must_use]
    pub fn metadata(&self) -> MetadataView<'_> {
        let extensions = self.having(ExtensionType::METADATA);
        extensions.metadata().unwrap_or_default()
    }

    /// The trace that the message is a part of. A claim: nothing may be allowed by it.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        match self.trace.mode() {
            TraceMode::InFrame => self.having(ExtensionType::TRACEPARENT).trace_context(),
            TraceMode::None | TraceMode::Inherit | TraceMode::Reserved => None,
        }
    }
}

/// The bit of an extension that this version knows; 0 for others.
const fn bit(kind: ExtensionType) -> u16 {
    match kind.0 {
        number @ 0..16 => 1 << number,
        _ => 0,
    }
}
