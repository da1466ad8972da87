//! Addresses that ask too often.

#![cfg(test)]

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use rustci_server::{Server, ServerConfig};
use serde_json::Value;
use tower::ServiceExt;
use valkyrie_store::{
    BreakerConfig, HybridConfig, HybridStore, Limit, MemoryStore, RedisConfig, RedisStore, Store,
};

struct Fixture {
    _dir: tempfile::TempDir,
    server: Server,
    router: Router,
}

impl Fixture {
    /// A server where an address may send three requests an hour, counted in these stores.
    fn start(stores: impl IntoIterator<Item = Store>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(dir.path().join("data"));
        let breaker = BreakerConfig {
            failures: 2,
            ..BreakerConfig::default()
        };
        let hybrid = HybridConfig {
            breaker,
            ..HybridConfig::default()
        };
        config.api_limit = Some(Limit::per(1, Duration::from_secs(3600), 3).unwrap());
        config.store = Some(HybridStore::of(stores, hybrid).unwrap());
        let server = Server::start(config).unwrap();
        Self {
            router: server.router(),
            server,
            _dir: dir,
        }
    }

    async fn get(&self, path: &str, from: Option<&str>) -> Response<Body> {
        let mut request = Request::get(path)
            .header(
                "authorization",
                format!("Bearer {}", self.server.token().expose()),
            )
            .body(Body::empty())
            .unwrap();
        if let Some(from) = from {
            let peer = SocketAddr::new(from.parse::<IpAddr>().unwrap(), 50_000);
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// The statuses of so many requests.
    async fn statuses(&self, from: &str, count: usize) -> Vec<u16> {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(self.get("/api/v1/runs", Some(from)).await.status().as_u16());
        }
        statuses
    }

    async fn text(&self, path: &str) -> String {
        let body = self.get(path, None).await.into_body();
        String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn address_that_asks_too_often_waits_and_others_do_not() {
    let fixture = Fixture::start([MemoryStore::new().into()]);
    assert_eq!(
        fixture.statuses("192.0.2.1", 5).await,
        [200, 200, 200, 429, 429]
    );
    assert_eq!(fixture.statuses("192.0.2.2", 1).await, [200]);
    // Everyone in a network of IPv6 is one address, and an IPv4 address is one in either form.
    assert_eq!(fixture.statuses("2001:db8::1", 2).await, [200, 200]);
    assert_eq!(fixture.statuses("2001:db8::2", 2).await, [200, 429]);
    assert_eq!(fixture.statuses("::ffff:192.0.2.1", 1).await, [429]);
    // This machine is the operator, or a proxy.
    assert_eq!(fixture.statuses("127.0.0.1", 5).await, [200; 5]);
    assert_eq!(fixture.statuses("::1", 5).await, [200; 5]);

    let refused = fixture.get("/api/v1/runs", Some("192.0.2.1")).await;
    let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    let wait: u64 = header("retry-after").parse().unwrap();
    assert!((3590..=3600).contains(&wait));
    assert_eq!(
        (header("ratelimit-limit"), header("ratelimit-remaining")),
        ("3".into(), "0".into())
    );
    let body = to_bytes(refused.into_body(), 1 << 20).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "rate_limited");
    // Health and metrics are for those who look after the server.
    assert_eq!(fixture.get("/livez", Some("192.0.2.1")).await.status(), 200);
    let metrics = fixture.text("/metrics").await;
    assert!(
        metrics.contains("rustci_http_requests_limited_total 5"),
        "{metrics}"
    );
}

#[tokio::test]
async fn limits_go_on_in_memory_when_their_store_is_gone_and_it_shows() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let store = RedisStore::new(&RedisConfig {
        name: "redis://limits".to_owned(),
        url: format!("redis://{nobody}"),
        ..RedisConfig::default()
    });
    let fixture = Fixture::start([store.unwrap().into(), MemoryStore::new().into()]);
    assert_eq!(
        fixture.statuses("192.0.2.1", 5).await,
        [200, 200, 200, 429, 429]
    );
    let ready: Value = serde_json::from_str(&fixture.text("/readyz").await).unwrap();
    assert_eq!(ready["status"], "ready");
    let state = ready["checks"]["store redis://limits"].as_str().unwrap();
    assert!(
        state.starts_with("open: ") && state.contains("cannot be reached"),
        "{state}"
    );
    assert_eq!(ready["checks"]["store memory"], "ok");
    let metrics = fixture.text("/metrics").await;
    for line in [
        "rustci_store_up{store=\"redis://limits\"} 0",
        "rustci_store_up{store=\"memory\"} 1",
        "rustci_store_operations_total{store=\"memory\"} 5",
        "rustci_store_fallbacks_total 5",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}
