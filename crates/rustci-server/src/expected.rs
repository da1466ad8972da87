//! In which state a thing has to be for a change of it to happen.

/// What the one who changes something believes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It is in any state, or not there.
    Any,
    /// It is not there.
    Absent,
    /// It is in the state with this tag, or in any when that is `*`.
    Tag(String),
    /// It is in any state but the one with this tag, or not there.
    Other(String),
}

impl Expected {
    /// It is there.
    pub(crate) fn present() -> Self {
        Self::Tag("*".to_owned())
    }

    /// Whether it is so, when `tag` names the state of a thing that is there.
    pub(crate) fn agrees(&self, tag: Option<&str>) -> bool {
        match (self, tag) {
            (Self::Any, _) | (Self::Absent | Self::Other(_), None) => true,
            (Self::Absent, Some(_)) | (Self::Tag(_), None) => false,
            (Self::Tag(wanted), Some(tag)) => wanted == "*" || wanted == tag,
            (Self::Other(known), Some(tag)) => known != tag,
        }
    }
}

/// Names the state that these bytes are: sixteen digits are enough for the versions of one thing.
pub(crate) fn tag_of(bytes: &[u8]) -> String {
    let mut tag = blake3::hash(bytes).to_hex().to_string();
    tag.truncate(16);
    tag
}
