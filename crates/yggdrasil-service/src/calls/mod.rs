//! Keys and buckets over Valkyrie.

mod identity;
mod keys;
mod messages;
mod watch;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::Notify;
use valkyrie::{Endpoint, Limits, Link, LinkConfig, ListenError, Router, SessionConfig, Shard, v2};
use yggdrasil_calls::v1::keys_service;

use crate::config::{ServerConfig, ValkyrieListen};
use crate::server::StartError;
use crate::shared::Shared;
use keys::Caller;

/// What a message has beside its value: a key, a holder, numbers.
const BESIDE_VALUE_BYTES: usize = 256 << 10;
/// How long calls may take that run when the server stops.
const DRAIN: Duration = Duration::from_secs(1);

/// A thread that serves one endpoint.
#[derive(Debug)]
pub(crate) struct Thread {
    shard: Shard<()>,
    endpoint: Endpoint,
    stops: Arc<Notify>,
}

impl Thread {
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn stop(self) {
        self.stops.notify_one();
        // A panic there was printed there.
        let _ = self.shard.join();
    }
}

/// Starts a thread for each endpoint.
pub(crate) fn start(shared: &Arc<Shared>) -> Result<Vec<Thread>, StartError> {
    if shared.cluster.is_some() && !shared.config.valkyrie.is_empty() {
        let text = "its nodes do not serve Valkyrie; start this one without";
        return Err(StartError::Cluster(text.to_owned()));
    }
    let mut threads = Vec::new();
    for (listen, number) in shared.config.valkyrie.iter().zip(shared.config.threads..) {
        match thread(shared, listen, number) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                threads.into_iter().for_each(Thread::stop);
                return Err(error);
            }
        }
    }
    Ok(threads)
}

fn thread(
    shared: &Arc<Shared>,
    listen: &ValkyrieListen,
    number: usize,
) -> Result<Thread, StartError> {
    let (tell, told) = mpsc::channel();
    let stops = Arc::new(Notify::new());
    let (shared, stopping) = (Arc::clone(shared), Arc::clone(&stops));
    let endpoint = listen.endpoint.clone();
    let main = move || async move { serve(shared, number, &endpoint, tell, &stopping).await };
    let name = format!("ygg-valkyrie-{number}");
    let shard = Shard::spawn_with(&name, listen.idle, main).map_err(StartError::System)?;
    match told.recv() {
        Ok(listening) => Ok(Thread {
            shard,
            endpoint: listening?,
            stops,
        }),
        Err(_) => {
            let ended = shard.join().map_err(std::io::Error::other);
            let error = ended.err();
            let error = error.unwrap_or_else(|| std::io::Error::other("the thread ended"));
            Err(StartError::System(error))
        }
    }
}

/// Serves until it is told to stop.
async fn serve(
    shared: Arc<Shared>,
    number: usize,
    endpoint: &Endpoint,
    tell: mpsc::Sender<Result<Endpoint, ListenError>>,
    stops: &Notify,
) {
    let config = link_config(&shared.config);
    let builder = valkyrie::Server::builder().config(config);
    let router = move |link: &Link| {
        let caller = Caller::new(&shared, number, link);
        Router::new().with(keys_service(caller))
    };
    let listening = builder.listen_each(endpoint, router).await;
    let mut server = match listening {
        Ok(server) => server,
        Err(error) => {
            // Whoever started the thread waits for it.
            let _ = tell.send(Err(error));
            return;
        }
    };
    let _ = tell.send(Ok(server.endpoint().clone()));
    tokio::select! {
        ended = server.wait() => match ended {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "clients of Valkyrie cannot be accepted any more"),
        },
        () = stops.notified() => server.shutdown(DRAIN).await,
    }
}

fn link_config(config: &ServerConfig) -> LinkConfig {
    let message_max = config.value_bytes_max.saturating_add(BESIDE_VALUE_BYTES);
    let wire = v2::Limits {
        // As much as a message can be where a value may be longer.
        message_max: u32::try_from(message_max).unwrap_or(u32::MAX),
        ..v2::Limits::default()
    };
    LinkConfig {
        session: SessionConfig {
            limits: Limits::from_wire(&wire).unwrap_or_default(),
            ..SessionConfig::default()
        },
        connections_max: u32::try_from(config.clients_max).unwrap_or(u32::MAX),
        ..LinkConfig::default()
    }
}
