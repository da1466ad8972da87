//! Lists in pages.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use axum::http::header::LINK;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer};

use crate::api::extract::Json;
use crate::hex;
use crate::limits::{NAME_CHARS_MAX, PAGE_RUNS, PAGE_RUNS_MAX};

/// `limit` in the query of a list: 1 to 200 entries in one page, 20 without it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit(u32);

impl Limit {
    /// Entries in one page, for what counts in memory.
    pub(crate) fn entries(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Entries in one page.
    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(PAGE_RUNS)
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limit = text.parse().ok();
        let limit = limit.filter(|limit| (1..=PAGE_RUNS_MAX).contains(limit));
        limit
            .map(Self)
            .ok_or_else(|| format!("limit is a number from 1 to {PAGE_RUNS_MAX}, not {text:?}"))
    }
}

/// `cursor` in the query of a list whose entries have numbers: the number of the last one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor(pub(crate) u64);

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().map_err(|_| {
            format!("cursor is the `next` of the page before, not {text:?}; leave it out to begin")
        })?;
        Ok(Self(number))
    }
}

/// `cursor` in the query of a list whose entries have names: that of the last one, in hex, so that
/// it fits into an address as it is.
#[derive(Debug, Clone)]
pub(crate) struct Name(pub(crate) String);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.bytes();
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = hex::decode(text);
        // Bytes that are no name stand before or after names too.
        let name = name.map(|name| String::from_utf8_lossy(&name).into_owned());
        name.map(Self).ok_or_else(|| {
            format!("cursor is the `next` of the page before, not {text:?}; leave it out to begin")
        })
    }
}

/// A name to look for.
#[derive(Debug, Clone)]
pub(crate) struct Word(pub(crate) String);

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().count() > NAME_CHARS_MAX {
            return Err(format!("names have at most {NAME_CHARS_MAX} characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// All of these are read from the text of a query.
macro_rules! from_text {
    ($($name:ident)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

from_text!(Limit Cursor Word Name);

/// The answer with one page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    /// The body, which has the cursor too.
    pub(crate) body: T,
    /// Cursor of the next page; none on the last.
    pub(crate) next: Option<String>,
}

#[derive(Debug, Clone)]
struct NextCursor(String);

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        if let Some(next) = self.next {
            response.extensions_mut().insert(NextCursor(next));
        }
        response
    }
}

/// Adds the `Link` to the next page of the list at `uri` (RFC 8288), if there is one.
pub(crate) fn add_link(response: &mut Response, uri: &Uri) {
    let Some(NextCursor(next)) = response.extensions_mut().remove::<NextCursor>() else {
        return;
    };
    let query = uri.query().unwrap_or_default().split('&');
    let others = query.filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let mut pairs: Vec<&str> = others.collect();
    let cursor = format!("cursor={next}");
    pairs.push(&cursor);
    let link = format!("<{}?{}>; rel=\"next\"", uri.path(), pairs.join("&"));
    if let Ok(link) = HeaderValue::from_str(&link) {
        response.headers_mut().insert(LINK, link);
    }
}
