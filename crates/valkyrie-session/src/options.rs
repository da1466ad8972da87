//! What a request or an answer says beside its body.

use std::time::Duration;

use valkyrie_frame::limits::{CONTENT_TYPE_BYTES_MAX, METHOD_BYTES_MAX};
use valkyrie_frame::{
    ExtensionError, ExtensionType, ExtensionWriter, Flags, MetadataView, Priority, TraceByte,
    TraceContext,
};

use crate::calls::deadline_ms;
use crate::error::SendError;

/// What a call, a message or the opening of a stream says beside method and body.
///
/// Everything is borrowed and the default says nothing, so unused options cost nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallOptions<'a> {
    /// How long this side waits. A call fails with 105 when it is over, and the peer is told; of
    /// messages and streams only the peer is told.
    pub deadline: Option<Duration>,
    /// Makes a repeated request the same request.
    pub idempotency_key: Option<[u8; 16]>,
    /// The trace that the request is a part of.
    pub trace: Option<TraceContext>,
    /// Media type of the body; empty leaves it out. At most 255 bytes.
    pub content_type: &'a str,
    /// Names and values for the receiver's application.
    pub metadata: MetadataView<'a>,
    /// Whether it goes before the waiting frames of every class but control.
    pub urgency: Urgency,
    /// Of a stream that is opened: inside their class, frames of streams with a higher one leave
    /// first, in both directions.
    pub priority: Priority,
}

/// Whether a message overtakes other classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Urgency {
    /// It goes with its class.
    #[default]
    Normal,
    /// It goes before the waiting frames of every class but control.
    Urgent,
}

/// What an answer or a message of a stream says beside its body.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReplyOptions<'a> {
    /// Media type of the body; empty leaves it out. At most 255 bytes.
    pub content_type: &'a str,
    /// Names and values for the receiver's application.
    pub metadata: MetadataView<'a>,
}

impl From<Option<Duration>> for CallOptions<'_> {
    fn from(deadline: Option<Duration>) -> Self {
        Self {
            deadline,
            ..Self::default()
        }
    }
}

/// The extensions of a frame that is about to be sent.
#[derive(Clone, Copy)]
pub(crate) enum Block<'a> {
    None,
    /// Of a CALL or MESSAGE.
    Request(&'a str, &'a CallOptions<'a>),
    /// Of a STREAM_OPEN, which has method and metadata in its body.
    Opening(&'a CallOptions<'a>),
    /// Of a REPLY, a STREAM_DATA or an ERROR.
    Reply(&'a ReplyOptions<'a>),
    /// Of a message of a stream that has no bytes: the block is there even if it is empty, and
    /// tells the message from a frame that carries nothing.
    Message(&'a ReplyOptions<'a>),
    /// Encoded before, when its message had to wait.
    Encoded(&'a [u8], TraceByte),
}

impl CallOptions<'_> {
    pub(crate) const fn flags(&self) -> Flags {
        match self.urgency {
            Urgency::Normal => Flags::NONE,
            Urgency::Urgent => Flags::URGENT,
        }
    }

    fn append(&self, block: &mut ExtensionWriter<'_>) -> Result<(), ExtensionError> {
        if let Some(deadline) = self.deadline {
            let left = deadline_ms(deadline).to_be_bytes();
            block.put(ExtensionType::DEADLINE, &left)?;
        }
        if let Some(trace) = &self.trace {
            block.put(ExtensionType::TRACEPARENT, &trace.to_bytes())?;
        }
        if let Some(key) = &self.idempotency_key {
            block.put(ExtensionType::IDEMPOTENCY_KEY, key)?;
        }
        put_text(block, self.content_type)
    }

    fn says_nothing(&self) -> bool {
        self.deadline.is_none()
            && self.trace.is_none()
            && self.idempotency_key.is_none()
            && self.content_type.is_empty()
    }
}

impl ReplyOptions<'_> {
    const fn says_nothing(&self) -> bool {
        self.content_type.is_empty() && self.metadata.is_empty()
    }
}

/// Checks what a request says; metadata is checked where it is made.
pub(crate) const fn check_request(method: &str, content_type: &str) -> Result<(), SendError> {
    let (bytes, max) = (method.len(), METHOD_BYTES_MAX);
    if bytes > max {
        return Err(SendError::TooLarge { bytes, max });
    }
    check_content_type(content_type)
}

pub(crate) const fn check_content_type(content_type: &str) -> Result<(), SendError> {
    let (bytes, max) = (content_type.len(), CONTENT_TYPE_BYTES_MAX);
    if bytes > max {
        return Err(SendError::TooLarge { bytes, max });
    }
    Ok(())
}

fn put_text(block: &mut ExtensionWriter<'_>, content_type: &str) -> Result<(), ExtensionError> {
    if content_type.is_empty() {
        return Ok(());
    }
    block.put(ExtensionType::CONTENT_TYPE, content_type.as_bytes())
}

fn put_metadata(
    block: &mut ExtensionWriter<'_>,
    metadata: MetadataView<'_>,
) -> Result<(), ExtensionError> {
    if metadata.is_empty() {
        return Ok(());
    }
    block.put(ExtensionType::METADATA, metadata.as_bytes())
}

impl Block<'_> {
    /// Whether the frame has no extension block.
    pub(crate) fn is_none(&self) -> bool {
        match self {
            Self::None | Self::Encoded([], _) => true,
            Self::Request(..) | Self::Encoded(..) | Self::Message(_) => false,
            Self::Opening(options) => options.says_nothing(),
            Self::Reply(options) => options.says_nothing(),
        }
    }

    /// The flag of a frame that has the block.
    pub(crate) fn flag(&self) -> Flags {
        if self.is_none() {
            Flags::NONE
        } else {
            Flags::EXTENSIONS
        }
    }

    /// The trace byte of the frame.
    pub(crate) const fn trace(&self) -> TraceByte {
        match self {
            Self::Request(_, options) | Self::Opening(options) => match &options.trace {
                Some(trace) => TraceByte::IN_FRAME.describing(trace),
                None => TraceByte::NONE,
            },
            Self::Encoded(_, trace) => *trace,
            Self::None | Self::Reply(_) | Self::Message(_) => TraceByte::NONE,
        }
    }

    /// Writes the block; nothing where there is none.
    pub(crate) fn append(&self, out: &mut Vec<u8>) {
        if self.is_none() {
            return;
        }
        if let Self::Encoded(bytes, _) = self {
            out.extend_from_slice(bytes);
            return;
        }
        let mut block = ExtensionWriter::new(out);
        self.put(&mut block)
            .expect("what has been checked fits a block, as valkyrie_frame::limits asserts");
        block.finish();
    }

    fn put(&self, block: &mut ExtensionWriter<'_>) -> Result<(), ExtensionError> {
        match self {
            Self::None | Self::Encoded(..) => Ok(()),
            Self::Request(method, options) => {
                block.put(ExtensionType::METHOD, method.as_bytes())?;
                options.append(block)?;
                put_metadata(block, options.metadata)
            }
            Self::Opening(options) => options.append(block),
            Self::Reply(options) | Self::Message(options) => {
                put_text(block, options.content_type)?;
                put_metadata(block, options.metadata)
            }
        }
    }
}
