//! One behaviour suite over mem, shared memory, Unix and TCP, each as it is and behind a proxy that
//! cuts its bytes anywhere.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod bad_input;
mod behaviour;
mod closing;
mod diagnostics;
mod faulty;
mod moving;
mod scrape;
mod service;
mod told;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use valkyrie::{Endpoint, Handler, Link, LinkConfig, Listener, TransportKind, listen, serve};
use valkyrie_faults::{Faults, Plan, Proxy};

/// Longer than anything here takes; a test that reaches it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Most bytes that come at once behind the proxy: less than a frame, and than most headers of two.
const SLICE_BYTES: usize = 1500;

thread_local! {
    /// What lies in front of each server that [`start`] starts.
    static BEFORE: Cell<Option<Plan>> = const { Cell::new(None) };
}

/// Runs `test` twice per transport, without and with a proxy, each time on a shard of its own.
fn on_every_transport<Fut: Future<Output = ()>>(name: &str, test: impl Fn(Endpoint) -> Fut) {
    let dir = tempfile::tempdir().unwrap();
    for endpoint in [
        format!("valkyrie+mem://{name}"),
        format!("valkyrie+unix://{}/{name}.sock", dir.path().display()),
        format!("valkyrie+shm://{}/{name}.shm", dir.path().display()),
        "valkyrie+tcp://127.0.0.1:0".to_owned(),
    ] {
        let endpoint: Endpoint = endpoint.parse().unwrap();
        let sliced = Faults {
            slice_bytes_max: Some(SLICE_BYTES),
            ..Faults::default()
        };
        for plan in [None, Some(Plan::both(SEED, sliced))] {
            BEFORE.set(plan);
            let done = valkyrie::block_on(async {
                let run = test(endpoint.clone());
                tokio::time::timeout(PATIENCE, run).await
            });
            assert!(
                done.unwrap().is_ok(),
                "{name} hangs over {endpoint}, {plan:?}"
            );
        }
    }
}

/// Of the cuts.
const SEED: u64 = 20;

/// Serves on `endpoint`; returns where.
async fn start<H: Handler>(
    endpoint: &Endpoint,
    config: LinkConfig,
    make: impl FnMut(&Link) -> H + 'static,
) -> Endpoint {
    let listener: Listener = listen(endpoint).await.unwrap();
    let bound = listener.endpoint().clone();
    tokio::task::spawn_local(serve(listener, config, make));
    match BEFORE.get() {
        Some(plan) => put_before(&beside(&bound, "proxy"), bound, plan).await,
        None => bound,
    }
}

/// Where a proxy of the same transport before `target` may listen.
fn beside(target: &Endpoint, name: impl fmt::Display) -> Endpoint {
    let own = match target.kind() {
        TransportKind::Tcp => "valkyrie+tcp://127.0.0.1:0".to_owned(),
        _ => format!("{target}-{name}"),
    };
    own.parse().unwrap()
}

/// Starts a proxy at `own` before `target`; returns where.
async fn put_before(own: &Endpoint, target: Endpoint, plan: Plan) -> Endpoint {
    let mut proxy = Proxy::new(own, target, plan).await.unwrap();
    let at = proxy.endpoint().clone();
    tokio::task::spawn_local(async move {
        while let Ok(carry) = proxy.accept().await {
            tokio::task::spawn_local(carry);
        }
    });
    at
}
