//! The 24 bytes in front of every payload.

use crate::{Correlation, Flags, MessageType, Priority, StreamId, TraceByte, limits::HEADER_BYTES};

/// First two bytes of every frame: "RC".
pub const MAGIC: [u8; 2] = [0x52, 0x43];
/// Third byte of every frame: the major version.
pub const VERSION_MAJOR: u8 = 2;

/// A frame's header without magic and version, which are the same in all.
///
/// ```text
///  0        2       3      4       5          6       7          8
///  | magic  | vers. | type | flags | priority | trace | reserved |
///  8                 12                16                20               24
///  | stream          | payload length  | correlation     | timestamp      |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// What the frame is.
    pub kind: MessageType,
    /// Its flags.
    pub flags: Flags,
    /// Its urgency inside its class.
    pub priority: Priority,
    /// Where its trace context is.
    pub trace: TraceByte,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Bytes after the header: extensions and body.
    pub length: u32,
    /// The request it belongs to.
    pub correlation: Correlation,
    /// When it was sent, Unix seconds; telemetry only, 0 when the sender has no clock.
    pub timestamp: u32,
}

impl Header {
    /// A header without flags, context and correlation, of normal priority.
    #[inline]
    #[must_use]
    pub const fn new(kind: MessageType, stream: StreamId, length: u32) -> Self {
        Self {
            kind,
            flags: Flags::NONE,
            priority: Priority::NORMAL,
            trace: TraceByte::NONE,
            stream,
            length,
            correlation: Correlation::NONE,
            timestamp: 0,
        }
    }

    /// The same with other flags.
    #[inline]
    #[must_use]
    pub const fn with_flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }

    /// The same with another correlation.
    #[inline]
    #[must_use]
    pub const fn with_correlation(self, correlation: Correlation) -> Self {
        Self {
            correlation,
            ..self
        }
    }

    /// The header as its 24 bytes.
    #[inline]
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let [m0, m1] = MAGIC;
        let [s0, s1, s2, s3] = self.stream.0.to_be_bytes();
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        let [c0, c1, c2, c3] = self.correlation.0.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let (kind, flags) = (self.kind.0, self.flags.0);
        let (priority, trace) = (self.priority.0, self.trace.0);
        [
            m0,
            m1,
            VERSION_MAJOR,
            kind,
            flags,
            priority,
            trace,
            0, //
            s0,
            s1,
            s2,
            s3,
            l0,
            l1,
            l2,
            l3,
            c0,
            c1,
            c2,
            c3,
            t0,
            t1,
            t2,
            t3,
        ]
    }

    /// Writes the header over `out`, for a header whose length was not known before its body.
    #[inline]
    pub const fn encode(&self, out: &mut [u8; HEADER_BYTES]) {
        *out = self.to_bytes();
    }

    /// Writes the header behind what is in `out`.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }

    /// Reads a header, of which magic and version are not looked at.
    #[inline]
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [
            _,
            _,
            _,
            kind,
            flags,
            priority,
            trace,
            _, //
            s0,
            s1,
            s2,
            s3,
            l0,
            l1,
            l2,
            l3,
            c0,
            c1,
            c2,
            c3,
            t0,
            t1,
            t2,
            t3,
        ] = *bytes;
        Self {
            kind: MessageType(kind),
            flags: Flags(flags),
            priority: Priority(priority),
            trace: TraceByte(trace),
            stream: StreamId(u32::from_be_bytes([s0, s1, s2, s3])),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
            correlation: Correlation(u32::from_be_bytes([c0, c1, c2, c3])),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        }
    }
}
