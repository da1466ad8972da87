//! The door: no token, no entry.

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;

use crate::api::App;
use crate::api::problem::ApiError;

/// Lets a request pass that carries the token.
pub(crate) async fn require_token(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !authorized(&app, &request) {
        return Err(ApiError::Unauthorized);
    }
    Ok(next.run(request).await)
}

fn authorized(app: &App, request: &Request) -> bool {
    let Some(token) = &app.token else { return true };
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .map(axum::http::HeaderValue::as_bytes);
    // The scheme's case does not matter (RFC 9110, 11.1), the token's does.
    let offered = header.and_then(|header| match header.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => Some(token),
        _ => None,
    });
    offered.is_some_and(|offered| token.matches(offered.trim_ascii()))
}
