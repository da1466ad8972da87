//! Names and values beside a body.

use std::fmt;

use crate::limits::{METADATA_BYTES_MAX, METADATA_MAX};

/// Why metadata is broken (read) or an entry cannot be added (written).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.problem())]
#[non_exhaustive]
pub enum MetadataError {
    /// An entry reaches past the end.
    Truncated,
    /// A name is empty, longer than 255 bytes, or has other characters.
    Name,
    /// A name is there twice, or the names are not in ascending order.
    Order,
    /// More than [`METADATA_MAX`] entries.
    TooMany,
    /// More than [`METADATA_BYTES_MAX`] bytes.
    TooLong,
}

impl MetadataError {
    /// The code of the ERROR to answer with.
    #[must_use]
    pub const fn code(self) -> crate::ErrorCode {
        crate::ErrorCode::MALFORMED
    }

    /// The problem in words.
    #[must_use]
    pub const fn problem(self) -> &'static str {
        match self {
            Self::Truncated => "an entry of the metadata ends early",
            Self::Name => "a name in the metadata is not 1 to 255 of the characters a-z 0-9 . _ -",
            Self::Order => "the names in the metadata are not in ascending order",
            Self::TooMany => "more than 64 metadata entries",
            Self::TooLong => "metadata of more than 7,168 bytes",
        }
    }
}

/// Names and values that travel beside a body: ascending names of `[a-z0-9._-]`, values of any
/// bytes. Holds the bytes of the wire; no entry costs no allocation.
///
/// ```
/// use valkyrie_frame::Metadata;
///
/// let mut metadata = Metadata::new();
/// metadata.insert("tenant", b"blue")?;
/// assert_eq!(metadata.get_str("tenant"), Some("blue"));
/// # Ok::<(), valkyrie_frame::MetadataError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    bytes: Vec<u8>,
}

/// Metadata that lies in a frame, checked.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MetadataView<'b> {
    bytes: &'b [u8],
}

/// Takes an entry off the front: its name and its value.
fn split_entry<'b>(bytes: &mut &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *bytes = rest;
    Some((name, value))
}

fn is_name(name: &[u8]) -> bool {
    let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=255).contains(&name.len()) && name.iter().all(allowed)
}

impl<'b> MetadataView<'b> {
    /// No entries.
    pub const EMPTY: Self = Self { bytes: &[] };

    /// Checks the value of extension 10.
    ///
    /// # Errors
    /// The value breaks rule R-5.9.
    pub fn parse(value: &'b [u8]) -> Result<Self, MetadataError> {
        if value.len() > METADATA_BYTES_MAX {
            return Err(MetadataError::TooLong);
        }
        let (mut rest, mut last, mut count) = (value, [].as_slice(), 0);
        while !rest.is_empty() {
            let (name, _) = split_entry(&mut rest).ok_or(MetadataError::Truncated)?;
            if !is_name(name) {
                return Err(MetadataError::Name);
            }
            if name <= last {
                return Err(MetadataError::Order);
            }
            count += 1;
            if count > METADATA_MAX {
                return Err(MetadataError::TooMany);
            }
            last = name;
        }
        Ok(Self { bytes: value })
    }

    /// Whether there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Names and values in ascending order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (name, value) = split_entry(&mut rest)?;
            Some((str::from_utf8(name).ok()?, value))
        })
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'b [u8]> {
        self.iter()
            .find(|entry| entry.0 == name)
            .map(|entry| entry.1)
    }

    /// The value of a name, if it is text.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&'b str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// The value of extension 10.
    #[must_use]
    pub const fn as_bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// A copy for keeping.
    #[must_use]
    pub fn to_metadata(self) -> Metadata {
        let bytes = self.bytes.to_vec();
        Metadata { bytes }
    }
}

impl Metadata {
    /// No entries.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Sets the value of a name, in place of the one it had.
    ///
    /// # Errors
    /// The name is not one, or there is no room; nothing changes then.
    pub fn insert(&mut self, name: &str, value: &[u8]) -> Result<(), MetadataError> {
        if !is_name(name.as_bytes()) {
            return Err(MetadataError::Name);
        }
        let (name_length, value_length) = (u8::try_from(name.len()), u16::try_from(value.len()));
        let (Ok(name_length), Ok(value_length)) = (name_length, value_length) else {
            return Err(MetadataError::TooLong);
        };
        let (start, end) = self.place(name);
        let bytes = self.bytes.len() - (end - start) + 3 + name.len() + value.len();
        if bytes > METADATA_BYTES_MAX {
            return Err(MetadataError::TooLong);
        }
        if start == end && self.iter().count() == METADATA_MAX {
            return Err(MetadataError::TooMany);
        }
        let entry = [name_length]
            .into_iter()
            .chain(name.bytes())
            .chain(value_length.to_be_bytes())
            .chain(value.iter().copied());
        self.bytes.splice(start..end, entry);
        Ok(())
    }

    /// Removes a name and its value.
    pub fn remove(&mut self, name: &str) {
        let (start, end) = self.place(name);
        self.bytes.drain(start..end);
    }

    /// Where the entry of a name is, or, empty, where it belongs.
    fn place(&self, name: &str) -> (usize, usize) {
        let (mut rest, mut start) = (self.bytes.as_slice(), 0);
        while let Some((known, _)) = split_entry(&mut rest) {
            let end = self.bytes.len() - rest.len();
            match known.cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => start = end,
                std::cmp::Ordering::Equal => return (start, end),
                std::cmp::Ordering::Greater => break,
            }
        }
        (start, start)
    }

    /// The entries without owning them.
    #[must_use]
    pub fn view(&self) -> MetadataView<'_> {
        MetadataView { bytes: &self.bytes }
    }

    /// Whether there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Names and values in ascending order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.view().iter()
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.view().get(name)
    }

    /// The value of a name, if it is text.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.view().get_str(name)
    }
}

impl fmt::Debug for MetadataView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets; their names are not.
        let lengths = self.iter().map(|(name, value)| (name, value.len()));
        f.debug_map().entries(lengths).finish()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.view(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_in_order_and_are_replaced_and_removed() {
        let mut metadata = Metadata::new();
        for (name, value) in [("m", "1"), ("a", "22"), ("z", ""), ("m", "333")] {
            metadata.insert(name, value.as_bytes()).unwrap();
        }
        let listed: Vec<_> = metadata.iter().collect();
        assert_eq!(
            listed,
            [("a", &b"22"[..]), ("m", &b"333"[..]), ("z", &b""[..])]
        );
        assert_eq!(
            MetadataView::parse(&metadata.bytes),
            Ok(metadata.view()),
            "what is written can be read"
        );
        metadata.remove("m");
        metadata.remove("q");
        assert_eq!(metadata.iter().count(), 2);
        assert_eq!(format!("{metadata:?}"), r#"{"a": 2, "z": 0}"#);
    }

    #[test]
    fn an_entry_that_does_not_fit_changes_nothing() {
        let mut metadata = Metadata::new();
        for name in ["", "Upper", "a b", "\u{e9}"] {
            assert_eq!(metadata.insert(name, b""), Err(MetadataError::Name));
        }
        let long = vec![0; METADATA_BYTES_MAX - 3];
        assert_eq!(metadata.insert("a", &long), Err(MetadataError::TooLong));
        metadata.insert("a", &long[1..]).unwrap();
        assert_eq!(metadata.insert("b", b""), Err(MetadataError::TooLong));
        metadata.insert("a", b"").unwrap();
        for number in 1..METADATA_MAX {
            metadata.insert(&format!("n{number}"), b"").unwrap();
        }
        assert_eq!(metadata.insert("x", b""), Err(MetadataError::TooMany));
        metadata.insert("a", b"again").unwrap();
    }
}
