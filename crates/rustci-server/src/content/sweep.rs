//! Removing what is not needed any more.
//!
//! First the catalogue forgets what is over: artifacts past their time, and cache entries that were
//! used longest ago where a project has too many. Then every blob goes that nothing names, nobody
//! holds, and nobody has used for a while.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use telemetry::ContentMetrics;
use tokio::sync::Notify;

use crate::api::ApiError;
use crate::blobs::{BlobDigest, BlobError};
use crate::catalogue::{Artifact, CacheEntry, CatalogueError, Queries};
use crate::content::{Content, TreeError, manifest};
use crate::engine::EngineHandle;
use crate::limits::THREAD_STACK_BYTES;

/// What must stay although its time is over.
#[derive(Debug, Default)]
pub struct Held {
    /// Runs that have not ended, and those whose jobs they took over.
    pub runs: HashSet<u64>,
    /// Trees that attempts found and readers read.
    pub trees: HashSet<BlobDigest>,
}

/// The thread that sweeps. Dropping it ends it.
#[derive(Debug)]
pub struct Sweeper {
    wake: Arc<Notify>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Why a sweep broke off. Nothing that is needed is gone then.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Engine(#[from] ApiError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What a sweep works with.
struct Work {
    content: Content,
    queries: Queries,
    engine: EngineHandle,
    metrics: ContentMetrics,
    wake: Arc<Notify>,
    stop: Arc<AtomicBool>,
}

impl Sweeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub(crate) fn start(
        content: Content,
        queries: Queries,
        engine: EngineHandle,
        metrics: ContentMetrics,
    ) -> std::io::Result<Self> {
        let (wake, stop) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let work = Work {
            content,
            queries,
            engine,
            metrics,
            wake: Arc::clone(&wake),
            stop: Arc::clone(&stop),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let thread = thread::Builder::new()
            .name("sweeper".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || runtime.block_on(work.run()))?;
        Ok(Self {
            wake,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its hook.
            let _ = thread.join();
        }
    }
}

/// Whether a server has only just started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    First,
    Later,
}

impl Work {
    async fn run(self) {
        // At once: a server of local runs does not live long enough for a second time.
        let (mut wait, mut round) = (Duration::ZERO, Round::First);
        loop {
            // The end of the time and a wake-up mean the same.
            let _ = tokio::time::timeout(wait, self.wake.notified()).await;
            wait = self.content.config.sweep_interval;
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let swept = self.sweep(round).await;
            round = Round::Later;
            match swept {
                Ok(()) | Err(SweepError::Engine(ApiError::Stopping)) => {}
                Err(error) => tracing::warn!(%error, "a sweep of artifacts and caches broke off"),
            }
        }
    }

    async fn sweep(&self, round: Round) -> Result<(), SweepError> {
        let held = Held {
            runs: self.engine.held_runs().await?.into_iter().collect(),
            trees: self.content.pins.trees(),
        };
        let has_runs = !held.runs.is_empty();
        let (now, max) = (SystemTime::now(), self.content.config.cache_bytes_max);
        let now_ms = unix_ms(now);
        let forget = move |catalogue: &crate::catalogue::Catalogue| {
            let artifacts = catalogue.all_artifacts()?;
            let expired = expired(&artifacts, &held, now_ms);
            for id in &expired {
                catalogue.remove_artifact(*id)?;
            }
            let evicted = evicted(catalogue.caches(None, None, u32::MAX)?, max, &held);
            for id in &evicted {
                catalogue.remove_cache(*id)?;
            }
            Ok((expired.len(), evicted.len(), roots(catalogue)?))
        };
        let (expired, evicted, roots) = self.queries.ask(forget).await?;
        self.metrics.removed("expired", expired as u64);
        self.metrics.removed("evicted", evicted as u64);
        let grace = self.content.config.sweep_grace;
        if round == Round::First && has_runs {
            // A runner that was away with this server may have a result that names old blobs. It
            // comes back within its lease, or its attempt is over.
            return Ok(());
        }
        let cutoff = now.checked_sub(grace).unwrap_or(now);
        let swept = remove_garbage(&self.content, &roots, cutoff)?;
        self.metrics.stored(swept.kept_bytes, swept.kept);
        self.metrics.freed(swept.freed_bytes);
        if expired + evicted > 0 || swept.freed > 0 {
            let (blobs, bytes) = (swept.freed, swept.freed_bytes);
            tracing::info!(expired, evicted, blobs, bytes, "swept artifacts and caches");
        }
        Ok(())
    }
}

pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What the catalogue names.
#[derive(Debug, Default)]
struct Roots {
    trees: HashSet<BlobDigest>,
    blobs: HashSet<BlobDigest>,
}

fn roots(catalogue: &crate::catalogue::Catalogue) -> Result<Roots, CatalogueError> {
    let artifacts = catalogue.all_artifacts()?.into_iter();
    let caches = catalogue.caches(None, None, u32::MAX)?.into_iter();
    let trees = artifacts.map(|artifact| artifact.tree.digest);
    Ok(Roots {
        trees: trees.chain(caches.map(|entry| entry.tree.digest)).collect(),
        blobs: catalogue.result_blobs()?.into_iter().collect(),
    })
}

/// Artifacts whose time is over and that nobody needs.
fn expired(artifacts: &[Artifact], held: &Held, now_ms: u64) -> Vec<u64> {
    let over = artifacts.iter().filter(|artifact| {
        artifact.expires_ms <= now_ms
            && !held.runs.contains(&artifact.run)
            && !held.trees.contains(&artifact.tree.digest)
    });
    over.map(|artifact| artifact.id).collect()
}

/// The entries that go so that every project has at most `max` bytes: those used longest ago, except
/// for those that are held.
fn evicted(entries: Vec<CacheEntry>, max: u64, held: &Held) -> Vec<u64> {
    let mut projects: BTreeMap<String, Vec<CacheEntry>> = BTreeMap::new();
    for entry in entries {
        projects
            .entry(entry.project.clone())
            .or_default()
            .push(entry);
    }
    let mut gone = Vec::new();
    for mut entries in projects.into_values() {
        entries.sort_by_key(|entry| (entry.used_ms, entry.id));
        let sizes = entries.iter().map(|entry| entry.tree.bytes);
        let mut total = sizes.fold(0, u64::saturating_add);
        for entry in entries {
            if total > max && !held.trees.contains(&entry.tree.digest) {
                total -= entry.tree.bytes.min(total);
                gone.push(entry.id);
            }
        }
    }
    gone
}

/// What became of the blobs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Swept {
    freed: u64,
    freed_bytes: u64,
    kept: u64,
    kept_bytes: u64,
}

/// Removes the blobs that no root leads to, nobody holds, and nobody has used since `cutoff`.
fn remove_garbage(
    content: &Content,
    roots: &Roots,
    cutoff: SystemTime,
) -> Result<Swept, SweepError> {
    // Listed before the marks are made: what comes meanwhile is not looked at.
    let stored = content.blobs.list()?;
    let mut marked = roots.blobs.clone();
    let held = content.pins.trees();
    for tree in roots.trees.union(&held) {
        mark(content, *tree, &mut marked)?;
    }
    let mut swept = Swept::default();
    for blob in stored {
        let keep = marked.contains(&blob.digest) || blob.used >= cutoff;
        let removed = !keep
            && content
                .pins
                .remove_unheld(blob.digest, || content.blobs.remove(blob.digest))?;
        let (count, bytes) = match removed {
            true => (&mut swept.freed, &mut swept.freed_bytes),
            false => (&mut swept.kept, &mut swept.kept_bytes),
        };
        *count += 1;
        *bytes += blob.bytes;
    }
    Ok(swept)
}

/// Marks a tree and its chunks. One that is gone has nothing to mark; any other that cannot be read
/// ends the sweep, for what it holds is not known.
fn mark(
    content: &Content,
    tree: BlobDigest,
    marked: &mut HashSet<BlobDigest>,
) -> Result<(), SweepError> {
    marked.insert(tree);
    match manifest(&content.blobs, tree) {
        Ok(manifest) => {
            let chunks: HashMap<BlobDigest, u32> = manifest.chunks();
            marked.extend(chunks.into_keys());
            Ok(())
        }
        // A runner that sent nonsense must not keep the store from being swept.
        Err(TreeError::Gone(_) | TreeError::Malformed { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
