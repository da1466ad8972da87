//! One behaviour suite over mem, shared memory, Unix and TCP.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod bad_input;
mod behaviour;
mod closing;
mod diagnostics;
mod moving;
mod scrape;
mod service;
mod told;

use std::future::Future;
use std::time::Duration;

use valkyrie::{Endpoint, Handler, Link, LinkConfig, Listener, listen, serve};

/// Longer than anything here takes; a test that reaches it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` once per transport, on a shard of its own.
fn on_every_transport<Fut: Future<Output = ()>>(name: &str, test: impl Fn(Endpoint) -> Fut) {
    let dir = tempfile::tempdir().unwrap();
    for endpoint in [
        format!("valkyrie+mem://{name}"),
        format!("valkyrie+unix://{}/{name}.sock", dir.path().display()),
        format!("valkyrie+shm://{}/{name}.shm", dir.path().display()),
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

/// Serves on `endpoint`; returns where.
async fn start<H: Handler>(
    endpoint: &Endpoint,
    config: LinkConfig,
    make: impl FnMut(&Link) -> H + 'static,
) -> Endpoint {
    let listener: Listener = listen(endpoint).await.unwrap();
    let bound = listener.endpoint().clone();
    tokio::task::spawn_local(serve(listener, config, make));
    bound
}
