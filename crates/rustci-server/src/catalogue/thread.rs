//! The thread that owns the catalogue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::alerts::Alerts;
use crate::api::view::Status;
use crate::catalogue::query::data_version;
use crate::catalogue::readers::{Query, ReadHandle, Readers, query};
use crate::catalogue::{Catalogue, CatalogueError, Change, Subscriptions};
use crate::health::{Health, HealthCell};
use crate::limits::{CATALOGUE_BATCH, CATALOGUE_QUEUE, READ_ONLY_POLL, THREAD_STACK_BYTES};
use crate::traces::EndedRuns;

enum Work {
    Changes {
        changes: Vec<Change>,
        applied: u64,
    },
    Checkpoint,
    Query(Query),
    /// Ends the thread when what is queued is done.
    Stop,
}

/// The running thread. Dropping this ends it; handles that are left hear `Stopped`.
#[derive(Debug)]
pub struct CatalogueThread {
    queries: Queries,
    updates: Updates,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// None when another process writes: then the one thread only reads.
    _readers: Option<Readers>,
}

/// A handle for asking.
#[derive(Debug, Clone)]
pub struct Queries {
    sender: mpsc::Sender<Work>,
    readers: Option<ReadHandle>,
    subscriptions: Subscriptions,
}

/// The engine's handle for telling what changed.
#[derive(Debug, Clone)]
pub struct Updates {
    sender: mpsc::Sender<Work>,
    durable: Arc<AtomicU64>,
}

impl CatalogueThread {
    /// Starts a thread that owns `catalogue`, and says in `health` when it cannot write it.
    ///
    /// # Errors
    /// [`CatalogueError::Thread`].
    pub fn start(catalogue: Catalogue, health: HealthCell) -> Result<Self, CatalogueError> {
        Self::start_telling(catalogue, health, None, None)
    }

    /// The same, and says in `ended` which runs have ended, and in `alerts` what people want to know.
    pub(crate) fn start_telling(
        catalogue: Catalogue,
        health: HealthCell,
        ended: Option<EndedRuns>,
        alerts: Option<Alerts>,
    ) -> Result<Self, CatalogueError> {
        let readers = Readers::start(&catalogue)?;
        let listeners = Listeners { ended, alerts };
        let mut started = Self::spawn(catalogue, health, listeners, Worker::run)?;
        started.queries.readers = Some(readers.handle());
        started._readers = Some(readers);
        Ok(started)
    }

    /// Starts a thread for a catalogue that another process writes.
    ///
    /// # Errors
    /// [`CatalogueError::Thread`].
    pub fn start_read_only(catalogue: Catalogue) -> Result<Self, CatalogueError> {
        Self::spawn(
            catalogue,
            HealthCell::default(),
            Listeners::default(),
            Worker::poll,
        )
    }

    fn spawn(
        catalogue: Catalogue,
        health: HealthCell,
        listeners: Listeners,
        body: impl FnOnce(Worker) + Send + 'static,
    ) -> Result<Self, CatalogueError> {
        let (sender, receiver) = mpsc::channel(CATALOGUE_QUEUE);
        let subscriptions = Subscriptions::default();
        let durable = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            catalogue,
            receiver,
            subscriptions: subscriptions.clone(),
            durable: Arc::clone(&durable),
            applied: 0,
            health,
            is_behind: false,
            stop: Arc::clone(&stop),
            listeners,
        };
        let thread = thread::Builder::new()
            .name("catalogue".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || body(worker))
            .map_err(CatalogueError::Thread)?;
        Ok(Self {
            queries: Queries {
                sender: sender.clone(),
                readers: None,
                subscriptions,
            },
            updates: Updates { sender, durable },
            stop,
            thread: Some(thread),
            _readers: None,
        })
    }

    /// A handle for asking.
    #[must_use]
    pub fn queries(&self) -> Queries {
        self.queries.clone()
    }

    /// The engine's handle.
    #[must_use]
    pub fn updates(&self) -> Updates {
        self.updates.clone()
    }
}

impl Drop for CatalogueThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // A full queue means that the thread is busy and sees the flag by itself.
        let _ = self.updates.sender.try_send(Work::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by its hook; there is nobody to pass it to here.
            let _ = thread.join();
        }
    }
}

impl Queries {
    /// Runs `ask` on the catalogue's thread, behind all changes sent so far.
    ///
    /// # Errors
    /// What `ask` returns, or [`CatalogueError::Stopped`].
    pub async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Catalogue) -> Result<T, CatalogueError> + Send + 'static,
    ) -> Result<T, CatalogueError> {
        let (query, answer) = query(ask);
        self.sender
            .send(Work::Query(query))
            .await
            .map_err(|_| CatalogueError::Stopped)?;
        answer.await.map_err(|_| CatalogueError::Stopped)?
    }

    /// Runs `ask` beside whatever is being written, on one state of the catalogue: changes that
    /// were sent but not applied are not seen. [`settled`](Self::settled) waits for those.
    ///
    /// # Errors
    /// What `ask` returns, or [`CatalogueError::Stopped`].
    pub async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Catalogue) -> Result<T, CatalogueError> + Send + 'static,
    ) -> Result<T, CatalogueError> {
        let Some(readers) = &self.readers else {
            return self.ask(ask).await;
        };
        let (query, answer) = query(ask);
        readers.ask(query).await?;
        answer.await.map_err(|_| CatalogueError::Stopped)?
    }

    /// Waits until everything sent so far can be read.
    ///
    /// # Errors
    /// [`CatalogueError::Stopped`].
    pub async fn settled(&self) -> Result<(), CatalogueError> {
        self.ask(|_| Ok(())).await
    }

    /// Who follows which run.
    #[must_use]
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }
}

impl Updates {
    /// Hands over changes that are durable in the journal up to `applied`. Never waits: what does
    /// not fit stays in `changes`, for another time.
    pub fn send(&self, changes: &mut Vec<Change>, applied: u64) -> Handed {
        match self.sender.try_reserve() {
            Ok(place) => {
                place.send(Work::Changes {
                    changes: std::mem::take(changes),
                    applied,
                });
                Handed::Over
            }
            Err(TrySendError::Full(())) => Handed::Later,
            Err(TrySendError::Closed(())) => {
                changes.clear();
                Handed::Over
            }
        }
    }

    /// Asks something behind the changes handed over so far, and before those of later. Gives the
    /// question back when the queue is full.
    pub(crate) fn ask(&self, query: Query) -> Result<(), Query> {
        match self.sender.try_send(Work::Query(query)) {
            Err(TrySendError::Full(Work::Query(query))) => Err(query),
            // A closed queue drops the question, and with it what the answer would go to.
            _ => Ok(()),
        }
    }

    /// Asks for a checkpoint of what was handed over before; [`durable`](Self::durable) follows.
    pub fn checkpoint(&self) -> Handed {
        match self.sender.try_send(Work::Checkpoint) {
            Ok(()) => Handed::Over,
            Err(_) => Handed::Later,
        }
    }

    /// The journal index up to which the catalogue survives a power cut.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }
}

/// Whether changes were handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// They will be applied.
    Over,
    /// The queue is full; they are still the caller's.
    Later,
}

struct Worker {
    catalogue: Catalogue,
    receiver: mpsc::Receiver<Work>,
    subscriptions: Subscriptions,
    durable: Arc<AtomicU64>,
    applied: u64,
    health: HealthCell,
    /// A change was lost, so none after it may be taken.
    is_behind: bool,
    stop: Arc<AtomicBool>,
    listeners: Listeners,
}

/// Who hears of changes when the catalogue has them.
#[derive(Default)]
struct Listeners {
    ended: Option<EndedRuns>,
    alerts: Option<Alerts>,
}

impl Worker {
    fn run(mut self) {
        let mut held = None;
        while let Some(work) = held.take().or_else(|| self.next()) {
            match work {
                Work::Changes { changes, applied } => held = self.apply(changes, applied),
                Work::Checkpoint => self.checkpoint(),
                Work::Query(query) => query(&self.catalogue),
                Work::Stop => {}
            }
        }
        self.checkpoint();
    }

    /// Waits for work; `None` when the thread shall end and nothing is left.
    fn next(&mut self) -> Option<Work> {
        if self.stop.load(Ordering::Acquire) {
            return self.receiver.try_recv().ok();
        }
        self.receiver.blocking_recv()
    }

    /// Applies changes together with those right behind them; gives back other work it met.
    fn apply(&mut self, mut changes: Vec<Change>, mut applied: u64) -> Option<Work> {
        let mut other = None;
        while changes.len() < CATALOGUE_BATCH && other.is_none() {
            match self.receiver.try_recv() {
                Ok(Work::Changes {
                    changes: more,
                    applied: last,
                }) => {
                    changes.extend(more);
                    applied = last;
                }
                Ok(work) => other = Some(work),
                Err(_) => break,
            }
        }
        if self.is_behind {
            return other;
        }
        match self.catalogue.apply(&changes, applied) {
            Ok(()) => self.applied = applied,
            Err(error) => self.fall_behind(&error),
        }
        self.subscriptions.wake(&changes);
        self.tell_ended(&changes);
        if let Some(alerts) = &mut self.listeners.alerts {
            alerts.see(&changes);
        }
        other
    }

    fn tell_ended(&self, changes: &[Change]) {
        let Some(ended) = &self.listeners.ended else {
            return;
        };
        for change in changes {
            if let Change::Run(run) = change
                && run.status == Status::Finished
            {
                ended.push(run.id);
            }
        }
    }

    /// The journal has it all. The index stays where it is, so the next start repairs this; who
    /// waits for news until then would wait in vain.
    fn fall_behind(&mut self, error: &CatalogueError) {
        tracing::error!(%error, "the catalogue takes no more changes until the next start");
        self.is_behind = true;
        self.health.set(Health::Failed {
            reason: error.to_string(),
        });
    }

    fn checkpoint(&self) {
        match self.catalogue.checkpoint() {
            Ok(()) => self.durable.store(self.applied, Ordering::Release),
            Err(error) => tracing::error!(%error, "the catalogue could not be made durable"),
        }
    }

    /// Answers queries, and looks now and then whether the other process changed something.
    fn poll(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let Ok(runtime) = runtime else { return };
        let mut seen = None;
        while !self.stop.load(Ordering::Acquire) {
            let next = runtime.block_on(async {
                tokio::time::timeout(READ_ONLY_POLL, self.receiver.recv()).await
            });
            match next {
                Ok(Some(Work::Query(query))) => query(&self.catalogue),
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => {
                    let now = data_version(self.catalogue.connection()).ok();
                    if now != seen {
                        seen = now;
                        self.subscriptions.wake_all();
                    }
                }
            }
        }
    }
}
