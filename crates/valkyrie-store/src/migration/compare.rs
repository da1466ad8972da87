//! Comparing what both stores hold.

use std::time::Duration;

use super::content::{Content, Pair, is_same_end};
use crate::error::StoreError;

/// How a key differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mismatch {
    /// The store that is kept up lacks it.
    Missing,
    /// Only the store that is kept up has it.
    Extra,
    /// The values differ.
    Value,
    /// The values end at different times.
    Lifetime,
}

impl Mismatch {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Value => "value",
            Self::Lifetime => "lifetime",
        }
    }
}

/// Pauses between looks at a key that differs; it differs if it does after all of them while its source
/// has not changed.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(300),
];
/// Looks at a key whose source changes all the time; such a key is left out.
const LOOKS_MAX: usize = 50;

fn difference(source: &Content, copy: &Content) -> Option<Mismatch> {
    if source.is(copy) || source.ends_soon() || copy.ends_soon() {
        return None;
    }
    match (source, copy) {
        // What is no value is not copied, so the other store may have anything.
        (Content::Other, _) | (_, Content::Other) => None,
        (Content::Value { .. }, Content::Nothing) => Some(Mismatch::Missing),
        (Content::Nothing, _) => Some(Mismatch::Extra),
        (Content::Value { bytes: a, end: e }, Content::Value { bytes: b, end: f }) => {
            match (a == b, is_same_end(*e, *f)) {
                (false, _) => Some(Mismatch::Value),
                (true, false) => Some(Mismatch::Lifetime),
                (true, true) => None,
            }
        }
    }
}

/// Whether a key differs for longer than copying takes.
pub(super) async fn compare(pair: Pair<'_>, key: &[u8]) -> Result<Option<Mismatch>, StoreError> {
    let mut before: Option<Content> = None;
    let mut pauses = PAUSES.iter();
    for _ in 0..LOOKS_MAX {
        let (here, there) = tokio::join!(pair.source(key), pair.target(key));
        let (here, there) = (here?, there?);
        let Some(mismatch) = difference(&here, &there) else {
            return Ok(None);
        };
        if before.as_ref().is_some_and(|before| !before.is(&here)) {
            pauses = PAUSES.iter();
        }
        before = Some(here);
        match pauses.next() {
            Some(pause) => tokio::time::sleep(*pause).await,
            None => return Ok(Some(mismatch)),
        }
    }
    Ok(None)
}

/// A key as errors show it.
pub(super) fn show(key: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(key).chars().take(64).collect();
    text.escape_debug().to_string()
}
