//! Where a frame's trace context is found, and the context itself.

use std::{fmt, str::FromStr};

use crate::read::Reader;

/// The trace byte of a frame: bit 7 sampled, bit 6 random id, bits 5-4 the mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceByte(pub u8);

/// Where the trace context of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TraceMode {
    /// There is none.
    None,
    /// The one of the frame that opened the stream.
    Inherit,
    /// In the extensions of this frame.
    InFrame,
    /// Not assigned; read as [`None`](Self::None).
    Reserved,
}

impl TraceByte {
    /// No context.
    pub const NONE: Self = Self(0);
    /// The context of the stream, not sampled.
    pub const INHERIT: Self = Self(1 << 4);
    /// The context in this frame's extensions, not sampled.
    pub const IN_FRAME: Self = Self(2 << 4);
    const SAMPLED: u8 = 1 << 7;
    const RANDOM_ID: u8 = 1 << 6;

    /// Where the context is.
    #[must_use]
    pub const fn mode(self) -> TraceMode {
        match self.0 >> 4 & 3 {
            0 => TraceMode::None,
            1 => TraceMode::Inherit,
            2 => TraceMode::InFrame,
            _ => TraceMode::Reserved,
        }
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED != 0
    }

    /// Whether the trace id was drawn at random (W3C level 2).
    #[must_use]
    pub const fn is_random_id(self) -> bool {
        self.0 & Self::RANDOM_ID != 0
    }

    /// The same with the bits for sampling and random id taken from `context`.
    #[must_use]
    pub const fn describing(self, context: &TraceContext) -> Self {
        let sampled = (context.flags & 1) << 7;
        let random = (context.flags >> 1 & 1) << 6;
        Self(self.0 & 0x3F | sampled | random)
    }
}

/// A W3C trace context in 26 bytes: the value of the extension `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The whole trace; never zero.
    pub trace_id: [u8; 16],
    /// The span that caused this one; never zero.
    pub parent_id: [u8; 8],
    /// Bit 0 sampled, bit 1 random trace id.
    pub flags: u8,
}

impl TraceContext {
    /// Length on the wire.
    pub const BYTES: usize = 26;

    /// Reads a context; `None` when the length, the version (not 0) or an id (all zero) is wrong.
    ///
    /// Bad context is dropped, never the message that carries it.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(value);
        let version = reader.array::<1>("trace version").ok()?;
        let trace_id = reader.array::<16>("trace id").ok()?;
        let parent_id = reader.array::<8>("parent id").ok()?;
        let [flags] = reader.array::<1>("trace flags").ok()?;
        let whole = reader.rest().is_empty() && version == [0];
        let known = trace_id != [0; 16] && parent_id != [0; 8];
        (whole && known).then_some(Self {
            trace_id,
            parent_id,
            flags,
        })
    }

    /// The 26 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = self
            .trace_id
            .iter()
            .chain(&self.parent_id)
            .chain([&self.flags]);
        for (to, from) in bytes.iter_mut().skip(1).zip(fields) {
            *to = *from;
        }
        bytes
    }
}

impl fmt::Display for TraceContext {
    /// The text of the HTTP header `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.parent_id
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// The text is not a `traceparent` of W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent; write 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, lower case")]
pub struct TraceTextError;

impl FromStr for TraceContext {
    type Err = TraceTextError;

    /// Reads version 00, and of later versions the part that is the same.
    fn from_str(text: &str) -> Result<Self, TraceTextError> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(TraceTextError);
        let [version] = hex::<1>(next()?)?;
        let (trace_id, parent_id, [flags]) = (hex(next()?)?, hex(next()?)?, hex::<1>(next()?)?);
        let more = parts.next().is_some();
        let known = version != 0xFF && !(version == 0 && more);
        let ids = trace_id != [0; 16] && parent_id != [0; 8];
        (known && ids)
            .then_some(Self {
                trace_id,
                parent_id,
                flags,
            })
            .ok_or(TraceTextError)
    }
}

/// Lower-case hex digits, exactly as many as fit.
fn hex<const N: usize>(text: &str) -> Result<[u8; N], TraceTextError> {
    let mut out = [0; N];
    let mut digits = text.bytes().map(|byte| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(TraceTextError),
    });
    for byte in &mut out {
        let mut digit = || digits.next().unwrap_or(Err(TraceTextError));
        *byte = digit()? << 4 | digit()?;
    }
    digits.next().is_none().then_some(out).ok_or(TraceTextError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_written_as_the_standard_says() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context: TraceContext = text.parse().unwrap();
        assert_eq!(context.flags, 1);
        assert_eq!(context.to_string(), text);
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(later.parse::<TraceContext>().is_ok());
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(text.parse::<TraceContext>().is_err(), "{text}");
        }
    }
}
