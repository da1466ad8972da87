//! What handlers take from a request. Every refusal is a problem.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::distinct::Distinct;
use crate::api::problem::{ApiError, run_too_large};

/// The values in the path of a route.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(values) = axum::extract::Path::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::Invalid(misread(&error)))?;
        Ok(Self(values))
    }
}

/// The query of a route; `T` denies unknown fields.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Query(query) = axum::extract::Query::from_request_parts(parts, state)
            .await
            .map_err(|error| {
                let text = error.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ");
                ApiError::Invalid(sentence(text.unwrap_or(&error.body_text())))
            })?;
        Ok(Self(query))
    }
}

/// A body of JSON: taken from a request, or given as the answer.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|error| unread(&error))?;
        // A parser takes a list for the fields of an object in their order.
        if body.trim_ascii_start().first() == Some(&b'[') {
            let what = "the body is not what this route takes: it is a list, not an object";
            return Err(ApiError::Invalid(what.to_owned()));
        }
        if body.trim_ascii().is_empty() {
            let what = "the body is empty; it has to be JSON, `{}` when there is nothing to say";
            return Err(ApiError::Invalid(what.to_owned()));
        }
        let distinct: Result<Distinct, _> = serde_json::from_slice(&body);
        if let Err(error) = distinct.as_ref()
            && error.is_data()
        {
            return Err(ApiError::Invalid(format!(
                "the body is not usable: {error}"
            )));
        }
        let value = read(&body).or_else(|error| {
            let whole = with_whole_numbers(&body);
            whole
                .and_then(|value| serde_json::from_value(value).ok())
                .ok_or(error)
        });
        value.map(Self).map_err(|error| {
            ApiError::Invalid(format!("the body is not what this route takes: {error}"))
        })
    }
}

/// The value in a body; what is wrong otherwise, with the field it is wrong in.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        match path.as_str() {
            "." => error.inner().to_string(),
            path => format!("`{path}`: {}", error.inner()),
        }
    })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The body with `7.0` as `7`: to JSON they are one number, and some programs write nothing else.
fn with_whole_numbers(body: &[u8]) -> Option<Value> {
    let mut value = serde_json::from_slice(body).ok()?;
    make_whole(&mut value);
    Some(value)
}

/// The parser has bounded the depth.
fn make_whole(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0);
            let whole = whole.and_then(|number| format!("{number:.0}").parse::<i64>().ok());
            if let Some(whole) = whole.filter(|_| number.is_f64()) {
                *value = whole.into();
            }
        }
        _ => {}
    }
}

/// Why a body could not be read.
pub(crate) fn unread(error: &BytesRejection) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => run_too_large(),
        _ => ApiError::Invalid("the body broke off; send it again".to_owned()),
    }
}

/// What is wrong with a value in the path.
fn misread(error: &PathRejection) -> String {
    let PathRejection::FailedToDeserializePathParams(failed) = error else {
        return sentence(&error.body_text());
    };
    match failed.kind() {
        ErrorKind::ParseErrorAtKey { key, value, .. } => {
            format!("`{value}` is not a number, and {key} in the path has to be one")
        }
        ErrorKind::ParseErrorAtIndex { value, .. } | ErrorKind::ParseError { value, .. } => {
            format!("`{value}` in the path is not a number")
        }
        ErrorKind::InvalidUtf8InPathParam { key } => format!("{key} in the path is not UTF-8"),
        other => sentence(&other.to_string()),
    }
}

/// Brings the words of a library into the form of ours: lower case at the beginning.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_lowercase());
    let first: Cow<'_, str> = first.map_or_else(Cow::default, |first| first.to_string().into());
    format!("{first}{}", chars.as_str())
}
