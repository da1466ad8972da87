//! The contents of artifacts, caches, summaries and reports: a store of blobs of its own.
//!
//! Runners bring blobs while their jobs run, and name them when the jobs end. In between nothing in
//! the catalogue speaks for them, so everything an attempt was told to be there is held ([`Pins`])
//! until it has ended. What nothing names any more goes with a `sweep`.

mod pins;
mod put;
mod source;
mod sweep;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustci_content::{Manifest, ManifestError};
use rustci_pipeline::v1;
use tokio::sync::Semaphore;

use crate::blobs::{BlobDigest, BlobError, Blobs};
use crate::limits::{
    ARTIFACT_BYTES_MAX, ARTIFACT_KEPT, CACHE_BYTES_MAX, CACHE_KEY_BYTES_MAX, DOWNLOADS_MAX,
    NAME_BYTES_MAX, SWEEP_GRACE, SWEEP_INTERVAL, TREES_MAX,
};

pub use pins::{Pins, TooMany, TreeGuard};
pub use put::{PutError, PutReader};
pub use source::StoredChunks;
pub(crate) use sweep::unix_ms;
pub use sweep::{Held, Sweeper};

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct ContentConfig {
    /// Bytes of one artifact at most. Default 5 GiB.
    pub artifact_bytes_max: u64,
    /// Bytes of all cache entries of one project; the one that was used longest ago goes first.
    /// Default 10 GiB.
    pub cache_bytes_max: u64,
    /// How long artifacts are kept that do not say it. Default 30 days.
    pub artifact_kept: Duration,
    /// Time between two sweeps. Default 10 minutes.
    pub sweep_interval: Duration,
    /// How long a blob that nothing names is kept. Default 1 hour.
    pub sweep_grace: Duration,
}

impl Default for ContentConfig {
    fn default() -> Self {
        Self {
            artifact_bytes_max: ARTIFACT_BYTES_MAX,
            cache_bytes_max: CACHE_BYTES_MAX,
            artifact_kept: ARTIFACT_KEPT,
            sweep_interval: SWEEP_INTERVAL,
            sweep_grace: SWEEP_GRACE,
        }
    }
}

/// The store with what is held in it.
#[derive(Debug, Clone)]
pub struct Content {
    /// The blobs.
    pub blobs: Arc<Blobs>,
    /// What must not go although the catalogue does not name it.
    pub pins: Pins,
    /// How much is kept.
    pub config: ContentConfig,
    /// One for each download that is being written.
    pub(crate) downloads: Arc<Semaphore>,
}

/// Why a stored tree cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// It is not there, or not any more.
    #[error("the files of tree {0} are not stored any more")]
    Gone(BlobDigest),
    /// What is stored is no tree. A runner that says so is broken.
    #[error("tree {digest} cannot be read: {source}")]
    Malformed {
        /// The tree.
        digest: BlobDigest,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The disk's fault.
    #[error("tree {digest} cannot be read: {source}")]
    Read {
        /// The tree.
        digest: BlobDigest,
        /// What the system said.
        source: io::Error,
    },
    /// The store's fault.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl Content {
    /// The store over `blobs`.
    #[must_use]
    pub fn new(blobs: Arc<Blobs>, config: ContentConfig) -> Self {
        Self {
            blobs,
            pins: Pins::default(),
            config,
            downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
        }
    }

    /// The store in `dir`, which is made when missing.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn open(dir: &Path, config: ContentConfig) -> Result<Self, BlobError> {
        Ok(Self::new(Arc::new(Blobs::open(dir)?), config))
    }

    /// Reads what is in a tree. Waits for the disk.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn manifest(&self, digest: BlobDigest) -> Result<Manifest, TreeError> {
        manifest(&self.blobs, digest)
    }

    /// A reader of chunks.
    #[must_use]
    pub fn chunks(&self) -> StoredChunks {
        StoredChunks::new(Arc::clone(&self.blobs))
    }
}

/// Reads a manifest from the store.
pub(crate) fn manifest(blobs: &Blobs, digest: BlobDigest) -> Result<Manifest, TreeError> {
    let file = blobs.read(digest)?.ok_or(TreeError::Gone(digest))?;
    let mut bytes = Vec::new();
    let max = rustci_content::limits::MANIFEST_BYTES_MAX as u64 + 1;
    io::Read::read_to_end(&mut io::Read::take(file, max), &mut bytes)
        .map_err(|source| TreeError::Read { digest, source })?;
    Manifest::decode(&bytes).map_err(|source| TreeError::Malformed { digest, source })
}

/// Takes out of a result what no honest runner sends: names that are too long or steer a terminal,
/// digests that are none, more trees than a job can have.
pub(crate) fn keep_sound(result: &mut v1::JobResult) {
    let sound = |name: &str, max: usize| {
        !name.is_empty() && name.len() <= max && !name.chars().any(char::is_control)
    };
    let whole = |tree: Option<&v1::Tree>| tree.is_some_and(|tree| tree.digest.len() == 32);
    result.artifacts.truncate(TREES_MAX);
    result
        .artifacts
        .retain(|artifact| sound(&artifact.name, NAME_BYTES_MAX) && whole(artifact.tree.as_ref()));
    result.caches.truncate(TREES_MAX);
    result
        .caches
        .retain(|cache| sound(&cache.key, CACHE_KEY_BYTES_MAX));
    for cache in &mut result.caches {
        cache.saved = cache.saved.take().filter(|tree| whole(Some(tree)));
    }
}
