//! Which runners live: each server says so in the store that it shares with others, so that each can
//! show the runners of all.
//!
//! What is said ends by itself soon after its server does. Nothing is decided by it.

use std::collections::BTreeSet;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use valkyrie_store::{Condition, Lifetime, StoreAdapter, StoreError};

use crate::api::ApiError;
use crate::api::view::{RunnerElsewhere, RunnerState};
use crate::content::unix_ms;
use crate::engine::EngineHandle;
use crate::limits::{
    PRESENCE_FAREWELL, PRESENCE_INTERVAL, PRESENCE_LIFE, PRESENCE_PATIENCE, RUNNERS_ELSEWHERE_MAX,
    THREAD_STACK_BYTES,
};
use crate::shared::{ServerIdentity, Shared, unavailable};

/// What stands before the runners in the store; their server and their name follow.
const RUNNERS: &str = "rustci:runner:";

/// The thread that says which runners live. Dropping it ends it, and what it said.
#[derive(Debug)]
pub(crate) struct Presence {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a server says of a runner.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    name: String,
    server: ServerIdentity,
    seen_ms: u64,
}

struct Work {
    shared: Shared,
    engine: EngineHandle,
    /// Runners that the store was told of.
    told: BTreeSet<String>,
    /// Rounds that failed since the last that did not.
    failed: u64,
}

impl Presence {
    /// Starts the thread; its first round is now.
    ///
    /// # Errors
    /// When the system gives none.
    pub(crate) fn start(shared: Shared, engine: EngineHandle) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let work = Work {
            shared,
            engine,
            told: BTreeSet::new(),
            failed: 0,
        };
        let thread = thread::Builder::new()
            .name("presence".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || runtime.block_on(work.run(stopped)))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its hook.
            let _ = thread.join();
        }
    }
}

impl Work {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let done = tokio::select! {
                _ = &mut stopped => break,
                done = self.round() => done,
            };
            self.note(done);
            if tokio::time::timeout(PRESENCE_INTERVAL, &mut stopped)
                .await
                .is_ok()
            {
                break;
            }
        }
        // What cannot be removed now ends by itself.
        let _ = tokio::time::timeout(PRESENCE_FAREWELL, self.tell(&BTreeSet::new())).await;
    }

    async fn round(&mut self) -> Result<(), StoreError> {
        // A server that ends, or whose storage failed, has no runners to show.
        let runners = self.engine.runners().await.unwrap_or_default();
        let live = runners
            .into_iter()
            .filter(|runner| runner.state != RunnerState::Away)
            .map(|runner| runner.name)
            .collect();
        self.tell(&live).await
    }

    /// Says that these runners live, and no others of this server.
    async fn tell(&mut self, live: &BTreeSet<String>) -> Result<(), StoreError> {
        let Shared { store, server } = &self.shared;
        for name in live {
            let seen = Seen {
                name: name.clone(),
                server: server.clone(),
                seen_ms: unix_ms(SystemTime::now()),
            };
            let value = serde_json::to_vec(&seen).unwrap_or_default();
            self.told.insert(name.clone());
            let life = Lifetime::For(PRESENCE_LIFE);
            store
                .write(&key(server, name), &value, life, Condition::Always)
                .await?;
        }
        let gone: Vec<String> = self.told.difference(live).cloned().collect();
        for name in gone {
            store.remove(&key(server, &name), Condition::Always).await?;
            self.told.remove(&name);
        }
        Ok(())
    }

    /// Says once that something is wrong, and once that it is right again.
    fn note(&mut self, done: Result<(), StoreError>) {
        match done {
            Ok(()) => {
                if self.failed > 0 {
                    tracing::info!(rounds = self.failed, "runners are shown to others again");
                }
                self.failed = 0;
            }
            Err(error) => {
                if self.failed == 0 {
                    tracing::warn!(%error, "runners are not shown to other servers");
                }
                self.failed = self.failed.saturating_add(1);
            }
        }
    }
}

/// Where a server says that its runner lives. Runners of two servers may have one name.
fn key(server: &ServerIdentity, runner: &str) -> Vec<u8> {
    format!("{RUNNERS}{}:{runner}", server.id).into_bytes()
}

/// Runners that live on other servers with the same store, by name, the first
/// [`RUNNERS_ELSEWHERE_MAX`] that are found. Nobody where the store is not shared.
///
/// # Errors
/// [`ApiError::StoreUnavailable`]; also after [`PRESENCE_PATIENCE`].
pub(crate) async fn elsewhere(shared: Option<&Shared>) -> Result<Vec<RunnerElsewhere>, ApiError> {
    let Some(shared) = shared.filter(|shared| shared.is_shared()) else {
        return Ok(Vec::new());
    };
    match tokio::time::timeout(PRESENCE_PATIENCE, find(shared)).await {
        Ok(found) => found.map_err(unavailable),
        Err(_) => Err(ApiError::StoreUnavailable(
            "it has not listed its runners in time".to_owned(),
        )),
    }
}

async fn find(shared: &Shared) -> Result<Vec<RunnerElsewhere>, StoreError> {
    let own = key(&shared.server, "");
    // By key, since a key may be found twice.
    let mut keys = BTreeSet::new();
    let mut from = None;
    loop {
        let page = shared.store.scan(RUNNERS.as_bytes(), from).await?;
        keys.extend(page.keys.into_iter().filter(|key| !key.starts_with(&own)));
        from = page.next;
        if from.is_none() || keys.len() >= RUNNERS_ELSEWHERE_MAX {
            break;
        }
    }
    let mut found = Vec::new();
    for key in keys.iter().take(RUNNERS_ELSEWHERE_MAX) {
        let value = shared.store.read(key).await?;
        // What somebody else wrote there is no runner.
        let seen = value.and_then(|value| serde_json::from_slice::<Seen>(&value.bytes).ok());
        found.extend(seen.map(|seen| RunnerElsewhere {
            name: seen.name,
            server: seen.server.to_string(),
            seen_ms: seen.seen_ms,
        }));
    }
    found.sort_by(|one, other| (&one.name, &one.server).cmp(&(&other.name, &other.server)));
    Ok(found)
}

/// Whether what is said outlives the wait for the next word, and one that is lost.
const _: () = assert!(2 * PRESENCE_INTERVAL.as_millis() < PRESENCE_LIFE.as_millis());
