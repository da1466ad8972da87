//! Turns bytes into Valkyrie frames and frames into bytes.
//!
//! A frame is a 24-byte [`Header`], an optional block of [`Extensions`] and a body. [`Frame::parse`]
//! reads one in place: nothing is copied or allocated, whatever the length field says. Bodies are
//! Protocol Buffers ([`v2`]) or, where they are hot, the fixed layouts of [`payload`], [`log`] and
//! [`mod@file`]. The text that all of this obeys is `spec/protocol.md`.
//!
//! ```
//! use valkyrie_frame::{Frame, FrameLimits, Header, MessageType, StreamId};
//!
//! let mut wire = Vec::new();
//! Header::new(MessageType::PING, StreamId::CONTROL, 8).append(&mut wire);
//! wire.extend_from_slice(b"12345678");
//!
//! let mut input = wire.as_slice();
//! let frame = Frame::parse(&mut input, FrameLimits::DEFAULT)?.expect("the frame is whole");
//! assert_eq!(frame.header.kind, MessageType::PING);
//! assert_eq!(frame.body, b"12345678");
//! assert!(input.is_empty());
//! # Ok::<(), valkyrie_frame::FrameError>(())
//! ```
//!
//! Also here, because this is the lowest crate: [`Time`] and [`WallTime`].

mod correlation;
mod error_code;
mod extension;
pub mod file;
mod flags;
mod frame;
mod handshake;
mod header;
mod kind;
pub mod limits;
pub mod log;
mod metadata;
pub mod payload;
mod read;
mod stream;
mod time;
mod trace;

pub use correlation::Correlation;
pub use error_code::{ErrorClass, ErrorCode, Recovery};
pub use extension::{Extension, ExtensionError, ExtensionType, ExtensionWriter, Extensions, Need};
pub use file::{FileChunk, FileComplete, FileStart};
pub use flags::{Flags, Priority};
pub use frame::{Frame, FrameError, FrameLimits};
pub use handshake::{SecurityMode, VERSION, features, th0};
pub use header::{Header, MAGIC, VERSION_MAJOR};
pub use kind::MessageType;
pub use log::{LogChannel, LogEntry, LogRecord, LogRecords};
pub use metadata::{Metadata, MetadataError, MetadataView};
pub use payload::{
    ClosePayload, CompressedBody, Compression, ErrorFlags, ErrorPayload, PayloadError, Ping,
    StreamAck, StreamClose, StreamReset,
};
pub use stream::{Parity, StreamClass, StreamId};
pub use time::{Time, WallTime};
pub use trace::{TraceByte, TraceContext, TraceMode, TraceTextError};

/// Structured payloads, generated from `spec/proto/valkyrie/v2`.
pub mod v2 {
    #![expect(
        missing_docs,
        reason = "comments come from the .proto files, where not all have one"
    )]
    include!(concat!(env!("OUT_DIR"), "/valkyrie.v2.rs"));
}
