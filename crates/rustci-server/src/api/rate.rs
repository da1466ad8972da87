//! How often a client may ask.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use valkyrie_store::{BackendStatus, BreakerState, Decision, Limit, StoreAdapter};

use crate::api::App;
use crate::api::problem::ApiError;

/// Lets a request pass whose address has asked less often than it may.
///
/// Requests of this machine always pass: they are the operator's, or a proxy's, which knows better
/// who is behind it.
pub(crate) async fn keep(State(app): State<App>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map(|ConnectInfo(peer)| peer.ip().to_canonical());
    let peer = peer.filter(|peer| !peer.is_loopback());
    let (Some(limit), Some(shared), Some(peer)) = (&app.api_limit, &app.shared, peer) else {
        return next.run(request).await;
    };
    let decision = match shared.store.consume(&bucket(peer), limit, 1).await {
        Ok(decision) => decision,
        Err(error) => {
            // Nobody could use the server any more because its counter is gone.
            tracing::warn!(%error, "requests are not limited");
            return next.run(request).await;
        }
    };
    let mut response = match decision.is_allowed() {
        true => next.run(request).await,
        false => {
            app.metrics.http.limited();
            let wait = Duration::from_nanos(decision.retry_after_ns);
            ApiError::RateLimited(wait).into_response()
        }
    };
    for (name, value) in headers(limit, &decision) {
        let name = HeaderName::from_static(name);
        response
            .headers_mut()
            .insert(name, HeaderValue::from(value));
    }
    response
}

/// What clients are told, as in the drafts of the IETF that clients know
/// (draft-ietf-httpapi-ratelimit-headers-03).
fn headers(limit: &Limit, decision: &Decision) -> [(&'static str, u64); 3] {
    let reset_s = decision.reset_after_ns.div_ceil(1_000_000_000);
    [
        ("ratelimit-limit", u64::from(limit.burst())),
        ("ratelimit-remaining", u64::from(decision.remaining)),
        ("ratelimit-reset", reset_s),
    ]
}

/// The bucket of an address. Who has an IPv6 address has 2^64 of them.
fn bucket(peer: IpAddr) -> Vec<u8> {
    let mut name = b"rustci:api:".to_vec();
    match peer {
        IpAddr::V4(address) => name.extend(address.to_string().into_bytes()),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            name.extend(format!("{a:x}:{b:x}:{c:x}:{d:x}::/64").into_bytes());
        }
    }
    name
}

/// How the stores are, by their names: `ok`, or why they are not asked.
pub(crate) fn stores(app: &App) -> Vec<(String, String)> {
    let status = app.shared.as_ref().map(|shared| shared.store.status());
    let describe = |store: BackendStatus| {
        let state = match (store.state, store.last_error) {
            (BreakerState::Closed, _) => "ok".to_owned(),
            (state, Some(error)) => format!("{}: {error}", state.name()),
            (state, None) => state.name().to_owned(),
        };
        (format!("store {}", store.name), state)
    };
    status
        .unwrap_or_default()
        .into_iter()
        .map(describe)
        .collect()
}

/// Brings the metrics of the stores up to now.
pub(crate) fn measure(app: &App) {
    let Some(shared) = &app.shared else {
        return;
    };
    for store in shared.store.status() {
        let is_asked = store.state == BreakerState::Closed;
        app.metrics
            .stores
            .set(&store.name, is_asked, store.answered, store.failed);
    }
    app.metrics.stores.set_fell_back(shared.store.fell_back());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_addresses_and_networks() {
        let bucket = |text: &str| String::from_utf8(bucket(text.parse().unwrap())).unwrap();
        assert_eq!(bucket("192.0.2.7"), "rustci:api:192.0.2.7");
        let one = bucket("2001:db8:1:2:3:4:5:6");
        assert_eq!(one, "rustci:api:2001:db8:1:2::/64");
        assert_eq!(one, bucket("2001:db8:1:2:ffff::1"));
        assert_ne!(one, bucket("2001:db8:1:3::1"));
    }
}
