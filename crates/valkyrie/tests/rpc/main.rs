//! Services and clients over mem, Unix and TCP.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod ends;
mod flow;
mod middleware;
mod remote;
mod service;
mod traced;
mod unary;

use std::future::Future;
use std::time::Duration;

use valkyrie::{Endpoint, LocalClient, Raw, Server, Stub};

/// Longer than anything here takes; a test that reaches it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` once per transport, on a shard of its own.
fn on_every_transport<Fut: Future<Output = ()>>(name: &str, test: impl Fn(Endpoint) -> Fut) {
    let dir = tempfile::tempdir().unwrap();
    for endpoint in [
        format!("valkyrie+mem://rpc-{name}"),
        format!("valkyrie+unix://{}/{name}.sock", dir.path().display()),
        "valkyrie+tcp://127.0.0.1:0".to_owned(),
    ] {
        let endpoint: Endpoint = endpoint.parse().unwrap();
        let text = endpoint.to_string();
        let done = valkyrie::block_on(async {
            let run = test(endpoint);
            tokio::time::timeout(PATIENCE, run).await
        });
        assert!(done.unwrap().is_ok(), "{name} hangs over {text}");
    }
}

/// The test service at `endpoint`, and a client of it.
async fn start(endpoint: &Endpoint) -> (Server, Stub<LocalClient, Raw>, service::Probe) {
    let probe = service::Probe::default();
    let server = Server::builder();
    let server = server
        .listen(endpoint, service::router(&probe))
        .await
        .unwrap();
    let client = LocalClient::connect(server.endpoint()).await.unwrap();
    (server, Stub::new(client, Raw), probe)
}
