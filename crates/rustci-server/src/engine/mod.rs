//! The engine: one shard thread that owns the scheduler, the journal's front and the connections
//! of all runners.
//!
//! Requests of the API, messages of runners and news of the log store change the scheduler as they
//! come. Once per turn of the shard everything they caused is handed to the journal as one batch;
//! when the journal says that it is durable, the effects go out: assignments, acknowledgements,
//! answers. There is no task per job and no lock around the state.
//!
//! [`Engine::new`] takes any [`Journal`], so a benchmark can drive the same path without HTTP,
//! catalogue and disk.

mod attempts;
mod clock;
mod content;
mod core;
mod documents;
mod explain;
mod handle;
mod history;
mod keys;
mod placement;
mod projection;
mod recover;
mod register;
mod request;
mod runner;
mod snapshot;
mod source;
mod spec;
mod states;
mod steps;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use journal::{Index, Journal, Recovered};
use rustci_scheduler::{Command, SchedulerConfig};
use telemetry::Metrics;
use tokio::sync::{Notify, mpsc, watch};
use valkyrie::{ErrorCode, Link};

use crate::blobs::Blobs;
use crate::catalogue::{Queries, Updates};
use crate::content::Content;
use crate::engine::core::Core;
use crate::engine::handle::Request;
use crate::health::{Health, HealthCell};
use crate::job_token::JobTokens;
use crate::limits::{CATALOGUE_RETRY, ENGINE_TURN, SHUTDOWN_DRAIN, SNAPSHOT_RECORDS};
use crate::logs::Logs;
use crate::secrets::SecretsSource;

pub(crate) use documents::{CRON, Firing, PIPELINE, time as document_time};
pub(crate) use handle::{Again, Begin, Begun, Wanted, Word};
pub use handle::{Captured, EngineHandle, Submission};
pub use history::JobTook;
pub use keys::{KnownRequest, RequestKey};
pub use placement::QueuePage;
pub(crate) use placement::wanted as wanted_quota;
pub use recover::RecoverError;
pub(crate) use recover::restore_state;
pub use runner::RunnerHandler;
pub(crate) use states::recorded_conclusion;

/// What an engine works with. By default it has neither logs nor blobs nor a catalogue.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// How patient the scheduler is.
    pub scheduler: SchedulerConfig,
    /// Where secret values come from.
    pub secrets: SecretsSource,
    /// Where logs go. Without, completions do not wait for any.
    pub logs: Option<Logs>,
    /// Where source snapshots are.
    pub blobs: Option<Arc<Blobs>>,
    /// Requests with keys that the catalogue has.
    pub requests: Vec<KnownRequest>,
    /// Where artifacts and caches are. Without, runners bring and find none.
    pub content: Option<Content>,
    /// The catalogue to ask, for caches and artifacts.
    pub queries: Option<Queries>,
    /// The catalogue to keep up to date, and the index it has reached.
    pub updates: Option<Updates>,
    /// Where things are counted.
    pub metrics: Metrics,
    /// Where it says that it cannot go on.
    pub health: HealthCell,
    /// How long jobs took before this start, the oldest first.
    pub history: Vec<JobTook>,
    /// Signs the tokens of jobs. Default: none, and jobs get no tokens.
    pub job_tokens: Option<JobTokens>,
    /// A snapshot after so many records. More make restarts longer, fewer cost a pause each.
    /// Default 200,000.
    pub snapshot_records: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            scheduler: SchedulerConfig::default(),
            secrets: SecretsSource::default(),
            logs: None,
            blobs: None,
            requests: Vec::new(),
            content: None,
            queries: None,
            updates: None,
            metrics: Metrics::new(),
            health: HealthCell::default(),
            history: Vec::new(),
            job_tokens: None,
            snapshot_records: SNAPSHOT_RECORDS,
        }
    }
}

/// The engine, on the shard where it was made.
pub struct Engine {
    core: Rc<RefCell<Core>>,
    requests: mpsc::Receiver<Request>,
    wake: Arc<Notify>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over `journal`, in the state that `recovered` holds. `applied` is the index that
    /// the catalogue has reached.
    ///
    /// # Errors
    /// [`RecoverError`] when the journal's records do not fit together.
    pub fn new(
        config: EngineConfig,
        journal: Box<dyn Journal>,
        recovered: &Recovered,
        applied: u64,
    ) -> Result<(Self, EngineHandle), RecoverError> {
        let applied = config.updates.is_some().then_some(applied);
        let restored = recover::restore(config.scheduler, recovered, applied)?;
        let (handle, requests) = EngineHandle::new();
        let wake = Arc::new(Notify::new());
        let mut core = Core::new(config, restored.scheduler, journal, Arc::clone(&wake));
        core.projection.extend(restored.changes);
        // At once, so that whoever asks the catalogue from now on finds it up to date.
        core.projection.flush(recovered.last().get());
        let over: Vec<_> = core
            .scheduler
            .runs()
            .filter(|run| run.conclusion.is_some())
            .map(|run| (recovered.last(), run.id))
            .collect::<Vec<(Index, _)>>();
        core.ended.extend(over);
        core.resume();
        Ok((
            Self {
                core: Rc::new(RefCell::new(core)),
                requests,
                wake,
            },
            handle,
        ))
    }

    /// Makes the handler of each connection, for [`valkyrie::serve`].
    pub fn handlers(&self) -> impl FnMut(&Link) -> RunnerHandler + use<> {
        let core = Rc::clone(&self.core);
        move |_| RunnerHandler::new(Rc::clone(&core))
    }

    /// Runs until `stop` says so or its sender is gone.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let logs = self.core.borrow().config.logs.as_ref().map(Logs::events);
        let mut asked = true;
        loop {
            self.turn();
            let deadline = self.deadline();
            tokio::select! {
                () = self.wake.notified() => {}
                request = self.requests.recv(), if asked => match request {
                    Some(request) => self.core.borrow_mut().request_came(request),
                    // All handles are gone; runners may still be there.
                    None => asked = false,
                },
                () = async { match &logs {
                    Some(logs) => logs.ready().await,
                    None => std::future::pending().await,
                }} => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
                changed = stop.wait_for(|stop| *stop) => {
                    let _ = changed;
                    break;
                }
            }
        }
        self.shut_down().await;
    }

    /// One turn: takes what is there, commits it as one batch, lets go what is durable.
    fn turn(&mut self) {
        let mut core = self.core.borrow_mut();
        for _ in 0..ENGINE_TURN {
            match self.requests.try_recv() {
                Ok(request) => core.request_came(request),
                Err(_) => break,
            }
        }
        core.logs_progressed();
        let now = core.clock.now().time;
        if core.scheduler.next_deadline().is_some_and(|due| due <= now)
            && let Err(error) = core.command(Command::Tick)
        {
            tracing::debug!(%error, "a tick changed nothing");
        }
        core.commit();
        core.release();
        // What was let go may have made new records, as a refused dispatch does.
        core.commit();
    }

    fn deadline(&self) -> std::time::Instant {
        let core = self.core.borrow();
        let due = core
            .scheduler
            .next_deadline()
            .map(|due| core.clock.instant(due));
        let now = std::time::Instant::now();
        let idle = now + Duration::from_secs(60);
        let retry = core.projection.is_waiting().then(|| now + CATALOGUE_RETRY);
        due.into_iter()
            .chain(retry)
            .chain([idle])
            .min()
            .unwrap_or(idle)
    }

    /// Says goodbye to the runners; they keep their jobs and come back.
    async fn shut_down(self) {
        let links: Vec<Link> = {
            let core = self.core.borrow();
            core.config.health.set(Health::Stopping);
            core.links.values().cloned().collect()
        };
        for link in &links {
            link.close(ErrorCode::DRAINING, Duration::ZERO);
        }
        let gone = async {
            for link in &links {
                link.closed().await;
            }
        };
        // Who does not answer is cut off when the shard ends.
        let _ = tokio::time::timeout(SHUTDOWN_DRAIN, gone).await;
        let mut core = self.core.borrow_mut();
        core.commit();
    }
}
