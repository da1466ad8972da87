//! The optional block between header and body.

use std::fmt;

use crate::{
    limits::{EXTENSIONS_BYTES_MAX, EXTENSIONS_MAX},
    payload::PayloadError,
    read::Reader,
};

/// What an extension is: seven bits, the critical bit is kept apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtensionType(pub u8);

impl ExtensionType {
    /// A [`TraceContext`](crate::TraceContext), 26 bytes.
    pub const TRACEPARENT: Self = Self(1);
    /// The W3C `tracestate` header value.
    pub const TRACESTATE: Self = Self(2);
    /// The W3C `baggage` header value.
    pub const BAGGAGE: Self = Self(3);
    /// Milliseconds the caller still waits, u32.
    pub const DEADLINE: Self = Self(4);
    /// Name of the node the message comes from.
    pub const SOURCE: Self = Self(5);
    /// Name of the node the message is for.
    pub const DESTINATION: Self = Self(6);
    /// 16 bytes that make a repeated request the same request.
    pub const IDEMPOTENCY_KEY: Self = Self(7);
    /// Media type of the body.
    pub const CONTENT_TYPE: Self = Self(8);
    /// `package.Service/Method` of a CALL or MESSAGE.
    pub const METHOD: Self = Self(9);
    /// [`Metadata`](crate::Metadata) of the application.
    pub const METADATA: Self = Self(10);

    /// The highest number there is.
    pub const MAX: Self = Self(0x7F);

    /// Whether this version gives the number a meaning.
    #[must_use]
    pub const fn is_known(self) -> bool {
        matches!(self.0, 1..=10)
    }
}

impl fmt::Display for ExtensionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::TRACEPARENT => "traceparent",
            Self::TRACESTATE => "tracestate",
            Self::BAGGAGE => "baggage",
            Self::DEADLINE => "deadline",
            Self::SOURCE => "source",
            Self::DESTINATION => "destination",
            Self::IDEMPOTENCY_KEY => "idempotency_key",
            Self::CONTENT_TYPE => "content_type",
            Self::METHOD => "method",
            Self::METADATA => "metadata",
            Self(other) => return write!(f, "unknown({other})"),
        };
        f.write_str(name)
    }
}

impl fmt::Debug for ExtensionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a receiver that does not know an extension has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// Skip the extension.
    Optional,
    /// Refuse the message with error 106.
    Critical,
}

/// One entry of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'b> {
    /// What it is.
    pub kind: ExtensionType,
    /// What to do when `kind` is not known.
    pub need: Need,
    /// Its value, at most 8 KiB.
    pub value: &'b [u8],
}

/// Why an extension block is broken (read) or cannot be made (written).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionError {
    /// R-5.1: the payload ends inside the block, or the block inside an entry.
    #[error("block ends {missing} bytes early")]
    Truncated {
        /// Bytes that are not there.
        missing: usize,
    },
    /// R-5.2: the block is too long.
    #[error("block of {length} bytes is over {EXTENSIONS_BYTES_MAX}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// R-5.3: too many entries.
    #[error("more than {EXTENSIONS_MAX} entries")]
    TooMany,
    /// R-5.4: a type is there twice.
    #[error("{kind} is there twice")]
    Repeated {
        /// The type.
        kind: ExtensionType,
    },
    /// The caller used a number over 127, which would read as the critical bit.
    #[error("type {number} is over 127")]
    NoSuchType {
        /// The number.
        number: u8,
    },
}

impl ExtensionError {
    /// The rule of `spec/protocol.md` that was broken.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Truncated { .. } | Self::NoSuchType { .. } => "R-5.1",
            Self::TooLong { .. } => "R-5.2",
            Self::TooMany => "R-5.3",
            Self::Repeated { .. } => "R-5.4",
        }
    }
}

/// The extensions of one frame, their structure checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions<'b> {
    entries: &'b [u8],
    unknown_critical: Option<ExtensionType>,
}

/// Types already seen in a block: one bit for each of the 128.
#[derive(Default)]
struct Seen {
    bits: u128,
    count: usize,
}

impl Seen {
    fn add(&mut self, kind: ExtensionType) -> Result<(), ExtensionError> {
        let bit = 1u128 << (kind.0 & ExtensionType::MAX.0);
        if self.bits & bit != 0 {
            return Err(ExtensionError::Repeated { kind });
        }
        if self.count == EXTENSIONS_MAX {
            return Err(ExtensionError::TooMany);
        }
        self.bits |= bit;
        self.count += 1;
        Ok(())
    }
}

/// Takes one entry off the front.
fn split_entry<'b>(entries: &mut &'b [u8]) -> Result<Extension<'b>, ExtensionError> {
    let missing = |need: usize, left: usize| ExtensionError::Truncated {
        missing: need - left,
    };
    let Some(([kind, l0, l1], rest)) = entries.split_first_chunk::<3>() else {
        return Err(missing(3, entries.len()));
    };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let Some((value, rest)) = rest.split_at_checked(length) else {
        return Err(missing(length, rest.len()));
    };
    *entries = rest;
    let need = if kind & 0x80 == 0 {
        Need::Optional
    } else {
        Need::Critical
    };
    Ok(Extension {
        kind: ExtensionType(kind & 0x7F),
        need,
        value,
    })
}

impl<'b> Extensions<'b> {
    /// No extensions.
    pub const EMPTY: Self = Self {
        entries: &[],
        unknown_critical: None,
    };

    /// Splits a payload into its extensions and its body, and checks every entry.
    ///
    /// # Errors
    /// The block breaks one of the rules R-5.1 to R-5.4.
    pub fn split(payload: &'b [u8]) -> Result<(Self, &'b [u8]), ExtensionError> {
        let Some((length, rest)) = payload.split_first_chunk::<2>() else {
            return Err(ExtensionError::Truncated {
                missing: 2 - payload.len(),
            });
        };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > EXTENSIONS_BYTES_MAX {
            return Err(ExtensionError::TooLong { length });
        }
        let Some((entries, body)) = rest.split_at_checked(length) else {
            return Err(ExtensionError::Truncated {
                missing: length - rest.len(),
            });
        };
        let unknown_critical = check_entries(entries)?;
        Ok((
            Self {
                entries,
                unknown_critical,
            },
            body,
        ))
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A copy of the block, with its length in front.
    #[must_use]
    pub fn to_block(&self) -> Box<[u8]> {
        let length =
            u16::try_from(self.entries.len()).expect("split() holds the block under 8 KiB");
        let entries = self.entries.iter().copied();
        length.to_be_bytes().into_iter().chain(entries).collect()
    }

    /// The first entry that is critical and has no meaning here; the message has to be refused
    /// with error 106.
    #[must_use]
    pub const fn unknown_critical(&self) -> Option<ExtensionType> {
        self.unknown_critical
    }

    /// The entries in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = Extension<'b>> + use<'b> {
        let mut entries = self.entries;
        std::iter::from_fn(move || split_entry(&mut entries).ok())
    }

    /// The value of one type.
    #[must_use]
    pub fn get(&self, kind: ExtensionType) -> Option<&'b [u8]> {
        self.iter()
            .find(|entry| entry.kind == kind)
            .map(|entry| entry.value)
    }

    /// The method of a CALL or MESSAGE.
    ///
    /// # Errors
    /// The value is not text, or longer than
    /// [`METHOD_BYTES_MAX`](crate::limits::METHOD_BYTES_MAX).
    pub fn method(&self) -> Result<Option<&'b str>, PayloadError> {
        let max = crate::limits::METHOD_BYTES_MAX;
        let value = self.get(ExtensionType::METHOD);
        value
            .map(|value| Reader::new(value).text("method", max))
            .transpose()
    }

    /// Milliseconds the caller still waits.
    ///
    /// # Errors
    /// The value is not four bytes long.
    pub fn deadline_ms(&self) -> Result<Option<u32>, PayloadError> {
        let Some(value) = self.get(ExtensionType::DEADLINE) else {
            return Ok(None);
        };
        let mut reader = Reader::new(value);
        let deadline = reader.u32("deadline")?;
        reader.end("deadline").map(|()| Some(deadline))
    }

    /// The key that makes a repeated request the same request.
    ///
    /// # Errors
    /// The value is not 16 bytes long.
    pub fn idempotency_key(&self) -> Result<Option<[u8; 16]>, PayloadError> {
        let Some(value) = self.get(ExtensionType::IDEMPOTENCY_KEY) else {
            return Ok(None);
        };
        let mut reader = Reader::new(value);
        let key = reader.array("idempotency key")?;
        reader.end("idempotency key").map(|()| Some(key))
    }

    /// Media type of the body.
    ///
    /// # Errors
    /// The value is not text, or longer than
    /// [`CONTENT_TYPE_BYTES_MAX`](crate::limits::CONTENT_TYPE_BYTES_MAX).
    pub fn content_type(&self) -> Result<Option<&'b str>, PayloadError> {
        let max = crate::limits::CONTENT_TYPE_BYTES_MAX;
        let value = self.get(ExtensionType::CONTENT_TYPE);
        value
            .map(|value| Reader::new(value).text("content type", max))
            .transpose()
    }

    /// Names and values of the application.
    ///
    /// # Errors
    /// The value breaks rule R-5.9.
    pub fn metadata(&self) -> Result<crate::MetadataView<'b>, crate::MetadataError> {
        let value = self.get(ExtensionType::METADATA).unwrap_or_default();
        crate::MetadataView::parse(value)
    }

    /// The trace context; a bad one is as good as none.
    #[must_use]
    pub fn trace_context(&self) -> Option<crate::TraceContext> {
        crate::TraceContext::parse(self.get(ExtensionType::TRACEPARENT)?)
    }
}

/// Walks over all entries; returns the first one that is critical and unknown.
fn check_entries(mut entries: &[u8]) -> Result<Option<ExtensionType>, ExtensionError> {
    let mut seen = Seen::default();
    let mut unknown_critical = None;
    while !entries.is_empty() {
        let entry = split_entry(&mut entries)?;
        seen.add(entry.kind)?;
        if entry.need == Need::Critical && !entry.kind.is_known() {
            unknown_critical = unknown_critical.or(Some(entry.kind));
        }
    }
    Ok(unknown_critical)
}

/// Writes an extension block behind what is in a buffer.
///
/// ```
/// # use valkyrie_frame::{ExtensionType, ExtensionWriter, Extensions};
/// let mut payload = Vec::new();
/// let mut block = ExtensionWriter::new(&mut payload);
/// block.put(ExtensionType::METHOD, b"demo.Echo/Say")?;
/// block.finish();
/// payload.extend_from_slice(b"body");
///
/// let (extensions, body) = Extensions::split(&payload)?;
/// assert_eq!(extensions.method(), Ok(Some("demo.Echo/Say")));
/// assert_eq!(body, b"body");
/// # Ok::<(), valkyrie_frame::ExtensionError>(())
/// ```
#[derive(Debug)]
pub struct ExtensionWriter<'v> {
    out: &'v mut Vec<u8>,
    start: usize,
    seen: Seen,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.count, f)
    }
}

impl<'v> ExtensionWriter<'v> {
    /// Begins a block at the end of `out`.
    pub fn new(out: &'v mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        Self {
            out,
            start,
            seen: Seen::default(),
        }
    }

    /// Adds an entry that a receiver may skip.
    ///
    /// # Errors
    /// The block would break one of its rules; it is unchanged then.
    pub fn put(&mut self, kind: ExtensionType, value: &[u8]) -> Result<(), ExtensionError> {
        self.entry(kind, Need::Optional, value)
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// The block would break one of its rules; it is unchanged then.
    pub fn entry(
        &mut self,
        kind: ExtensionType,
        need: Need,
        value: &[u8],
    ) -> Result<(), ExtensionError> {
        if kind > ExtensionType::MAX {
            return Err(ExtensionError::NoSuchType { number: kind.0 });
        }
        let length = self.out.len() - self.start - 2 + 3 + value.len();
        let (Ok(value_length), true) = (u16::try_from(value.len()), length <= EXTENSIONS_BYTES_MAX)
        else {
            return Err(ExtensionError::TooLong { length });
        };
        self.seen.add(kind)?;
        let critical = if need == Need::Critical { 0x80 } else { 0 };
        self.out.push(kind.0 | critical);
        self.out.extend_from_slice(&value_length.to_be_bytes());
        self.out.extend_from_slice(value);
        Ok(())
    }

    /// Writes the length of the block; returns how many bytes it takes, length field included.
    pub fn finish(self) -> usize {
        let bytes = self.out.len() - self.start;
        let length = u16::try_from(bytes - 2).expect("entry() holds the block under 8 KiB");
        if let Some(field) = self
            .out
            .get_mut(self.start..)
            .and_then(<[u8]>::first_chunk_mut)
        {
            *field = length.to_be_bytes();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_entry_leaves_the_block_as_it_was() {
        let mut out = b"x".to_vec();
        let mut block = ExtensionWriter::new(&mut out);
        block
            .entry(ExtensionType(42), Need::Critical, b"ab")
            .unwrap();
        let again = block.put(ExtensionType(42), b"");
        assert_eq!(
            again,
            Err(ExtensionError::Repeated {
                kind: ExtensionType(42)
            })
        );
        let long = block.put(ExtensionType(43), &[0; EXTENSIONS_BYTES_MAX]);
        assert!(matches!(long, Err(ExtensionError::TooLong { .. })));
        let high = block.put(ExtensionType(0x80), b"");
        assert_eq!(high, Err(ExtensionError::NoSuchType { number: 0x80 }));
        assert_eq!(block.finish(), 7);
        assert_eq!(out, [b'x', 0, 5, 0x80 | 42, 0, 2, b'a', b'b']);
    }
}
