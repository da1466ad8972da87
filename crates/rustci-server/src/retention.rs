//! Removing old runs: their rows, their logs, and the archives that no run needs any more.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use crate::api::ApiError;
use crate::blobs::{BlobError, Blobs};
use crate::catalogue::{CatalogueError, Queries};
use crate::content::unix_ms;
use crate::engine::EngineHandle;
use crate::limits::{RETENTION_INTERVAL, RETENTION_RUNS, SOURCE_GRACE, THREAD_STACK_BYTES};

/// The thread that removes old runs. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Retention {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What it works with.
pub(crate) struct Work {
    /// How long runs are kept after their end.
    pub(crate) keep: Duration,
    pub(crate) queries: Queries,
    pub(crate) engine: EngineHandle,
    /// The directory of all logs.
    pub(crate) logs: PathBuf,
    /// The archives of sources.
    pub(crate) blobs: Arc<Blobs>,
}

/// Why a round broke off. Nothing that is needed is gone then.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Engine(#[from] ApiError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("the logs of run {run} cannot be removed: {source}")]
    Logs { run: u64, source: io::Error },
}

impl Retention {
    /// Starts the thread; its first round is now.
    ///
    /// # Errors
    /// When the system gives none.
    pub(crate) fn start(work: Work) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let thread = thread::Builder::new()
            .name("retention".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || runtime.block_on(work.run(stopped)))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its hook.
            let _ = thread.join();
        }
    }
}

impl Work {
    async fn run(self, mut stopped: oneshot::Receiver<()>) {
        loop {
            match self.round().await {
                Ok(()) | Err(RetentionError::Engine(ApiError::Stopping)) => {}
                Err(error) => tracing::warn!(%error, "old runs were not all removed"),
            }
            if tokio::time::timeout(RETENTION_INTERVAL, &mut stopped)
                .await
                .is_ok()
            {
                return;
            }
        }
    }

    async fn round(&self) -> Result<(), RetentionError> {
        let now = SystemTime::now();
        let before = unix_ms(now.checked_sub(self.keep).unwrap_or(SystemTime::UNIX_EPOCH));
        let mut removed = 0;
        loop {
            // Runs that go on may have taken jobs over whose artifacts they still need.
            let held: HashSet<u64> = self.engine.held_runs().await?.into_iter().collect();
            let ask = move |catalogue: &crate::catalogue::Catalogue| {
                catalogue.runs_ended_before(before, RETENTION_RUNS)
            };
            let mut old = self.queries.ask(ask).await?;
            let found = old.len();
            old.retain(|run| !held.contains(run));
            // Logs first: what is listed without them is found again by the next round.
            for run in &old {
                remove_logs(&self.logs, *run)?;
            }
            removed += old.len();
            let done = old.is_empty() || found < usize::try_from(RETENTION_RUNS).unwrap_or(0);
            self.queries
                .ask(move |catalogue| catalogue.remove_runs(&old))
                .await?;
            if done {
                break;
            }
        }
        let archives = self.remove_sources(now).await?;
        if removed + archives > 0 {
            tracing::info!(runs = removed, archives, "removed old runs");
        }
        Ok(())
    }

    /// Removes archives that no run names and nobody has used for a while.
    async fn remove_sources(&self, now: SystemTime) -> Result<usize, RetentionError> {
        let needed = self.queries.read(|catalogue| catalogue.sources()).await?;
        let needed: HashSet<_> = needed.into_iter().collect();
        let cutoff = now
            .checked_sub(SOURCE_GRACE)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let mut removed = 0;
        for blob in self.blobs.list()? {
            if !needed.contains(&blob.digest) && blob.used < cutoff {
                removed += usize::from(self.blobs.remove(blob.digest)?);
            }
        }
        Ok(removed)
    }
}

fn remove_logs(logs: &Path, run: u64) -> Result<(), RetentionError> {
    match std::fs::remove_dir_all(logs.join(run.to_string())) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RetentionError::Logs { run, source })
        }
        _ => Ok(()),
    }
}
