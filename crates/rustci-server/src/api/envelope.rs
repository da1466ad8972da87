//! Around every request: its id, its place in the metrics, and the headers that all answers have.

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use telemetry::HttpMetrics;
use tracing::Instrument;

use crate::api::problem::ApiError;
use crate::api::view::Problem;
use crate::limits::REQUEST_ID_BYTES_MAX;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Label of requests that no route took: their paths are anything.
const NO_ROUTE: &str = "none";

/// The middleware.
pub(crate) async fn wrap(
    State(metrics): State<HttpMetrics>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    // The panic itself was reported by its hook.
    let answer = async { answer.await.unwrap_or_else(|_| panicked()) };
    let mut response = answer.instrument(span).await;
    complete_problem(&mut response, &method, &id);
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, id);
    defaults(headers);
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let status = response.status().as_u16();
    metrics.answered(known(&method), route, status, begun.elapsed());
    response
}

fn panicked() -> Response {
    ApiError::Internal("the request could not be finished".to_owned()).into_response()
}

/// The caller's own id, if it is a harmless word, or a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    static PREFIX: LazyLock<u32> = LazyLock::new(|| getrandom::u32().unwrap_or_default());
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let is_harmless = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(harmless)
    };
    let own = headers.get(X_REQUEST_ID).filter(is_harmless).cloned();
    own.unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let text = format!("{:08x}-{number}", *PREFIX);
        HeaderValue::from_str(&text).expect("hex digits and a dash are a header value")
    })
}

/// Writes the id into the body of an error, so that a person can name it.
fn complete_problem(response: &mut Response, method: &Method, id: &HeaderValue) {
    let Some(mut problem) = response.extensions_mut().remove::<Problem>() else {
        return;
    };
    problem.request_id = id.to_str().ok().map(str::to_owned);
    if *method != Method::HEAD {
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = Body::from(body);
    }
}

/// Headers that keep a browser from doing more with an answer than showing it.
fn defaults(headers: &mut HeaderMap) {
    let values = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in values {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}

/// The method as a label. Clients can send any word.
fn known(method: &Method) -> &str {
    let all = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    match all.contains(method) {
        true => method.as_str(),
        false => "other",
    }
}
