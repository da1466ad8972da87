//! The control plane's engine over any journal, serving runners on one endpoint.

use std::path::Path;
use std::sync::{Arc, mpsc};

use anyhow::{Context, Result, anyhow};
use journal::{FileJournal, Journal, JournalConfig, MemoryJournal, Recovered};
use rustci_server::engine::{Engine, EngineConfig, EngineHandle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use valkyrie::{Endpoint, LinkConfig, Shard};

use crate::observed::{Observation, Observed};

/// Where an engine keeps its records.
pub(crate) enum Store<'d> {
    /// In files, durable when a sync they share with others is done.
    Files(&'d Path),
    Memory,
}

type Opened = (Box<dyn Journal>, Recovered, Arc<Observation>);

impl Store<'_> {
    fn open(&self) -> Result<Opened> {
        Ok(match self {
            Self::Files(directory) => {
                let (journal, recovered) = FileJournal::open(directory, JournalConfig::default())?;
                let (journal, seen) = Observed::new(journal);
                (Box::new(journal), recovered, seen)
            }
            Self::Memory => {
                let (journal, seen) = Observed::new(MemoryJournal::new());
                (Box::new(journal), Recovered::default(), seen)
            }
        })
    }
}

/// An engine on this shard.
pub(crate) struct Node {
    pub(crate) handle: EngineHandle,
    pub(crate) seen: Arc<Observation>,
    stop: watch::Sender<bool>,
    engine: JoinHandle<()>,
    serving: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(
        store: Store<'_>,
        at: &Endpoint,
        config: EngineConfig,
    ) -> Result<Self> {
        let (journal, recovered, seen) = store.open()?;
        let (engine, handle) = Engine::new(config, journal, &recovered, 0)?;
        let listener = valkyrie::listen(at).await?;
        let serve = valkyrie::serve(listener, LinkConfig::default(), engine.handlers());
        let serving = tokio::task::spawn_local(async move {
            // It ends by being aborted.
            let _ = serve.await;
        });
        let (stop, stopped) = watch::channel(false);
        let engine = tokio::task::spawn_local(engine.run(stopped));
        Ok(Self {
            handle,
            seen,
            stop,
            engine,
            serving,
        })
    }

    /// Ends the engine; everything committed is on disk afterwards.
    pub(crate) async fn stop(self) -> Result<()> {
        self.serving.abort();
        self.stop.send_replace(true);
        Ok(self.engine.await?)
    }
}

/// An engine on a shard of its own.
pub(crate) struct NodeThread {
    pub(crate) handle: EngineHandle,
    pub(crate) seen: Arc<Observation>,
    stop: watch::Sender<bool>,
    shard: Shard<Result<()>>,
}

impl NodeThread {
    pub(crate) fn start(store: Store<'_>, at: &Endpoint, config: EngineConfig) -> Result<Self> {
        let at = at.clone();
        let directory = match store {
            Store::Files(directory) => Some(directory.to_owned()),
            Store::Memory => None,
        };
        let (stop, mut stopped) = watch::channel(false);
        let (tell, told) = mpsc::channel();
        let shard = Shard::spawn("engine", move || async move {
            let store = directory.as_deref().map_or(Store::Memory, Store::Files);
            let node = Node::start(store, &at, config).await?;
            tell.send((node.handle.clone(), Arc::clone(&node.seen)))?;
            stopped.wait_for(|stop| *stop).await?;
            node.stop().await
        })?;
        match told.recv() {
            Ok((handle, seen)) => Ok(Self {
                handle,
                seen,
                stop,
                shard,
            }),
            Err(_) => Err(ended(shard)),
        }
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        self.shard.join().context("the engine's shard")?
    }
}

fn ended(shard: Shard<Result<()>>) -> anyhow::Error {
    match shard.join() {
        Ok(Err(error)) => error,
        Ok(Ok(())) => anyhow!("the engine ended before it was ready"),
        Err(error) => error.into(),
    }
}
