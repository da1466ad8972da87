//! Entity tags: an answer that has not changed is not sent again.

use axum::body::{Body, to_bytes};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

use crate::api::document::JSON;
use crate::api::problem::ApiError;
use crate::expected::{Expected, tag_of};

/// Gives an answer of JSON its tag, or takes its body away when the caller has it already.
pub(crate) async fn add(response: Response, request: &HeaderMap) -> Result<Response, ApiError> {
    let kind = response.headers().get(CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind == JSON);
    if response.status() != StatusCode::OK || !is_json {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    // JSON is built whole before it is sent, so this only takes it out of its box.
    let body = to_bytes(body, usize::MAX).await;
    let body = body.map_err(|error| ApiError::Internal(error.to_string()))?;
    let tag = match parts.extensions.get::<EntryTag>() {
        Some(EntryTag(entry)) => format!("\"{entry}.{}\"", tag_of(&body)),
        None => format!("\"{}\"", tag_of(&body)),
    };
    let known = request.get_all(IF_NONE_MATCH).iter();
    let known = known.filter_map(|known| known.to_str().ok());
    let has_it = known.into_iter().any(|known| names(known, &tag));
    let value = HeaderValue::from_str(&tag).expect("quoted hex digits are a header value");
    parts.headers.insert(ETAG, value);
    let again = HeaderValue::from_static("private, no-cache");
    parts.headers.insert(CACHE_CONTROL, again);
    if has_it {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(CONTENT_TYPE);
        parts.headers.remove(CONTENT_LENGTH);
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// The tag of the thing that an answer shows, for changes of it. The rest of the answer may change
/// with the time, so its own tag stands behind, after a dot.
#[derive(Debug, Clone)]
pub(crate) struct EntryTag(pub(crate) String);

/// What `If-Match` and `If-None-Match` ask for.
pub(crate) fn expected(headers: &HeaderMap) -> Expected {
    let text = |name: &HeaderName| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let tag = |text: &str| {
        let tag = text.trim_matches('"');
        let (entry, _) = tag.split_once('.').unwrap_or((tag, ""));
        entry.to_owned()
    };
    // If-Match alone counts when both are there (RFC 9110, 13.2.2).
    match (text(&IF_MATCH), text(&IF_NONE_MATCH)) {
        (None, None) => Expected::Any,
        (Some(wanted), _) => Expected::Tag(tag(wanted)),
        (None, Some("*")) => Expected::Absent,
        (None, Some(known)) => Expected::Other(tag(known)),
    }
}

/// Whether a list of tags, as of `If-None-Match`, names `tag`.
fn names(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| {
        // A proxy that packs the body makes the tag a weak one (RFC 9110, 8.8.3.2).
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_weak_tags_and_stars_are_understood() {
        let tag = format!("\"{}\"", tag_of(b"{}"));
        assert_eq!(tag.len(), 18);
        for list in [
            &tag,
            "*",
            &format!("W/{tag}"),
            &format!("\"other\" , {tag}"),
        ] {
            assert!(names(list, &tag), "{list}");
        }
        for list in ["", "\"other\"", tag.trim_matches('"')] {
            assert!(!names(list, &tag), "{list}");
        }
    }
}
