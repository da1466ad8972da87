//! Raw layouts of control and stream messages.
//!
//! Each type reads itself with `parse`, which takes exactly one body, and writes itself with
//! `append`. `parse(append(x)) == x`.

use crate::{ErrorCode, limits::ERROR_TEXT_BYTES_MAX, read::Reader};

/// Why a body does not have the layout of its type. The peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The body ends inside a field.
    #[error("{what} needs {need} bytes, {left} are left")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Its length.
        need: usize,
        /// What is there.
        left: usize,
    },
    /// Bytes follow the last field.
    #[error("{extra} bytes follow {what}")]
    Trailing {
        /// The last field.
        what: &'static str,
        /// How many follow.
        extra: usize,
    },
    /// A field is over its limit.
    #[error("{what} of {length} bytes is over the limit of {max}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its length.
        length: usize,
        /// Its limit.
        max: usize,
    },
    /// A text is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// The field.
        what: &'static str,
    },
    /// A field has a value that makes no sense.
    #[error("{what} has a value that is not possible: {value}")]
    Value {
        /// The field.
        what: &'static str,
        /// The value.
        value: u64,
    },
}

impl PayloadError {
    /// The code of the ERROR to answer with.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLong { .. } => ErrorCode::TOO_LARGE,
            Self::Truncated { .. }
            | Self::Trailing { .. }
            | Self::NotUtf8 { .. }
            | Self::Value { .. } => ErrorCode::MALFORMED,
        }
    }
}

/// What an ERROR says beside its code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ErrorFlags(pub u8);

impl ErrorFlags {
    /// Neither of the two.
    pub const NONE: Self = Self(0);
    /// The same request may succeed later.
    pub const RETRYABLE: Self = Self(1);
    /// The sender closes the connection behind this frame.
    pub const CONNECTION_ENDS: Self = Self(2);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Body of ERROR (0x04).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorPayload<'b> {
    /// What went wrong.
    pub code: ErrorCode,
    /// Whether to retry, and whether the connection ends.
    pub flags: ErrorFlags,
    /// How long to wait before a retry; 0 leaves it to the receiver.
    pub retry_after_ms: u32,
    /// For people; at most 1 KiB.
    pub text: &'b str,
}

impl<'b> ErrorPayload<'b> {
    /// An error that is not retryable and leaves the connection open.
    #[must_use]
    pub const fn new(code: ErrorCode, text: &'b str) -> Self {
        Self {
            code,
            flags: ErrorFlags::NONE,
            retry_after_ms: 0,
            text,
        }
    }

    /// Reads the body.
    ///
    /// # Errors
    /// It is shorter than 8 bytes, or the text is not UTF-8 or over 1 KiB.
    pub fn parse(body: &'b [u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        let code = ErrorCode(reader.u16("error code")?);
        let [flags, _reserved] = reader.array("error flags")?;
        let retry_after_ms = reader.u32("error retry_after_ms")?;
        let text = reader.text("error text", ERROR_TEXT_BYTES_MAX)?;
        Ok(Self {
            code,
            flags: ErrorFlags(flags),
            retry_after_ms,
            text,
        })
    }

    /// Writes the body; a longer text is cut at the last character that fits.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.0.to_be_bytes());
        out.extend_from_slice(&[self.flags.0, 0]);
        out.extend_from_slice(&self.retry_after_ms.to_be_bytes());
        let end = self.text.floor_char_boundary(ERROR_TEXT_BYTES_MAX);
        out.extend_from_slice(self.text.get(..end).unwrap_or_default().as_bytes());
    }
}

/// Body of CLOSE (0x05).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosePayload {
    /// Why; [`ErrorCode::NONE`] for an orderly end.
    pub code: ErrorCode,
    /// How long the sender lets open streams and calls finish.
    pub drain_ms: u32,
    /// How many streams of the receiver the sender serves, by class (system, jobs, data, logs):
    /// those opened first since the connection began. `None` says nothing about them.
    pub served: Option<[u64; 4]>,
}

impl ClosePayload {
    /// Reads the body.
    ///
    /// # Errors
    /// It is neither 6 nor 38 bytes long.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        let code = ErrorCode(reader.u16("close code")?);
        let drain_ms = reader.u32("close drain_ms")?;
        let served = match body.len() {
            6 => None,
            _ => Some([
                reader.u64("close served")?,
                reader.u64("close served")?,
                reader.u64("close served")?,
                reader.u64("close served")?,
            ]),
        };
        reader.end("close served")?;
        Ok(Self {
            code,
            drain_ms,
            served,
        })
    }

    /// Writes the body.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.0.to_be_bytes());
        out.extend_from_slice(&self.drain_ms.to_be_bytes());
        for count in self.served.into_iter().flatten() {
            out.extend_from_slice(&count.to_be_bytes());
        }
    }
}

/// Body of PING (0x02) and PONG (0x03).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping(pub [u8; 8]);

impl Ping {
    /// Reads the body.
    ///
    /// # Errors
    /// It is not 8 bytes long.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        let token = reader.array("ping token")?;
        reader.end("ping token")?;
        Ok(Self(token))
    }

    /// Writes the body.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// Body of STREAM_CLOSE (0x32): the sender's direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamClose {
    /// Position of the sender at the end.
    pub final_offset: u64,
    /// How it ended; 0 is well, else an error code.
    pub status: ErrorCode,
}

impl StreamClose {
    /// Reads the body.
    ///
    /// # Errors
    /// It is not 10 bytes long.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let (final_offset, status) = parse_end(body)?;
        Ok(Self {
            final_offset,
            status,
        })
    }

    /// Writes the body.
    pub fn append(&self, out: &mut Vec<u8>) {
        append_end(out, self.final_offset, self.status);
    }
}

/// Body of STREAM_RESET (0x34): both directions ended at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamReset {
    /// Position of the sender at the end: what of it counts against the connection's credit.
    pub final_offset: u64,
    /// Why.
    pub code: ErrorCode,
}

impl StreamReset {
    /// Reads the body.
    ///
    /// # Errors
    /// It is not 10 bytes long.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let (final_offset, code) = parse_end(body)?;
        Ok(Self { final_offset, code })
    }

    /// Writes the body.
    pub fn append(&self, out: &mut Vec<u8>) {
        append_end(out, self.final_offset, self.code);
    }
}

fn parse_end(body: &[u8]) -> Result<(u64, ErrorCode), PayloadError> {
    let mut reader = Reader::new(body);
    let offset = reader.u64("final offset")?;
    let code = ErrorCode(reader.u16("stream status")?);
    reader.end("stream status")?;
    Ok((offset, code))
}

fn append_end(out: &mut Vec<u8>, offset: u64, code: ErrorCode) {
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Body of STREAM_ACK (0x33): the only credit there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAck {
    /// How far the receiver has come: read, durable or verified, by type of stream.
    pub consumed: u64,
    /// The position the sender must not pass.
    pub limit: u64,
}

impl StreamAck {
    /// Reads the body.
    ///
    /// # Errors
    /// It is not 16 bytes long, or the limit lies before what was consumed.
    #[inline]
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        let consumed = reader.u64("ack consumed")?;
        let limit = reader.u64("ack limit")?;
        reader.end("ack limit")?;
        if limit < consumed {
            return Err(PayloadError::Value {
                what: "ack limit",
                value: limit,
            });
        }
        Ok(Self { consumed, limit })
    }

    /// Writes the body.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.consumed.to_be_bytes());
        out.extend_from_slice(&self.limit.to_be_bytes());
    }
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Compression(pub u8);

impl Compression {
    /// LZ4 block.
    pub const LZ4: Self = Self(1);
    /// Zstandard frame.
    pub const ZSTD: Self = Self(2);
}

/// Body of a frame with the flag COMPRESSED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressedBody<'b> {
    /// The algorithm.
    pub algorithm: Compression,
    /// Length after decompression, as claimed; at most the message limit.
    pub raw_bytes: u32,
    /// The compressed data.
    pub data: &'b [u8],
}

impl<'b> CompressedBody<'b> {
    /// Reads the body.
    ///
    /// # Errors
    /// It is shorter than 5 bytes, or claims more than
    /// [`MESSAGE_BYTES_MAX`](crate::limits::MESSAGE_BYTES_MAX).
    pub fn parse(body: &'b [u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(body);
        let algorithm = Compression(reader.u8("compression algorithm")?);
        let raw_bytes = reader.u32("raw length")?;
        let max = crate::limits::MESSAGE_BYTES_MAX;
        if raw_bytes > max {
            let (length, max) = (raw_bytes as usize, max as usize);
            return Err(PayloadError::TooLong {
                what: "decompressed body",
                length,
                max,
            });
        }
        Ok(Self {
            algorithm,
            raw_bytes,
            data: reader.rest(),
        })
    }

    /// Writes the body.
    pub fn append(&self, out: &mut Vec<u8>) {
        out.push(self.algorithm.0);
        out.extend_from_slice(&self.raw_bytes.to_be_bytes());
        out.extend_from_slice(self.data);
    }
}
