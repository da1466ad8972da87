//! Reads frames in place.

use crate::{
    ErrorCode, ExtensionError, Extensions, Flags, Header, MAGIC, StreamId, VERSION_MAJOR,
    limits::{
        CONTROL_PAYLOAD_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX, HEADER_BYTES,
        PRE_AUTH_PAYLOAD_BYTES_MAX,
    },
};

/// One whole frame; extensions and body lie in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    /// The header; `header.length` counts extensions and body.
    pub header: Header,
    /// The extensions, empty without the flag EXTENSIONS; their structure is checked.
    pub extensions: Extensions<'b>,
    /// What follows the extensions.
    pub body: &'b [u8],
}

/// How long a payload [`Frame::parse`] takes; on stream 0 never more than
/// [`CONTROL_PAYLOAD_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Longest payload, extensions included; at most [`FRAME_PAYLOAD_BYTES_MAX`].
    pub payload_bytes_max: u32,
}

impl FrameLimits {
    /// What a connection without other agreement takes.
    pub const DEFAULT: Self = Self {
        payload_bytes_max: FRAME_PAYLOAD_BYTES_MAX,
    };
    /// What a peer that is not yet authenticated may send.
    pub const PRE_AUTH: Self = Self {
        payload_bytes_max: PRE_AUTH_PAYLOAD_BYTES_MAX,
    };

    /// The limit on one stream: stream 0 has its own, so that control cannot be held up by bulk.
    #[inline]
    const fn payload_bytes_max_of(self, stream: StreamId) -> u32 {
        if stream.0 == 0 && self.payload_bytes_max > CONTROL_PAYLOAD_BYTES_MAX {
            CONTROL_PAYLOAD_BYTES_MAX
        } else {
            self.payload_bytes_max
        }
    }
}

/// Why the bytes are not a frame. The peer is at fault, and the connection ends: nothing behind
/// such bytes can be trusted to begin a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// the first two bytes are not the magic.
    #[error("byte {at} of the frame is 0x{found:02x}, not the magic 52 43")]
    Magic {
        /// 0 or 1.
        at: u8,
        /// What is there.
        found: u8,
    },
    /// the major version is another one.
    #[error("peer speaks version {found}, this side {VERSION_MAJOR}")]
    Version {
        /// The peer's version.
        found: u8,
    },
    /// the payload is longer than agreed.
    #[error("payload of {length} bytes is over the limit of {max}")]
    TooLarge {
        /// The length field.
        length: u32,
        /// The limit that applied.
        max: u32,
    },
    /// the extension block is broken.
    #[error("extensions: {0}")]
    Extensions(#[from] ExtensionError),
}

impl FrameError {
    /// The code of the ERROR to send before closing.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Magic { .. } => ErrorCode::MAGIC,
            Self::Version { .. } => ErrorCode::VERSION_MISMATCH,
            Self::TooLarge { .. } => ErrorCode::TOO_LARGE,
            Self::Extensions(_) => ErrorCode::MALFORMED,
        }
    }

    /// The rule of `spec/protocol.md` that was broken.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Magic { .. } => "R-3.1",
            Self::Version { .. } => "R-3.2",
            Self::TooLarge { .. } => "R-3.3",
            Self::Extensions(error) => error.rule(),
        }
    }
}

impl<'b> Frame<'b> {
    /// Takes the first frame off `input`; `None`, with `input` unchanged, while it is not whole.
    ///
    /// Magic, version and length are refused as soon as their bytes are there, so a caller that
    /// buffers until the frame is whole never holds more than header and limit. Nothing is
    /// allocated.
    ///
    /// # Errors
    /// The bytes are not a frame, or its payload is over the limit; `input` is unchanged.
    #[inline]
    pub fn parse(input: &mut &'b [u8], limits: FrameLimits) -> Result<Option<Self>, FrameError> {
        let Some((bytes, rest)) = input.split_first_chunk::<HEADER_BYTES>() else {
            return check_prefix(input, limits).map(|()| None);
        };
        let [m0, m1, version, ..] = *bytes;
        let header = Header::from_bytes(bytes);
        let max = limits.payload_bytes_max_of(header.stream);
        if [m0, m1] != MAGIC || version != VERSION_MAJOR || header.length > max {
            return check_prefix(bytes, limits).map(|()| None);
        }
        let Some((payload, rest)) = rest.split_at_checked(header.length as usize) else {
            return Ok(None);
        };
        let (extensions, body) = if header.flags.contains(Flags::EXTENSIONS) {
            Extensions::split(payload)?
        } else {
            (Extensions::EMPTY, payload)
        };
        *input = rest;
        Ok(Some(Self {
            header,
            extensions,
            body,
        }))
    }
}

/// Judges a header, or the part of it that has come; names the first field that is wrong.
#[cold]
fn check_prefix(bytes: &[u8], limits: FrameLimits) -> Result<(), FrameError> {
    for (at, (&found, expected)) in (0u8..).zip(bytes.iter().zip(MAGIC)) {
        if found != expected {
            return Err(FrameError::Magic { at, found });
        }
    }
    if let Some(&found) = bytes.get(2)
        && found != VERSION_MAJOR
    {
        return Err(FrameError::Version { found });
    }
    let number = |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
    let (Some(stream), Some(length)) = (number(8), number(12)) else {
        return Ok(());
    };
    let length = u32::from_be_bytes(*length);
    let max = limits.payload_bytes_max_of(StreamId(u32::from_be_bytes(*stream)));
    if length > max {
        return Err(FrameError::TooLarge { length, max });
    }
    Ok(())
}
